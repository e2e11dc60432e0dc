//! What a run did, for people and for programs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::generate;
use crate::mask;
use crate::pipeline::{Latency, Meter};
use crate::source::Damage;

/// What `--stats` writes. The version rises when a field changes its meaning or goes away.
#[derive(Serialize)]
pub struct Report {
    pub version: u32,
    pub krea: &'static str,
    pub input: String,
    pub output: String,
    pub exit: u8,
    pub error: Option<String>,
    /// Wall time of the pipeline; opening files and loading models come before it.
    pub seconds: f64,
    pub setup_seconds: f64,
    pub frames_in: u64,
    pub frames_out: u64,
    pub dropped: u64,
    pub fps: f64,
    /// From the arrival of a live frame to the end of its writing; absent for what is no live input.
    pub latency_ms: Option<LatencyReport>,
    pub mask: Option<MaskReport>,
    pub generation: Option<GenerationReport>,
    pub damaged_packets: u64,
    pub damaged_frames: u64,
    /// What the container promises and does not hold.
    pub missing_seconds: f64,
    /// How often a live stream broke off and came back.
    pub reconnects: u64,
    /// Pictures of a camera that came faster than they were read.
    pub missed: u64,
    pub stages: Vec<StageReport>,
}

impl Report {
    /// What the meters, the input's damage and the pipeline's `seconds` tell; the rest is left empty.
    pub fn of(meters: &[Arc<Meter>], damage: &Damage, seconds: f64) -> Self {
        let frames = |meter: Option<&Arc<Meter>>| meter.map_or(0, |m| get(&m.frames));
        Self {
            version: 1,
            krea: env!("CARGO_PKG_VERSION"),
            input: String::new(),
            output: String::new(),
            exit: 0,
            error: None,
            seconds,
            setup_seconds: 0.0,
            frames_in: frames(meters.first()),
            frames_out: frames(meters.last()),
            dropped: meters.iter().map(|m| m.lost()).sum(),
            latency_ms: meters.last().and_then(|m| LatencyReport::of(&m.latency)),
            fps: frames(meters.last()) as f64 / seconds.max(1e-9),
            mask: None,
            generation: None,
            damaged_packets: get(&damage.packets),
            damaged_frames: get(&damage.frames),
            missing_seconds: get(&damage.missing) as f64 / 1000.0,
            reconnects: get(&damage.reconnects),
            missed: get(&damage.missed),
            stages: meters.iter().map(|m| StageReport::of(m)).collect(),
        }
    }

    /// The last lines: what was wrong with the input, and, if the run is `whole`, what was made.
    pub fn tell(&self, whole: bool) {
        if self.missing_seconds > 0.0 {
            tracing::warn!(
                "{} is cut off: the last {:.1} s are missing; what is there is converted",
                self.input,
                self.missing_seconds
            );
        }
        if self.damaged_packets + self.damaged_frames > 0 {
            tracing::warn!(
                "{} is damaged: {} packets could not be decoded, {} frames have errors in them; the rest is converted",
                self.input,
                self.damaged_packets,
                self.damaged_frames
            );
        }
        if !whole {
            return;
        }
        let mut notes = String::new();
        if let Some(mask) = &self.mask {
            for (n, what) in
                [(mask.held, "with a held mask"), (mask.empty, "without a person"), (mask.failed, "failed")]
            {
                if n > 0 {
                    notes += &format!(", {n} {what}");
                }
            }
        }
        if let Some(generation) = &self.generation {
            for (n, what) in [(generation.lost, "blocks lost"), (generation.passed, "passed as they came")] {
                if n > 0 {
                    notes += &format!(", {n} {what}");
                }
            }
        }
        if let Some(latency) = &self.latency_ms {
            notes += &format!(", {:.0} ms latency", latency.p50);
        }
        if self.dropped > 0 {
            notes += &format!(", {} dropped", self.dropped);
        }
        if self.missed > 0 {
            notes += &format!(", {} missed by the camera's reader", self.missed);
        }
        let (frames, seconds) = (self.frames_out, self.seconds);
        tracing::info!("{}: {frames} frames in {seconds:.1} s ({:.1} fps){notes}", self.output, self.fps);
    }

    /// Writes the report as JSON.
    pub fn write(&self, path: &Path) -> Result<()> {
        let failed = |e: String| Error::Output(format!("{}: the statistics cannot be written: {e}", path.display()));
        let text = serde_json::to_string_pretty(self).map_err(|e| failed(e.to_string()))?;
        std::fs::write(path, text + "\n").map_err(|e| failed(e.to_string()))
    }
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[derive(Serialize)]
pub struct MaskReport {
    pub model: String,
    pub masked: u64,
    pub held: u64,
    pub empty: u64,
    pub failed: u64,
    /// Frames whose mask follows from those of others.
    pub followed: u64,
    /// How often the network was lost in a live run.
    pub losses: u64,
    pub inferences: u64,
    /// Mean time of one inference on its thread.
    pub milliseconds: f64,
}

impl MaskReport {
    pub fn of(model: String, stats: &mask::Stats) -> Self {
        let (masked, held, empty) = (get(&stats.masked), get(&stats.held), get(&stats.empty));
        let inferences = get(&stats.inferences);
        let milliseconds = get(&stats.inference_nanoseconds) as f64 / 1e6 / inferences.max(1) as f64;
        let (failed, followed, losses) = (get(&stats.failed), get(&stats.followed), get(&stats.losses));
        Self { model, masked, held, empty, failed, followed, losses, inferences, milliseconds }
    }
}

#[derive(Serialize)]
pub struct LatencyReport {
    pub p50: f64,
    pub p95: f64,
    pub max: f64,
}

impl LatencyReport {
    fn of(latency: &Latency) -> Option<Self> {
        let counts = latency.counts();
        Some(Self { p50: counts.percentile(0.5)?, p95: counts.percentile(0.95)?, max: latency.max()? })
    }
}

/// What the model that repaints has done.
#[derive(Serialize)]
pub struct GenerationReport {
    pub model: String,
    pub blocks: u64,
    /// New beginnings: at a cut, or because someone asked.
    pub resets: u64,
    /// Blocks in which the model lost the picture.
    pub lost: u64,
    /// Frames that passed as they came.
    pub passed: u64,
    /// Live frames that no block had room for.
    pub skipped: u64,
    /// Mean time of a block.
    pub milliseconds: f64,
    /// Share of the time from the first block to the last in which the model waited for pictures, 0 to 1.
    pub idle: f64,
}

impl GenerationReport {
    pub fn of(model: String, stats: &generate::Stats) -> Self {
        let blocks = get(&stats.blocks);
        let (busy, waited) = (get(&stats.nanoseconds) as f64, get(&stats.idle_nanoseconds) as f64);
        let (milliseconds, idle) = (busy / 1e6 / blocks.max(1) as f64, waited / (busy + waited).max(1.0));
        let (resets, lost, passed, skipped) =
            (get(&stats.resets), get(&stats.lost), get(&stats.passed), get(&stats.skipped));
        Self { model, blocks, resets, lost, passed, skipped, milliseconds, idle }
    }
}

#[derive(Serialize)]
pub struct StageReport {
    pub name: &'static str,
    pub frames: u64,
    /// Frames that left it and gave way to newer ones.
    pub dropped: u64,
    /// Frames that were older than --max-latency when they came.
    pub late: u64,
    /// Time spent working, waiting for neighbours not counted.
    pub busy_seconds: f64,
}

impl StageReport {
    pub fn of(meter: &Meter) -> Self {
        Self {
            name: meter.name,
            frames: get(&meter.frames),
            dropped: get(&meter.dropped),
            late: get(&meter.late),
            busy_seconds: get(&meter.busy) as f64 / 1e9,
        }
    }
}
