//! The flags of `krea run` that say how the video is repainted.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use crate::error::{Error, Result};
use crate::generate::{Autoencoder, Compat, Fit, Precision, Preset, Region, Settings, Timeline};
use crate::settings::parse;

/// What a streaming Wan 2.1 model makes of the video.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Repainting", group = ArgGroup::new("script").args(["prompt", "prompt_file"]).multiple(true))]
pub(super) struct GenerationArgs {
    /// Repaint the video as these words say; without an input, make a video of them alone
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,

    /// Prompts and when each begins: lines such as `00:12 oil painting, fade 1s`; times are the source's. Read again when it
    /// changes
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,

    /// Refused: these models have no negative prompt
    #[arg(long, value_name = "TEXT", hide = true)]
    negative: Option<String>,

    /// A model's name (`krea models list`) or the folder of its files; by default the largest that is on this machine
    #[arg(long, value_name = "NAME|DIR", env = "KREA_MODEL")]
    model: Option<String>,

    /// Size, steps and autoencoder in one word [default: quality, or live for live video]
    #[arg(long, value_name = "NAME", env = "KREA_PRESET_GEN")]
    preset_gen: Option<Preset>,

    /// Size that the model paints at, both sides multiples of 16
    #[arg(long, value_name = "WxH", value_parser = parse::whole_size)]
    gen_size: Option<(u32, u32)>,

    /// What becomes of pictures of another shape [default: cover, or contain where the original is seen around it]
    #[arg(long, value_name = "HOW")]
    fit: Option<Fit>,

    /// Repaint all of the picture, or only one part of it
    #[arg(long, value_name = "PART", default_value = "all", requires = "script")]
    region: Region,

    /// Repaint every frame, instead of the 16 a second that the model was made for
    #[arg(long, requires = "script")]
    keep_fps: bool,

    /// Begin anew where a scene is cut [default: true, or false for live video]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    reset_on_cut: Option<bool>,

    /// How much is repainted: 0 leaves nearly everything, 1 leaves nothing
    #[arg(long, value_name = "0..1", default_value_t = 0.7, value_parser = strength, requires = "script")]
    strength: f64,

    /// Calls of the transformer for each block
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100), requires = "script")]
    steps: Option<u32>,

    /// What the noise is made from; the same number gives the same video
    #[arg(long, value_name = "N", default_value_t = 0, requires = "script")]
    seed: u64,

    /// Timestep shift: higher spends more steps on the large forms
    #[arg(long, value_name = "X", default_value_t = 5.0, value_parser = shift)]
    shift: f64,

    /// Latent frames of the past that a block sees
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    window: u32,

    /// Length of a video that is made without an input: 9 frames, then 12 for each further block
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), requires = "script")]
    blocks: Option<u32>,

    /// A picture that the video goes on from
    #[arg(long, value_name = "FILE", requires = "script")]
    start_image: Option<PathBuf>,

    /// Blocks over which a changed prompt is blended in
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    interp: u32,

    /// Between pictures and latents: Wan's own VAE, or TAEHV, which is much faster and a little softer
    #[arg(long, value_name = "NAME")]
    vae: Option<Autoencoder>,

    /// What the transformer computes in; fp8 halves its memory
    #[arg(long, value_name = "NAME", default_value = "auto")]
    precision: Precision,

    /// Keep the quirks of another program, to compare with it
    #[arg(long, value_name = "PROGRAM", requires = "script")]
    compat: Option<Compat>,

    /// Never fetch a model: end with exit code 4 and say what to type
    #[arg(long)]
    offline: bool,

    /// Say what would be done, with which sizes, devices and memory, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

fn strength(text: &str) -> Result<f64, String> {
    let value = parse::fraction(text)?;
    if value > 0.0 { Ok(text.parse().unwrap_or(f64::from(value))) } else { Err("0 would repaint nothing".to_owned()) }
}

fn shift(text: &str) -> Result<f64, String> {
    let valid = |v: &f64| (1.0..=100.0).contains(v);
    text.parse().ok().filter(valid).ok_or_else(|| format!("'{text}' is not a number from 1 to 100"))
}

impl GenerationArgs {
    /// `None` where nothing is to be repainted.
    pub(super) fn settings(self) -> Result<Option<Settings>> {
        if self.negative.is_some() {
            return Err(Error::Usage(
                "--negative: these models are distilled to work without guidance: each step calls the model once, with the \
                 prompt, and there is nothing that a negative prompt could be held against. Say in --prompt what you want \
                 instead"
                    .to_owned(),
            ));
        }
        let timeline = match (&self.prompt, &self.prompt_file) {
            (None, None) => return Ok(None),
            (Some(prompt), None) => Timeline::constant(prompt),
            (prompt, Some(path)) => Settings::timeline_of(path, prompt.as_deref())?,
        };
        Ok(Some(Settings {
            prompt_file: self.prompt_file,
            prompt: self.prompt,
            model: self.model,
            preset: self.preset_gen,
            size: self.gen_size,
            fit: self.fit,
            region: self.region,
            keep_fps: self.keep_fps,
            reset_on_cut: self.reset_on_cut,
            strength: self.strength,
            steps: self.steps,
            seed: self.seed,
            shift: self.shift,
            window: self.window,
            blocks: self.blocks,
            start_image: self.start_image,
            blend: self.interp,
            autoencoder: self.vae,
            precision: self.precision,
            compat: self.compat,
            offline: self.offline,
            ..Settings::of(timeline)
        }))
    }
}
