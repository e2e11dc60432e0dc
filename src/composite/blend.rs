//! Rows of one plane: runs of alpha that need no arithmetic, and the blend of those that do.

use std::ops::Range;

use crate::frame::Sample;

/// A sample that can be mixed with another.
pub(super) trait Code: Sample + Into<f32> + PartialOrd {
    /// `round((alpha * front + (255 - alpha) * back) / 255)`, exactly.
    fn mix(alpha: u8, front: Self, back: Self) -> Self;
}

impl Code for u8 {
    #[inline(always)]
    fn mix(alpha: u8, front: Self, back: Self) -> Self {
        let (a, f, b) = (u16::from(alpha), u16::from(front), u16::from(back));
        // x / 255 = x / 256 + x / 256^2 + ...; two terms are exact for every x that fits here, and none overflows.
        let x = a * f + (255 - a) * b + 128;
        ((x + (x >> 8)) >> 8) as Self
    }
}

impl Code for u16 {
    #[inline(always)]
    fn mix(alpha: u8, front: Self, back: Self) -> Self {
        let (a, f, b) = (u32::from(alpha), u32::from(front), u32::from(back));
        // As above, with the third term that 24 bits need; nested, so that its carry is not lost.
        let x = a * f + (255 - a) * b + 128;
        ((x + ((x + (x >> 8)) >> 8)) >> 8) as Self
    }
}

/// The code nearest to `v`, which is clamped to 0..=`max`.
#[inline(always)]
pub(super) fn round<T: Code>(v: f32, max: f32) -> T {
    // At 2^23 the last bit of an f32 is worth one, so the addition rounds. Unlike `as`, this vectorises.
    T::from_u32((v.max(0.0).min(max) + 8_388_608.0).to_bits() & 0xFFFF)
}

/// The samples of a plane that are part of the picture.
#[derive(Clone, Copy)]
pub(super) struct View<'a, T> {
    pub samples: &'a [T],
    pub stride: usize,
    pub width: usize,
    pub height: usize,
}

impl<'a, T> View<'a, T> {
    pub(super) fn row(&self, y: usize) -> &'a [T] {
        &self.samples[y * self.stride..][..self.width]
    }
}

/// What a run of alpha asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// Alpha is 0 throughout: background only.
    Clear,
    /// Alpha is 255 throughout: person only.
    Solid,
    /// Anything else.
    Soft,
}

/// Cuts a row of alpha into its longest runs, on a grid of [`STEP`] pixels.
pub(super) fn runs(alpha: &[u8], mut each: impl FnMut(Run, Range<usize>)) {
    let (chunks, rest) = alpha.as_chunks::<STEP>();
    let kinds = chunks.iter().map(|c| match u128::from_ne_bytes(*c) {
        0 => Run::Clear,
        u128::MAX => Run::Solid,
        _ => Run::Soft,
    });
    let last = match rest {
        [] => None,
        r if r.iter().all(|&a| a == 0) => Some(Run::Clear),
        r if r.iter().all(|&a| a == 255) => Some(Run::Solid),
        _ => Some(Run::Soft),
    };
    let mut open: Option<(Run, usize)> = None;
    for (i, kind) in kinds.chain(last).enumerate() {
        match open {
            Some((now, _)) if now == kind => {}
            _ => {
                if let Some((before, start)) = open {
                    each(before, start..i * STEP);
                }
                open = Some((kind, i * STEP));
            }
        }
    }
    if let Some((kind, start)) = open {
        each(kind, start..alpha.len());
    }
}

/// Pixels that are looked at together.
pub(super) const STEP: usize = 16;

/// Lays `row` over the colour `back`, in place.
pub(super) fn over_colour<T: Code>(row: &mut [T], alpha: &[u8], back: T) {
    for (c, &a) in row.iter_mut().zip(alpha) {
        *c = T::mix(a, *c, back);
    }
}

/// Lays `row` over another row, in place.
pub(super) fn over_row<T: Code>(row: &mut [T], alpha: &[u8], back: &[T]) {
    for ((c, &a), &b) in row.iter_mut().zip(alpha).zip(back) {
        *c = T::mix(a, *c, b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounded division; 255 is odd, so no quotient lies half-way.
    fn reference(a: u64, f: u64, b: u64) -> u64 {
        (2 * (a * f + (255 - a) * b) + 255) / 510
    }

    #[test]
    fn eight_bit_blend_is_the_rounded_quotient_for_every_input() {
        for a in 0..=255u8 {
            for f in 0..=255u8 {
                for b in 0..=255u8 {
                    let want = reference(a.into(), f.into(), b.into());
                    assert_eq!(u64::from(u8::mix(a, f, b)), want, "{a} {f} {b}");
                }
            }
        }
    }

    #[test]
    fn sixteen_bit_blend_is_the_rounded_quotient() {
        let codes = (0..=65535u16).step_by(251).chain([1, 64, 940, 1023, 4095, 65534, 65535]);
        for f in codes.clone() {
            for b in codes.clone().step_by(7) {
                for a in 0..=255u8 {
                    let want = reference(a.into(), f.into(), b.into());
                    assert_eq!(u64::from(u16::mix(a, f, b)), want, "{a} {f} {b}");
                }
            }
        }
    }

    #[test]
    fn rounding_clamps_and_keeps_whole_codes() {
        for code in [0u16, 1, 255, 1023, 65535] {
            assert_eq!(round::<u16>(f32::from(code), 65535.0), code);
        }
        assert_eq!((round::<u8>(-3.0, 255.0), round::<u8>(300.0, 255.0), round::<u8>(16.6, 255.0)), (0, 255, 17));
    }

    #[test]
    fn runs_cover_the_row_once_and_say_what_is_in_it() {
        for len in [0, 1, 15, 16, 17, 100, 639] {
            // Flat stretches of different lengths with soft pixels between them.
            let alpha: Vec<u8> = (0..len).map(|x| [0, 0, 255, 255, 90][x / 23 % 5]).collect();
            let mut next = 0;
            let mut before = None;
            runs(&alpha, |kind, r| {
                assert_eq!(r.start, next);
                assert!(!r.is_empty() && before != Some(kind));
                let all = |v| alpha[r.clone()].iter().all(|&a| a == v);
                match kind {
                    Run::Clear => assert!(all(0)),
                    Run::Solid => assert!(all(255)),
                    Run::Soft => assert!(!all(0) && !all(255)),
                }
                (next, before) = (r.end, Some(kind));
            });
            assert_eq!(next, len);
        }
    }
}
