//! Where the packets of an input come from: one of FFmpeg's demuxers, or a camera that nokhwa reads.

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use ffmpeg::format::context;
use ffmpeg::{Packet, ffi};
use ffmpeg_next as ffmpeg;

use super::camera::Feed;
use super::open::Deadline;

pub(super) struct Packets {
    /// Tells the streams; what is read it only gives where it has a demuxer.
    pub(super) context: context::Input,
    pub(super) deadline: Deadline,
    way: Way,
    /// Read before, and to be read again.
    kept: VecDeque<Packet>,
}

enum Way {
    Demuxer,
    /// A demuxer that waits for nothing, since its driver would wait for ever.
    Device,
    Feed(Feed),
    Closed,
}

/// How often a device is asked whether there is a picture.
const PAUSE: Duration = Duration::from_millis(2);

impl Packets {
    pub(super) fn of_demuxer(context: context::Input, deadline: Deadline) -> Self {
        Self { context, deadline, way: Way::Demuxer, kept: VecDeque::new() }
    }

    pub(super) fn of_device(context: context::Input, deadline: Deadline) -> Self {
        Self { context, deadline, way: Way::Device, kept: VecDeque::new() }
    }

    pub(super) fn of_feed(context: context::Input, feed: Feed, deadline: Deadline) -> Self {
        Self { context, deadline, way: Way::Feed(feed), kept: VecDeque::new() }
    }

    /// The next packet of any stream. `Exit` after a stop or when the deadline has passed.
    pub(super) fn read(&mut self, packet: &mut Packet) -> Result<(), ffmpeg::Error> {
        if let Some(kept) = self.kept.pop_front() {
            *packet = kept;
            return Ok(());
        }
        self.deadline.begin();
        match &mut self.way {
            Way::Demuxer => packet.read(&mut self.context),
            Way::Closed => Err(ffmpeg::Error::Eof),
            Way::Feed(feed) => feed.read(packet, &self.deadline),
            Way::Device => loop {
                match packet.read(&mut self.context) {
                    Err(ffmpeg::Error::Other { errno: libc::EAGAIN }) => {}
                    other => return other,
                }
                if self.deadline.stopped() || self.deadline.expired() {
                    return Err(ffmpeg::Error::Exit);
                }
                thread::sleep(PAUSE);
            },
        }
    }

    /// Pictures that a camera has taken and nobody read in time, since this was last asked.
    pub(super) fn missed(&self) -> u64 {
        match &self.way {
            Way::Feed(feed) => feed.missed(),
            Way::Demuxer | Way::Device | Way::Closed => 0,
        }
    }

    /// Gives the device or the port back, since nobody else can have it, not even krea once more. Nothing is read
    /// afterwards.
    pub(super) fn close(&mut self) {
        if let Ok(nothing) = nothing() {
            (self.context, self.way) = (nothing, Way::Closed);
        }
    }

    /// Gives packets, in their order, once more.
    pub(super) fn again(&mut self, packets: Vec<Packet>) {
        self.kept.extend(packets);
    }
}

/// A container without a demuxer and without a stream.
pub(super) fn nothing() -> Result<context::Input, ffmpeg::Error> {
    // SAFETY: the context is made here and owned by `Input`, which frees it.
    unsafe {
        let raw = ffi::avformat_alloc_context();
        if raw.is_null() { Err(ffmpeg::Error::Other { errno: libc::ENOMEM }) } else { Ok(context::Input::wrap(raw)) }
    }
}
