//! All networks of a generation, opened from their files.

use std::path::PathBuf;

use tch::{Device, Kind, Tensor};

use crate::autoencoder::Autoencoder;
use crate::device::Choice;
use crate::dit::{Dit, DitOptions};
use crate::taehv::Taehv;
use crate::text::{Tokenizer, Umt5, Umt5Constants, clean_prompt};
use crate::vae::Vae;
use crate::weights::{Layout, Placement, Weights};
use crate::{Error, Result};

/// Where the weights are: files, sharded indices or folders.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFiles {
    /// The transformer.
    pub dit: PathBuf,
    /// Wan's autoencoder, or none if `taehv` is given.
    pub vae: Option<PathBuf>,
    /// TAEHV, which takes the place of the autoencoder.
    pub taehv: Option<PathBuf>,
    /// The UMT5 encoder; without it prompts must come as embeddings.
    pub text: Option<PathBuf>,
    /// Its `tokenizer.json`.
    pub tokenizer: Option<PathBuf>,
}

/// How the networks are kept.
#[derive(Clone, Copy, Debug)]
pub struct Placing {
    /// Device and precisions.
    pub choice: Choice,
    /// Whether the text encoder stays in the main memory.
    pub text_on_cpu: bool,
    /// What the shapes of the transformer do not tell.
    pub dit: DitOptions,
}

/// Prompts to embeddings.
#[derive(Debug)]
pub struct TextEncoder {
    tokenizer: Tokenizer,
    umt5: Umt5,
}

impl TextEncoder {
    /// Cleans, tokenizes and embeds a prompt: `[1, length, dim]`, zeros past the prompt.
    pub fn embed(&self, prompt: &str, length: usize) -> Result<Tensor> {
        let tokens = self.tokenizer.encode(&clean_prompt(prompt), length)?;
        self.umt5.encode(&tokens, length)
    }
}

/// The weights that sessions share; they never change after loading.
#[derive(Debug)]
pub struct Models {
    /// The transformer.
    pub dit: Dit,
    /// The autoencoder.
    pub autoencoder: Autoencoder,
    /// The text encoder, if there is one.
    pub text: Option<TextEncoder>,
}

impl Models {
    /// Opens all networks. What is cheap to check is checked before the transformer is loaded.
    pub fn open(files: &ModelFiles, placing: Placing) -> Result<Self> {
        let Choice { device, transformer, autoencoder } = placing.choice;
        let place = Placement { device, kind: transformer };
        let small = Placement { device, kind: autoencoder };
        let autoencoder = match (&files.taehv, &files.vae) {
            (Some(path), _) => Autoencoder::Tiny(Taehv::load(Weights::open(path, Layout::Taehv)?, small)?),
            (None, Some(path)) => Autoencoder::Wan(Vae::load(Weights::open(path, Layout::Vae)?, small)?),
            (None, None) => {
                return Err(Error::parameter("neither an autoencoder nor a TAEHV is given"));
            }
        };
        let text = match (&files.text, &files.tokenizer) {
            (Some(weights), Some(tokenizer)) => {
                let tokenizer = Tokenizer::open(tokenizer)?;
                // fp16 overflows in this network, so it is bf16 or fp32.
                let kind = if transformer == Kind::Half { Kind::BFloat16 } else { transformer };
                let place = Placement { device: if placing.text_on_cpu { Device::Cpu } else { device }, kind };
                let umt5 =
                    Umt5::load(Weights::open(weights, Layout::Umt5)?, place, Device::Cpu, Umt5Constants::default())?;
                Some(TextEncoder { tokenizer, umt5 })
            }
            (Some(_), None) => {
                return Err(Error::parameter("the text encoder needs its tokenizer.json beside it"));
            }
            (None, _) => None,
        };
        let dit = Dit::load(Weights::open(&files.dit, Layout::Dit)?, placing.dit, place)?;
        if let Some(text) = &text
            && text.umt5.dim() != dit.config().text_dim
        {
            return Err(Error::parameter(format!(
                "the text encoder gives {} channels, the transformer takes {}",
                text.umt5.dim(),
                dit.config().text_dim
            )));
        }
        Ok(Models { dit, autoencoder, text })
    }

    /// The embedding of a prompt for this transformer.
    pub fn embed(&self, prompt: &str) -> Result<Tensor> {
        let text =
            self.text.as_ref().ok_or_else(|| Error::parameter("these models were opened without a text encoder"))?;
        text.embed(prompt, self.dit.config().text_len as usize)
    }
}
