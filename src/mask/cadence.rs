//! Which frames are masked, where not every one is.

use std::str::FromStr;
use std::time::Duration;

/// How many frames share one run of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Every {
    /// In a live run as many as the network is behind; else every frame has its own.
    #[default]
    Auto,
    Fixed(u32),
}

/// More frames than this between two masks show nothing that belongs together.
const MOST: u32 = 30;

impl FromStr for Every {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s.parse() {
            Ok(n @ 1..=MOST) => Ok(Self::Fixed(n)),
            _ if s == "auto" => Ok(Self::Auto),
            _ => Err(format!("'{s}': write auto, or a number from 1 to {MOST}")),
        }
    }
}

/// Counts frames, and in a live run chooses the distance between two masks.
pub(super) struct Cadence {
    fixed: Option<u32>,
    every: u32,
    /// Frames since the last one that was masked.
    passed: u32,
    /// Seconds that a mask takes, and from one frame to the next, smoothed.
    cost: Option<f64>,
    interval: Option<f64>,
    /// The last frame: its index and its time.
    seen: Option<(u64, f64)>,
    /// When `every` last changed, in the frames' own time.
    changed: f64,
}

/// So much of the time between two masks may the network take.
const BUSY: f64 = 0.9;
/// And with so little it could do with a shorter one.
const IDLE: f64 = 0.65;
/// Seconds before a shorter distance is tried.
const PATIENCE: f64 = 2.0;

impl Cadence {
    pub(super) fn new(every: Every) -> Self {
        let fixed = match every {
            Every::Auto => None,
            Every::Fixed(n) => Some(n),
        };
        let every = fixed.unwrap_or(1);
        Self { fixed, every, passed: every, cost: None, interval: None, seen: None, changed: 0.0 }
    }

    pub(super) fn every(&self) -> u32 {
        self.every
    }

    /// A frame comes; tells whether it should be masked.
    pub(super) fn is_due(&mut self, index: u64, seconds: f64) -> bool {
        if let Some((last, then)) = self.seen.replace((index, seconds))
            && index > last
            && seconds > then
        {
            // Frames that were dropped in between do not make the source slower.
            smooth(&mut self.interval, (seconds - then) / (index - last) as f64);
        }
        self.passed += 1;
        self.passed >= self.every
    }

    /// That frame is masked.
    pub(super) fn masks(&mut self) {
        self.passed = 0;
    }

    /// A mask took so long.
    pub(super) fn learn(&mut self, cost: Duration) {
        smooth(&mut self.cost, cost.as_secs_f64());
        let (Some(cost), Some(interval), Some((_, now))) = (self.cost, self.interval, self.seen) else { return };
        if self.fixed.is_some() {
            return;
        }
        let needed = ((cost / (interval * BUSY)).ceil() as u32).clamp(1, MOST);
        let shorter = self.every > 1 && cost < IDLE * interval * f64::from(self.every - 1);
        let next = match () {
            () if needed > self.every => needed,
            () if shorter && now - self.changed >= PATIENCE => self.every - 1,
            () => return,
        };
        tracing::debug!(
            "masking every {next}. frame: a mask takes {:.0} ms, a frame {:.0} ms",
            cost * 1e3,
            interval * 1e3
        );
        (self.every, self.changed) = (next, now);
    }
}

fn smooth(mean: &mut Option<f64>, new: f64) {
    *mean = Some(mean.map_or(new, |old| old + 0.2 * (new - old)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays `frames` at 25 fps with masks that take `ms`; gives the distance at the end.
    fn play(cadence: &mut Cadence, from: u64, frames: u64, ms: u64) -> u32 {
        for index in from..from + frames {
            if cadence.is_due(index, index as f64 / 25.0) {
                cadence.masks();
                cadence.learn(Duration::from_millis(ms));
            }
        }
        cadence.every()
    }

    #[test]
    fn a_slow_network_masks_fewer_frames_and_a_fast_one_all() {
        let mut cadence = Cadence::new(Every::Auto);
        assert_eq!(play(&mut cadence, 0, 50, 20), 1);
        assert_eq!(play(&mut cadence, 50, 100, 100), 3);
        // 36 ms are 90 % of a frame: neither slow enough nor fast enough for another distance than the present one.
        assert_eq!(play(&mut cadence, 150, 500, 10), 1);
        assert_eq!(play(&mut cadence, 650, 100, 35), 1);
    }

    #[test]
    fn the_distance_does_not_swing() {
        let mut cadence = Cadence::new(Every::Auto);
        play(&mut cadence, 0, 100, 50);
        assert_eq!(cadence.every(), 2);
        // Just fast enough for every frame, but not by a margin.
        assert_eq!(play(&mut cadence, 100, 1000, 30), 2);
    }

    #[test]
    fn a_number_is_kept() {
        let mut cadence = Cadence::new(Every::Fixed(4));
        let masked: Vec<u64> = (0..12)
            .filter(|&i| {
                let due = cadence.is_due(i, i as f64 / 25.0);
                if due {
                    cadence.masks();
                    cadence.learn(Duration::from_secs(1));
                }
                due
            })
            .collect();
        assert_eq!(masked, [0, 4, 8]);
    }

    #[test]
    fn a_distance_is_auto_or_a_small_number() {
        assert_eq!("auto".parse(), Ok(Every::Auto));
        assert_eq!("3".parse(), Ok(Every::Fixed(3)));
        for bad in ["0", "31", "-1", "two", ""] {
            assert!(bad.parse::<Every>().is_err(), "{bad}");
        }
    }
}
