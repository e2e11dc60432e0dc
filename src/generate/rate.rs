//! Takes the model's number of frames a second from those of the source; each keeps its own time.

/// Chooses the frames that come nearest to a regular beat.
#[derive(Debug)]
pub(super) struct Beat {
    rate: f64,
    /// Time of the first frame, and the beat that was taken last.
    taken: Option<(f64, i64)>,
}

impl Beat {
    pub(super) fn new(rate: f64) -> Self {
        Self { rate, taken: None }
    }

    /// Whether the frame at `seconds` is one to take.
    pub(super) fn takes(&mut self, seconds: f64) -> bool {
        let Some((first, last)) = self.taken else {
            self.taken = Some((seconds, 0));
            return true;
        };
        // Time that runs backwards begins anew.
        let beat = ((seconds - first) * self.rate).round() as i64;
        if seconds < first {
            self.taken = Some((seconds, 0));
            return true;
        }
        let takes = beat > last;
        if takes {
            self.taken = Some((first, beat));
        }
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(times: impl Iterator<Item = f64>) -> Vec<usize> {
        let mut beat = Beat::new(16.0);
        times.enumerate().filter(|(_, t)| beat.takes(*t)).map(|(i, _)| i).collect()
    }

    #[test]
    fn every_second_of_thirty_two_and_all_of_sixteen_or_fewer() {
        assert_eq!(taken((0..8).map(|i| f64::from(i) / 32.0)), [0, 1, 3, 5, 7]);
        assert_eq!(taken((0..32).map(|i| f64::from(i) / 16.0)).len(), 32);
        assert_eq!(taken((0..10).map(|i| 5.0 + f64::from(i) / 10.0)).len(), 10);
    }

    #[test]
    fn ten_seconds_give_a_hundred_and_sixty_frames_whatever_the_rate() {
        for rate in [24000.0 / 1001.0, 25.0, 30000.0 / 1001.0, 30.0, 50.0, 59.94, 144.0] {
            let n = taken((0..).map(|i| f64::from(i) / rate).take_while(|t| *t < 10.0)).len();
            assert!((159..=162).contains(&n), "{rate}: {n}");
        }
    }

    #[test]
    fn a_gap_is_not_filled() {
        assert_eq!(taken([0.0, 0.0625, 7.0, 7.01, 7.0625].into_iter()), [0, 1, 2, 4]);
    }
}
