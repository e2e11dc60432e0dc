//! Finds the persons in each frame and gives the frame its mask.

mod between;
mod cadence;
pub mod coverage;
pub mod edge;
pub mod find;
pub mod letterbox;
mod live;
pub mod matte;
mod open;
pub mod refit;
pub mod rfdetr;
pub mod selfie;
pub mod session;
pub mod upsample;
mod workers;
pub mod yolo;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::error::{Error, Result};
use crate::frame::{Format, Frame, Mask, Pool};
use crate::pipeline::Stage;
use crate::runtime::Device;

pub use cadence::Every;
pub use coverage::{Choice, Coverage, Network, Thumbnail};
pub use open::Opened;

use between::Between;
use edge::Edge;
use live::Live;
use matte::{Matte, Outcome};
use upsample::Upsampler;
use workers::{Done, Workers};

/// Frames in a row that the network may fail on before the stage gives up, if it holds the last mask.
pub const MAX_FAILURES: u64 = 30;

/// Ultralytics' default.
pub const DEFAULT_CONFIDENCE: f32 = 0.25;

/// Which network finds the persons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ModelChoice {
    /// YOLOv8n-seg if its file is on this machine, else the embedded selfie model.
    #[default]
    Auto,
    /// The embedded selfie model.
    Selfie,
    /// A model by name, looked for in the model folders.
    Named(String),
    Path(PathBuf),
}

impl FromStr for ModelChoice {
    type Err = std::convert::Infallible;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let is_path = s.contains(['/', '\\']) || s.to_ascii_lowercase().ends_with(".onnx");
        Ok(match s {
            "auto" => Self::Auto,
            "selfie" => Self::Selfie,
            _ if is_path => Self::Path(s.into()),
            _ => Self::Named(s.to_owned()),
        })
    }
}

/// What to do with a frame that the network fails on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Show the last mask.
    #[default]
    Hold,
    /// Show the whole frame.
    Pass,
    /// Show the background only.
    Green,
    /// End with an error.
    Stop,
}

/// How persons are found and how their edges look.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub model: ModelChoice,
    /// Input width and height of the network. Without it, exports of one size are fitted to the frame's shape.
    pub mask_size: Option<(u32, u32)>,
    /// Least score of a detection, 0..=1. [`DEFAULT_CONFIDENCE`] stands for the network's own default.
    pub confidence: f32,
    pub device: Device,
    /// Threads that inference may use in all.
    pub threads: usize,
    /// One frame at a time, with all threads: a mask comes sooner, but fewer come per second. The picture goes on when
    /// the network fails.
    pub low_latency: bool,
    /// How many frames share one run of the network.
    pub every: Every,
    /// Strength of the smoothing over time, 0..=1.
    pub smooth: Option<f32>,
    /// Softens the edge inwards, in pixels.
    pub feather: f32,
    /// Moves the edge outwards (or inwards, if negative), in pixels.
    pub edge_shift: f32,
    /// Makes the mask hard: person above this probability.
    pub threshold: Option<f32>,
    pub max_persons: Option<usize>,
    /// Only the largest person.
    pub largest: bool,
    pub on_error: OnError,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: ModelChoice::Auto,
            mask_size: None,
            confidence: DEFAULT_CONFIDENCE,
            device: Device::Auto,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get()),
            low_latency: false,
            every: Every::Auto,
            smooth: Some(matte::SMOOTH),
            feather: 0.0,
            edge_shift: 0.0,
            threshold: None,
            max_persons: None,
            largest: false,
            on_error: OnError::Hold,
        }
    }
}

impl Settings {
    fn choice(&self) -> Choice {
        Choice { limit: if self.largest { Some(1) } else { self.max_persons } }
    }
}

/// Counts for progress and reports.
#[derive(Debug, Default)]
pub struct Stats {
    /// Frames with a mask of their own.
    pub masked: AtomicU64,
    /// Frames that show the last mask, because nobody was found or the network failed.
    pub held: AtomicU64,
    /// Frames with nobody in them.
    pub empty: AtomicU64,
    /// Frames that the network failed on.
    pub failed: AtomicU64,
    /// Time spent in sampling, inference and decoding, over all threads.
    pub inference_nanoseconds: AtomicU64,
    /// How often a network was run.
    pub inferences: AtomicU64,
    /// Frames whose mask follows from those of other frames.
    pub followed: AtomicU64,
    /// The network has failed in a live run and is not back yet.
    pub lost: AtomicBool,
    /// How often that has happened.
    pub losses: AtomicU64,
}

/// Gives each frame the mask of its own persons, in the order of the frames.
pub struct MaskStage {
    workers: Workers,
    /// Frames of a file that are not masked themselves.
    between: Between,
    /// Takes the place of `workers` in a live run.
    live: Option<Live>,
    matte: Matte,
    upsampler: Upsampler,
    edge: Edge,
    pool: Pool<u8>,
    stats: Arc<Stats>,
    on_error: OnError,
    /// Failures since the last success.
    failures: u64,
    /// It did succeed on a frame.
    worked: bool,
    description: String,
    notice: Option<String>,
}

impl MaskStage {
    /// A stage that runs the given networks side by side on consecutive frames.
    pub fn new(networks: Vec<Box<dyn Network>>, settings: &Settings) -> Self {
        let stats = Arc::new(Stats::default());
        Self {
            workers: Workers::new(networks, stats.clone()),
            between: Between::new(settings.every),
            live: None,
            matte: Matte::new(settings.smooth),
            upsampler: Upsampler::new(settings.threshold),
            edge: Edge::new(settings.feather, settings.edge_shift),
            pool: Pool::new(),
            stats,
            on_error: settings.on_error,
            failures: 0,
            worked: false,
            description: String::new(),
            notice: None,
        }
    }

    /// One line: model, input size, device, runtime.
    pub fn describe(&self) -> &str {
        &self.description
    }

    /// What the user should know about a choice that was made for him.
    pub fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    pub fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    /// Turns what a network found into the frame's mask, and emits the frames before it that had to wait for it.
    fn complete(&mut self, done: Done, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        let Done { frame, coverage, result, thumbnail } = done;
        let look = match result {
            Ok(()) => {
                self.failures = 0;
                self.worked = true;
                Look::By(self.matte.update(&coverage, thumbnail.clone()), true)
            }
            Err(why) => {
                self.fail(why)?;
                self.without(thumbnail.clone())
            }
        };
        self.workers.give_back(coverage);
        self.emit_between(look, thumbnail, emit)?;
        let frame = self.dress(frame, look);
        emit(frame)
    }

    /// How a frame looks that the network failed on.
    fn without(&mut self, thumbnail: Thumbnail) -> Look {
        let held = self.matte.miss(thumbnail);
        match self.on_error {
            OnError::Pass => Look::Whole,
            OnError::Green => Look::Background,
            OnError::Hold | OnError::Stop => Look::By(held, true),
        }
    }

    /// Gives a frame its mask.
    fn dress(&mut self, mut frame: Frame, look: Look) -> Frame {
        let (width, height) = (frame.picture.width() as usize, frame.picture.height() as usize);
        let mut alpha = self.pool.get(width * height);
        if let Look::By(outcome, true) = look {
            let counter = match outcome {
                Outcome::Fresh => &self.stats.masked,
                Outcome::Held(_) => &self.stats.held,
                Outcome::Empty => &self.stats.empty,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        match look {
            Look::Whole => alpha.fill(255),
            Look::Background | Look::By(Outcome::Empty, _) => alpha.fill(0),
            Look::By(outcome, _) => {
                self.upsampler.enlarge(self.matte.coverage(), outcome.gain(), width, height, &mut alpha);
                self.edge.apply(&mut alpha, width);
            }
        }
        frame.mask = Some(Mask { width, height, alpha });
        frame
    }

    fn fail(&mut self, why: String) -> Result<()> {
        self.failures += 1;
        let total = self.stats.failed.fetch_add(1, Ordering::Relaxed) + 1;
        let stop = |message: String| Err(Error::Stage { stage: "mask".into(), message });
        if self.on_error == OnError::Stop {
            return stop(why);
        }
        if self.on_error == OnError::Hold && self.failures >= MAX_FAILURES {
            return stop(format!("the network failed on {MAX_FAILURES} frames in a row: {why}"));
        }
        if total == 1 {
            tracing::warn!("the mask network failed on a frame, and the frame is shown another way: {why}");
        }
        Ok(())
    }
}

impl Stage for MaskStage {
    fn name(&self) -> &'static str {
        "mask"
    }

    fn push(&mut self, frame: Frame, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        if let Some(mut live) = self.live.take() {
            let frame = self.push_live(&mut live, frame);
            self.live = Some(live);
            return emit(frame?);
        }
        let Some(frame) = self.between.takes(frame) else { return Ok(()) };
        if self.workers.is_full()
            && let Some(done) = self.workers.wait()
        {
            self.complete(done, emit)?;
        }
        self.workers.send(frame);
        while let Some(done) = self.workers.ready() {
            self.complete(done, emit)?;
        }
        Ok(())
    }

    fn finish(&mut self, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        while let Some(done) = self.workers.wait() {
            self.complete(done, emit)?;
        }
        self.emit_last(emit)?;
        if self.on_error == OnError::Hold && self.failures > 0 && !self.worked {
            return Err(Error::Stage { stage: "mask".into(), message: "the network failed on every frame".into() });
        }
        Ok(())
    }
}

/// What a frame shows of its persons.
#[derive(Clone, Copy)]
enum Look {
    /// What the matte holds; counted if this is the frame's own mask.
    By(Outcome, bool),
    /// All of the picture.
    Whole,
    /// Nothing of it.
    Background,
}

impl Look {
    /// The same for a frame that follows another one.
    fn followed(self) -> Self {
        match self {
            Self::By(outcome, _) => Self::By(outcome, false),
            other => other,
        }
    }
}

/// Runs one network on one frame; what went wrong is part of the result.
fn find(network: &mut dyn Network, frame: Frame, mut coverage: Coverage, stats: &Stats) -> Done {
    let start = Instant::now();
    let (thumbnail, result) = match Format::of(frame.picture.format()) {
        Some(format) => (Thumbnail::of(&frame.picture, format), network.find(&frame.picture, format, &mut coverage)),
        None => (Thumbnail::blank(), Err(format!("{:?} is not a planar format", frame.picture.format()))),
    };
    stats.inferences.fetch_add(1, Ordering::Relaxed);
    stats.inference_nanoseconds.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    Done { frame, coverage, result, thumbnail }
}
