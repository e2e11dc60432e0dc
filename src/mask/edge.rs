//! Moves and softens the edge of a full-size mask. All filters are separable, and see only pixels within the frame, so
//! that a person whom the frame cuts off is not eroded from the cut.

/// What is done to the edge, in whole pixels.
pub struct Edge {
    /// Outwards if positive.
    shift: i32,
    /// Radius of the blur.
    feather: usize,
    scratch: Vec<u8>,
    sums: Vec<u32>,
}

impl Edge {
    /// `feather` and `shift` in pixels, rounded.
    pub fn new(feather: f32, shift: f32) -> Self {
        let feather = feather.max(0.0).round() as usize;
        Self { shift: shift.round() as i32, feather, scratch: Vec::new(), sums: Vec::new() }
    }

    /// Feathering goes inwards: the mask is first made smaller by the blur's radius, so that no background shows.
    pub fn apply(&mut self, alpha: &mut [u8], width: usize) {
        let shift = self.shift - self.feather as i32;
        if shift > 0 {
            self.window(alpha, width, shift as usize, u8::max);
        } else if shift < 0 {
            self.window(alpha, width, shift.unsigned_abs() as usize, u8::min);
        }
        if self.feather > 0 {
            self.blur(alpha, width);
        }
    }

    /// The value within `radius` that `pick` prefers, by rows and then by columns.
    fn window(&mut self, alpha: &mut [u8], width: usize, radius: usize, pick: impl Fn(u8, u8) -> u8) {
        let merge = |into: &mut [u8], from: &[u8]| into.iter_mut().zip(from).for_each(|(a, &b)| *a = pick(*a, b));
        self.scratch.clear();
        self.scratch.extend_from_slice(alpha);
        for (line, source) in alpha.chunks_exact_mut(width).zip(self.scratch.chunks_exact(width)) {
            for k in 1..=radius.min(width - 1) {
                merge(line, &source[k..]);
                merge(&mut line[k..], source);
            }
        }
        self.scratch.copy_from_slice(alpha);
        let height = alpha.len() / width;
        for (y, line) in alpha.chunks_exact_mut(width).enumerate() {
            for other in y.saturating_sub(radius)..(y + radius + 1).min(height) {
                merge(line, &self.scratch[other * width..][..width]);
            }
        }
    }

    /// The mean of a square window; at the frame's edge, of the part within the frame.
    fn blur(&mut self, alpha: &mut [u8], width: usize) {
        let (radius, height) = (self.feather, alpha.len() / width);
        self.scratch.resize(alpha.len(), 0);
        for (out, line) in self.scratch.chunks_exact_mut(width).zip(alpha.chunks_exact(width)) {
            if line.iter().all(|&a| a == line[0]) {
                out.fill(line[0]);
                continue;
            }
            let (mut sum, mut count) = (0u32, 0u32);
            for &a in &line[..radius.min(width)] {
                sum += u32::from(a);
                count += 1;
            }
            for (x, o) in out.iter_mut().enumerate() {
                if x + radius < width {
                    sum += u32::from(line[x + radius]);
                    count += 1;
                }
                if x > radius {
                    sum -= u32::from(line[x - radius - 1]);
                    count -= 1;
                }
                *o = ((sum + count / 2) / count) as u8;
            }
        }
        self.sums.clear();
        self.sums.resize(width, 0);
        let row = |y: usize| &self.scratch[y * width..][..width];
        let mut count = 0;
        for y in 0..radius.min(height) {
            self.sums.iter_mut().zip(row(y)).for_each(|(s, &a)| *s += u32::from(a));
            count += 1;
        }
        for (y, line) in alpha.chunks_exact_mut(width).enumerate() {
            if y + radius < height {
                self.sums.iter_mut().zip(row(y + radius)).for_each(|(s, &a)| *s += u32::from(a));
                count += 1;
            }
            if y > radius {
                self.sums.iter_mut().zip(row(y - radius - 1)).for_each(|(s, &a)| *s -= u32::from(a));
                count -= 1;
            }
            // Exact for sums up to 2^16 windows of 255, and free of divisions.
            let reciprocal = 1.0 / count as f32;
            line.iter_mut().zip(&self.sums).for_each(|(o, &s)| *o = (s as i32 as f32 * reciprocal + 0.5) as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bar of person from column 8 to the right edge of 24 columns, on 6 rows.
    fn bar() -> Vec<u8> {
        (0..6 * 24).map(|i| if i % 24 >= 8 { 255 } else { 0 }).collect()
    }

    #[test]
    fn shifting_moves_the_edge_but_not_the_cut_at_the_frame() {
        for (shift, first) in [(3.0, 5), (-3.0, 11), (0.4, 8), (20.0, 0)] {
            let mut alpha = bar();
            Edge::new(0.0, shift).apply(&mut alpha, 24);
            for row in alpha.chunks(24) {
                assert_eq!(row.iter().position(|&a| a == 255), Some(first), "{shift}");
                assert!(row[first..].iter().all(|&a| a == 255));
            }
        }
    }

    #[test]
    fn feathering_softens_inwards_only() {
        let mut alpha = bar();
        Edge::new(2.0, 0.0).apply(&mut alpha, 24);
        for row in alpha.chunks(24) {
            assert!(row[..8].iter().all(|&a| a == 0), "{row:?}");
            assert_eq!(row[8..13], [51, 102, 153, 204, 255]);
            assert!(row[12..].iter().all(|&a| a == 255));
        }
    }

    #[test]
    fn a_radius_larger_than_the_frame_is_harmless() {
        let mut alpha = vec![255; 9];
        Edge::new(50.0, -50.0).apply(&mut alpha, 3);
        assert_eq!(alpha, [255; 9]);
    }
}
