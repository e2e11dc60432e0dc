//! How far a download or a check is: a bar, a line now and then, or JSON lines, all on standard error.

use std::io::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::bytes_in_words;
use crate::console::Console;
use crate::progress::Kind;

/// Shows the bytes of one file at a time.
pub struct Transfer {
    kind: Kind,
    console: Console,
    bar: Option<ProgressBar>,
    name: String,
    total: u64,
    done: u64,
    /// What was there when the file was begun, so that the rate counts only what has come since.
    before: u64,
    start: Instant,
    next: Instant,
}

impl Transfer {
    pub fn new(kind: Kind, console: Console) -> Self {
        let now = Instant::now();
        Self { kind, console, bar: None, name: String::new(), total: 0, done: 0, before: 0, start: now, next: now }
    }

    /// For callers that show nothing.
    pub fn silent() -> Self {
        Self::new(Kind::None, Console::default())
    }

    /// Starts on another file, of which `done` bytes are there already.
    pub(super) fn begin(&mut self, name: &str, total: u64, done: u64) {
        self.end();
        (self.name, self.total, self.done, self.before) = (name.to_owned(), total, done, done);
        self.start = Instant::now();
        self.next = self.start + self.interval();
        if self.kind == Kind::Bar {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
            let shape = "{msg} {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}, {eta} left";
            bar.set_style(ProgressStyle::with_template(shape).expect("the template is a constant"));
            bar.set_message(self.name.clone());
            bar.set_position(done);
            bar.reset_eta();
            self.console.attach(bar.clone());
            self.bar = Some(bar);
        }
    }

    pub(super) fn add(&mut self, bytes: u64) {
        self.set(self.done + bytes);
    }

    /// Also backwards, when a file has to begin anew.
    pub(super) fn set(&mut self, done: u64) {
        self.before = self.before.min(done);
        self.done = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
        if Instant::now() >= self.next {
            self.next = Instant::now() + self.interval();
            self.show("progress");
        }
    }

    /// The file is done, or given up.
    pub(super) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if !self.name.is_empty() && self.kind == Kind::Json {
            self.show("end");
        }
        self.name.clear();
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(if self.kind == Kind::Json { 1 } else { 10 })
    }

    fn show(&self, event: &str) {
        let rate = (self.done - self.before) as f64 / self.start.elapsed().as_secs_f64().max(1e-3);
        match self.kind {
            Kind::Plain => {
                let (done, total) = (bytes_in_words(self.done), bytes_in_words(self.total));
                tracing::info!("{}: {done} of {total}, {}/s", self.name, bytes_in_words(rate as u64));
            }
            Kind::Json => {
                let line = serde_json::json!({
                    "event": event, "file": self.name, "bytes": self.done, "total": self.total,
                    "bytes_per_second": rate.round(),
                });
                // A closed stderr must not end the job.
                let _ = writeln!(std::io::stderr().lock(), "{line}");
            }
            Kind::Bar | Kind::None => {}
        }
    }
}
