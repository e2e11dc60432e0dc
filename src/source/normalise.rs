//! Makes every frame alike: upright, square pixels, one size, one planar format, one colour coding.
//!
//! A frame that is so already passes untouched. Everything else goes through one libavfilter graph, made again when
//! the decoder changes size or format in mid-stream.

use std::collections::VecDeque;

use ffmpeg::ffi;
use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use ffmpeg::{Rational, color, filter};
use ffmpeg_next as ffmpeg;

use crate::frame::{is_rgb, plain};
use crate::stream::Colour;

/// What all frames shall be.
#[derive(Clone, Debug)]
pub(super) struct Goal {
    pub format: Pixel,
    pub width: u32,
    pub height: u32,
    /// The size that the turned picture is scaled to; what is more than `width` x `height` is cut off around it.
    pub scaled: (u32, u32),
    pub colour: Colour,
    /// The matrix of what comes in, where that is YUV.
    pub source_space: color::Space,
    /// Constant frame rate, when asked for.
    pub fps: Option<Rational>,
    /// How the stored picture is turned for display.
    pub matrix: Option<[i32; 9]>,
    /// The unit of the time stamps that go in, and of those that come out.
    pub time_bases: (Rational, Rational),
}

pub(super) struct Normaliser {
    goal: Goal,
    graph: Option<Graph>,
    ready: VecDeque<Video>,
}

struct Graph {
    graph: filter::Graph,
    /// What the graph was made for.
    shape: Shape,
    time_base: Rational,
    /// When the last frame that went in begins and ends.
    last: Option<(i64, i64)>,
}

#[derive(PartialEq, Eq, Clone, Copy)]
struct Shape {
    format: Pixel,
    width: u32,
    height: u32,
    full: bool,
    matrix: Option<[i32; 9]>,
}

impl Normaliser {
    pub(super) fn new(goal: Goal) -> Self {
        Self { goal, graph: None, ready: VecDeque::new() }
    }

    pub(super) fn goal(&self) -> &Goal {
        &self.goal
    }

    /// Takes a decoded frame in.
    pub(super) fn push(&mut self, mut frame: Video) -> Result<(), ffmpeg::Error> {
        let full = frame.color_range() == color::Range::JPEG || plain(frame.format()) != frame.format();
        frame.set_format(plain(frame.format()));
        let matrix = frame_matrix(&frame).or(self.goal.matrix);
        let shape = Shape { format: frame.format(), width: frame.width(), height: frame.height(), full, matrix };
        if self.is_goal(&shape) {
            stamp(&self.goal.colour, &mut frame);
            self.ready.push_back(frame);
            return Ok(());
        }
        if self.graph.as_ref().is_some_and(|g| g.shape != shape) {
            self.flush()?;
        }
        if self.graph.is_none() {
            self.graph = Some(Graph::build(&self.goal, shape)?);
        }
        let graph = self.graph.as_mut().expect("the graph was just made");
        let pts = frame.timestamp();
        frame.set_pts(pts);
        graph.reached(pts, frame.packet().duration, &self.goal);
        graph.node("in")?.source().add(&frame)?;
        self.collect()
    }

    pub(super) fn pop(&mut self) -> Option<Video> {
        self.ready.pop_front()
    }

    /// Gets out what the graph still holds.
    pub(super) fn flush(&mut self) -> Result<(), ffmpeg::Error> {
        if let Some(graph) = &mut self.graph {
            // The last frame lasts, too: a constant rate would else go without it.
            match graph.last {
                Some((_, end)) => graph.node("in")?.source().close(end)?,
                None => graph.node("in")?.source().flush()?,
            }
            self.collect()?;
            self.graph = None;
        }
        Ok(())
    }

    fn is_goal(&self, shape: &Shape) -> bool {
        let goal = &self.goal;
        (shape.format, shape.width, shape.height) == (goal.format, goal.width, goal.height)
            && shape.full == (goal.colour.range == color::Range::JPEG)
            && goal.fps.is_none()
            && turn(shape.matrix).is_empty()
    }

    fn collect(&mut self) -> Result<(), ffmpeg::Error> {
        let Some(graph) = self.graph.as_mut() else { return Ok(()) };
        loop {
            let mut out = Video::empty();
            match graph.node("out")?.sink().frame(&mut out) {
                Ok(()) => {
                    // SAFETY: rescaling is arithmetic; the fields belong to a live frame.
                    unsafe {
                        let raw = out.as_mut_ptr();
                        if (*raw).pts != ffi::AV_NOPTS_VALUE {
                            let to = self.goal.time_bases.1;
                            (*raw).pts = ffi::av_rescale_q((*raw).pts, graph.time_base.into(), to.into());
                        }
                        (*raw).best_effort_timestamp = (*raw).pts;
                    }
                    let mut out = upright(out);
                    stamp(&self.goal.colour, &mut out);
                    self.ready.push_back(out);
                }
                Err(ffmpeg::Error::Eof) => return Ok(()),
                Err(ffmpeg::Error::Other { errno: libc::EAGAIN }) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Writes the stream's colour description on the frame, so that no later stage has to guess.
fn stamp(colour: &Colour, frame: &mut Video) {
    frame.set_color_space(colour.space);
    frame.set_color_range(colour.range);
    frame.set_color_primaries(colour.primaries);
    frame.set_color_transfer_characteristic(colour.transfer);
    // SAFETY: plain fields of a frame that we own; rotation and pixel shape are in the pixels now.
    unsafe {
        (*frame.as_mut_ptr()).sample_aspect_ratio = ffi::AVRational { num: 1, den: 1 };
        ffi::av_frame_remove_side_data(frame.as_mut_ptr(), ffi::AVFrameSideDataType::AV_FRAME_DATA_DISPLAYMATRIX);
    }
}

impl Graph {
    fn build(goal: &Goal, shape: Shape) -> Result<Self, ffmpeg::Error> {
        let missing = |name| filter::find(name).ok_or(ffmpeg::Error::FilterNotFound);
        let mut graph = filter::Graph::new();
        // SAFETY: reads a static name.
        let format = |p: Pixel| unsafe {
            std::ffi::CStr::from_ptr(ffi::av_get_pix_fmt_name(p.into())).to_string_lossy().into_owned()
        };
        let Rational(num, den) = goal.time_bases.0;
        let mut source = format!(
            "video_size={}x{}:pix_fmt={}:time_base={num}/{den}:pixel_aspect=1/1",
            shape.width,
            shape.height,
            format(shape.format)
        );
        // SAFETY: reads a version number. From FFmpeg 7 on the source must know the colour coding in advance.
        if unsafe { ffi::avfilter_version() } >> 16 >= 10 && !is_rgb(shape.format) {
            let space = ffi::AVColorSpace::from(goal.source_space) as i32;
            source += &format!(":colorspace={space}:range={}", if shape.full { 2 } else { 1 });
        }
        graph.add(&missing("buffer")?, "in", &source)?;
        graph.add(&missing("buffersink")?, "out", "")?;

        let mut steps: Vec<String> = turn(shape.matrix).into_iter().map(str::to_owned).collect();
        if let Some(Rational(num, den)) = goal.fps {
            steps.insert(0, format!("fps={num}/{den}"));
        }
        let range = |full| if full { "full" } else { "limited" };
        let mut scale = format!("scale={}:{}:flags=bicubic+accurate_rnd+full_chroma_int", goal.scaled.0, goal.scaled.1);
        if !is_rgb(shape.format) {
            scale += &format!(":in_range={}:in_color_matrix={}", range(shape.full), matrix_name(goal.source_space));
        }
        if !is_rgb(goal.format) {
            let full = goal.colour.range == color::Range::JPEG;
            scale += &format!(":out_range={}:out_color_matrix={}", range(full), matrix_name(goal.colour.space));
        }
        steps.push(scale);
        if goal.scaled != (goal.width, goal.height) {
            steps.push(format!("crop={}:{}", goal.width, goal.height));
        }
        steps.push(format!("format={}", format(goal.format)));
        graph.output("in", 0)?.input("out", 0)?.parse(&steps.join(","))?;
        graph.validate()?;
        let time_base = graph.get("out").ok_or(ffmpeg::Error::FilterNotFound)?.sink().time_base();
        Ok(Self { graph, shape, time_base, last: None })
    }

    /// A frame begins at `pts` and lasts as long as it says, else as the one before, else as one of the output.
    fn reached(&mut self, pts: Option<i64>, duration: i64, goal: &Goal) {
        let Some(pts) = pts else { return };
        let (base, step) = (f64::from(goal.time_bases.0), goal.fps.map_or(0.0, |fps| 1.0 / f64::from(fps)));
        let before = self.last.map(|(last, _)| pts - last);
        let duration = Some(duration).filter(|d| *d > 0).or(before.filter(|d| *d > 0));
        self.last = Some((pts, pts + duration.unwrap_or_else(|| (step / base).round() as i64).max(1)));
    }

    fn node(&mut self, name: &str) -> Result<filter::Context, ffmpeg::Error> {
        self.graph.get(name).ok_or(ffmpeg::Error::FilterNotFound)
    }
}

/// The name that the scale filter knows a matrix by.
fn matrix_name(space: color::Space) -> &'static str {
    match space {
        color::Space::BT709 => "bt709",
        color::Space::BT2020NCL | color::Space::BT2020CL => "bt2020",
        color::Space::FCC => "fcc",
        color::Space::SMPTE240M => "smpte240m",
        _ => "bt601",
    }
}

/// The nine numbers of a display matrix as FFmpeg stores them.
pub(super) fn matrix_from(bytes: &[u8]) -> Option<[i32; 9]> {
    let mut matrix = [0; 9];
    let words = bytes.chunks_exact(4).map(|w| i32::from_ne_bytes([w[0], w[1], w[2], w[3]]));
    if bytes.len() < 36 {
        return None;
    }
    matrix.iter_mut().zip(words).for_each(|(m, w)| *m = w);
    Some(matrix)
}

pub(super) fn frame_matrix(frame: &Video) -> Option<[i32; 9]> {
    matrix_from(frame.side_data(ffmpeg::frame::side_data::Type::DisplayMatrix)?.data())
}

/// True when the matrix puts rows where columns were.
pub(super) fn is_sideways(matrix: Option<[i32; 9]>) -> bool {
    matrix.is_some_and(|m| m[1].unsigned_abs() > m[0].unsigned_abs())
}

/// The filters that carry out a display matrix, to the nearest quarter turn.
///
/// The matrix maps a stored position (x, y), y downwards, to (a x + c y, b x + d y) with a, b, c, d at 0, 1, 3, 4
/// (ISO/IEC 14496-12, 6.2.2).
fn turn(matrix: Option<[i32; 9]>) -> Vec<&'static str> {
    let Some([a, b, _, c, d, ..]) = matrix else { return Vec::new() };
    if is_sideways(matrix) {
        vec![match (b > 0, c > 0) {
            (true, false) => "transpose=clock",
            (false, true) => "transpose=cclock",
            (true, true) => "transpose=cclock_flip",
            (false, false) => "transpose=clock_flip",
        }]
    } else {
        let flips = [(a < 0).then_some("hflip"), (d < 0).then_some("vflip")];
        flips.into_iter().flatten().collect()
    }
}

/// vflip only turns the strides negative; the stages read memory downwards.
fn upright(frame: Video) -> Video {
    // SAFETY: reads one field.
    if unsafe { (*frame.as_ptr()).linesize[0] } >= 0 {
        return frame;
    }
    frame.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: i32 = 1 << 16;

    fn matrix(a: i32, b: i32, c: i32, d: i32) -> Option<[i32; 9]> {
        Some([a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30])
    }

    #[test]
    fn a_display_matrix_becomes_filters() {
        assert!(turn(None).is_empty() && turn(matrix(1, 0, 0, 1)).is_empty());
        // A phone held upright stores a landscape picture that is shown a quarter turn clockwise: x runs downwards.
        assert_eq!(turn(matrix(0, 1, -1, 0)), ["transpose=clock"]);
        assert_eq!(turn(matrix(0, -1, 1, 0)), ["transpose=cclock"]);
        assert_eq!(turn(matrix(-1, 0, 0, -1)), ["hflip", "vflip"]);
        assert_eq!(turn(matrix(-1, 0, 0, 1)), ["hflip"]);
        assert!(is_sideways(matrix(0, 1, -1, 0)) && !is_sideways(matrix(-1, 0, 0, -1)));
    }
}
