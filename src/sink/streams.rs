//! One file and streams beside it: a stream that stalls or dies never stops the file, and a file that cannot be written
//! any more does not stop the streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::file::FileSink;
use crate::error::{Error, Result};
use crate::frame::{Frame, reference};
use crate::pipeline::{End, Sink};

/// Frames that may wait for a stream; one more drops the oldest.
const QUEUE: usize = 30;

/// Writes the main output, and lends each frame to the streams.
pub struct Tee {
    main: Box<dyn Sink>,
    /// Why the main output has ended before the rest.
    failure: Option<Error>,
    branches: Vec<Branch>,
}

struct Branch {
    name: String,
    /// `None` once the stream has ended.
    queue: Option<Sender<Frame>>,
    oldest: Receiver<Frame>,
    dropped: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Tee {
    /// The streams carry the picture only: sound and subtitles go into the main output.
    pub fn new(main: Box<dyn Sink>, streams: Vec<(String, FileSink)>) -> Result<Self> {
        let branches = streams.into_iter().map(|(name, sink)| Branch::start(name, sink)).collect::<Result<_>>()?;
        Ok(Self { main, failure: None, branches })
    }

    /// One counter for each stream: frames that it was too slow for.
    pub fn dropped(&self) -> Vec<Arc<AtomicU64>> {
        self.branches.iter().map(|b| b.dropped.clone()).collect()
    }
}

impl Branch {
    fn start(name: String, mut sink: FileSink) -> Result<Self> {
        let (queue, frames) = bounded::<Frame>(QUEUE);
        let oldest = frames.clone();
        let told = name.clone();
        let body = move || {
            let written = frames.iter().try_for_each(|frame| sink.write(frame));
            let end = if written.is_ok() { End::Drained } else { End::Failed };
            let result = written.and(sink.finish(end));
            match result {
                Ok(()) => {}
                Err(Error::Closed) => tracing::warn!("{told}: the other side has closed it; the rest goes on"),
                Err(error) => tracing::warn!("{error}; the rest goes on without it"),
            }
        };
        let thread = thread::Builder::new()
            .name("stream".to_owned())
            .spawn(body)
            .map_err(|e| Error::Stage { stage: "stream".to_owned(), message: e.to_string() })?;
        Ok(Self { name, queue: Some(queue), oldest, dropped: Arc::default(), thread: Some(thread) })
    }

    fn is_alive(&self) -> bool {
        self.queue.is_some() && self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    fn lend(&mut self, frame: &Frame) {
        let (Some(queue), Some(thread)) = (&self.queue, &self.thread) else { return };
        if thread.is_finished() {
            // Its thread has told why.
            self.queue = None;
            return;
        }
        let Ok(picture) = reference(&frame.picture) else { return };
        let mut next = Frame::new(picture, frame.index, frame.time);
        loop {
            match queue.try_send(next) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(back)) => {
                    next = back;
                    if self.oldest.try_recv().is_ok() && self.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                        tracing::warn!(
                            "{}: the stream does not keep up; it loses frames, nothing else does",
                            self.name
                        );
                    }
                }
            }
        }
    }
}

impl Sink for Tee {
    fn write(&mut self, frame: Frame) -> Result<()> {
        self.branches.iter_mut().for_each(|b| b.lend(&frame));
        if self.failure.is_none() {
            let Err(error) = self.main.write(frame) else { return Ok(()) };
            // What it says about its end is less than why it came.
            let _ = self.main.finish(End::Failed);
            tracing::warn!("{error}; the streams beside it go on");
            self.failure = Some(error);
        }
        if self.branches.iter().any(Branch::is_alive) {
            return Ok(());
        }
        self.failure.take().map_or(Ok(()), Err)
    }

    fn finish(&mut self, end: End) -> Result<()> {
        // The file first: it is whole even if a stream takes its time to say goodbye.
        let result = match self.failure.take() {
            Some(error) => Err(error),
            None => self.main.finish(end),
        };
        for branch in &mut self.branches {
            if end != End::Drained {
                while branch.oldest.try_recv().is_ok() {}
            }
            branch.queue = None;
        }
        for branch in &mut self.branches {
            // Every write to a stream has a deadline, so its thread ends.
            if branch.thread.take().is_some_and(|t| t.join().is_err()) {
                tracing::warn!("{}: the stream's thread ended with an internal error", branch.name);
            }
            let lost = branch.dropped.load(Ordering::Relaxed);
            if lost > 0 {
                tracing::warn!("{}: {lost} frames were dropped", branch.name);
            }
        }
        result
    }
}
