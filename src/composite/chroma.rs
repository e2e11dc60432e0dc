//! Alpha for planes that are smaller than the frame: the mean over the pixels that a chroma sample stands for, centred
//! where the sample lies.

use ffmpeg::chroma::Location;
use ffmpeg_next as ffmpeg;

use crate::frame::Format;

/// One direction of the mean: `weights` on the pixels from `step * i + first`, for sample `i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Taps {
    step: usize,
    first: isize,
    weights: &'static [u16],
}

const WHOLE: Taps = Taps { step: 1, first: 0, weights: &[1] };
/// The sample lies between its two pixels.
const BETWEEN: Taps = Taps { step: 2, first: 0, weights: &[1, 1] };
/// The sample lies on the first of its two pixels.
const ON_FIRST: Taps = Taps { step: 2, first: -1, weights: &[1, 2, 1] };
/// The sample lies on the second of its two pixels.
const ON_SECOND: Taps = Taps { step: 2, first: 0, weights: &[1, 2, 1] };
/// One sample for four pixels (4:1:1); where exactly it lies is within a pixel or two.
const FOUR: Taps = Taps { step: 4, first: 0, weights: &[1, 1, 1, 1] };

/// Where chroma samples lie among the pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Siting {
    across: Taps,
    down: Taps,
}

impl Siting {
    /// From the format and what the frame says of itself. Unmarked chroma is sited left, as MPEG-2 and H.264 have it.
    pub(super) fn of(format: Format, location: Location) -> Self {
        let centred = matches!(location, Location::Center | Location::Top | Location::Bottom);
        let across = match format.log2_chroma_w {
            0 => WHOLE,
            1 if centred => BETWEEN,
            1 => ON_FIRST,
            _ => FOUR,
        };
        let down = match (format.log2_chroma_h, location) {
            (0, _) => WHOLE,
            (1, Location::TopLeft | Location::Top) => ON_FIRST,
            (1, Location::BottomLeft | Location::Bottom) => ON_SECOND,
            (1, _) => BETWEEN,
            _ => FOUR,
        };
        Self { across, down }
    }

    /// Reduces `alpha` of `width` x `height` to the size of the chroma planes. Flat areas stay exactly as they are; past
    /// the frame's edge its last pixel goes on.
    pub(super) fn reduce(&self, alpha: &[u8], width: usize, height: usize, out: &mut Vec<u8>) {
        let (w, h) = (width.div_ceil(self.across.step), height.div_ceil(self.down.step));
        out.resize(w * h, 0);
        if w * h == 0 {
            return;
        }
        let shift = (self.across.total() * self.down.total()).ilog2();
        // A column to the left, and as many as the taps may reach to the right.
        let mut sums = vec![0u16; 1 + w * self.across.step + 3];
        for (y, out) in out.chunks_exact_mut(w).enumerate() {
            let row = |k: usize| {
                let y = (self.down.step * y + k).saturating_add_signed(self.down.first).min(height - 1);
                &alpha[y * width..][..width]
            };
            let first = row(0);
            let flat = first[0];
            if (0..self.down.weights.len()).all(|k| is_flat(row(k), flat)) {
                out.fill(flat);
                continue;
            }
            let inner = &mut sums[1..=width];
            match self.down.weights {
                [_] => add(inner, [(first, 1)]),
                [_, _] => add(inner, [(first, 1), (row(1), 1)]),
                [_, m, _] => add(inner, [(first, 1), (row(1), *m), (row(2), 1)]),
                _ => add(inner, [(first, 1), (row(1), 1), (row(2), 1), (row(3), 1)]),
            }
            sums[0] = sums[1];
            let edge = sums[width];
            sums[width + 1..].fill(edge);
            fold(&sums, self.across, shift, out);
        }
    }
}

impl Taps {
    fn total(&self) -> u16 {
        self.weights.iter().sum()
    }
}

fn is_flat(row: &[u8], value: u8) -> bool {
    let wide = u128::from_ne_bytes([value; 16]);
    let (chunks, rest) = row.as_chunks::<16>();
    chunks.iter().all(|c| u128::from_ne_bytes(*c) == wide) && rest.iter().all(|&a| a == value)
}

/// Weighted sum of `N` rows.
fn add<const N: usize>(sums: &mut [u16], rows: [(&[u8], u16); N]) {
    for (x, s) in sums.iter_mut().enumerate() {
        let mut v = 0;
        for (row, weight) in rows {
            v += weight * u16::from(row[x]);
        }
        *s = v;
    }
}

/// Weighted sum of neighbours in `sums`, whose first entry lies one pixel to the left of the row, and the division.
fn fold(sums: &[u16], taps: Taps, shift: u32, out: &mut [u8]) {
    let half = (1u16 << shift) >> 1;
    let n = out.len();
    let from = &sums[taps.first.saturating_add(1) as usize..];
    match taps.weights {
        [_] => {
            for (o, &s) in out.iter_mut().zip(from) {
                *o = ((s + half) >> shift) as u8;
            }
        }
        [_, _] => {
            for (o, s) in out.iter_mut().zip(from.chunks_exact(2)) {
                *o = ((s[0] + s[1] + half) >> shift) as u8;
            }
        }
        [_, _, _] => {
            let next = &from[2..];
            for ((o, s), t) in out.iter_mut().zip(from[..2 * n].chunks_exact(2)).zip(next.chunks(2)) {
                *o = ((s[0] + 2 * s[1] + t[0] + half) >> shift) as u8;
            }
        }
        _ => {
            for (o, s) in out.iter_mut().zip(from.chunks_exact(4)) {
                *o = ((s[0] + s[1] + s[2] + s[3] + half) >> shift) as u8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ffmpeg::format::Pixel;

    fn siting(pixel: Pixel, location: Location) -> Siting {
        Siting::of(Format::of(pixel).unwrap(), location)
    }

    /// The definition, written out with real numbers.
    fn reference(s: Siting, alpha: &[u8], width: usize, height: usize) -> Vec<u8> {
        let at = |x: isize, y: isize| {
            let (x, y) = (x.clamp(0, width as isize - 1), y.clamp(0, height as isize - 1));
            f64::from(alpha[y as usize * width + x as usize])
        };
        let mut out = Vec::new();
        for y in 0..height.div_ceil(s.down.step) {
            for x in 0..width.div_ceil(s.across.step) {
                let (mut sum, mut total) = (0.0, 0.0);
                for (j, &wy) in s.down.weights.iter().enumerate() {
                    for (i, &wx) in s.across.weights.iter().enumerate() {
                        let w = f64::from(wx * wy);
                        let px = (x * s.across.step + i) as isize + s.across.first;
                        sum += w * at(px, (y * s.down.step + j) as isize + s.down.first);
                        total += w;
                    }
                }
                out.push((sum / total + 0.5).floor() as u8);
            }
        }
        out
    }

    const LOCATIONS: [Location; 7] = [
        Location::Unspecified,
        Location::Left,
        Location::Center,
        Location::TopLeft,
        Location::Top,
        Location::BottomLeft,
        Location::Bottom,
    ];
    const PIXELS: [Pixel; 6] =
        [Pixel::YUV420P, Pixel::YUV422P, Pixel::YUV444P, Pixel::YUV440P, Pixel::YUV411P, Pixel::YUV410P];

    #[test]
    fn the_mean_is_the_weighted_mean_at_every_size() {
        for (w, h) in [(1, 1), (2, 3), (33, 17), (64, 8), (5, 1)] {
            let alpha: Vec<u8> = (0..w * h).map(|i| ((i * 2_654_435_761) >> 9) as u8).collect();
            for pixel in PIXELS {
                for location in LOCATIONS {
                    let s = siting(pixel, location);
                    let mut out = Vec::new();
                    s.reduce(&alpha, w, h, &mut out);
                    assert_eq!(out, reference(s, &alpha, w, h), "{pixel:?} {location:?} {w}x{h}");
                }
            }
        }
    }

    #[test]
    fn flat_alpha_stays_exact() {
        for value in [0, 255] {
            for pixel in PIXELS {
                let mut out = Vec::new();
                siting(pixel, Location::Left).reduce(&[value; 33 * 17], 33, 17, &mut out);
                assert!(!out.is_empty() && out.iter().all(|&a| a == value), "{pixel:?}");
            }
        }
    }

    #[test]
    fn a_left_sited_sample_sees_as_much_of_an_edge_on_either_side() {
        // A step up at pixel 4: sample 2 lies on pixel 4, sample 1 on pixel 2, out of reach of the edge.
        let alpha = [0, 0, 0, 0, 255, 255, 255, 255];
        let mut out = Vec::new();
        siting(Pixel::YUV422P, Location::Left).reduce(&alpha, 8, 1, &mut out);
        assert_eq!(out, [0, 0, 191, 255]);
        siting(Pixel::YUV422P, Location::Center).reduce(&alpha, 8, 1, &mut out);
        assert_eq!(out, [0, 0, 255, 255]);
    }
}
