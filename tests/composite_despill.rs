//! Soft edges of persons known to the last sample: despill brings the composite nearer to the truth.

use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use ffmpeg_next as ffmpeg;
use krea::colour::{Coding, GREEN, Rgb};
use krea::composite::{Background, CompositeStage};
use krea::frame::{Format, Frame, Mask, PicturePool, Pool, Time};
use krea::pipeline::Stage;

const W: usize = 320;
const H: usize = 180;

/// A person as a disc with a little texture, before a wall with a little texture.
struct Scene {
    person: [f64; 3],
    wall: [f64; 3],
    /// Width of the soft edge in pixels.
    edge: f64,
}

impl Scene {
    fn alpha(&self, x: usize, y: usize, shift: f64) -> f64 {
        let r = ((x as f64 - 160.0).powi(2) + (y as f64 - 90.0).powi(2)).sqrt();
        ((60.3 + shift - r) / self.edge + 0.5).clamp(0.0, 1.0)
    }

    fn person(&self, x: usize, y: usize) -> [f64; 3] {
        let t = 0.06 * ((x as f64 * 0.31).sin() + (y as f64 * 0.23).cos());
        self.person.map(|c| (c + t).clamp(0.0, 1.0))
    }

    fn wall(&self, x: usize, y: usize) -> [f64; 3] {
        let t = 0.05 * ((x as f64 * 0.17).cos() + (y as f64 * 0.41).sin()) + 0.1 * (x as f64 / W as f64 - 0.5);
        self.wall.map(|c| (c + t).clamp(0.0, 1.0))
    }

    /// The codes of the scene on `behind`, or on its own wall.
    fn codes(&self, coding: &Coding, x: usize, y: usize, behind: Option<Rgb>) -> [f64; 3] {
        let (a, f) = (self.alpha(x, y, 0.0), self.person(x, y));
        let b = behind.map_or_else(|| self.wall(x, y), |Rgb(c)| c.map(|c| f64::from(c) / 255.0));
        coding.encode([0, 1, 2].map(|i| a * f[i] + (1.0 - a) * b[i]))
    }

    /// The stage's composite on `colour`, when the mask's edge lies `shift` pixels outside the true one.
    fn composite(&self, pixel: Pixel, colour: Rgb, shift: f64, despill: bool) -> Video {
        let format = Format::of(pixel).unwrap();
        let mut picture = PicturePool::new(pixel, W as u32, H as u32).unwrap().get().unwrap();
        let coding = Coding::of(&picture, format);
        for p in 0..3 {
            let stride = picture.stride(p);
            let plane = picture.data_mut(p);
            for (y, x) in grid() {
                plane[y * stride + x] = self.codes(&coding, x, y, None)[p].round() as u8;
            }
        }
        let mut alpha = Pool::new().get(W * H);
        for (y, x) in grid() {
            alpha[y * W + x] = (self.alpha(x, y, shift) * 255.0).round() as u8;
        }
        composite(picture, Mask { width: W, height: H, alpha }, colour, despill)
    }

    /// Root mean square error in codes at the soft edge of [`Scene::composite`].
    fn error(&self, pixel: Pixel, colour: Rgb, shift: f64, despill: bool) -> f64 {
        let out = self.composite(pixel, colour, shift, despill);
        let coding = Coding::of(&out, Format::of(pixel).unwrap());
        let (mut sum, mut n) = (0.0, 0.0);
        for (y, x) in grid().filter(|&(y, x)| (0.02..0.98).contains(&self.alpha(x, y, 0.0))) {
            let truth = self.codes(&coding, x, y, Some(colour));
            for (p, truth) in truth.iter().enumerate() {
                sum += (f64::from(out.data(p)[y * out.stride(p) + x]) - truth).powi(2);
                n += 1.0;
            }
        }
        (sum / n).sqrt()
    }
}

fn grid() -> impl Iterator<Item = (usize, usize)> {
    (0..H).flat_map(|y| (0..W).map(move |x| (y, x)))
}

fn composite(picture: Video, mask: Mask, colour: Rgb, despill: bool) -> Video {
    let time = Time { pts: 0, duration: 1, base: ffmpeg::Rational(1, 25) };
    let mut out = None;
    CompositeStage::new(Background::Colour(colour), despill)
        .push(Frame { mask: Some(mask), ..Frame::new(picture, 0, time) }, &mut |f| {
            out = Some(f.picture);
            Ok(())
        })
        .unwrap();
    out.unwrap()
}

const SKIN: [f64; 3] = [0.75, 0.55, 0.45];
const DARK: [f64; 3] = [0.15, 0.12, 0.12];
const COLOURS: [Rgb; 2] = [GREEN, Rgb([255, 255, 255])];

fn scenes(edge: f64) -> impl Iterator<Item = Scene> {
    let pairs =
        [(SKIN, [0.2, 0.3, 0.8]), (SKIN, [0.1, 0.75, 0.2]), (DARK, [0.9, 0.9, 0.85]), (SKIN, [0.05, 0.05, 0.05])];
    pairs.into_iter().map(move |(person, wall)| Scene { person, wall, edge })
}

/// Mean error of the plain composite and of the one with despill, over all scenes and colours; both are printed.
/// A mean, because where alpha is wrong an old wall like the new one may by chance be what belongs there.
fn mean_errors(pixel: Pixel, edge: f64, shift: f64) -> [f64; 2] {
    let mut sums = [0.0; 2];
    for scene in scenes(edge) {
        for colour in COLOURS {
            let errors = [false, true].map(|despill| scene.error(pixel, colour, shift, despill));
            sums = [sums[0] + errors[0] / 8.0, sums[1] + errors[1] / 8.0];
        }
    }
    eprintln!(
        "{pixel:?}, edge of {edge} pixels, mask wider by {shift}: rms error {:.1} -> {:.1} codes",
        sums[0], sums[1]
    );
    sums
}

#[test]
fn with_the_true_alpha_most_of_the_old_background_goes() {
    for pixel in [Pixel::YUV444P, Pixel::GBRP] {
        for (edge, left) in [(3.0, 0.15), (8.0, 0.25), (16.0, 0.45)] {
            let [plain, clean] = mean_errors(pixel, edge, 0.0);
            assert!(clean < left * plain);
        }
    }
}

#[test]
fn with_alpha_off_by_a_pixel_it_does_good_on_the_whole() {
    for edge in [3.0, 8.0] {
        for shift in [-1.0, 1.0] {
            let [plain, clean] = mean_errors(Pixel::YUV444P, edge, shift);
            assert!(clean < plain);
        }
    }
}

#[test]
fn a_hard_edge_is_left_alone() {
    // With alpha of 0 and 255 only, despill changes no sample of planes at full size.
    let scene = Scene { person: SKIN, wall: [0.2, 0.3, 0.8], edge: 1e-9 };
    let [plain, clean] = [false, true].map(|despill| scene.composite(Pixel::YUV444P, GREEN, 0.0, despill));
    for p in 0..3 {
        for y in 0..H {
            let row = |v: &Video| v.data(p)[y * v.stride(p)..][..W].to_vec();
            assert_eq!(row(&plain), row(&clean));
        }
    }
}
