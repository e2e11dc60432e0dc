//! Local means of a plane on a coarse grid: cheap to gather, to smooth and to read back at full size.

use super::blend::{Code, Run, View, runs};

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

/// The cells of a grid over a plane that are worth looking at.
#[derive(Default)]
pub(super) struct Area {
    width: usize,
    height: usize,
    cell: [usize; 2],
    wanted: Vec<bool>,
}

/// A smooth picture: one value in codes for each cell of a grid, read between them by linear interpolation.
#[derive(Default)]
pub(super) struct Field {
    width: usize,
    height: usize,
    cell: [usize; 2],
    value: Vec<f32>,
}

impl Area {
    fn size(&mut self, width: usize, height: usize, cell: [usize; 2], wanted: bool) {
        debug_assert!(cell.iter().all(|&c| c == 1 || c % 2 == 0));
        (self.width, self.height, self.cell) = (width.div_ceil(cell[0]), height.div_ceil(cell[1]), cell);
        self.wanted.clear();
        self.wanted.resize(self.width * self.height, wanted);
    }

    /// The whole plane.
    pub(super) fn all(&mut self, width: usize, height: usize, cell: [usize; 2]) {
        self.size(width, height, cell, true);
    }

    pub(super) fn cell_height(&self) -> usize {
        self.cell[1]
    }

    /// Cells at most two away from one with soft alpha. False if there is none.
    pub(super) fn near_soft(&mut self, alpha: &[u8], width: usize, cell: [usize; 2]) -> bool {
        self.size(width, alpha.len() / width, cell, false);
        for (y, alpha) in alpha.chunks_exact(width).enumerate() {
            let row = &mut self.wanted[y / cell[1] * self.width..][..self.width];
            runs(alpha, |kind, run| {
                if kind == Run::Soft {
                    row[run.start / cell[0]..run.end.div_ceil(cell[0])].fill(true);
                }
            });
        }
        let soft = self.wanted.clone();
        for (i, _) in soft.iter().enumerate().filter(|(_, soft)| **soft) {
            let (x, y) = (i % self.width, i / self.width);
            for row in self.wanted.chunks_exact_mut(self.width).take(y + 3).skip(y.saturating_sub(2)) {
                row[x.saturating_sub(2)..(x + 3).min(self.width)].fill(true);
            }
        }
        soft.contains(&true)
    }
}

impl Sums {
    /// Adds up the plane's codes, weighted by `weigh(alpha)`, which must not exceed 256, in the cells of `area`,
    /// on every `nth` row.
    pub(super) fn gather<T: Code>(
        &mut self,
        plane: View<T>,
        alpha: &[u8],
        area: &Area,
        nth: usize,
        weigh: impl Fn(u16) -> u16 + Copy,
    ) {
        let cell = area.cell;
        (self.width, self.height, self.cell) = (area.width, area.height, cell);
        self.code.clear();
        self.code.resize(area.wanted.len(), 0.0);
        self.weight.clear();
        self.weight.resize(area.wanted.len(), 0.0);
        let (mut codes, mut weights) = (vec![0u32; plane.width], vec![0u32; plane.width]);
        for (j, wanted) in area.wanted.chunks_exact(area.width).enumerate() {
            let rows = j * cell[1]..plane.height.min((j + 1) * cell[1]);
            let mut first = 0;
            for stretch in wanted.chunk_by(PartialEq::eq) {
                let cells = first..first + stretch.len();
                first = cells.end;
                if !stretch[0] {
                    continue;
                }
                // All rows of the cells first: that loop has no order in x and runs on vectors. At most 64 rows of
                // 16-bit codes times 256 fit 31 bits.
                let across = cells.start * cell[0]..plane.width.min(cells.end * cell[0]);
                let (codes, weights) = (&mut codes[across.clone()], &mut weights[across.clone()]);
                codes.fill(0);
                weights.fill(0);
                for y in rows.clone().step_by(nth) {
                    let alpha = &alpha[y * plane.width..][across.clone()];
                    let row = &plane.row(y)[across.clone()];
                    runs(alpha, |kind, r| {
                        let (codes, weights) = (&mut codes[r.clone()], &mut weights[r.clone()]);
                        match kind {
                            Run::Clear => add_evenly(codes, weights, &row[r], weigh(0)),
                            Run::Solid => add_evenly(codes, weights, &row[r], weigh(255)),
                            Run::Soft => {
                                for (((s, w), &c), &a) in
                                    codes.iter_mut().zip(weights).zip(&row[r.clone()]).zip(&alpha[r])
                                {
                                    let (weight, code): (u16, u32) = (weigh(a.into()), c.into());
                                    *s += u32::from(weight) * code;
                                    *w += u32::from(weight);
                                }
                            }
                        }
                    });
                }
                let line = j * area.width;
                for (k, (s, w)) in codes.chunks(cell[0]).zip(weights.chunks(cell[0])).enumerate() {
                    // Through i32, which converts on vectors; there is room.
                    self.code[line + cells.start + k] = s.iter().map(|&v| v as i32 as f32).sum();
                    self.weight[line + cells.start + k] = w.iter().map(|&v| v as i32 as f32).sum();
                }
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
    /// Computes each value from those of fields on the same grid.
    pub(super) fn combine<const N: usize>(&mut self, fields: [&Self; N], f: impl Fn([f32; N]) -> f32) {
        (self.width, self.height, self.cell) = (fields[0].width, fields[0].height, fields[0].cell);
        self.value.clear();
        self.value.extend((0..self.width * self.height).map(|i| f(fields.map(|field| field.value[i]))));
    }

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
            ramp(&mut out[done..done + n], first, slope);
            done += n;
        }
    }
}

fn ramp(out: &mut [f32], first: f32, slope: f32) {
    let (fours, rest) = out.as_chunks_mut::<4>();
    let mut at = first;
    for four in fours {
        *four = [at, at + slope, at + 2.0 * slope, at + 3.0 * slope];
        at += 4.0 * slope;
    }
    for o in rest {
        *o = at;
        at += slope;
    }
}

/// As the loop for soft runs, with one weight for all.
fn add_evenly<T: Code>(codes: &mut [u32], weights: &mut [u32], row: &[T], weight: u16) {
    if weight == 0 {
        return;
    }
    for (s, &c) in codes.iter_mut().zip(row) {
        let code: u32 = c.into();
        *s += u32::from(weight) * code;
    }
    for w in weights {
        *w += u32::from(weight);
    }
}

/// A symmetric kernel of odd length that reaches two and a half sigmas, and sums to 1.
fn gaussian(sigma: f32) -> Vec<f32> {
    let reach = (2.5 * sigma).ceil() as i32;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn view(samples: &[u16], width: usize) -> View<'_, u16> {
        View { samples, stride: width, width, height: samples.len() / width }
    }

    #[test]
    fn cells_hold_weighted_means() {
        let (w, h) = (37, 11);
        let codes: Vec<u16> = (0..w * h).map(|i| (i * 7919 % 65536) as u16).collect();
        let alpha: Vec<u8> = (0..w * h).map(|i| [0, 255, 77][i / 20 % 3]).collect();
        for cell in [[1, 1], [4, 2], [16, 8]] {
            let (mut area, mut sums, mut field) = (Area::default(), Sums::default(), Field::default());
            area.all(w, h, cell);
            sums.gather(view(&codes, w), &alpha, &area, 1, |a| 255 - a);
            sums.mean(-1.0, &mut field);
            for (i, &value) in field.value.iter().enumerate() {
                let (x, y) = (i % field.width * cell[0], i / field.width * cell[1]);
                let (mut sum, mut weight) = (0.0, 0.0);
                for (y, x) in (y..h.min(y + cell[1])).flat_map(|y| (x..w.min(x + cell[0])).map(move |x| (y, x))) {
                    sum += f64::from(255 - alpha[y * w + x]) * f64::from(codes[y * w + x]);
                    weight += f64::from(255 - alpha[y * w + x]);
                }
                let want = if weight > 0.0 { sum / weight } else { -1.0 };
                assert!((f64::from(value) - want).abs() < 0.05, "{cell:?} cell {i}: {value} {want}");
            }
        }
    }

    #[test]
    fn a_ramp_is_read_back_as_a_ramp_wherever_reading_starts() {
        let (w, h) = (70, 40);
        let codes: Vec<u16> = (0..w * h).map(|i| (100 + 10 * (i % w) + 5 * (i / w)) as u16).collect();
        for cell in [[1, 1], [2, 4], [8, 8]] {
            let (mut area, mut sums, mut field) = (Area::default(), Sums::default(), Field::default());
            area.all(w, h, cell);
            sums.gather(view(&codes, w), &vec![255; w * h], &area, 1, |a| a);
            sums.mean(0.0, &mut field);
            let mut line = Vec::new();
            for y in 4..32 {
                field.line(y, &mut line);
                for start in [4, 5, 11, 30] {
                    let mut out = [0.0; 29];
                    field.along(&line, start, &mut out);
                    for (i, v) in out.iter().enumerate() {
                        let want = (100 + 10 * (start + i) + 5 * y) as f32;
                        assert!((v - want).abs() < 0.01, "{cell:?} row {y} at {}: {v} {want}", start + i);
                    }
                }
            }
        }
    }

    #[test]
    fn only_cells_near_soft_alpha_are_wanted() {
        let (w, h) = (160, 160);
        let mut alpha = vec![0u8; w * h];
        let mut area = Area::default();
        assert!(!area.near_soft(&alpha, w, [16, 16]) && !area.wanted.contains(&true));
        alpha[5 * 16 * w + 5 * 16] = 9;
        assert!(area.near_soft(&alpha, w, [16, 16]));
        for (i, &wanted) in area.wanted.iter().enumerate() {
            assert_eq!(wanted, (i % 10).abs_diff(5) <= 2 && (i / 10).abs_diff(5) <= 2);
        }
    }
}
