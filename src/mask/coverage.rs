//! What a network says about a frame, at the network's own resolution, and the networks' common interface.

use ffmpeg_next::frame::Video;

use crate::frame::{Format, Sample, plane};

use super::letterbox::Fit;

/// How surely each cell of a network's grid is person.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// Cells in a row, rows.
    pub width: usize,
    pub height: usize,
    /// Row-major; what the numbers are, `curve` says.
    pub values: Vec<f32>,
    pub curve: Curve,
    pub view: View,
    /// No person is in the frame.
    pub empty: bool,
}

/// The part of the grid that shows the frame, in cells; cell k reaches from k to k + 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct View {
    pub left: f32,
    pub top: f32,
    pub width: f32,
    pub height: f32,
}

impl View {
    /// The frame's place on a grid of `width` x `height` cells that covers the canvas.
    pub fn of(fit: Fit, width: usize, height: usize) -> Self {
        let (kx, ky) = (width as f32 / fit.canvas.0 as f32, height as f32 / fit.canvas.1 as f32);
        Self {
            left: fit.left as f32 * kx,
            top: fit.top as f32 * ky,
            width: fit.size.0 as f32 * kx,
            height: fit.size.1 as f32 * ky,
        }
    }
}

/// What a grid's values are. Values between two cells are found in the same terms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Curve {
    /// Log odds: an edge stays as sharp as the network drew it. [`NOBODY`] is as good as minus infinity.
    #[default]
    Logit,
    /// Probabilities, 0..=1.
    Linear,
}

/// The logit of "surely not a person".
pub const NOBODY: f32 = -12.0;

/// A network that finds the persons of one frame after the other. Each instance serves one thread.
pub trait Network: Send {
    /// Fills `out`. An error is a message for the user.
    fn find(&mut self, picture: &Video, format: Format, out: &mut Coverage) -> Result<(), String>;

    /// Runs once on nothing in particular, and tells if what comes out does not have the shape that it should have.
    fn try_out(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Which persons count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Keep this many at most, the largest ones.
    pub limit: Option<usize>,
}

/// A tiny grey copy of a frame, by which cuts are seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Thumbnail(pub Box<[u8; Self::WIDTH * Self::HEIGHT]>);

impl Thumbnail {
    pub const WIDTH: usize = 32;
    pub const HEIGHT: usize = 18;

    /// Of a picture that cannot be looked at.
    pub fn blank() -> Self {
        Self(Box::new([0; _]))
    }

    /// Averages samples of the first plane (luma or green), scaled to 8 bits.
    pub fn of(picture: &Video, format: Format) -> Self {
        match format.depth {
            8 => Self::read::<u8>(picture, 0),
            depth => Self::read::<u16>(picture, u32::from(depth) - 8),
        }
    }

    fn read<T: Sample>(picture: &Video, shift: u32) -> Self {
        // A few points of each block are enough, and take microseconds at any size.
        const POINTS: usize = 4;
        let (samples, stride) = plane::<T>(picture, 0);
        let (w, h) = (picture.width() as usize, picture.height() as usize);
        let at = |i: usize, cells: usize, length: usize| (2 * i + 1) * length / (2 * cells * POINTS);
        Self(Box::new(std::array::from_fn(|cell| {
            let (cx, cy) = (cell % Self::WIDTH, cell / Self::WIDTH);
            let mut sum = 0;
            for py in 0..POINTS {
                let row = at(cy * POINTS + py, Self::HEIGHT, h) * stride;
                for px in 0..POINTS {
                    let v: u32 = samples[row + at(cx * POINTS + px, Self::WIDTH, w)].into();
                    sum += v >> shift;
                }
            }
            (sum / (POINTS * POINTS) as u32) as u8
        })))
    }

    /// Whether another scene has begun: most of the picture has changed, and so has its brightness distribution, which
    /// a moving camera or person leaves alone.
    pub fn is_cut(&self, previous: &Self) -> bool {
        let cells = self.0.len() as u32;
        let change: u32 = self.0.iter().zip(previous.0.iter()).map(|(&a, &b)| u32::from(a.abs_diff(b))).sum();
        let histogram = |t: &Self| {
            let mut bins = [0i32; 16];
            t.0.iter().for_each(|&v| bins[usize::from(v >> 4)] += 1);
            bins
        };
        let (a, b) = (histogram(self), histogram(previous));
        let moved: u32 = a.iter().zip(&b).map(|(x, y)| x.abs_diff(*y)).sum::<u32>() / 2;
        change > 24 * cells && moved * 4 > cells
    }
}
