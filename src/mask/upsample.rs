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
    /// The first pixel of each cell, and the end.
    starts: Vec<usize>,
    down: Vec<Place>,
    table: Box<[u8; TABLE]>,
    /// The last position in the table that gives 0, and the first that gives the most.
    low: usize,
    high: usize,
    /// For each row of the grid, the cells that give some alpha.
    occupied: Vec<Range<usize>>,
    /// A row between two of the grid's: positions in the table with [`FRACTION`] bits after the point.
    row: Vec<i32>,
}

/// Where a pixel lies between its cell and the next, in units of `1 << FRACTION`.
#[derive(Clone, Copy)]
struct Place {
    cell: u32,
    t: i32,
}

/// Cells that are looked through at once: most are all background or all person.
const BLOCK: usize = 16;

/// Bits after the point of weights and positions. The table has 12 bits, so their products keep within 31.
const FRACTION: u32 = 9;

impl Upsampler {
    /// With a `threshold` alpha is 0 or 255, else soft.
    pub fn new(threshold: Option<f32>) -> Self {
        Self {
            threshold,
            made_for: None,
            gain: 0.0,
            across: Vec::new(),
            starts: Vec::new(),
            down: Vec::new(),
            table: Box::new([0; TABLE]),
            low: 0,
            high: 0,
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
            let start = |cell: usize| self.across.partition_point(|p| (p.cell as usize) < cell);
            self.starts = (0..=coverage.width).map(start).collect();
        }
        if self.made_for != Some(key) || self.gain != gain {
            self.tabulate(coverage.curve, gain);
        }
        self.made_for = Some(key);
        self.gain = gain;
        let position = Position::of(coverage.curve);
        self.find_occupied(coverage, position);
        let cells = coverage.width;
        let (low, high) = ((self.low << FRACTION) as i32, (self.high << FRACTION) as i32);
        for (line, place) in alpha.chunks_exact_mut(width).zip(&self.down) {
            let (upper, lower) = (place.cell as usize, (place.cell as usize + 1).min(coverage.height - 1));
            let (a, b) = (&self.occupied[upper], &self.occupied[lower]);
            if a.is_empty() && b.is_empty() {
                line.fill(0);
                continue;
            }
            // One more cell on each side, into which the occupied ones reach.
            let occupied = a.start.min(b.start).saturating_sub(1)..(a.end.max(b.end) + 1).min(cells);
            let part = |r: usize| &coverage.values[r * cells..][occupied.clone()];
            let t = place.t as f32 / (1 << FRACTION) as f32;
            self.row.clear();
            self.row.extend(part(upper).iter().zip(part(lower)).map(|(a, b)| position.fixed(a + t * (b - a))));
            // The last cell has no next one to lean on.
            self.row.extend(self.row.last().copied());
            line[..self.starts[occupied.start]].fill(0);
            line[self.starts[occupied.end]..].fill(0);
            for cell in occupied.clone().step_by(BLOCK) {
                let block = cell..(cell + BLOCK).min(occupied.end);
                let values = &self.row[block.start - occupied.start..=block.end - occupied.start];
                let pixels = self.starts[block.start]..self.starts[block.end];
                let out = &mut line[pixels.clone()];
                if values.iter().fold(true, |all, &v| all & (v <= low)) {
                    out.fill(0);
                } else if values.iter().fold(true, |all, &v| all & (v >= high)) {
                    out.fill(self.table[TABLE - 1]);
                } else {
                    for (o, p) in out.iter_mut().zip(&self.across[pixels]) {
                        let i = p.cell as usize - block.start;
                        let (a, b) = (values[i], values[i + 1]);
                        let at = (a + (((b - a) * p.t) >> FRACTION)) >> FRACTION;
                        *o = self.table[at as usize & (TABLE - 1)];
                    }
                }
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
        let top = self.table[TABLE - 1];
        self.low = self.table.iter().take_while(|&&a| a == 0).count().saturating_sub(1);
        self.high = self.table.iter().take_while(|&&a| a < top).count();
    }

    /// For each row of the grid, where it can give some alpha.
    fn find_occupied(&mut self, coverage: &Coverage, position: Position) {
        let low = position.value(self.low as f32);
        let any = |block: &[f32]| block.iter().fold(false, |any, &v| any | (v > low));
        self.occupied.clear();
        self.occupied.extend(coverage.values.chunks_exact(coverage.width).map(|row| {
            let Some(start) = row.chunks(BLOCK).position(any) else { return 0..0 };
            let end = row.chunks(BLOCK).rposition(any).map_or(start, |i| i + 1);
            start * BLOCK..(end * BLOCK).min(coverage.width)
        }));
    }
}

/// How a value becomes a position in the table.
#[derive(Clone, Copy)]
struct Position {
    scale: f32,
    shift: f32,
}

impl Position {
    fn of(curve: Curve) -> Self {
        let end = (TABLE - 1) as f32;
        match curve {
            Curve::Linear => Self { scale: end, shift: 0.0 },
            Curve::Logit => Self { scale: end / (-2.0 * NOBODY), shift: end / 2.0 },
        }
    }

    fn fixed(self, value: f32) -> i32 {
        let at = (value * self.scale + self.shift).clamp(0.0, (TABLE - 1) as f32);
        (at * (1 << FRACTION) as f32) as i32
    }

    /// The value at a position.
    fn value(self, position: f32) -> f32 {
        (position - self.shift) / self.scale
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
        Place { cell: at as u32, t: (at.fract() * (1 << FRACTION) as f32) as i32 }
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
