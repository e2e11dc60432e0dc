//! What a generation makes of a video, known before any model is opened.

use ffmpeg::{Rational, color};
use ffmpeg_next as ffmpeg;

use super::geometry::{Geometry, OutputSize, turned};
use super::region::Region;
use super::{RATE, Settings};
use crate::frame::{Format, is_rgb};
use crate::stream::{Colour, Fields, VideoInfo};

/// Sizes and rates of the frames on their way to the model and back.
#[derive(Clone, Debug)]
pub struct Outline {
    pub geometry: Geometry,
    /// What leaves the last stage.
    pub output: VideoInfo,
    /// Frames a second that are taken; `None` takes every frame.
    pub rate: Option<f64>,
    /// The prompt alone decides.
    pub text_only: bool,
    /// The original is seen around the result, so it travels along.
    pub keeps: bool,
    pub live: bool,
}

impl Outline {
    /// For frames as `source` has them.
    pub(crate) fn new(settings: &Settings, source: &VideoInfo, every: bool, live: bool) -> Self {
        let size = (source.width, source.height);
        let model = settings.size.unwrap_or_else(|| turned(settings.preset(live).size(), size));
        let geometry = Geometry::new(size, model, settings.fit());
        let keeps = settings.region != Region::All || settings.output_size == Some(OutputSize::Source);
        let painted = geometry.painted.size();
        let (width, height) = match settings.output_size {
            _ if keeps => size,
            Some(OutputSize::Of(w, h)) => in_shape((w, h), painted),
            _ => painted,
        };
        let rate = f64::from(RATE);
        let every = every || settings.keep_fps || f64::from(source.frame_rate) <= rate;
        let frame_rate = if every { source.frame_rate } else { Rational(RATE, 1) };
        let frames = match every {
            true => source.frames,
            false => source.frames.map(|n| (n as f64 * rate / f64::from(source.frame_rate)).ceil() as u64),
        };
        let fields = if keeps { source.fields } else { Fields::Progressive };
        let mut output = VideoInfo { width, height, frame_rate, frames, fields, ..source.clone() };
        to_whole_samples(&mut output);
        Self { geometry, output, rate: (!every).then_some(rate), text_only: false, keeps, live }
    }

    /// For a prompt and nothing else, in pictures of `format`. `None` as `frames` goes on for ever.
    pub(crate) fn of_text(settings: &Settings, format: ffmpeg::format::Pixel, full: bool, frames: Option<u64>) -> Self {
        let (width, height) = settings.size.unwrap_or(settings.preset(false).size());
        let rgb = is_rgb(format);
        let source = VideoInfo {
            format,
            width,
            height,
            time_base: Rational(1, RATE),
            frame_rate: Rational(RATE, 1),
            colour: Colour {
                space: if rgb { color::Space::RGB } else { color::Space::BT709 },
                range: if rgb || full { color::Range::JPEG } else { color::Range::MPEG },
                primaries: color::Primaries::BT709,
                transfer: color::TransferCharacteristic::BT709,
            },
            fields: Fields::Progressive,
            duration: frames.map(|n| n as f64 / f64::from(RATE)),
            frames,
        };
        let settings = Settings { size: Some((width, height)), ..settings.clone() };
        Self { text_only: true, ..Self::new(&settings, &source, true, false) }
    }

    /// Frames of `blocks` blocks: 9, then 12 each.
    pub(crate) fn frames_of(blocks: u32) -> u64 {
        if blocks == 0 { 0 } else { 9 + 12 * u64::from(blocks - 1) }
    }
}

/// What is left open follows from the shape of what is painted.
fn in_shape((width, height): (u32, u32), painted: (u32, u32)) -> (u32, u32) {
    let side = |wanted: u32, side: u32, other: u32| {
        ((f64::from(side) * f64::from(wanted) / f64::from(other)).round() as u32).max(1)
    };
    match (width, height) {
        (w, 0) => (w, side(w, painted.1, painted.0)),
        (0, h) => (side(h, painted.0, painted.1), h),
        both => both,
    }
}

/// Encoders refuse sizes that do not fill their chroma samples.
fn to_whole_samples(info: &mut VideoInfo) {
    if let Some(format) = Format::of(info.format) {
        let whole = |n: u32, log2: u8| (n >> log2 << log2).max(1 << log2);
        info.width = whole(info.width, format.log2_chroma_w);
        info.height = whole(info.height, format.log2_chroma_h);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ffmpeg::format::Pixel;

    fn settings() -> Settings {
        Settings::of(super::super::Timeline::constant("x"))
    }

    fn source(width: u32, height: u32, rate: i32) -> VideoInfo {
        let mut info = Outline::of_text(&settings(), Pixel::YUV420P, false, Some(100)).output;
        (info.width, info.height, info.frame_rate) = (width, height, Rational(rate, 1));
        info
    }

    #[test]
    fn by_default_the_output_is_the_models() {
        let outline = Outline::new(&settings(), &source(1280, 720, 32), false, false);
        assert_eq!((outline.output.width, outline.output.height), (832, 480));
        assert_eq!(
            (outline.rate, outline.output.frame_rate, outline.output.frames),
            (Some(16.0), Rational(16, 1), Some(50))
        );
        let upright = Outline::new(&settings(), &source(270, 480, 10), false, true);
        assert_eq!((upright.geometry.model, upright.rate), ((320, 576), None));
    }

    #[test]
    fn a_region_keeps_the_source() {
        let person = Settings { region: Region::Person, ..settings() };
        let outline = Outline::new(&person, &source(640, 480, 30), false, false);
        assert_eq!((outline.output.width, outline.output.height, outline.keeps), (640, 480, true));
        assert_eq!(outline.geometry.painted.size(), (640, 480));
        let back = Settings { output_size: Some(OutputSize::Source), ..settings() };
        assert_eq!(Outline::new(&back, &source(1920, 1080, 30), true, false).output.width, 1920);
    }

    #[test]
    fn a_size_may_leave_a_side_open() {
        let wide = Settings { output_size: Some(OutputSize::Of(1664, 0)), ..settings() };
        let outline = Outline::new(&wide, &source(1280, 720, 30), false, false);
        assert_eq!((outline.output.width, outline.output.height), (1664, 960));
    }

    #[test]
    fn blocks_are_nine_and_then_twelve() {
        assert_eq!([0, 1, 2, 9].map(Outline::frames_of), [0, 9, 21, 105]);
    }
}
