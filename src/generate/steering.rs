//! What may be changed while a generation runs, from any thread.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Change, Timeline};

/// The way in to a running generation. Clones lead to the same one.
#[derive(Clone, Default)]
pub struct Steering(Arc<Mutex<Wishes>>);

/// What was asked for since the last block.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Wishes {
    /// A prompt, and the blocks over which it is blended in, if that was said.
    pub(super) prompt: Option<(String, Option<u32>)>,
    pub(super) timeline: Option<Timeline>,
    pub(super) change: Change,
    pub(super) reset: bool,
}

impl Steering {
    /// A prompt for all times to come.
    pub fn prompt(&self, text: &str, blend: Option<u32>) {
        self.with(|w| w.prompt = Some((text.to_owned(), blend)));
    }

    /// Other prompts in the place of all.
    pub fn timeline(&self, timeline: Timeline) {
        self.with(|w| w.timeline = Some(timeline));
    }

    pub fn strength(&self, strength: f64) {
        self.with(|w| w.change.strength = Some(strength));
    }

    pub fn seed(&self, seed: u64) {
        self.with(|w| w.change.seed = Some(seed));
    }

    /// Forget what was painted so far.
    pub fn reset(&self) {
        self.with(|w| w.reset = true);
    }

    /// Takes what was asked for since the last call.
    pub(super) fn take(&self) -> Wishes {
        self.with(std::mem::take)
    }

    /// Whether another prompt waits.
    pub(super) fn is_turning(&self) -> bool {
        self.with(|w| w.prompt.is_some() || w.reset)
    }

    /// Each wish is written whole, so a panic elsewhere leaves nothing half done.
    fn with<T>(&self, work: impl FnOnce(&mut Wishes) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_wish_counts_and_is_taken_once() {
        let steering = Steering::default();
        let far = steering.clone();
        far.prompt("a", Some(1));
        far.prompt("b", None);
        far.seed(7);
        assert!(steering.is_turning());
        let wishes = steering.take();
        assert_eq!(wishes.prompt, Some(("b".into(), None)));
        assert_eq!(wishes.change, Change { seed: Some(7), strength: None });
        assert_eq!(steering.take(), Wishes::default());
    }
}
