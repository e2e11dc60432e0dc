//! Masks while it is happening: the network works on a thread of its own, and the picture never waits for it in vain.
//!
//! Where the network keeps up, each frame waits for its own mask. Where it does not, frames pass with a mask that moves
//! towards the newest one (see [`super::cadence`]). Where it fails, the picture goes on without it, and the network is
//! opened again and again until it is back.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use ffmpeg_next::frame::Video;

use crate::error::{Error, Result};
use crate::frame::{Format, Frame, reference};

use super::cadence::{Cadence, Every};
use super::coverage::{Coverage, Network, Thumbnail};
use super::{Look, MaskStage, OnError, Stats};

/// Opens the network once more.
pub(super) type Reopen = Box<dyn FnMut() -> Result<Box<dyn Network>> + Send>;

/// The last mask stands in for a lost network for so long; it is wrong as soon as somebody moves.
const HOLD: Duration = Duration::from_secs(2);

/// The pauses between tries: 1, 2, 4 ... 30 s.
fn pause(tries: u32) -> Duration {
    Duration::from_secs(30.min(1 << tries.min(5)))
}

/// What became of one picture.
struct Found {
    coverage: Coverage,
    result: Result<Duration, Failure>,
}

enum Failure {
    /// It failed; the next try comes after the pause.
    Lost { why: String, next: Duration },
    /// It is not yet time for another try.
    Away,
}

/// The network's thread.
pub(super) struct Live {
    jobs: Option<Sender<(Video, Coverage)>>,
    results: Receiver<Found>,
    thread: Option<JoinHandle<()>>,
    busy: bool,
    cadence: Cadence,
    /// What the network found last, and memory for what it finds next.
    latest: Option<Coverage>,
    spare: Coverage,
    previous: Option<Thumbnail>,
    /// Since when the network is lost.
    lost: Option<Instant>,
}

impl Live {
    pub(super) fn start(network: Box<dyn Network>, reopen: Reopen, every: Every, stats: Arc<Stats>) -> Result<Self> {
        let (jobs, inbox) = bounded::<(Video, Coverage)>(1);
        let (outbox, results) = bounded(1);
        let mut worker = Worker { network: Some(network), reopen, tries: 0, due: Instant::now(), stats };
        let work = move || {
            for (picture, coverage) in inbox {
                if outbox.send(worker.find(&picture, coverage)).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("mask network".to_owned())
            .spawn(work)
            .map_err(|e| Error::Stage { stage: "mask".to_owned(), message: e.to_string() })?;
        Ok(Self {
            jobs: Some(jobs),
            results,
            thread: Some(thread),
            busy: false,
            cadence: Cadence::new(every),
            latest: None,
            spare: Coverage::default(),
            previous: None,
            lost: None,
        })
    }

    fn send(&mut self, picture: &Video) -> Result<()> {
        let picture = reference(picture)
            .map_err(|e| Error::Stage { stage: "mask".to_owned(), message: format!("no memory: {e}") })?;
        let job = (picture, std::mem::take(&mut self.spare));
        if self.jobs.as_ref().is_none_or(|jobs| jobs.send(job).is_err()) {
            self.rethrow();
        }
        self.busy = true;
        self.cadence.masks();
        Ok(())
    }

    /// What has been found, if it has been, or, with `wait`, as soon as it has been.
    fn receive(&mut self, wait: bool) -> Option<Found> {
        if !self.busy {
            return None;
        }
        let found = match self.results.try_recv() {
            Ok(found) => found,
            Err(TryRecvError::Empty) if wait => self.results.recv().unwrap_or_else(|_| self.rethrow()),
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => self.rethrow(),
        };
        self.busy = false;
        Some(found)
    }

    /// A thread that is gone has panicked; its panic becomes the stage's own.
    fn rethrow(&mut self) -> ! {
        self.jobs = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => resume_unwind(panic),
            _ => unreachable!("the thread ends only after its jobs do"),
        }
    }
}

/// What lives on the network's thread.
struct Worker {
    network: Option<Box<dyn Network>>,
    reopen: Reopen,
    tries: u32,
    /// When the next try is due, while there is no network.
    due: Instant,
    stats: Arc<Stats>,
}

impl Worker {
    fn find(&mut self, picture: &Video, mut coverage: Coverage) -> Found {
        let result = self.run(picture, &mut coverage);
        Found { coverage, result }
    }

    fn run(&mut self, picture: &Video, coverage: &mut Coverage) -> Result<Duration, Failure> {
        if self.network.is_none() {
            if Instant::now() < self.due {
                return Err(Failure::Away);
            }
            match (self.reopen)() {
                Ok(network) => self.network = Some(network),
                Err(error) => return Err(self.lose(error.to_string())),
            }
        }
        let Some(network) = &mut self.network else { return Err(Failure::Away) };
        let start = Instant::now();
        let result = match Format::of(picture.format()) {
            Some(format) => network.find(picture, format, coverage),
            None => Err(format!("{:?} is not a planar format", picture.format())),
        };
        let took = start.elapsed();
        self.stats.inferences.fetch_add(1, Ordering::Relaxed);
        self.stats.inference_nanoseconds.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        match result {
            Ok(()) => {
                self.tries = 0;
                Ok(took)
            }
            Err(why) => Err(self.lose(why)),
        }
    }

    fn lose(&mut self, why: String) -> Failure {
        self.network = None;
        let next = pause(self.tries);
        self.tries += 1;
        self.due = Instant::now() + next;
        Failure::Lost { why, next }
    }
}

impl MaskStage {
    /// Gives a live frame its mask.
    pub(super) fn push_live(&mut self, live: &mut Live, frame: Frame) -> Result<Frame> {
        let format = Format::of(frame.picture.format());
        let Some(thumbnail) = format.map(|format| Thumbnail::of(&frame.picture, format)) else {
            return Err(Error::Stage { stage: "mask".into(), message: "the picture's format is not planar".into() });
        };
        if let Some(found) = live.receive(false) {
            self.take_in(live, found)?;
        }
        let cut = live.previous.as_ref().is_some_and(|previous| thumbnail.is_cut(previous));
        live.previous = Some(thumbnail.clone());
        let due = live.cadence.is_due(frame.index, frame.time.seconds());
        // Nothing that was found before a cut, and nothing at all, can be followed.
        let waits = live.lost.is_none() && (cut || live.latest.is_none() || (due && live.cadence.every() == 1));
        if waits && let Some(found) = live.receive(true) {
            self.take_in(live, found)?;
        }
        let mut own = false;
        if (due || waits) && !live.busy {
            live.send(&frame.picture)?;
            if waits && let Some(found) = live.receive(true) {
                self.take_in(live, found)?;
                own = live.lost.is_none();
            }
        }
        let look = match (live.lost, &live.latest) {
            (None, Some(latest)) => {
                if !own {
                    self.stats.followed.fetch_add(1, Ordering::Relaxed);
                }
                Look::By(self.matte.update(latest, thumbnail), own)
            }
            (Some(since), _) if since.elapsed() > HOLD && self.on_error == OnError::Hold => {
                self.matte.miss(thumbnail);
                Look::Whole
            }
            _ => self.without(thumbnail),
        };
        Ok(self.dress(frame, look))
    }

    /// Takes in a result of the network's thread, and tells when the network goes and comes back.
    fn take_in(&mut self, live: &mut Live, found: Found) -> Result<()> {
        match found.result {
            Ok(took) => {
                live.cadence.learn(took);
                live.spare = live.latest.replace(found.coverage).unwrap_or_default();
                if let Some(since) = live.lost.take() {
                    self.stats.lost.store(false, Ordering::Relaxed);
                    tracing::info!("the mask is back after {:.1} s", since.elapsed().as_secs_f32());
                }
            }
            Err(Failure::Away) => live.spare = found.coverage,
            Err(Failure::Lost { why, next }) => {
                live.spare = found.coverage;
                self.stats.failed.fetch_add(1, Ordering::Relaxed);
                if self.on_error == OnError::Stop {
                    return Err(Error::Stage { stage: "mask".into(), message: why });
                }
                if live.lost.is_none() {
                    live.lost = Some(Instant::now());
                    live.latest = None;
                    self.stats.lost.store(true, Ordering::Relaxed);
                    self.stats.losses.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!("the mask is lost, and the picture goes on without it: {why}");
                }
                tracing::warn!("the mask network is opened again in {} s: {why}", next.as_secs());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute() {
        let pauses: Vec<_> = (0..8).map(|n| pause(n).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
    }
}
