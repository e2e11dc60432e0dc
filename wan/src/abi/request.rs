//! What the host asks for, as JSON: unknown fields are refused, missing ones have their defaults.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use tch::{Device, Kind};

use crate::device::{Choice, Precision};
use crate::dit::{DitConfig, DitOptions};
use crate::memory::{AutoencoderPlan, Plan, Request, TextSize, free};
use crate::models::{ModelFiles, Models, Placing};
use crate::noise::{ReferenceDraw, ReferenceNoise};
use crate::session::{Compat, Context, Session, SessionSettings, Steps};
use crate::vae::VaeSize;
use crate::weights::{Layout, Weights};
use crate::{Error, Result};

pub(super) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|e| Error::parameter(format!("a request that cannot be read: {e}")))
}

/// `{"files": {"dit": "..", "vae": "..", "text": "..", "tokenizer": ".."}, "device": "auto", ..}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelsRequest {
    files: ModelFiles,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    #[serde(default = "auto")]
    device: String,
    /// `auto`, `fp32`, `bf16` or `fp16`.
    #[serde(default = "auto")]
    precision: String,
    /// Keep the transformer's matrices as fp8.
    #[serde(default)]
    fp8: bool,
    #[serde(default)]
    text_on_cpu: bool,
    /// Threads of the CPU; libtorch's own choice by default.
    threads: Option<i32>,
    /// For models of unpublished sizes.
    heads: Option<i64>,
    text_len: Option<i64>,
    /// What is going to be generated: the models are refused if there is no memory for it.
    fit: Option<Fit>,
}

/// `{"width": 832, "height": 480}`, and what else the memory depends on.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fit {
    width: u64,
    height: u64,
    block: Option<u64>,
    window: Option<u64>,
    #[serde(default)]
    input: bool,
    sessions: Option<u64>,
}

fn auto() -> String {
    "auto".into()
}

impl ModelsRequest {
    pub(super) fn open(self) -> Result<(Models, String)> {
        if let Some(threads) = self.threads {
            if threads < 1 {
                return Err(Error::parameter(format!("{threads} threads are too few")));
            }
            tch::set_num_threads(threads);
        }
        let choice = Choice::new(&self.device, self.precision.parse::<Precision>()?)?;
        let dit = DitOptions { heads: self.heads, text_len: self.text_len, fp8: self.fp8 };
        if self.fit.is_some() {
            let (plan, free) = self.plan_for(choice, dit)?;
            if let Some(free) = free.filter(|&free| free < plan.total()) {
                return Err(Error::Memory(format!(
                    "not enough memory on {choice}: {plan} are needed and {:.2} GB are free; smaller frames{}{} take less",
                    free as f64 / 1e9,
                    if self.fp8 { "" } else { ", fp8 weights" },
                    if self.text_on_cpu || self.files.text.is_none() { "" } else { ", a text encoder on the CPU" }
                )));
            }
        }
        let models = Models::open(&self.files, Placing { choice, text_on_cpu: self.text_on_cpu, dit })?;
        Ok((models, choice.to_string()))
    }
}

impl ModelsRequest {
    /// What the models and sessions of `fit` take, by the headers of the files alone, and what is
    /// free on their device.
    pub(super) fn plan(&self) -> Result<(Plan, Option<u64>)> {
        let choice = Choice::new(&self.device, self.precision.parse::<Precision>()?)?;
        self.plan_for(choice, DitOptions { heads: self.heads, text_len: self.text_len, fp8: self.fp8 })
    }

    fn vae_size(&self) -> Result<VaeSize> {
        self.files.vae.as_ref().map_or(Ok(VaeSize::WAN_2_1), |path| VaeSize::read(&Weights::open(path, Layout::Vae)?))
    }

    fn plan_for(&self, choice: Choice, options: DitOptions) -> Result<(Plan, Option<u64>)> {
        let fit = self.fit.ok_or_else(|| Error::parameter("a plan needs a size to fit"))?;
        let weights = Weights::open(&self.files.dit, Layout::Dit)?;
        let dit = DitConfig::from_weights(&weights, options)?;
        let fp8 =
            options.fp8 || matches!(weights.kind("blocks.0.ffn.0.weight"), Some(Kind::Float8e4m3fn | Kind::Float8e5m2));
        let autoencoder = match &self.files.taehv {
            Some(_) => AutoencoderPlan::Tiny(choice.autoencoder),
            None => AutoencoderPlan::Wan(self.vae_size()?, choice.autoencoder),
        };
        // The CPU has no other place to put it.
        let on_device = !self.text_on_cpu || choice.device == Device::Cpu;
        let text_kind = if choice.transformer == Kind::Float { Kind::Float } else { Kind::BFloat16 };
        let text = self.files.text.as_ref().filter(|_| on_device).map(TextSize::read).transpose()?;
        let plan = Plan::new(&Request {
            dit,
            stored: if fp8 { Kind::Float8e4m3fn } else { choice.transformer },
            compute: choice.transformer,
            autoencoder,
            text: text.map(|size| (size, text_kind)),
            embedding_elsewhere: choice.device != Device::Cpu,
            width: fit.width,
            height: fit.height,
            block: fit.block.unwrap_or(3),
            window: fit.window.unwrap_or(3),
            input: fit.input,
            sessions: fit.sessions.unwrap_or(1),
            on_cpu: choice.device == Device::Cpu,
        });
        Ok((plan, free(choice.device)))
    }
}

/// `{"width": 832, "height": 480, "seed": 1, ..}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionRequest {
    width: i64,
    height: i64,
    block: Option<i64>,
    window: Option<i64>,
    steps: Option<usize>,
    /// Own timesteps in the place of `steps`.
    timesteps: Option<Vec<f64>>,
    shift: Option<f64>,
    strength: Option<f64>,
    seed: Option<u64>,
    keep_first_frame: Option<bool>,
    kv_bias: Option<f64>,
    /// Roll the cache with so many pinned frames instead of filling it anew for each block.
    rolling_sink: Option<i64>,
    /// Keep the reference's quirks.
    #[serde(default)]
    compat_krea: bool,
    /// The reference's order of drawing noise.
    reference_noise: Option<ReferenceNoiseRequest>,
}

/// `"live"`, `{"text": blocks}` or `{"video": [blocks, latent frames]}`.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ReferenceNoiseRequest {
    Text(i64),
    Video(i64, i64),
    Live,
}

impl SessionRequest {
    pub(super) fn settings(&self) -> Result<SessionSettings> {
        let default = SessionSettings::new(self.width, self.height);
        let steps = match (&self.timesteps, self.steps) {
            (Some(_), Some(_)) => {
                return Err(Error::parameter("steps and timesteps exclude each other"));
            }
            (Some(list), None) => Steps::Timesteps(list.clone()),
            (None, Some(count)) => Steps::Count(count),
            (None, None) => default.steps,
        };
        Ok(SessionSettings {
            block: self.block.unwrap_or(default.block),
            window: self.window.unwrap_or(default.window),
            steps,
            shift: self.shift.unwrap_or(default.shift),
            strength: self.strength.unwrap_or(default.strength),
            seed: self.seed.unwrap_or(default.seed),
            keep_first_frame: self.keep_first_frame.unwrap_or(default.keep_first_frame),
            kv_bias: self.kv_bias.unwrap_or(default.kv_bias),
            context: self.rolling_sink.map_or(Context::Recompute, |sink| Context::Rolling { sink }),
            compat: if self.compat_krea { Compat::Krea } else { Compat::Corrected },
            ..default
        })
    }

    pub(super) fn reference_noise(&self, models: &Models) -> Option<ReferenceNoise> {
        let block = self.block.unwrap_or(3);
        let draw = match self.reference_noise? {
            ReferenceNoiseRequest::Text(blocks) => ReferenceDraw::Text(blocks * block),
            ReferenceNoiseRequest::Video(blocks, latents) => ReferenceDraw::Video(blocks * block, latents),
            ReferenceNoiseRequest::Live => ReferenceDraw::Live,
        };
        let place = models.dit.placement();
        Some(ReferenceNoise::new(self.seed.unwrap_or(0), place.device, place.kind, draw))
    }
}

/// `{"seed": 2, "strength": 0.5, "steps": 4}`, each optional.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    seed: Option<u64>,
    strength: Option<f64>,
    steps: Option<usize>,
}

impl Change {
    pub(super) fn apply(self, session: &mut Session) -> Result<()> {
        if let Some(strength) = self.strength {
            session.set_strength(strength)?;
        }
        if let Some(steps) = self.steps {
            session.set_steps(Steps::Count(steps))?;
        }
        if let Some(seed) = self.seed {
            session.set_seed(seed);
        }
        Ok(())
    }
}
