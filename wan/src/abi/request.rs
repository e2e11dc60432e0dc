//! What the host asks for, as JSON: unknown fields are refused, missing ones have their defaults.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::device::{Choice, Precision};
use crate::dit::DitOptions;
use crate::models::{ModelFiles, Models, Placing};
use crate::noise::{ReferenceDraw, ReferenceNoise};
use crate::session::{Compat, Context, Session, SessionSettings, Steps};
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
        let models = Models::open(&self.files, Placing { choice, text_on_cpu: self.text_on_cpu, dit })?;
        Ok((models, choice.to_string()))
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
