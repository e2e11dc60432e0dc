//! The frame's own background out of focus, without the persons in it.

use super::blend::{Code, View};
use super::field::{Field, Sums};

/// Blurs one plane after the other; keeps its memory.
#[derive(Default)]
pub(super) struct Blur {
    sums: Sums,
    field: Field,
}

impl Blur {
    /// The plane convolved with a Gaussian of standard deviation `sigma` (in samples, across and down), each pixel
    /// weighted by how little of it is person, so that persons leave no halo around themselves.
    pub(super) fn of<T: Code>(&mut self, plane: View<T>, alpha: &[u8], sigma: [f32; 2]) -> &Field {
        // A Gaussian of two cells or more, read back by linear interpolation, is smooth to the eye.
        let cell = sigma.map(|s| ((s / 2.0).max(1.0) as usize).ilog2().min(5)).map(|log2| 1 << log2);
        // Persons keep a trace of weight, so that there is a value even where nothing else is near.
        self.sums.gather(plane, alpha, cell, |a| 1 + super::despill::sharpened(255 - a));
        self.sums.smooth([sigma[0] / cell[0] as f32, sigma[1] / cell[1] as f32]);
        self.sums.mean(0.0, &mut self.field);
        &self.field
    }
}
