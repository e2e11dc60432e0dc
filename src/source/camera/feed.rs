//! A camera through nokhwa: its pictures, as they come, in FFmpeg's packets.
//!
//! nokhwa waits for a picture without an end. So a thread of its own waits, and whoever reads waits for the thread,
//! with a deadline.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use ffmpeg::format::Pixel;
use ffmpeg::{Packet, Rational, codec};
use ffmpeg_next as ffmpeg;
use nokhwa::utils::{CameraFormat, CameraIndex, FrameFormat, RequestedFormat, RequestedFormatType};
use nokhwa::{Buffer, NokhwaError};

use super::choose::Choice;
use super::{Camera, Trouble};
use crate::source::open::Deadline;

/// Time stamps are in microseconds since the feed was opened.
pub(super) const TIME_BASE: Rational = Rational(1, 1_000_000);

/// Pictures that wait to be read. A reader that hesitates shall lose none; one that is behind shall not fall further back.
const WAITING: usize = 8;

/// How often a wait looks up.
const TICK: Duration = Duration::from_millis(20);

/// The codings that nokhwa knows: Video4Linux's characters, and how FFmpeg decodes them.
const CODINGS: [(FrameFormat, &str, codec::Id, Pixel); 6] = [
    (FrameFormat::MJPEG, "MJPG", codec::Id::MJPEG, Pixel::None),
    (FrameFormat::YUYV, "YUYV", codec::Id::RAWVIDEO, Pixel::YUYV422),
    (FrameFormat::NV12, "NV12", codec::Id::RAWVIDEO, Pixel::NV12),
    (FrameFormat::RAWRGB, "RGB3", codec::Id::RAWVIDEO, Pixel::RGB24),
    (FrameFormat::RAWBGR, "BGR3", codec::Id::RAWVIDEO, Pixel::BGR24),
    // Not what Video4Linux calls it: there, nokhwa never finds it.
    (FrameFormat::GRAY, "GRAY", codec::Id::RAWVIDEO, Pixel::GRAY8),
];

#[cfg(not(target_os = "linux"))]
pub(super) fn fourcc(format: FrameFormat) -> &'static str {
    CODINGS.iter().find(|c| c.0 == format).map_or("", |c| c.1)
}

/// A format that nokhwa can be asked for, and how FFmpeg decodes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Setting {
    format: CameraFormat,
    pub(super) codec: codec::Id,
    pub(super) pixel: Pixel,
}

impl Setting {
    /// An error that says why nokhwa cannot be asked for it.
    pub(super) fn of(choice: &Choice) -> Result<Self, String> {
        let Some((format, _, codec, pixel)) = CODINGS.into_iter().find(|c| c.1 == choice.fourcc) else {
            return Err(format!("nokhwa does not know the format {}", choice.fourcc));
        };
        match choice.rate.map(|r| r.reduce()) {
            Some(Rational(rate @ 1.., 1)) => {
                let format = CameraFormat::new_from(choice.width, choice.height, format, rate.unsigned_abs());
                Ok(Self { format, codec, pixel })
            }
            Some(rate) => Err(format!("nokhwa takes whole rates only, not {rate}")),
            None => Err("nokhwa needs a rate, and the camera tells none".to_owned()),
        }
    }
}

/// Pictures of a camera that is open.
pub(crate) struct Feed {
    packets: Receiver<Result<Packet, Trouble>>,
    missed: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Feed {
    pub(super) fn open(camera: &Camera, setting: &Setting, deadline: &Deadline) -> Result<Self, Trouble> {
        let (opened, answer) = crossbeam_channel::bounded(1);
        let (send, packets) = crossbeam_channel::bounded(WAITING);
        let (index, format) = (camera.index, setting.format);
        let missed = Arc::<AtomicU64>::default();
        let count = missed.clone();
        let body = move || {
            let handler = interrupt::only();
            // nokhwa panics where an ioctl fails that never should, and on names that are no UTF-8.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| capture(index, format, &opened, &send, &count)));
            interrupt::done(handler);
        };
        let thread = thread::Builder::new()
            .name("camera".to_owned())
            .spawn(body)
            .map_err(|e| Trouble { errno: e.raw_os_error(), text: e.to_string() })?;
        let feed = Self { packets, missed, thread: Some(thread) };
        deadline.begin();
        loop {
            match answer.recv_timeout(TICK) {
                Ok(Ok(())) => return Ok(feed),
                Ok(Err(error)) => return Err(error),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Trouble { errno: None, text: "nokhwa has panicked".to_owned() });
                }
                Err(RecvTimeoutError::Timeout) if deadline.stopped() || deadline.expired() => {
                    return Err(Trouble { errno: Some(libc::ETIMEDOUT), text: "it does not open".to_owned() });
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Pictures that nobody took in time, since this was last asked.
    pub(in crate::source) fn missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }

    /// The next picture; FFmpeg's `Exit` after a stop or the deadline.
    pub(in crate::source) fn read(&mut self, packet: &mut Packet, deadline: &Deadline) -> Result<(), ffmpeg::Error> {
        loop {
            match self.packets.recv_timeout(TICK) {
                Ok(Ok(next)) => {
                    *packet = next;
                    return Ok(());
                }
                Ok(Err(trouble)) => {
                    tracing::debug!("nokhwa: {}", trouble.text);
                    return Err(ffmpeg::Error::Other { errno: trouble.errno.unwrap_or(libc::EIO) });
                }
                Err(RecvTimeoutError::Timeout) if deadline.stopped() || deadline.expired() => {
                    return Err(ffmpeg::Error::Exit);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(ffmpeg::Error::Other { errno: libc::EIO }),
            }
        }
    }
}

impl Drop for Feed {
    /// Ends the thread, which gives the camera back. One that hangs in the driver is left behind, so that krea ends.
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // The thread finds that nobody listens any more.
        self.packets = crossbeam_channel::never();
        let begun = Instant::now();
        while !thread.is_finished() && begun.elapsed() < Duration::from_secs(1) {
            interrupt::wake(&thread);
            thread::sleep(Duration::from_millis(2));
        }
        if thread.is_finished() {
            let _ = thread.join();
        } else {
            tracing::debug!("nokhwa does not let the camera go");
        }
    }
}

/// Opens the camera, says how that went, and sends its pictures until nobody listens or it fails.
fn capture(
    index: u32,
    format: CameraFormat,
    opened: &Sender<Result<(), Trouble>>,
    packets: &Sender<Result<Packet, Trouble>>,
    missed: &AtomicU64,
) {
    let failed = |e: NokhwaError| Trouble::from(e.to_string());
    let codings = CODINGS.map(|c| c.0);
    let request = RequestedFormat::with_formats(RequestedFormatType::Exact(format), &codings);
    let started = nokhwa::Camera::new(CameraIndex::Index(index), request).and_then(|mut camera| {
        camera.open_stream()?;
        Ok(camera)
    });
    let mut camera = match started {
        Ok(camera) => camera,
        Err(error) => {
            let _ = opened.send(Err(failed(error)));
            return;
        }
    };
    let epoch = Instant::now();
    if opened.send(Ok(())).is_err() {
        return;
    }
    loop {
        let next = camera.frame().map_err(failed).map(|buffer| stamped(&buffer, epoch));
        let over = next.is_err();
        match packets.try_send(next) {
            Ok(()) if !over => {}
            Err(TrySendError::Full(_)) if !over => {
                missed.fetch_add(1, Ordering::Relaxed);
            }
            Err(TrySendError::Full(error)) => {
                let _ = packets.send(error);
                return;
            }
            _ => return,
        }
    }
}

/// The picture with the time that it was taken at.
fn stamped(buffer: &Buffer, epoch: Instant) -> Packet {
    // nokhwa gives the time by the wall clock, which may be set meanwhile; only its distance from now counts.
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let age = buffer.capture_timestamp().and_then(|taken| wall.checked_sub(taken));
    let age = age.filter(|age| *age < Duration::from_secs(1)).unwrap_or_default();
    let mut packet = Packet::copy(buffer.buffer());
    let at = epoch.elapsed().saturating_sub(age).as_micros() as i64;
    packet.set_pts(Some(at));
    packet.set_dts(Some(at));
    packet.set_stream(0);
    packet.set_flags(codec::packet::Flags::KEY);
    packet
}

/// Wakes a thread that waits in the kernel: a signal ends its `poll`.
#[cfg(target_os = "linux")]
mod interrupt {
    use std::mem::MaybeUninit;
    use std::os::unix::thread::JoinHandleExt;
    use std::ptr;
    use std::thread::JoinHandle;

    use signal_hook::SigId;

    /// Ignored unless somebody asks for it, so nothing else of krea or its libraries lives by it.
    const SIGNAL: libc::c_int = libc::SIGURG;

    /// This thread is interrupted by that signal and no other, which might cost it a picture.
    pub(super) fn only() -> Option<SigId> {
        // SAFETY: the handler does nothing, so there is nothing in it that a signal could catch half done.
        let handler = unsafe { signal_hook::low_level::register(SIGNAL, || ()) };
        let mut all_others = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: the set is filled before it is read.
        unsafe {
            libc::sigfillset(all_others.as_mut_ptr());
            libc::sigdelset(all_others.as_mut_ptr(), SIGNAL);
            libc::pthread_sigmask(libc::SIG_SETMASK, all_others.as_ptr(), ptr::null_mut());
        }
        handler.ok()
    }

    pub(super) fn done(handler: Option<SigId>) {
        handler.map(signal_hook::low_level::unregister);
    }

    pub(super) fn wake(thread: &JoinHandle<()>) {
        // SAFETY: the thread has not been joined, so its handle is valid even if it has ended.
        unsafe { libc::pthread_kill(thread.as_pthread_t(), SIGNAL) };
    }
}

#[cfg(not(target_os = "linux"))]
mod interrupt {
    pub(super) fn only() {}

    pub(super) fn done((): ()) {}

    pub(super) fn wake(_: &std::thread::JoinHandle<()>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nokhwa_is_asked_only_for_what_it_knows() {
        let choice = |fourcc: &str, rate| Choice { fourcc: fourcc.to_owned(), width: 640, height: 480, rate };
        let setting = Setting::of(&choice("YUYV", Some(Rational(60, 2)))).unwrap();
        assert_eq!((setting.codec, setting.pixel), (codec::Id::RAWVIDEO, Pixel::YUYV422));
        assert_eq!(setting.format, CameraFormat::new_from(640, 480, FrameFormat::YUYV, 30));
        assert_eq!(Setting::of(&choice("MJPG", Some(Rational(5, 1)))).unwrap().codec, codec::Id::MJPEG);
        for (fourcc, rate, why) in [
            ("GREY", Some(Rational(30, 1)), "GREY"),
            ("YUYV", Some(Rational(15, 2)), "whole rates"),
            ("YUYV", None, "tells none"),
        ] {
            assert!(Setting::of(&choice(fourcc, rate)).unwrap_err().contains(why));
        }
    }
}
