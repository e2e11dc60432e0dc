//! The tiny models of the parity folder, small enough for a session in a moment.

use std::path::PathBuf;
use std::sync::Arc;

use krea_wan::autoencoder::Autoencoder;
use krea_wan::dit::{Dit, DitOptions};
use krea_wan::models::Models;
use krea_wan::session::{Session, SessionSettings, Steps};
use krea_wan::taehv::Taehv;
use krea_wan::vae::Vae;
use krea_wan::weights::{Layout, Placement, Weights};
use tch::{Device, Kind, Tensor};

/// What the shapes of the tiny transformer do not tell.
pub(crate) const OPTIONS: DitOptions = DitOptions { heads: Some(2), text_len: Some(16), fp8: false };
/// Rows and columns of its prompts' embeddings.
pub(crate) const PROMPT: [i64; 3] = [1, 16, 48];

pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parity/data").join(name)
}

pub(crate) fn dit(kind: Kind) -> Dit {
    let weights = Weights::open(path("dit_krea_prefixed.safetensors"), Layout::Dit).unwrap();
    Dit::load(weights, OPTIONS, Placement { device: Device::Cpu, kind }).unwrap()
}

pub(crate) fn models(tiny_autoencoder: bool) -> Arc<Models> {
    // More threads than cores make tiny tensors slow, not fast.
    tch::set_num_threads(1);
    let autoencoder = if tiny_autoencoder {
        let weights = Weights::open(path("taehv_weights.safetensors"), Layout::Taehv).unwrap();
        Autoencoder::Tiny(Taehv::load(weights, Placement::CPU_F32).unwrap())
    } else {
        let weights = Weights::open(path("vae_original_wan.safetensors"), Layout::Vae).unwrap();
        Autoencoder::Wan(Vae::load(weights, Placement::CPU_F32).unwrap())
    };
    Arc::new(Models { dit: dit(Kind::Float), autoencoder, text: None })
}

pub(crate) fn settings(seed: u64) -> SessionSettings {
    SessionSettings { steps: Steps::Count(3), seed, ..SessionSettings::new(32, 48) }
}

/// A prompt's embedding as a function of a number.
pub(crate) fn prompt(number: i64) -> Tensor {
    let line = Tensor::arange(PROMPT[1] * PROMPT[2], (Kind::Float, Device::Cpu));
    (line * (0.37 + number as f64)).sin().view(PROMPT)
}

pub(crate) fn session(models: &Arc<Models>, seed: u64) -> Session {
    let mut session = Session::new(models.clone(), settings(seed)).unwrap();
    session.set_prompt(&prompt(seed as i64), 1).unwrap();
    session
}

/// Moving frames `[1, count, 3, height, width]` in [-1, 1].
pub(crate) fn frames(count: i64, height: i64, width: i64) -> Tensor {
    let line = Tensor::arange(count * 3 * height * width, (Kind::Float, Device::Cpu));
    (line * 0.0137).sin().view([1, count, 3, height, width])
}
