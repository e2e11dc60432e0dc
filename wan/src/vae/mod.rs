//! The Wan 2.1 causal video autoencoder (`Wan2.1_VAE.pth`, diffusers' `AutoencoderKLWan`).
//!
//! The first frame of a stream is one latent, every further four frames are one more, at an eighth
//! of the width and height. All convolutions over time look back only; what they need of the past
//! is in an [`EncoderState`] or a [`DecoderState`] that belongs to the caller, so one [`Vae`] serves
//! any number of streams, and a stream in pieces gives what it gives in one go.
//!
//! Every size (channels, stages, residual blocks) is read from the weights, so that pruned
//! checkpoints of the same family load as well.

mod decoder;
mod encoder;
mod layers;
mod size;

use tch::{Device, Kind, Tensor};

use crate::weights::{Placement, Weights};
use crate::{Error, Result};
use decoder::Decoder;
use encoder::Encoder;
use layers::{Caches, Loader, PixelLinear, activation, frames};
pub use size::VaeSize;

/// Mean of each latent channel over the training data, in the encoder's own scale.
pub const LATENT_MEAN: [f64; 16] = [
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517, -0.3632, -0.1922,
    -0.9497, 0.2503, -0.2921,
];

/// Standard deviation of each latent channel, likewise.
pub const LATENT_STD: [f64; 16] = [
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253,
    2.8251, 1.9160,
];

/// What the decoder's first time upsampling takes for the frame before the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeHistory {
    /// The frame before, as the weights were trained and as upstream Wan 2.1 and diffusers do.
    #[default]
    Upstream,
    /// The present frame once more, as krea's decoder does from the fourth latent on.
    Krea,
}

/// What one encoded stream has seen so far. Cloning it forks the stream.
#[derive(Debug, Default, Clone)]
pub struct EncoderState {
    caches: Caches,
    started: bool,
}

impl EncoderState {
    /// The start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes held between calls.
    pub fn bytes(&self) -> usize {
        self.caches.bytes()
    }
}

/// What one decoded stream has seen so far. Cloning it forks the stream.
#[derive(Debug, Default, Clone)]
pub struct DecoderState {
    caches: Caches,
    started: bool,
    history: TimeHistory,
}

impl DecoderState {
    /// The start of a stream.
    pub fn new(history: TimeHistory) -> Self {
        DecoderState { history, ..Self::default() }
    }

    /// Bytes held between calls.
    pub fn bytes(&self) -> usize {
        self.caches.bytes()
    }
}

/// Encoder and decoder with their weights. Neither changes after loading.
#[derive(Debug)]
pub struct Vae {
    encoder: Encoder,
    to_moments: PixelLinear,
    from_latent: PixelLinear,
    decoder: Decoder,
    mean: Tensor,
    std: Tensor,
    device: Device,
    kind: Kind,
}

impl Vae {
    /// Builds both networks from weights opened as `Layout::Vae`.
    pub fn load(mut weights: Weights, place: Placement) -> Result<Self> {
        // Encoder and decoder each count their own places in a state.
        let encoder = Encoder::load(&mut Loader::new(&mut weights, place))?;
        let decoder = Decoder::load(&mut Loader::new(&mut weights, place))?;
        let loader = &mut Loader::new(&mut weights, place);
        let to_moments = PixelLinear::load(loader, "conv1")?;
        let from_latent = PixelLinear::load(loader, "conv2")?;
        let channels = from_latent.inputs();
        if channels != LATENT_MEAN.len() as i64 || to_moments.outputs() != 2 * channels {
            return Err(loader.error(format!("latents of {channels} channels, expected {}", LATENT_MEAN.len())));
        }
        weights.finish()?;
        let Placement { device, kind } = place;
        let vector = |values: &[f64]| Tensor::from_slice(values).to_kind(Kind::Float).to_device(device);
        Ok(Vae {
            encoder,
            to_moments,
            from_latent,
            decoder,
            mean: vector(&LATENT_MEAN),
            std: vector(&LATENT_STD),
            device,
            kind,
        })
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The precision of the weights, in which the networks compute.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Pixels to a side of a latent, and frames to a latent after the first: (8, 4) for Wan 2.1.
    pub fn strides(&self) -> (i64, i64) {
        self.encoder.strides()
    }

    /// Encodes the next frames of a stream.
    ///
    /// `pixels [1, T, 3, H, W]` in [-1, 1], H and W multiples of 8, of any precision. At the start
    /// of a stream T = 1 + 4n gives n + 1 latents, later T = 4n gives n; frames over that are not
    /// looked at. Returns `[1, F, 16, H/8, W/8]` in float32, normalised as the transformer has it.
    pub fn encode(&self, pixels: &Tensor, state: &mut EncoderState) -> Result<Tensor> {
        let [_, total, _, h, w] = video_sizes(pixels, 3)?;
        let (space, time) = self.strides();
        if h % space != 0 || w % space != 0 {
            return Err(Error::parameter(format!(
                "frames of {w}x{h} cannot be encoded: both sides must be multiples of {space}"
            )));
        }
        let mut at = 0;
        let mut latents = Vec::new();
        tch::no_grad(|| {
            loop {
                let length = if state.started { time } else { 1 };
                if at + length > total {
                    break;
                }
                let chunk = pixels.narrow(1, at, length).to_device(self.device);
                let chunk = activation(&chunk, self.kind);
                let moments = self.encoder.forward(&chunk, &mut state.caches)?;
                let mu = self.to_moments.forward(&moments).narrow(-1, 0, LATENT_MEAN.len() as i64).to_kind(Kind::Float);
                latents.push((mu - &self.mean) / &self.std);
                state.started = true;
                at += length;
            }
            if latents.is_empty() {
                return Err(Error::parameter(format!(
                    "{total} frames are too few to encode: the next latent takes {time}"
                )));
            }
            Ok(frames(&Tensor::cat(&latents, 0)).contiguous())
        })
    }

    /// Encodes one picture by itself: `pixels [1, 1, 3, H, W]` to `[1, 1, 16, H/8, W/8]`.
    pub fn encode_image(&self, pixels: &Tensor) -> Result<Tensor> {
        self.encode(pixels, &mut EncoderState::new())
    }

    /// Decodes the next latents of a stream.
    ///
    /// `latents [1, F, 16, h, w]`, of any precision, normalised as the transformer has them. The
    /// first latent of a stream gives one frame, every other four. Returns `[1, T, 3, 8h, 8w]` in
    /// [-1, 1] and in this model's precision.
    pub fn decode(&self, latents: &Tensor, state: &mut DecoderState) -> Result<Tensor> {
        let [_, total, ..] = video_sizes(latents, LATENT_MEAN.len() as i64)?;
        tch::no_grad(|| {
            let z = activation(&latents.to_device(self.device), Kind::Float);
            let z = (z * &self.std + &self.mean).to_kind(self.kind);
            let z = self.from_latent.forward(&z);
            let mut pixels = Vec::new();
            for at in 0..total {
                let x = self.decoder.forward(&z.narrow(0, at, 1), !state.started, state.history, &mut state.caches)?;
                pixels.push(x.clamp(-1.0, 1.0));
                state.started = true;
            }
            Ok(frames(&Tensor::cat(&pixels, 0)).contiguous())
        })
    }
}

/// The five sizes of a video tensor, checked to hold one video of so many channels.
fn video_sizes(x: &Tensor, channels: i64) -> Result<[i64; 5]> {
    let size = x.size();
    match <[i64; 5]>::try_from(size.as_slice()) {
        Ok(sizes) if sizes[0] == 1 && sizes[2] == channels && sizes[1] > 0 => Ok(sizes),
        _ => Err(Error::parameter(format!(
            "a tensor of shape {size:?} is not one video [1, frames, {channels}, height, width]"
        ))),
    }
}
