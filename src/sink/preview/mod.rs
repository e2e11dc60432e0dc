//! The preview window: what the run makes, beside what it was made from.
//!
//! Three threads meet here. The sink lends each frame to the painter ([`Preview`]); the painter scales the newest one to
//! the window's size; the main thread, where windowing systems want their windows, shows it and reads the keys
//! ([`Window`]). Between them the newest picture replaces an older one, so nothing ever waits for the window.

mod fullscreen;
mod painter;
mod tap;
mod window;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use ffmpeg_next::frame::Video;

use crate::error::Result;
use crate::frame::{Frame, Mask, Pooled, reference};
use crate::pipeline::{End, Sink};

pub use tap::Tap;
pub use window::{Options, PUMP, Told, Window};

/// What the keys have switched, read by all threads.
#[derive(Default)]
struct View {
    /// Left half before, right half after.
    split: AtomicBool,
    /// The mask instead of the picture.
    mask: AtomicBool,
    /// The picture before its background was replaced.
    before: AtomicBool,
    paused: Arc<AtomicBool>,
    /// Write the next picture to a file.
    snapshot: AtomicBool,
    /// Width and height of the window's inside, 32 bits each.
    size: AtomicU64,
    /// Rises when any of the above has changed, so that a picture that stands still is painted again.
    changes: AtomicU64,
    closed: AtomicBool,
}

impl View {
    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Release);
    }

    fn size(&self) -> (u32, u32) {
        let packed = self.size.load(Ordering::Relaxed);
        ((packed >> 32) as u32, packed as u32)
    }

    fn set_size(&self, (width, height): (u32, u32)) {
        let packed = (u64::from(width) << 32) | u64::from(height);
        if self.size.swap(packed, Ordering::Relaxed) != packed {
            self.changed();
        }
    }
}

/// A frame on loan to the painter.
struct Shot {
    picture: Video,
    before: Option<Video>,
    mask: Option<Mask>,
    seconds: f64,
}

/// A picture ready for the window: 0RGB, row by row.
struct Painting {
    pixels: Pooled<u32>,
    width: usize,
    height: usize,
}

/// A place for one value in which a newer one replaces an older one.
struct Newest<T> {
    sender: Sender<T>,
    receiver: Receiver<T>,
}

impl<T> Newest<T> {
    fn new() -> Self {
        let (sender, receiver) = bounded(1);
        Self { sender, receiver }
    }

    fn put(&self, mut value: T) {
        while let Err(TrySendError::Full(back)) = self.sender.try_send(value) {
            value = back;
            let _ = self.receiver.try_recv();
        }
    }
}

/// The sink's side of the window: shows each frame, then hands it on.
pub struct Preview {
    shots: Newest<Shot>,
    view: Arc<View>,
    onward: Option<Box<dyn Sink>>,
}

impl Preview {
    /// Where the frames go after they were shown.
    pub fn before(mut self, sink: Box<dyn Sink>) -> Self {
        self.onward = Some(sink);
        self
    }

    /// Set while the space bar holds the picture.
    pub fn pause(&self) -> Arc<AtomicBool> {
        self.view.paused.clone()
    }
}

impl Sink for Preview {
    fn write(&mut self, mut frame: Frame) -> Result<()> {
        let held = self.view.paused.load(Ordering::Relaxed);
        if !held
            && !self.view.closed.load(Ordering::Relaxed)
            && let Ok(picture) = reference(&frame.picture)
        {
            let (before, mask) = (frame.before.take(), frame.mask.take());
            self.shots.put(Shot { picture, before, mask, seconds: frame.time.seconds() });
        }
        self.onward.as_mut().map_or(Ok(()), |sink| sink.write(frame))
    }

    fn finish(&mut self, end: End) -> Result<()> {
        self.onward.as_mut().map_or(Ok(()), |sink| sink.finish(end))
    }
}
