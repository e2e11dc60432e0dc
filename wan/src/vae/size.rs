//! The size of the autoencoder: its weights, and what a stream remembers.

use crate::Result;
use crate::weights::Weights;

/// Widths and depth; everything else follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VaeSize {
    /// Channels of the outermost and of each inner stage.
    pub widths: [u64; 4],
    /// Channels of a latent.
    pub latent: u64,
    /// Residual blocks in a stage of the encoder; the decoder has one more.
    pub blocks: u64,
}

impl VaeSize {
    /// The published autoencoder of Wan 2.1.
    pub const WAN_2_1: VaeSize = VaeSize { widths: [96, 192, 384, 384], latent: 16, blocks: 2 };

    /// By the shapes of weights opened as `Layout::Vae`.
    pub fn read(weights: &Weights) -> Result<Self> {
        let mut widths = [0; 4];
        for (stage, width) in widths.iter_mut().enumerate() {
            // Two residual blocks and what makes the picture smaller: three places a stage.
            let key = format!("encoder.downsamples.{}.residual.2.weight", 3 * stage);
            let [outputs, ..]: [i64; 5] = weights.require_shape(&key)?;
            *width = outputs as u64;
        }
        let [latent, ..]: [i64; 5] = weights.require_shape("conv2.weight")?;
        Ok(VaeSize { widths, latent: latent as u64, blocks: VaeSize::WAN_2_1.blocks })
    }

    /// Channels of the outermost stage.
    pub fn dim(&self) -> u64 {
        self.widths[0]
    }

    /// Input channels of each residual block and its output channels, encoder then decoder, by stage.
    fn encoder_blocks(&self, stage: usize) -> impl Iterator<Item = (u64, u64)> {
        let width = self.widths[stage];
        let before = self.widths[stage.saturating_sub(1)];
        (0..self.blocks).map(move |i| (if i == 0 { before } else { width }, width))
    }

    /// From the latents outwards: stage 0 is the innermost.
    fn decoder_blocks(&self, stage: usize) -> impl Iterator<Item = (u64, u64)> {
        let width = self.widths[3 - stage];
        // Each upsampling halves the channels of the stage before.
        let before = if stage == 0 { width } else { self.widths[4 - stage] / 2 };
        (0..=self.blocks).map(move |i| (if i == 0 { before } else { width }, width))
    }

    /// Numbers in all weights.
    pub fn parameters(&self) -> u64 {
        let conv = |inputs: u64, outputs: u64, kernel: u64| inputs * outputs * kernel + outputs;
        let block =
            |(i, o): (u64, u64)| i + conv(i, o, 27) + o + conv(o, o, 27) + if i == o { 0 } else { conv(i, o, 1) };
        let inner = self.widths[3];
        let middle = 2 * block((inner, inner)) + inner + conv(inner, 3 * inner, 1) + conv(inner, inner, 1);
        let stages = 0..4;
        let mut sum = conv(3, self.dim(), 27) + middle + inner + conv(inner, 2 * self.latent, 27);
        sum += stages.clone().flat_map(|s| self.encoder_blocks(s)).map(block).sum::<u64>();
        sum += conv(2 * self.latent, 2 * self.latent, 1) + conv(self.latent, self.latent, 1);
        sum += conv(self.latent, inner, 27) + middle + self.dim() + conv(self.dim(), 3, 27);
        sum += stages.flat_map(|s| self.decoder_blocks(s)).map(block).sum::<u64>();
        for stage in 0..3 {
            // Down: 3x3 in every stage, and over time in the last two; up: the mirror image.
            let (down, up) = (self.widths[stage], self.widths[3 - stage]);
            sum += conv(down, down, 9) + conv(up, up / 2, 9);
            sum += if stage > 0 { conv(down, down, 3) } else { 0 } + if stage < 2 { conv(up, 2 * up, 3) } else { 0 };
        }
        sum
    }

    /// Numbers that a decoded stream of latents `rows` x `columns` remembers: two frames before
    /// every convolution over time.
    pub fn decoder_cache(&self, rows: u64, columns: u64) -> u64 {
        let inner = self.widths[3];
        let mut channels = self.latent + 4 * inner;
        for stage in 0..4 {
            let scale = 4u64.pow(stage as u32);
            channels += scale * self.decoder_blocks(stage).map(|(i, o)| i + o).sum::<u64>();
            if stage < 2 {
                channels += scale * self.widths[3 - stage];
            }
        }
        channels += 64 * self.dim();
        2 * channels * rows * columns
    }

    /// Numbers that an encoded stream remembers: likewise, and one frame before each halving of time.
    pub fn encoder_cache(&self, rows: u64, columns: u64) -> u64 {
        let inner = self.widths[3];
        let mut twice = 64 * 3 + 4 * inner + inner;
        let mut once = 0;
        for stage in 0..4 {
            let scale = 4u64.pow(3 - stage as u32);
            twice += scale * self.encoder_blocks(stage).map(|(i, o)| i + o).sum::<u64>();
            if stage == 1 || stage == 2 {
                once += scale / 4 * self.widths[stage];
            }
        }
        (2 * twice + once) * rows * columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_model_has_its_parameters() {
        let millions = VaeSize::WAN_2_1.parameters() as f64 / 1e6;
        assert!((millions - 126.9).abs() < 0.05, "{millions}");
    }

    #[test]
    fn the_decoder_remembers_what_was_measured() {
        let bytes = VaeSize::WAN_2_1.decoder_cache(60, 104) * 2;
        assert!((bytes as f64 / 1.89e9 - 1.0).abs() < 0.005, "{bytes}");
    }
}
