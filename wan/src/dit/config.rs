//! The size of a transformer, read from the shapes of its weights.

use crate::weights::Weights;
use crate::{Error, Result};

/// The size of a Wan 2.1 transformer (Wan technical report, arXiv 2503.20314).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DitConfig {
    /// Channels of a latent frame, in and out.
    pub channels: i64,
    /// Width D of a token.
    pub dim: i64,
    /// Width of the feed-forward layer.
    pub ffn_dim: i64,
    /// Width of the sinusoid that a timestep becomes.
    pub freq_dim: i64,
    /// Width of a row of the prompt's embedding.
    pub text_dim: i64,
    /// Rows of the prompt's embedding; shorter prompts are padded with zeros.
    pub text_len: i64,
    /// Attention heads; `dim / heads` is even.
    pub heads: i64,
    /// Blocks.
    pub layers: usize,
}

/// Epsilon of every norm in the model.
pub const EPS: f64 = 1e-6;

/// Latent rows and columns that make one token.
pub const PATCH: i64 = 2;

/// What the shapes of the weights cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DitOptions {
    /// Attention heads; by default heads of 128, as every published size has.
    pub heads: Option<i64>,
    /// Rows of the prompt's embedding, 512 by default.
    pub text_len: Option<i64>,
    /// Keep the matrices of the blocks as fp8 (e4m3), whatever the file holds: half the memory of
    /// bf16; they are widened where they are used.
    pub fp8: bool,
}

impl DitConfig {
    /// The published 1.3B text-to-video model.
    pub const T2V_1_3B: DitConfig = DitConfig {
        channels: 16,
        dim: 1536,
        ffn_dim: 8960,
        freq_dim: 256,
        text_dim: 4096,
        text_len: 512,
        heads: 12,
        layers: 30,
    };
    /// The published 14B text-to-video model, which Krea Realtime is made from.
    pub const T2V_14B: DitConfig = DitConfig {
        channels: 16,
        dim: 5120,
        ffn_dim: 13824,
        freq_dim: 256,
        text_dim: 4096,
        text_len: 512,
        heads: 40,
        layers: 40,
    };

    /// Reads the sizes from the shapes; refuses what cannot be a Wan 2.1 text-to-video model.
    pub fn from_weights(weights: &Weights, options: DitOptions) -> Result<Self> {
        let [dim, channels, time, high, wide] = weights.require_shape("patch_embedding.weight")?;
        if [time, high, wide] != [1, PATCH, PATCH] {
            return Err(Error::parameter(format!(
                "{}: patches of {time}x{high}x{wide} are not supported, only 1x2x2",
                weights.origin()
            )));
        }
        let [_, freq_dim] = weights.require_shape("time_embedding.0.weight")?;
        let [_, text_dim] = weights.require_shape("text_embedding.0.weight")?;
        let [ffn_dim, _] = weights.require_shape("blocks.0.ffn.0.weight")?;
        let [out, _] = weights.require_shape("head.head.weight")?;
        if out != channels * PATCH * PATCH {
            return Err(Error::parameter(format!(
                "{}: takes {channels} channels and gives {}: an image-to-video or control model, only text-to-video is supported",
                weights.origin(),
                out / (PATCH * PATCH)
            )));
        }
        let heads = options.heads.unwrap_or(dim / 128);
        if heads < 1 || dim % heads != 0 || (dim / heads) % 2 != 0 {
            return Err(Error::parameter(format!("{}: a width of {dim} cannot have {heads} heads", weights.origin())));
        }
        let text_len = options.text_len.unwrap_or(512);
        let layers = weights.count("blocks.");
        Ok(DitConfig { channels, dim, ffn_dim, freq_dim, text_dim, text_len, heads, layers })
    }

    /// Width of one head.
    pub fn head_dim(&self) -> i64 {
        self.dim / self.heads
    }

    /// How many numbers the weights are.
    pub fn parameters(&self) -> u64 {
        let (d, f) = (self.dim, self.ffn_dim);
        let linear = |inputs: i64, outputs: i64| inputs * outputs + outputs;
        let patch = self.channels * PATCH * PATCH;
        let attention = 4 * linear(d, d) + 2 * d;
        let block = 6 * d + 2 * attention + 2 * d + linear(d, f) + linear(f, d);
        let embeddings = linear(patch, d)
            + linear(self.text_dim, d)
            + linear(d, d)
            + linear(self.freq_dim, d)
            + linear(d, d)
            + linear(d, 6 * d);
        (embeddings + self.layers as i64 * block + 2 * d + linear(d, patch)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_sizes_have_their_parameter_counts() {
        assert_eq!(DitConfig::T2V_1_3B.parameters(), 1_418_996_800);
        assert_eq!(DitConfig::T2V_14B.parameters(), 14_288_491_584);
    }
}
