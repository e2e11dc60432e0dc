//! How old frames are when they get somewhere, as counts from which percentiles can be told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Each bucket reaches 2 % further than the one before; the first ends at 0.1 ms, the last holds all above a minute.
const BUCKETS: usize = 680;
const FIRST: f64 = 1e-4;
const STEP: f64 = 1.02;

/// Durations, counted by size. Any thread may add to it and read it.
pub struct Latency {
    buckets: Box<[AtomicU64]>,
    /// Microseconds.
    max: AtomicU64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), max: AtomicU64::new(0) }
    }
}

impl Latency {
    pub fn record(&self, age: Duration) {
        let bucket = (age.as_secs_f64() / FIRST).max(1.0).ln() / STEP.ln();
        self.buckets[(bucket.ceil() as usize).min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
        self.max.fetch_max(age.as_micros() as u64, Ordering::Relaxed);
    }

    /// What has been counted so far.
    pub fn counts(&self) -> Counts {
        Counts(self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect())
    }

    /// The longest one in milliseconds; `None` before the first.
    pub fn max(&self) -> Option<f64> {
        let max = self.max.load(Ordering::Relaxed);
        (max > 0).then_some(max as f64 / 1000.0)
    }
}

/// The counts of one moment.
#[derive(Clone, Default)]
pub struct Counts(Vec<u64>);

impl Counts {
    /// What has come since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = earlier.0.iter().copied().chain(std::iter::repeat(0));
        Self(self.0.iter().zip(before).map(|(now, before)| now - before).collect())
    }

    /// The duration in milliseconds, to 2 %, that the share `part` (0 to 1) does not exceed; `None` without any.
    pub fn percentile(&self, part: f64) -> Option<f64> {
        let total: u64 = self.0.iter().sum();
        let wanted = ((total as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.0.iter().position(|n| {
            seen += n;
            seen >= wanted
        })?;
        Some(FIRST * STEP.powi(bucket as i32) * 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_a_fiftieth() {
        let latency = Latency::default();
        assert_eq!((latency.counts().percentile(0.5), latency.max()), (None, None));
        (1..=100).for_each(|ms| latency.record(Duration::from_millis(ms)));
        let counts = latency.counts();
        for (part, expected) in [(0.5, 50.0), (0.95, 95.0), (1.0, 100.0)] {
            let got = counts.percentile(part).unwrap();
            assert!((got / expected - 1.0).abs() < 0.021, "{part}: {got}");
        }
        assert_eq!(latency.max(), Some(100.0));
    }

    #[test]
    fn an_interval_knows_nothing_of_what_came_before() {
        let latency = Latency::default();
        latency.record(Duration::from_secs(5));
        let before = latency.counts();
        latency.record(Duration::from_millis(10));
        let got = latency.counts().since(&before).percentile(0.5).unwrap();
        assert!((9.8..10.3).contains(&got), "{got}");
        // Nothing is too short or too long to be counted.
        latency.record(Duration::ZERO);
        latency.record(Duration::from_secs(100_000));
        assert_eq!(latency.counts().0.iter().sum::<u64>(), 4);
    }
}
