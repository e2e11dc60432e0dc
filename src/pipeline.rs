//! Source, stages and sink, each on a named thread, joined by bounded channels.
//!
//! A thread that ends for whatever reason closes its channels, so its neighbours end too; the first error is kept, and
//! "the channel is closed" never takes its place. A stop is a normal end: the source stops giving, the rest drains.

mod latency;
mod meter;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::error::{Error, Result};
use crate::frame::Frame;

pub use latency::{Counts, Latency};
pub use meter::Meter;

/// Where frames come from.
pub trait Source: Send {
    /// The next frame, or `None` at the end.
    fn next(&mut self) -> Result<Option<Frame>>;
}

/// One step of the pipeline. May hold frames back and emit many at once.
pub trait Stage: Send {
    /// The thread's name, and how messages call the stage.
    fn name(&self) -> &'static str;
    /// Frames that may wait before this stage.
    fn room(&self) -> usize {
        QUEUE
    }
    /// Told before each `push` how many frames wait behind the one that comes.
    fn backlog(&mut self, _frames: usize) {}
    fn push(&mut self, frame: Frame, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()>;
    /// Called once at the end of input, and on a stop.
    fn finish(&mut self, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()>;
    /// The most frames that one call emits. So many fit into the queue behind it, so that none pushes another one out.
    fn burst(&self) -> usize {
        1
    }
    /// What leaves this stage has cost so much that it is never dropped.
    fn is_costly(&self) -> bool {
        false
    }
}

/// Where frames go to.
pub trait Sink: Send {
    /// Waits until it is time for a frame, where the output has a clock. Not counted as work.
    fn pace(&mut self, _frame: &Frame) {}
    fn write(&mut self, frame: Frame) -> Result<()>;
    /// Called once, also after a failure elsewhere, so that what was written becomes whole.
    fn finish(&mut self, end: End) -> Result<()>;
}

/// Why no more frames come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The input is at its end, or someone asked to stop: all that was read has arrived.
    Drained,
    /// Someone asked twice: what was queued is gone, but the file shall still be closed.
    Abandoned,
    /// A stage failed.
    Failed,
}

/// What a producer does when its consumer is behind. The only difference between live and batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It waits.
    Lossless,
    /// The oldest frame in the queue is dropped and counted.
    Latest,
}

/// The flags by which the outside stops a running pipeline.
#[derive(Clone, Default)]
pub struct Control {
    /// Stop reading, let what is on its way finish.
    pub stop: Arc<AtomicBool>,
    /// Drop what is queued too.
    pub abandon: Arc<AtomicBool>,
    /// Take no more frames for a while.
    pub pause: Arc<AtomicBool>,
}

impl Control {
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn abandoned(&self) -> bool {
        self.abandon.load(Ordering::Relaxed)
    }

    pub fn paused(&self) -> bool {
        self.pause.load(Ordering::Relaxed) && !self.stopped()
    }
}

/// The parts of a run before it is started.
pub struct Pipeline {
    pub source: Box<dyn Source>,
    pub stages: Vec<Box<dyn Stage>>,
    pub sink: Box<dyn Sink>,
    pub flow: Flow,
    /// The source does not wait: what it gives during a pause is dropped.
    pub live: bool,
    /// Frames of a live source that are older than this are dropped before the next stage takes them.
    pub max_age: Option<Duration>,
    pub control: Control,
}

/// What one thread does from its first frame to its last.
type Work = Box<dyn FnMut(&Meter) -> Result<()> + Send>;

/// Frames that may wait between two stages. Two keep neighbours busy; each one more is 3 MB a queue at 1080p.
const QUEUE: usize = 2;

impl Pipeline {
    /// Runs to the end. `tick` is called about ten times a second on the caller's thread with a meter for each thread,
    /// source first, sink last.
    pub fn run(self, tick: impl FnMut(&[Arc<Meter>])) -> Result<()> {
        self.run_with(Duration::from_millis(50), tick)
    }

    /// As `run`, with a pause of one's own between two ticks.
    pub fn run_with(self, pause: Duration, mut tick: impl FnMut(&[Arc<Meter>])) -> Result<()> {
        let epoch = Instant::now();
        let names = ["source"].into_iter().chain(self.stages.iter().map(|s| s.name())).chain(["sink"]);
        let meters: Vec<_> = names.map(|name| Arc::new(Meter::new(name, epoch))).collect();
        let shared = Shared { control: self.control, failure: Arc::default() };
        let (mut flow, live, mut max_age) = (self.flow, self.live, self.max_age);
        let (sink_meter, inner) = meters.split_last().expect("a pipeline has at least a source and a sink");

        thread::scope(|scope| {
            let mut rooms = self.stages.iter().map(|s| s.room()).chain([QUEUE]).collect::<Vec<_>>().into_iter();
            let mut room = || rooms.next().unwrap_or(QUEUE);
            let (source_out, mut upstream) = bounded(room());
            let mut threads = Vec::new();
            // `work` keeps its channels until the thread ends, so a failure is known before a neighbour sees the close.
            let mut start = |meter: &Arc<Meter>, mut work: Work| {
                let (meter, shared) = (meter.clone(), shared.clone());
                let thread = thread::Builder::new().name(meter.name.to_owned());
                threads.push(
                    thread
                        .spawn_scoped(scope, move || shared.contain(meter.name, || work(&meter)))
                        .expect("the system can start a thread"),
                );
            };

            let (mut source, s) = (self.source, shared.clone());
            let out = Outlet::new(flow, source_out, &upstream);
            start(&inner[0], Box::new(move |m| drive_source(&mut *source, live, &s, m, &out)));
            for (mut stage, meter) in self.stages.into_iter().zip(&inner[1..]) {
                let input_age = max_age;
                if stage.is_costly() {
                    (flow, max_age) = (Flow::Lossless, None);
                }
                let (out, next) = bounded(room().max(stage.burst()));
                let out = Outlet::new(flow, out, &next);
                let (s, frames) = (shared.clone(), std::mem::replace(&mut upstream, next));
                let input = Inlet { frames, max_age: input_age };
                start(meter, Box::new(move |m| drive_stage(&mut *stage, &s, m, &input, &out)));
            }
            let (mut sink, s) = (self.sink, shared.clone());
            let input = Inlet { frames: upstream, max_age };
            start(sink_meter, Box::new(move |m| drive_sink(&mut *sink, &s, m, &input)));

            while threads.iter().any(|t| !t.is_finished()) {
                tick(&meters);
                // Short at first, so that a job of one picture does not wait for the clock.
                let first = Duration::from_millis(5);
                thread::sleep(if epoch.elapsed() < Duration::from_millis(500) { pause.min(first) } else { pause });
            }
            tick(&meters);
        });
        let failure = lock(&shared.failure).take();
        failure.map_or(Ok(()), Err)
    }
}

#[derive(Clone)]
struct Shared {
    control: Control,
    failure: Arc<Mutex<Option<Error>>>,
}

impl Shared {
    /// Runs a thread's work; keeps the first error, turns a panic into one.
    ///
    /// [`Error::Closed`] is no failure: whoever was downstream has gone, and that one tells why, if there is a why.
    fn contain(&self, name: &str, work: impl FnOnce() -> Result<()>) {
        let result = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            Err(Error::Stage { stage: name.to_owned(), message: format!("internal error: {}", text_of(&*panic)) })
        });
        let Err(error) = result else { return };
        if !matches!(error, Error::Closed) {
            lock(&self.failure).get_or_insert(error);
        }
        self.control.stop.store(true, Ordering::Relaxed);
    }

    fn failed(&self) -> bool {
        lock(&self.failure).is_some()
    }
}

/// The way out of a stage.
struct Outlet {
    frames: Sender<Frame>,
    /// The reading end of the same channel, by which a full one loses its oldest frame; without it the sender waits.
    oldest: Option<Receiver<Frame>>,
}

impl Outlet {
    fn new(flow: Flow, frames: Sender<Frame>, other_end: &Receiver<Frame>) -> Self {
        Self { frames, oldest: (flow == Flow::Latest).then(|| other_end.clone()) }
    }

    fn send(&self, frame: Frame, meter: &Meter) -> Result<()> {
        meter.frames.fetch_add(1, Ordering::Relaxed);
        let Some(oldest) = &self.oldest else {
            return self.frames.send(frame).map_err(|_| Error::Closed);
        };
        let mut frame = frame;
        loop {
            match self.frames.try_send(frame) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(_)) => return Err(Error::Closed),
                Err(TrySendError::Full(back)) => {
                    frame = back;
                    if oldest.try_recv().is_ok() {
                        meter.dropped.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
    }
}

/// The way into a stage.
struct Inlet {
    frames: Receiver<Frame>,
    max_age: Option<Duration>,
}

impl Inlet {
    /// The next frame that is worth working on; `None` when no more come.
    fn next(&self, shared: &Shared, meter: &Meter) -> Option<Frame> {
        loop {
            let frame = self.frames.recv().ok()?;
            meter.taken.fetch_add(1, Ordering::Relaxed);
            let age = frame.arrived.map(|at| at.elapsed());
            if shared.control.abandoned() {
                continue;
            }
            if age.zip(self.max_age).is_some_and(|(age, most)| age > most) {
                meter.late.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            return Some(frame);
        }
    }
}

fn drive_source(source: &mut dyn Source, live: bool, shared: &Shared, meter: &Meter, out: &Outlet) -> Result<()> {
    while !shared.control.stopped() {
        let Some(frame) = meter.time(|| source.next())? else { break };
        if live && shared.control.paused() {
            meter.frames.fetch_add(1, Ordering::Relaxed);
            meter.dropped.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        while shared.control.paused() {
            thread::sleep(Duration::from_millis(10));
        }
        out.send(frame, meter)?;
    }
    Ok(())
}

fn drive_stage(stage: &mut dyn Stage, shared: &Shared, meter: &Meter, input: &Inlet, out: &Outlet) -> Result<()> {
    while let Some(frame) = input.next(shared, meter) {
        stage.backlog(input.frames.len());
        through(meter, |emit| stage.push(frame, emit), |frame| out.send(frame, meter))?;
    }
    if !shared.control.abandoned() {
        through(meter, |emit| stage.finish(emit), |frame| out.send(frame, meter))?;
    }
    Ok(())
}

/// Runs a stage's call and passes its frames on; the time spent waiting downstream is not the stage's own.
fn through(
    meter: &Meter,
    call: impl FnOnce(&mut dyn FnMut(Frame) -> Result<()>) -> Result<()>,
    mut send: impl FnMut(Frame) -> Result<()>,
) -> Result<()> {
    let mut waited = Duration::ZERO;
    let result = meter.time(|| {
        call(&mut |frame| {
            let start = Instant::now();
            let began = meter.since.swap(0, Ordering::Relaxed);
            let sent = send(frame);
            let pause = start.elapsed();
            meter.since.store(began + pause.as_millis() as usize, Ordering::Relaxed);
            waited += pause;
            sent
        })
    });
    meter.busy.fetch_sub(waited.as_nanos() as u64, Ordering::Relaxed);
    result
}

fn drive_sink(sink: &mut dyn Sink, shared: &Shared, meter: &Meter, input: &Inlet) -> Result<()> {
    let written = catch_unwind(AssertUnwindSafe(|| {
        while let Some(frame) = input.next(shared, meter) {
            sink.pace(&frame);
            let arrived = frame.arrived;
            meter.time(|| sink.write(frame))?;
            meter.frames.fetch_add(1, Ordering::Relaxed);
            if let Some(arrived) = arrived {
                meter.latency.record(arrived.elapsed());
            }
        }
        Ok(())
    }));
    let end = match &written {
        Ok(Ok(())) if shared.failed() => End::Failed,
        Ok(Ok(())) if shared.control.abandoned() => End::Abandoned,
        Ok(Ok(())) => End::Drained,
        _ => End::Failed,
    };
    let finished = meter.time(|| sink.finish(end));
    match written {
        Err(panic) => std::panic::resume_unwind(panic),
        Ok(result) => result.and(finished),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}

/// The value behind the lock is replaced whole, so a panic elsewhere cannot leave it half written.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
