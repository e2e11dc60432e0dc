//! What the pipeline costs around a generator, at 832x480: `cargo bench --bench generation`.
//!
//! Two generators stand in the model's place. One returns its input at once: what the run takes longer than the same run
//! without generation is the pipeline's own cost. The other takes half a second for a block, as a GPU would: what it
//! waits between blocks is its idleness.

#![allow(clippy::print_stdout, reason = "figures are what a benchmark is for")]

use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use krea::error::Result;
use krea::frame::Frame;
use krea::generate::{
    Block, Change, Fit, FitStage, GenerateStage, Generator, Geometry, Options, PasteStage, Region, Steering, Timeline,
};
use krea::pipeline::{Control, End, Flow, Pipeline, Sink, Stage};
use krea::source::{self, Connection, Place, Target};

const SIZE: (u32, u32) = (832, 480);
const ROUNDS: usize = 5;

/// Returns what it is given, after a while.
struct Echo {
    takes: Duration,
    begun: bool,
}

impl Generator for Echo {
    fn size(&self) -> (u32, u32) {
        SIZE
    }
    fn frames_needed(&mut self) -> Result<usize> {
        Ok(if self.begun { 12 } else { 9 })
    }
    fn next(&mut self, input: Option<&[u8]>, out: &mut [u8]) -> Result<Option<Block>> {
        let frames = self.frames_needed()?;
        self.begun = true;
        std::thread::sleep(self.takes);
        if let Some(input) = input {
            out.copy_from_slice(input);
        }
        Ok(Some(Block { frames, finite: true, seconds: [0.0; 3] }))
    }
    fn prompt(&mut self, _: &str, _: u32) -> Result<()> {
        Ok(())
    }
    fn change(&mut self, _: &Change) -> Result<()> {
        Ok(())
    }
    fn start_from(&mut self, _: &[u8], _: u32, _: u32) -> Result<()> {
        Ok(())
    }
    fn reset(&mut self) -> Result<()> {
        self.begun = false;
        Ok(())
    }
}

/// Takes frames and forgets them.
struct Nowhere;

impl Sink for Nowhere {
    fn write(&mut self, _: Frame) -> Result<()> {
        Ok(())
    }
    fn finish(&mut self, _: End) -> Result<()> {
        Ok(())
    }
}

/// What a run took.
struct Took {
    frames: u64,
    cpu: f64,
    /// Share of the time in which the generator waited.
    idle: f64,
}

fn run(clip: &Path, generator: Option<Duration>) -> Took {
    let control = Control::default();
    let options = source::Options {
        format: None,
        max_pixels: 1 << 27,
        threads: 1,
        rate: None,
        size: None,
        camera_api: source::Api::Auto,
        known_camera: None,
        live: false,
        rate_is_known: false,
        timeout: Duration::from_secs(10),
        control: control.clone(),
    };
    let mut connection = Connection::new(Place::File(clip.to_owned()), options, None);
    let input = connection.open().expect("the clip opens");
    let target =
        Target { format: input.native.format, full_range: false, size: None, fps: None, start: None, duration: None };
    let (nobody, _listens) = crossbeam_channel::unbounded();
    let (source, info, _) = connection.read(input, &target, nobody).expect("the clip is read");
    let mut stages: Vec<Box<dyn Stage>> = Vec::new();
    let mut stats = None;
    if let Some(takes) = generator {
        let geometry = Geometry::new((info.width, info.height), SIZE, Fit::Cover);
        let options = Options {
            timeline: Timeline::constant("x"),
            start: 0.0,
            blend: 1,
            text_only: false,
            reset_on_cut: false,
            live: false,
        };
        let echo = Box::new(Echo { takes, begun: false });
        let generate = GenerateStage::new(echo, options, Steering::default(), control.clone());
        stats = Some(generate.stats());
        stages.push(Box::new(FitStage::new(geometry, None, false, false, false)));
        stages.push(Box::new(generate));
        stages.push(Box::new(PasteStage::new(geometry, Region::All, info)));
    }
    let before = cpu();
    let mut frames = 0;
    let pipeline =
        Pipeline { source, stages, sink: Box::new(Nowhere), flow: Flow::Lossless, live: false, max_age: None, control };
    pipeline
        .run(|meters| {
            frames = meters.last().map_or(0, |m| m.frames.load(Ordering::Relaxed));
        })
        .expect("it runs");
    let idle = stats.map_or(0.0, |stats| {
        let (busy, idle) = (&stats.nanoseconds, &stats.idle_nanoseconds);
        let [busy, idle] = [busy, idle].map(|n| n.load(Ordering::Relaxed) as f64);
        idle / (busy + idle)
    });
    Took { frames, cpu: cpu() - before, idle }
}

/// Seconds of processor time that this process has taken.
fn cpu() -> f64 {
    // SAFETY: the structure is plain numbers, which the call fills in.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clip = folder.path().join("clip.mp4");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/astronaut.mp4");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-stream_loop", "1", "-i", source, "-vf", "scale=832:480,setsar=1", "-an"])
        .args(["-c:v", "libx264", "-preset", "veryfast"])
        .arg(&clip)
        .status();
    assert!(made.is_ok_and(|s| s.success()), "ffmpeg makes the clip");
    let (mut costs, mut idle) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let without = run(&clip, None);
        let with = run(&clip, Some(Duration::ZERO));
        assert_eq!(with.frames, without.frames, "every frame comes back");
        costs.push((with.cpu - without.cpu) * 1000.0 / with.frames as f64);
        idle.push(run(&clip, Some(Duration::from_millis(500))).idle * 100.0);
    }
    println!("around a generator, 832x480, median of {ROUNDS}:");
    println!("  processor time of a frame beyond decoding: {:.2} ms", median(costs));
    println!("  idleness of a generator that takes 0.5 s a block: {:.2} %", median(idle));
}
