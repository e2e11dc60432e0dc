//! Gives a file the speed of its own time stamps, for outputs that someone watches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::frame::Frame;
use crate::pipeline::{Control, End, Sink};

/// Hands each frame on when its time has come.
pub struct Paced {
    inner: Box<dyn Sink>,
    control: Control,
    /// While this is set no frame is handed on.
    pause: Option<Arc<AtomicBool>>,
    clock: Clock,
}

impl Paced {
    pub fn new(inner: Box<dyn Sink>, control: Control, pause: Option<Arc<AtomicBool>>) -> Self {
        Self { inner, control, pause, clock: Clock::default() }
    }

    fn paused(&self) -> bool {
        self.pause.as_ref().is_some_and(|p| p.load(Ordering::Relaxed))
    }
}

impl Sink for Paced {
    fn pace(&mut self, frame: &Frame) {
        let step = Duration::from_millis(20);
        while self.paused() && !self.control.stopped() {
            self.clock = Clock::default();
            thread::sleep(step);
        }
        let wait = self.clock.wait(frame.time.seconds(), Instant::now());
        let until = Instant::now() + wait;
        while !self.control.stopped() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(step));
        }
    }

    fn write(&mut self, frame: Frame) -> Result<()> {
        self.inner.write(frame)
    }

    fn finish(&mut self, end: End) -> Result<()> {
        self.inner.finish(end)
    }
}

/// Relates time stamps to the real clock.
#[derive(Default)]
struct Clock {
    /// A moment, and the time stamp in seconds that was due at it.
    start: Option<(Instant, f64)>,
}

/// So far behind its time stamps, playing is slow rather than late, and nothing is gained by hurrying after it.
const LATE: f64 = 0.25;

impl Clock {
    /// How long to wait before the frame of this time stamp.
    fn wait(&mut self, seconds: f64, now: Instant) -> Duration {
        let (start, first) = *self.start.get_or_insert((now, seconds));
        let early = (seconds - first) - now.saturating_duration_since(start).as_secs_f64();
        if !(-LATE..=10.0).contains(&early) {
            self.start = Some((now, seconds));
            return Duration::ZERO;
        }
        Duration::from_secs_f64(early.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_waits_for_its_time_and_a_slow_job_does_not_hurry() {
        let (mut clock, start) = (Clock::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(clock.wait(5.0, at(0)), Duration::ZERO);
        assert!((clock.wait(5.5, at(100)).as_secs_f64() - 0.4).abs() < 1e-6);
        assert_eq!(clock.wait(5.6, at(700)), Duration::ZERO);
        // Two seconds late: the clock starts anew.
        assert_eq!(clock.wait(6.0, at(3000)), Duration::ZERO);
        assert!((clock.wait(6.1, at(3000)).as_secs_f64() - 0.1).abs() < 1e-6);
        // A jump in the time stamps is not waited for.
        assert_eq!(clock.wait(9000.0, at(3100)), Duration::ZERO);
    }
}
