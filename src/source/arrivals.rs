//! When the packet of each frame of a live input came.
//!
//! Decoders and filters hold frames back and give them in another order; what a frame keeps is its time stamp.

use std::collections::VecDeque;
use std::time::Instant;

/// The latest packets by the time that they are shown at.
#[derive(Default)]
pub(super) struct Arrivals(VecDeque<(f64, Instant)>);

/// More packets than any decoder holds back.
const KEPT: usize = 64;

/// Time stamps have gone through whole numbers of some unit.
const TOLERANCE: f64 = 0.002;

impl Arrivals {
    /// A packet that is shown at `seconds` has come.
    pub(super) fn note(&mut self, seconds: f64, now: Instant) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((seconds, now));
    }

    /// When the picture came that is shown at `seconds`: the last one that is not shown later.
    pub(super) fn of(&self, seconds: f64, now: Instant) -> Instant {
        let due = self.0.iter().filter(|(at, _)| *at <= seconds + TOLERANCE);
        due.max_by(|a, b| a.0.total_cmp(&b.0)).map_or(now, |(_, arrived)| *arrived)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_frame_came_with_its_own_packet_in_whatever_order() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let mut arrivals = Arrivals::default();
        // I P B B in the order of coding.
        for (ms, seconds) in [(0, 0.0), (10, 0.12), (20, 0.04), (30, 0.08)] {
            arrivals.note(seconds, at(ms));
        }
        let now = at(500);
        let came: Vec<_> = [0.0, 0.0399, 0.0805, 0.12].map(|s| arrivals.of(s, now) - zero).to_vec();
        assert_eq!(came, [0, 20, 30, 10].map(Duration::from_millis));
        // Between two, as a filter that changes the rate makes them, the one that is still shown.
        assert_eq!(arrivals.of(0.1, now), at(30));
        assert_eq!(arrivals.of(-5.0, now), now);
    }
}
