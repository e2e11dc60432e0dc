//! Pixels to latents: one frame, then four by four.

use tch::Tensor;

use super::layers::{Caches, CausalConv, FrameConv, Loader, Middle, NormConv, ResBlock, StridedTimeConv};
use crate::Result;

/// One entry of `encoder.downsamples`.
#[derive(Debug)]
enum Block {
    Res(ResBlock),
    Down { conv: FrameConv, time: Option<StridedTimeConv> },
}

/// The encoder without the last 1x1x1 convolution.
#[derive(Debug)]
pub(crate) struct Encoder {
    input: CausalConv,
    blocks: Vec<Block>,
    middle: Middle,
    head: NormConv,
}

impl Encoder {
    pub(crate) fn load(loader: &mut Loader) -> Result<Self> {
        let input = CausalConv::load(loader, "encoder.conv1")?;
        let mut blocks = Vec::new();
        while loader.has("encoder.downsamples.", blocks.len()) {
            let name = format!("encoder.downsamples.{}", blocks.len());
            blocks.push(if loader.has_layer(&format!("{name}.resample.1")) {
                Block::Down {
                    conv: FrameConv::load(loader, &format!("{name}.resample.1"))?,
                    time: if loader.has_layer(&format!("{name}.time_conv")) {
                        let time = format!("{name}.time_conv");
                        Some(StridedTimeConv::load(loader, &time)?)
                    } else {
                        None
                    },
                }
            } else {
                Block::Res(ResBlock::load(loader, &name)?)
            });
        }
        Ok(Encoder {
            input,
            blocks,
            middle: Middle::load(loader, "encoder.middle")?,
            head: NormConv::load(loader, "encoder.head.0", "encoder.head.2")?,
        })
    }

    /// How many pixels to a side of a latent, and how many frames to a latent after the first.
    pub(crate) fn strides(&self) -> (i64, i64) {
        let (mut space, mut time) = (1, 1);
        for block in &self.blocks {
            if let Block::Down { time: conv, .. } = block {
                space *= 2;
                time *= if conv.is_some() { 2 } else { 1 };
            }
        }
        (space, time)
    }

    /// One chunk `[T, H, W, 3]` to `[1, h, w, 2z]`: `T` is 1 at the start of a stream, then the
    /// stride in time.
    pub(crate) fn forward(&self, x: &Tensor, caches: &mut Caches) -> Result<Tensor> {
        let mut x = self.input.forward(x, caches);
        for block in &self.blocks {
            x = match block {
                Block::Res(block) => block.forward(x, caches)?,
                Block::Down { conv, time } => {
                    let padded = x.constant_pad_nd([0, 0, 0, 1, 0, 1]);
                    let y = conv.forward(&padded, 2, 0);
                    match time {
                        Some(time) => time.forward(y, caches),
                        None => y,
                    }
                }
            };
        }
        let x = self.middle.forward(x, caches)?;
        self.head.forward(&x, caches)
    }
}
