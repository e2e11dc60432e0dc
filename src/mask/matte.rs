//! The mask over time: smoothing where frames agree, holding what a frame lost, forgetting at a cut.

use super::coverage::{Coverage, Thumbnail};

/// Frames without a detection that still show the last mask, fading.
pub const HOLD: u32 = 5;
/// The default strength of the smoothing; gives the weights .35 to .95 for the new frame.
pub const SMOOTH: f32 = 0.65;

/// What the mask of a frame is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// This frame's own persons.
    Fresh,
    /// The last mask, times this factor.
    Held(f32),
    /// Nobody.
    Empty,
}

/// The state that goes from frame to frame.
#[derive(Default)]
pub struct Matte {
    /// 0 keeps each frame as it is, 1 hardly lets it change.
    strength: Option<f32>,
    /// Smoothed probabilities on the network's grid; meaningless unless `alive`.
    smoothed: Coverage,
    alive: bool,
    missed: u32,
    previous: Option<Thumbnail>,
}

impl Matte {
    /// `strength` is 0..=1, `None` switches smoothing off.
    pub fn new(strength: Option<f32>) -> Self {
        Self { strength, ..Self::default() }
    }

    /// Takes in what the network found in the next frame.
    pub fn update(&mut self, found: &Coverage, thumbnail: Thumbnail) -> Outcome {
        self.see(thumbnail);
        if found.empty {
            self.missed += 1;
            if !self.alive || self.missed > HOLD {
                self.alive = false;
                return Outcome::Empty;
            }
            return Outcome::Held(1.0 - self.missed as f32 / (HOLD + 1) as f32);
        }
        self.missed = 0;
        let same_grid = self.smoothed.person.len() == found.person.len() && self.smoothed.view == found.view;
        match self.strength {
            Some(strength) if self.alive && same_grid => blend(&mut self.smoothed.person, &found.person, strength),
            _ => self.smoothed.clone_from(found),
        }
        self.alive = true;
        Outcome::Fresh
    }

    /// Takes in a frame that the network failed on.
    pub fn miss(&mut self, thumbnail: Thumbnail) -> Outcome {
        self.see(thumbnail);
        if self.alive { Outcome::Held(1.0) } else { Outcome::Empty }
    }

    /// The grid that the outcome speaks of.
    pub fn coverage(&self) -> &Coverage {
        &self.smoothed
    }

    /// At a cut, nothing of the last scene is worth keeping.
    fn see(&mut self, thumbnail: Thumbnail) {
        if self.previous.as_ref().is_some_and(|previous| thumbnail.is_cut(previous)) {
            self.alive = false;
        }
        self.previous = Some(thumbnail);
    }
}

/// Disagreement-gated blend: where the frames agree within .1 the new one weighs `1 - strength`, where they differ by .5
/// it weighs .95 (or more), so still edges rest and moving ones leave no ghost.
fn blend(smoothed: &mut [f32], new: &[f32], strength: f32) {
    let least = 1.0 - strength;
    let rise = (0.95 - least).max(0.0);
    for (s, &a) in smoothed.iter_mut().zip(new) {
        let gate = (((a - *s).abs() - 0.1) / 0.4).clamp(0.0, 1.0);
        let w = least + rise * gate;
        *s += w * (a - *s);
    }
}
