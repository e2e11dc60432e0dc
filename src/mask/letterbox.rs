//! From a planar frame to a network's input tensor: bilinear sampling straight from the planes, without a full-size RGB
//! copy.

use std::ops::Range;

use ffmpeg::frame::Video;
use ffmpeg_next as ffmpeg;

use crate::colour::Coding;
use crate::frame::{Format, Sample, plane};

/// Where a frame of `source` size lies on a network's canvas. Sizes are width, height in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    pub source: (usize, usize),
    pub canvas: (usize, usize),
    /// The frame's size on the canvas, and its top left corner there.
    pub size: (usize, usize),
    pub left: usize,
    pub top: usize,
}

impl Fit {
    /// Keeps the aspect ratio and centres the frame, as Ultralytics' `LetterBox` does: sizes are rounded half to even,
    /// an odd pad has its smaller half on the top and left.
    pub fn letterbox(source: (usize, usize), canvas: (usize, usize)) -> Self {
        let ratio = (canvas.0 as f64 / source.0 as f64).min(canvas.1 as f64 / source.1 as f64);
        let scaled = |n: usize, limit: usize| ((n as f64 * ratio).round_ties_even() as usize).clamp(1, limit);
        let size = (scaled(source.0, canvas.0), scaled(source.1, canvas.1));
        let pad = |canvas: usize, size: usize| ((canvas - size) as f64 / 2.0 - 0.1).round_ties_even().max(0.0) as usize;
        Self { source, canvas, size, left: pad(canvas.0, size.0), top: pad(canvas.1, size.1) }
    }

    /// Stretches the frame over the whole canvas.
    pub fn stretch(source: (usize, usize), canvas: (usize, usize)) -> Self {
        Self { source, canvas, size: canvas, left: 0, top: 0 }
    }

    /// The smallest canvas for `source` whose long side is `long` and whose sides are multiples of `stride`: what
    /// Ultralytics uses for networks with dynamic input.
    pub fn minimum_rectangle(source: (usize, usize), long: usize, stride: usize) -> (usize, usize) {
        let ratio = long as f64 / source.0.max(source.1) as f64;
        let side = |n: usize| ((n as f64 * ratio).round_ties_even() as usize).div_ceil(stride).max(1) * stride;
        (side(source.0), side(source.1))
    }

    /// Pixels of the source per pixel of the canvas, for x and y.
    pub fn scale(&self) -> (f64, f64) {
        (self.source.0 as f64 / self.size.0 as f64, self.source.1 as f64 / self.size.1 as f64)
    }
}

/// How RGB in 0..=1 becomes the network's numbers: `(rgb - mean) / std`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalise {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

impl Normalise {
    pub const NONE: Self = Self { mean: [0.0; 3], std: [1.0; 3] };
    pub const IMAGENET: Self = Self { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
}

/// The order of the tensor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    Nchw,
    Nhwc,
}

impl Layout {
    /// The tensor's shape for one image of `canvas` width and height.
    pub fn shape(self, (width, height): (usize, usize)) -> [usize; 4] {
        match self {
            Self::Nchw => [1, 3, height, width],
            Self::Nhwc => [1, height, width, 3],
        }
    }
}

/// The grey that Ultralytics pads with.
pub const PAD: f32 = 114.0 / 255.0;

/// One bilinear tap: `(1 - t) * row[i] + t * row[i + 1]`.
#[derive(Clone, Copy, PartialEq)]
struct Tap {
    i: u32,
    t: f32,
}

/// The taps of one axis. `source` input samples become `size` output samples whose centres are `scale` apart; `shift`
/// moves the sampling positions, in input samples. Half-pixel centres, edges repeated: OpenCV's INTER_LINEAR.
#[derive(Default)]
struct Axis {
    taps: Vec<Tap>,
    /// Taps a fixed whole step apart, with the same weight: where scales are simple these are nearly all.
    regular: Option<Regular>,
}

#[derive(Clone)]
struct Regular {
    step: usize,
    taps: Range<usize>,
}

impl Axis {
    fn new(source: usize, size: usize, scale: f64, shift: f64) -> Self {
        let last = source - 1;
        let tap = |x: usize| {
            let at = ((x as f64 + 0.5) * scale - 0.5 + shift).clamp(0.0, last as f64);
            Tap { i: at as u32, t: at.fract() as f32 }
        };
        let taps: Vec<Tap> = (0..size).map(tap).collect();
        let regular = (1..=3).filter_map(|step| Regular::find(&taps, step)).max_by_key(|r| r.taps.len());
        Self { taps, regular }
    }

    /// `row` has one sample more than the source, so that the last tap may lean on it.
    fn apply(&self, row: &[f32], out: &mut [f32]) {
        let general = |out: &mut [f32], taps: &[Tap]| {
            for (o, tap) in out.iter_mut().zip(taps) {
                let pair = &row[tap.i as usize..tap.i as usize + 2];
                *o = pair[0] + tap.t * (pair[1] - pair[0]);
            }
        };
        let Some(Regular { step, taps }) = self.regular.clone() else { return general(out, &self.taps) };
        general(&mut out[..taps.start], &self.taps[..taps.start]);
        general(&mut out[taps.end..], &self.taps[taps.end..]);
        let Tap { i, t } = self.taps[taps.start];
        let (row, out) = (&row[i as usize..], &mut out[taps]);
        match step {
            1 => out.iter_mut().zip(row.iter().zip(&row[1..])).for_each(|(o, (a, b))| *o = a + t * (b - a)),
            2 => out.iter_mut().zip(row.chunks_exact(2)).for_each(|(o, p)| *o = p[0] + t * (p[1] - p[0])),
            _ => out.iter_mut().zip(row.chunks_exact(3)).for_each(|(o, p)| *o = p[0] + t * (p[1] - p[0])),
        }
    }
}

impl Regular {
    /// The run of taps around the middle that are `step` apart; `None` if it is too short to be worth it.
    fn find(taps: &[Tap], step: usize) -> Option<Self> {
        let middle = taps.len() / 2;
        let follows = |k: &usize| taps[*k].i as usize + step == taps[k + 1].i as usize && taps[*k].t == taps[k + 1].t;
        let start = (0..middle).rev().take_while(follows).last().unwrap_or(middle);
        let end = (middle..taps.len().saturating_sub(1)).take_while(follows).last().map_or(middle, |k| k + 1);
        // The last one is left to the general case: its chunk may be cut off by the end of the row.
        (end > start + 16).then_some(Self { step, taps: start..end })
    }
}

/// What a sampler was made for; a frame that differs needs another one.
#[derive(Clone, Copy, PartialEq)]
struct Key {
    format: Format,
    coding: Coding,
    fit: Fit,
    left_sited: bool,
}

/// Samples frames of one format and size into a tensor of `3 x height x width` (or `height x width x 3`) numbers.
pub struct Sampler {
    normalise: Normalise,
    layout: Layout,
    made_for: Option<Key>,
    luma: Axes,
    chroma: Axes,
    /// RGB in 0..=1 is `matrix * codes + offset`, per output channel.
    matrix: [[f32; 3]; 3],
    offset: [f32; 3],
    blended: Vec<f32>,
    rows: [Vec<f32>; 3],
    tensor: Vec<f32>,
}

#[derive(Default)]
struct Axes {
    x: Axis,
    y: Axis,
}

impl Sampler {
    pub fn new(normalise: Normalise, layout: Layout) -> Self {
        Self {
            normalise,
            layout,
            made_for: None,
            luma: Axes::default(),
            chroma: Axes::default(),
            matrix: [[0.0; 3]; 3],
            offset: [0.0; 3],
            blended: Vec::new(),
            rows: [const { Vec::new() }; 3],
            tensor: Vec::new(),
        }
    }

    /// The tensor of `picture` laid on the canvas as `fit` says.
    pub fn sample(&mut self, picture: &Video, format: Format, fit: Fit) -> &[f32] {
        use ffmpeg::chroma::Location;
        let left_sited =
            matches!(picture.chroma_location(), Location::Unspecified | Location::Left | Location::TopLeft);
        let key = Key { format, coding: Coding::of(picture, format), fit, left_sited };
        if self.made_for != Some(key) {
            self.prepare(key);
        }
        match format.depth {
            8 => self.fill::<u8>(picture, format, fit),
            _ => self.fill::<u16>(picture, format, fit),
        }
        &self.tensor
    }

    fn prepare(&mut self, key: Key) {
        let Key { format, coding, fit, left_sited } = key;
        let (sx, sy) = fit.scale();
        let axes = |width: usize, height: usize, kx: f64, ky: f64, shift_x: f64| Axes {
            x: Axis::new(width, fit.size.0, sx / kx, shift_x),
            y: Axis::new(height, fit.size.1, sy / ky, 0.0),
        };
        self.luma = axes(fit.source.0, fit.source.1, 1.0, 1.0, 0.0);
        let (cw, ch) = format.plane_size(1, fit.source.0, fit.source.1);
        let (kx, ky) = (f64::from(1 << format.log2_chroma_w), f64::from(1 << format.log2_chroma_h));
        // Chroma that sits on the left luma sample is half a chroma sample less half a luma sample to the left.
        let shift = if left_sited && !format.rgb { 0.5 - 0.5 / kx } else { 0.0 };
        self.chroma = axes(cw, ch, kx, ky, shift);

        let zero = coding.decode([0.0; 3]);
        let unit = |plane: usize| {
            let mut codes = [0.0; 3];
            codes[plane] = 1.0;
            coding.decode(codes)
        };
        let columns = [unit(0), unit(1), unit(2)];
        for c in 0..3 {
            self.matrix[c] = std::array::from_fn(|p| (columns[p][c] - zero[c]) as f32);
            self.offset[c] = zero[c] as f32;
        }
        for row in &mut self.rows {
            row.resize(fit.size.0, 0.0);
        }
        self.tensor.clear();
        let area = fit.canvas.0 * fit.canvas.1;
        let pad = |c: usize| (PAD - self.normalise.mean[c]) / self.normalise.std[c];
        match self.layout {
            Layout::Nchw => (0..3).for_each(|c| self.tensor.resize((c + 1) * area, pad(c))),
            Layout::Nhwc => self.tensor.extend((0..3 * area).map(|i| pad(i % 3))),
        }
        self.made_for = Some(key);
    }

    fn fill<T: Sample>(&mut self, picture: &Video, format: Format, fit: Fit) {
        let planes = [0, 1, 2].map(|i| plane::<T>(picture, i));
        let widths = [0, 1, 2].map(|i| format.plane_size(i, fit.source.0, fit.source.1).0);
        for y in 0..fit.size.1 {
            for p in 0..3 {
                let axes = if p == 0 || format.rgb { &self.luma } else { &self.chroma };
                let (samples, stride) = planes[p];
                let tap = axes.y.taps[y];
                let row = |i: u32| &samples[i as usize * stride..][..widths[p]];
                let lower = if tap.t > 0.0 { row(tap.i + 1) } else { row(tap.i) };
                blend_rows(row(tap.i), lower, tap.t, &mut self.blended);
                axes.x.apply(&self.blended, &mut self.rows[p]);
            }
            self.write_row(y, fit);
        }
    }

    /// Turns the three rows of codes into RGB and writes them to line `y` of the frame on the canvas.
    fn write_row(&mut self, y: usize, fit: Fit) {
        let width = fit.size.0;
        let line = (fit.top + y) * fit.canvas.0 + fit.left;
        let [a, b, d] = &self.rows;
        let (a, b, d) = (&a[..width], &b[..width], &d[..width]);
        let area = fit.canvas.0 * fit.canvas.1;
        for c in 0..3 {
            let [ma, mb, md] = self.matrix[c];
            let offset = self.offset[c];
            let (scale, shift) = (1.0 / self.normalise.std[c], -self.normalise.mean[c] / self.normalise.std[c]);
            let value = |x: usize| (ma * a[x] + mb * b[x] + md * d[x] + offset).clamp(0.0, 1.0) * scale + shift;
            match self.layout {
                Layout::Nchw => {
                    let out = &mut self.tensor[c * area + line..][..width];
                    out.iter_mut().enumerate().for_each(|(x, o)| *o = value(x));
                }
                Layout::Nhwc => {
                    let out = &mut self.tensor[3 * line..][..3 * width];
                    out.iter_mut().skip(c).step_by(3).enumerate().for_each(|(x, o)| *o = value(x));
                }
            }
        }
    }
}

/// Blends two rows, and repeats the last sample once.
fn blend_rows<T: Sample>(upper: &[T], lower: &[T], t: f32, out: &mut Vec<f32>) {
    out.clear();
    // Through i32, which SSE2 converts in one instruction.
    let real = |v: T| v.into() as i32 as f32;
    if t == 0.0 {
        out.extend(upper.iter().map(|&a| real(a)));
    } else {
        out.extend(upper.iter().zip(lower).map(|(&a, &b)| real(a) + t * (real(b) - real(a))));
    }
    out.extend(out.last().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_centred_as_ultralytics_does_it() {
        let fit = Fit::letterbox((640, 425), (320, 192));
        assert_eq!((fit.size, fit.left, fit.top), ((289, 192), 15, 0));
        let fit = Fit::letterbox((1280, 720), (640, 384));
        assert_eq!((fit.size, fit.left, fit.top), ((640, 360), 0, 12));
        assert_eq!(Fit::minimum_rectangle((1280, 720), 640, 32), (640, 384));
        assert_eq!(Fit::minimum_rectangle((640, 480), 640, 32), (640, 480));
        assert_eq!(Fit::minimum_rectangle((270, 480), 640, 32), (384, 640));
    }

    /// Every way through `apply` gives what the definition gives.
    #[test]
    fn fast_paths_equal_the_definition() {
        for (source, size) in [(1280, 640), (640, 640), (1920, 640), (640, 512), (480, 640), (639, 1), (2, 5), (1, 3)] {
            for shift in [0.0, 0.25] {
                let scale = source as f64 / size as f64;
                let axis = Axis::new(source, size, scale, shift);
                let mut row: Vec<f32> = (0..source).map(|i| ((i * 37) % 101) as f32).collect();
                row.push(row[source - 1]);
                let mut out = vec![0.0; size];
                axis.apply(&row, &mut out);
                for (x, &o) in out.iter().enumerate() {
                    let at = ((x as f64 + 0.5) * scale - 0.5 + shift).clamp(0.0, source as f64 - 1.0);
                    let (i, t) = (at.floor() as usize, at.fract() as f32);
                    let expected = row[i] + t * (row[i + 1] - row[i]);
                    assert!((o - expected).abs() < 1e-3, "{source} to {size}, {shift}: {x}: {o} for {expected}");
                }
            }
        }
        assert!(Axis::new(1280, 640, 2.0, 0.0).regular.is_some_and(|r| r.step == 2 && r.taps.len() > 630));
    }
}
