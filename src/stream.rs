//! What a source tells a sink about the streams that it will send.

use ffmpeg::codec::Parameters;
use ffmpeg::format::Pixel;
use ffmpeg::{Packet, Rational, color, media};
use ffmpeg_next as ffmpeg;

/// The video as the pipeline carries it: upright, square pixels, one planar format.
#[derive(Clone, Debug)]
pub struct VideoInfo {
    pub format: Pixel,
    pub width: u32,
    pub height: u32,
    /// The unit of every frame's time stamps.
    pub time_base: Rational,
    /// Mean or nominal frames per second: a hint for encoders, never a clock.
    pub frame_rate: Rational,
    pub colour: Colour,
    pub fields: Fields,
    /// Length in seconds, where the container tells.
    pub duration: Option<f64>,
    /// Number of frames, an estimate good enough for a progress bar.
    pub frames: Option<u64>,
}

/// The colour description that is carried from the source to the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colour {
    pub space: color::Space,
    pub range: color::Range,
    pub primaries: color::Primaries,
    pub transfer: color::TransferCharacteristic,
}

/// Whether the lines of a picture were taken at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fields {
    Progressive,
    TopFirst,
    BottomFirst,
}

/// A stream that is passed on packet by packet: audio, subtitles, data, a cover picture.
pub struct CopiedStream {
    pub parameters: Parameters,
    pub time_base: Rational,
    pub metadata: Vec<(String, String)>,
    /// FFmpeg's `AV_DISPOSITION_*` bits.
    pub disposition: i32,
}

impl CopiedStream {
    /// How messages call the stream, such as `audio (aac)`.
    pub fn name(&self) -> String {
        let kind = match self.parameters.medium() {
            media::Type::Audio => "audio",
            media::Type::Subtitle => "subtitles",
            media::Type::Video => "cover picture",
            media::Type::Attachment => "attachment",
            _ => "data",
        };
        format!("{kind} ({:?})", self.parameters.id()).to_lowercase()
    }
}

/// A packet of a copied stream, with time stamps in that stream's time base.
pub struct CopiedPacket {
    /// Index into [`Extras::streams`].
    pub stream: usize,
    pub packet: Packet,
}

/// All that travels beside the frames.
#[derive(Default)]
pub struct Extras {
    pub streams: Vec<CopiedStream>,
    pub metadata: Vec<(String, String)>,
    /// The video stream's own tags, its language for instance.
    pub video_metadata: Vec<(String, String)>,
    pub chapters: Vec<Chapter>,
}

pub struct Chapter {
    pub id: i64,
    pub time_base: Rational,
    pub start: i64,
    pub end: i64,
    pub title: String,
}

/// Whether a file's name holds the number of a picture, as `%d` or `%05d`.
pub fn is_numbered(name: &str) -> bool {
    name.split('%').skip(1).any(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with('d'))
}
