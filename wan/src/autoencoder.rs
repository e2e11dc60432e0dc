//! One face for both autoencoders: pixels in [-1, 1] to latents and back, in streams.

use tch::{Kind, Tensor};

use crate::Result;
use crate::taehv::{Taehv, TaehvDecoderState, TaehvEncoderState};
use crate::vae::{DecoderState, EncoderState, TimeHistory, Vae};

/// The autoencoder of a generation.
#[derive(Debug)]
// There is one in a process, so its size does not matter.
#[allow(clippy::large_enum_variant)]
pub enum Autoencoder {
    /// Wan 2.1's own: the best pictures.
    Wan(Vae),
    /// TAEHV: a fraction of the time and the memory.
    Tiny(Taehv),
}

/// What an encoded stream has seen. Cloning it forks the stream.
#[derive(Clone, Debug)]
pub enum Encoding {
    /// Of [`Autoencoder::Wan`].
    Wan(EncoderState),
    /// Of [`Autoencoder::Tiny`], and whether it has started.
    Tiny(TaehvEncoderState, bool),
}

/// What a decoded stream has seen. Cloning it forks the stream.
#[derive(Clone, Debug)]
pub enum Decoding {
    /// Of [`Autoencoder::Wan`].
    Wan(DecoderState),
    /// Of [`Autoencoder::Tiny`].
    Tiny(TaehvDecoderState),
}

impl Autoencoder {
    /// The start of a stream of pixels.
    pub fn encoding(&self) -> Encoding {
        match self {
            Autoencoder::Wan(_) => Encoding::Wan(EncoderState::new()),
            Autoencoder::Tiny(_) => Encoding::Tiny(TaehvEncoderState::new(), false),
        }
    }

    /// The start of a stream of latents.
    pub fn decoding(&self, history: TimeHistory) -> Decoding {
        match self {
            Autoencoder::Wan(_) => Decoding::Wan(DecoderState::new(history)),
            Autoencoder::Tiny(_) => Decoding::Tiny(TaehvDecoderState::new()),
        }
    }

    /// Pixels to a side of a latent, and frames to every latent after the first.
    pub fn strides(&self) -> (i64, i64) {
        match self {
            Autoencoder::Wan(vae) => vae.strides(),
            Autoencoder::Tiny(taehv) => taehv.strides(),
        }
    }

    /// Frames that `latents` latents stand for, at the start of a stream or later in it.
    pub fn frames(&self, latents: i64, at_start: bool) -> i64 {
        let (_, time) = self.strides();
        if at_start { 1 + (latents - 1) * time } else { latents * time }
    }

    /// Encodes the next frames `[1, T, 3, H, W]` in [-1, 1] of a stream to fp32 latents.
    pub fn encode(&self, pixels: &Tensor, state: &mut Encoding) -> Result<Tensor> {
        match (self, state) {
            (Autoencoder::Wan(vae), Encoding::Wan(state)) => vae.encode(pixels, state),
            (Autoencoder::Tiny(taehv), Encoding::Tiny(state, started)) => {
                let mut pixels = pixels.f_to_kind(Kind::Float)?.f_mul_scalar(0.5)?.f_add_scalar(0.5)?;
                if !std::mem::replace(started, true) {
                    // Every latent takes four frames, the first one too: its picture stands still.
                    let (_, time) = taehv.strides();
                    let still = pixels.f_narrow(1, 0, 1)?.f_expand([-1, time - 1, -1, -1, -1], false)?;
                    pixels = Tensor::f_cat(&[still, pixels], 1)?;
                }
                Ok(taehv.encode(&pixels, state)?.f_to_kind(Kind::Float)?)
            }
            _ => Err(mismatch()),
        }
    }

    /// Decodes the next latents of a stream to fp32 frames `[1, T, 3, 8h, 8w]` in [-1, 1].
    pub fn decode(&self, latents: &Tensor, state: &mut Decoding) -> Result<Tensor> {
        match (self, state) {
            (Autoencoder::Wan(vae), Decoding::Wan(state)) => Ok(vae.decode(latents, state)?.f_to_kind(Kind::Float)?),
            (Autoencoder::Tiny(taehv), Decoding::Tiny(state)) => {
                let pixels = taehv.decode(latents, state)?.f_to_kind(Kind::Float)?;
                Ok(pixels.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?)
            }
            _ => Err(mismatch()),
        }
    }
}

fn mismatch() -> crate::Error {
    crate::Error::parameter("this stream belongs to another autoencoder")
}

impl Encoding {
    /// Bytes held between calls.
    pub fn bytes(&self) -> u64 {
        match self {
            Encoding::Wan(state) => state.bytes() as u64,
            Encoding::Tiny(state, _) => state.bytes() as u64,
        }
    }
}

impl Decoding {
    /// Bytes held between calls.
    pub fn bytes(&self) -> u64 {
        match self {
            Decoding::Wan(state) => state.bytes() as u64,
            Decoding::Tiny(state) => state.bytes() as u64,
        }
    }
}
