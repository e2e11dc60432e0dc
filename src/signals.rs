//! Ctrl-C once, twice, three times.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::{Error, Exit, Result};
use crate::pipeline::Control;

/// Remembers which signal stopped the run.
#[derive(Clone, Default)]
pub(crate) struct Stopped(Arc<AtomicI32>);

impl Stopped {
    /// The exit code of a run that a signal ended cleanly.
    pub(crate) fn exit(&self) -> Option<Exit> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            SIGTERM => Some(Exit::Terminated),
            _ => Some(Exit::Interrupted),
        }
    }
}

/// First signal: stop reading and finish what is on its way. Second: drop what is queued, still close the file.
/// Third: die at once.
pub(crate) fn listen(control: &Control) -> Result<Stopped> {
    let failed = |e: std::io::Error| Error::Stage { stage: "signals".to_owned(), message: e.to_string() };
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
    let stopped = Stopped::default();
    let (seen, control) = (stopped.clone(), control.clone());
    let body = move || {
        for (count, signal) in signals.forever().enumerate() {
            match count {
                0 => {
                    seen.0.store(signal, Ordering::Relaxed);
                    control.stop.store(true, Ordering::Relaxed);
                    tracing::info!("stopping: what is on its way is finished; once more drops it");
                }
                1 => {
                    control.abandon.store(true, Ordering::Relaxed);
                    tracing::info!("dropping what is queued and closing the output; once more ends at once");
                }
                _ => {
                    // Cannot fail for signals that can be caught; then the next one gets here again.
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
            }
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(body).map_err(failed)?;
    Ok(stopped)
}
