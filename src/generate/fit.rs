//! Brings frames to the model's rate, size and colours.

use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use ffmpeg_next as ffmpeg;

use super::geometry::Geometry;
use super::rate::Beat;
use super::scaler::Scaler;
use crate::error::{Error, Result};
use crate::frame::{Frame, PicturePool, reference};
use crate::pipeline::Stage;

/// Takes frames of any size, gives packed RGB of the model's.
pub struct FitStage {
    geometry: Geometry,
    /// `None` takes every frame.
    beat: Option<Beat>,
    /// The original travels on, because part of it is seen again.
    keep: bool,
    /// Someone wants to see what the frame was before.
    show: bool,
    /// The newest frame waits here until it is known how long it lasts; not in live use, where it would be late.
    waiting: Option<Frame>,
    live: bool,
    scaler: Scaler,
    pool: Option<PicturePool>,
}

impl FitStage {
    /// `rate` is the model's, where frames are left out to meet it.
    pub fn new(geometry: Geometry, rate: Option<f64>, keep: bool, show: bool, live: bool) -> Self {
        let (scaler, pool) = (Scaler::default(), None);
        Self { geometry, beat: rate.map(Beat::new), keep, show, waiting: None, live, scaler, pool }
    }

    fn fit(&mut self, frame: &mut Frame) -> Result<(), ffmpeg::Error> {
        let (width, height) = self.geometry.model;
        let pool = match &mut self.pool {
            Some(pool) => pool,
            empty => empty.insert(PicturePool::new(Pixel::RGB24, width, height)?),
        };
        let mut small = pool.get()?;
        if self.geometry.painted.size() != self.geometry.model {
            small.data_mut(0).fill(0);
        }
        self.scaler.scale(&frame.picture, self.geometry.seen, &mut small, self.geometry.painted)?;
        let whole = std::mem::replace(&mut frame.picture, small);
        if self.show && frame.before.is_none() {
            frame.before = reference(&whole).ok();
        }
        frame.kept = self.keep.then_some(whole);
        Ok(())
    }

    /// Sends the frame that waits on its way, now that the next one tells how long it lasts.
    fn release(&mut self, until: Option<i64>) -> Option<Frame> {
        let mut frame = self.waiting.take()?;
        if let Some(until) = until {
            frame.time.duration = (until - frame.time.pts).max(1);
        }
        Some(frame)
    }
}

impl Stage for FitStage {
    fn name(&self) -> &'static str {
        "fit"
    }

    fn push(&mut self, mut frame: Frame, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        let seconds = frame.time.seconds();
        if self.beat.as_mut().is_some_and(|beat| !beat.takes(seconds)) {
            if let Some(waiting) = &mut self.waiting {
                // What is left out belongs to the frame before it.
                waiting.time.duration = frame.time.pts + frame.time.duration - waiting.time.pts;
            }
            return Ok(());
        }
        self.fit(&mut frame).map_err(|e| Error::Stage {
            stage: "fit".to_owned(),
            message: format!("the frame at {seconds:.3} s cannot be brought to the model's size: {e}"),
        })?;
        if self.live {
            return emit(frame);
        }
        let until = frame.time.pts;
        let before = self.release(Some(until));
        self.waiting = Some(frame);
        before.map_or(Ok(()), emit)
    }

    fn finish(&mut self, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        self.release(None).map_or(Ok(()), emit)
    }
}

/// The bytes of a packed RGB picture, without the padding of its rows.
pub(super) fn pack(picture: &Video, out: &mut Vec<u8>) {
    let (row, stride) = (picture.width() as usize * 3, picture.stride(0));
    for line in picture.data(0).chunks(stride).take(picture.height() as usize) {
        out.extend_from_slice(&line[..row]);
    }
}

/// The other way round.
pub(super) fn unpack(bytes: &[u8], picture: &mut Video) {
    let (row, stride, height) = (picture.width() as usize * 3, picture.stride(0), picture.height() as usize);
    for (line, packed) in picture.data_mut(0).chunks_mut(stride).take(height).zip(bytes.chunks_exact(row)) {
        line[..row].copy_from_slice(packed);
    }
}
