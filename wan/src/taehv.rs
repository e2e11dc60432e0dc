//! TAEHV, the tiny autoencoder for Wan 2.1 latents (`taew2_1`, github.com/madebyollin/taehv).
//!
//! Far cheaper than the full autoencoder and less sharp. Only 2D convolutions: a frame meets the
//! past where a memory block joins it with its own previous input. Latents are as the transformer
//! has them; pixels are in [0, 1]. What a stream remembers is in a state that its caller owns.
//!
//! The order of the layers follows from the names and shapes of the tensors, so that checkpoints of
//! other widths load as well.

use tch::{Device, Kind, Tensor};

use crate::layout::channels_last;
use crate::weights::{Placement, Weight, Weights};
use crate::{Error, Result};

/// A convolution of kernel 3 (padding 1) or 1 (none).
#[derive(Debug)]
struct Conv {
    weight: Tensor,
    bias: Option<Weight>,
    stride: i64,
}

impl Conv {
    fn load(weights: &mut Weights, name: &str, stride: i64, place: Placement) -> Result<Self> {
        let key = format!("{name}.weight");
        let [o, i, k, _] = weights.require_shape(&key)?;
        Ok(Conv {
            weight: channels_last(&*weights.take(&key, &[o, i, k, k], place)?),
            bias: weights.take_optional(&format!("{name}.bias"), &[o], place)?,
            stride,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let padding = self.weight.size()[2] / 2;
        let (s, p) = (self.stride, padding);
        x.conv2d(&self.weight, self.bias.as_deref(), [s, s], [p, p], [1, 1], 1)
    }
}

/// One layer; activations are `[T, C, H, W]`.
#[derive(Debug)]
enum Layer {
    /// `3 tanh(x / 3)`: keeps latents in range.
    SoftClamp,
    Relu,
    Conv(Conv),
    /// Nearest neighbour, twice in both directions.
    Upsample,
    /// A 1x1 convolution over so many frames at a time, stacked as channels.
    TimePool(Conv, i64),
    /// A 1x1 convolution to so many frames' worth of channels.
    TimeGrow(Conv, i64),
    /// Three convolutions of the frame joined with the block's previous input, around a shortcut.
    Memory {
        convs: [Conv; 3],
        skip: Option<Conv>,
        slot: usize,
    },
}

/// Reads the list `encoder.*` or `decoder.*`. Layers without tensors leave gaps in the numbers.
fn load_layers(weights: &mut Weights, half: &str, place: Placement) -> Result<Vec<Layer>> {
    let count = weights.count(&format!("{half}."));
    let mut layers: Vec<Layer> = Vec::new();
    let mut slots = 0;
    for index in 0..count {
        let name = format!("{half}.{index}");
        let has = |weights: &Weights, key: &str| weights.shape(&format!("{name}.{key}")).is_some();
        let layer = if has(weights, "conv.0.weight") {
            let mut conv = |i: usize| Conv::load(weights, &format!("{name}.conv.{i}"), 1, place);
            let convs = [conv(0)?, conv(2)?, conv(4)?];
            slots += 1;
            Layer::Memory {
                convs,
                skip: if has(weights, "skip.weight") {
                    Some(Conv::load(weights, &format!("{name}.skip"), 1, place)?)
                } else {
                    None
                },
                slot: slots - 1,
            }
        } else if has(weights, "conv.weight") {
            let [o, i, ..] = weights.require_shape::<4>(&format!("{name}.conv.weight"))?;
            let conv = Conv::load(weights, &format!("{name}.conv"), 1, place)?;
            if half == "encoder" {
                Layer::TimePool(conv, i / o)
            } else {
                // What grows in time has just grown in space.
                layers.pop();
                layers.push(Layer::Upsample);
                Layer::TimeGrow(conv, o / i)
            }
        } else if has(weights, "weight") {
            // What has been pooled in time is then halved in space.
            let pooled = matches!(layers.last(), Some(Layer::TimePool(..)));
            let stride = if pooled { 2 } else { 1 };
            Layer::Conv(Conv::load(weights, &name, stride, place)?)
        } else if index == 0 {
            Layer::SoftClamp
        } else {
            Layer::Relu
        };
        layers.push(layer);
    }
    Ok(layers)
}

/// Runs `x [T, C, H, W]` through the layers. `memories` holds each memory block's last input.
fn run(layers: &[Layer], x: Tensor, memories: &mut Vec<Option<Tensor>>) -> Tensor {
    layers.iter().fold(x, |mut x, layer| match layer {
        Layer::SoftClamp => ((x / 3.0).tanh()) * 3.0,
        Layer::Relu => x.relu_(),
        Layer::Conv(conv) => conv.forward(&x),
        Layer::Upsample => {
            let size = x.size();
            x.upsample_nearest2d([2 * size[2], 2 * size[3]], None, None)
        }
        Layer::TimePool(conv, frames) => {
            let size = x.size();
            conv.forward(&x.reshape([size[0] / frames, size[1] * frames, size[2], size[3]]))
        }
        Layer::TimeGrow(conv, frames) => {
            let y = conv.forward(&x);
            let size = y.size();
            y.reshape([size[0] * frames, size[1] / frames, size[2], size[3]])
        }
        Layer::Memory { convs, skip, slot } => {
            if memories.len() <= *slot {
                memories.resize_with(slot + 1, || None);
            }
            let frames = x.size()[0];
            let before = match &memories[*slot] {
                Some(last) => last.shallow_clone(),
                None => x.narrow(0, 0, 1).zeros_like(),
            };
            memories[*slot] = Some(x.narrow(0, frames - 1, 1).copy());
            let past = Tensor::cat(&[before, x.narrow(0, 0, frames - 1)], 0);
            let [first, second, third] = convs;
            let y = first.forward(&Tensor::cat(&[&x, &past], 1)).relu_();
            let y = second.forward(&y).relu_();
            let mut y = third.forward(&y);
            let shortcut = match skip {
                Some(conv) => conv.forward(&x),
                None => x,
            };
            y.g_add_(&shortcut).relu_()
        }
    })
}

fn copies(tensors: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
    let share = |t: &Option<Tensor>| t.as_ref().map(Tensor::shallow_clone);
    tensors.iter().map(share).collect()
}

fn bytes<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> usize {
    tensors.map(|t| t.numel() * t.kind().elt_size_in_bytes()).sum()
}

/// What one encoded stream has seen so far. Cloning it forks the stream.
#[derive(Debug, Default)]
pub struct TaehvEncoderState {
    memories: Vec<Option<Tensor>>,
    /// Frames `[t, 3, H, W]` that do not make a latent yet.
    waiting: Option<Tensor>,
}

impl TaehvEncoderState {
    /// The start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes held between calls.
    pub fn bytes(&self) -> usize {
        bytes(self.memories.iter().flatten().chain(&self.waiting))
    }
}

impl Clone for TaehvEncoderState {
    fn clone(&self) -> Self {
        TaehvEncoderState {
            memories: copies(&self.memories),
            waiting: self.waiting.as_ref().map(Tensor::shallow_clone),
        }
    }
}

/// What one decoded stream has seen so far. Cloning it forks the stream.
#[derive(Debug, Default)]
pub struct TaehvDecoderState {
    memories: Vec<Option<Tensor>>,
    started: bool,
}

impl TaehvDecoderState {
    /// The start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes held between calls.
    pub fn bytes(&self) -> usize {
        bytes(self.memories.iter().flatten())
    }
}

impl Clone for TaehvDecoderState {
    fn clone(&self) -> Self {
        TaehvDecoderState { memories: copies(&self.memories), started: self.started }
    }
}

/// Encoder and decoder with their weights. Neither changes after loading.
#[derive(Debug)]
pub struct Taehv {
    encoder: Vec<Layer>,
    decoder: Vec<Layer>,
    latent_channels: i64,
    place: Placement,
}

impl Taehv {
    /// Builds both networks from weights opened as `Layout::Taehv`.
    pub fn load(mut weights: Weights, place: Placement) -> Result<Self> {
        let encoder = load_layers(&mut weights, "encoder", place)?;
        let decoder = load_layers(&mut weights, "decoder", place)?;
        let latent_channels = match encoder.last() {
            Some(Layer::Conv(conv)) => conv.weight.size()[0],
            _ => {
                return Err(Error::Weights {
                    origin: weights.origin().to_owned(),
                    reason: "the encoder does not end in a convolution".to_owned(),
                });
            }
        };
        weights.finish()?;
        Ok(Taehv { encoder, decoder, latent_channels, place })
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.place.device
    }

    /// The precision of the weights, in which the networks compute.
    pub fn kind(&self) -> Kind {
        self.place.kind
    }

    /// Pixels to a side of a latent, and frames to a latent: (8, 4) for `taew2_1`.
    pub fn strides(&self) -> (i64, i64) {
        self.encoder.iter().fold((1, 1), |(space, time), layer| match layer {
            Layer::TimePool(_, frames) => (space, time * frames),
            Layer::Conv(conv) => (space * conv.stride, time),
            _ => (space, time),
        })
    }

    /// Encodes the next frames of a stream.
    ///
    /// `pixels [1, T, 3, H, W]` in [0, 1], H and W multiples of 8. Every four frames, the first
    /// four too, make one latent; frames over wait in the state. Returns `[1, F, 16, H/8, W/8]` in
    /// this model's precision, where F may be 0.
    pub fn encode(&self, pixels: &Tensor, state: &mut TaehvEncoderState) -> Result<Tensor> {
        let [_, _, _, h, w] = video_sizes(pixels, 3)?;
        let (space, time) = self.strides();
        if h % space != 0 || w % space != 0 {
            return Err(Error::parameter(format!(
                "frames of {w}x{h} cannot be encoded: both sides must be multiples of {space}"
            )));
        }
        tch::no_grad(|| {
            let mut x = self.own(pixels);
            if let Some(waiting) = state.waiting.take() {
                x = Tensor::cat(&[waiting, x], 0);
            }
            let total = x.size()[0];
            let whole = total - total % time;
            if whole < total {
                state.waiting = Some(x.narrow(0, whole, total - whole).copy());
            }
            if whole == 0 {
                let size = [1, 0, self.latent_channels, h / space, w / space];
                return Ok(Tensor::empty(size, (self.place.kind, self.place.device)));
            }
            let y = run(&self.encoder, x.narrow(0, 0, whole), &mut state.memories);
            Ok(y.unsqueeze(0).contiguous())
        })
    }

    /// Encodes a whole video `[1, T, 3, H, W]`; its last frame is repeated to a multiple of four.
    pub fn encode_all(&self, pixels: &Tensor) -> Result<Tensor> {
        let [_, total, ..] = video_sizes(pixels, 3)?;
        let (_, time) = self.strides();
        let missing = (time - total % time) % time;
        let tail = pixels.narrow(1, total - 1, 1).expand([-1, missing, -1, -1, -1], false);
        let padded = Tensor::cat(&[pixels, &tail], 1);
        self.encode(&padded, &mut TaehvEncoderState::new())
    }

    /// Decodes the next latents of a stream.
    ///
    /// `latents [1, F, 16, h, w]`, as the transformer has them. Every latent gives four frames, of
    /// which the first three of a stream are dropped. Returns `[1, T, 3, 8h, 8w]` in [0, 1] and in
    /// this model's precision.
    pub fn decode(&self, latents: &Tensor, state: &mut TaehvDecoderState) -> Result<Tensor> {
        video_sizes(latents, self.latent_channels)?;
        tch::no_grad(|| {
            let y = run(&self.decoder, self.own(latents), &mut state.memories).clamp_(0.0, 1.0);
            let dropped = if state.started { 0 } else { self.strides().1 - 1 };
            state.started = true;
            let frames = y.narrow(0, dropped, y.size()[0] - dropped);
            Ok(frames.unsqueeze(0).contiguous())
        })
    }

    /// `[1, T, C, H, W]` as `[T, C, H, W]` in this model's place; always a copy, since layers may
    /// write to it.
    fn own(&self, x: &Tensor) -> Tensor {
        let x = x.squeeze_dim(0);
        let own = Tensor::empty(x.size(), (self.place.kind, self.place.device));
        own.shallow_clone().copy_(&x);
        own
    }
}

/// The five sizes of a video tensor, checked to hold one video of so many channels.
fn video_sizes(x: &Tensor, channels: i64) -> Result<[i64; 5]> {
    let size = x.size();
    match <[i64; 5]>::try_from(size.as_slice()) {
        Ok(sizes) if sizes[0] == 1 && sizes[2] == channels && sizes[1] > 0 => Ok(sizes),
        _ => Err(Error::parameter(format!(
            "a tensor of shape {size:?} is not one video [1, frames, {channels}, height, width]"
        ))),
    }
}
