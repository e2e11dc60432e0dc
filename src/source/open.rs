//! Opens FFmpeg's demuxer on a place: with a deadline on every read of the network, and only the protocols that the
//! place may lead to.

use std::ffi::{CStr, CString};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ffmpeg::ffi;
use ffmpeg::format::context;
use ffmpeg::util::interrupt;
use ffmpeg::{Dictionary, Rational};
use ffmpeg_next as ffmpeg;

use super::Place;
use super::camera::{self, Api, Camera};
use super::packets::Packets;
use super::stdin::Stdin;
use crate::error::{Error, Result};
use crate::ffmpeg_devices;
use crate::pipeline::Control;

#[derive(Clone)]
pub struct Options {
    /// Name of FFmpeg's demuxer, when the content does not tell.
    pub format: Option<String>,
    /// Larger pictures are refused before any memory is taken for them.
    pub max_pixels: u64,
    /// Threads of the decoder; 0 lets FFmpeg choose.
    pub threads: usize,
    /// Frames per second of what has no rate of its own (numbered pictures), or is asked for one (cameras).
    pub rate: Option<Rational>,
    /// Width and height that a camera is asked for.
    pub size: Option<(u32, u32)>,
    /// The pictures come live, whatever they come through.
    pub live: bool,
    /// How many pictures come in a second is known from an earlier connection; finding it out takes twenty of them.
    pub rate_is_known: bool,
    /// What reads a camera.
    pub camera_api: Api,
    /// The camera that was read before; no other will do.
    pub known_camera: Option<Camera>,
    /// So long may the network or a camera be silent.
    pub timeout: Duration,
    pub control: Control,
}

/// Ends a read of FFmpeg's that has waited for too long, and every read after a stop.
#[derive(Clone)]
pub(super) struct Deadline {
    epoch: Instant,
    /// Milliseconds since `epoch` at which the current read began.
    since: Arc<AtomicU64>,
    /// The same for when the first data had come.
    first: Arc<AtomicU64>,
    limit: Option<Duration>,
    control: Control,
    /// While FFmpeg looks into the streams, which takes many reads: the context, and how far it had read before.
    probing: Arc<AtomicPtr<ffi::AVFormatContext>>,
    read: Arc<AtomicI64>,
}

impl Deadline {
    fn new(place: &Place, options: &Options) -> Self {
        let limit = matches!(place, Place::Url(_) | Place::Camera(_)).then_some(options.timeout);
        Self {
            epoch: Instant::now(),
            since: Arc::default(),
            first: Arc::default(),
            limit,
            control: options.control.clone(),
            probing: Arc::default(),
            read: Arc::default(),
        }
    }

    /// A read begins now.
    pub(super) fn begin(&self) {
        self.since.store(self.epoch.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// When the first data came.
    pub(super) fn begun(&self) -> Instant {
        self.epoch + Duration::from_millis(self.first.load(Ordering::Relaxed))
    }

    /// Begins anew whenever data has come since the last look. Without an I/O context of its own, as RTSP is, the
    /// probing is one long read.
    fn follow_probing(&self) {
        // SAFETY: the pointer is set while the context lives in `open_location`, on whose thread FFmpeg asks.
        let io = unsafe { self.probing.load(Ordering::Relaxed).as_ref().and_then(|context| context.pb.as_ref()) };
        if let Some(io) = io
            && self.read.swap(io.pos, Ordering::Relaxed) != io.pos
        {
            self.begin();
        }
    }

    pub(super) fn expired(&self) -> bool {
        let begun = Duration::from_millis(self.since.load(Ordering::Relaxed));
        self.limit.is_some_and(|limit| self.epoch.elapsed().saturating_sub(begun) >= limit)
    }

    pub(super) fn stopped(&self) -> bool {
        self.control.stopped()
    }

    pub(super) fn paused(&self) -> bool {
        self.control.paused()
    }
}

/// Why a place could not be opened.
pub(super) enum Failure {
    /// FFmpeg says so; trying again may help.
    Ffmpeg(ffmpeg::Error),
    /// The command line is wrong, or something is missing on this machine.
    Other(Error),
}

/// Opens the container and looks into its streams. Of a camera, says which one it is. The deadline also tells when the
/// first data came, which may be long after the call: a listener waits.
pub(super) fn open(place: &Place, options: &Options) -> Result<(Packets, Option<Camera>), Failure> {
    let deadline = Deadline::new(place, options);
    let mut dictionary = settings(place, options);
    dictionary.set("protocol_whitelist", protocols(place));
    let (location, format) = match place {
        Place::Stdin => {
            let io = context::StreamIo::from_read(Stdin::new(options.control.clone())).map_err(Failure::Ffmpeg)?;
            let format = options.format.as_deref().map(demuxer).transpose().map_err(Failure::Other)?;
            return open_location(From::Own(io), format, dictionary, &deadline, 0)
                .map(|input| (Packets::of_demuxer(input, deadline), None))
                .map_err(Failure::Ffmpeg);
        }
        // The prefix keeps a file called `a:b.mp4` from being taken for a protocol.
        Place::File(path) => (path.to_str().map(|p| format!("file:{p}")), options.format.as_deref()),
        Place::Url(url) => (Some(url.clone()), options.format.as_deref()),
        Place::Pictures { pattern, .. } => (Some(pattern.clone()), Some("image2")),
        Place::Lavfi(graph) => {
            ffmpeg_devices::register().map_err(Failure::Other)?;
            (Some(graph.clone()), Some("lavfi"))
        }
        Place::Nothing => return Err(Failure::Other(Error::Usage("there is no input".to_owned()))),
        Place::Camera(wanted) => {
            return camera::open(wanted, options, deadline).map(|(packets, camera)| (packets, Some(camera)));
        }
    };
    let location = location.and_then(|l| CString::new(l).ok()).ok_or_else(|| {
        Failure::Other(Error::Input(format!(
            "{place}: the name is not UTF-8 or holds a zero byte, which FFmpeg's interface cannot take; rename it"
        )))
    })?;
    let format = format.map(demuxer).transpose().map_err(Failure::Other)?;
    if options.rate_is_known {
        dictionary.set("fpsprobesize", "0");
    }
    let input = open_location(From::Named(&location), format, dictionary, &deadline, 0).map_err(Failure::Ffmpeg)?;
    Ok((Packets::of_demuxer(input, deadline), None))
}

/// Opens a device in such a way that reading it never waits. What its streams hold is not looked into: their decoder
/// tells.
pub(super) fn open_device(
    location: &CStr,
    format: *const ffi::AVInputFormat,
    dictionary: Dictionary,
    deadline: &Deadline,
) -> Result<context::Input, ffmpeg::Error> {
    open_location(From::Named(location), Some(format), dictionary, deadline, ffi::AVFMT_FLAG_NONBLOCK)
}

/// What FFmpeg reads from.
enum From<'a> {
    Named(&'a CStr),
    Own(context::StreamIo),
}

/// `avformat_open_input` with a demuxer of choice, flags of the context and an interrupt callback.
fn open_location(
    from: From<'_>,
    format: Option<*const ffi::AVInputFormat>,
    dictionary: Dictionary,
    deadline: &Deadline,
    flags: i32,
) -> Result<context::Input, ffmpeg::Error> {
    let watched = deadline.clone();
    let interrupt = interrupt::new(Box::new(move || {
        watched.follow_probing();
        watched.stopped() || watched.expired()
    }));
    let (location, mut own) = match from {
        From::Named(location) => (location.as_ptr(), None),
        From::Own(io) => (ptr::null(), Some(io)),
    };
    deadline.begin();
    // SAFETY: the context is made here; opening frees it on failure; else `Input` owns it together with the guard of
    // the callback and what it reads from. The dictionary is handed over and taken back, so that what FFmpeg left of it
    // is freed.
    unsafe {
        let mut raw = ffi::avformat_alloc_context();
        if raw.is_null() {
            return Err(ffmpeg::Error::Other { errno: libc::ENOMEM });
        }
        (*raw).interrupt_callback = interrupt.interrupt;
        (*raw).flags |= flags;
        if let Some(io) = &mut own {
            (*raw).pb = io.as_mut_ptr();
            (*raw).flags |= ffi::AVFMT_FLAG_CUSTOM_IO;
        }
        let mut options = dictionary.disown();
        let opened = ffi::avformat_open_input(&mut raw, location, format.unwrap_or(ptr::null()).cast(), &mut options);
        drop(Dictionary::own(options));
        if opened < 0 {
            return Err(opened.into());
        }
        let input = match own {
            Some(io) => context::Input::wrap_with_custom_io_and_interrupt(raw, io, interrupt.guard),
            None => context::Input::wrap_with_interrupt(raw, interrupt.guard),
        };
        deadline.begin();
        deadline.first.store(deadline.since.load(Ordering::Relaxed), Ordering::Relaxed);
        if flags & ffi::AVFMT_FLAG_NONBLOCK != 0 {
            return Ok(input);
        }
        deadline.probing.store(raw, Ordering::Relaxed);
        let found = ffi::avformat_find_stream_info(raw, ptr::null_mut());
        deadline.probing.store(ptr::null_mut(), Ordering::Relaxed);
        if found < 0 { Err(found.into()) } else { Ok(input) }
    }
}

pub(super) fn demuxer(name: &str) -> Result<*const ffi::AVInputFormat> {
    let usage = || Error::Usage(format!("'{name}' is no input format of FFmpeg; `ffmpeg -demuxers` lists them"));
    let name = CString::new(name).map_err(|_| usage())?;
    // SAFETY: looks a name up in FFmpeg's static tables.
    let format = unsafe { ffi::av_find_input_format(name.as_ptr()) };
    if format.is_null() { Err(usage()) } else { Ok(format) }
}

/// Protocols that an input may lead to. A local file must not make krea fetch from the network.
fn protocols(place: &Place) -> &'static str {
    match place {
        Place::Url(_) => "http,https,httpproxy,tcp,tls,udp,rtp,rtsp,rtsps,srt,rtmp,rtmps,rtmpt,crypto,data",
        _ => "file,pipe,data",
    }
}

/// What FFmpeg must know besides the name.
fn settings(place: &Place, options: &Options) -> Dictionary<'static> {
    let mut set = Dictionary::new();
    let microseconds = options.timeout.as_micros().to_string();
    match place.scheme().as_deref() {
        Some("rtsp" | "rtsps") => {
            set.set("rtsp_flags", "prefer_tcp");
            // Before FFmpeg 5 `timeout` made the client listen for a server.
            // SAFETY: reads a version number.
            let old = unsafe { ffi::avformat_version() } >> 16 < 59;
            set.set(if old { "stimeout" } else { "timeout" }, &microseconds);
        }
        Some("udp") => {
            // A burst that overruns the buffer costs frames, not the connection.
            set.set("overrun_nonfatal", "1");
            set.set("timeout", &microseconds);
        }
        Some(_) => set.set("rw_timeout", &microseconds),
        None => {}
    }
    if let Place::Pictures { glob, .. } = place {
        set.set("pattern_type", if *glob { "glob" } else { "sequence" });
        let Rational(num, den) = options.rate.unwrap_or(Rational(25, 1));
        set.set("framerate", &format!("{num}/{den}"));
        if !glob {
            // The first number may be anything up to this.
            set.set("start_number_range", "100000");
        }
    }
    set
}
