//! Takes the light of the old background out of soft edges.
//!
//! A camera shows C = a F + (1 - a) B at the edge of a person. Laid on a new background as it is, C brings B along as a
//! fringe. F and B nearby are known roughly: they are the local means of what is surely person and surely background.

use super::blend::{Code, View, round};
use super::field::{Area, Field, Sums};

/// `alpha` (0..=255) to the eighth power, scaled to 0..=248: only what is nearly solid counts.
#[inline(always)]
pub(super) fn sharpened(alpha: u16) -> u16 {
    let square = |a: u16| (a * a) >> 8;
    square(square(square(alpha)))
}

/// Local means of persons and of background in one plane.
#[derive(Default)]
pub(super) struct Surroundings {
    area: Area,
    near: Sums,
    around: Sums,
    person: Field,
    background: Field,
}

/// How much the next larger neighbourhood counts against the nearer one. It decides where the nearer one holds little.
const WIDER: f32 = 0.05;
/// Sizes of the neighbourhoods beyond the cell itself, as standard deviations in cells.
const NEAR: [f32; 1] = [1.5];
const FAR: [f32; 2] = [1.5, 6.0];

impl Surroundings {
    /// Looks at a plane near its soft edges, or at the persons in all of it if `everywhere`. `cell` is the grid's cell
    /// in samples; `empty` is the code for a frame without any person. False if there is nothing to restore.
    pub(super) fn look<T: Code>(
        &mut self,
        plane: View<T>,
        alpha: &[u8],
        cell: [usize; 2],
        empty: f32,
        everywhere: bool,
    ) -> bool {
        let soft = self.area.near_soft(alpha, plane.width, cell);
        // Means over cells this large do not need every row.
        let nth = if cell[1] >= 8 { 2 } else { 1 };
        if soft {
            self.near.gather(plane, alpha, &self.area, nth, |a| sharpened(255 - a));
            Self::settle(&mut self.near, &mut self.around, empty, &mut self.background, &NEAR);
        }
        if everywhere {
            self.area.all(plane.width, plane.height, cell);
        }
        if soft || everywhere {
            self.near.gather(plane, alpha, &self.area, nth, sharpened);
            let reaches = if everywhere { &FAR[..] } else { &NEAR };
            Self::settle(&mut self.near, &mut self.around, empty, &mut self.person, reaches);
        }
        soft
    }

    fn settle(near: &mut Sums, around: &mut Sums, empty: f32, field: &mut Field, reaches: &[f32]) {
        for &sigma in reaches {
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
