//! When to try again: what may pass is waited for, longer each time; what was achieved in between starts the count anew.

use std::time::Duration;

use super::client::Fault;
use crate::error::{Error, Result};

/// A server that asks for a longer pause than this is not waited for.
const LONGEST: Duration = Duration::from_secs(600);
/// Pauses stop growing here.
const CAP: Duration = Duration::from_secs(30);

/// How patient a pull is.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Failures in a row after which it gives up.
    pub tries: u32,
    /// The first pause; each later one is twice as long.
    pub delay: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { tries: 8, delay: Duration::from_secs(1) }
    }
}

/// Counts the failures of one task.
pub(super) struct Patience {
    retry: Retry,
    failures: u32,
    /// What there is to say when it is given up.
    last_words: &'static str,
}

impl Patience {
    /// `last_words` are said when it is given up.
    pub(super) fn new(retry: Retry, last_words: &'static str) -> Self {
        Self { retry, failures: 0, last_words }
    }

    /// Something was achieved.
    pub(super) fn progressed(&mut self) {
        self.failures = 0;
    }

    /// Waits if trying again makes sense, else gives the error to end with.
    pub(super) fn bear(&mut self, what: &str, fault: Fault) -> Result<()> {
        let (why, asked) = match fault {
            Fault::Passing { why, after } => (why, after),
            Fault::Absent(why) => return Err(Error::Model(format!("{what}: {why}"))),
            Fault::Final(error) => return Err(error),
        };
        self.failures += 1;
        if self.failures >= self.retry.tries {
            let times = self.failures;
            return Err(Error::Model(format!(
                "{what}: {why}; given up after {times} failures in a row{}",
                self.last_words
            )));
        }
        let pause = asked.unwrap_or_else(|| self.pause());
        if pause > LONGEST {
            let minutes = pause.as_secs() / 60;
            return Err(Error::Model(format!("{what}: {why}; the hub asks to come back in {minutes} minutes")));
        }
        tracing::info!("{what}: {why}; trying again in {:.1} s", pause.as_secs_f64());
        std::thread::sleep(pause);
        Ok(())
    }

    fn pause(&self) -> Duration {
        let doubled = 2u32.saturating_pow(self.failures - 1);
        self.retry.delay.saturating_mul(doubled).min(CAP.max(self.retry.delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_cap_and_start_anew_after_progress() {
        let mut patience = Patience::new(Retry { tries: 20, delay: Duration::from_secs(1) }, "");
        let mut pauses = Vec::new();
        for failures in 1..8 {
            patience.failures = failures;
            pauses.push(patience.pause().as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        patience.progressed();
        patience.failures += 1;
        assert_eq!(patience.pause().as_secs(), 1);
    }

    #[test]
    fn a_pause_beyond_reason_is_told_not_slept() {
        let mut patience = Patience::new(Retry::default(), "");
        let fault = Fault::Passing { why: "429".into(), after: Some(Duration::from_secs(7200)) };
        assert!(patience.bear("x", fault).unwrap_err().to_string().contains("120 minutes"));
    }
}
