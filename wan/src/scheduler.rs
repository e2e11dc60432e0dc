//! Flow matching: noise levels, step lists, and the way from a predicted flow to clean latents
//! (rectified flow, arXiv 2209.03003; the shifted table of Wan 2.1 and Self-Forcing).

use tch::{Kind, Tensor};

use crate::{Error, Result};

/// Entries of the training table.
pub const TRAIN_STEPS: usize = 1000;

/// The table of noise levels for one shift: `x_t = (1 - sigma) x_0 + sigma noise`, `t = 1000 sigma`.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduler {
    sigmas: Vec<f32>,
    timesteps: Vec<f32>,
}

impl Scheduler {
    /// The table for a shift >= 1; larger shifts spend more steps in heavy noise.
    pub fn new(shift: f64) -> Result<Self> {
        if !(shift >= 1.0 && shift.is_finite()) {
            return Err(Error::parameter(format!("a timestep shift of {shift} is not at least 1")));
        }
        let shift = shift as f32;
        let mut line = linspace(1.0, 0.0, TRAIN_STEPS + 1);
        line.truncate(TRAIN_STEPS);
        let sigmas: Vec<f32> = line.iter().map(|&x| shift * x / (1.0 + (shift - 1.0) * x)).collect();
        let timesteps = sigmas.iter().map(|sigma| sigma * TRAIN_STEPS as f32).collect();
        Ok(Scheduler { sigmas, timesteps })
    }

    /// Noise levels, falling from 1.
    pub fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    /// Timesteps, falling from 1000.
    pub fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    /// The entry whose timestep is nearest, the first of equals. A timestep of 0 finds the last
    /// entry, whose noise level is small but not 0: the models were trained so.
    pub fn entry(&self, t: f64) -> usize {
        let distance = |entry: &f32| (f64::from(*entry) - t).abs();
        let mut nearest = 0;
        for (i, entry) in self.timesteps.iter().enumerate() {
            if distance(entry) < distance(&self.timesteps[nearest]) {
                nearest = i;
            }
        }
        nearest
    }

    /// The noise level of the entry nearest to `t`.
    pub fn sigma(&self, t: f64) -> f64 {
        self.sigmas[self.entry(t)].into()
    }

    /// The timesteps of `steps` denoising calls for a strength in (0, 1]: from the noise level that
    /// the strength stands for down to 0, where the last call is.
    pub fn steps(&self, steps: usize, strength: f64) -> Result<Vec<f64>> {
        if steps < 2 {
            return Err(Error::parameter(format!("{steps} denoising steps are too few: at least 2")));
        }
        if !(strength > 0.0 && strength <= 1.0) {
            return Err(Error::parameter(format!("a strength of {strength} is not in (0, 1]")));
        }
        let indices = linspace((TRAIN_STEPS as f64 * strength) as f32, 0.0, steps);
        let timestep = |u: &f32| {
            let entry = TRAIN_STEPS - *u as usize;
            self.timesteps.get(entry).copied().unwrap_or(0.0).into()
        };
        Ok(indices.iter().map(timestep).collect())
    }

    /// `(1 - sigma) x_0 + sigma noise` in fp32; one timestep for each entry of the first
    /// dimension, or one for all.
    pub fn add_noise(&self, clean: &Tensor, noise: &Tensor, t: &[f64]) -> Result<Tensor> {
        let sigma = self.column(clean, t)?.f_to_kind(Kind::Float)?;
        let kept = clean.f_to_kind(Kind::Float)?.f_mul(&sigma.f_neg()?.f_add_scalar(1.0)?)?;
        Ok(kept.f_add(&noise.f_to_kind(Kind::Float)?.f_mul(&sigma)?)?)
    }

    /// `x_t - sigma flow`: the clean latents that a predicted flow points to, computed in fp64 and
    /// returned in fp32.
    pub fn clean(&self, noisy: &Tensor, flow: &Tensor, t: &[f64]) -> Result<Tensor> {
        let step = flow.f_to_kind(Kind::Double)?.f_mul(&self.column(noisy, t)?)?;
        Ok(noisy.f_to_kind(Kind::Double)?.f_sub(&step)?.f_to_kind(Kind::Float)?)
    }

    /// The noise levels of `t` in fp64, shaped to broadcast over the first dimension of `like`.
    fn column(&self, like: &Tensor, t: &[f64]) -> Result<Tensor> {
        let rows = like.size().first().copied().unwrap_or(0);
        if t.len() != 1 && t.len() as i64 != rows {
            return Err(Error::parameter(format!("{} timesteps do not fit {rows} entries", t.len())));
        }
        let sigmas: Vec<f64> = t.iter().map(|&t| self.sigma(t)).collect();
        let mut shape = vec![1; like.dim()];
        shape[0] = t.len() as i64;
        Ok(Tensor::f_from_slice(&sigmas)?.f_view(&shape[..])?.f_to_device(like.device())?)
    }
}

/// `count` evenly spaced fp32 numbers from `from` to `to`, computed from both ends as torch does,
/// on which the truncation in [`Scheduler::steps`] depends.
fn linspace(from: f32, to: f32, count: usize) -> Vec<f32> {
    let step = (to - from) / (count - 1) as f32;
    let value = |i: usize| {
        if i < count / 2 { from + step * i as f32 } else { to - step * (count - 1 - i) as f32 }
    };
    (0..count).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_steps_are_those_of_the_model_card() {
        let scheduler = Scheduler::new(5.0).unwrap();
        let steps = scheduler.steps(5, 1.0).unwrap();
        for (made, expected) in steps.iter().zip([1000.0, 937.5, 833.333, 625.0, 0.0]) {
            assert!((made - expected).abs() < 1e-2, "{steps:?}");
        }
    }

    #[test]
    fn zero_is_the_last_entry_and_not_noise_free() {
        let scheduler = Scheduler::new(5.0).unwrap();
        assert_eq!(scheduler.entry(0.0), TRAIN_STEPS - 1);
        assert!((scheduler.sigma(0.0) - 0.00498).abs() < 1e-5);
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Scheduler::new(0.5).is_err());
        let scheduler = Scheduler::new(5.0).unwrap();
        assert!(scheduler.steps(1, 1.0).is_err());
        assert!(scheduler.steps(4, 0.0).is_err());
        assert!(scheduler.steps(4, 1.1).is_err());
    }
}
