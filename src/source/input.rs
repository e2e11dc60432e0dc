//! Opens an input, picks its video, and tells what is in it before a single frame is decoded.

use std::time::Instant;

use ffmpeg::codec::Parameters;
use ffmpeg::ffi;
use ffmpeg::format::{Pixel, context};
use ffmpeg::frame::Video;
use ffmpeg::{Rational, Stream, codec, decoder, media};
use ffmpeg_next as ffmpeg;

use super::Place;
use super::camera::Camera;
use super::normalise::frame_matrix;
use super::open::{self, Failure, Options};
use super::packets::Packets;
use super::refusal::{Refusal, no_video, refusal, refuse_what_is_no_file, shapeless};
use super::trial::{decode_first, try_out};
use crate::error::{Error, Result};
use crate::stream::{Chapter, CopiedStream, Extras, Fields};

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
    /// Which camera it is, if it is one.
    pub(super) camera: Option<Camera>,
    pub(super) packets: Packets,
    pub(super) decoder: decoder::Video,
    pub(super) video: usize,
    /// For each stream of the container its index in `extras.streams`, if it is copied.
    pub(super) copied: Vec<Option<usize>>,
    extras: Extras,
    /// The frame that was decoded to learn what only the frame itself tells.
    pub(super) first: Option<Video>,
    /// When the connection gave its first data.
    pub(super) begun: Instant,
}

impl Input {
    pub fn open(place: &Place, options: &Options) -> Result<Self> {
        Self::attempt(place, options).map_err(|refusal| refusal.error)
    }

    pub(super) fn attempt(place: &Place, options: &Options) -> Result<Self, Refusal> {
        if let Place::File(path) = place {
            refuse_what_is_no_file(path)?;
        }
        let (packets, camera) = open::open(place, options).map_err(|failure| match failure {
            Failure::Other(error) => error.into(),
            Failure::Ffmpeg(error) => refusal(place, options, error),
        })?;
        Self::look_into(place, options, packets, camera)
    }

    fn look_into(
        place: &Place,
        options: &Options,
        mut packets: Packets,
        camera: Option<Camera>,
    ) -> Result<Self, Refusal> {
        let begun = packets.deadline.begun();
        let video = pick_video(&packets.context).ok_or_else(|| Error::Input(no_video(place, &packets.context)))?;
        let index = video.index();
        let mut decoder = open_decoder(place, &video, options)?;
        if camera.is_some() {
            try_out(place, options, &mut packets, &mut decoder)?;
        }
        let video = packets.context.stream(index).expect("it was picked");
        let mut native = describe(place, &packets.context, &video, &decoder);
        if native.format == Pixel::None || native.width == 0 || native.height == 0 {
            return Err(shapeless(place));
        }
        let (copied, extras) = collect_extras(&packets.context, index);
        // How a photo is turned stands in its EXIF data, which the decoder passes on with the picture.
        let first = if native.still { decode_first(&mut packets, index, &mut decoder) } else { None };
        native.matrix = first.as_ref().and_then(frame_matrix).or(native.matrix);
        let place = place.clone();
        Ok(Self { place, native, camera, packets, decoder, video: index, copied, extras, first, begun })
    }

    /// A stream without an end, which is joined again when it breaks off. What tells its length ends of itself.
    pub fn is_endless(&self) -> bool {
        let unknown = self.native.duration.is_none() && !self.native.still;
        matches!(self.place, Place::Url(_) | Place::Camera(_)) && unknown && !self.has_known_size()
    }

    /// Whether it comes at its own pace. A film on a server waits for its reader.
    pub fn has_own_pace(&self) -> bool {
        self.place.has_own_pace() && (self.is_endless() || !self.is_http())
    }

    pub(super) fn is_http(&self) -> bool {
        self.place.scheme().is_some_and(|scheme| scheme.starts_with("http"))
    }

    /// Whether a server has told how many bytes there are, as it does for a file. Of a playlist that is nothing: it names
    /// what there is to read.
    fn has_known_size(&self) -> bool {
        self.is_http()
            && !["hls", "dash"].contains(&self.packets.context.format().name())
            // SAFETY: the I/O context belongs to the live demuxer; it is checked for null.
            && unsafe {
                let io = (*self.packets.context.as_ptr()).pb;
                !io.is_null() && ffi::avio_size(io) > 0
            }
    }

    /// The streams that are copied.
    pub(super) fn copied_streams(&self) -> &[CopiedStream] {
        &self.extras.streams
    }

    /// What travels beside the frames; empty after the first call.
    pub fn take_extras(&mut self) -> Extras {
        std::mem::take(&mut self.extras)
    }
}

/// The best video stream that is no cover picture.
fn pick_video(context: &context::Input) -> Option<Stream<'_>> {
    let is_film = |s: &Stream<'_>| {
        s.parameters().medium() == media::Type::Video && s.disposition().bits() & ffi::AV_DISPOSITION_ATTACHED_PIC == 0
    };
    context.streams().best(media::Type::Video).filter(is_film).or_else(|| context.streams().find(is_film))
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
        // Threads that each take a frame hold as many frames back.
        let frames = if options.live || place.has_own_pace() { 0 } else { ffi::FF_THREAD_FRAME };
        (*raw).thread_type = frames | ffi::FF_THREAD_SLICE;
    }
    context.decoder().video().map_err(failed)
}

fn describe(place: &Place, context: &context::Input, stream: &Stream<'_>, decoder: &decoder::Video) -> Native {
    let valid = |r: Rational| r.numerator() > 0 && r.denominator() > 0;
    // A live stream may know no rate but that of its clock, 90 kHz.
    let valid_rate = |r: Rational| valid(r) && f64::from(r) <= 1000.0;
    let rates = [stream.avg_frame_rate(), stream.rate(), Rational(25, 1)];
    let frame_rate = rates.into_iter().find(|&r| valid_rate(r)).unwrap_or(Rational(25, 1));
    let is_picture = |name: &str| name.ends_with("_pipe") || name == "image2";
    // A camera may come without a demuxer to ask.
    let film = matches!(place, Place::Pictures { .. } | Place::Camera(_));
    let still = !film && is_picture(context.format().name());
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
