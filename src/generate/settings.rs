//! What a generation can be told, and the presets.

use std::path::{Path, PathBuf};

use super::geometry::{Fit, OutputSize};
use super::region::Region;
use super::timeline::Timeline;
use crate::error::{Error, Result};
use crate::runtime::Device;

/// What stands between pictures and latents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Autoencoder {
    /// Wan's own VAE.
    Wan,
    /// TAEHV: much faster, a little softer.
    Tae,
}

/// What the transformer computes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    /// bf16 where the device is good at it, else fp32.
    #[default]
    Auto,
    Fp32,
    Bf16,
    Fp16,
    /// Matrices kept in 8 bits, computed in bf16: half the memory.
    Fp8,
}

impl Precision {
    /// As the plugin calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Fp32 => "fp32",
            Self::Bf16 | Self::Fp8 => "bf16",
            Self::Fp16 => "fp16",
        }
    }
}

/// Whose quirks are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Compat {
    /// The reference server's: three frames of the first block are left out, a first blend of weight 0, its decoder's
    /// history.
    Krea,
}

/// A choice of size, steps and autoencoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// 448x256, 2 steps, TAEHV
    Draft,
    /// 576x320, 4 steps, TAEHV
    Live,
    /// 832x480, 5 steps, Wan's VAE
    #[default]
    Quality,
}

impl Preset {
    pub(super) fn size(self) -> (u32, u32) {
        match self {
            Self::Draft => (448, 256),
            Self::Live => (576, 320),
            Self::Quality => (832, 480),
        }
    }

    pub(super) fn steps(self) -> u32 {
        match self {
            Self::Draft => 2,
            Self::Live => 4,
            Self::Quality => 5,
        }
    }

    pub(super) fn autoencoder(self) -> Autoencoder {
        match self {
            Self::Draft | Self::Live => Autoencoder::Tae,
            Self::Quality => Autoencoder::Wan,
        }
    }
}

/// A generation, checked. What is `None` follows from the preset.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub timeline: Timeline,
    /// Where the timeline was read, so that it can be read again.
    pub prompt_file: Option<PathBuf>,
    /// The prompt before the file's first.
    pub prompt: Option<String>,
    /// Seconds of the source at which its first frame lies.
    pub start: f64,
    /// A name of the manifest or a folder; `None` takes what is on this machine.
    pub model: Option<String>,
    pub preset: Option<Preset>,
    pub size: Option<(u32, u32)>,
    pub output_size: Option<OutputSize>,
    pub fit: Option<Fit>,
    pub region: Region,
    /// Repaint every frame instead of 16 a second.
    pub keep_fps: bool,
    /// `None` resets at cuts of recorded video and not of live video.
    pub reset_on_cut: Option<bool>,
    pub strength: f64,
    pub steps: Option<u32>,
    pub seed: u64,
    pub shift: f64,
    /// Latent frames of the past that a block sees.
    pub window: u32,
    /// Blocks of text to video.
    pub blocks: Option<u32>,
    pub start_image: Option<PathBuf>,
    /// Blocks over which a changed prompt is blended in.
    pub blend: u32,
    pub autoencoder: Option<Autoencoder>,
    pub precision: Precision,
    pub compat: Option<Compat>,
    pub device: Device,
    pub threads: usize,
    /// Never fetch anything.
    pub offline: bool,
}

impl Settings {
    /// All that follows from the prompts alone.
    pub fn of(timeline: Timeline) -> Self {
        Self {
            timeline,
            prompt_file: None,
            prompt: None,
            start: 0.0,
            model: None,
            preset: None,
            size: None,
            output_size: None,
            fit: None,
            region: Region::All,
            keep_fps: false,
            reset_on_cut: None,
            strength: 0.7,
            steps: None,
            seed: 0,
            shift: 5.0,
            window: 3,
            blocks: None,
            start_image: None,
            blend: 4,
            autoencoder: None,
            precision: Precision::Auto,
            compat: None,
            device: Device::Auto,
            threads: 1,
            offline: false,
        }
    }

    /// What stays the same whether live or not.
    pub(crate) fn preset(&self, live: bool) -> Preset {
        self.preset.unwrap_or(if live { Preset::Live } else { Preset::Quality })
    }

    /// Reads the prompts anew.
    pub(crate) fn timeline_of(path: &Path, prompt: Option<&str>) -> Result<Timeline> {
        let read = Timeline::read(path)?;
        Ok(match prompt {
            Some(prompt) => read.preceded_by(prompt),
            None => read,
        })
    }

    /// The persons' mask decides what is repainted.
    pub(crate) fn needs_mask(&self) -> bool {
        self.region != Region::All
    }

    /// What decides how the result looks and how long it takes.
    pub(crate) fn in_words(&self, live: bool) -> String {
        let steps = self.steps.unwrap_or(self.preset(live).steps());
        let precision = format!("{:?}", self.precision).to_lowercase();
        let (strength, seed, window) = (self.strength, self.seed, self.window);
        format!("{steps} steps, strength {strength}, seed {seed}, window {window}, precision {precision}")
    }

    /// How pictures of another shape are fitted in. Where the original is seen around the result, all of it takes part.
    pub(super) fn fit(&self) -> Fit {
        let whole = self.region != Region::All || self.output_size == Some(OutputSize::Source);
        self.fit.unwrap_or(if whole { Fit::Contain } else { Fit::Cover })
    }

    /// Refuses what no model can do.
    pub(crate) fn check(&self, has_input: bool) -> Result<()> {
        let wrong = |text: String| Err(Error::Usage(text));
        if let Some((w, h)) = self.size
            && (w % 16 != 0 || h % 16 != 0)
        {
            let near = |n: u32| ((n + 8) / 16 * 16).max(16);
            return wrong(format!(
                "--gen-size {w}x{h}: both sides must be multiples of 16; the nearest is {}x{}",
                near(w),
                near(h)
            ));
        }
        if has_input && self.blocks.is_some() {
            return wrong("--blocks is for text to video; with an input, --duration says how much of it".to_owned());
        }
        if !has_input && self.region != Region::All {
            return wrong("--region needs an input, of which it keeps the rest".to_owned());
        }
        if !has_input && self.output_size == Some(OutputSize::Source) {
            return wrong("--size source needs an input".to_owned());
        }
        Ok(())
    }
}
