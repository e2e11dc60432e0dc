//! One plane of persons laid on one plane of background.

use std::ops::Range;

use super::blend::{Code, Run, View, over_colour, over_row, round, runs};
use super::despill::{Surroundings, restore};
use super::field::Field;

/// What is behind the persons in one plane.
pub(super) enum Back<'a, T> {
    Colour(T),
    Picture(View<'a, T>),
    Field(&'a Field),
    /// Nothing: the plane keeps straight colours, and alpha goes elsewhere. Where no person is, the field takes the
    /// place of the picture.
    Hidden(&'a Field),
}

/// Everything that one plane needs.
pub(super) struct Layer<'a, T> {
    /// Alpha at the plane's own size.
    pub alpha: &'a [u8],
    pub back: Back<'a, T>,
    /// With which soft edges are freed from the old background.
    pub despill: Option<&'a Surroundings>,
    /// The largest code.
    pub max: f32,
}

/// A row of a field, interpolated on demand.
#[derive(Default)]
struct FieldRow {
    /// The row that `line` belongs to.
    y: Option<usize>,
    line: Vec<f32>,
    values: Vec<f32>,
}

impl FieldRow {
    fn read(&mut self, field: &Field, y: usize, run: &Range<usize>) -> &[f32] {
        if self.y != Some(y) {
            field.line(y, &mut self.line);
            self.y = Some(y);
        }
        if self.values.len() < run.len() {
            self.values.resize(run.len(), 0.0);
        }
        let values = &mut self.values[..run.len()];
        field.along(&self.line, run.start, values);
        values
    }
}

impl<T: Code> Layer<'_, T> {
    /// Fills `target`, a plane of `width` samples and as many rows as alpha has. The persons come from `source`, or
    /// are in the target already.
    pub(super) fn lay(&self, source: Option<View<T>>, target: &mut [T], stride: usize, width: usize) {
        let mut steps = FieldRow::default();
        let mut back = FieldRow::default();
        let mut codes: Vec<T> = Vec::new();
        for (y, alpha) in self.alpha.chunks_exact(width).enumerate() {
            let row = &mut target[y * stride..][..width];
            runs(alpha, |kind, run| {
                if kind != Run::Clear
                    && let Some(source) = source
                {
                    row[run.clone()].copy_from_slice(&source.row(y)[run.clone()]);
                }
                let (row, alpha) = (&mut row[run.clone()], &alpha[run.clone()]);
                if kind == Run::Solid {
                    return;
                }
                if kind == Run::Soft
                    && let Some(spill) = self.despill
                {
                    restore(row, alpha, steps.read(spill.spill(), y, &run), self.max);
                }
                match (&self.back, kind) {
                    (&Back::Colour(colour), Run::Clear) => row.fill(colour),
                    (&Back::Colour(colour), _) => over_colour(row, alpha, colour),
                    (Back::Picture(view), Run::Clear) => row.copy_from_slice(&view.row(y)[run]),
                    (Back::Picture(view), _) => over_row(row, alpha, &view.row(y)[run]),
                    (Back::Field(field), Run::Clear) => write(row, back.read(field, y, &run), self.max),
                    (Back::Field(field), _) => {
                        codes.resize(run.len(), T::default());
                        write(&mut codes, back.read(field, y, &run), self.max);
                        over_row(row, alpha, &codes);
                    }
                    (Back::Hidden(field), _) => hide(row, alpha, back.read(field, y, &run), self.max),
                }
            });
        }
    }
}

fn write<T: Code>(row: &mut [T], values: &[f32], max: f32) {
    for (c, &v) in row.iter_mut().zip(values) {
        *c = round(v, max);
    }
}

/// Replaces what alpha hides.
fn hide<T: Code>(row: &mut [T], alpha: &[u8], values: &[f32], max: f32) {
    for ((c, &a), &v) in row.iter_mut().zip(alpha).zip(values) {
        *c = if a == 0 { round(v, max) } else { *c };
    }
}
