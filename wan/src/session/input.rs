//! What a block starts from: noise, or frames that are encoded and noised.

use tch::{Kind, Tensor};

use super::Session;
use crate::autoencoder::Encoding;
use crate::preprocess::{resample_indices, resize_bicubic};
use crate::{Error, Result};

/// What a block is made from.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Noise only: text to video.
    None,
    /// Frames `[1, T, 3, H', W']` in [-1, 1] of any size, exactly as many as
    /// [`Session::frames_needed`] says: video to video.
    Video(&'a Tensor),
    /// All frames that have come since the last block, at least as many as needed; they are
    /// resampled evenly, so that a slow generation stays at the present: live.
    Live(&'a Tensor),
}

impl Session {
    /// What denoising starts from: noise, or the encoded input mixed with it.
    pub(super) fn noisy(&mut self, input: Input<'_>, steps: &[f64], encoding: &mut Encoding) -> Result<Tensor> {
        let device = self.models.dit.placement().device;
        let settings = &self.settings;
        let (space, _) = self.models.autoencoder.strides();
        let channels = self.models.dit.config().channels;
        let shape = [1, settings.block, channels, settings.height / space, settings.width / space];
        let before = match &self.start {
            Some(_) => settings.window,
            None => 0,
        };
        let latent = before + self.block as i64 * settings.block;
        let noise = self.noise.input(self.block, latent, &shape)?.f_to_device(device)?;
        let needed = self.frames_needed();
        let frames = match input {
            Input::None => return Ok(noise),
            Input::Video(frames) if frames.size().get(1) == Some(&(needed as i64)) => frames.shallow_clone(),
            Input::Live(frames) if frames.size().get(1).is_some_and(|&have| have >= needed as i64) => {
                let have = frames.size()[1] as usize;
                let indices: Vec<i64> = resample_indices(have, needed).into_iter().map(|i| i as i64).collect();
                frames.f_index_select(1, &Tensor::f_from_slice(&indices)?.f_to_device(frames.device())?)?
            }
            Input::Video(frames) | Input::Live(frames) => {
                return Err(Error::parameter(format!(
                    "block {} takes {needed} frames, not {:?}",
                    self.block,
                    frames.size().get(1)
                )));
            }
        };
        let clean = self.models.autoencoder.encode(&self.fitted(&frames)?, encoding)?.f_to_device(device)?;
        let sigma = steps.first().copied().unwrap_or(1000.0) / 1000.0;
        let kept = clean.f_mul_scalar(1.0 - sigma)?;
        Ok(kept.f_add(&noise.f_mul_scalar(sigma)?)?)
    }

    /// Frames `[1, T, 3, H', W']` stretched to this session's size.
    pub(super) fn fitted(&self, frames: &Tensor) -> Result<Tensor> {
        match frames.size().as_slice() {
            &[1, count, 3, _, _] if count > 0 => {}
            other => {
                return Err(Error::parameter(format!("frames of the shape {other:?} are not [1, T, 3, H, W]")));
            }
        }
        let frames = frames.f_to_device(self.models.dit.placement().device)?.f_to_kind(Kind::Float)?;
        Ok(resize_bicubic(&frames, self.settings.height, self.settings.width))
    }
}
