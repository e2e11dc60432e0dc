//! Brings repainted frames back to the colours and the size of the output.

use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use ffmpeg_next as ffmpeg;

use super::geometry::{Geometry, Part};
use super::region::{self, Region};
use super::scaler::Scaler;
use crate::error::{Error, Result};
use crate::frame::{Format, Frame, PicturePool, copy_props, is_writable};
use crate::pipeline::Stage;
use crate::stream::VideoInfo;

/// Takes packed RGB of the model's size, gives pictures as the sink wants them.
pub struct PasteStage {
    geometry: Geometry,
    region: Region,
    /// What the pictures shall be.
    info: VideoInfo,
    scaler: Scaler,
    pool: Option<PicturePool>,
    scratch: Option<Video>,
}

impl PasteStage {
    pub fn new(geometry: Geometry, region: Region, info: VideoInfo) -> Self {
        Self { geometry, region, info, scaler: Scaler::default(), pool: None, scratch: None }
    }

    fn paste(&mut self, frame: &mut Frame) -> Result<(), ffmpeg::Error> {
        let Some(kept) = frame.kept.take() else {
            let mut picture = self.fresh()?;
            let whole = Part::whole((self.info.width, self.info.height));
            self.scaler.scale(&frame.picture, self.geometry.painted, &mut picture, whole)?;
            frame.picture = picture;
            return Ok(());
        };
        let mut picture = if is_writable(&kept) { kept } else { self.copy(&kept)? };
        let (painted, seen) = (self.geometry.painted, self.geometry.seen);
        match (self.region, &frame.mask, Format::of(picture.format())) {
            (Region::All, ..) => self.scaler.scale(&frame.picture, painted, &mut picture, seen)?,
            (region, Some(mask), Some(format)) => {
                let mut scaled = match self.scratch.take() {
                    Some(scratch) => scratch,
                    None => PicturePool::new(self.info.format, seen.width, seen.height)?.get()?,
                };
                copy_props(&picture, &mut scaled);
                self.scaler.scale(&frame.picture, painted, &mut scaled, Part::whole(seen.size()))?;
                region::lay(&mut picture, format, &scaled, seen, mask, region);
                self.scratch = Some(scaled);
            }
            // Without a mask there is no person: all of the picture is background.
            (Region::Background, None, _) => self.scaler.scale(&frame.picture, painted, &mut picture, seen)?,
            _ => {}
        }
        frame.picture = picture;
        Ok(())
    }

    /// A picture of the output's kind with undefined pixels.
    fn fresh(&mut self) -> Result<Video, ffmpeg::Error> {
        let VideoInfo { format, width, height, colour, .. } = self.info;
        let pool = match &mut self.pool {
            Some(pool) => pool,
            empty => empty.insert(PicturePool::new(format, width, height)?),
        };
        let mut picture = pool.get()?;
        picture.set_color_space(colour.space);
        picture.set_color_range(colour.range);
        picture.set_color_primaries(colour.primaries);
        picture.set_color_transfer_characteristic(colour.transfer);
        opaque(&mut picture, format);
        Ok(picture)
    }

    fn copy(&mut self, kept: &Video) -> Result<Video, ffmpeg::Error> {
        let mut picture = self.fresh()?;
        copy_props(kept, &mut picture);
        // SAFETY: both are live pictures of one format and size.
        let done = unsafe { ffmpeg::ffi::av_frame_copy(picture.as_mut_ptr(), kept.as_ptr()) };
        if done < 0 { Err(ffmpeg::Error::from(done)) } else { Ok(picture) }
    }
}

/// A model paints no transparency.
fn opaque(picture: &mut Video, format: Pixel) {
    let Some(format) = Format::of(format).filter(|f| f.alpha) else { return };
    match format.depth {
        8 => crate::frame::plane_mut::<u8>(picture, 3).0.fill(255),
        _ => crate::frame::plane_mut::<u16>(picture, 3).0.fill(format.max()),
    }
}

impl Stage for PasteStage {
    fn name(&self) -> &'static str {
        "paste"
    }

    fn push(&mut self, mut frame: Frame, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        let seconds = frame.time.seconds();
        self.paste(&mut frame).map_err(|e| Error::Stage {
            stage: "paste".to_owned(),
            message: format!("the frame at {seconds:.3} s cannot be brought back: {e}"),
        })?;
        emit(frame)
    }

    fn finish(&mut self, _: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        Ok(())
    }
}
