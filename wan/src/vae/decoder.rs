//! Latents to pixels, one latent frame at a time.

use tch::Tensor;

use super::TimeHistory;
use super::layers::{Caches, CausalConv, Loader, Middle, NormConv, ResBlock, UpsampleConv, fresh, sizes};
use crate::Result;

/// One entry of `decoder.upsamples`.
#[derive(Debug)]
enum Block {
    Res(ResBlock),
    Up { time: Option<CausalConv>, conv: UpsampleConv },
}

/// The decoder without the first 1x1x1 convolution.
#[derive(Debug)]
pub(crate) struct Decoder {
    input: CausalConv,
    middle: Middle,
    blocks: Vec<Block>,
    head: NormConv,
}

impl Decoder {
    pub(crate) fn load(loader: &mut Loader) -> Result<Self> {
        let input = CausalConv::load(loader, "decoder.conv1")?;
        let middle = Middle::load(loader, "decoder.middle")?;
        let mut blocks = Vec::new();
        while loader.has("decoder.upsamples.", blocks.len()) {
            let name = format!("decoder.upsamples.{}", blocks.len());
            blocks.push(if loader.has_layer(&format!("{name}.resample.1")) {
                Block::Up {
                    time: if loader.has_layer(&format!("{name}.time_conv")) {
                        let time = format!("{name}.time_conv");
                        Some(CausalConv::load(loader, &time)?)
                    } else {
                        None
                    },
                    conv: UpsampleConv::load(loader, &format!("{name}.resample.1"))?,
                }
            } else {
                Block::Res(ResBlock::load(loader, &name)?)
            });
        }
        Ok(Decoder { input, middle, blocks, head: NormConv::load(loader, "decoder.head.0", "decoder.head.2")? })
    }

    /// One latent frame `[1, h, w, z]` to `[T, H, W, 3]`: one frame for the first of a stream,
    /// then as many as the time upsamplings make of one.
    pub(crate) fn forward(&self, z: &Tensor, first: bool, history: TimeHistory, caches: &mut Caches) -> Result<Tensor> {
        let x = self.input.forward(z, caches);
        let mut x = self.middle.forward(x, caches)?;
        for block in &self.blocks {
            x = match block {
                Block::Res(block) => block.forward(x, caches)?,
                Block::Up { time, conv } => {
                    if let Some(time) = time
                        && !first
                    {
                        x = double_in_time(time, &x, history, caches);
                    }
                    conv.forward(&x)
                }
            };
        }
        self.head.forward(&x, caches)
    }
}

/// Two frames of each: the time convolution's first half of channels, then its second half.
fn double_in_time(conv: &CausalConv, x: &Tensor, history: TimeHistory, caches: &mut Caches) -> Tensor {
    let [t, h, w, c] = sizes(x);
    let before = caches.get(conv.slot()).map(|seen| {
        let newest = seen.size()[0] - 1;
        seen.narrow(0, newest, 1)
    });
    let window = conv.window([t, h, w, c], x, caches);
    fresh(&window, t).copy_(x);
    let y = conv.apply(&window, caches);
    if let (TimeHistory::Krea, 1, Some(before)) = (history, t, before) {
        let repeated = x.where_self(&before.ne(0.0), &x.zeros_like());
        caches.put(conv.slot(), Tensor::cat(&[&repeated, x], 0));
    }
    y.reshape([t, h, w, 2, c]).permute([0, 3, 1, 2, 4]).reshape([2 * t, h, w, c])
}
