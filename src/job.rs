//! One run: opens what the settings name, joins it into a pipeline, and reports.

mod backgrounds;
mod outlook;
mod outputs;
mod reading;
mod watched;
mod wheel;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ffmpeg_next as ffmpeg;

use crate::composite::CompositeStage;
use crate::console::{self, Console};
use crate::control::{self, Desk};
use crate::error::{Error, Exit, Result};
use crate::frame::Frame;
use crate::generate::{self, Prepared};
use crate::mask::{self, MaskStage};
use crate::models::{Bundle, Transfer};
use crate::pipeline::Sink;
use crate::pipeline::{Control, Flow, Meter, Pipeline, Source, Stage};
use crate::progress::{Kind, Progress};
use crate::report::{GenerationReport, MaskReport, Report};
use crate::runtime::onnx::Search;
use crate::settings::Settings;
use crate::signals::{self, Stopped};
use crate::sink::preview::{self, Tap, Told, Window};
use crate::sink::{self, Destination, FileSink};
use crate::source::{Damage, Options, Place};
use crate::stream::VideoInfo;
use backgrounds::Wardrobe;
use outlook::outlook;
use reading::Reading;
use wheel::Wheel;

/// Carries a run out and says how it ended.
pub(crate) fn run(settings: Settings) -> Result<Exit> {
    let begun = Instant::now();
    let console = Console::start(&settings.messages)?;
    let input_path = match &settings.input {
        Place::File(path) => Some(path.as_path()),
        _ => None,
    };
    for stream in &settings.streams {
        sink::check(stream, None, settings.overwrite)?;
    }
    if !sink::check(&settings.output, input_path, settings.overwrite)? {
        tracing::info!("{} exists already; left as it is", settings.output);
        return Ok(Exit::Done);
    }
    // Before signals are caught: while a model is fetched, Ctrl-C shall end the program.
    let bundle = bundle(&settings, &console)?;
    let control = Control::default();
    let stopped = signals::listen(&control)?;
    ffmpeg::format::network::init();
    let job = match Job::open(&settings, bundle, &control) {
        Ok(Opened::Job(job)) => job,
        Ok(Opened::Outlook(text)) => return console::print(text.as_bytes()),
        Err(error) => return stopped.exit().ok_or(error),
    };
    job.describe(&settings);
    job.carry_out(&settings, control, &stopped, &console, begun)
}

/// The files of the model that repaints, where one does.
fn bundle(settings: &Settings, console: &Console) -> Result<Option<Bundle>> {
    let Some(generation) = &settings.generation else { return Ok(None) };
    let mut transfer = Transfer::new(progress_kind(settings), console.clone());
    generate::find(generation, settings.seems_live(), &mut transfer).map(Some)
}

fn progress_kind(settings: &Settings) -> Kind {
    let usual = if settings.messages.quiet { Kind::None } else { Kind::for_stderr() };
    settings.progress.unwrap_or(usual)
}

/// Everything opened, nothing started.
struct Job {
    info: VideoInfo,
    source: Box<dyn Source>,
    stages: Vec<Box<dyn Stage>>,
    sink: Box<dyn Sink>,
    /// One line about what is written.
    made: String,
    /// Frames that a stream beside the output was too slow for.
    lost: outputs::Lost,
    window: Option<Window>,
    still: bool,
    own_pace: bool,
    damage: Arc<Damage>,
    mask: Option<(String, Arc<mask::Stats>)>,
    repainting: Option<Repainting>,
    desk: Desk,
    /// Where the desk reads how far the run is.
    board: Arc<Mutex<serde_json::Value>>,
    _ways: control::Open,
}

impl Repainting {
    /// What it did. How long a block took is remembered for the next plan; the first block is not like the others.
    fn report(self) -> GenerationReport {
        let report = GenerationReport::of(self.model, &self.stats);
        if report.blocks > 2 {
            self.speed.remember(report.milliseconds);
        }
        report
    }
}

/// What opening a run leads to.
enum Opened {
    Job(Box<Job>),
    /// The plan in words, where no more was asked for.
    Outlook(String),
}

/// The generator of a run, as reports know it.
struct Repainting {
    model: String,
    stats: Arc<generate::Stats>,
    speed: generate::Speed,
}

impl Job {
    fn open(settings: &Settings, bundle: Option<Bundle>, control: &Control) -> Result<Opened> {
        let reading = Reading::open(settings, control)?;
        let prepared = match (&settings.generation, &reading.outline, bundle) {
            (Some(generation), Some(outline), Some(bundle)) => Some(Prepared::new(generation, outline, bundle)?),
            _ => None,
        };
        if settings.dry_run {
            return Ok(Opened::Outlook(outlook(settings, &reading, prepared.as_ref())?));
        }
        let Reading { source, info, plan, extras, copied, damage, still, own_pace, outline } = reading;
        let shown = outline.as_ref().map_or(&info, |outline| &outline.output).clone();

        let (window, preview) = outputs::open_window(settings, &shown, control)?.unzip();

        let mut stages: Vec<Box<dyn Stage>> = Vec::new();
        let (mut mask, mut exchange) = (None, None);
        if settings.needs_mask() {
            let places = mask::find::Places::from_env();
            let search = Search::of_this_machine();
            // Frames in a row, masked side by side, come faster but later.
            let low_latency = settings.is_live(own_pace);
            let wanted = mask::Settings { low_latency, ..settings.mask.clone() };
            let stage = MaskStage::open(&wanted, &places, &search, (info.width, info.height))?;
            if let Some(notice) = stage.notice() {
                tracing::info!("{notice}");
            }
            mask = Some((stage.describe().to_owned(), stage.stats()));
            stages.push(Box::new(stage));
        }
        if let Some(backing) = &settings.backing {
            let options = backdrop_options(settings, control);
            let background = backgrounds::open(backing, &info, options.clone(), 0.0)?;
            let stage = CompositeStage::new(background, settings.despill);
            let mut stage: Box<dyn Stage> = if settings.control.any() {
                let (wardrobe, stage) = Wardrobe::new(stage, info.clone(), options, backing);
                exchange = Some(wardrobe as Arc<dyn control::Backgrounds>);
                Box::new(stage)
            } else {
                Box::new(stage)
            };
            if preview.is_some() {
                stage = Box::new(Tap::new(stage));
            }
            stages.push(stage);
        }
        let (mut repainting, mut steering) = (None, None);
        if let (Some(generation), Some(outline), Some(prepared)) = (&settings.generation, &outline, prepared) {
            let opened = prepared.open(generation, outline, preview.is_some(), control.clone())?;
            stages.extend(opened.stages);
            repainting = Some(Repainting { model: opened.description, stats: opened.stats, speed: opened.speed });
            wheel::follow_prompts(generation, &opened.steering, control)?;
            steering = Some(Arc::new(Wheel(opened.steering)) as Arc<dyn control::Steering>);
        }
        let board = Arc::default();
        let desk = Desk::new(control.clone(), steering, exchange, Arc::clone(&board));
        desk.begins_with(settings.generation.as_ref().map(|g| g.timeline.first().to_owned()));
        let ways = settings.control.open(&desk)?;
        let native = plan.working;
        let main = match settings.output {
            Destination::Window => None,
            _ => Some(FileSink::create(settings.output.clone(), plan, shown.clone(), extras, copied, control.clone())?),
        };
        let made = main.as_ref().map_or_else(|| settings.output.to_string(), FileSink::describe);
        let (sink, lost) = outputs::join(settings, own_pace, main, preview, &shown, native, control)?;
        Ok(Opened::Job(Box::new(Self {
            info: shown,
            source,
            stages,
            sink,
            made,
            lost,
            window,
            still,
            own_pace,
            damage,
            mask,
            repainting,
            desk,
            board,
            _ways: ways,
        })))
    }

    /// The first line: what goes where, and which device really computes.
    fn describe(&self, settings: &Settings) {
        let rate = f64::from(self.info.frame_rate);
        let mask = self.mask.as_ref().map_or(String::new(), |(model, _)| format!(", mask by {model}"));
        let repainted = self.repainting.as_ref().map_or(String::new(), |r| format!(", repainted by {}", r.model));
        tracing::info!(
            "{} -> {}, {}x{} at {:.4} fps{mask}{repainted}",
            settings.input,
            self.made,
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
        let Self { info, source, stages, sink, lost, mut window, still, own_pace, damage, mask, .. } = self;
        let (repainting, desk, board, _ways) = (self.repainting, self.desk, self.board, self._ways);
        let setup = begun.elapsed();
        let watched = watched::watched(
            mask.as_ref().map(|(_, stats)| stats.clone()),
            repainting.as_ref().map(|r| r.stats.clone()),
            &damage,
            lost,
        );
        let mut progress = Progress::new(progress_kind(settings), info.frames, watched, settings.watchdog, console);
        progress.post_to(board);
        let (flow, live, max_age) = (flow(settings, own_pace), settings.is_live(own_pace), settings.max_latency);
        let pipeline = Pipeline { source, stages, sink, flow, live, max_age, control };
        let start = Instant::now();
        let mut meters: Vec<Arc<Meter>> = Vec::new();
        let pause = if window.is_some() { preview::PUMP } else { Duration::from_millis(50) };
        let result = pipeline.run_with(pause, |now| {
            if meters.is_empty() {
                meters = now.to_vec();
            }
            progress.tick(now);
            if let (Some(window), Some(sink)) = (&mut window, now.last()) {
                window.pump(|| Told {
                    frames: sink.frames.load(Ordering::Relaxed),
                    dropped: now.iter().map(|m| m.lost()).sum(),
                    latency: sink.latency.counts(),
                    notes: progress.faults().into_iter().chain(desk.prompt()).collect(),
                });
            }
        });
        // The output is whole; that its input went away is told all the same.
        let result = result.and(damage.given_up.get().map_or(Ok(()), |why| Err(Error::Input(why.clone()))));
        if let (Some(window), true, Ok(())) = (&mut window, still, &result) {
            window.linger();
        }
        drop(window);
        progress.finish(&meters);
        let seconds = start.elapsed().as_secs_f64();

        let exit = match &result {
            Err(error) => error.exit(),
            Ok(()) => stopped.exit().unwrap_or(Exit::Done),
        };
        let mask = mask.map(|(model, stats)| MaskReport::of(model, &stats));
        let report = Report {
            input: settings.input.to_string(),
            output: settings.output.to_string(),
            exit: exit as u8,
            error: result.as_ref().err().map(ToString::to_string),
            setup_seconds: setup.as_secs_f64(),
            mask,
            generation: repainting.map(Repainting::report),
            ..Report::of(&meters, &damage, seconds)
        };
        report.tell(result.is_ok());
        if let Some(path) = &settings.stats {
            report.write(path)?;
        }
        result.map(|()| exit)
    }
}

fn backdrop_options(settings: &Settings, control: &Control) -> Options {
    Options {
        format: None,
        max_pixels: settings.max_pixels,
        threads: 1,
        rate: None,
        size: None,
        camera_api: settings.camera_api,
        known_camera: None,
        live: false,
        rate_is_known: false,
        timeout: settings.timeout,
        control: control.clone(),
    }
}

/// What comes at its own pace is shown as it comes; but a file takes every frame, and the sender's buffers wait, unless
/// latency was bounded.
fn flow(settings: &Settings, own_pace: bool) -> Flow {
    match settings.output {
        _ if settings.max_latency.is_some() => Flow::Latest,
        Destination::Stdout | Destination::Url(_) | Destination::Camera(_) | Destination::Window if own_pace => {
            Flow::Latest
        }
        // A model that is slower than the camera would fall behind for ever.
        _ if settings.generation.is_some() && own_pace => Flow::Latest,
        _ => Flow::Lossless,
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
