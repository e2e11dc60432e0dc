//! What the threads of a pipeline are doing, readable from any other.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::latency::Latency;

/// What one thread is doing, readable from any other.
pub struct Meter {
    pub name: &'static str,
    /// Frames that have come in.
    pub taken: AtomicU64,
    /// Frames that have left this stage.
    pub frames: AtomicU64,
    /// Frames that had left it, and gave way to newer ones before the next stage took them.
    pub dropped: AtomicU64,
    /// Frames that were too old when they came.
    pub late: AtomicU64,
    /// How old live frames were when they left; kept by the sink alone.
    pub latency: Latency,
    /// Nanoseconds spent inside the stage, waiting for neighbours not counted.
    pub busy: AtomicU64,
    /// Milliseconds since `epoch` at which the current call began; 0 when waiting.
    pub(super) since: AtomicUsize,
    epoch: Instant,
}

impl Meter {
    pub(super) fn new(name: &'static str, epoch: Instant) -> Self {
        Self {
            name,
            taken: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            late: AtomicU64::new(0),
            latency: Latency::default(),
            busy: AtomicU64::new(0),
            since: AtomicUsize::new(0),
            epoch,
        }
    }

    /// Runs `work` as this stage's own time.
    pub(super) fn time<T>(&self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        self.since.store((start - self.epoch).as_millis() as usize + 1, Ordering::Relaxed);
        let result = work();
        self.since.store(0, Ordering::Relaxed);
        self.busy.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        result
    }

    /// How long the stage has been inside one call.
    pub fn stuck_for(&self) -> Option<Duration> {
        let since = self.since.load(Ordering::Relaxed);
        let now = self.epoch.elapsed().as_millis() as usize;
        (since > 0).then(|| Duration::from_millis(now.saturating_sub(since - 1) as u64))
    }

    /// Frames that were lost here, for whatever reason.
    pub fn lost(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed) + self.late.load(Ordering::Relaxed)
    }

    /// Frames that wait between this stage and the next one.
    pub fn waiting(&self, next: &Self) -> u64 {
        // Read in the order in which they rise, so that a frame on its way is counted rather than missed.
        let gone = next.taken.load(Ordering::Relaxed) + self.dropped.load(Ordering::Relaxed);
        self.frames.load(Ordering::Relaxed).saturating_sub(gone)
    }
}
