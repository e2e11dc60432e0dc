//! How far the job is: a bar, plain lines, JSON lines.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::console::Console;
use crate::pipeline::{Counts, Meter};

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

/// Something to look at, and its name in the reports.
pub type Named<T> = (&'static str, Box<dyn Fn() -> T + Send>);

/// What is shown beside what the meters tell, each under its name in the reports.
#[derive(Default)]
pub struct Watched {
    /// Numbers that some stage counts.
    pub counts: Vec<Named<u64>>,
    /// Nanoseconds that something has taken, and how often; the mean of the last interval is shown in milliseconds.
    pub times: Vec<Named<(u64, u64)>>,
    /// What may be out of order, and is true then.
    pub faults: Vec<Named<bool>>,
}

/// Watches the meters of a running pipeline.
pub struct Progress {
    kind: Kind,
    total: Option<u64>,
    watched: Watched,
    last: Last,
    board: Option<Board>,
    bar: Option<ProgressBar>,
    start: Instant,
    next: Instant,
    watchdog: Duration,
    /// The stage that was named last, so that it is named once.
    named: Option<(&'static str, u64)>,
}

/// Where others read how far the job is, as a JSON line tells it.
struct Board {
    shared: Arc<Mutex<Value>>,
    last: Last,
    next: Instant,
}

/// The counts at the last look, from which those of an interval follow.
struct Last {
    at: Instant,
    read: u64,
    written: u64,
    latency: Counts,
    times: Vec<(u64, u64)>,
}

/// One JSON line.
#[derive(Serialize)]
struct Snapshot {
    event: &'static str,
    frames: u64,
    total: Option<u64>,
    /// Since the start.
    fps: f64,
    /// Since the last line, which read and which written.
    fps_in: f64,
    fps_out: f64,
    seconds: f64,
    eta_seconds: Option<f64>,
    /// From the arrival of a live frame to the end of its writing, since the last line.
    latency_ms: Option<Percentiles>,
    dropped: u64,
    /// Where, and too old when they came there.
    drops: Map<String, Value>,
    late: Map<String, Value>,
    /// Frames that wait for each stage.
    queues: Map<String, Value>,
    #[serde(flatten)]
    counts: Map<String, Value>,
    #[serde(flatten)]
    times: Map<String, Value>,
    #[serde(flatten)]
    faults: Map<String, Value>,
}

#[derive(Clone, Copy, Serialize)]
struct Percentiles {
    p50: f64,
    p95: f64,
}

impl Progress {
    pub fn new(kind: Kind, total: Option<u64>, watched: Watched, watchdog: Duration, console: &Console) -> Self {
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
        let last = Last::nothing(start, &watched);
        Self { kind, total, watched, last, board: None, bar, start, next, watchdog, named: None }
    }

    /// Writes a line to `shared` once a second, whatever else is shown.
    pub fn post_to(&mut self, shared: Arc<Mutex<Value>>) {
        let last = Last::nothing(self.start, &self.watched);
        self.board = Some(Board { shared, last, next: self.start });
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
        if let Some(mut board) = self.board.take() {
            if now >= board.next {
                board.next = now + Duration::from_secs(1);
                let line = serde_json::to_value(self.snapshot(meters, "status", &mut board.last)).unwrap_or_default();
                *board.shared.lock().unwrap_or_else(PoisonError::into_inner) = line;
            }
            self.board = Some(board);
        }
        self.watch(meters);
    }

    /// What is out of order, in words.
    pub fn faults(&self) -> Vec<String> {
        let out = self.watched.faults.iter().filter(|(_, is_out_of_order)| is_out_of_order());
        out.map(|(name, _)| name.replace('_', " ")).collect()
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
            None if self.kind == Kind::Json => {
                // The last line is about the whole run.
                self.last = Last::nothing(self.start, &self.watched);
                self.show(meters, "end");
            }
            None => {}
        }
    }

    fn show(&mut self, meters: &[Arc<Meter>], event: &'static str) {
        let mut last = std::mem::replace(&mut self.last, Last::nothing(self.start, &Watched::default()));
        let snapshot = self.snapshot(meters, event, &mut last);
        self.last = last;
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

    /// What has come since `last`, which becomes now.
    fn snapshot(&self, meters: &[Arc<Meter>], event: &'static str, last: &mut Last) -> Snapshot {
        let of = |meter: Option<&Arc<Meter>>| meter.map_or(0, |m| m.frames.load(Ordering::Relaxed));
        let (read, frames) = (of(meters.first()), of(meters.last()));
        let now = Last {
            at: Instant::now(),
            read,
            written: frames,
            latency: meters.last().map(|m| m.latency.counts()).unwrap_or_default(),
            times: self.watched.times.iter().map(|(_, get)| get()).collect(),
        };
        let seconds = self.start.elapsed().as_secs_f64();
        let fps = frames as f64 / seconds.max(1e-9);
        let left = self.total.map(|t| t.saturating_sub(frames) as f64);
        let passed = (now.at - last.at).as_secs_f64().max(1e-9);
        let latency = now.latency.since(&last.latency);
        let percentile = |part| latency.percentile(part).map(round);
        let named = |count: fn(&Meter) -> u64| meters.iter().map(|m| (m.name.to_owned(), count(m).into())).collect();
        let spent = self.watched.times.iter().zip(now.times.iter().zip(&last.times));
        let snapshot = Snapshot {
            event,
            frames,
            total: self.total,
            fps: round(fps),
            fps_in: round((read - last.read) as f64 / passed),
            fps_out: round((frames - last.written) as f64 / passed),
            seconds: round(seconds),
            eta_seconds: left.filter(|_| frames > 0).map(|l| round(l / fps)),
            latency_ms: percentile(0.5).zip(percentile(0.95)).map(|(p50, p95)| Percentiles { p50, p95 }),
            dropped: meters.iter().map(|m| m.lost()).sum(),
            drops: named(|m| m.dropped.load(Ordering::Relaxed)),
            late: named(|m| m.late.load(Ordering::Relaxed)),
            queues: meters.windows(2).map(|m| (m[1].name.to_owned(), m[0].waiting(&m[1]).into())).collect(),
            counts: self.watched.counts.iter().map(|(name, get)| ((*name).to_owned(), get().into())).collect(),
            times: spent.map(|((name, _), (now, before))| ((*name).to_owned(), mean(*now, *before).into())).collect(),
            faults: self.watched.faults.iter().map(|(name, get)| ((*name).to_owned(), get().into())).collect(),
        };
        *last = now;
        snapshot
    }
}

impl Last {
    fn nothing(at: Instant, watched: &Watched) -> Self {
        Self { at, read: 0, written: 0, latency: Counts::default(), times: vec![(0, 0); watched.times.len()] }
    }
}

/// Milliseconds for each of those that came between two counts.
fn mean(now: (u64, u64), before: (u64, u64)) -> Option<f64> {
    let times = now.1 - before.1;
    (times > 0).then(|| round((now.0 - before.0) as f64 / 1e6 / times as f64))
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
    if let Some(latency) = s.latency_ms {
        text += &format!(", {:.0} ms latency", latency.p50);
    }
    let dropped = ("dropped", s.dropped);
    let counts = s.counts.iter().filter_map(|(name, n)| Some((name.as_str(), n.as_u64()?)));
    for (name, n) in counts.chain([dropped]).filter(|(_, n)| *n > 0) {
        text += &format!(", {n} {}", name.replace('_', " "));
    }
    for (name, _) in s.faults.iter().filter(|(_, fault)| fault.as_bool() == Some(true)) {
        text += &format!(", {}", name.replace('_', " "));
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
        let faults = serde_json::json!({"mask_lost": true}).as_object().cloned().unwrap_or_default();
        let s = Snapshot {
            event: "progress",
            frames: 120,
            total: Some(242),
            fps: 58.34,
            fps_in: 60.0,
            fps_out: 58.0,
            seconds: 2.0,
            eta_seconds: Some(75.2),
            latency_ms: Some(Percentiles { p50: 41.7, p95: 60.0 }),
            dropped: 0,
            drops: Map::new(),
            late: Map::new(),
            queues: Map::new(),
            counts,
            times: Map::new(),
            faults,
        };
        assert_eq!(sentence(&s), "120 of 242 frames, 58.3 fps, 1:15 left, 42 ms latency, 3 held, mask lost");
        assert_eq!(clock(3725.0), "1:02:05");
    }
}
