//! What stands behind the persons: opened at the start, and exchanged while the run goes on.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};
use ffmpeg_next as ffmpeg;

use crate::composite::{self, Background, CompositeStage};
use crate::control;
use crate::error::Result;
use crate::frame::Frame;
use crate::pipeline::Stage;
use crate::settings::{Backing, parse};
use crate::source::{Backdrop, Options};
use crate::stream::VideoInfo;

/// Opens what `backing` names for frames like those of `info`. A video begins at `begun` seconds of the main one, or,
/// if that is not a number, when it is first seen.
pub(super) fn open(backing: &Backing, info: &VideoInfo, options: Options, begun: f64) -> Result<Background> {
    Ok(match backing {
        Backing::Colour(colour) => Background::Colour(*colour),
        Backing::Transparent => Background::Transparent,
        Backing::Blur(radius) => Background::Blur(radius.unwrap_or(info.width as f32 / 40.0)),
        Backing::File(path) => {
            let backdrop = Backdrop::open(path.clone(), options, info)?;
            Background::Pictures(Box::new(Behind { backdrop, begun }))
        }
    })
}

/// Joins the source of a backdrop to the stage that shows it.
struct Behind {
    backdrop: Backdrop,
    /// Seconds of the main video at which it begins; not a number until it is first seen.
    begun: f64,
}

impl composite::Backdrop for Behind {
    fn at(&mut self, seconds: f64) -> Result<&ffmpeg::frame::Video> {
        if self.begun.is_nan() {
            self.begun = seconds;
        }
        self.backdrop.at(seconds - self.begun)
    }
}

/// Opens other backgrounds while the run goes on; the stage's end of it is [`Exchange`].
pub(super) struct Wardrobe {
    info: VideoInfo,
    options: Options,
    /// The output has an alpha plane, and nothing but transparency to fill it.
    transparent: bool,
    changes: Sender<Option<Background>>,
}

impl Wardrobe {
    /// `stage` begins with what it has.
    pub(super) fn new(
        stage: CompositeStage,
        info: VideoInfo,
        options: Options,
        backing: &Backing,
    ) -> (Arc<Self>, Exchange) {
        let (changes, coming) = unbounded();
        let transparent = *backing == Backing::Transparent;
        (Arc::new(Self { info, options, transparent, changes }), Exchange { stage, coming, off: false })
    }
}

impl control::Backgrounds for Wardrobe {
    fn show(&self, what: &str) -> Result<(), String> {
        let backing = match what {
            "off" => None,
            what => Some(parse::backing(what)?),
        };
        if self.transparent != (backing == Some(Backing::Transparent)) {
            return Err(match self.transparent {
                true => "the output of this run is transparent, and stays so".to_owned(),
                false => "the output of this run has no alpha; start it with --bg transparent".to_owned(),
            });
        }
        let open = |backing: &Backing| open(backing, &self.info, self.options.clone(), f64::NAN);
        let background = backing.as_ref().map(open).transpose().map_err(|e| e.to_string())?;
        self.changes.send(background).map_err(|_| "the run is over".to_owned())
    }
}

/// The compositing stage with a background that can be exchanged, or taken off.
pub(super) struct Exchange {
    stage: CompositeStage,
    coming: Receiver<Option<Background>>,
    off: bool,
}

impl Stage for Exchange {
    fn name(&self) -> &'static str {
        self.stage.name()
    }

    fn push(&mut self, frame: Frame, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        if let Some(change) = self.coming.try_iter().last() {
            self.off = change.is_none();
            if let Some(background) = change {
                self.stage.set_background(background);
            }
        }
        if self.off { emit(frame) } else { self.stage.push(frame, emit) }
    }

    fn finish(&mut self, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        self.stage.finish(emit)
    }
}
