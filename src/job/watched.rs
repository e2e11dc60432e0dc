//! What a run shows while it goes on: the counters of its stages under their names.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::progress::Watched;
use crate::source::Damage;
use crate::{generate, mask};

/// The counters of the mask and of the generation, if there is one, of the input, and of the streams beside the output.
pub(super) fn watched(
    mask: Option<Arc<mask::Stats>>,
    generation: Option<Arc<generate::Stats>>,
    damage: &Arc<Damage>,
    streams: Vec<Arc<AtomicU64>>,
) -> Watched {
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let mut watched = Watched::default();
    if let Some(stats) = mask {
        let (held, losses, lost) = (stats.clone(), stats.clone(), stats.clone());
        watched.counts.push(("held", Box::new(move || get(&held.held))));
        watched.counts.push(("mask_losses", Box::new(move || get(&losses.losses))));
        watched.faults.push(("mask_lost", Box::new(move || lost.lost.load(Ordering::Relaxed))));
        watched.times.push(("mask_ms", Box::new(move || (get(&stats.inference_nanoseconds), get(&stats.inferences)))));
    }
    if let Some(stats) = generation {
        let (skipped, lost, passed) = (stats.clone(), stats.clone(), stats.clone());
        watched.counts.push(("skipped", Box::new(move || get(&skipped.skipped))));
        watched.counts.push(("lost_blocks", Box::new(move || get(&lost.lost))));
        watched.counts.push(("passed", Box::new(move || get(&passed.passed))));
        watched.times.push(("block_ms", Box::new(move || (get(&stats.nanoseconds), get(&stats.blocks)))));
    }
    let (packets, joined, missed) = (damage.clone(), damage.clone(), damage.clone());
    watched.counts.push(("damaged", Box::new(move || get(&packets.packets))));
    watched.counts.push(("reconnects", Box::new(move || get(&joined.reconnects))));
    watched.counts.push(("missed", Box::new(move || get(&missed.missed))));
    for lost in streams {
        watched.counts.push(("lost_by_the_stream", Box::new(move || get(&lost))));
    }
    watched
}
