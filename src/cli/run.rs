//! `krea run`: the flags.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ffmpeg_next::Rational;

use super::generation::GenerationArgs;
use crate::error::Result;
use crate::generate::OutputSize;
use crate::mask::ModelChoice;
use crate::runtime::Device;
use crate::settings::{self, Backing, Settings, parse};
use crate::source::Place;

/// Read a video, work on its frames, write it
#[derive(Args, Clone, Debug)]
#[command(after_help = "`krea run --help` explains each option and has examples.")]
#[command(after_long_help = "\
Examples:
  Remove the background, green #00FF00 instead:
    krea run talk.mp4 --remove-bg -o talk-green.mp4
  Another background: a colour, a picture, a looping video, the room out of focus:
    krea run talk.mp4 --remove-bg --bg navy -o out.mp4
    krea run talk.mp4 --remove-bg --bg beach.jpg -o out.mp4
    krea run talk.mp4 --remove-bg --bg blur=20 -o out.mp4
  Transparency for an editor, for the web, as pictures:
    krea run talk.mp4 --remove-bg --bg transparent -o talk.mov
    krea run talk.mp4 --remove-bg --bg transparent -o talk.webm
    krea run talk.mp4 --remove-bg --bg transparent -o frames/%05d.png
  In a pipe, ten seconds from the first minute on:
    ffmpeg -i in.mkv -f matroska - | krea run - --remove-bg -o - | ffplay -
    krea run talk.mp4 --remove-bg --start 1:00 --duration 10 -o part.mp4
  The camera in a window, which p, m and b compare with what comes in; to OBS and into a file at once:
    krea run --webcam --remove-bg
    krea run --webcam --remove-bg --prompt \"cyberpunk\"
    krea run talk.mp4 --remove-bg -o out.mkv -o udp://127.0.0.1:5000
  Repaint it; only the person, or the room; with prompts that change; from words alone:
    krea run talk.mp4 --remove-bg --prompt \"cyberpunk\" -o cyberpunk.mp4
    krea run talk.mp4 --prompt \"oil painting\" --region background --strength 0.8 -o studio.mp4
    krea run talk.mp4 --prompt-file looks.txt -o looks.mp4
    krea run --prompt \"a fox in the snow\" --blocks 7 -o fox.mp4
  Options for FFmpeg's encoder and container stand after --:
    krea run talk.mp4 --remove-bg -o out.mp4 -- -tune film -movflags +faststart")]
pub struct RunArgs {
    /// Video or picture to read; a stream (rtsp://, http://, udp://, srt://, rtmp://); numbered pictures (in/%05d.png) or
    /// a quoted glob ('in/*.jpg'), at --fps or 25; lavfi:GRAPH makes a test picture; - is standard input
    #[arg(value_name = "INPUT", required_unless_present_any = ["webcam", "prompt", "prompt_file"])]
    input: Option<String>,

    /// Read a camera instead: the first one, or the one with this number or name; `krea devices` lists them
    #[arg(long, value_name = "NAME|INDEX", num_args = 0..=1, default_missing_value = "", conflicts_with = "input")]
    webcam: Option<String>,

    /// What reads the camera: nokhwa, ffmpeg (its own demuxer), or auto, which is nokhwa, and FFmpeg where nokhwa cannot. Of the
    /// camera's formats the one is taken that fits --size and --fps best, else one from 640x480 to 1280x720 at 30
    #[arg(long, value_name = "API", default_value = "auto", help_heading = "Input")]
    camera_api: CameraApi,

    /// Where to write: a file, frames/%05d.png, - for standard output, a stream (udp://, srt://, rtmp://, rtsp://), or a
    /// virtual camera (v4l2:/dev/video9).
    /// Once more for a stream beside the file; it carries the picture only, and never holds the file up. Without it a camera
    /// is shown in a window, as --preview does
    #[arg(short, long, value_name = "OUTPUT", required_unless_present_any = ["preview", "webcam"])]
    output: Vec<String>,

    /// Show a window, alone or beside -o. Keys: q ends, space pauses, p compares, m shows the mask, b the background,
    /// f fills the screen, s writes a picture
    #[arg(long)]
    preview: bool,

    /// Find the people and replace what is behind them
    #[arg(long, help_heading = "Background")]
    remove_bg: bool,

    /// What to put behind them: a colour, transparent, blur[=RADIUS], a picture or a video. Turns --remove-bg on
    #[arg(long, value_name = "WHAT", help_heading = "Background", value_parser = parse::backing)]
    bg: Option<Backing>,

    /// Keep the colour that the old background has left on soft edges
    #[arg(long, help_heading = "Background")]
    no_despill: bool,

    /// auto, selfie, yolov8n-seg, or the path of an ONNX file. auto takes YOLOv8n-seg if it is on this machine, else
    /// the selfie model that is built in
    #[arg(long, value_name = "MODEL", default_value = "auto", env = "KREA_MASK_MODEL", help_heading = "Mask")]
    mask_model: ModelChoice,

    /// Input size of the network, for YOLO exports of any size and models that leave it open
    #[arg(long, value_name = "WxH", value_parser = parse::whole_size, help_heading = "Mask")]
    mask_size: Option<(u32, u32)>,

    /// Least score, 0 to 1, at which a person counts
    #[arg(long, value_name = "SCORE", default_value_t = 0.25, value_parser = parse::fraction, help_heading = "Mask")]
    confidence: f32,

    /// Where networks compute: auto, cpu, cuda, tensorrt, openvino, coreml. What is named must work; auto may fall back
    #[arg(long, default_value = "auto", env = "KREA_DEVICE", help_heading = "Mask")]
    device: Device,

    /// Smoothing over time against flicker: off, or a strength from 0 to 1
    #[arg(long, value_name = "off|0..1", value_parser = parse::smooth, help_heading = "Mask")]
    smooth: Option<settings::Smooth>,

    /// Soften the edge inwards by so many pixels
    #[arg(long, value_name = "PX", default_value_t = 0.0, value_parser = parse::pixels, help_heading = "Mask")]
    feather: f32,

    /// Move the edge outwards by so many pixels, inwards if negative
    #[arg(long, value_name = "PX", default_value_t = 0.0, allow_negative_numbers = true, help_heading = "Mask")]
    edge_shift: f32,

    /// A hard edge: person is what is more likely than this, 0 to 1
    #[arg(long, value_name = "P", value_parser = parse::fraction, help_heading = "Mask")]
    threshold: Option<f32>,

    /// Keep at most so many people, the surest first
    #[arg(long, value_name = "N", help_heading = "Mask")]
    max_persons: Option<usize>,

    /// Keep only the largest person
    #[arg(long, conflicts_with = "max_persons", help_heading = "Mask")]
    largest: bool,

    /// Run the network on every N-th frame only; the masks of the others follow. auto does so in live runs, by as much as
    /// the network is behind
    #[arg(long, value_name = "auto|N", default_value = "auto", help_heading = "Mask")]
    mask_every: crate::mask::Every,

    /// When the network fails on a frame: hold the last mask, pass the frame as it is, show green only, or stop. A live
    /// run goes on without the mask (hold passes frames as they are after 2 seconds) until the network is back
    #[arg(long, value_name = "WHAT", default_value = "hold", help_heading = "Mask")]
    on_mask_error: OnMaskError,

    /// Video encoder, by FFmpeg's name (libx264 where the container takes it)
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    codec: Option<String>,

    /// Quality of the encoder, lower is better (18 for libx264)
    #[arg(long, value_name = "N", help_heading = "Output")]
    crf: Option<f32>,

    /// Speed of the encoder (veryfast for libx264)
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    preset: Option<String>,

    /// Pixel format, by FFmpeg's name (as the source's, where the encoder takes it)
    #[arg(long, value_name = "NAME", help_heading = "Output")]
    pix_fmt: Option<String>,

    /// Container, by FFmpeg's name, when the name of the output does not tell (matroska for -)
    #[arg(short, long, value_name = "NAME", help_heading = "Output")]
    format: Option<String>,

    /// Size of the output: 1280x720, or 1280x or x720 to keep the shape. Repainted video is as large as the model paints it,
    /// unless this says another size, or source
    #[arg(long, value_name = "WxH|source", help_heading = "Output")]
    size: Option<OutputSize>,

    /// Constant frame rate of the output, 30 or 30000/1001; without it every frame keeps its own time
    #[arg(long, value_name = "RATE", value_parser = parse::rate, help_heading = "Output")]
    fps: Option<Rational>,

    /// Overwrite the output if it exists
    #[arg(short = 'y', long, conflicts_with = "no_overwrite", help_heading = "Output")]
    overwrite: bool,

    /// Leave an output that exists, and end well
    #[arg(short = 'n', long, help_heading = "Output")]
    no_overwrite: bool,

    /// Begin so far into the input: 90, 1:30 or 0:01:30.5
    #[arg(long, value_name = "TIME", value_parser = parse::time, help_heading = "Input")]
    start: Option<f64>,

    /// Take so much of the input
    #[arg(long, value_name = "TIME", value_parser = parse::time, help_heading = "Input")]
    duration: Option<f64>,

    /// Demuxer, by FFmpeg's name, when the content does not tell
    #[arg(long, value_name = "NAME", help_heading = "Input")]
    input_format: Option<String>,

    /// Give a connection or a camera up after so long without data, and try again if it is live
    #[arg(long, value_name = "TIME", default_value = "10", value_parser = parse::span, help_heading = "Input")]
    timeout: Duration,

    /// End when a live stream or a camera has not come back for so long; without it it is waited for as long as it takes
    #[arg(long, value_name = "TIME", value_parser = parse::span, help_heading = "Input")]
    reconnect_timeout: Option<Duration>,

    /// Take commands from a Unix socket that is made here, for the user alone: one JSON object a line, with a line of JSON
    /// in answer: {"background": "blur"}, {"pause": true}, {"status": true}, {"quit": true}, {"prompt": "...", "blend": 2},
    /// {"strength": 0.5}, {"seed": 7}, {"reset": true}. A live run takes them from its terminal too: /bg blur, /pause,
    /// /resume, /status, /quit; a line without a slash is a prompt
    #[arg(long, value_name = "PATH", help_heading = "Live")]
    control: Option<PathBuf>,

    /// Carry out the commands in this file, JSON or as typed, line by line, now and whenever it changes
    #[arg(long, value_name = "FILE", help_heading = "Live")]
    control_file: Option<PathBuf>,

    /// End with an error when the network fails in a live run, instead of going on without it
    #[arg(long, help_heading = "Live")]
    strict: bool,

    /// Drop live frames that are older than so many milliseconds, counted from their arrival, before they are masked,
    /// generated or shown
    #[arg(long, value_name = "MS", value_parser = parse::milliseconds, help_heading = "Live")]
    max_latency: Option<Duration>,

    /// Refuse pictures with more pixels than this
    #[arg(long, value_name = "N", default_value_t = 16384 * 8192, help_heading = "Input")]
    max_pixels: u64,

    #[command(flatten)]
    generation: GenerationArgs,

    /// Threads for decoding, masks and encoding each; 0 is one a core
    #[arg(long, value_name = "N", default_value_t = 0, env = "KREA_THREADS")]
    threads: usize,

    /// Only errors
    #[arg(short, long, help_heading = "Messages")]
    quiet: bool,

    /// More messages; -vv for even more
    #[arg(short, long, action = clap::ArgAction::Count, conflicts_with = "quiet", help_heading = "Messages")]
    verbose: u8,

    /// error, warn, info, debug, trace, or a filter such as krea=info,ffmpeg=debug
    #[arg(long, value_name = "LEVEL", env = "KREA_LOG", help_heading = "Messages")]
    log_level: Option<String>,

    /// How progress is shown on standard error; auto is a bar on a terminal, else a line now and then. json is an object a
    /// line, once a second: frames and fps since the start; fps_in, fps_out, latency_ms (p50 and p95 from the arrival of
    /// a live frame to the end of its writing) and mask_ms since the last line; queues (frames that wait for each stage);
    /// dropped, and by stage drops (gave way to newer ones) and late (older than --max-latency); held, mask_losses,
    /// mask_lost, damaged, reconnects, missed (came from a camera faster than they were read). The last one, of event end, is about the whole run
    #[arg(long, value_name = "HOW", default_value = "auto", help_heading = "Messages")]
    progress: ProgressKind,

    /// Colours in messages
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = "Messages")]
    color: clap::ColorChoice,

    /// Write what was done, and how long each stage took, to this file as JSON
    #[arg(long, value_name = "FILE", help_heading = "Messages")]
    stats: Option<PathBuf>,

    /// Name a stage that has been busy with one frame for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0, hide_short_help = true, help_heading = "Messages")]
    watchdog: f64,

    /// Options for FFmpeg's encoder and container, as -name value; -an and -sn leave sound and subtitles out
    #[arg(last = true, value_name = "FFMPEG OPTIONS")]
    ffmpeg: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CameraApi {
    Auto,
    Nokhwa,
    Ffmpeg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnMaskError {
    Hold,
    Pass,
    Green,
    Stop,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ProgressKind {
    Auto,
    Bar,
    Plain,
    Json,
    None,
}

impl ProgressKind {
    /// `None` leaves the choice to whether stderr is a terminal.
    pub(super) fn kind(self) -> Option<crate::progress::Kind> {
        match self {
            Self::Auto => None,
            Self::Bar => Some(crate::progress::Kind::Bar),
            Self::Plain => Some(crate::progress::Kind::Plain),
            Self::Json => Some(crate::progress::Kind::Json),
            Self::None => Some(crate::progress::Kind::None),
        }
    }
}

impl RunArgs {
    /// Checks the flags against each other.
    pub fn settings(self) -> Result<Settings> {
        let pass = settings::pass_through(&self.ffmpeg)?;
        let dry_run = self.generation.dry_run;
        let generation = self.generation.settings()?;
        let (output, streams) = crate::sink::Destination::among(&self.output);
        Settings {
            input: match self.webcam {
                Some(wanted) => Place::Camera(wanted),
                None => self.input.as_deref().map_or(Place::Nothing, Place::parse),
            },
            output,
            streams,
            preview: self.preview || self.output.is_empty(),
            backing: self.bg.or(self.remove_bg.then_some(Backing::GREEN)),
            despill: !self.no_despill,
            mask: crate::mask::Settings {
                model: self.mask_model,
                mask_size: self.mask_size,
                confidence: self.confidence,
                device: self.device,
                threads: settings::threads(self.threads),
                low_latency: false,
                every: self.mask_every,
                smooth: match self.smooth {
                    None => crate::mask::Settings::default().smooth,
                    Some(settings::Smooth(strength)) => strength,
                },
                feather: self.feather,
                edge_shift: self.edge_shift,
                threshold: self.threshold,
                max_persons: self.max_persons,
                largest: self.largest,
                on_error: match self.on_mask_error {
                    _ if self.strict => crate::mask::OnError::Stop,
                    OnMaskError::Hold => crate::mask::OnError::Hold,
                    OnMaskError::Pass => crate::mask::OnError::Pass,
                    OnMaskError::Green => crate::mask::OnError::Green,
                    OnMaskError::Stop => crate::mask::OnError::Stop,
                },
            },
            choices: crate::sink::Choices {
                format: self.format,
                codec: self.codec,
                pix_fmt: self.pix_fmt,
                crf: self.crf,
                preset: self.preset,
                threads: self.threads,
                ..pass
            },
            overwrite: match (self.overwrite, self.no_overwrite) {
                (true, _) => crate::sink::Overwrite::Replace,
                (_, true) => crate::sink::Overwrite::Skip,
                _ => crate::sink::Overwrite::Refuse,
            },
            size: self.size,
            generation,
            dry_run,
            fps: self.fps,
            start: self.start,
            duration: self.duration,
            input_format: self.input_format,
            camera_api: match self.camera_api {
                CameraApi::Auto => crate::source::Api::Auto,
                CameraApi::Nokhwa => crate::source::Api::Nokhwa,
                CameraApi::Ffmpeg => crate::source::Api::Ffmpeg,
            },
            timeout: self.timeout,
            reconnect_timeout: self.reconnect_timeout,
            max_pixels: self.max_pixels,
            max_latency: self.max_latency,
            control: crate::control::Ways {
                socket: self.control,
                file: self.control_file,
                terminal: crate::control::can_type(),
            },
            threads: settings::threads(self.threads),
            progress: self.progress.kind(),
            messages: crate::console::Messages {
                quiet: self.quiet,
                verbose: self.verbose,
                filter: self.log_level,
                color: self.color,
            },
            stats: self.stats,
            watchdog: Duration::from_secs_f64(self.watchdog.clamp(0.001, 1e6)),
        }
        .checked()
    }
}
