//! Ends writes that hang: a network peer that stalls must not keep a run from ending.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ffmpeg::ffi;
use ffmpeg_next as ffmpeg;

use crate::pipeline::Control;

/// How long one write, or the connection, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same once someone has asked to stop.
const SHORT: Duration = Duration::from_secs(3);

/// Asked by FFmpeg whether to give up while it waits for the network.
pub(super) struct Deadline {
    control: Control,
    epoch: Instant,
    /// Milliseconds since `epoch` at which the present call began.
    began: AtomicU64,
}

impl Deadline {
    pub(super) fn new(control: Control) -> Box<Self> {
        Box::new(Self { control, epoch: Instant::now(), began: AtomicU64::new(0) })
    }

    /// A new call begins.
    pub(super) fn restart(&self) {
        self.began.store(self.epoch.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether the present call has taken too long.
    pub(super) fn is_over(&self) -> bool {
        let spent = self.epoch.elapsed().saturating_sub(Duration::from_millis(self.began.load(Ordering::Relaxed)));
        self.control.abandoned() || spent > if self.control.stopped() { SHORT } else { PATIENCE }
    }

    /// What FFmpeg calls. The deadline must outlive the context that gets it, at the same address.
    pub(super) fn callback(&self) -> ffi::AVIOInterruptCB {
        unsafe extern "C" fn ask(deadline: *mut c_void) -> c_int {
            // SAFETY: the pointer is the `Deadline` that `callback` was called on, alive as its contract says.
            c_int::from(unsafe { &*deadline.cast::<Deadline>() }.is_over())
        }
        ffi::AVIOInterruptCB { callback: Some(ask), opaque: std::ptr::from_ref(self).cast_mut().cast() }
    }
}
