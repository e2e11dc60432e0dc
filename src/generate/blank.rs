//! Frames without a picture, for generation from the prompt alone.

use ffmpeg::Rational;
use ffmpeg::format::Pixel;
use ffmpeg_next as ffmpeg;

use super::RATE;
use crate::error::{Error, Result};
use crate::frame::{Frame, PicturePool, Time};
use crate::pipeline::Source;

/// So many frames at the model's rate, to be painted on.
pub struct Blank {
    pool: PicturePool,
    next: u64,
    count: Option<u64>,
}

impl Blank {
    /// `None` goes on until someone stops it.
    pub fn new((width, height): (u32, u32), count: Option<u64>) -> Result<Self> {
        Ok(Self { pool: PicturePool::new(Pixel::RGB24, width, height).map_err(no_memory)?, next: 0, count })
    }
}

fn no_memory(error: ffmpeg::Error) -> Error {
    Error::Stage { stage: "source".to_owned(), message: format!("no memory for a picture: {error}") }
}

impl Source for Blank {
    fn next(&mut self) -> Result<Option<Frame>> {
        if self.count == Some(self.next) {
            return Ok(None);
        }
        let index = self.next;
        self.next += 1;
        let picture = self.pool.get().map_err(no_memory)?;
        let time = Time { pts: index as i64, duration: 1, base: Rational(1, RATE) };
        Ok(Some(Frame::new(picture, index, time)))
    }
}
