//! Sees when a scene is cut, and when a generator has lost the picture.

/// A tiny grey copy of a packed RGB picture.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Glance([u8; Glance::SIDE * Glance::SIDE]);

/// Mean difference of grey values from which on two frames belong to two scenes.
const CUT: f64 = 30.0;

/// A picture whose grey values stray less than this from their mean shows nothing.
const FLAT: f64 = 1.0;

/// An input that is nearly flat itself says nothing about the output.
const PLAIN: f64 = 4.0;

impl Glance {
    const SIDE: usize = 24;

    /// Looks at a few points of each cell. `stride` is the bytes of a row.
    pub(super) fn of(rgb: &[u8], stride: usize, width: usize, height: usize) -> Self {
        const POINTS: usize = 3;
        let mut cells = [0; Self::SIDE * Self::SIDE];
        let at = |cell: usize, point: usize, side: usize| {
            ((cell * POINTS + point) * 2 + 1) * side / (2 * POINTS * Self::SIDE)
        };
        for (i, cell) in cells.iter_mut().enumerate() {
            let mut sum = 0;
            for point in 0..POINTS * POINTS {
                let x = at(i % Self::SIDE, point % POINTS, width);
                let y = at(i / Self::SIDE, point / POINTS, height);
                let [r, g, b] = [0, 1, 2].map(|c| u32::from(rgb[y * stride + x * 3 + c]));
                sum += (2 * r + 5 * g + b) / 8;
            }
            *cell = (sum / (POINTS * POINTS) as u32) as u8;
        }
        Self(cells)
    }

    /// Whether a new scene begins here.
    pub(super) fn is_cut(&self, previous: &Self) -> bool {
        let sum: u32 = self.0.iter().zip(&previous.0).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
        f64::from(sum) / self.0.len() as f64 > CUT
    }

    /// Standard deviation of the grey values.
    pub(super) fn spread(&self) -> f64 {
        let n = self.0.len() as f64;
        let mean = self.0.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        (self.0.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt()
    }
}

/// Whether a picture is lost: it shows nothing, though what it was made from does.
pub(super) fn is_lost(made: &Glance, from: Option<&Glance>) -> bool {
    made.spread() < FLAT && from.is_none_or(|from| from.spread() >= PLAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(of: impl Fn(usize, usize) -> u8) -> Glance {
        let (w, h) = (97, 61);
        let rgb: Vec<u8> = (0..w * h).flat_map(|i| [of(i % w, i / w); 3]).collect();
        Glance::of(&rgb, w * 3, w, h)
    }

    #[test]
    fn a_moving_picture_is_no_cut_and_another_one_is() {
        let ramp = |shift: usize| picture(move |x, y| ((x + shift) * 2 + y) as u8);
        assert!(!ramp(3).is_cut(&ramp(0)));
        assert!(picture(|x, _| 255 - x as u8).is_cut(&picture(|x, _| x as u8)));
    }

    #[test]
    fn flat_is_lost_unless_the_input_is_flat_too() {
        let (flat, busy) = (picture(|_, _| 0), picture(|x, y| (x * y) as u8));
        assert!(is_lost(&flat, Some(&busy)) && is_lost(&flat, None));
        assert!(!is_lost(&flat, Some(&flat)) && !is_lost(&busy, Some(&busy)));
    }

    #[test]
    fn the_smallest_picture_has_a_glance() {
        assert_eq!(Glance::of(&[9, 9, 9], 3, 1, 1).spread(), 0.0);
    }
}
