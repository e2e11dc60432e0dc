//! Noise: where a generation takes its Gaussian numbers from.

use tch::{Device, Kind, Tensor};

use crate::Result;

/// A source of standard normal fp32 tensors, asked in the order of generation.
pub trait NoiseSource: Send {
    /// The noise that block `block` starts from, or that its input is mixed with; its first latent
    /// frame is the `latent`th of the video, a start frame's latents included.
    fn input(&mut self, block: u64, latent: i64, shape: &[i64]) -> Result<Tensor>;
    /// The fresh noise after denoising step `step` of block `block`.
    fn renoise(&mut self, block: u64, step: u64, shape: &[i64]) -> Result<Tensor>;
    /// Goes on with this seed: a session was reset or its seed changed.
    fn restart(&mut self, seed: u64);
}

/// Noise as a function of (seed, block, step) and of nothing else: any block can be made alone,
/// on any device, and two generations cannot disturb each other.
#[derive(Clone, Copy, Debug)]
pub struct SeededNoise {
    /// The seed of the generation.
    pub seed: u64,
}

impl NoiseSource for SeededNoise {
    fn input(&mut self, block: u64, _latent: i64, shape: &[i64]) -> Result<Tensor> {
        normal(self.seed, block, 0, shape)
    }

    fn renoise(&mut self, block: u64, step: u64, shape: &[i64]) -> Result<Tensor> {
        normal(self.seed, block, step as u32 + 1, shape)
    }

    fn restart(&mut self, seed: u64) {
        self.seed = seed;
    }
}

/// What the reference draws when a session starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceDraw {
    /// Noise for so many latent frames (text to video).
    Text(i64),
    /// The same, thrown away, and then noise for so many frames of encoded video.
    Video(i64, i64),
    /// Nothing: the input's noise is drawn block by block (live).
    Live,
}

/// The reference's order of drawing: noise for all blocks at once when the session starts, then
/// one draw a step, all from libtorch's generator of `device`, in `kind`. The generator is shared
/// by the process, so only one such generation may run at a time.
#[derive(Debug)]
pub struct ReferenceNoise {
    seed: u64,
    device: Device,
    kind: Kind,
    draw: ReferenceDraw,
    started: bool,
    initial: Option<Tensor>,
}

impl ReferenceNoise {
    /// A source that seeds libtorch's generator at its first draw.
    pub fn new(seed: u64, device: Device, kind: Kind, draw: ReferenceDraw) -> Self {
        ReferenceNoise { seed, device, kind, draw, started: false, initial: None }
    }

    fn randn(&self, shape: &[i64]) -> Result<Tensor> {
        Ok(Tensor::f_randn(shape, (self.kind, self.device))?.f_to_kind(Kind::Float)?)
    }

    fn start(&mut self, shape: &[i64]) -> Result<()> {
        tch::manual_seed(self.seed as i64);
        let whole = |frames: i64| [&shape[..1], &[frames], &shape[2..]].concat();
        self.initial = match self.draw {
            ReferenceDraw::Text(frames) => Some(self.randn(&whole(frames))?),
            ReferenceDraw::Video(requested, frames) => {
                drop(self.randn(&whole(requested))?);
                Some(self.randn(&whole(frames))?)
            }
            ReferenceDraw::Live => None,
        };
        self.started = true;
        Ok(())
    }
}

impl NoiseSource for ReferenceNoise {
    fn input(&mut self, _block: u64, latent: i64, shape: &[i64]) -> Result<Tensor> {
        if !self.started {
            self.start(shape)?;
        }
        match &self.initial {
            Some(initial) if latent + shape[1] <= initial.size()[1] => Ok(initial.f_narrow(1, latent, shape[1])?),
            // Live; or the reference has run out of noise, where going on is kinder than failing.
            _ => self.randn(shape),
        }
    }

    fn renoise(&mut self, _block: u64, _step: u64, shape: &[i64]) -> Result<Tensor> {
        // The reference draws without the leading batch dimension.
        Ok(self.randn(&shape[1..])?.f_view(shape)?)
    }

    fn restart(&mut self, seed: u64) {
        (self.seed, self.started, self.initial) = (seed, false, None);
    }
}

/// Standard normal numbers from Philox 4x32-10 (Salmon et al., SC11) through Box-Muller.
fn normal(seed: u64, block: u64, draw: u32, shape: &[i64]) -> Result<Tensor> {
    let count = shape.iter().product::<i64>().max(0) as usize;
    let mut values = Vec::with_capacity(count + 3);
    for index in 0..count.div_ceil(4) as u32 {
        let bits = philox([index, draw, block as u32, (block >> 32) as u32], [seed as u32, (seed >> 32) as u32]);
        for pair in [[bits[0], bits[1]], [bits[2], bits[3]]] {
            // In (0, 1], so that the logarithm is finite; fp32 all along, since a block takes millions.
            let radius = (-2.0 * ((pair[0] as f32 + 1.0) / 4_294_967_296.0).ln()).sqrt();
            let (sin, cos) = (std::f32::consts::TAU * (pair[1] as f32 / 4_294_967_296.0)).sin_cos();
            values.extend([radius * cos, radius * sin]);
        }
    }
    values.truncate(count);
    Ok(Tensor::f_from_slice(&values)?.f_view(shape)?)
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_known_answers() {
        // From the authors' kat_vectors.
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn noise_is_normal_and_differs_by_seed_block_and_step() {
        let shape = [1, 3, 16, 20, 20];
        let mut noise = SeededNoise { seed: 7 };
        let a = noise.input(0, 0, &shape).unwrap();
        assert!(a.mean(Kind::Double).double_value(&[]).abs() < 0.02);
        assert!((a.std(true).double_value(&[]) - 1.0).abs() < 0.02);
        let others =
            [noise.input(1, 3, &shape), noise.renoise(0, 0, &shape), SeededNoise { seed: 8 }.input(0, 0, &shape)];
        for other in others {
            let correlation = (&a * other.unwrap()).mean(Kind::Double).double_value(&[]);
            assert!(correlation.abs() < 0.03, "{correlation}");
        }
        assert_eq!(a, SeededNoise { seed: 7 }.input(0, 0, &shape).unwrap());
    }
}
