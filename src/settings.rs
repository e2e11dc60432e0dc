//! What a run shall do, checked: the flags of the command line in the terms of the stages.

pub mod parse;

use std::path::PathBuf;
use std::time::Duration;

use ffmpeg_next::Rational;

use crate::colour::{GREEN, Rgb};
use crate::console::Messages;
use crate::error::{Error, Result};
use crate::generate::{OutputSize, Region};
use crate::sink::{Choices, Destination, Overwrite};
use crate::source::{Api, Place};
use crate::{control, generate, mask, progress};

/// One run from an input to an output.
pub struct Settings {
    pub input: Place,
    pub output: Destination,
    /// Streams beside the output.
    pub streams: Vec<Destination>,
    /// Show a window.
    pub preview: bool,
    /// What replaces the background; `None` leaves the frames as they are.
    pub backing: Option<Backing>,
    pub despill: bool,
    pub mask: mask::Settings,
    pub choices: Choices,
    pub overwrite: Overwrite,
    pub size: Option<OutputSize>,
    /// How the video is repainted, where it is.
    pub generation: Option<generate::Settings>,
    /// Only say what would be done.
    pub dry_run: bool,
    pub fps: Option<Rational>,
    /// Seconds into the input.
    pub start: Option<f64>,
    /// Seconds of the input.
    pub duration: Option<f64>,
    pub input_format: Option<String>,
    /// What reads a camera.
    pub camera_api: Api,
    /// So long may the network or a camera be silent.
    pub timeout: Duration,
    /// A live stream is given up after so long without a frame; `None` is never.
    pub reconnect_timeout: Option<Duration>,
    pub max_pixels: u64,
    pub threads: usize,
    /// Live frames that are older are dropped.
    pub max_latency: Option<Duration>,
    /// Which ways commands come in while it runs.
    pub control: control::Ways,
    /// `None` chooses by whether stderr is a terminal.
    pub progress: Option<progress::Kind>,
    pub messages: Messages,
    pub stats: Option<PathBuf>,
    /// A stage that is busy with one frame for so long is named.
    pub watchdog: Duration,
}

/// What stands behind the persons.
#[derive(Clone, Debug, PartialEq)]
pub enum Backing {
    Colour(Rgb),
    Transparent,
    /// Radius in pixels; by default 1/40 of the width.
    Blur(Option<f32>),
    /// A picture or a video.
    File(PathBuf),
}

impl Backing {
    pub const GREEN: Self = Self::Colour(GREEN);
}

/// Strength of the smoothing over time; `None` is off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smooth(pub Option<f32>);

impl Settings {
    /// What comes does not wait, by what is known before it is opened.
    pub(crate) fn seems_live(&self) -> bool {
        self.is_live(self.input.has_own_pace())
    }

    /// What comes at its own pace, or is bounded in its age, does not wait.
    pub(crate) fn is_live(&self, own_pace: bool) -> bool {
        own_pace || self.max_latency.is_some()
    }

    /// Says what cannot work before anything is opened.
    pub(crate) fn checked(mut self) -> Result<Self> {
        self.choices.alpha = self.backing == Some(Backing::Transparent);
        if let (Place::File(input), Destination::Pictures(output)) = (&self.input, &self.output)
            && input == output
        {
            return Err(Error::Usage("input and output are the same pictures".to_owned()));
        }
        if let Some(second) = self.streams.iter().find(|s| !s.is_stream()) {
            return Err(Error::Usage(format!(
                "-o {second}: of several outputs one may be a file; the others are streams (udp://, srt://, rtmp://, rtsp://, v4l2:)"
            )));
        }
        self.hand_to_generation()?;
        if self.max_latency.is_some() && !self.input.has_own_pace() && self.input != Place::Stdin {
            return Err(Error::Usage(
                "--max-latency is for what comes live: a camera, a stream, standard input; every frame of a file is taken"
                    .to_owned(),
            ));
        }
        // Who converts a file types other things meanwhile.
        self.control.terminal &= self.input != Place::Stdin && (self.seems_live() || self.preview);
        if self.max_pixels == 0 {
            return Err(Error::Usage("--max-pixels must be at least 1".to_owned()));
        }
        Ok(self)
    }

    /// What the generation shares with the rest of the run.
    fn hand_to_generation(&mut self) -> Result<()> {
        let Some(generation) = &mut self.generation else { return Ok(()) };
        generation.start = self.start.unwrap_or(0.0);
        generation.device = self.mask.device;
        generation.threads = self.threads;
        if self.backing == Some(Backing::Transparent) {
            return Err(Error::Usage(
                "--bg transparent with --prompt: the model paints no transparency; repaint in front of green and key it out"
                    .to_owned(),
            ));
        }
        // Where the original is seen around the result, the frames are brought to that size before.
        if generation.region == Region::All {
            generation.output_size = self.size;
        }
        let has_input = self.input != Place::Nothing;
        if !has_input && self.backing.is_some() {
            return Err(Error::Usage("--remove-bg needs an input".to_owned()));
        }
        generation.check(has_input)
    }

    /// Whether it matters where the persons are.
    pub fn needs_mask(&self) -> bool {
        self.backing.is_some() || self.generation.as_ref().is_some_and(generate::Settings::needs_mask)
    }

    /// The size that frames are read at; 0 follows from the other by the picture's shape.
    pub fn read_size(&self) -> Option<(u32, u32)> {
        match (self.size, &self.generation) {
            (Some(OutputSize::Of(w, h)), None) => Some((w, h)),
            (Some(OutputSize::Of(w, h)), Some(generation)) if generation.region != Region::All => Some((w, h)),
            _ => None,
        }
    }
}

/// 0 stands for one thread a core.
pub(crate) fn threads(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        n => n,
    }
}

/// Reads the options after `--`: `-name value` pairs for FFmpeg's encoder and muxer, and `-an`, `-sn`, `-metadata`.
pub(crate) fn pass_through(words: &[String]) -> Result<Choices> {
    let mut choices = Choices::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix('-').filter(|n| !n.is_empty()) else {
            return Err(Error::Usage(format!("after --, options are written as -name value; '{word}' is neither")));
        };
        match name {
            "an" => choices.no_audio = true,
            "sn" => choices.no_subtitles = true,
            _ => {
                let value = words.next().ok_or_else(|| Error::Usage(format!("-{name} after -- needs a value")))?;
                option(&mut choices, name, value)?;
            }
        }
    }
    Ok(choices)
}

fn option(choices: &mut Choices, name: &str, value: &str) -> Result<()> {
    // Video is the only stream that is encoded, so `-b:v` is `-b`.
    let name = name.strip_suffix(":v").or_else(|| name.strip_suffix(":v:0")).unwrap_or(name);
    match name {
        "metadata" => {
            let (key, value) = value
                .split_once('=')
                .ok_or_else(|| Error::Usage(format!("-metadata takes key=value, not '{value}'")))?;
            choices.metadata.push((key.to_owned(), value.to_owned()));
        }
        "c" | "vcodec" | "codec" => return Err(Error::Usage("the video codec is chosen with --codec".to_owned())),
        _ if name.ends_with(":a") || name.ends_with(":s") => {
            return Err(Error::Usage(format!("-{name}: sound and subtitles are copied, never encoded")));
        }
        _ => choices.options.push((name.to_owned(), value.to_owned())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn ffmpeg_options_are_pairs() {
        let c = pass_through(&words("-b:v 2M -an -metadata title=x -g 50")).unwrap();
        assert_eq!(c.options, [("b".into(), "2M".into()), ("g".into(), "50".into())]);
        assert!(c.no_audio && !c.no_subtitles && c.metadata == [("title".into(), "x".into())]);
        for bad in ["-g", "film", "-c:a aac", "-c:v libx265", "-metadata x", "-"] {
            assert!(matches!(pass_through(&words(bad)), Err(Error::Usage(_))), "{bad}");
        }
    }
}
