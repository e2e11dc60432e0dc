//! Opens an input, picks its video, and tells what is in it before a single frame is decoded.

use std::ffi::CString;
use std::fmt;
use std::path::{Path, PathBuf};

use ffmpeg::codec::Parameters;
use ffmpeg::ffi;
use ffmpeg::format::{Pixel, context};
use ffmpeg::frame::Video;
use ffmpeg::{Dictionary, Rational, Stream, codec, decoder, media};
use ffmpeg_next as ffmpeg;

use super::normalise::frame_matrix;
use super::stdin::Stdin;
use crate::error::{Error, Result};
use crate::pipeline::Control;
use crate::stream::{Chapter, CopiedStream, Extras, Fields};

/// Where the input lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    File(PathBuf),
    Stdin,
    Url(String),
}

impl Place {
    /// `-` is stdin, `scheme://` a URL, all else a file.
    pub fn parse(text: &str) -> Self {
        match text {
            "-" => Self::Stdin,
            _ if text.split_once("://").is_some_and(|(scheme, _)| {
                !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            }) =>
            {
                Self::Url(text.to_owned())
            }
            _ => Self::File(PathBuf::from(text)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdin => write!(f, "standard input"),
            Self::Url(url) => write!(f, "{}", crate::address::without_secrets(url)),
        }
    }
}

pub struct Options {
    /// Name of FFmpeg's demuxer, when the content does not tell.
    pub format: Option<String>,
    /// Larger pictures are refused before any memory is taken for them.
    pub max_pixels: u64,
    /// Threads of the decoder; 0 lets FFmpeg choose.
    pub threads: usize,
    pub control: Control,
}

/// The video as it is stored.
#[derive(Clone, Debug)]
pub struct Native {
    pub format: Pixel,
    pub width: u32,
    pub height: u32,
    /// Width to height of one pixel.
    pub aspect: Rational,
    pub matrix: Option<[i32; 9]>,
    pub time_base: Rational,
    pub frame_rate: Rational,
    pub space: ffmpeg::color::Space,
    pub range: ffmpeg::color::Range,
    pub primaries: ffmpeg::color::Primaries,
    pub transfer: ffmpeg::color::TransferCharacteristic,
    pub fields: Fields,
    pub duration: Option<f64>,
    pub frames: Option<u64>,
    /// A single picture rather than a film.
    pub still: bool,
}

/// An opened input whose video can be decoded.
pub struct Input {
    pub place: Place,
    pub native: Native,
    pub(super) context: context::Input,
    pub(super) decoder: decoder::Video,
    pub(super) video: usize,
    /// For each stream of the container its index in `extras.streams`, if it is copied.
    pub(super) copied: Vec<Option<usize>>,
    extras: Extras,
    /// The frame that was decoded to learn what only the frame itself tells.
    pub(super) first: Option<Video>,
}

impl Input {
    pub fn open(place: &Place, options: &Options) -> Result<Self> {
        if let Place::File(path) = place {
            refuse_what_is_no_file(path)?;
        }
        let mut context = open_context(place, options)?;
        let video = pick_video(&context).ok_or_else(|| Error::Input(no_video(place, &context)))?;
        let index = video.index();
        let mut decoder = open_decoder(place, &video, options)?;
        let mut native = describe(&context, &video, &decoder);
        if native.format == Pixel::None || native.width == 0 || native.height == 0 {
            return Err(Error::Input(format!(
                "{place}: the video's size or pixel format cannot be found out; the file may be cut off at its start"
            )));
        }
        let (copied, extras) = collect_extras(&context, index);
        // How a photo is turned stands in its EXIF data, which the decoder passes on with the picture.
        let first = if native.still { decode_first(&mut context, index, &mut decoder) } else { None };
        native.matrix = first.as_ref().and_then(frame_matrix).or(native.matrix);
        Ok(Self { place: place.clone(), native, context, decoder, video: index, copied, extras, first })
    }

    /// What travels beside the frames; empty after the first call.
    pub fn take_extras(&mut self) -> Extras {
        std::mem::take(&mut self.extras)
    }
}

fn refuse_what_is_no_file(path: &Path) -> Result<()> {
    let meta = std::fs::metadata(path).map_err(|e| {
        Error::Input(match e.kind() {
            std::io::ErrorKind::NotFound => format!("{}: no such file", path.display()),
            _ => format!("{}: cannot be read: {e}", path.display()),
        })
    })?;
    if meta.is_dir() {
        return Err(Error::Input(format!("{}: is a directory; name a video or a picture in it", path.display())));
    }
    if meta.is_file() && meta.len() == 0 {
        return Err(Error::Input(format!("{}: the file is empty", path.display())));
    }
    Ok(())
}

/// Protocols that an input may lead to. A local file must not make krea fetch from the network.
fn protocols(place: &Place) -> &'static str {
    match place {
        Place::File(_) | Place::Stdin => "file,pipe,data",
        Place::Url(_) => "http,https,httpproxy,tcp,tls,udp,rtp,rtsp,rtsps,srt,rtmp,rtmps,rtmpt,crypto,data",
    }
}

fn open_context(place: &Place, options: &Options) -> Result<context::Input> {
    let mut dictionary = Dictionary::new();
    dictionary.set("protocol_whitelist", protocols(place));
    let control = options.control.clone();
    let interrupt = move || control.stopped();
    let opened = match (place, &options.format) {
        (Place::Stdin, _) => {
            let io = context::StreamIo::from_read(Stdin::new(options.control.clone()))
                .map_err(|e| Error::Input(format!("{place}: {e}")))?;
            ffmpeg::format::input_from_stream_with_interrupt(io, None, Some(dictionary), interrupt)
        }
        (_, Some(name)) => open_as(&location(place)?, name, dictionary)?,
        (_, None) => {
            let location = location(place)?;
            ffmpeg::format::input_with_interrupt_and_dictionary(&location, interrupt, dictionary)
        }
    };
    opened.map_err(|e| Error::Input(unreadable(place, e)))
}

/// What FFmpeg is given. The prefix keeps a file called `a:b.mp4` from being taken for a protocol.
fn location(place: &Place) -> Result<String> {
    match place {
        Place::File(path) => path.to_str().map(|p| format!("file:{p}")).ok_or_else(|| {
            Error::Input(format!(
                "{}: the name is not UTF-8, which FFmpeg's interface needs; rename it",
                path.display()
            ))
        }),
        Place::Stdin => Ok("pipe:0".to_owned()),
        Place::Url(url) => Ok(url.clone()),
    }
}

fn open_as(location: &str, format: &str, options: Dictionary) -> Result<Result<context::Input, ffmpeg::Error>> {
    let usage = || Error::Usage(format!("'{format}' is no input format of FFmpeg; `ffmpeg -demuxers` lists them"));
    let name = CString::new(format).map_err(|_| usage())?;
    // SAFETY: looks a name up in FFmpeg's static tables.
    let input = unsafe { ffi::av_find_input_format(name.as_ptr()) };
    if input.is_null() {
        return Err(usage());
    }
    // SAFETY: the pointer is a static AVInputFormat.
    let format = ffmpeg::Format::Input(unsafe { ffmpeg::format::Input::wrap(input.cast_mut()) });
    Ok(ffmpeg::format::open_with(location, &format, options).map(ffmpeg::format::Context::input))
}

fn unreadable(place: &Place, error: ffmpeg::Error) -> String {
    match error {
        ffmpeg::Error::InvalidData => {
            format!("{place}: is not a video or picture that FFmpeg can read, or its index (moov) is missing")
        }
        ffmpeg::Error::Eof => format!("{place}: ends before its first frame"),
        ffmpeg::Error::Exit => format!("{place}: stopped before the first frame"),
        other => format!("{place}: cannot be opened: {other}"),
    }
}

/// The best video stream that is no cover picture.
fn pick_video(context: &context::Input) -> Option<Stream<'_>> {
    let is_film = |s: &Stream<'_>| {
        s.parameters().medium() == media::Type::Video && s.disposition().bits() & ffi::AV_DISPOSITION_ATTACHED_PIC == 0
    };
    context.streams().best(media::Type::Video).filter(is_film).or_else(|| context.streams().find(is_film))
}

fn no_video(place: &Place, context: &context::Input) -> String {
    let has = |kind| context.streams().any(|s| s.parameters().medium() == kind);
    if has(media::Type::Video) {
        format!("{place}: has no video, only a cover picture")
    } else if has(media::Type::Audio) {
        format!("{place}: has sound but no video")
    } else {
        format!("{place}: has no video stream")
    }
}

fn open_decoder(place: &Place, stream: &Stream<'_>, options: &Options) -> Result<decoder::Video> {
    let parameters = stream.parameters();
    // SAFETY: the parameters live as long as the stream; plain fields are read.
    let (width, height) = unsafe { ((*parameters.as_ptr()).width, (*parameters.as_ptr()).height) };
    let pixels = width.max(0) as u64 * height.max(0) as u64;
    if pixels > options.max_pixels {
        return Err(Error::Input(format!(
            "{place}: {width}x{height} is more than --max-pixels {} allows",
            options.max_pixels
        )));
    }
    let name = parameters.id();
    let failed = |e| Error::Input(format!("{place}: no decoder for {name:?}: {e}"));
    let mut context = codec::Context::from_parameters(parameters).map_err(failed)?;
    context.set_threading(codec::threading::Config { count: options.threads, ..codec::threading::Config::count(0) });
    // SAFETY: plain fields of a context that is not open yet.
    unsafe {
        let raw = context.as_mut_ptr();
        (*raw).max_pixels = options.max_pixels as i64;
        (*raw).pkt_timebase = stream.time_base().into();
        (*raw).thread_count = options.threads as i32;
        (*raw).thread_type = ffi::FF_THREAD_FRAME | ffi::FF_THREAD_SLICE;
    }
    context.decoder().video().map_err(failed)
}

/// `None` when the first packet gives no frame; then the reader finds out why.
fn decode_first(context: &mut context::Input, video: usize, decoder: &mut decoder::Video) -> Option<Video> {
    let mut packet = ffmpeg::Packet::empty();
    packet.read(context).ok().filter(|()| packet.stream() == video)?;
    let mut frame = Video::empty();
    decoder.send_packet(&packet).ok()?;
    if decoder.receive_frame(&mut frame).is_ok() {
        return Some(frame);
    }
    // A decoder with threads of its own waits for more; there is no more.
    decoder.send_eof().ok()?;
    let got = decoder.receive_frame(&mut frame);
    decoder.flush();
    got.ok().map(|()| frame)
}

fn describe(context: &context::Input, stream: &Stream<'_>, decoder: &decoder::Video) -> Native {
    let valid = |r: Rational| r.numerator() > 0 && r.denominator() > 0;
    let rates = [stream.avg_frame_rate(), stream.rate(), Rational(25, 1)];
    let frame_rate = rates.into_iter().find(|&r| valid(r)).unwrap_or(Rational(25, 1));
    let name = context.format().name().to_owned();
    let still = name.ends_with("_pipe") || name == "image2";
    let seconds = if stream.duration() > 0 {
        Some(stream.duration() as f64 * f64::from(stream.time_base()))
    } else if context.duration() > 0 {
        Some(context.duration() as f64 / f64::from(ffi::AV_TIME_BASE))
    } else {
        None
    };
    let frames = match stream.frames() {
        n if n > 0 => Some(n as u64),
        _ => seconds.map(|s| (s * f64::from(frame_rate)).round() as u64),
    };
    // SAFETY: plain fields of live structures.
    let (field_order, aspect) = unsafe {
        let parameters = stream.parameters();
        let sar = ffi::av_guess_sample_aspect_ratio(
            context.as_ptr().cast_mut(),
            stream.as_ptr().cast_mut(),
            std::ptr::null_mut(),
        );
        ((*parameters.as_ptr()).field_order, Rational::from(sar))
    };
    Native {
        format: decoder.format(),
        width: decoder.width(),
        height: decoder.height(),
        aspect: if valid(aspect) { aspect } else { Rational(1, 1) },
        matrix: display_matrix(stream),
        time_base: stream.time_base(),
        frame_rate,
        space: decoder.color_space(),
        range: decoder.color_range(),
        primaries: decoder.color_primaries(),
        transfer: decoder.color_transfer_characteristic(),
        fields: match field_order {
            ffi::AVFieldOrder::AV_FIELD_TT | ffi::AVFieldOrder::AV_FIELD_TB => Fields::TopFirst,
            ffi::AVFieldOrder::AV_FIELD_BB | ffi::AVFieldOrder::AV_FIELD_BT => Fields::BottomFirst,
            _ => Fields::Progressive,
        },
        duration: if still { None } else { seconds },
        frames: if still { Some(1) } else { frames },
        still,
    }
}

fn display_matrix(stream: &Stream<'_>) -> Option<[i32; 9]> {
    let data = stream.side_data().find(|d| d.kind() == codec::packet::side_data::Type::DisplayMatrix)?;
    super::normalise::matrix_from(data.data())
}

fn collect_extras(context: &context::Input, video: usize) -> (Vec<Option<usize>>, Extras) {
    let mut extras = Extras::default();
    let mut copied = Vec::new();
    for stream in context.streams() {
        let parameters = stream.parameters();
        let disposition = stream.disposition().bits();
        let cover = disposition & ffi::AV_DISPOSITION_ATTACHED_PIC != 0;
        let carried = match parameters.medium() {
            media::Type::Audio | media::Type::Subtitle | media::Type::Data | media::Type::Attachment => true,
            media::Type::Video => cover,
            _ => false,
        };
        let carried = carried && stream.index() != video;
        copied.push(carried.then_some(extras.streams.len()));
        if carried {
            extras.streams.push(CopiedStream {
                parameters: own(&parameters),
                time_base: stream.time_base(),
                metadata: pairs(stream.metadata()),
                disposition,
            });
        }
        if stream.index() == video {
            extras.video_metadata = pairs(stream.metadata());
            extras.video_metadata.retain(|(key, _)| key != "rotate");
        }
    }
    extras.metadata = pairs(context.metadata());
    extras.chapters = context
        .chapters()
        .map(|c| Chapter {
            id: c.id(),
            time_base: c.time_base(),
            start: c.start(),
            end: c.end(),
            title: c.metadata().get("title").unwrap_or_default().to_owned(),
        })
        .collect();
    (copied, extras)
}

fn pairs(dictionary: ffmpeg::DictionaryRef<'_>) -> Vec<(String, String)> {
    dictionary.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// A copy that does not hold on to the container.
fn own(parameters: &Parameters) -> Parameters {
    let mut copy = Parameters::new();
    // SAFETY: both are live AVCodecParameters; on lack of memory the copy stays empty, which muxers refuse cleanly.
    unsafe {
        ffi::avcodec_parameters_copy(copy.as_mut_ptr(), parameters.as_ptr());
    }
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_a_file_unless_it_says_otherwise() {
        assert_eq!(Place::parse("-"), Place::Stdin);
        assert_eq!(Place::parse("rtsp://cam/1"), Place::Url("rtsp://cam/1".into()));
        assert_eq!(Place::parse("a:b.mp4"), Place::File("a:b.mp4".into()));
        assert_eq!(Place::parse("://x"), Place::File("://x".into()));
    }

    #[test]
    fn passwords_are_never_shown() {
        let shown = Place::parse("rtsp://me:s3cret@cam:554/live?x=1").to_string();
        assert_eq!(shown, "rtsp://me:***@cam:554/live?x=1");
        assert_eq!(Place::parse("http://host/a@b").to_string(), "http://host/a@b");
    }
}
