//! Takes the light of the old background out of soft edges.
//!
//! A camera shows C = a F + (1 - a) B at the edge of a person. Laid on a new background as it is, C brings B along as a
//! fringe. With the mean person F' of the neighbourhood, C + (1 - a) (F' - B) puts the person in the place of the old
//! background, and keeps what texture C has.
//!
//! But alpha is a guess. Where it is too low, C is all person, and the same step would shoot past it. So the neighbourhood
//! says how much there is to put right: the soft pixels of a cell follow C = F' - (1 - a) S more or less, and the S that
//! fits them best (least squares) is the step, up to the full F' - B.

use super::blend::{Code, View, round};
use super::field::{Area, Field, Sums};

/// `alpha` (0..=255) to the eighth power, scaled to 0..=248: only what is nearly solid counts.
#[inline(always)]
pub(super) fn sharpened(alpha: u16) -> u16 {
    let square = |a: u16| (a * a) >> 8;
    square(square(square(alpha)))
}

/// Local means of persons, and the step S, in one plane.
#[derive(Default)]
pub(super) struct Surroundings {
    area: Area,
    near: Sums,
    around: Sums,
    person: Field,
    background: Field,
    mixed: Field,
    alpha: Field,
    spill: Field,
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
        // Means over cells this large do not need every row.
        let nth = if cell[1] >= 8 { 2 } else { 1 };
        let soft = self.area.near_soft(alpha, plane.width, cell);
        if soft {
            self.near.gather(plane, alpha, &self.area, nth, |a| sharpened(255 - a));
            settle(&mut self.near, &mut self.around, &NEAR, empty, &mut self.background);
            self.near.gather(plane, alpha, &self.area, nth, hidden_if_soft);
            settle(&mut self.near, &mut self.around, &NEAR, empty, &mut self.mixed);
            let own = View { samples: alpha, stride: plane.width, width: plane.width, height: plane.height };
            self.near.gather(own, alpha, &self.area, nth, hidden_if_soft);
            settle(&mut self.near, &mut self.around, &NEAR, 0.0, &mut self.alpha);
        }
        if everywhere {
            self.area.all(plane.width, plane.height, cell);
        }
        if soft || everywhere {
            self.near.gather(plane, alpha, &self.area, nth, sharpened);
            let reaches = if everywhere { &FAR[..] } else { &NEAR };
            settle(&mut self.near, &mut self.around, reaches, empty, &mut self.person);
        }
        if soft {
            self.spill.combine([&self.person, &self.background, &self.mixed, &self.alpha], |[f, b, c, a]| {
                let step = (f - c) / (1.0 - a / 255.0).max(1.0 / 255.0);
                let full = f - b;
                step.max(full.min(0.0)).min(full.max(0.0))
            });
        }
        soft
    }

    /// The mean colour of persons near each place.
    pub(super) fn person(&self) -> &Field {
        &self.person
    }

    /// What to add to a pixel, times the share of it that is not person.
    pub(super) fn spill(&self) -> &Field {
        &self.spill
    }
}

/// How little is person, for soft pixels only.
#[inline(always)]
fn hidden_if_soft(alpha: u16) -> u16 {
    if alpha == 0 { 0 } else { 255 - alpha }
}

/// Means over the cell, and over more and more around it where the cell holds little.
fn settle(near: &mut Sums, around: &mut Sums, reaches: &[f32], empty: f32, field: &mut Field) {
    for &sigma in reaches {
        around.clone_from(near);
        around.smooth([sigma; 2]);
        near.add(around, WIDER);
    }
    near.add_total(1e-9);
    near.mean(empty, field);
}

/// Replaces the colours of a run by those of the person alone.
pub(super) fn restore<T: Code>(run: &mut [T], alpha: &[u8], spill: &[f32], max: f32) {
    for ((c, &a), &s) in run.iter_mut().zip(alpha).zip(spill) {
        let code: f32 = (*c).into();
        *c = round(code + f32::from(255 - a) * (1.0 / 255.0) * s, max);
    }
}
