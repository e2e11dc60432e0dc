//! Networks side by side on consecutive frames, with their results in the order of the frames.
//!
//! Each network has one thread of its own: nothing is shared, so no thread waits for another within a layer.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use crate::frame::Frame;

use super::coverage::{Coverage, Network, Thumbnail};
use super::{Stats, find};

/// A frame and what its network found.
pub(super) struct Done {
    pub(super) frame: Frame,
    pub(super) coverage: Coverage,
    pub(super) result: Result<(), String>,
    pub(super) thumbnail: Thumbnail,
}

pub(super) enum Workers {
    /// A single network runs on the caller's thread: no hand-over, no frame held back.
    Here { network: Box<dyn Network>, done: Option<Done>, spare: Vec<Coverage>, stats: Arc<Stats> },
    /// Frames go round robin, so results come back in order.
    Threads { workers: Vec<Worker>, turns: VecDeque<usize>, next: usize, spare: Vec<Coverage> },
}

pub(super) struct Worker {
    jobs: Option<Sender<(Frame, Coverage)>>,
    results: Receiver<Done>,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    pub(super) fn new(mut networks: Vec<Box<dyn Network>>, stats: Arc<Stats>) -> Self {
        if networks.len() == 1
            && let Some(network) = networks.pop()
        {
            return Self::Here { network, done: None, spare: Vec::new(), stats };
        }
        let workers = networks.into_iter().enumerate().map(|(i, n)| Worker::start(i, n, stats.clone())).collect();
        Self::Threads { workers, turns: VecDeque::new(), next: 0, spare: Vec::new() }
    }

    /// Whether a result must be taken before another frame fits: each network works on one frame, and one more waits.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Here { done, .. } => done.is_some(),
            Self::Threads { workers, turns, .. } => turns.len() > workers.len(),
        }
    }

    pub(super) fn send(&mut self, frame: Frame) {
        match self {
            Self::Here { network, done, spare, stats } => {
                *done = Some(find(network.as_mut(), frame, spare.pop().unwrap_or_default(), stats));
            }
            Self::Threads { workers, turns, next, spare } => {
                let job = (frame, spare.pop().unwrap_or_default());
                let worker = &mut workers[*next];
                if worker.jobs.as_ref().is_none_or(|jobs| jobs.send(job).is_err()) {
                    worker.rethrow();
                }
                turns.push_back(*next);
                *next = (*next + 1) % workers.len();
            }
        }
    }

    /// The oldest frame, if it is done.
    pub(super) fn ready(&mut self) -> Option<Done> {
        match self {
            Self::Here { done, .. } => done.take(),
            Self::Threads { workers, turns, .. } => {
                let worker = &mut workers[*turns.front()?];
                match worker.results.try_recv() {
                    Ok(done) => {
                        turns.pop_front();
                        Some(done)
                    }
                    Err(TryRecvError::Empty) => None,
                    Err(TryRecvError::Disconnected) => worker.rethrow(),
                }
            }
        }
    }

    /// The oldest frame, when it is done; `None` when no frame is left.
    pub(super) fn wait(&mut self) -> Option<Done> {
        match self {
            Self::Here { done, .. } => done.take(),
            Self::Threads { workers, turns, .. } => {
                let worker = &mut workers[turns.pop_front()?];
                Some(worker.results.recv().unwrap_or_else(|_| worker.rethrow()))
            }
        }
    }

    /// Takes a grid back whose memory the next frame can use.
    pub(super) fn give_back(&mut self, coverage: Coverage) {
        match self {
            Self::Here { spare, .. } | Self::Threads { spare, .. } => spare.push(coverage),
        }
    }
}

impl Worker {
    fn start(index: usize, mut network: Box<dyn Network>, stats: Arc<Stats>) -> Self {
        // Two of each, so that neither side waits for the other to look.
        let (jobs, inbox) = bounded::<(Frame, Coverage)>(2);
        let (outbox, results) = bounded(2);
        let work = move || {
            for (frame, coverage) in inbox {
                if outbox.send(find(network.as_mut(), frame, coverage, &stats)).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name(format!("mask {index}"))
            .spawn(work)
            .expect("the system has room for a few more threads");
        Self { jobs: Some(jobs), results, thread: Some(thread) }
    }

    /// A worker that is gone has panicked; its panic becomes the stage's own.
    fn rethrow(&mut self) -> ! {
        self.jobs = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(panic)) => resume_unwind(panic),
            _ => unreachable!("a worker ends only after its jobs do"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic has been told already, or no one is left to hear it.
            let _ = thread.join();
        }
    }
}
