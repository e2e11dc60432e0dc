//! One run: opens what the settings name, joins it into a pipeline, and reports.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ffmpeg_next as ffmpeg;

use crate::composite::{self, Background, CompositeStage};
use crate::console::Console;
use crate::error::{Error, Exit, Result};
use crate::frame::Frame;
use crate::mask::{self, MaskStage};
use crate::pipeline::{Control, Flow, Meter, Pipeline, Source, Stage};
use crate::progress::{Count, Kind, MaskReport, Progress, Report, StageReport};
use crate::runtime::onnx::Search;
use crate::settings::{Backing, Settings};
use crate::signals::{self, Stopped};
use crate::sink::{self, Destination, FileSink, Plan};
use crate::source::{Backdrop, Connection, Damage, Options, Place, Target};
use crate::stream::VideoInfo;

/// Carries a run out and says how it ended.
pub(crate) fn run(settings: Settings) -> Result<Exit> {
    let begun = Instant::now();
    let console = Console::start(&settings.messages)?;
    let control = Control::default();
    let stopped = signals::listen(&control)?;
    let input_path = match &settings.input {
        Place::File(path) => Some(path.as_path()),
        _ => None,
    };
    if !sink::check(&settings.output, input_path, settings.overwrite)? {
        tracing::info!("{} exists already; left as it is", settings.output);
        return Ok(Exit::Done);
    }
    ffmpeg::format::network::init();
    let job = match Job::open(&settings, &control) {
        Ok(job) => job,
        Err(error) => return stopped.exit().ok_or(error),
    };
    job.describe(&settings);
    job.carry_out(&settings, control, &stopped, &console, begun)
}

/// Everything opened, nothing started.
struct Job {
    info: VideoInfo,
    source: Box<dyn Source>,
    stages: Vec<Box<dyn Stage>>,
    sink: FileSink,
    damage: Arc<Damage>,
    mask: Option<(String, Arc<mask::Stats>)>,
}

impl Job {
    fn open(settings: &Settings, control: &Control) -> Result<Self> {
        let options = Options {
            format: settings.input_format.clone(),
            threads: settings.threads,
            rate: settings.fps,
            size: settings.size,
            ..backdrop_options(settings, control)
        };
        let mut connection = Connection::new(settings.input.clone(), options, settings.reconnect_timeout);
        let mut input = connection.open()?;
        let plan = Plan::new(&settings.output, input.native.format, settings.choices.clone())?;
        let target = Target {
            format: plan.working,
            full_range: plan.full_range,
            size: settings.size,
            // Numbered pictures are read at this rate already.
            fps: settings
                .fps
                .filter(|_| !matches!(settings.input, Place::Pictures { .. }))
                .or(plan.muxer.has_constant_rate().then_some(input.native.frame_rate)),
            start: settings.start,
            duration: settings.duration,
        };
        let extras = input.take_extras();
        let one_picture = matches!(settings.output, Destination::File(_)) && plan.muxer.is_pictures();
        let still = input.native.still;
        let (send_copied, copied) = crossbeam_channel::unbounded();
        let (reader, info, damage) = connection.read(input, &target, send_copied)?;

        let mut stages: Vec<Box<dyn Stage>> = Vec::new();
        let mut mask = None;
        if let Some(backing) = &settings.backing {
            let places = mask::find::Places::from_env();
            let search = Search::of_this_machine();
            let stage = MaskStage::open(&settings.mask, &places, &search, (info.width, info.height))?;
            if let Some(notice) = stage.notice() {
                tracing::info!("{notice}");
            }
            mask = Some((stage.describe().to_owned(), stage.stats()));
            stages.push(Box::new(stage));
            let background = background(backing, &info, settings, control)?;
            stages.push(Box::new(CompositeStage::new(background, settings.despill)));
        }
        let sink = FileSink::create(settings.output.clone(), plan, info.clone(), extras, copied)?;
        let source: Box<dyn Source> =
            if one_picture { Box::new(FirstFrame { reader, still, given: false }) } else { reader };
        Ok(Self { info, source, stages, sink, damage, mask })
    }

    /// The first line: what goes where, and which device really computes.
    fn describe(&self, settings: &Settings) {
        let rate = f64::from(self.info.frame_rate);
        let mask = self.mask.as_ref().map_or(String::new(), |(model, _)| format!(", mask by {model}"));
        tracing::info!(
            "{} -> {}, {}x{} at {:.4} fps{mask}",
            settings.input,
            self.sink.describe(),
            self.info.width,
            self.info.height,
            rate
        );
    }

    fn carry_out(
        self,
        settings: &Settings,
        control: Control,
        stopped: &Stopped,
        console: &Console,
        begun: Instant,
    ) -> Result<Exit> {
        let Self { info, source, stages, sink, damage, mask } = self;
        let setup = begun.elapsed();
        let kind = if settings.messages.quiet { Kind::None } else { Kind::for_stderr() };
        let kind = settings.progress.unwrap_or(kind);
        let counts = counts(mask.as_ref().map(|(_, stats)| stats), &damage);
        let mut progress = Progress::new(kind, info.frames, counts, settings.watchdog, console);
        let pipeline = Pipeline { source, stages, sink: Box::new(sink), flow: flow(settings), control };
        let start = Instant::now();
        let mut meters: Vec<Arc<Meter>> = Vec::new();
        let result = pipeline.run(|now| {
            if meters.is_empty() {
                meters = now.to_vec();
            }
            progress.tick(now);
        });
        progress.finish(&meters);
        let seconds = start.elapsed().as_secs_f64();

        let exit = match &result {
            Err(error) => error.exit(),
            Ok(()) => stopped.exit().unwrap_or(Exit::Done),
        };
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let frames_out = meters.last().map_or(0, |m| get(&m.frames));
        let report = Report {
            version: 1,
            krea: env!("CARGO_PKG_VERSION"),
            input: settings.input.to_string(),
            output: settings.output.to_string(),
            exit: exit as u8,
            error: result.as_ref().err().map(ToString::to_string),
            seconds,
            setup_seconds: setup.as_secs_f64(),
            frames_in: meters.first().map_or(0, |m| get(&m.frames)),
            frames_out,
            dropped: meters.iter().map(|m| get(&m.dropped)).sum(),
            fps: frames_out as f64 / seconds.max(1e-9),
            mask: mask.map(|(model, stats)| mask_report(model, &stats)),
            damaged_packets: get(&damage.packets),
            damaged_frames: get(&damage.frames),
            missing_seconds: get(&damage.missing) as f64 / 1000.0,
            reconnects: get(&damage.reconnects),
            stages: meters.iter().map(|m| StageReport::of(m)).collect(),
        };
        conclude(settings, &report, result.is_ok());
        if let Some(path) = &settings.stats {
            write_report(path, &report)?;
        }
        result.map(|()| exit)
    }
}

/// The last lines: what was wrong with the input, what was made.
fn conclude(settings: &Settings, report: &Report, whole: bool) {
    if report.missing_seconds > 0.0 {
        tracing::warn!(
            "{} is cut off: the last {:.1} s are missing; what is there is converted",
            report.input,
            report.missing_seconds
        );
    }
    if report.damaged_packets + report.damaged_frames > 0 {
        tracing::warn!(
            "{} is damaged: {} packets could not be decoded, {} frames have errors in them; the rest is converted",
            report.input,
            report.damaged_packets,
            report.damaged_frames
        );
    }
    if !whole {
        return;
    }
    let mut notes = String::new();
    if let Some(mask) = &report.mask {
        for (n, what) in [(mask.held, "with a held mask"), (mask.empty, "without a person"), (mask.failed, "failed")] {
            if n > 0 {
                notes += &format!(", {n} {what}");
            }
        }
    }
    tracing::info!(
        "{}: {} frames in {:.1} s ({:.1} fps){notes}",
        settings.output,
        report.frames_out,
        report.seconds,
        report.fps
    );
}

fn write_report(path: &PathBuf, report: &Report) -> Result<()> {
    let failed = |e: String| Error::Output(format!("{}: the statistics cannot be written: {e}", path.display()));
    let text = serde_json::to_string_pretty(report).map_err(|e| failed(e.to_string()))?;
    std::fs::write(path, text + "\n").map_err(|e| failed(e.to_string()))
}

fn mask_report(model: String, stats: &mask::Stats) -> MaskReport {
    let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
    let inferred = get(&stats.masked) + get(&stats.held) + get(&stats.empty);
    MaskReport {
        model,
        masked: get(&stats.masked),
        held: get(&stats.held),
        empty: get(&stats.empty),
        failed: get(&stats.failed),
        milliseconds: get(&stats.inference_nanoseconds) as f64 / 1e6 / (inferred.max(1) as f64),
    }
}

fn counts(mask: Option<&Arc<mask::Stats>>, damage: &Arc<Damage>) -> Vec<Count> {
    let mut counts: Vec<Count> = Vec::new();
    if let Some(stats) = mask {
        let stats = stats.clone();
        counts.push(("held", Box::new(move || stats.held.load(Ordering::Relaxed))));
    }
    let (packets, joined) = (damage.clone(), damage.clone());
    counts.push(("damaged", Box::new(move || packets.packets.load(Ordering::Relaxed))));
    counts.push(("reconnects", Box::new(move || joined.reconnects.load(Ordering::Relaxed))));
    counts
}

fn background(backing: &Backing, info: &VideoInfo, settings: &Settings, control: &Control) -> Result<Background> {
    Ok(match backing {
        Backing::Colour(colour) => Background::Colour(*colour),
        Backing::Transparent => Background::Transparent,
        Backing::Blur(radius) => Background::Blur(radius.unwrap_or(info.width as f32 / 40.0)),
        Backing::File(path) => {
            let options = backdrop_options(settings, control);
            Background::Pictures(Box::new(Behind(Backdrop::open(path.clone(), options, info)?)))
        }
    })
}

fn backdrop_options(settings: &Settings, control: &Control) -> Options {
    Options {
        format: None,
        max_pixels: settings.max_pixels,
        threads: 1,
        rate: None,
        size: None,
        timeout: settings.timeout,
        control: control.clone(),
    }
}

/// What comes at its own pace is shown as it comes; but a file takes every frame, and the sender's buffers wait.
fn flow(settings: &Settings) -> Flow {
    match settings.output {
        Destination::Stdout | Destination::Url(_) if settings.input.has_own_pace() => Flow::Latest,
        _ => Flow::Lossless,
    }
}

/// Joins the source of a backdrop to the stage that shows it.
struct Behind(Backdrop);

impl composite::Backdrop for Behind {
    fn at(&mut self, seconds: f64) -> Result<&ffmpeg::frame::Video> {
        self.0.at(seconds)
    }
}

/// For an output that is one picture: the first frame and no more.
struct FirstFrame {
    reader: Box<dyn Source>,
    still: bool,
    given: bool,
}

impl Source for FirstFrame {
    fn next(&mut self) -> Result<Option<Frame>> {
        if !self.given {
            self.given = true;
            return self.reader.next();
        }
        if !self.still {
            tracing::info!("a picture holds one frame: the first one; frames/%05d.png writes all of them");
        }
        Ok(None)
    }
}
