//! The mask over time: smoothing where frames agree, holding what a frame lost, forgetting at a cut.

use super::coverage::{Coverage, Curve, Thumbnail};

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

impl Outcome {
    /// The factor of the mask.
    pub fn gain(self) -> f32 {
        match self {
            Self::Fresh => 1.0,
            Self::Held(gain) => gain,
            Self::Empty => 0.0,
        }
    }
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
        let same_grid = self.smoothed.values.len() == found.values.len() && self.smoothed.view == found.view;
        match self.strength {
            Some(strength) if self.alive && same_grid => blend(&mut self.smoothed, found, strength),
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

/// Disagreement-gated blend: where two frames' probabilities agree within .05 the new value weighs `1 - strength`, where
/// they differ by .4 it weighs .95 (or more), so still edges rest and moving ones leave no ghost. Log odds take the whole
/// new value there: .95 of the way from a value that was certain leaves the pixel on the old side.
fn blend(smoothed: &mut Coverage, new: &Coverage, strength: f32) {
    let least = 1.0 - strength;
    let most = if new.curve == Curve::Logit { 1.0 } else { 0.95 };
    let rise = (most - least).max(0.0);
    let mix = |s: &mut f32, a: f32, difference: f32| {
        let gate = ((difference.abs() - 0.05) / 0.35).clamp(0.0, 1.0);
        *s += (least + rise * gate) * (a - *s);
    };
    let pairs = smoothed.values.iter_mut().zip(&new.values);
    match new.curve {
        Curve::Linear => pairs.for_each(|(s, &a)| mix(s, a, a - *s)),
        Curve::Logit => pairs.for_each(|(s, &a)| mix(s, a, rough_sigmoid(a) - rough_sigmoid(*s))),
    }
}

/// The logistic function to within .012, in arithmetic that vectorises: `(1 + tanh(x / 2)) / 2` with a rational tanh.
fn rough_sigmoid(logit: f32) -> f32 {
    let x = (logit * 0.5).clamp(-3.0, 3.0);
    let square = x * x;
    0.5 + 0.5 * x * (27.0 + square) / (27.0 + 9.0 * square)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rough_sigmoid_is_near_the_true_one() {
        for i in -120..=120 {
            let x = i as f32 / 10.0;
            assert!((rough_sigmoid(x) - 1.0 / (1.0 + (-x).exp())).abs() < 0.012, "{x}");
        }
    }

    /// A pixel that was surely a person and now is rather not belongs to the new side at once.
    #[test]
    fn log_odds_that_were_certain_do_not_lag() {
        let grid = |values: Vec<f32>| Coverage { values, curve: Curve::Logit, ..Coverage::default() };
        let mut s = grid(vec![9.0, -12.0, 1.0]);
        blend(&mut s, &grid(vec![-0.3, 0.3, 1.2]), SMOOTH);
        assert!(s.values[0] < 0.0 && s.values[1] > 0.0, "{:?}", s.values);
        assert!((s.values[2] - 1.07).abs() < 1e-3, "what agrees is damped: {:?}", s.values);
    }

    #[test]
    fn small_changes_are_damped_and_large_ones_are_not() {
        let grid = |values: Vec<f32>| Coverage { values, curve: Curve::Linear, ..Coverage::default() };
        let mut s = grid(vec![0.5, 0.0, 1.0]);
        blend(&mut s, &grid(vec![0.6, 1.0, 0.7]), SMOOTH);
        let expected = [0.54357, 0.95, 0.76643];
        assert!(s.values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{:?}", s.values);
    }
}
