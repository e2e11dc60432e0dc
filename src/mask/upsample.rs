//! From the network's coarse grid to one byte of alpha per pixel of the frame.

use super::coverage::{Coverage, Curve, View};

/// Entries of the table from interpolated value to alpha.
const TABLE: usize = 4096;
/// Logits beyond this are as good as certain.
const LOGIT_LIMIT: f32 = 12.0;
/// Probabilities up to the first are background, from the second on person: networks are never quite certain, and a
/// haze over the whole background is worse than a slightly narrower edge.
const WINDOW: (f32, f32) = (0.1, 0.9);

/// Enlarges grids of one shape to frames of one size, bilinearly between cell centres.
#[derive(Default)]
pub struct Upsampler {
    threshold: Option<f32>,
    made_for: Option<(View, Curve, [usize; 4])>,
    /// Per pixel of a row: where between its two cells it lies, 0..1.
    across: Vec<f32>,
    /// Pixels between the same two cells.
    spans: Vec<Span>,
    down: Vec<(u32, u32, f32)>,
    table: Vec<u8>,
    gain: f32,
    /// Table positions up to which alpha is 0, and from which it is at its greatest.
    low: f32,
    high: f32,
    grid: Vec<f32>,
    row: Vec<f32>,
}

#[derive(Clone, Copy)]
struct Span {
    from: u32,
    to: u32,
    left: u32,
    right: u32,
}

impl Upsampler {
    /// With a `threshold` alpha is 0 or 255, else soft.
    pub fn new(threshold: Option<f32>) -> Self {
        Self { threshold, gain: -1.0, ..Self::default() }
    }

    /// Writes the alpha of a frame of `width` x `height` pixels, times `gain`.
    pub fn enlarge(&mut self, coverage: &Coverage, gain: f32, width: usize, height: usize, alpha: &mut [u8]) {
        let key = (coverage.view, coverage.curve, [coverage.width, coverage.height, width, height]);
        if self.made_for != Some(key) {
            self.place(coverage, width, height);
            self.made_for = Some(key);
            self.gain = -1.0;
        }
        if self.gain != gain {
            self.tabulate(coverage.curve, gain);
        }
        self.positions(coverage);
        let top = self.table[TABLE - 1];
        for (line, &(upper, lower, t)) in alpha.chunks_exact_mut(width).zip(&self.down) {
            let cells = |r: u32| &self.grid[r as usize * coverage.width..][..coverage.width];
            self.row.clear();
            self.row.extend(cells(upper).iter().zip(cells(lower)).map(|(a, b)| a + t * (b - a)));
            let ends = |s: &Span| (self.row[s.left as usize], self.row[s.right as usize]);
            let mut spans = self.spans.iter().peekable();
            while let Some(span) = spans.next() {
                let (a, b) = ends(span);
                let is_low = |(a, b): (f32, f32)| a <= self.low && b <= self.low;
                let is_high = |(a, b): (f32, f32)| a >= self.high && b >= self.high;
                let mut to = span.to;
                if is_low((a, b)) {
                    while let Some(next) = spans.next_if(|s| is_low(ends(s))) {
                        to = next.to;
                    }
                    line[span.from as usize..to as usize].fill(0);
                } else if is_high((a, b)) {
                    while let Some(next) = spans.next_if(|s| is_high(ends(s))) {
                        to = next.to;
                    }
                    line[span.from as usize..to as usize].fill(top);
                } else {
                    let range = span.from as usize..to as usize;
                    for (o, t) in line[range.clone()].iter_mut().zip(&self.across[range]) {
                        let at = (a + t * (b - a)) as i32 as usize;
                        *o = self.table[at & (TABLE - 1)];
                    }
                }
            }
        }
    }

    /// Lays the frame's pixels over the grid.
    fn place(&mut self, coverage: &Coverage, width: usize, height: usize) {
        let View { left, top, width: vw, height: vh } = coverage.view;
        let x = axis(left, vw, coverage.width, width);
        let y = axis(top, vh, coverage.height, height);
        self.across = x.iter().map(|p| p.2).collect();
        self.down = y;
        self.spans.clear();
        for (i, &(a, b, _)) in x.iter().enumerate() {
            let i = i as u32;
            match self.spans.last_mut() {
                Some(s) if (s.left, s.right) == (a, b) => s.to = i + 1,
                _ => self.spans.push(Span { from: i, to: i + 1, left: a, right: b }),
            }
        }
    }

    fn tabulate(&mut self, curve: Curve, gain: f32) {
        let alpha = |i: usize| {
            let u = i as f32 / (TABLE - 1) as f32;
            let p = match curve {
                Curve::Logit => 1.0 / (1.0 + (LOGIT_LIMIT * (1.0 - 2.0 * u)).exp()),
                Curve::Linear => u,
            };
            let soft = match self.threshold {
                Some(t) => f32::from(u8::from(p > t)),
                None => ((p - WINDOW.0) / (WINDOW.1 - WINDOW.0)).clamp(0.0, 1.0),
            };
            (soft * gain * 255.0).round() as u8
        };
        self.table = (0..TABLE).map(alpha).collect();
        let top = self.table[TABLE - 1];
        self.low = self.table.iter().take_while(|&&a| a == 0).count() as f32 - 1.0;
        self.high = self.table.iter().take_while(|&&a| a < top).count() as f32;
        self.gain = gain;
    }

    /// Probabilities to positions in the table.
    fn positions(&mut self, coverage: &Coverage) {
        let end = (TABLE - 1) as f32;
        let position = |p: f32| match coverage.curve {
            Curve::Linear => p.clamp(0.0, 1.0) * end,
            Curve::Logit => {
                let logit = (p / (1.0 - p)).ln();
                (logit.clamp(-LOGIT_LIMIT, LOGIT_LIMIT) / (2.0 * LOGIT_LIMIT) + 0.5) * end
            }
        };
        // Most cells are nearly 0, and their logarithm is not needed.
        let faint = 6e-6;
        self.grid.clear();
        self.grid.extend(coverage.person.iter().map(|&p| if p <= faint { 0.0 } else { position(p) }));
    }
}

/// For each of `pixels` pixels, its two cells and its place between them. `start` and `length` are the frame's part of
/// the grid, in cells; cells beyond it are padding and are not touched.
fn axis(start: f32, length: f32, cells: usize, pixels: usize) -> Vec<(u32, u32, f32)> {
    // Padding may end inside a cell; then the part of the cell that is frame counts, to a quarter.
    let inside = |edge: f32| if (edge - edge.round()).abs() < 1e-3 { 0.5 } else { 0.25 };
    let (low, high) = (start + inside(start) - 0.5, start + length - inside(start + length) - 0.5);
    let last = cells as f32 - 1.0;
    (0..pixels)
        .map(|i| {
            let at = start + (i as f32 + 0.5) * length / pixels as f32 - 0.5;
            let at = at.clamp(low, high.max(low)).clamp(0.0, last);
            let cell = at.floor();
            (cell as u32, (cell as u32 + 1).min(cells as u32 - 1), at - cell)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coverage(width: usize, height: usize, person: Vec<f32>) -> Coverage {
        let view = View { left: 0.0, top: 0.0, width: width as f32, height: height as f32 };
        Coverage { width, height, person, view, curve: Curve::Linear, empty: false }
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
