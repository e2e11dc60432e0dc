//! A generation: block after block of frames, with everything that it remembers in one value.
//!
//! For each block: the cache is filled with a few clean latents of the past, the prompt moves a
//! step if it is changing, noise or noised input is denoised in a few calls, and the result is
//! decoded (wan-spec 7). Several sessions share one [`Models`] and cannot disturb each other.

mod context;
mod input;
mod prompt;
mod settings;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tch::{Device, Kind, Tensor};

pub use input::Input;
pub use settings::{Compat, Context, SessionSettings, Steps};

use crate::autoencoder::{Decoding, Encoding};
use crate::dit::{DitState, KvBias, PATCH, Window, rope};
use crate::models::Models;
use crate::noise::{NoiseSource, SeededNoise};
use crate::scheduler::Scheduler;
use crate::{Error, Result};
use context::History;
use prompt::Prompt;

/// How far a block is, told before each call of the transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The block's number from 0.
    pub block: u64,
    /// Calls of the transformer done in this block.
    pub done: usize,
    /// Calls of the transformer in this block.
    pub total: usize,
}

/// How long the parts of a block took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Resizing and encoding the input, and re-encoding the oldest context frame.
    pub encode: Duration,
    /// The transformer: context and denoising.
    pub transformer: Duration,
    /// Decoding.
    pub decode: Duration,
}

/// A finished block.
#[derive(Debug)]
pub struct Block {
    /// Its number from 0.
    pub index: u64,
    /// `[1, B, 16, h, w]`, fp32, as the transformer has them.
    pub latents: Tensor,
    /// `[1, T, 3, H, W]`, fp32, in [-1, 1].
    pub pixels: Tensor,
    /// What it took.
    pub timings: Timings,
}

/// One generation and all that it remembers.
pub struct Session {
    models: Arc<Models>,
    settings: SessionSettings,
    noise: Box<dyn NoiseSource>,
    prompt: Prompt,
    dit: DitState,
    history: History,
    encoding: Encoding,
    decoding: Decoding,
    block: u64,
    /// Where the next block's frames are in the cache of rolling contexts.
    position: i64,
    start: Option<Tensor>,
}

impl Session {
    /// A session that draws its noise from `settings.seed`.
    pub fn new(models: Arc<Models>, settings: SessionSettings) -> Result<Self> {
        let noise = Box::new(SeededNoise { seed: settings.seed });
        Self::with_noise(models, settings, noise)
    }

    /// A session with a noise source of its own.
    pub fn with_noise(models: Arc<Models>, settings: SessionSettings, noise: Box<dyn NoiseSource>) -> Result<Self> {
        let (space, _) = models.autoencoder.strides();
        settings.check(space * PATCH)?;
        let window =
            Window { capacity: settings.window + settings.block, sink: settings.context.sink(), attention: None };
        let dit = models.dit.state(window, settings.height / space, settings.width / space)?;
        let (encoding, decoding) =
            (models.autoencoder.encoding(), models.autoencoder.decoding(settings.compat.history()));
        Ok(Session {
            history: History::default(),
            prompt: Prompt::default(),
            block: 0,
            position: 0,
            start: None,
            models,
            settings,
            noise,
            dit,
            encoding,
            decoding,
        })
    }

    /// The settings in force.
    pub fn settings(&self) -> &SessionSettings {
        &self.settings
    }

    /// The number of the next block.
    pub fn next_block(&self) -> u64 {
        self.block
    }

    /// Input frames that the next block takes: 9 for the first of three latents, then 12.
    pub fn frames_needed(&self) -> usize {
        self.models.autoencoder.frames(self.settings.block, self.block == 0) as usize
    }

    /// Changes the prompt to an embedding `[1, rows, text_dim]`. The first prompt is taken at once,
    /// a later one over `steps` blocks, of which the last is wholly new.
    pub fn set_prompt(&mut self, embedding: &Tensor, steps: usize) -> Result<()> {
        let config = self.models.dit.config();
        match embedding.size().as_slice() {
            &[1, rows, width] if rows <= config.text_len && width == config.text_dim => {}
            other => {
                return Err(Error::parameter(format!(
                    "a prompt's embedding of {other:?} does not fit this model's [1, {}, {}]",
                    config.text_len, config.text_dim
                )));
            }
        }
        let padded =
            embedding.f_to_kind(Kind::Float)?.f_constant_pad_nd([0, 0, 0, config.text_len - embedding.size()[1]])?;
        if self.block == 0 {
            // Nothing has been made with the prompt before, so there is nothing to change from.
            self.prompt = Prompt::default();
            self.dit.reset_prompt();
        }
        self.prompt.change(padded, steps, self.settings.compat)
    }

    /// Changes the seed from the next block on.
    pub fn set_seed(&mut self, seed: u64) {
        self.settings.seed = seed;
        self.noise.restart(seed);
    }

    /// Changes the strength in (0, 1] of the input's repainting from the next block on.
    pub fn set_strength(&mut self, strength: f64) -> Result<()> {
        self.change(|settings| settings.strength = strength)
    }

    /// Changes the denoising steps from the next block on.
    pub fn set_steps(&mut self, steps: Steps) -> Result<()> {
        self.change(|settings| settings.steps = steps)
    }

    fn change(&mut self, change: impl FnOnce(&mut SessionSettings)) -> Result<()> {
        let mut changed = self.settings.clone();
        change(&mut changed);
        let (space, _) = self.models.autoencoder.strides();
        changed.check(space * PATCH)?;
        self.settings = changed;
        Ok(())
    }

    /// Lets the video go on from a picture `[1, 1, 3, H', W']` in [-1, 1], which itself is not
    /// emitted. Only before the first block.
    pub fn set_start_frame(&mut self, picture: &Tensor) -> Result<()> {
        if self.block != 0 {
            return Err(Error::parameter("a start frame must be given before the first block"));
        }
        let models = self.models.clone();
        let fitted = self.fitted(picture)?;
        let frames = models.autoencoder.frames(self.settings.window, true);
        let still = fitted.f_narrow(1, 0, 1)?.f_expand([-1, frames, -1, -1, -1], false)?.f_contiguous()?;
        self.start = Some(models.autoencoder.encode(&still, &mut models.autoencoder.encoding())?);
        Ok(())
    }

    /// Forgets all frames: the next block is the first of a new video with the newest prompt.
    pub fn reset(&mut self) {
        self.prompt.settle();
        self.dit.reset_prompt();
        self.dit.reset_frames();
        self.history = History::default();
        self.encoding = self.models.autoencoder.encoding();
        self.decoding = self.models.autoencoder.decoding(self.settings.compat.history());
        self.noise.restart(self.settings.seed);
        self.start = None;
        (self.block, self.position) = (0, 0);
    }

    /// Bytes that this session holds between blocks, without the shared weights.
    pub fn bytes(&self) -> u64 {
        self.dit.bytes() + self.history.bytes() + self.encoding.bytes() + self.decoding.bytes()
    }

    /// Makes the next block. `progress` is called before each call of the transformer and ends the
    /// block with [`Error::Cancelled`] by returning false; a block that failed or was cancelled
    /// can be made again, as if it had never been tried.
    pub fn next(&mut self, input: Input<'_>, progress: &mut dyn FnMut(Progress) -> bool) -> Result<Block> {
        tch::no_grad(|| self.make(input, progress))
    }

    fn make(&mut self, input: Input<'_>, progress: &mut dyn FnMut(Progress) -> bool) -> Result<Block> {
        let models = self.models.clone();
        let settings = self.settings.clone();
        let device = models.dit.placement().device;
        let mut timings = Timings::default();
        let scheduler = Scheduler::new(settings.shift)?;
        let strength = if matches!(input, Input::None) { 1.0 } else { settings.strength };
        let steps = settings.steps.timesteps(&scheduler, strength)?;

        if let (0, Some(start)) = (self.block, &self.start) {
            self.history.begin(start)?;
        }
        let context = match settings.context {
            Context::Recompute => {
                let clock = Instant::now();
                let context = self.history.context(&settings, self.block, &models.autoencoder)?;
                timings.encode += elapsed(clock, device);
                context
            }
            // A window that has come to the end of the model's positions begins anew.
            Context::Rolling { .. } if self.position + settings.block > rope::MAX_POSITION => {
                self.history.newest(settings.window)?
            }
            Context::Rolling { .. } if self.block == 0 => self.history.newest(settings.window)?,
            Context::Rolling { .. } => None,
        };
        let extra = usize::from(context.is_some()) + usize::from(matches!(settings.context, Context::Rolling { .. }));
        let mut report = Reporter { block: self.block, done: 0, total: steps.len() + extra, progress };

        let clock = Instant::now();
        if let Some(context) = &context {
            report.step()?;
            models.dit.recompute(&mut self.dit, context, 0.0, settings.block, self.prompt.current()?)?;
            self.position = context.size()[1];
        }
        timings.transformer += elapsed(clock, device);

        let (prompt, prompt_moves) = self.prompt.upcoming()?;
        if prompt_moves {
            self.dit.reset_prompt();
        }
        let clock = Instant::now();
        let mut encoding = self.encoding.clone();
        let noisy = self.noisy(input, &steps, &mut encoding)?;
        timings.encode += elapsed(clock, device);

        let clock = Instant::now();
        let made = self.denoise(noisy, &steps, &scheduler, &prompt, &mut report);
        let latents = match made {
            Ok(latents) => latents,
            Err(error) => {
                // The prompt has not moved after all; the cache is filled anew by the next try.
                self.dit.reset_prompt();
                return Err(error);
            }
        };
        timings.transformer += elapsed(clock, device);

        let clock = Instant::now();
        let mut decoding = self.decoding.clone();
        let pixels = models.autoencoder.decode(&latents, &mut decoding)?;
        timings.decode += elapsed(clock, device);

        (self.encoding, self.decoding) = (encoding, decoding);
        self.prompt.advance();
        self.history.extend(&latents, &pixels, &settings, &models.autoencoder)?;
        if matches!(settings.context, Context::Rolling { .. }) {
            self.position += settings.block;
        }
        let index = self.block;
        self.block += 1;
        let dropped = if index == 0 { settings.compat.dropped(pixels.size()[1]) } else { 0 };
        let pixels = pixels.f_narrow(1, dropped, pixels.size()[1] - dropped)?;
        Ok(Block { index, latents, pixels, timings })
    }

    /// The denoising calls of one block; x_t and x_0 stay in fp32.
    fn denoise(
        &mut self,
        mut noisy: Tensor,
        steps: &[f64],
        scheduler: &Scheduler,
        prompt: &Tensor,
        report: &mut Reporter<'_>,
    ) -> Result<Tensor> {
        let models = self.models.clone();
        let place = models.dit.placement();
        let start = self.position;
        let bias = Some(KvBias { bias: self.settings.kv_bias, block: self.settings.block });
        let table = self.settings.compat.flow_table(scheduler)?;
        let shape = noisy.size();
        let mut clean = noisy.shallow_clone();
        for (j, &t) in steps.iter().enumerate() {
            report.step()?;
            noisy = self.settings.compat.rounded(&noisy, place.kind)?;
            let each = vec![t; shape[1] as usize];
            let flow = models.dit.denoise(&mut self.dit, &noisy, &each, start, prompt, bias)?;
            clean = self.settings.compat.rounded(&table.clean(&noisy, &flow, &[t])?, place.kind)?;
            if let Some(&next) = steps.get(j + 1) {
                let fresh = self.noise.renoise(self.block, j as u64, &shape)?.f_to_device(place.device)?;
                noisy = scheduler.add_noise(&clean, &fresh, &[next])?;
            }
        }
        if matches!(self.settings.context, Context::Rolling { .. }) {
            // The cache keeps what the finished frames look like, not the noisy ones.
            report.step()?;
            let zeros = vec![0.0; shape[1] as usize];
            let _ = models.dit.denoise(&mut self.dit, &clean, &zeros, start, prompt, bias)?;
        }
        Ok(clean)
    }
}

struct Reporter<'a> {
    block: u64,
    done: usize,
    total: usize,
    progress: &'a mut dyn FnMut(Progress) -> bool,
}

impl Reporter<'_> {
    fn step(&mut self) -> Result<()> {
        let go_on = (self.progress)(Progress { block: self.block, done: self.done, total: self.total });
        self.done += 1;
        if go_on { Ok(()) } else { Err(Error::Cancelled) }
    }
}

/// The time since `clock`, after the device has done what it was told.
fn elapsed(clock: Instant, device: Device) -> Duration {
    if let Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
    clock.elapsed()
}
