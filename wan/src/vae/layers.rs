//! The parts that encoder and decoder share: causal convolution with its history, channel norm,
//! residual block and the attention of the middle.
//!
//! Activations are `[T, H, W, C]`, contiguous: this is channels-last, so that a frame is a row of a
//! batch for 2D convolutions and the same memory is `[1, C, T, H, W]` for 3D ones.

use tch::{Device, Kind, Tensor};

use crate::layout::channels_last;
use crate::weights::{Placement, Weight, Weights};
use crate::{Error, Result};

/// What the causal convolutions of one stream have seen so far: for each its last input frames.
///
/// Entries are replaced, never written to, so that a copy of the list is a copy of the state.
#[derive(Debug, Default)]
pub(crate) struct Caches(Vec<Option<Tensor>>);

impl Caches {
    pub(crate) fn get(&self, slot: usize) -> Option<&Tensor> {
        self.0.get(slot).and_then(Option::as_ref)
    }

    pub(crate) fn put(&mut self, slot: usize, frames: Tensor) {
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, || None);
        }
        self.0[slot] = Some(frames);
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().flatten().map(|t| t.numel() * t.kind().elt_size_in_bytes()).sum()
    }
}

impl Clone for Caches {
    fn clone(&self) -> Self {
        Caches(self.0.iter().map(|slot| slot.as_ref().map(Tensor::shallow_clone)).collect())
    }
}

/// The four sizes of an activation: frames, height, width, channels.
pub(crate) fn sizes(x: &Tensor) -> [i64; 4] {
    let size = x.size();
    [size[0], size[1], size[2], size[3]]
}

/// `[T, H, W, C]` seen as the `[1, C, T, H, W]` that `conv3d` takes.
fn as_volume(x: &Tensor) -> Tensor {
    x.permute([3, 0, 1, 2]).unsqueeze(0)
}

/// Where a network takes its tensors from while it is built, and its next place in [`Caches`].
#[derive(Debug)]
pub(crate) struct Loader<'a> {
    weights: &'a mut Weights,
    place: Placement,
    slots: usize,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(weights: &'a mut Weights, place: Placement) -> Self {
        Loader { weights, place, slots: 0 }
    }

    /// Whether the list `prefix` has an entry `index`.
    pub(crate) fn has(&self, prefix: &str, index: usize) -> bool {
        index < self.weights.count(prefix)
    }

    /// Whether the layer `name` exists.
    pub(crate) fn has_layer(&self, name: &str) -> bool {
        self.weights.shape(&format!("{name}.weight")).is_some()
    }

    pub(crate) fn error(&self, reason: String) -> Error {
        Error::Weights { origin: self.weights.origin().to_owned(), reason }
    }

    fn slot(&mut self) -> usize {
        self.slots += 1;
        self.slots - 1
    }

    fn shape(&self, name: &str) -> Result<Vec<i64>> {
        let shape = self.weights.shape(name);
        shape.map(<[i64]>::to_vec).ok_or_else(|| self.error(format!("the tensor {name} is missing")))
    }

    fn take(&mut self, name: &str, shape: &[i64]) -> Result<Weight> {
        self.weights.take(name, shape, self.place)
    }

    fn take_kernel(&mut self, name: &str, shape: &[i64]) -> Result<Tensor> {
        Ok(channels_last(&*self.take(name, shape)?))
    }
}

/// From this many channels on, libtorch's 3D convolution on the CPU is slower than a 2D one over
/// three frames joined as channels.
const JOINED_CHANNELS: i64 = 256;

/// Convolution over time and space that sees only the present and the two frames before it.
#[derive(Debug)]
pub(crate) struct CausalConv {
    /// `[O, I, 3, k, k]`, or `[O, 3 I, k, k]` with the oldest frame first.
    weight: Tensor,
    bias: Weight,
    slot: usize,
    inputs: i64,
    padding: i64,
}

impl CausalConv {
    /// Frames that one output sees before its own.
    const PAST: i64 = 2;

    /// `weight [O, I, 3, k, k]`: `k` is odd, and zeros surround the picture.
    pub(crate) fn load(loader: &mut Loader, name: &str) -> Result<Self> {
        let key = format!("{name}.weight");
        let &[o, i, 3, k, _] = loader.shape(&key)?.as_slice() else {
            return Err(loader.error(format!("{key} is not a causal kernel over 3 frames")));
        };
        let kernel = loader.take(&key, &[o, i, 3, k, k])?;
        let joined = i >= JOINED_CHANNELS && kernel.device() == Device::Cpu;
        Ok(CausalConv {
            weight: if joined {
                channels_last(&kernel.transpose(1, 2).reshape([o, 3 * i, k, k]))
            } else {
                channels_last(&kernel)
            },
            bias: loader.take(&format!("{name}.bias"), &[o])?,
            slot: loader.slot(),
            inputs: i,
            padding: k / 2,
        })
    }

    pub(crate) fn slot(&self) -> usize {
        self.slot
    }

    /// Room for `frames`-sized input behind its history: fill [`fresh`] of it, then call
    /// [`CausalConv::apply`]. This saves the copy that joining the two afterwards would cost.
    ///
    /// The very first frame has no history at all; every other chunk has two frames of it, zeros
    /// where nothing was.
    pub(crate) fn window(&self, frames: [i64; 4], like: &Tensor, caches: &Caches) -> Tensor {
        let [t, h, w, c] = frames;
        let options = (like.kind(), like.device());
        let history = caches.get(self.slot);
        if history.is_none() && t == 1 {
            return Tensor::empty([1, h, w, c], options);
        }
        let window = Tensor::empty([Self::PAST + t, h, w, c], options);
        let known = history.map_or(0, |frames| frames.size()[0]);
        if known < Self::PAST {
            let _ = window.narrow(0, 0, Self::PAST - known).zero_();
        }
        if let Some(frames) = history {
            window.narrow(0, Self::PAST - known, known).copy_(frames);
        }
        window
    }

    /// Convolves a filled window and keeps its last two frames for the next chunk.
    pub(crate) fn apply(&self, window: &Tensor, caches: &mut Caches) -> Tensor {
        let total = window.size()[0];
        let kept = total.min(Self::PAST);
        caches.put(self.slot, window.narrow(0, total - kept, kept).copy());
        if total == 1 {
            // Two of the three frames of the kernel would meet only zeros.
            let present = match self.weight.dim() {
                5 => self.weight.select(2, Self::PAST),
                _ => self.weight.narrow(1, Self::PAST * self.inputs, self.inputs),
            };
            return conv_frames(window, &present, &self.bias, 1, self.padding);
        }
        if self.weight.dim() == 4 {
            let t = total - Self::PAST;
            let frames: Vec<Tensor> = (0..=Self::PAST).map(|at| window.narrow(0, at, t)).collect();
            let joined = Tensor::cat(&frames, -1);
            return conv_frames(&joined, &self.weight, &self.bias, 1, self.padding);
        }
        let p = self.padding;
        let y = as_volume(window).conv3d(&self.weight, Some(&*self.bias), [1, 1, 1], [0, p, p], [1, 1, 1], 1);
        y.squeeze_dim(0).permute([1, 2, 3, 0]).contiguous()
    }

    /// The convolution of `x [T, H, W, I]`: `[T, H, W, O]`.
    pub(crate) fn forward(&self, x: &Tensor, caches: &mut Caches) -> Tensor {
        let window = self.window(sizes(x), x, caches);
        fresh(&window, x.size()[0]).copy_(x);
        self.apply(&window, caches)
    }
}

/// A 2D convolution of each frame of `x [T, H, W, I]`.
fn conv_frames(x: &Tensor, weight: &Tensor, bias: &Tensor, stride: i64, padding: i64) -> Tensor {
    let (s, p) = ([stride, stride], [padding, padding]);
    x.permute([0, 3, 1, 2]).conv2d(weight, Some(bias), s, p, [1, 1], 1).permute([0, 2, 3, 1]).contiguous()
}

/// The last `t` frames of a window: those that its caller fills.
pub(crate) fn fresh(window: &Tensor, t: i64) -> Tensor {
    window.narrow(0, window.size()[0] - t, t)
}

/// A time convolution of stride 2 over three frames, the first of which is the last of the chunk
/// before (`downsample3d` of the encoder).
#[derive(Debug)]
pub(crate) struct StridedTimeConv {
    weight: Tensor,
    bias: Weight,
    slot: usize,
}

impl StridedTimeConv {
    pub(crate) fn load(loader: &mut Loader, name: &str) -> Result<Self> {
        let key = format!("{name}.weight");
        let &[o, i, ..] = loader.shape(&key)?.as_slice() else {
            return Err(loader.error(format!("{key} is not a convolution over time")));
        };
        Ok(StridedTimeConv {
            weight: loader.take_kernel(&key, &[o, i, 3, 1, 1])?,
            bias: loader.take(&format!("{name}.bias"), &[o])?,
            slot: loader.slot(),
        })
    }

    /// `x [T, H, W, C]` to `[T / 2, H, W, C]`; the first chunk of a stream passes unchanged.
    pub(crate) fn forward(&self, x: Tensor, caches: &mut Caches) -> Tensor {
        let last = x.narrow(0, x.size()[0] - 1, 1).copy();
        let y = match caches.get(self.slot) {
            None => x,
            Some(before) => as_volume(&Tensor::cat(&[before, &x], 0))
                .conv3d(&self.weight, Some(&*self.bias), [2, 1, 1], [0, 0, 0], [1, 1, 1], 1)
                .squeeze_dim(0)
                .permute([1, 2, 3, 0])
                .contiguous(),
        };
        caches.put(self.slot, last);
        y
    }
}

/// A convolution of each frame by itself.
#[derive(Debug)]
pub(crate) struct FrameConv {
    weight: Tensor,
    bias: Weight,
}

impl FrameConv {
    /// `weight [O, I, k, k]`.
    pub(crate) fn load(loader: &mut Loader, name: &str) -> Result<Self> {
        let key = format!("{name}.weight");
        let &[o, i, k, _] = loader.shape(&key)?.as_slice() else {
            return Err(loader.error(format!("{key} is not a convolution of pictures")));
        };
        Ok(FrameConv {
            weight: loader.take_kernel(&key, &[o, i, k, k])?,
            bias: loader.take(&format!("{name}.bias"), &[o])?,
        })
    }

    /// `x [T, H, W, I]` to `[T, H', W', O]`.
    pub(crate) fn forward(&self, x: &Tensor, stride: i64, padding: i64) -> Tensor {
        conv_frames(x, &self.weight, &self.bias, stride, padding)
    }
}

/// Nearest-neighbour doubling in space followed by a 3x3 convolution, as one transposed
/// convolution.
///
/// Where a kernel meets the same pixel twice its weights can be added beforehand. That leaves a
/// 4x4 kernel of stride 2, with 16 products for each four pixels of output instead of 36.
#[derive(Debug)]
pub(crate) struct UpsampleConv {
    /// `[I, O, 4, 4]`.
    weight: Tensor,
    bias: Weight,
}

impl UpsampleConv {
    /// `weight [O, I, 3, 3]`.
    pub(crate) fn load(loader: &mut Loader, name: &str) -> Result<Self> {
        let key = format!("{name}.weight");
        let &[o, i, 3, 3] = loader.shape(&key)?.as_slice() else {
            return Err(loader.error(format!("{key} is not a 3x3 convolution")));
        };
        let kernel = loader.take(&key, &[o, i, 3, 3])?;
        // Which of the three weights each of the four sums: out[2i] sees x[i-1], x[i], x[i] and
        // out[2i+1] sees x[i], x[i], x[i+1].
        let sums = [[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]].concat();
        let sums = Tensor::from_slice(&sums).reshape([4, 3]).to_kind(Kind::Float).to_device(kernel.device());
        let summed = sums.matmul(&kernel.to_kind(Kind::Float)).matmul(&sums.transpose(0, 1));
        Ok(UpsampleConv {
            weight: channels_last(&summed.transpose(0, 1).to_kind(kernel.kind())),
            bias: loader.take(&format!("{name}.bias"), &[o])?,
        })
    }

    /// `x [T, H, W, I]` to `[T, 2H, 2W, O]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        x.permute([0, 3, 1, 2])
            .conv_transpose2d(&self.weight, Some(&*self.bias), [2, 2], [1, 1], [0, 0], 1, [1, 1])
            .permute([0, 2, 3, 1])
            .contiguous()
    }
}

/// A 1x1 or 1x1x1 convolution, which is a linear map of each pixel's channels.
#[derive(Debug)]
pub(crate) struct PixelLinear {
    weight: Weight,
    bias: Weight,
}

impl PixelLinear {
    /// `weight [O, I, 1, 1]` or `[O, I, 1, 1, 1]`.
    pub(crate) fn load(loader: &mut Loader, name: &str) -> Result<Self> {
        let key = format!("{name}.weight");
        let shape = loader.shape(&key)?;
        let &[o, i, 1, 1] = &shape[..shape.len().min(4)] else {
            return Err(loader.error(format!("{key} is not a 1x1 convolution")));
        };
        Ok(PixelLinear {
            weight: loader.take(&key, &shape)?.view(&[o, i]),
            bias: loader.take(&format!("{name}.bias"), &[o])?,
        })
    }

    pub(crate) fn inputs(&self) -> i64 {
        self.weight.size()[1]
    }

    pub(crate) fn outputs(&self) -> i64 {
        self.weight.size()[0]
    }

    /// `x [.., I]` to `[.., O]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight, Some(&*self.bias))
    }
}

/// `x / max(|x|, 1e-12) * sqrt(C) * gamma` over the channels of each pixel, which is the
/// root-mean-square norm of those channels.
#[derive(Debug)]
pub(crate) struct ChannelNorm {
    gamma: Weight,
    /// `sqrt(C) * gamma`.
    scaled_gamma: Tensor,
}

impl ChannelNorm {
    /// `gamma [C, 1, 1, 1]` or `[C, 1, 1]`.
    fn load(loader: &mut Loader, name: &str, channels: i64) -> Result<Self> {
        let key = format!("{name}.gamma");
        let mut shape = vec![1; loader.shape(&key)?.len()];
        shape[0] = channels;
        let gamma = loader.take(&key, &shape)?.view(&[channels]);
        let scaled = gamma.to_kind(Kind::Float) * (channels as f64).sqrt();
        Ok(ChannelNorm { scaled_gamma: scaled.to_kind(gamma.kind()), gamma })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let channels = self.gamma.size()[0];
        if x.device() != Device::Cpu {
            // The floor of the reference's norm, as the mean square that it means.
            let eps = 1e-24 / channels as f64;
            return x.rms_norm([channels], Some(&*self.gamma), eps);
        }
        // libtorch has no fused kernel here, and its composition of one is several times slower.
        let floor = if x.kind() == Kind::Half { 1e-7 } else { 1e-12 };
        let norm = x.norm_scalaropt_dim(2.0, [-1i64].as_slice(), true).clamp_min_(floor);
        (x / norm).g_mul_(&self.scaled_gamma)
    }
}

/// Norm, SiLU and causal convolution: half of a residual block, and the head of each network.
#[derive(Debug)]
pub(crate) struct NormConv {
    norm: ChannelNorm,
    conv: CausalConv,
}

impl NormConv {
    pub(crate) fn load(loader: &mut Loader, norm: &str, conv: &str) -> Result<Self> {
        let conv = CausalConv::load(loader, conv)?;
        Ok(NormConv { norm: ChannelNorm::load(loader, norm, conv.inputs)?, conv })
    }

    pub(crate) fn forward(&self, x: &Tensor, caches: &mut Caches) -> Result<Tensor> {
        let window = self.conv.window(sizes(x), x, caches);
        let input = fresh(&window, x.size()[0]);
        let _ = self.norm.forward(x).f_silu_out(&input)?;
        Ok(self.conv.apply(&window, caches))
    }
}

/// Two [`NormConv`] and a shortcut around them.
#[derive(Debug)]
pub(crate) struct ResBlock {
    first: NormConv,
    second: NormConv,
    shortcut: Option<PixelLinear>,
}

impl ResBlock {
    pub(crate) fn load(loader: &mut Loader, name: &str) -> Result<Self> {
        let part = |key: &str| format!("{name}.{key}");
        Ok(ResBlock {
            first: NormConv::load(loader, &part("residual.0"), &part("residual.2"))?,
            second: NormConv::load(loader, &part("residual.3"), &part("residual.6"))?,
            shortcut: if loader.has_layer(&part("shortcut")) {
                Some(PixelLinear::load(loader, &part("shortcut"))?)
            } else {
                None
            },
        })
    }

    pub(crate) fn forward(&self, x: Tensor, caches: &mut Caches) -> Result<Tensor> {
        let y = self.first.forward(&x, caches)?;
        let mut y = self.second.forward(&y, caches)?;
        let skip = match &self.shortcut {
            Some(conv) => conv.forward(&x),
            None => x,
        };
        Ok(y.g_add_(&skip))
    }
}

/// Attention of one head over the pixels of each frame.
#[derive(Debug)]
pub(crate) struct FrameAttention {
    norm: ChannelNorm,
    qkv: PixelLinear,
    projection: PixelLinear,
}

impl FrameAttention {
    fn load(loader: &mut Loader, name: &str) -> Result<Self> {
        let qkv = PixelLinear::load(loader, &format!("{name}.to_qkv"))?;
        if qkv.outputs() != 3 * qkv.inputs() {
            return Err(loader.error(format!("{name}.to_qkv.weight is not [3C, C]")));
        }
        Ok(FrameAttention {
            norm: ChannelNorm::load(loader, &format!("{name}.norm"), qkv.inputs())?,
            projection: PixelLinear::load(loader, &format!("{name}.proj"))?,
            qkv,
        })
    }

    fn forward(&self, x: Tensor) -> Tensor {
        let [t, h, w, c] = sizes(&x);
        let qkv = self.qkv.forward(&self.norm.forward(&x)).reshape([t, 1, h * w, 3 * c]).chunk(3, -1);
        let y =
            Tensor::scaled_dot_product_attention::<Tensor>(&qkv[0], &qkv[1], &qkv[2], None, 0.0, false, None, false);
        x + self.projection.forward(&y.reshape([t, h, w, c]))
    }
}

/// Residual block, attention, residual block.
#[derive(Debug)]
pub(crate) struct Middle {
    before: ResBlock,
    attention: FrameAttention,
    after: ResBlock,
}

impl Middle {
    pub(crate) fn load(loader: &mut Loader, name: &str) -> Result<Self> {
        Ok(Middle {
            before: ResBlock::load(loader, &format!("{name}.0"))?,
            attention: FrameAttention::load(loader, &format!("{name}.1"))?,
            after: ResBlock::load(loader, &format!("{name}.2"))?,
        })
    }

    pub(crate) fn forward(&self, x: Tensor, caches: &mut Caches) -> Result<Tensor> {
        let x = self.before.forward(x, caches)?;
        let x = self.attention.forward(x);
        self.after.forward(x, caches)
    }
}

/// `x [1, F, C, H, W]`, of any precision, as an activation.
pub(crate) fn activation(x: &Tensor, kind: Kind) -> Tensor {
    x.to_kind(kind).squeeze_dim(0).permute([0, 2, 3, 1]).contiguous()
}

/// An activation as `[1, F, C, H, W]`.
pub(crate) fn frames(x: &Tensor) -> Tensor {
    x.permute([0, 3, 1, 2]).unsqueeze(0)
}
