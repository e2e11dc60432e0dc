//! Pictures and looping videos that stand behind the person, scaled to cover the frame.

use std::path::PathBuf;

use ffmpeg::frame::Video;
use ffmpeg_next as ffmpeg;

use super::{Input, Options, Place, Reader};
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::pipeline::Source;
use crate::stream::VideoInfo;

/// A picture or a video that begins again at its end, in the size, format and colours of the main video.
pub struct Backdrop {
    path: PathBuf,
    options: Options,
    info: VideoInfo,
    reader: Reader,
    shown: Frame,
    /// The frame after the shown one; `None` for a picture.
    next: Option<Frame>,
    /// Seconds of the main video at which the current round began.
    round: f64,
}

impl Backdrop {
    pub fn open(path: PathBuf, options: Options, info: &VideoInfo) -> Result<Self> {
        let mut reader = begin(&path, &options, info)?;
        let shown = first(&path, &mut reader)?;
        let next = reader.next()?;
        Ok(Self { path, options, info: info.clone(), reader, shown, next, round: 0.0 })
    }

    /// The picture that is seen `seconds` after the main video's zero.
    pub fn at(&mut self, seconds: f64) -> Result<&Video> {
        while let Some(next) = &self.next {
            if self.round + next.time.seconds() > seconds {
                break;
            }
            let shown = self.next.take().expect("just looked at");
            let end = shown.time.seconds() + shown.time.duration as f64 * f64::from(shown.time.base);
            self.shown = shown;
            self.next = self.reader.next()?;
            if self.next.is_none() {
                self.reader = begin(&self.path, &self.options, &self.info)?;
                self.round += end.max(f64::from(self.shown.time.base));
                self.next = Some(first(&self.path, &mut self.reader)?);
            }
        }
        Ok(&self.shown.picture)
    }
}

fn begin(path: &std::path::Path, options: &Options, info: &VideoInfo) -> Result<Reader> {
    Reader::covering(Input::open(&Place::File(path.to_owned()), options)?, info)
}

fn first(path: &std::path::Path, reader: &mut Reader) -> Result<Frame> {
    reader.next()?.ok_or_else(|| Error::Input(format!("{}: holds no picture", path.display())))
}
