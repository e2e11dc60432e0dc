//! krea while it records, and what it has said so far.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::harness::listen;

/// Nothing in these tests takes so long, on however slow a machine.
const FOREVER: Duration = Duration::from_secs(120);

pub(crate) struct Recording {
    child: Child,
    said: Arc<Mutex<String>>,
    listener: Option<JoinHandle<()>>,
}

impl Recording {
    /// Starts what tells its progress as JSON.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let (said, listener) = listen(child.stderr.take().unwrap());
        Self { child, said, listener: Some(listener) }
    }

    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    #[track_caller]
    pub(crate) fn wait_until(&mut self, what: &str, done: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        while !done(&self.said()) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended before '{what}', {status}: {}", self.said());
            }
            assert!(begun.elapsed() < FOREVER, "'{what}' does not come: {}", self.said());
            sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    pub(crate) fn says(&mut self, word: &str) {
        self.wait_until(word, |said| said.contains(word));
    }

    /// More frames have been written than had been when this was called.
    #[track_caller]
    pub(crate) fn goes_on(&mut self) {
        let before = frames(&self.said());
        self.wait_until("more frames", |said| frames(said) > before + 10);
    }

    #[track_caller]
    pub(crate) fn comes_back(&mut self, times: usize) {
        self.wait_until("back", |said| said.matches(": back after").count() >= times);
        self.goes_on();
    }

    /// Waits for its end; all that it has said.
    #[track_caller]
    pub(crate) fn ends(mut self, code: i32) -> String {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < FOREVER, "it does not end: {}", self.said());
            sleep(Duration::from_millis(10));
        };
        let _ = self.listener.take().map(JoinHandle::join);
        let said = self.said();
        assert!(!said.contains("panicked"), "{said}");
        assert_eq!(status.code(), Some(code), "{said}");
        said
    }

    /// Ends it as Ctrl-C does.
    #[track_caller]
    pub(crate) fn stop(self) -> String {
        // SAFETY: kill(2) takes no pointer; the child has not been waited for, so its number is still its own.
        assert_eq!(unsafe { libc::kill(i32::try_from(self.child.id()).unwrap(), libc::SIGINT) }, 0);
        self.ends(130)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The number in the last line of progress.
fn frames(said: &str) -> u64 {
    let count = |line: &str| serde_json::from_str::<Value>(line).ok()?["frames"].as_u64();
    said.lines().rev().find_map(count).unwrap_or(0)
}
