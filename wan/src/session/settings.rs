//! What a session can be told, and what of it makes sense.

use tch::{Kind, Tensor};

use crate::scheduler::Scheduler;
use crate::vae::TimeHistory;
use crate::{Error, Result};

/// The denoising calls of a block.
#[derive(Clone, Debug, PartialEq)]
pub enum Steps {
    /// So many, spread over the noise levels as the reference's server does; the last is at 0.
    Count(usize),
    /// At these timesteps, falling, in [0, 1000].
    Timesteps(Vec<f64>),
}

impl Steps {
    /// The timesteps for a strength; a list of its own starts at the strength's noise level.
    pub fn timesteps(&self, scheduler: &Scheduler, strength: f64) -> Result<Vec<f64>> {
        let list = match self {
            Steps::Count(count) => return scheduler.steps(*count, strength),
            Steps::Timesteps(list) => list,
        };
        let falling = list.windows(2).all(|pair| pair[0] > pair[1]);
        if list.is_empty() || !falling || list.iter().any(|t| !(0.0..=1000.0).contains(t)) {
            return Err(Error::parameter("a step list must fall from at most 1000 to at least 0"));
        }
        if strength >= 1.0 {
            return Ok(list.clone());
        }
        let first = scheduler.steps(2, strength)?[0];
        Ok([first].into_iter().chain(list.iter().copied().filter(|&t| t < first)).collect())
    }
}

/// How the frames of the past are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// The cache is filled anew for each block from the newest clean latents (Krea Realtime):
    /// positions never grow, so a video may be endless.
    Recompute,
    /// The cache rolls, with `sink` frames pinned at its front (Self-Forcing, arXiv 2506.08009).
    Rolling {
        /// Latent frames that are never evicted.
        sink: i64,
    },
}

impl Context {
    pub(super) fn sink(self) -> i64 {
        match self {
            Context::Recompute => 0,
            Context::Rolling { sink } => sink,
        }
    }
}

/// Whether the reference's quirks are kept (wan-spec 12) or corrected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compat {
    /// All frames of the first block, a prompt change that begins at once and ends, x_t in fp32.
    #[default]
    Corrected,
    /// As krea's server: three frames dropped, a first blend of weight 0, its decoder's history,
    /// x_t rounded to the model's precision, clean latents by the table of shift 5.
    Krea,
}

impl Compat {
    pub(super) fn history(self) -> TimeHistory {
        match self {
            Compat::Corrected => TimeHistory::Upstream,
            Compat::Krea => TimeHistory::Krea,
        }
    }

    /// Frames of the first block that are not emitted.
    pub(super) fn dropped(self, frames: i64) -> i64 {
        match self {
            Compat::Corrected => 0,
            Compat::Krea => frames.min(3),
        }
    }

    /// The weights of the new prompt over `steps` blocks.
    pub(super) fn blend_weights(self, steps: usize) -> Vec<f64> {
        let steps = steps.max(1);
        match self {
            Compat::Corrected => (1..=steps).map(|i| i as f64 / steps as f64).collect(),
            Compat::Krea => (0..steps).map(|i| i as f64 / (steps - 1).max(1) as f64).collect(),
        }
    }

    pub(super) fn rounded(self, x: &Tensor, kind: Kind) -> Result<Tensor> {
        match self {
            Compat::Corrected => Ok(x.shallow_clone()),
            Compat::Krea => Ok(x.f_to_kind(kind)?.f_to_kind(Kind::Float)?),
        }
    }

    /// The table by which flow becomes clean latents.
    pub(super) fn flow_table(self, scheduler: &Scheduler) -> Result<Scheduler> {
        match self {
            Compat::Corrected => Ok(scheduler.clone()),
            Compat::Krea => Scheduler::new(5.0),
        }
    }
}

/// Everything that a session can be told at its start.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionSettings {
    /// Width of the frames in pixels, a multiple of 16.
    pub width: i64,
    /// Height of the frames in pixels, a multiple of 16.
    pub height: i64,
    /// Latent frames made together; 3 for every published causal checkpoint.
    pub block: i64,
    /// Clean latent frames that a block sees of the past.
    pub window: i64,
    /// The denoising calls.
    pub steps: Steps,
    /// Timestep shift, at least 1.
    pub shift: f64,
    /// How much of an input is repainted, in (0, 1]; without an input it is 1.
    pub strength: f64,
    /// What the noise is a function of.
    pub seed: u64,
    /// Whether the first latent of the video stays in the context for ever.
    pub keep_first_frame: bool,
    /// Damping of old frames in (0, 1]; 1 is none (wan-spec 4.7).
    pub kv_bias: f64,
    /// How the past is kept.
    pub context: Context,
    /// Whether the reference's quirks are kept.
    pub compat: Compat,
}

impl SessionSettings {
    /// The defaults of Krea Realtime at a size.
    pub fn new(width: i64, height: i64) -> Self {
        SessionSettings {
            width,
            height,
            block: 3,
            window: 3,
            steps: Steps::Count(5),
            shift: 5.0,
            strength: 1.0,
            seed: 0,
            keep_first_frame: false,
            kv_bias: 1.0,
            context: Context::Recompute,
            compat: Compat::Corrected,
        }
    }

    /// Refuses what cannot be generated; `grain` is what both sides must be a multiple of.
    pub(super) fn check(&self, grain: i64) -> Result<()> {
        let bad = |reason: String| Err(Error::Parameter(reason));
        if self.width < grain || self.height < grain || self.width % grain != 0 || self.height % grain != 0 {
            let nearest = |n: i64| ((n + grain / 2) / grain * grain).max(grain);
            return bad(format!(
                "{}x{} cannot be generated: both sides must be multiples of {grain}; the nearest is {}x{}",
                self.width,
                self.height,
                nearest(self.width),
                nearest(self.height)
            ));
        }
        if self.block < 1 || self.window < 1 {
            return bad(format!(
                "a block of {} and a window of {} latent frames: both must be at least 1",
                self.block, self.window
            ));
        }
        if self.context.sink() < 0 || self.context.sink() > self.window {
            return bad(format!("{} pinned frames do not fit a window of {}", self.context.sink(), self.window));
        }
        if !(self.kv_bias > 0.0 && self.kv_bias <= 1.0) {
            return bad(format!("a bias of {} for old frames is not in (0, 1]", self.kv_bias));
        }
        self.steps.timesteps(&Scheduler::new(self.shift)?, self.strength).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_weight_of_a_corrected_change_is_one() {
        assert_eq!(Compat::Corrected.blend_weights(4), [0.25, 0.5, 0.75, 1.0]);
        assert_eq!(Compat::Corrected.blend_weights(1), [1.0]);
        assert_eq!(Compat::Krea.blend_weights(3), [0.0, 0.5, 1.0]);
        assert_eq!(Compat::Krea.blend_weights(1), [0.0]);
    }

    #[test]
    fn the_nearest_size_is_named() {
        let error = SessionSettings::new(830, 470).check(16).unwrap_err().to_string();
        assert!(error.contains("832x464") || error.contains("832x480"), "{error}");
    }

    #[test]
    fn an_own_step_list_begins_at_the_strength() {
        let scheduler = Scheduler::new(5.0).unwrap();
        let list = Steps::Timesteps(vec![1000.0, 750.0, 500.0, 250.0]);
        assert_eq!(list.timesteps(&scheduler, 1.0).unwrap(), [1000.0, 750.0, 500.0, 250.0]);
        let weaker = list.timesteps(&scheduler, 0.3).unwrap();
        assert!(weaker[0] < 700.0 && weaker[1..] == [500.0, 250.0], "{weaker:?}");
        assert!(Steps::Timesteps(vec![500.0, 500.0]).timesteps(&scheduler, 1.0).is_err());
    }
}
