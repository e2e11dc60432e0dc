//! What a session remembers of its frames, and the clean context made from it.

use tch::Tensor;

use super::SessionSettings;
use crate::Result;
use crate::autoencoder::Autoencoder;

/// The first latent, the newest latents and the newest decoded frames.
#[derive(Debug, Default)]
pub(super) struct History {
    /// `[1, 1, 16, h, w]`.
    first: Option<Tensor>,
    /// At most a window of latents `[1, <= n, 16, h, w]`.
    latents: Option<Tensor>,
    /// At most `1 + 4 (n - 1)` frames `[1, .., 3, H, W]`.
    pixels: Option<Tensor>,
}

impl History {
    /// Begins with the latents of a start frame.
    pub(super) fn begin(&mut self, latents: &Tensor) -> Result<()> {
        self.first = Some(latents.f_narrow(1, 0, 1)?);
        self.latents = Some(latents.shallow_clone());
        Ok(())
    }

    /// The clean latents for the next block, at most a window of them; `None` if there are none.
    ///
    /// The model and the autoencoder expect position 0 to hold a picture, not a moment of motion.
    /// So the first latent of the video stands there, or, once that is too long ago, the oldest
    /// frame in reach, encoded by itself.
    pub(super) fn context(
        &self,
        settings: &SessionSettings,
        block: u64,
        autoencoder: &Autoencoder,
    ) -> Result<Option<Tensor>> {
        let (Some(first), Some(latents)) = (&self.first, &self.latents) else {
            return Ok(None);
        };
        let past_first = (block as i64 - 1) * settings.block >= settings.window;
        let front = match &self.pixels {
            Some(pixels) if past_first && !settings.keep_first_frame => {
                autoencoder.encode(&pixels.f_narrow(1, 0, 1)?, &mut autoencoder.encoding())?
            }
            _ => first.shallow_clone(),
        };
        let have = latents.size()[1];
        let rest = have.min(settings.window) - 1;
        let newest = latents.f_narrow(1, have - rest, rest)?;
        Ok(Some(Tensor::f_cat(&[front.f_to_device(newest.device())?, newest], 1)?))
    }

    /// The newest latents, at most so many.
    pub(super) fn newest(&self, count: i64) -> Result<Option<Tensor>> {
        self.latents.as_ref().map(|latents| tail(latents, count)).transpose()
    }

    /// Adds a finished block.
    pub(super) fn extend(
        &mut self,
        latents: &Tensor,
        pixels: &Tensor,
        settings: &SessionSettings,
        autoencoder: &Autoencoder,
    ) -> Result<()> {
        if self.first.is_none() {
            self.first = Some(latents.f_narrow(1, 0, 1)?);
        }
        let ring = autoencoder.frames(settings.window, true);
        self.latents = Some(appended(self.latents.take(), latents, settings.window)?);
        self.pixels = Some(appended(self.pixels.take(), pixels, ring)?);
        Ok(())
    }

    pub(super) fn bytes(&self) -> u64 {
        let held = [&self.first, &self.latents, &self.pixels];
        held.into_iter().flatten().map(|t| t.numel() as u64 * t.kind().elt_size_in_bytes() as u64).sum()
    }
}

fn tail(all: &Tensor, count: i64) -> Result<Tensor> {
    let have = all.size()[1];
    let kept = have.min(count);
    Ok(all.f_narrow(1, have - kept, kept)?)
}

/// The last `count` frames of both, in memory of their own.
fn appended(before: Option<Tensor>, new: &Tensor, count: i64) -> Result<Tensor> {
    match before {
        Some(before) => {
            let wanted = count - new.size()[1].min(count);
            Ok(Tensor::f_cat(&[tail(&before, wanted)?, tail(new, count)?], 1)?)
        }
        None => Ok(tail(new, count)?.copy()),
    }
}
