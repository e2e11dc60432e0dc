//! Decodes an opened input into frames of one kind, and passes the other streams' packets on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::Sender;
use ffmpeg::ffi;
use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use ffmpeg::{Packet, Rational, color};
use ffmpeg_next as ffmpeg;

use super::input::{Input, Native};
use super::normalise::{Goal, Normaliser, is_sideways};
use crate::error::{Error, Result};
use crate::frame::{Format, Frame, Time, is_rgb, plain};
use crate::pipeline::Source;
use crate::stream::{Colour, CopiedPacket, VideoInfo};

/// What the frames shall be, as far as it was asked for.
#[derive(Clone, Debug)]
pub struct Target {
    /// A planar format that [`Format::of`] knows.
    pub format: Pixel,
    /// Full range is needed, as JPEG's encoder does; otherwise the source's range stays.
    pub full_range: bool,
    /// Width and height; 0 follows from the other by the picture's shape.
    pub size: Option<(u32, u32)>,
    pub fps: Option<Rational>,
    /// Seconds from the beginning of the input.
    pub start: Option<f64>,
    pub duration: Option<f64>,
}

/// What was wrong with the input, counted while it is read.
#[derive(Default)]
pub struct Damage {
    /// Packets that the demuxer or the decoder refused.
    pub packets: AtomicU64,
    /// Frames that were decoded with errors in them.
    pub frames: AtomicU64,
    /// Milliseconds that the container promises and does not hold: the file was cut off.
    pub missing: AtomicU64,
}

/// Frames of an [`Input`].
pub struct Reader {
    input: Input,
    normaliser: Normaliser,
    copied: Sender<CopiedPacket>,
    damage: Arc<Damage>,
    /// Time stamps of the video are lowered by this, in the stream's time base.
    offset: i64,
    /// Seconds that are lowered from every stream.
    origin: f64,
    /// Where to stop, in seconds of the output.
    end: Option<f64>,
    frame_duration: i64,
    out_base: Rational,
    last_in: Option<i64>,
    last_out: Option<i64>,
    next_index: u64,
    /// The demuxer has nothing more.
    drained: bool,
    /// The decoder has nothing more.
    done: bool,
    refused_in_a_row: u32,
    /// Where the packet that reaches farthest ends, in seconds of the input's own time.
    reached: f64,
}

/// So many packets refused one after another mean that nothing more will come.
const HOPELESS: u32 = 500;

impl Reader {
    pub fn new(mut input: Input, target: &Target, copied: Sender<CopiedPacket>) -> Result<(Self, VideoInfo)> {
        let native = input.native.clone();
        let origin = origin(&input) + target.start.unwrap_or(0.0);
        if let Some(start) = target.start.filter(|s| *s > 0.0) {
            let at = ((start + self::origin(&input)) * f64::from(ffi::AV_TIME_BASE)) as i64;
            // What cannot seek is read from its beginning, and what lies before the start is thrown away.
            if input.context.seek(at, ..at).is_ok() {
                input.decoder.flush();
            }
        }
        let goal = goal(&native, target);
        Self::with_goal(input, target, goal, origin, copied)
    }

    /// Frames that look like those of `info`, scaled until they cover it.
    pub fn covering(input: Input, info: &VideoInfo) -> Result<Self> {
        let native = input.native.clone();
        let shown = shown_size(&native);
        let scale = (f64::from(info.width) / f64::from(shown.0)).max(f64::from(info.height) / f64::from(shown.1));
        let grown = |n: u32, least: u32| ((f64::from(n) * scale).round() as u32).max(least);
        let goal = Goal {
            format: info.format,
            width: info.width,
            height: info.height,
            scaled: (grown(shown.0, info.width), grown(shown.1, info.height)),
            colour: info.colour,
            source_space: matrix_space(&native, native.height),
            fps: None,
            matrix: native.matrix,
            time_bases: (native.time_base, native.time_base),
        };
        let target =
            Target { format: info.format, full_range: false, size: None, fps: None, start: None, duration: None };
        // Nobody listens to the sound of a backdrop.
        let (nobody, _) = crossbeam_channel::bounded(0);
        Ok(Self::with_goal(input, &target, goal, 0.0, nobody)?.0)
    }

    fn with_goal(
        input: Input,
        target: &Target,
        goal: Goal,
        origin: f64,
        copied: Sender<CopiedPacket>,
    ) -> Result<(Self, VideoInfo)> {
        let native = input.native.clone();
        let out_base = goal.time_bases.1;
        let frame_duration = match target.fps {
            Some(_) => 1,
            None => ticks(1.0 / f64::from(native.frame_rate), out_base).max(1),
        };
        let left = native.duration.map(|d| (d - target.start.unwrap_or(0.0)).max(0.0));
        let duration = match (left, target.duration) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let rate = target.fps.unwrap_or(native.frame_rate);
        let whole = target.start.is_none() && target.duration.is_none() && target.fps.is_none();
        let info = VideoInfo {
            format: goal.format,
            width: goal.width,
            height: goal.height,
            time_base: out_base,
            frame_rate: rate,
            colour: goal.colour,
            fields: native.fields,
            duration,
            frames: if whole { native.frames } else { duration.map(|d| (d * f64::from(rate)).round() as u64) },
        };
        let reader = Self {
            offset: ticks(origin, native.time_base),
            origin,
            end: target.duration,
            normaliser: Normaliser::new(goal),
            copied,
            damage: Arc::default(),
            frame_duration,
            out_base,
            last_in: None,
            last_out: None,
            next_index: 0,
            drained: false,
            done: false,
            refused_in_a_row: 0,
            reached: 0.0,
            input,
        };
        Ok((reader, info))
    }

    pub fn damage(&self) -> Arc<Damage> {
        self.damage.clone()
    }

    /// Decodes until the normaliser has something, or the decoder has nothing more.
    fn decode(&mut self) -> Result<()> {
        if let Some(first) = self.input.first.take() {
            return self.accept(first);
        }
        let mut frame = Video::empty();
        match self.input.decoder.receive_frame(&mut frame) {
            Ok(()) => self.accept(frame),
            Err(ffmpeg::Error::Eof) => {
                self.done = true;
                self.normaliser.flush().map_err(|e| self.failed(e))
            }
            Err(ffmpeg::Error::Other { errno: libc::EAGAIN }) => self.feed(),
            Err(_) => {
                self.refuse();
                Ok(())
            }
        }
    }

    /// Reads one packet and gives it to whom it belongs.
    fn feed(&mut self) -> Result<()> {
        let mut packet = Packet::empty();
        match packet.read(&mut self.input.context) {
            Ok(()) => {
                let index = packet.stream();
                self.reach(&packet);
                if index == self.input.video {
                    match self.input.decoder.send_packet(&packet) {
                        Ok(()) | Err(ffmpeg::Error::Eof) => self.refused_in_a_row = 0,
                        Err(_) => self.refuse(),
                    }
                } else if let Some(Some(stream)) = self.input.copied.get(index).copied() {
                    self.copy(stream, packet);
                }
            }
            Err(ffmpeg::Error::Eof) => {
                self.note_what_is_missing();
                self.drain();
            }
            Err(ffmpeg::Error::Exit) => self.drain(),
            Err(ffmpeg::Error::InvalidData) => self.refuse(),
            Err(error) => {
                tracing::warn!("{}: reading stops early: {error}", self.input.place);
                self.note_what_is_missing();
                self.refuse();
                self.drain();
            }
        }
        Ok(())
    }

    fn reach(&mut self, packet: &Packet) {
        if let (Some(at), Some(stream)) = (packet.pts().or(packet.dts()), self.input.context.stream(packet.stream())) {
            let end = (at + packet.duration().max(0)) as f64 * f64::from(stream.time_base());
            self.reached = self.reached.max(end);
        }
    }

    /// Holds the end that was reached against the length that the container promises.
    fn note_what_is_missing(&mut self) {
        // SAFETY: plain fields of a live context.
        let (start, promised) =
            unsafe { ((*self.input.context.as_ptr()).start_time, (*self.input.context.as_ptr()).duration) };
        if promised <= 0 || self.input.native.still {
            return;
        }
        let second = f64::from(ffi::AV_TIME_BASE);
        let promised =
            promised as f64 / second + if start == ffi::AV_NOPTS_VALUE { 0.0 } else { start as f64 / second };
        let missing = promised - self.reached;
        // Containers round, and estimate where they have no index.
        if missing > 0.25 + promised * 0.02 {
            self.damage.missing.store((missing * 1000.0) as u64, Ordering::Relaxed);
        }
    }

    fn drain(&mut self) {
        if !std::mem::replace(&mut self.drained, true) {
            // A decoder that has already been told refuses to be told again, which changes nothing.
            let _ = self.input.decoder.send_eof();
        }
    }

    fn refuse(&mut self) {
        self.damage.packets.fetch_add(1, Ordering::Relaxed);
        self.refused_in_a_row += 1;
        if self.refused_in_a_row > HOPELESS {
            self.drain();
        }
    }

    /// Passes a packet on with its times moved as the video's are. What lies outside the wanted part is left out.
    fn copy(&self, stream: usize, mut packet: Packet) {
        let Some(base) = self.input.context.stream(packet.stream()).map(|s| s.time_base()) else { return };
        let offset = ticks(self.origin, base);
        let cover = packet.pts().is_none() && packet.dts().is_none();
        packet.set_pts(packet.pts().map(|t| t - offset));
        packet.set_dts(packet.dts().map(|t| t - offset));
        let at = packet.pts().or(packet.dts()).unwrap_or(0) as f64 * f64::from(base);
        let trimmed = self.offset_was_asked_for() && at < 0.0 || self.end.is_some_and(|end| at >= end);
        if cover || !trimmed {
            // A sink that has gone is noticed by the frames.
            let _ = self.copied.send(CopiedPacket { stream, packet });
        }
    }

    fn offset_was_asked_for(&self) -> bool {
        self.origin > 0.0
    }

    /// Gives a decoded frame its place in time and hands it to the normaliser.
    fn accept(&mut self, mut frame: Video) -> Result<()> {
        self.refused_in_a_row = 0;
        if frame.is_corrupt() || frame.has_decode_errors() {
            self.damage.frames.fetch_add(1, Ordering::Relaxed);
        }
        let base = self.input.native.time_base;
        let step = ticks(1.0 / f64::from(self.input.native.frame_rate), base).max(1);
        let stamped = frame.timestamp().map(|t| t - self.offset);
        let pts = match (stamped, self.last_in) {
            (Some(pts), Some(last)) if pts <= last => last + 1,
            (Some(pts), _) => pts,
            (None, Some(last)) => last + step,
            (None, None) => 0,
        };
        self.last_in = Some(pts);
        let at = pts as f64 * f64::from(base);
        // Half a tick of tolerance, since the start may lie between two ticks.
        if self.offset_was_asked_for() && pts < 0 {
            return Ok(());
        }
        if self.end.is_some_and(|end| at >= end - 0.5 * f64::from(base)) {
            self.drain_copied_tail();
            self.done = true;
            return self.normaliser.flush().map_err(|e| self.failed(e));
        }
        frame.set_pts(Some(pts));
        // SAFETY: a plain field of a frame that we own.
        unsafe {
            (*frame.as_mut_ptr()).best_effort_timestamp = pts;
        }
        let pixels = u64::from(frame.width()) * u64::from(frame.height());
        if pixels == 0 {
            self.refuse();
            return Ok(());
        }
        self.normaliser.push(frame).map_err(|e| self.failed(e))
    }

    /// After the last wanted frame: sound of the same moments may still lie ahead in the file.
    fn drain_copied_tail(&mut self) {
        let Some(end) = self.end else { return };
        for _ in 0..10_000 {
            let mut packet = Packet::empty();
            if packet.read(&mut self.input.context).is_err() {
                return;
            }
            let Some(base) = self.input.context.stream(packet.stream()).map(|s| s.time_base()) else { return };
            let at = packet.dts().or(packet.pts()).unwrap_or(0) as f64 * f64::from(base) - self.origin;
            // Containers interleave within about a second.
            if at > end + 1.0 {
                return;
            }
            if let Some(Some(stream)) = self.input.copied.get(packet.stream()).copied() {
                self.copy(stream, packet);
            }
        }
    }

    fn failed(&self, error: ffmpeg::Error) -> Error {
        Error::Input(format!("{}: the picture cannot be converted: {error}", self.input.place))
    }

    fn finish_frame(&mut self, picture: Video) -> Frame {
        let step = self.frame_duration;
        let stamped = picture.timestamp();
        let pts = match (stamped, self.last_out) {
            (Some(pts), Some(last)) if pts <= last => last + 1,
            (Some(pts), _) => pts,
            (None, last) => last.map_or(0, |l| l + step),
        };
        self.last_out = Some(pts);
        let own = if self.out_base == self.input.native.time_base { picture.packet().duration } else { 0 };
        let index = self.next_index;
        self.next_index += 1;
        let duration = if own > 0 { own } else { step };
        Frame { picture, index, time: Time { pts, duration, base: self.out_base }, mask: None, before: None }
    }
}

impl Source for Reader {
    fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(picture) = self.normaliser.pop() {
                return Ok(Some(self.finish_frame(picture)));
            }
            if self.done {
                if self.next_index == 0 {
                    return Err(Error::Input(format!(
                        "{}: not one frame could be decoded ({} damaged packets)",
                        self.input.place,
                        self.damage.packets.load(Ordering::Relaxed)
                    )));
                }
                return Ok(None);
            }
            self.decode()?;
        }
    }
}

/// Transport streams begin at any time; all else keeps the times that it has.
fn origin(input: &Input) -> f64 {
    // SAFETY: plain fields of a live context.
    let (flags, start) = unsafe { ((*(*input.context.as_ptr()).iformat).flags, (*input.context.as_ptr()).start_time) };
    if flags & ffi::AVFMT_TS_DISCONT != 0 && start != ffi::AV_NOPTS_VALUE && start > 0 {
        start as f64 / f64::from(ffi::AV_TIME_BASE)
    } else {
        0.0
    }
}

fn ticks(seconds: f64, base: Rational) -> i64 {
    (seconds / f64::from(base)).round() as i64
}

/// Works out what every frame shall be.
fn goal(native: &Native, target: &Target) -> Goal {
    let shown = shown_size(native);
    let scaled = match target.size {
        None => shown,
        Some((w, 0)) => (w, in_shape(shown.1, w, shown.0)),
        Some((0, h)) => (in_shape(shown.0, h, shown.1), h),
        Some(size) => size,
    };
    let format = Format::of(target.format);
    let whole = |n: u32, log2: u8| (n >> log2 << log2).max(1 << log2);
    let (width, height) = match format {
        // Encoders refuse sizes that do not fill their chroma samples.
        Some(f) => (whole(scaled.0, f.log2_chroma_w), whole(scaled.1, f.log2_chroma_h)),
        None => scaled,
    };
    let scaled = (scaled.0.max(width), scaled.1.max(height));
    let fps = target.fps;
    Goal {
        format: target.format,
        width,
        height,
        scaled,
        colour: colour(native, target, height),
        source_space: matrix_space(native, height),
        fps,
        matrix: native.matrix,
        time_bases: (native.time_base, fps.map_or(native.time_base, |f| f.invert())),
    }
}

/// The side that goes with `wanted` as `side` goes with `other`.
fn in_shape(side: u32, wanted: u32, other: u32) -> u32 {
    ((f64::from(side) * f64::from(wanted) / f64::from(other.max(1))).round() as u32).max(1)
}

/// Upright and with square pixels.
fn shown_size(native: &Native) -> (u32, u32) {
    let wide = f64::from(native.width) * f64::from(native.aspect);
    let size = ((wide.round() as u32).max(1), native.height);
    if is_sideways(native.matrix) { (size.1, size.0) } else { size }
}

/// The matrix on the YUV side. What is not marked follows the size, as players have it.
fn matrix_space(native: &Native, height: u32) -> color::Space {
    let guess = if height >= 720 { color::Space::BT709 } else { color::Space::SMPTE170M };
    match native.space {
        color::Space::Unspecified | color::Space::RGB => guess,
        known => known,
    }
}

fn colour(native: &Native, target: &Target, height: u32) -> Colour {
    let to_rgb = is_rgb(target.format);
    let full = native.range == color::Range::JPEG || plain(native.format) != native.format;
    let keeps_full = full && !is_rgb(native.format);
    Colour {
        space: if to_rgb { color::Space::RGB } else { matrix_space(native, height) },
        range: if to_rgb || target.full_range || keeps_full { color::Range::JPEG } else { color::Range::MPEG },
        primaries: native.primaries,
        transfer: native.transfer,
    }
}
