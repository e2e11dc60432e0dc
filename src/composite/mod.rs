//! Puts the persons in a frame on another background, in the frame's own planes.

mod alpha;
mod blend;
mod blur;
mod chroma;
mod despill;
mod field;
mod layer;

pub use alpha::with_alpha;

use ffmpeg::color::Range;
use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use ffmpeg_next as ffmpeg;

use crate::colour::{Coding, Rgb};
use crate::error::{Error, Result};
use crate::frame::{Format, Frame, PicturePool, copy_props, is_writable, plane, plane_mut};
use crate::pipeline::Stage;
use blend::{Code, View, over_colour};
use blur::Blur;
use chroma::Siting;
use despill::Surroundings;
use layer::{Back, Layer};

/// What is shown where no person is.
pub enum Background {
    Colour(Rgb),
    /// The frame gets an alpha plane, and with it the format that [`with_alpha`] names. Colours are straight (not
    /// multiplied by alpha); under alpha 0 nothing of the old background is left, but the smoothed colours of the
    /// persons nearby, which scaling and compression may mix into the edge without harm.
    Transparent,
    /// The frame itself out of focus, without the persons. The radius is twice the Gaussian's standard deviation, in
    /// pixels of the frame; 1/40 of the width looks like a portrait lens.
    Blur(f32),
    Pictures(Box<dyn Backdrop>),
}

/// A picture or a video to show behind the persons.
pub trait Backdrop: Send {
    /// The picture shown at `seconds`, already of the frame's size, format and colour coding.
    fn at(&mut self, seconds: f64) -> Result<&Video>;
}

/// Lays the persons of each frame on a background. Frames without a mask pass untouched.
pub struct CompositeStage {
    background: Background,
    despill: bool,
    pool: Option<(Pixel, u32, u32, PicturePool)>,
    scratch: Scratch,
}

/// Memory that is kept from frame to frame.
#[derive(Default)]
struct Scratch {
    /// The mask times the picture's own alpha.
    alpha: Vec<u8>,
    /// Alpha for the chroma planes.
    chroma: Vec<u8>,
    surroundings: Surroundings,
    blur: Blur,
}

impl CompositeStage {
    /// `despill` takes the old background's colour out of soft edges.
    pub fn new(background: Background, despill: bool) -> Self {
        Self { background, despill, pool: None, scratch: Scratch::default() }
    }

    /// What stands behind the persons from the next frame on.
    pub fn set_background(&mut self, background: Background) {
        self.background = background;
    }

    fn composite(&mut self, frame: &mut Frame) -> Result<()> {
        let Some(mask) = &frame.mask else { return Ok(()) };
        let picture = &mut frame.picture;
        let (width, height) = (picture.width(), picture.height());
        let format = Format::of(picture.format())
            .ok_or_else(|| fail(format!("cannot work in pixel format {:?}", picture.format())))?;
        if (mask.width, mask.height) != (width as usize, height as usize) {
            let (w, h) = (mask.width, mask.height);
            return Err(fail(format!("the mask is {w}x{h}, the frame {width}x{height}")));
        }
        let mut target = format.pixel;
        if matches!(self.background, Background::Transparent) {
            target = with_alpha(target).ok_or_else(|| fail(format!("{target:?} has no sibling with alpha")))?;
        }
        let mut fresh = None;
        if target != format.pixel || !is_writable(picture) {
            let mut new = pooled(&mut self.pool, target, width, height)
                .map_err(|e| fail(format!("no memory for a {width}x{height} picture: {e}")))?;
            copy_props(picture, &mut new);
            if format.pixel != target && !format.rgb && Coding::of(picture, format).full {
                // The name yuvj says so by itself; yuva does not.
                new.set_color_range(Range::JPEG);
            }
            fresh = Some(new);
        }
        let job = Job { format, despill: self.despill, seconds: frame.time.seconds(), mask: &mask.alpha };
        if format.depth == 8 {
            job.run::<u8>(&mut self.background, &mut self.scratch, picture, fresh.as_mut())?;
        } else {
            job.run::<u16>(&mut self.background, &mut self.scratch, picture, fresh.as_mut())?;
        }
        if let Some(fresh) = fresh {
            *picture = fresh;
        }
        Ok(())
    }
}

impl Stage for CompositeStage {
    fn name(&self) -> &'static str {
        NAME
    }

    fn push(&mut self, mut frame: Frame, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        self.composite(&mut frame)?;
        emit(frame)
    }

    fn finish(&mut self, _: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        Ok(())
    }
}

const NAME: &str = "composite";

fn fail(message: String) -> Error {
    Error::Stage { stage: NAME.into(), message }
}

/// A picture from the pool, which is made anew when the format or the size changes.
fn pooled(
    pool: &mut Option<(Pixel, u32, u32, PicturePool)>,
    format: Pixel,
    width: u32,
    height: u32,
) -> Result<Video, ffmpeg::Error> {
    match pool {
        Some((f, w, h, pool)) if (*f, *w, *h) == (format, width, height) => pool.get(),
        _ => {
            let mut new = PicturePool::new(format, width, height)?;
            let picture = new.get();
            *pool = Some((format, width, height, new));
            picture
        }
    }
}

/// One frame's worth of work.
struct Job<'a> {
    format: Format,
    despill: bool,
    seconds: f64,
    /// At the frame's size.
    mask: &'a [u8],
}

impl Job<'_> {
    /// Composites into `fresh` if there is one, else in place.
    fn run<T: Code>(
        &self,
        background: &mut Background,
        scratch: &mut Scratch,
        picture: &mut Video,
        mut fresh: Option<&mut Video>,
    ) -> Result<()> {
        let format = self.format;
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let Scratch { alpha: product, chroma, surroundings, blur } = scratch;
        let mut alpha = self.mask;
        if format.alpha {
            alpha::multiply(self.mask, view::<T>(picture, 3, width, height), format.max(), product);
            alpha = product;
        }
        let subsampled = format.log2_chroma_w > 0 || format.log2_chroma_h > 0;
        if subsampled {
            Siting::of(format, picture.chroma_location()).reduce(alpha, width, height, chroma);
        }
        let coding = Coding::of(picture, format);
        // What alpha hides where there is no person at all to take a colour from.
        let black = coding.codes(Rgb([0; 3]));
        let behind = match background {
            Background::Colour(colour) => Behind::Colour(coding.codes(*colour)),
            Background::Transparent => Behind::Nothing,
            Background::Blur(radius) => Behind::Blur(radius.max(0.0)),
            Background::Pictures(pictures) => Behind::Picture(fitting(pictures.at(self.seconds)?, picture)?),
        };

        let hidden = matches!(behind, Behind::Nothing);
        let mut soft = false;
        for p in 0..3 {
            let (w, h) = format.plane_size(p, width, height);
            let alpha: &[u8] = if p > 0 && subsampled { chroma } else { alpha };
            let shrink = if p > 0 { [format.log2_chroma_w, format.log2_chroma_h] } else { [0, 0] };
            let seen = view::<T>(picture, p, w, h);
            if p == 0 || (p == 1 && subsampled) {
                soft = (self.despill || hidden) && surroundings.prepare(alpha, w, cell(width, shrink));
            }
            if self.despill && soft {
                surroundings.look_at_edges(seen, alpha);
            }
            if hidden {
                surroundings.look_at_persons(seen, alpha, f32::from(black[p]));
            }
            let back = match behind {
                Behind::Colour(codes) => Back::Colour(T::from_u32(codes[p].into())),
                Behind::Picture(picture) => Back::Picture(view(picture, p, w, h)),
                Behind::Blur(radius) => {
                    Back::Field(blur.of(seen, alpha, shrink.map(|s| radius / 2.0 / f32::from(1u16 << s))))
                }
                Behind::Nothing => Back::Hidden(surroundings.person()),
            };
            let despill = (self.despill && soft).then_some(&*surroundings);
            let layer = Layer { alpha, back, despill, max: f32::from(format.max()) };
            if let Some(fresh) = &mut fresh {
                let (target, stride) = plane_mut(fresh, p);
                layer.lay(Some(seen), target, stride, w);
            } else {
                let (target, stride) = plane_mut(picture, p);
                layer.lay(None, target, stride, w);
            }
        }
        self.alpha_plane::<T>(behind, picture, fresh);
        Ok(())
    }

    /// Fills the alpha plane, where there is one: with the mask, or opaque when there is a background.
    fn alpha_plane<T: Code>(&self, behind: Behind, picture: &mut Video, fresh: Option<&mut Video>) {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let max = T::from_u32(self.format.max().into());
        let target = match fresh {
            Some(fresh) if matches!(behind, Behind::Nothing) || self.format.alpha => {
                let (target, stride) = plane_mut::<T>(fresh, 3);
                for (y, row) in target.chunks_mut(stride).take(height).enumerate() {
                    if self.format.alpha {
                        row[..width].copy_from_slice(view::<T>(picture, 3, width, height).row(y));
                    } else {
                        row[..width].fill(max);
                    }
                }
                fresh
            }
            None if self.format.alpha => picture,
            _ => return,
        };
        let (target, stride) = plane_mut::<T>(target, 3);
        for (row, mask) in target.chunks_mut(stride).zip(self.mask.chunks_exact(width)) {
            if matches!(behind, Behind::Nothing) {
                over_colour(&mut row[..width], mask, T::default());
            } else {
                row[..width].fill(max);
            }
        }
    }
}

/// The background of one frame, in the frame's own coding.
#[derive(Clone, Copy)]
enum Behind<'a> {
    Colour([u16; 3]),
    Picture(&'a Video),
    Blur(f32),
    Nothing,
}

fn view<T: Code>(picture: &Video, p: usize, width: usize, height: usize) -> View<'_, T> {
    let (samples, stride) = plane(picture, p);
    View { samples, stride, width, height }
}

/// Checks what a [`Backdrop`] promises.
fn fitting<'a>(backdrop: &'a Video, picture: &Video) -> Result<&'a Video> {
    let of = |v: &Video| (v.format(), v.width(), v.height());
    if of(backdrop) == of(picture) {
        Ok(backdrop)
    } else {
        Err(fail(format!("the background is {:?}, the frame {:?}", of(backdrop), of(picture))))
    }
}

/// The grid for local means: 64 to 127 cells across the frame at any resolution, in samples of a plane that is smaller
/// by `shrink`.
fn cell(width: usize, shrink: [u8; 2]) -> [usize; 2] {
    let log2 = (width / 64).max(1).ilog2().min(6);
    shrink.map(|s| 1 << log2.saturating_sub(s.into()))
}
