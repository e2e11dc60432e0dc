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

/// The step S, and local means of persons, in one plane.
#[derive(Default)]
pub(super) struct Surroundings {
    /// Cells near soft alpha, and all cells.
    edges: Area,
    everywhere: Area,
    means: Means,
    person: Field,
    background: Field,
    mixed: Field,
    alpha: Field,
    spill: Field,
}

impl Surroundings {
    /// Takes the alpha that the next planes share, and the grid's cell in samples. False if nothing is soft.
    pub(super) fn prepare(&mut self, alpha: &[u8], width: usize, cell: [usize; 2]) -> bool {
        let height = alpha.len() / width;
        self.everywhere.all(width, height, cell);
        let soft = self.edges.near_soft(alpha, width, cell);
        if soft {
            let own = View { samples: alpha, stride: width, width, height };
            self.means.near(own, alpha, &self.edges, hidden_if_soft, &mut self.alpha);
        }
        soft
    }

    /// Finds the step for a plane.
    pub(super) fn look_at_edges<T: Code>(&mut self, plane: View<T>, alpha: &[u8]) {
        let (means, edges) = (&mut self.means, &self.edges);
        means.near(plane, alpha, edges, sharpened, &mut self.person);
        means.near(plane, alpha, edges, |a| sharpened(255 - a), &mut self.background);
        means.near(plane, alpha, edges, hidden_if_soft, &mut self.mixed);
        self.spill.combine([&self.person, &self.background, &self.mixed, &self.alpha], |[f, b, c, a]| {
            let (step, full) = ((f - c) * 255.0 / (255.0 - a).max(1.0), f - b);
            // Without any person or any background nearby there is nothing to go by.
            if step.is_nan() || full.is_nan() { 0.0 } else { step.max(full.min(0.0)).min(full.max(0.0)) }
        });
    }

    /// Spreads the colours of the persons in a plane over all of it. `empty` is the code for a frame without any.
    pub(super) fn look_at_persons<T: Code>(&mut self, plane: View<T>, alpha: &[u8], empty: f32) {
        self.means.far(plane, alpha, &self.everywhere, sharpened, empty, &mut self.person);
    }

    /// What to add to a pixel, times the share of it that is not person.
    pub(super) fn spill(&self) -> &Field {
        &self.spill
    }

    /// The colours of the persons near each place.
    pub(super) fn person(&self) -> &Field {
        &self.person
    }
}

/// How little is person, for soft pixels only.
#[inline(always)]
fn hidden_if_soft(alpha: u16) -> u16 {
    if alpha == 0 { 0 } else { 255 - alpha }
}

/// Gathers means over a cell and its neighbourhood; keeps its memory.
#[derive(Default)]
struct Means {
    sums: Sums,
    around: Sums,
}

/// Neighbourhoods, as standard deviations of a Gaussian in cells. A cell in the middle of a wide edge holds little that is
/// sure, so even the near one reaches two cells to each side.
const NEAR: f32 = 0.8;
const FAR: f32 = 6.0;
/// How much the far neighbourhood counts against the near one.
const FARTHER: f32 = 0.05;

impl Means {
    /// Means near each cell; NaN where there is nothing.
    fn near<T: Code>(
        &mut self,
        plane: View<T>,
        alpha: &[u8],
        area: &Area,
        weigh: impl Fn(u16) -> u16 + Copy,
        field: &mut Field,
    ) {
        // A mean over a large cell does not need every row.
        let nth = (area.cell_height() / 4).max(1);
        self.sums.gather(plane, alpha, area, nth, weigh);
        self.sums.smooth([NEAR; 2]);
        self.sums.mean(f32::NAN, field);
    }

    /// Means that reach over all of the plane, ever wider where there is nothing near.
    fn far<T: Code>(
        &mut self,
        plane: View<T>,
        alpha: &[u8],
        area: &Area,
        weigh: impl Fn(u16) -> u16 + Copy,
        empty: f32,
        field: &mut Field,
    ) {
        self.sums.gather(plane, alpha, area, 1, weigh);
        self.sums.smooth([NEAR; 2]);
        self.around.clone_from(&self.sums);
        self.around.smooth([FAR; 2]);
        self.sums.add(&self.around, FARTHER);
        self.sums.add_total(1e-9);
        self.sums.mean(empty, field);
    }
}

/// Replaces the colours of a run by those of the person alone.
pub(super) fn restore<T: Code>(run: &mut [T], alpha: &[u8], spill: &[f32], max: f32) {
    for ((c, &a), &s) in run.iter_mut().zip(alpha).zip(spill) {
        let code: f32 = (*c).into();
        *c = round(code + f32::from(255 - a) * (1.0 / 255.0) * s, max);
    }
}
