//! Takes the light of the old background out of soft edges.
//!
//! A camera shows C = a F + (1 - a) B at the edge of a person. Laid on a new background as it is, C brings B along as a
//! fringe. F and B nearby are known roughly: they are the local means of what is surely person and surely background.

use super::blend::{Code, View, round};
use super::field::{Field, Sums};

/// `alpha` (0..=255) to the fourth power, scaled to 0..=252: only what is nearly solid counts.
#[inline(always)]
pub(super) fn sharpened(alpha: u16) -> u16 {
    let square = (alpha * alpha) >> 8;
    (square * square) >> 8
}

/// Local means of persons and of background in one plane.
#[derive(Default)]
pub(super) struct Surroundings {
    near: Sums,
    around: Sums,
    person: Field,
    background: Field,
}

/// How much the next larger neighbourhood counts against the nearer one. It decides where the nearer one holds little.
const WIDER: f32 = 0.02;

impl Surroundings {
    /// Looks at a plane. `cell` is the grid's cell in samples; `empty` is the code for a frame without any person.
    pub(super) fn look<T: Code>(&mut self, plane: View<T>, alpha: &[u8], cell: [usize; 2], empty: f32) {
        self.near.gather(plane, alpha, cell, sharpened);
        Self::settle(&mut self.near, &mut self.around, empty, &mut self.person);
        self.near.gather(plane, alpha, cell, |a| sharpened(255 - a));
        Self::settle(&mut self.near, &mut self.around, empty, &mut self.background);
    }

    fn settle(near: &mut Sums, around: &mut Sums, empty: f32, field: &mut Field) {
        for sigma in [1.0, 3.0] {
            around.clone_from(near);
            around.smooth([sigma; 2]);
            near.add(around, WIDER);
        }
        near.add_total(1e-9);
        near.mean(empty, field);
    }

    /// The mean colour of persons near each place.
    pub(super) fn person(&self) -> &Field {
        &self.person
    }

    pub(super) fn background(&self) -> &Field {
        &self.background
    }
}

/// The share of the person in colour `c`, seen through `a` (0..=1), near the mean person `f` and the mean background
/// `b`.
///
/// Of all F and B with a F + (1 - a) B = C it takes the pair nearest to (f, b) in the sense of least squares. The result
/// stays between `c` and `f`: alpha is a guess, and where it is too low, C - (1 - a) B would shoot past the person's
/// own colour.
#[inline(always)]
fn unmix(a: f32, c: f32, f: f32, b: f32) -> f32 {
    let back = 1.0 - a;
    let residue = c - (a * f + back * b);
    let nearest = f + residue * (a / (a * a + back * back));
    nearest.max(c.min(f)).min(c.max(f))
}

/// Replaces the colours of a run by those of the person alone. `person` and `background` are the local means.
pub(super) fn restore<T: Code>(run: &mut [T], alpha: &[u8], person: &[f32], background: &[f32], max: f32) {
    for (((c, &a), &f), &b) in run.iter_mut().zip(alpha).zip(person).zip(background) {
        *c = round(unmix(f32::from(a) / 255.0, (*c).into(), f, b), max);
    }
}
