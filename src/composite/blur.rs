//! The frame's own background out of focus, without the persons in it.

use super::blend::{Code, View};
use super::despill::sharpened;
use super::field::{Area, Field, Sums};

/// Blurs one plane after the other; keeps its memory.
#[derive(Default)]
pub(super) struct Blur {
    area: Area,
    sums: Sums,
    field: Field,
}

impl Blur {
    /// The plane convolved with a Gaussian of standard deviation `sigma` (in samples, across and down), each pixel
    /// weighted by how little of it is person, so that persons leave no halo around themselves.
    pub(super) fn of<T: Code>(&mut self, plane: View<T>, alpha: &[u8], sigma: [f32; 2]) -> &Field {
        // A Gaussian of two cells or more, read back by linear interpolation, is smooth to the eye.
        let cell = sigma.map(|s| ((s / 2.0).max(1.0) as usize).ilog2().min(5)).map(|log2| 1 << log2);
        self.area.all(plane.width, plane.height, cell);
        self.sums.gather(plane, alpha, &self.area, 1, |a| sharpened(255 - a));
        self.sums.smooth([sigma[0] / cell[0] as f32, sigma[1] / cell[1] as f32]);
        // In the middle of a large person nothing else is near.
        self.sums.add_total(1e-9);
        self.sums.mean(0.0, &mut self.field);
        &self.field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W: usize = 240;
    const H: usize = 120;

    fn blurred(codes: &[u8], alpha: &[u8], sigma: f32) -> Vec<f32> {
        let mut blur = Blur::default();
        let field = blur.of(View { samples: codes, stride: W, width: W, height: H }, alpha, [sigma; 2]);
        let (mut line, mut out) = (Vec::new(), vec![0.0; W * H]);
        for (y, row) in out.chunks_exact_mut(W).enumerate() {
            field.line(y, &mut line);
            field.along(&line, 0, row);
        }
        out
    }

    #[test]
    fn a_person_leaves_no_halo_on_a_plain_wall() {
        let person = |i: usize| (100..140).contains(&(i % W)) && i / W > 30;
        let alpha: Vec<u8> = (0..W * H).map(|i| if person(i) { 255 } else { 0 }).collect();
        let codes: Vec<u8> = (0..W * H).map(|i| if person(i) { 250 } else { 40 }).collect();
        for sigma in [1.0, 3.0, 12.0] {
            let out = blurred(&codes, &alpha, sigma);
            assert!((0..W * H).all(|i| person(i) || (out[i] - 40.0).abs() < 0.01), "sigma {sigma}");
        }
    }

    #[test]
    fn an_edge_becomes_the_integral_of_a_gaussian() {
        let codes: Vec<u8> = (0..W * H).map(|i| if i % W < W / 2 { 0 } else { 200 }).collect();
        for sigma in [2.0f32, 6.0, 16.0] {
            let out = blurred(&codes, &[0; W * H], sigma);
            let row = &out[H / 2 * W..][..W];
            // At the edge one half; one and two standard deviations beyond it .8413 and .9772.
            for (distance, share) in [(0.0, 0.5), (1.0, 0.8413), (2.0, 0.9772)] {
                let at = W as f32 / 2.0 - 0.5 + distance * sigma;
                let (left, t) = (at as usize, at.fract());
                let value = row[left] + (row[left + 1] - row[left]) * t;
                assert!((value / 200.0 - share).abs() < 0.02, "sigma {sigma} at {distance}: {value}");
            }
        }
    }
}
