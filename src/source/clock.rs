//! The time of a live input: begins at zero, and goes on through every restart of the sender.
//!
//! A new connection has time stamps of its own. The gap between the last picture before the loss and the first one
//! after it lasts as long in the output as it lasted for whoever looked on, so sound and picture stay together.

use std::time::Instant;

/// Time stamps that go back by more seconds than this begin anew; less is the order of coding.
const BACK: f64 = 2.0;
/// Time stamps that run ahead by more seconds than this begin anew; less is a burst.
const AHEAD: f64 = 10.0;

pub(super) struct Clock {
    /// Seconds of the output at which the farthest packet ends.
    reached: f64,
    /// Where it begins, and when it was read.
    last: f64,
    at: Instant,
    /// Where the first packet of a new connection goes; `None` after it.
    resume: Option<f64>,
    /// Seconds that are taken off the connection's own times.
    origin: f64,
}

impl Clock {
    /// Zero is `start` seconds after the first packet.
    pub(super) fn new(start: f64, now: Instant) -> Self {
        Self { reached: -start, last: -start, at: now, resume: Some(-start), origin: 0.0 }
    }

    /// A new connection was begun at `now`.
    pub(super) fn restart(&mut self, now: Instant) {
        self.resume = Some(self.expected(now));
    }

    fn expected(&self, now: Instant) -> f64 {
        self.reached.max(self.last + now.saturating_duration_since(self.at).as_secs_f64())
    }

    /// How much is to be taken off the times of a packet from `start` to `end` seconds that was read at `now`.
    pub(super) fn place(&mut self, start: f64, end: f64, now: Instant) -> f64 {
        let placed = start - self.origin;
        if let Some(resume) = self.resume.take() {
            self.origin = start - resume;
        } else if placed < self.reached - BACK || placed > self.expected(now) + AHEAD {
            self.origin = start - self.expected(now);
        }
        let end = end.max(start) - self.origin;
        if end > self.reached {
            (self.reached, self.last, self.at) = (end, start - self.origin, now);
        }
        self.origin
    }

    /// Where a packet goes that has no times, as RTSP's have before the sender's first report, and lasts `duration`.
    pub(super) fn place_untimed(&mut self, duration: f64, now: Instant) -> f64 {
        let at = self.resume.unwrap_or(self.reached);
        self.resume = self.resume.map(|resume| resume + duration);
        (self.reached, self.last, self.at) = (at + duration, at, now);
        at
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Feeds (seconds by the wall, own time) of packets of 0.04 s and gives their times in the output.
    fn times(clock: &mut Clock, zero: Instant, packets: &[(f64, f64)]) -> Vec<f64> {
        let at = |wall: f64| zero + Duration::from_secs_f64(wall);
        let mut place = |&(wall, own): &(f64, f64)| own - clock.place(own, own + 0.04, at(wall));
        packets.iter().map(|p| (place(p) * 1000.0).round() / 1000.0).collect()
    }

    #[test]
    fn a_stream_begins_at_zero_and_goes_on_after_a_gap() {
        let zero = Instant::now();
        let mut clock = Clock::new(0.0, zero);
        assert_eq!(times(&mut clock, zero, &[(0.5, 700.0), (0.54, 700.04)]), [0.0, 0.04]);
        // Three seconds after the last packet a new connection begins, with other times.
        clock.restart(zero + Duration::from_secs_f64(3.54));
        assert_eq!(times(&mut clock, zero, &[(4.0, 12.0), (4.04, 12.04)]), [3.04, 3.08]);
    }

    #[test]
    fn a_sender_that_begins_anew_behind_one_connection_is_noticed() {
        let zero = Instant::now();
        let mut clock = Clock::new(0.0, zero);
        let packets = [(0.0, 50.0), (0.04, 50.04), (1.08, 0.0), (1.12, 0.04), (1.16, 5000.0)];
        assert_eq!(times(&mut clock, zero, &packets), [0.0, 0.04, 1.08, 1.12, 1.16]);
    }

    #[test]
    fn the_order_of_coding_and_bursts_are_left_alone() {
        let zero = Instant::now();
        let mut clock = Clock::new(0.0, zero);
        let packets = [(0.0, 1.0), (0.0, 1.12), (0.0, 1.04), (0.0, 1.08), (0.01, 3.0)];
        assert_eq!(times(&mut clock, zero, &packets), [0.0, 0.12, 0.04, 0.08, 2.0]);
    }

    #[test]
    fn packets_without_times_come_before_those_with_times() {
        let zero = Instant::now();
        let mut clock = Clock::new(0.0, zero);
        assert_eq!((clock.place_untimed(0.04, zero), clock.place_untimed(0.04, zero)), (0.0, 0.04));
        assert_eq!(times(&mut clock, zero, &[(0.08, 33.0)]), [0.08]);
        assert!((clock.place_untimed(0.04, zero) - 0.12).abs() < 1e-9);
    }

    #[test]
    fn what_lies_before_the_start_is_negative() {
        let zero = Instant::now();
        let mut clock = Clock::new(2.0, zero);
        assert_eq!(times(&mut clock, zero, &[(0.0, 9.0), (2.0, 11.0)]), [-2.0, 0.0]);
    }
}
