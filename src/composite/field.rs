//! Local means of a plane on a coarse grid: cheap to gather, to smooth and to read back at full size.

use super::blend::{Code, View};

/// Weighted sums over the cells of a grid that covers a plane.
#[derive(Clone, Default)]
pub(super) struct Sums {
    width: usize,
    height: usize,
    /// Size of a cell in samples of the plane; each 1 or even.
    cell: [usize; 2],
    /// Sum of weight times code, and sum of weight.
    code: Vec<f32>,
    weight: Vec<f32>,
}

/// A smooth picture: one value in codes for each cell of a grid, read between them by linear interpolation.
#[derive(Default)]
pub(super) struct Field {
    width: usize,
    height: usize,
    cell: [usize; 2],
    value: Vec<f32>,
}

impl Sums {
    /// Adds up the plane's codes, weighted by `weigh(alpha)`, which must not exceed 256.
    pub(super) fn gather<T: Code>(
        &mut self,
        plane: View<T>,
        alpha: &[u8],
        cell: [usize; 2],
        weigh: impl Fn(u16) -> u16 + Copy,
    ) {
        debug_assert!(cell.iter().all(|&c| c == 1 || c % 2 == 0));
        let (w, h) = (plane.width.div_ceil(cell[0]), plane.height.div_ceil(cell[1]));
        (self.width, self.height, self.cell) = (w, h, cell);
        self.code.clear();
        self.weight.clear();
        let mut columns = vec![(0u32, 0u32); plane.width];
        for top in (0..plane.height).step_by(cell[1]) {
            columns.fill((0, 0));
            // Rows of one cell first: that loop has no order in x and runs on vectors. At most 64 rows of 16-bit codes
            // times 256 fit 32 bits.
            for y in top..plane.height.min(top + cell[1]) {
                let alpha = &alpha[y * plane.width..][..plane.width];
                for ((sum, &a), &c) in columns.iter_mut().zip(alpha).zip(plane.row(y)) {
                    let weight = weigh(u16::from(a));
                    let code: u32 = c.into();
                    sum.0 += u32::from(weight) * code;
                    sum.1 += u32::from(weight);
                }
            }
            for cell in columns.chunks(cell[0]) {
                self.code.push(cell.iter().map(|s| s.0 as f32).sum());
                self.weight.push(cell.iter().map(|s| s.1 as f32).sum());
            }
        }
    }

    /// Convolves with a Gaussian of `sigma` cells. What lies outside the plane counts for nothing.
    pub(super) fn smooth(&mut self, sigma: [f32; 2]) {
        let kernels = sigma.map(gaussian);
        let mut spare = vec![0.0; self.code.len()];
        for values in [&mut self.code, &mut self.weight] {
            convolve_rows(values, &mut spare, self.width, &kernels[0]);
            convolve_columns(&spare, values, self.width, &kernels[1]);
        }
    }

    /// Adds `other`, scaled by `by`.
    pub(super) fn add(&mut self, other: &Self, by: f32) {
        for (to, from) in [(&mut self.code, &other.code), (&mut self.weight, &other.weight)] {
            for (t, f) in to.iter_mut().zip(from) {
                *t += by * f;
            }
        }
    }

    /// Adds the sums over the whole plane to every cell, scaled by `by`.
    pub(super) fn add_total(&mut self, by: f32) {
        for values in [&mut self.code, &mut self.weight] {
            let total = by * values.iter().sum::<f32>();
            values.iter_mut().for_each(|v| *v += total);
        }
    }

    /// Divides; a cell that nothing reached becomes `empty`.
    pub(super) fn mean(&self, empty: f32, field: &mut Field) {
        (field.width, field.height, field.cell) = (self.width, self.height, self.cell);
        field.value.clear();
        field.value.extend(self.code.iter().zip(&self.weight).map(|(&c, &w)| if w > 0.0 { c / w } else { empty }));
    }
}

impl Field {
    /// Interpolates between the rows of the grid for row `y` of the plane. `line` gets one value a cell.
    pub(super) fn line(&self, y: usize, line: &mut Vec<f32>) {
        let at = ((y as f32 + 0.5) / self.cell[1] as f32 - 0.5).clamp(0.0, (self.height - 1) as f32);
        let (top, t) = (at as usize, at.fract());
        let bottom = (top + 1).min(self.height - 1);
        let row = |j: usize| &self.value[j * self.width..][..self.width];
        line.clear();
        line.extend(row(top).iter().zip(row(bottom)).map(|(&a, &b)| a + (b - a) * t));
    }

    /// Interpolates along a line from [`Field::line`]: the values of the samples from `start` on, as many as `out` holds.
    pub(super) fn along(&self, line: &[f32], start: usize, out: &mut [f32]) {
        let cell = self.cell[0];
        if cell == 1 {
            out.copy_from_slice(&line[start..][..out.len()]);
            return;
        }
        // Between the centres of two cells lie exactly `cell` samples. The stretch before the first centre counts as
        // stretch 0, so that stretch `s` runs from the centre of cell s-1 to that of cell s.
        let step = 1.0 / cell as f32;
        let last = self.width - 1;
        let mut done = 0;
        while done < out.len() {
            let x = start + done + cell / 2;
            let (stretch, k) = (x / cell, x % cell);
            let n = (cell - k).min(out.len() - done);
            let from = line[stretch.saturating_sub(1).min(last)];
            let slope = (line[stretch.min(last)] - from) * step;
            let first = from + slope * (k as f32 + 0.5);
            for (i, o) in out[done..done + n].iter_mut().enumerate() {
                *o = first + slope * i as f32;
            }
            done += n;
        }
    }
}

/// A symmetric kernel of odd length that reaches three sigmas, and sums to 1.
fn gaussian(sigma: f32) -> Vec<f32> {
    let reach = (3.0 * sigma).ceil() as i32;
    let mut kernel: Vec<f32> = (-reach..=reach).map(|i| (-0.5 * (i as f32 / sigma.max(1e-3)).powi(2)).exp()).collect();
    let sum: f32 = kernel.iter().sum();
    kernel.iter_mut().for_each(|k| *k /= sum);
    kernel
}

fn convolve_rows(from: &[f32], to: &mut [f32], width: usize, kernel: &[f32]) {
    let reach = kernel.len() / 2;
    for (from, to) in from.chunks_exact(width).zip(to.chunks_exact_mut(width)) {
        to.fill(0.0);
        for (i, &k) in kernel.iter().enumerate() {
            // to[x] += k * from[x + i - reach], where both exist.
            let (skip_to, skip_from) = (reach.saturating_sub(i).min(width), i.saturating_sub(reach).min(width));
            for (t, &f) in to[skip_to..].iter_mut().zip(&from[skip_from..]) {
                *t += k * f;
            }
        }
    }
}

fn convolve_columns(from: &[f32], to: &mut [f32], width: usize, kernel: &[f32]) {
    let reach = kernel.len() / 2;
    let height = from.len() / width;
    for (y, to) in to.chunks_exact_mut(width).enumerate() {
        to.fill(0.0);
        for (i, &k) in kernel.iter().enumerate() {
            if let Some(j) = (y + i).checked_sub(reach).filter(|&j| j < height) {
                for (t, &f) in to.iter_mut().zip(&from[j * width..][..width]) {
                    *t += k * f;
                }
            }
        }
    }
}
