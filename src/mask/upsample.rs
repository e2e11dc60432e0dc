//! From the network's coarse grid to one byte of alpha per pixel of the frame.

use std::ops::Range;

use super::coverage::{Coverage, Curve, NOBODY, View};

/// Entries of the table from interpolated value to alpha.
const TABLE: usize = 4096;
/// Probabilities up to the first are background, from the second on person: networks are never quite certain, and a
/// haze over the whole background is worse than a slightly narrower edge.
const WINDOW: (f32, f32) = (0.1, 0.9);

/// Enlarges grids of one shape to frames of one size, bilinearly between cell centres.
pub struct Upsampler {
    threshold: Option<f32>,
    made_for: Option<(View, Curve, [usize; 4])>,
    gain: f32,
    across: Vec<Place>,
    down: Vec<Place>,
    table: Box<[u8; TABLE]>,
    /// The highest position in the table that still gives 0.
    low: f32,
    /// Positions in the table, and for each row of the grid the cells above `low`.
    grid: Vec<f32>,
    occupied: Vec<Range<usize>>,
    row: Vec<f32>,
}

/// Where a pixel lies between its cell and the next.
#[derive(Clone, Copy)]
struct Place {
    cell: u32,
    t: f32,
}

impl Upsampler {
    /// With a `threshold` alpha is 0 or 255, else soft.
    pub fn new(threshold: Option<f32>) -> Self {
        Self {
            threshold,
            made_for: None,
            gain: 0.0,
            across: Vec::new(),
            down: Vec::new(),
            table: Box::new([0; TABLE]),
            low: 0.0,
            grid: Vec::new(),
            occupied: Vec::new(),
            row: Vec::new(),
        }
    }

    /// Writes the alpha of a frame of `width` x `height` pixels, times `gain`.
    pub fn enlarge(&mut self, coverage: &Coverage, gain: f32, width: usize, height: usize, alpha: &mut [u8]) {
        let key = (coverage.view, coverage.curve, [coverage.width, coverage.height, width, height]);
        if self.made_for != Some(key) {
            let View { left, top, width: vw, height: vh } = coverage.view;
            self.across = axis(left, vw, coverage.width, width);
            self.down = axis(top, vh, coverage.height, height);
        }
        if self.made_for != Some(key) || self.gain != gain {
            self.tabulate(coverage.curve, gain);
        }
        self.made_for = Some(key);
        self.gain = gain;
        self.locate(coverage);
        let cells = coverage.width;
        for (line, place) in alpha.chunks_exact_mut(width).zip(&self.down) {
            let (upper, lower) = (place.cell as usize, (place.cell as usize + 1).min(coverage.height - 1));
            let (a, b) = (&self.occupied[upper], &self.occupied[lower]);
            if a.is_empty() && b.is_empty() {
                line.fill(0);
                continue;
            }
            // One more cell on each side, into which the occupied ones reach.
            let occupied = a.start.min(b.start).saturating_sub(1)..(a.end.max(b.end) + 1).min(cells);
            let part = |r: usize| &self.grid[r * cells..][occupied.clone()];
            self.row.clear();
            self.row.extend(part(upper).iter().zip(part(lower)).map(|(a, b)| a + place.t * (b - a)));
            // The last cell has no next one to lean on.
            self.row.push(*self.row.last().unwrap_or(&0.0));
            let first = self.across.partition_point(|p| (p.cell as usize) < occupied.start);
            let end = self.across.partition_point(|p| (p.cell as usize) < occupied.end);
            line[..first].fill(0);
            line[end..].fill(0);
            for (o, p) in line[first..end].iter_mut().zip(&self.across[first..end]) {
                let i = p.cell as usize - occupied.start;
                let (a, b) = (self.row[i], self.row[i + 1]);
                *o = self.table[(a + p.t * (b - a)) as i32 as usize & (TABLE - 1)];
            }
        }
    }

    /// Alpha by position, and the positions that give none.
    fn tabulate(&mut self, curve: Curve, gain: f32) {
        for (i, alpha) in self.table.iter_mut().enumerate() {
            let u = i as f32 / (TABLE - 1) as f32;
            let p = match curve {
                Curve::Logit => 1.0 / (1.0 + (-NOBODY * (1.0 - 2.0 * u)).exp()),
                Curve::Linear => u,
            };
            let soft = match self.threshold {
                Some(t) => f32::from(u8::from(p > t)),
                None => ((p - WINDOW.0) / (WINDOW.1 - WINDOW.0)).clamp(0.0, 1.0),
            };
            *alpha = (soft * gain * 255.0).round() as u8;
        }
        self.low = self.table.iter().take_while(|&&a| a == 0).count().saturating_sub(1) as f32;
    }

    /// Values to positions in the table, and the cells of each row that can give an alpha.
    fn locate(&mut self, coverage: &Coverage) {
        let end = (TABLE - 1) as f32;
        let (scale, shift) = match coverage.curve {
            Curve::Linear => (end, 0.0),
            Curve::Logit => (end / (-2.0 * NOBODY), end / 2.0),
        };
        self.grid.clear();
        self.grid.extend(coverage.values.iter().map(|v| (v * scale + shift).clamp(0.0, end)));
        self.occupied.clear();
        self.occupied.extend(self.grid.chunks_exact(coverage.width).map(|row| {
            let start = row.iter().position(|&v| v > self.low).unwrap_or(0);
            let end = row.iter().rposition(|&v| v > self.low).map_or(0, |i| i + 1);
            start..end
        }));
    }
}

/// For each of `pixels` pixels, its place between two cells. `start` and `length` are the frame's part of the grid, in
/// cells; cells beyond it are padding and are not touched.
fn axis(start: f32, length: f32, cells: usize, pixels: usize) -> Vec<Place> {
    // Padding may end inside a cell; then the part of the cell that is frame counts, to a quarter.
    let inside = |edge: f32| if (edge - edge.round()).abs() < 1e-3 { 0.5 } else { 0.25 };
    let (low, high) = (start + inside(start) - 0.5, start + length - inside(start + length) - 0.5);
    let last = cells as f32 - 1.0;
    let place = |i: usize| {
        let at = start + (i as f32 + 0.5) * length / pixels as f32 - 0.5;
        let at = at.clamp(low, high.max(low)).clamp(0.0, last);
        Place { cell: at as u32, t: at.fract() }
    };
    (0..pixels).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(width: usize, height: usize, values: Vec<f32>) -> Coverage {
        let view = View { left: 0.0, top: 0.0, width: width as f32, height: height as f32 };
        Coverage { width, height, values, view, curve: Curve::Linear, empty: false }
    }

    #[test]
    fn a_step_becomes_a_ramp_that_crosses_in_the_middle() {
        let mut alpha = vec![9; 8];
        Upsampler::new(None).enlarge(&coverage(2, 1, vec![0.0, 1.0]), 1.0, 8, 1, &mut alpha);
        assert_eq!(alpha[..2], [0, 0]);
        assert_eq!(alpha[6..], [255, 255]);
        assert_eq!(u32::from(alpha[3]) + u32::from(alpha[4]), 255);
        Upsampler::new(Some(0.5)).enlarge(&coverage(2, 1, vec![0.0, 1.0]), 1.0, 8, 1, &mut alpha);
        assert_eq!(alpha, [0, 0, 0, 0, 255, 255, 255, 255]);
    }

    #[test]
    fn gain_fades_the_whole_mask() {
        let mut alpha = vec![0; 16];
        Upsampler::new(None).enlarge(&coverage(2, 2, vec![1.0; 4]), 0.5, 4, 4, &mut alpha);
        assert_eq!(alpha, [128; 16]);
    }

    #[test]
    fn cells_in_the_padding_do_not_reach_the_frame() {
        // The frame is the middle two of four rows; the padding says person.
        let mut c = coverage(1, 4, vec![1.0, 0.0, 0.0, 1.0]);
        c.view = View { left: 0.0, top: 1.0, width: 1.0, height: 2.0 };
        let mut alpha = vec![7; 8];
        Upsampler::new(None).enlarge(&c, 1.0, 1, 8, &mut alpha);
        assert_eq!(alpha, [0; 8]);
    }
}
