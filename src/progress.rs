//! How far the job is: a bar, plain lines, JSON lines.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::console::Console;
use crate::pipeline::Meter;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bar,
    Plain,
    Json,
    None,
}

impl Kind {
    /// A bar for a person, a line now and then for a log.
    pub fn for_stderr() -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        if io::stderr().is_terminal() && !dumb { Self::Bar } else { Self::Plain }
    }
}

/// A number that some stage counts, and its name in the reports.
pub type Count = (&'static str, Box<dyn Fn() -> u64 + Send>);

/// Watches the meters of a running pipeline.
pub struct Progress {
    kind: Kind,
    total: Option<u64>,
    counts: Vec<Count>,
    bar: Option<ProgressBar>,
    start: Instant,
    next: Instant,
    watchdog: Duration,
    /// The stage that was named last, so that it is named once.
    named: Option<(&'static str, u64)>,
}

#[derive(Serialize)]
struct Snapshot {
    event: &'static str,
    frames: u64,
    total: Option<u64>,
    fps: f64,
    seconds: f64,
    eta_seconds: Option<f64>,
    dropped: u64,
    #[serde(flatten)]
    counts: serde_json::Map<String, serde_json::Value>,
}

impl Progress {
    pub fn new(kind: Kind, total: Option<u64>, counts: Vec<Count>, watchdog: Duration, console: &Console) -> Self {
        let bar = (kind == Kind::Bar).then(|| {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
            let shape = match total {
                Some(_) => "{wide_bar} {pos}/{len} frames  {msg}",
                None => "{spinner} {pos} frames  {msg}",
            };
            bar.set_style(ProgressStyle::with_template(shape).expect("the template is a constant"));
            console.attach(bar.clone());
            bar
        });
        let start = Instant::now();
        let next = start + Self::interval(kind);
        Self { kind, total, counts, bar, start, next, watchdog, named: None }
    }

    fn interval(kind: Kind) -> Duration {
        match kind {
            Kind::Bar => Duration::from_millis(100),
            Kind::Json => Duration::from_secs(1),
            Kind::Plain | Kind::None => Duration::from_secs(10),
        }
    }

    /// Called now and then while the pipeline runs.
    pub fn tick(&mut self, meters: &[Arc<Meter>]) {
        let now = Instant::now();
        if now >= self.next {
            self.next = now + Self::interval(self.kind);
            self.show(meters, "progress");
        }
        self.watch(meters);
    }

    /// Names a stage that has hung on to one frame for too long.
    fn watch(&mut self, meters: &[Arc<Meter>]) {
        for meter in meters {
            let done = meter.frames.load(Ordering::Relaxed);
            if meter.stuck_for().is_some_and(|d| d >= self.watchdog) && self.named != Some((meter.name, done)) {
                self.named = Some((meter.name, done));
                tracing::warn!(
                    "the stage '{}' has been busy with frame {done} for {:.0} s",
                    meter.name,
                    self.watchdog.as_secs_f64()
                );
            }
        }
    }

    /// The last word, after the pipeline has ended.
    pub fn finish(&mut self, meters: &[Arc<Meter>]) {
        match &self.bar {
            Some(bar) => bar.finish_and_clear(),
            None if self.kind == Kind::Json => self.show(meters, "end"),
            None => {}
        }
    }

    fn show(&self, meters: &[Arc<Meter>], event: &'static str) {
        let snapshot = self.snapshot(meters, event);
        match self.kind {
            Kind::None => {}
            Kind::Json => {
                if let Ok(line) = serde_json::to_string(&snapshot) {
                    // A closed stderr must not end the job.
                    let _ = writeln!(io::stderr().lock(), "{line}");
                }
            }
            Kind::Plain => tracing::info!("{}", sentence(&snapshot)),
            Kind::Bar => {
                if let Some(bar) = &self.bar {
                    if let Some(total) = self.total.filter(|t| *t < snapshot.frames) {
                        // The container's own count was too low.
                        bar.set_length(total.max(snapshot.frames));
                    }
                    bar.set_position(snapshot.frames);
                    bar.set_message(tail(&snapshot));
                }
            }
        }
    }

    fn snapshot(&self, meters: &[Arc<Meter>], event: &'static str) -> Snapshot {
        let frames = meters.last().map_or(0, |m| m.frames.load(Ordering::Relaxed));
        let seconds = self.start.elapsed().as_secs_f64();
        let fps = frames as f64 / seconds.max(1e-9);
        let left = self.total.map(|t| t.saturating_sub(frames) as f64);
        let counts = self.counts.iter().map(|(name, get)| ((*name).to_owned(), get().into())).collect();
        Snapshot {
            event,
            frames,
            total: self.total,
            fps: round(fps),
            seconds: round(seconds),
            eta_seconds: left.filter(|_| frames > 0).map(|l| round(l / fps)),
            dropped: meters.iter().map(|m| m.dropped.load(Ordering::Relaxed)).sum(),
            counts,
        }
    }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// `120 of 242 frames, 58.3 fps, 2 s left, 3 held`
fn sentence(s: &Snapshot) -> String {
    let total = s.total.map_or(String::new(), |t| format!(" of {t}"));
    format!("{}{total} frames, {}", s.frames, tail(s))
}

fn tail(s: &Snapshot) -> String {
    let mut text = format!("{:.1} fps", s.fps);
    if let Some(eta) = s.eta_seconds {
        text += &format!(", {} left", clock(eta));
    }
    let dropped = ("dropped", s.dropped);
    let counts = s.counts.iter().filter_map(|(name, n)| Some((name.as_str(), n.as_u64()?)));
    for (name, n) in counts.chain([dropped]).filter(|(_, n)| *n > 0) {
        text += &format!(", {n} {name}");
    }
    text
}

fn clock(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{}:{:02}", s / 60, s % 60),
        _ => format!("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_matters() {
        let counts = serde_json::json!({"held": 3, "damaged": 0}).as_object().cloned().unwrap_or_default();
        let s = Snapshot {
            event: "progress",
            frames: 120,
            total: Some(242),
            fps: 58.34,
            seconds: 2.0,
            eta_seconds: Some(75.2),
            dropped: 0,
            counts,
        };
        assert_eq!(sentence(&s), "120 of 242 frames, 58.3 fps, 1:15 left, 3 held");
        assert_eq!(clock(3725.0), "1:02:05");
    }
}
