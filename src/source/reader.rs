//! Decodes an opened input into frames of one kind, and passes the other streams' packets on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crossbeam_channel::Sender;
use ffmpeg::ffi;
use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use ffmpeg::{Packet, Rational};
use ffmpeg_next as ffmpeg;

use super::Place;
use super::arrivals::Arrivals;
use super::clock::Clock;
use super::goal::{goal, matrix_space, shown_size};
use super::input::Input;
use super::normalise::{Goal, Normaliser};
use crate::error::{Error, Result};
use crate::frame::{Frame, Time};
use crate::pipeline::Source;
use crate::stream::{CopiedPacket, VideoInfo};

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
    /// How often a live stream broke off and came back.
    pub reconnects: AtomicU64,
    /// Pictures of a camera that came faster than they were read.
    pub missed: AtomicU64,
    /// Why a live stream was given up, where it was.
    pub given_up: OnceLock<String>,
}

/// Frames of an [`Input`].
pub struct Reader {
    input: Input,
    normaliser: Normaliser,
    copied: Sender<CopiedPacket>,
    /// What the copied packets are rescaled to; empty leaves them as they are.
    copied_bases: Vec<Rational>,
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
    /// Frames before zero are left out.
    trims: bool,
    /// For a live input: moves the times of all packets before anybody sees them.
    clock: Option<Clock>,
    /// Why nothing more comes, if that is not the end of the input.
    lost: Option<String>,
    /// What comes at its own pace: when its packets did.
    arrivals: Option<Arrivals>,
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
            if input.packets.context.seek(at, ..at).is_ok() {
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
            copied_bases: Vec::new(),
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
            trims: origin > 0.0,
            clock: None,
            lost: None,
            arrivals: (input.has_own_pace() || input.place == Place::Stdin).then(Arrivals::default),
            input,
        };
        Ok((reader, info))
    }

    /// Frames of a live stream, from zero on. Gives the reader for the first connection.
    /// Copied packets leave in the time bases `bases`, one for each copied stream.
    pub(super) fn live(
        input: Input,
        target: &Target,
        copied: Sender<CopiedPacket>,
        bases: Vec<Rational>,
    ) -> Result<(Self, VideoInfo)> {
        let start = target.start.unwrap_or(0.0);
        let clock = Clock::new(start, input.begun);
        let goal = goal(&input.native, target);
        let (mut reader, info) = Self::with_goal(input, target, goal, 0.0, copied)?;
        (reader.clock, reader.trims, reader.copied_bases) = (Some(clock), start > 0.0, bases);
        Ok((reader, info))
    }

    /// Closes the connection that gives nothing more, before [`rejoin`](Self::rejoin): its port or its camera is free
    /// for the next one.
    pub(super) fn hang_up(&mut self) {
        self.input.packets.close();
    }

    /// Goes on with a new connection to the same stream: the same kind of frames, whatever comes now.
    pub(super) fn rejoin(&mut self, mut input: Input) {
        // It was not measured anew.
        input.native.frame_rate = self.input.native.frame_rate;
        let native = &input.native;
        let old = self.normaliser.goal();
        let goal = Goal {
            source_space: matrix_space(native, native.height),
            matrix: native.matrix,
            time_bases: (native.time_base, old.fps.map_or(native.time_base, |f| f.invert())),
            ..old.clone()
        };
        self.out_base = goal.time_bases.1;
        self.frame_duration =
            if goal.fps.is_some() { 1 } else { ticks(1.0 / f64::from(native.frame_rate), self.out_base).max(1) };
        if let Some(clock) = &mut self.clock {
            clock.restart(input.begun);
        }
        self.normaliser = Normaliser::new(goal);
        (self.last_in, self.last_out, self.lost) = (None, None, None);
        (self.drained, self.done, self.refused_in_a_row) = (false, false, 0);
        self.input = input;
    }

    /// Why nothing more comes, if that is not the end of the input.
    pub(super) fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
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
        match self.input.packets.read(&mut packet) {
            Ok(()) => {
                let index = packet.stream();
                self.damage.missed.fetch_add(self.input.packets.missed(), Ordering::Relaxed);
                self.reach(&packet);
                self.set_clock(&mut packet);
                if index == self.input.video {
                    if let (Some(arrivals), Some(at)) = (&mut self.arrivals, packet.pts().or(packet.dts())) {
                        arrivals.note(at as f64 * f64::from(self.input.native.time_base), Instant::now());
                    }
                    match self.input.decoder.send_packet(&packet) {
                        Ok(()) | Err(ffmpeg::Error::Eof) => self.refused_in_a_row = 0,
                        Err(_) => self.refuse(),
                    }
                } else if let Some(Some(stream)) = self.input.copied.get(index).copied() {
                    self.copy(stream, packet);
                }
            }
            Err(ffmpeg::Error::Eof) => {
                self.lost = Some("the sender has ended it".to_owned());
                self.note_what_is_missing();
                self.drain();
            }
            Err(ffmpeg::Error::Exit) => {
                // The call that ran out of time may have given a last packet; the next one only hears of it.
                if !self.input.packets.deadline.stopped() {
                    self.lost = Some("no data comes any more".to_owned());
                }
                self.drain();
            }
            Err(ffmpeg::Error::InvalidData) => self.refuse(),
            Err(error) if self.clock.is_some() => {
                self.lost = Some(match error {
                    ffmpeg::Error::Other { errno: libc::ENODEV } => "was unplugged".to_owned(),
                    other => other.to_string(),
                });
                self.drain();
            }
            Err(error) => {
                tracing::warn!("{}: reading stops early: {error}", self.input.place);
                self.note_what_is_missing();
                self.refuse();
                self.drain();
            }
        }
        Ok(())
    }

    /// Puts a packet of a live stream to its place in the time of the output.
    fn set_clock(&mut self, packet: &mut Packet) {
        let Some(clock) = &mut self.clock else { return };
        let Some(base) = self.input.packets.context.stream(packet.stream()).map(|s| s.time_base()) else { return };
        let Some(at) = packet.dts().or(packet.pts()) else {
            // Only of the video it is known how long a packet lasts.
            if packet.stream() == self.input.video {
                let step = 1.0 / f64::from(self.input.native.frame_rate);
                packet.set_pts(Some(ticks(clock.place_untimed(step, Instant::now()), base)));
            }
            return;
        };
        let seconds = f64::from(base);
        let end = (packet.pts().unwrap_or(at) + packet.duration().max(0)) as f64 * seconds;
        let origin = ticks(clock.place(at as f64 * seconds, end, Instant::now()), base);
        packet.set_pts(packet.pts().map(|t| t - origin));
        packet.set_dts(packet.dts().map(|t| t - origin));
    }

    fn reach(&mut self, packet: &Packet) {
        if let (Some(at), Some(stream)) =
            (packet.pts().or(packet.dts()), self.input.packets.context.stream(packet.stream()))
        {
            let end = (at + packet.duration().max(0)) as f64 * f64::from(stream.time_base());
            self.reached = self.reached.max(end);
        }
    }

    /// Holds the end that was reached against the length that the container promises.
    fn note_what_is_missing(&mut self) {
        // SAFETY: plain fields of a live context.
        let (start, promised) = unsafe {
            ((*self.input.packets.context.as_ptr()).start_time, (*self.input.packets.context.as_ptr()).duration)
        };
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
            self.lost = Some(format!("{HOPELESS} damaged packets in a row"));
            self.drain();
        }
    }

    /// Passes a packet on with its times moved as the video's are. What lies outside the wanted part is left out, and
    /// what comes by itself during a pause: nobody shall hear later what was said meanwhile.
    fn copy(&self, stream: usize, mut packet: Packet) {
        if self.arrivals.is_some() && self.input.packets.deadline.paused() {
            return;
        }
        let Some(base) = self.input.packets.context.stream(packet.stream()).map(|s| s.time_base()) else { return };
        let offset = ticks(self.origin, base);
        let cover = packet.pts().is_none() && packet.dts().is_none();
        packet.set_pts(packet.pts().map(|t| t - offset));
        packet.set_dts(packet.dts().map(|t| t - offset));
        let at = packet.pts().or(packet.dts()).unwrap_or(0) as f64 * f64::from(base);
        let trimmed = self.trims && at < 0.0 || self.end.is_some_and(|end| at >= end);
        if let Some(to) = self.copied_bases.get(stream) {
            packet.rescale_ts(base, *to);
        }
        if cover || !trimmed {
            // A sink that has gone is noticed by the frames.
            let _ = self.copied.send(CopiedPacket { stream, packet });
        }
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
        // Where a live stream's times settle after its beginning, frames may crowd; coarse containers need a distance.
        let least = if self.clock.is_some() { (step / 8).max(1) } else { 1 };
        let pts = match (stamped, self.last_in) {
            (Some(pts), Some(last)) if pts < last + least => last + least,
            (Some(pts), _) => pts,
            (None, Some(last)) => last + step,
            (None, None) => 0,
        };
        self.last_in = Some(pts);
        let at = pts as f64 * f64::from(base);
        // Half a tick of tolerance, since the start may lie between two ticks.
        if self.trims && pts < 0 {
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
        // Containers interleave within about a second; what comes live comes as it happens.
        let last = end + if self.input.has_own_pace() { 0.1 } else { 1.0 };
        let mut incomplete: Vec<bool> = self.input.copied.iter().map(Option::is_some).collect();
        for _ in 0..10_000 {
            if !incomplete.contains(&true) {
                return;
            }
            let mut packet = Packet::empty();
            if self.input.packets.read(&mut packet).is_err() {
                return;
            }
            self.set_clock(&mut packet);
            let Some(base) = self.input.packets.context.stream(packet.stream()).map(|s| s.time_base()) else { return };
            let at = packet.dts().or(packet.pts()).unwrap_or(0) as f64 * f64::from(base) - self.origin;
            if at > last {
                return;
            }
            if let (true, Some(waits)) = (at >= end, incomplete.get_mut(packet.stream())) {
                *waits = false;
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
        let time = Time { pts, duration, base: self.out_base };
        let shown = time.seconds() + self.offset as f64 * f64::from(self.input.native.time_base);
        let arrived = self.arrivals.as_ref().map(|arrivals| arrivals.of(shown, Instant::now()));
        Frame { arrived, ..Frame::new(picture, index, time) }
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
    let (flags, start) =
        unsafe { ((*(*input.packets.context.as_ptr()).iformat).flags, (*input.packets.context.as_ptr()).start_time) };
    if flags & ffi::AVFMT_TS_DISCONT != 0 && start != ffi::AV_NOPTS_VALUE && start > 0 {
        start as f64 / f64::from(ffi::AV_TIME_BASE)
    } else {
        0.0
    }
}

fn ticks(seconds: f64, base: Rational) -> i64 {
    (seconds / f64::from(base)).round() as i64
}
