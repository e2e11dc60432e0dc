//! Live streams: joined again, with growing pauses, whenever they break off. The only place that tries again.
//!
//! Every try opens everything anew: demuxer, connection, decoder. What comes after the gap is brought to the kind of
//! frames that came before it, and keeps its distance in time (see [`super::clock`]).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use ffmpeg::{Rational, codec, media, rescale::Rescale};
use ffmpeg_next as ffmpeg;

use super::darkness::Darkness;
use super::reader::{Damage, Reader, Target};
use super::refusal::{Cause, Refusal};
use super::{Input, Options, Place};
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::pipeline::Source;
use crate::stream::{CopiedPacket, CopiedStream, VideoInfo};

/// A copied stream as the sink knows it.
#[derive(Clone)]
pub(super) struct Kept {
    medium: media::Type,
    codec: codec::Id,
    pub(super) time_base: Rational,
}

impl Kept {
    fn of(stream: &CopiedStream) -> Self {
        let parameters = &stream.parameters;
        Self { medium: parameters.medium(), codec: parameters.id(), time_base: stream.time_base }
    }

    /// For each of `now` the index of the stream among `kept` that it goes on with; each is taken once.
    fn matched(kept: &[Self], now: &[CopiedStream]) -> Vec<Option<usize>> {
        let mut free: Vec<bool> = vec![true; kept.len()];
        now.iter()
            .map(|stream| {
                let new = Self::of(stream);
                let fits = |(k, free): (&Self, &bool)| *free && (k.medium, k.codec) == (new.medium, new.codec);
                let index = kept.iter().zip(&free).position(fits)?;
                free[index] = false;
                Some(index)
            })
            .collect()
    }
}

/// How to get at an input, now and again.
pub struct Connection {
    place: Place,
    options: Options,
    kept: Vec<Kept>,
    retry: Retry,
}

impl Connection {
    /// With `patience` a stream is given up after so long without a frame; without it never.
    pub fn new(place: Place, options: Options, patience: Option<Duration>) -> Self {
        // To look whether a camera is back costs nothing, and nobody wants to wait for half a minute after plugging it in.
        let longest = Duration::from_secs(if matches!(place, Place::Camera(_)) { 2 } else { 30 });
        Self { place, options, kept: Vec::new(), retry: Retry::new(patience, longest) }
    }

    /// The first connection. Waits for streams that are not there yet; files, and what may be one (HTTP), are there
    /// or not.
    pub fn open(&mut self) -> Result<Input> {
        let waits = self.place.scheme().is_some_and(|scheme| !scheme.starts_with("http"));
        loop {
            match Input::attempt(&self.place, &self.options) {
                Ok(input) => {
                    self.kept = input.copied_streams().iter().map(Kept::of).collect();
                    self.options.known_camera.clone_from(&input.camera);
                    return Ok(input);
                }
                Err(Refusal { error, cause }) => {
                    if !waits || !matches!(cause, Cause::Unreachable | Cause::Absent) {
                        return Err(error);
                    }
                    if !self.retry.wait(&error.to_string(), cause, &self.options)? {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The frames of an input that [`open`](Self::open) has given.
    pub fn read(
        self,
        input: Input,
        target: &Target,
        copied: Sender<CopiedPacket>,
    ) -> Result<(Box<dyn Source>, VideoInfo, Arc<Damage>)> {
        if !input.is_endless() {
            let (reader, info) = Reader::new(input, target, copied)?;
            let damage = reader.damage();
            return Ok((Box::new(reader), info, damage));
        }
        let bases = self.kept.iter().map(|k| k.time_base).collect();
        let (reader, info) = Reader::live(input, target, copied, bases)?;
        let damage = reader.damage();
        let time_base = info.time_base;
        let darkness = matches!(self.place, Place::Camera(_)).then(Darkness::default);
        Ok((Box::new(Live { connection: self, reader, time_base, last: None, next_index: 0, darkness }), info, damage))
    }
}

/// Pauses between tries, and when to stop trying.
struct Retry {
    patience: Option<Duration>,
    longest: Duration,
    /// Tries since the last frame, without those for which nobody was there.
    tries: u32,
    since: Option<Instant>,
}

impl Retry {
    fn new(patience: Option<Duration>, longest: Duration) -> Self {
        Self { patience, longest, tries: 0, since: None }
    }

    /// A quarter of a second, then 1, 2, 4 ... 30 s, and one second for as long as nobody is there: what comes back
    /// shall be seen at once, and what answers in vain shall not be bothered.
    fn pause(&mut self, cause: Cause) -> Duration {
        let tries = self.tries;
        if cause != Cause::Absent || tries == 0 {
            self.tries += 1;
        }
        match tries {
            0 => Duration::from_millis(250),
            _ if cause == Cause::Absent => Duration::from_secs(1),
            n => Duration::from_secs(30.min(1 << (n - 1).min(5))),
        }
    }

    /// Waits before the next try. `Ok(false)` after a stop; an error when patience is at its end.
    fn wait(&mut self, why: &str, cause: Cause, options: &Options) -> Result<bool> {
        if options.control.stopped() {
            return Ok(false);
        }
        let now = Instant::now();
        let waited = now - *self.since.get_or_insert(now);
        let mut pause = self.pause(cause).min(self.longest);
        if let Some(patience) = self.patience {
            if waited >= patience {
                return Err(Error::Input(format!("{why}; given up after {:.0} s", waited.as_secs_f32())));
            }
            // The last try comes at the very end.
            pause = pause.min(patience - waited);
        }
        tracing::warn!("{why}; trying again in {} s", (pause.as_secs_f32() * 100.0).round() / 100.0);
        while now.elapsed() < pause {
            if options.control.stopped() {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(20).min(pause.saturating_sub(now.elapsed())));
        }
        Ok(true)
    }

    /// A frame has come. Tells how long there was none.
    fn succeeded(&mut self) -> Option<Duration> {
        self.tries = 0;
        self.since.take().map(|since| since.elapsed())
    }
}

/// Frames of a stream without end, in the time base and of the kind that its first connection had.
struct Live {
    connection: Connection,
    reader: Reader,
    time_base: Rational,
    last: Option<i64>,
    next_index: u64,
    /// For a camera.
    darkness: Option<Darkness>,
}

impl Live {
    /// `false` after a stop, and when the stream is at its end or is given up.
    fn rejoin(&mut self, mut why: String) -> Result<bool> {
        self.reader.hang_up();
        let Connection { place, options, kept, retry } = &mut self.connection;
        options.rate_is_known = true;
        let mut last = Cause::Unreachable;
        loop {
            match retry.wait(&format!("{place}: {why}"), last, options) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                // What was recorded is whole all the same.
                Err(error) => {
                    let _ = self.reader.damage().given_up.set(error.to_string());
                    return Ok(false);
                }
            }
            match Input::attempt(place, options) {
                Ok(input) if !input.is_endless() && input.is_http() => {
                    tracing::info!("{place}: it is over");
                    return Ok(false);
                }
                Ok(mut input) => {
                    let matched = Kept::matched(kept, input.copied_streams());
                    for copied in &mut input.copied {
                        *copied = copied.and_then(|index| matched[index]);
                    }
                    self.reader.rejoin(input);
                    return Ok(true);
                }
                Err(Refusal { error, cause: Cause::Denied }) => return Err(error),
                Err(Refusal { error, cause }) => {
                    last = cause;
                    let text = error.to_string();
                    why = text.strip_prefix(&format!("{place}: ")).unwrap_or(&text).to_owned();
                }
            }
        }
    }

    /// Gives the frame its index, and its time in the common unit, later than the one before.
    fn place(&mut self, mut frame: Frame) -> Frame {
        let time = &mut frame.time;
        if time.base != self.time_base {
            time.pts = time.pts.rescale(time.base, self.time_base);
            time.duration = time.duration.rescale(time.base, self.time_base).max(1);
            time.base = self.time_base;
        }
        time.pts = self.last.map_or(time.pts, |last| time.pts.max(last + 1));
        self.last = Some(time.pts);
        frame.index = self.next_index;
        self.next_index += 1;
        frame
    }
}

impl Source for Live {
    fn next(&mut self) -> Result<Option<Frame>> {
        loop {
            let why = match self.reader.next() {
                Ok(Some(frame)) => {
                    if let Some(gap) = self.connection.retry.succeeded() {
                        tracing::info!("{}: back after {:.1} s", self.connection.place, gap.as_secs_f32());
                        self.reader.damage().reconnects.fetch_add(1, Ordering::Relaxed);
                    }
                    let frame = self.place(frame);
                    if self.darkness.as_mut().is_some_and(|darkness| darkness.is_told(&frame)) {
                        let place = &self.connection.place;
                        tracing::warn!(
                            "{place}: shows nothing but black; is the lens covered? `krea devices` lists others"
                        );
                    }
                    return Ok(Some(frame));
                }
                Ok(None) | Err(Error::Input(_)) if self.connection.options.control.stopped() => return Ok(None),
                Ok(None) => match self.reader.lost() {
                    Some(why) => why.to_owned(),
                    None => return Ok(None),
                },
                Err(Error::Input(_)) => self.reader.lost().unwrap_or("no picture could be decoded").to_owned(),
                Err(error) => return Err(error),
            };
            if !self.rejoin(why)? {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_half_a_minute() {
        let pauses = |retry: &mut Retry, cause, times| -> Vec<_> {
            (0..times).map(|_| retry.pause(cause).as_secs_f32()).collect()
        };
        let mut retry = Retry::new(None, Duration::from_secs(30));
        assert_eq!(pauses(&mut retry, Cause::Unreachable, 9), [0.25, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
        // Only an answer makes them grow.
        let mut retry = Retry::new(None, Duration::from_secs(30));
        assert_eq!(pauses(&mut retry, Cause::Absent, 5), [0.25, 1.0, 1.0, 1.0, 1.0]);
        assert_eq!(pauses(&mut retry, Cause::Unfit, 2), [1.0, 2.0]);
    }

    #[test]
    fn streams_that_change_their_order_find_their_place() {
        let stream = |medium, codec| {
            let mut parameters = codec::Parameters::new();
            // SAFETY: plain fields of parameters that we own.
            unsafe {
                (*parameters.as_mut_ptr()).codec_type = media::Type::into(medium);
                (*parameters.as_mut_ptr()).codec_id = codec::Id::into(codec);
            }
            CopiedStream { parameters, time_base: Rational(1, 1000), metadata: Vec::new(), disposition: 0 }
        };
        let (aac, opus) =
            (|| stream(media::Type::Audio, codec::Id::AAC), || stream(media::Type::Audio, codec::Id::OPUS));
        let kept = [Kept::of(&aac()), Kept::of(&opus())];
        assert_eq!(Kept::matched(&kept, &[opus(), aac(), aac()]), [Some(1), Some(0), None]);
    }
}
