//! Which container, codec and pixel format an output gets.

use std::ffi::{CStr, CString};
use std::path::Path;
use std::ptr;

use ffmpeg::ffi;
use ffmpeg::format::Pixel;
use ffmpeg::{Codec, codec, encoder};
use ffmpeg_next as ffmpeg;

use super::target::Destination;
use crate::error::{Error, Result};
use crate::ffmpeg_devices;
use crate::frame::{Format, has_alpha, is_rgb, plain};

/// What the user asked of the output.
#[derive(Clone, Debug, Default)]
pub struct Choices {
    /// Name of FFmpeg's muxer.
    pub format: Option<String>,
    pub codec: Option<String>,
    pub pix_fmt: Option<String>,
    pub crf: Option<f32>,
    pub preset: Option<String>,
    /// Options for FFmpeg's encoder and muxer, given after `--`.
    pub options: Vec<(String, String)>,
    pub no_audio: bool,
    pub no_subtitles: bool,
    pub metadata: Vec<(String, String)>,
    /// The background shall be transparent.
    pub alpha: bool,
    /// Threads of the encoder; 0 lets FFmpeg choose.
    pub threads: usize,
    /// The pictures come live.
    pub live: bool,
}

/// The container, codec and pixel formats of an output.
pub struct Plan {
    pub muxer: Muxer,
    pub codec: Codec,
    /// What the encoder takes.
    pub encoded: Pixel,
    /// What the pipeline works in: planar, and converted to `encoded` without loss where the two differ.
    pub working: Pixel,
    /// The encoder wants full range.
    pub full_range: bool,
    /// Someone watches while it is made: what matters is that a picture arrives soon.
    pub live: bool,
    pub choices: Choices,
}

/// One of FFmpeg's output formats.
#[derive(Clone, Copy)]
pub struct Muxer(pub(super) *const ffi::AVOutputFormat);

// SAFETY: points into FFmpeg's static, constant tables.
unsafe impl Send for Muxer {}

impl Muxer {
    fn get(&self) -> &ffi::AVOutputFormat {
        // SAFETY: the pointer was checked to be non-null and points into a static table.
        unsafe { &*self.0 }
    }

    pub fn name(&self) -> String {
        // SAFETY: every muxer has a NUL-terminated name.
        unsafe { CStr::from_ptr(self.get().name) }.to_string_lossy().into_owned()
    }

    pub fn has(&self, flag: i32) -> bool {
        self.get().flags & flag != 0
    }

    /// Single pictures, one file each.
    pub fn is_pictures(&self) -> bool {
        self.name() == "image2"
    }

    /// Counts frames and nothing else, so that the rate must be constant.
    pub fn has_constant_rate(&self) -> bool {
        self.name() == "yuv4mpegpipe"
    }

    /// Whether the container has a place for streams of this codec; `None` where only a try tells.
    fn knows(&self, id: codec::Id) -> Option<bool> {
        // SAFETY: a query of static tables.
        match unsafe { ffi::avformat_query_codec(self.0, id.into(), ffi::FF_COMPLIANCE_NORMAL) } {
            n if n < 0 => None,
            n => Some(n > 0),
        }
    }

    /// Whether a copied stream of this codec is worth a try. What is made for pictures alone, as rawvideo is, would write
    /// its bytes among them.
    pub fn takes(&self, id: codec::Id) -> bool {
        let has_sound = self.get().audio_codec != ffi::AVCodecID::AV_CODEC_ID_NONE;
        self.knows(id).unwrap_or(has_sound)
    }
}

impl Plan {
    /// Chooses for a source whose pictures are stored as `native`.
    pub fn new(destination: &Destination, native: Pixel, mut choices: Choices) -> Result<Self> {
        if matches!(destination, Destination::Camera(_)) {
            ffmpeg_devices::register()?;
            // What every program that reads cameras understands.
            choices.pix_fmt.get_or_insert_with(|| "yuv420p".to_owned());
            choices.codec.get_or_insert_with(|| "rawvideo".to_owned());
        }
        let muxer = muxer(destination, choices.format.as_deref())?;
        let codec = video_codec(&muxer, destination, &choices)?;
        let encoded = pixel_format(&codec, native, &choices)?;
        if choices.alpha && !has_alpha(encoded) {
            return Err(Error::Usage(format!(
                "{} with {} cannot store transparency; choose .mov (ProRes 4444), .webm (VP9) or frames/%05d.png",
                muxer.name(),
                codec.name()
            )));
        }
        let live = destination.is_stream() || (choices.live && *destination == Destination::Stdout);
        let full_range = encoded != plain(encoded) || codec.id() == codec::Id::MJPEG;
        Ok(Self { muxer, codec, encoded, working: working_format(encoded), full_range, live, choices })
    }
}

fn muxer(destination: &Destination, wanted: Option<&str>) -> Result<Muxer> {
    let c = |s: &str| CString::new(s).map_err(|_| Error::Usage("a name contains a NUL byte".to_owned()));
    let guess = |name: Option<&CStr>, file: Option<&CStr>| {
        let p = |s: Option<&CStr>| s.map_or(ptr::null(), CStr::as_ptr);
        // SAFETY: looks names up in FFmpeg's static tables.
        unsafe { ffi::av_guess_format(p(name), p(file), ptr::null()) }
    };
    let (found, complaint) = match (wanted, destination) {
        (_, Destination::Camera(_)) => {
            (guess(Some(c"v4l2"), None), "this FFmpeg cannot write to a virtual camera".to_owned())
        }
        // Endings are names too: y4m, mkv, ts.
        (Some(name), _) => (
            match guess(Some(&c(name)?), None) {
                unknown if unknown.is_null() => guess(None, Some(&c(&format!("x.{name}"))?)),
                found => found,
            },
            format!("'{name}' is no output format of FFmpeg; `ffmpeg -muxers` lists them"),
        ),
        (None, Destination::Window) => (guess(Some(c"null"), None), String::new()),
        (None, Destination::Stdout) => (guess(Some(c"matroska"), None), String::new()),
        (None, Destination::Pictures(_)) => (guess(Some(c"image2"), None), String::new()),
        (None, Destination::Url(url)) => {
            let name = match url.split("://").next() {
                Some("rtmp" | "rtmps") => c"flv",
                Some("rtsp" | "rtsps") => c"rtsp",
                _ => c"mpegts",
            };
            (guess(Some(name), None), String::new())
        }
        (None, Destination::File(path)) => {
            let name = c(&path.to_string_lossy())?;
            (
                guess(None, Some(&name)),
                format!(
                    "{}: no container goes by this ending; use .mp4, .mkv, .mov, .webm, .png or name one with -f",
                    path.display()
                ),
            )
        }
    };
    if found.is_null() { Err(Error::Usage(complaint)) } else { Ok(Muxer(found)) }
}

fn video_codec(muxer: &Muxer, destination: &Destination, choices: &Choices) -> Result<Codec> {
    if let Some(name) = &choices.codec {
        let by_name = encoder::find_by_name(name).or_else(|| by_descriptor(name));
        return by_name.filter(Codec::is_video).ok_or_else(|| {
            Error::Usage(format!("'{name}' is no video encoder of this FFmpeg; `ffmpeg -encoders` lists them"))
        });
    }
    let none = || Error::Usage(format!("the container {} holds no video; choose another", muxer.name()));
    let path = match destination {
        Destination::File(p) | Destination::Pictures(p) => p.as_path(),
        _ => Path::new(""),
    };
    let preferred: &[&str] = match (muxer.name().as_str(), choices.alpha) {
        ("mov", true) => &["prores_ks"],
        ("webm" | "matroska", true) => &["libvpx-vp9"],
        ("nut" | "avi", true) => &["ffv1"],
        ("webm", false) => &["libvpx-vp9"],
        _ if muxer.is_pictures() || muxer.knows(codec::Id::H264) == Some(false) => &[],
        ("gif" | "apng" | "rawvideo" | "yuv4mpegpipe" | "webp" | "ogg", _) => &[],
        // Frame hashes and the like are about the pictures themselves.
        (name, _) if name.starts_with("frame") || ["md5", "hash", "crc", "null"].contains(&name) => &["rawvideo"],
        _ => &["libx264", "libopenh264", "h264_videotoolbox", "h264"],
    };
    if let Some(found) = preferred.iter().find_map(|name| encoder::find_by_name(name)) {
        return Ok(found);
    }
    let file = CString::new(path.to_string_lossy().as_bytes()).map_err(|_| none())?;
    // SAFETY: looks names up in FFmpeg's static tables.
    let id = unsafe {
        ffi::av_guess_codec(
            muxer.0.cast_mut(),
            ptr::null(),
            file.as_ptr(),
            ptr::null(),
            ffi::AVMediaType::AVMEDIA_TYPE_VIDEO,
        )
    };
    encoder::find(codec::Id::from(id)).ok_or_else(none)
}

/// Finds an encoder by the codec's own name, `h264` or `hevc`.
fn by_descriptor(name: &str) -> Option<Codec> {
    let name = CString::new(name).ok()?;
    // SAFETY: looks a name up in a static table.
    let found = unsafe { ffi::avcodec_descriptor_get_by_name(name.as_ptr()).as_ref() }?;
    encoder::find(codec::Id::from(found.id))
}

/// The pixel formats that an encoder takes; empty when it does not say.
fn supported(codec: &Codec) -> Vec<Pixel> {
    codec.video().ok().and_then(|v| v.formats()).map(Iterator::collect).unwrap_or_default()
}

fn pixel_format(codec: &Codec, native: Pixel, choices: &Choices) -> Result<Pixel> {
    let list = supported(codec);
    if let Some(name) = &choices.pix_fmt {
        let text = CString::new(name.as_str()).unwrap_or_default();
        // SAFETY: looks a name up in a static table.
        let wanted = Pixel::from(unsafe { ffi::av_get_pix_fmt(text.as_ptr()) });
        if wanted == Pixel::None {
            return Err(Error::Usage(format!("'{name}' is no pixel format; `ffmpeg -pix_fmts` lists them")));
        }
        if !list.is_empty() && !list.contains(&wanted) {
            let names: Vec<_> = list.iter().map(|p| name_of(*p)).collect();
            return Err(Error::Usage(format!("{} cannot store {name}; it takes {}", codec.name(), names.join(", "))));
        }
        return Ok(wanted);
    }
    let deep = Format::of(native).map_or(8, |f| f.depth) > 8;
    let like = if choices.alpha {
        match (is_rgb(native), deep) {
            (true, _) => Pixel::RGBA,
            (false, true) => Pixel::YUVA444P10LE,
            (false, false) => Pixel::YUVA420P,
        }
    } else if is_rgb(native) && list.contains(&Pixel::YUV420P) && !list.iter().any(|p| is_rgb(*p)) {
        // Few players show the 4:4:4 that would keep every colour of a picture.
        Pixel::YUV420P
    } else {
        native
    };
    if list.is_empty() {
        return Ok(like);
    }
    let mut raw: Vec<ffi::AVPixelFormat> = list.iter().map(|p| (*p).into()).collect();
    raw.push(ffi::AVPixelFormat::AV_PIX_FMT_NONE);
    // SAFETY: the list ends with NONE; the loss is not asked for.
    let best = unsafe {
        ffi::avcodec_find_best_pix_fmt_of_list(raw.as_ptr(), like.into(), i32::from(choices.alpha), ptr::null_mut())
    };
    Ok(Pixel::from(best))
}

/// The planar format that compositing works in for an encoder that takes `encoded`.
fn working_format(encoded: Pixel) -> Pixel {
    let encoded = plain(encoded);
    if Format::of(encoded).is_some() {
        return encoded;
    }
    // SAFETY: the table of descriptors is static.
    let depth = unsafe { ffi::av_pix_fmt_desc_get(encoded.into()).as_ref() }.map_or(8, |d| d.comp[0].depth);
    match (is_rgb(encoded), has_alpha(encoded) && encoded != Pixel::PAL8, depth > 8) {
        (true, false, false) => Pixel::GBRP,
        (true, true, false) => Pixel::GBRAP,
        (true, false, true) => Pixel::GBRP16LE,
        (true, true, true) => Pixel::GBRAP16LE,
        (false, _, true) => Pixel::YUV420P10LE,
        (false, true, false) => Pixel::YUVA420P,
        (false, false, false) => Pixel::YUV420P,
    }
}

fn name_of(pixel: Pixel) -> String {
    // SAFETY: the name is a static NUL-terminated string or null.
    let name = unsafe { ffi::av_get_pix_fmt_name(pixel.into()) };
    if name.is_null() {
        return "none".to_owned();
    }
    // SAFETY: checked for null above.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}
