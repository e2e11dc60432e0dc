//! Frames in, packets out: one video encoder, opened after a [`Plan`].

use std::collections::BTreeMap;
use std::ffi::CString;
use std::mem::ManuallyDrop;

use ffmpeg::ffi;
use ffmpeg::format::Pixel;
use ffmpeg::software::scaling;
use ffmpeg::{Codec, Dictionary, Packet, Rational, codec, encoder};
use ffmpeg_next as ffmpeg;

use super::plan::Plan;
use crate::error::{Error, Result};
use crate::frame::{Frame, PicturePool, plain};
use crate::stream::{Fields, VideoInfo};

pub(super) struct Encoder {
    encoder: ManuallyDrop<encoder::Video>,
    /// The unit of the packets' times.
    pub(super) time_base: Rational,
    info: VideoInfo,
    encoded: Pixel,
    converter: Option<Converter>,
    /// Durations of frames that are inside the encoder, by time stamp: x264 through FFmpeg 5 loses them.
    durations: BTreeMap<i64, i64>,
}

/// Brings the working format into the encoder's. A scaler may not change threads, so it is made where it is used.
struct Converter {
    scaler: scaling::Context,
    pool: PicturePool,
}

// SAFETY: made on first use in `encode`, which only the sink's thread calls; moved before that only as `None`.
unsafe impl Send for Converter {}

impl Drop for Encoder {
    /// SVT-AV1 waits for ever when it is closed before its first frame: then it is left to the end of the process.
    fn drop(&mut self) {
        let waits = self.durations.is_empty() && self.encoder.codec().is_some_and(|c| c.name() == "libsvtav1");
        if !waits {
            // SAFETY: this is the only place, and nobody uses the encoder afterwards.
            unsafe { ManuallyDrop::drop(&mut self.encoder) }
        }
    }
}

impl Encoder {
    pub(super) fn open(plan: &Plan, info: &VideoInfo) -> Result<Self> {
        let first = Self::open_with(plan, info, info.time_base);
        match first {
            // MPEG-4 part 2 and older count time in small fractions of the frame rate only.
            Err(ffmpeg::Error::InvalidData | ffmpeg::Error::Other { .. }) if is_coarse(&plan.codec) => {
                Self::open_with(plan, info, info.frame_rate.invert())
            }
            other => other,
        }
        .map_err(|e| {
            Error::Output(format!(
                "the encoder {} refuses {}x{} {:?}{}: {e}",
                plan.codec.name(),
                info.width,
                info.height,
                plan.encoded,
                if plan.choices.options.is_empty() { "" } else { " with the options after --" },
            ))
        })
    }

    fn open_with(plan: &Plan, info: &VideoInfo, time_base: Rational) -> Result<Self, ffmpeg::Error> {
        let mut video = codec::context::Context::new_with_codec(plan.codec).encoder().video()?;
        video.set_width(info.width);
        video.set_height(info.height);
        video.set_format(plan.encoded);
        video.set_time_base(time_base);
        video.set_frame_rate(Some(info.frame_rate));
        video.set_aspect_ratio((1, 1));
        video.set_colorspace(info.colour.space);
        video.set_color_range(info.colour.range);
        video.set_color_primaries(info.colour.primaries);
        video.set_color_transfer_characteristic(info.colour.transfer);
        let mut flags = codec::Flags::empty();
        if plan.muxer.has(ffi::AVFMT_GLOBALHEADER) {
            flags |= codec::Flags::GLOBAL_HEADER;
        }
        let mut options = defaults(plan, f64::from(info.frame_rate));
        if info.fields != Fields::Progressive {
            flags |= codec::Flags::INTERLACED_DCT | codec::Flags::INTERLACED_ME;
        }
        if options.get("global_quality").is_some() {
            flags |= codec::Flags::QSCALE;
        }
        video.set_flags(flags);
        // SAFETY: plain fields of a context that is not open yet.
        unsafe {
            let raw = video.as_mut_ptr();
            (*raw).thread_count = plan.choices.threads as i32;
            if holds_back(plan) {
                (*raw).thread_type = ffi::FF_THREAD_SLICE;
            }
            (*raw).field_order = match info.fields {
                Fields::Progressive => ffi::AVFieldOrder::AV_FIELD_PROGRESSIVE,
                Fields::TopFirst => ffi::AVFieldOrder::AV_FIELD_TT,
                Fields::BottomFirst => ffi::AVFieldOrder::AV_FIELD_BB,
            };
        }
        for (key, value) in &plan.choices.options {
            if has_option(&plan.codec, key) {
                options.set(key, value);
            }
        }
        Ok(Self {
            encoder: ManuallyDrop::new(video.open_as_with(plan.codec, options)?),
            time_base,
            info: info.clone(),
            encoded: plan.encoded,
            converter: None,
            durations: BTreeMap::new(),
        })
    }

    pub(super) fn context(&self) -> &codec::Context {
        &self.encoder
    }

    /// Encodes one frame and hands every packet that is ready to `emit`.
    pub(super) fn encode(&mut self, frame: Frame, emit: &mut dyn FnMut(Packet) -> Result<()>) -> Result<()> {
        let rescale = |t: i64| {
            // SAFETY: arithmetic only.
            unsafe { ffi::av_rescale_q(t, frame.time.base.into(), self.time_base.into()) }
        };
        let (mut pts, duration) = (rescale(frame.time.pts), rescale(frame.time.duration).max(1));
        if let Some((last, _)) = self.durations.last_key_value() {
            // Only a coarser clock than the source's can bring two frames onto one tick.
            pts = pts.max(last + 1);
        }
        let mut picture = frame.picture;
        if picture.format() == plain(self.encoded) {
            picture.set_format(self.encoded);
        } else {
            picture = self.convert(&picture)?;
        }
        picture.set_pts(Some(pts));
        picture.set_kind(ffmpeg::picture::Type::None);
        self.durations.insert(pts, duration);
        self.encoder.send_frame(&picture).map_err(refused)?;
        self.receive(emit)
    }

    pub(super) fn flush(&mut self, emit: &mut dyn FnMut(Packet) -> Result<()>) -> Result<()> {
        self.encoder.send_eof().map_err(refused)?;
        self.receive(emit)
    }

    fn receive(&mut self, emit: &mut dyn FnMut(Packet) -> Result<()>) -> Result<()> {
        loop {
            let mut packet = Packet::empty();
            match self.encoder.receive_packet(&mut packet) {
                Ok(()) => {
                    if let Some(pts) = packet.pts() {
                        if let Some(&duration) = self.durations.get(&pts) {
                            packet.set_duration(duration);
                        }
                        // The newest stays, so that `encode` knows it.
                        if self.durations.len() > 1 {
                            self.durations.remove(&pts);
                        }
                    }
                    emit(packet)?;
                }
                Err(ffmpeg::Error::Eof | ffmpeg::Error::Other { errno: libc::EAGAIN }) => return Ok(()),
                Err(error) => return Err(refused(error)),
            }
        }
    }

    fn convert(&mut self, picture: &ffmpeg::frame::Video) -> Result<ffmpeg::frame::Video> {
        let (width, height) = (self.info.width, self.info.height);
        let failed = |e| Error::Output(format!("the picture cannot be converted for the encoder: {e}"));
        let converter = match &mut self.converter {
            Some(converter) => converter,
            empty => {
                let flags = scaling::Flags::BICUBIC | scaling::Flags::ACCURATE_RND | scaling::Flags::FULL_CHR_H_INT;
                let scaler = scaling::Context::get(picture.format(), width, height, self.encoded, width, height, flags)
                    .map_err(failed)?;
                let pool = PicturePool::new(self.encoded, width, height).map_err(failed)?;
                empty.insert(Converter { scaler, pool })
            }
        };
        let mut out = converter.pool.get().map_err(failed)?;
        converter.scaler.run(picture, &mut out).map_err(failed)?;
        crate::frame::copy_props(picture, &mut out);
        Ok(out)
    }
}

fn refused(error: ffmpeg::Error) -> Error {
    Error::Output(format!("the encoder gave up: {error}"))
}

/// Threads that each take a frame hold as many frames back. Somebody waits for a live picture, and for one that goes
/// through a pipe as it is; copying it needs no threads.
fn holds_back(plan: &Plan) -> bool {
    plan.live || plan.codec.id() == codec::Id::RAWVIDEO
}

fn is_coarse(codec: &Codec) -> bool {
    use codec::Id::{H263, H263P, MPEG1VIDEO, MPEG2VIDEO, MPEG4, MSMPEG4V2, MSMPEG4V3, THEORA};
    [MPEG4, MPEG2VIDEO, MPEG1VIDEO, H263, H263P, MSMPEG4V2, MSMPEG4V3, THEORA].contains(&codec.id())
}

/// Quality settings for the encoder at hand; what the user chose comes on top.
fn defaults(plan: &Plan, rate: f64) -> Dictionary<'static> {
    let mut options = Dictionary::new();
    let chosen = &plan.choices;
    let mut set = |key: &str, value: &str| {
        if has_option(&plan.codec, key) {
            options.set(key, value);
        }
    };
    match plan.codec.name() {
        "libx264" | "libx264rgb" => {
            set("preset", "veryfast");
            set("crf", if plan.live { "23" } else { "18" });
            if plan.live {
                set("tune", "zerolatency");
                set("bf", "0");
            }
        }
        "libx265" => {
            set("preset", "veryfast");
            set("crf", "20");
            set("x265-params", "log-level=error");
        }
        "libvpx-vp9" | "libvpx" => {
            set("crf", "24");
            set("b", "0");
            set("deadline", "good");
            set("cpu-used", "5");
            set("row-mt", "1");
            if chosen.alpha {
                // libvpx cannot hide a reference frame that has transparency.
                set("auto-alt-ref", "0");
            }
        }
        "libsvtav1" => {
            set("preset", "8");
            set("crf", "28");
        }
        "mjpeg" | "mpeg4" | "mpeg2video" | "libtheora" => {
            // 2 of 31, in FFmpeg's lambda units: nearly without loss.
            set("global_quality", &(2 * ffi::FF_QP2LAMBDA).to_string());
        }
        _ => {}
    }
    if plan.live {
        // Whoever joins late waits for the next key frame: two seconds at most.
        set("g", &(2.0 * rate).round().max(1.0).to_string());
    }
    if let Some(crf) = chosen.crf {
        set("crf", &crf.to_string());
    }
    if let Some(preset) = &chosen.preset {
        set("preset", preset);
    }
    options
}

/// Whether the encoder, or FFmpeg for every encoder, knows an option.
pub(super) fn has_option(codec: &Codec, name: &str) -> bool {
    // SAFETY: the classes are static tables of option descriptions.
    unsafe { class_has(ffi::avcodec_get_class(), name) || class_has((*codec.as_ptr()).priv_class, name) }
}

/// Looks an option up in a class without an object of it.
///
/// # Safety
/// `class` is null or one of FFmpeg's static classes.
pub(super) unsafe fn class_has(mut class: *const ffi::AVClass, name: &str) -> bool {
    let Ok(name) = CString::new(name) else { return false };
    if class.is_null() {
        return false;
    }
    // SAFETY: with FAKE_OBJ the first argument is a pointer to a pointer to a class.
    let found = unsafe {
        ffi::av_opt_find((&raw mut class).cast(), name.as_ptr(), std::ptr::null(), 0, ffi::AV_OPT_SEARCH_FAKE_OBJ)
    };
    !found.is_null()
}
