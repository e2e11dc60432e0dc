//! Where a picture of any shape lies in the model's, and how it comes back.

use std::str::FromStr;

/// What becomes of a picture whose shape is not the model's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Fit {
    /// Fills the model's picture; what is more is cut off around it.
    #[default]
    Cover,
    /// All of it is seen, with black beside it.
    Contain,
    /// Its shape is changed.
    Stretch,
}

/// A part of a picture, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
}

impl Part {
    pub(super) fn whole((width, height): (u32, u32)) -> Self {
        Self { left: 0, top: 0, width, height }
    }

    /// The largest part of `room` with the shape of `shape`, in its middle, on even pixels.
    fn shaped(shape: (u32, u32), room: (u32, u32)) -> Self {
        let scale = (f64::from(room.0) / f64::from(shape.0.max(1))).min(f64::from(room.1) / f64::from(shape.1.max(1)));
        let side = |n: u32, room: u32| {
            let wanted = (f64::from(n) * scale).round() as u32;
            // Within a pixel of the whole it is the whole.
            if wanted + 1 >= room { room } else { (wanted & !1).max(2).min(room) }
        };
        let (width, height) = (side(shape.0, room.0), side(shape.1, room.1));
        let middle = |n: u32, room: u32| ((room - n) / 2) & !1;
        Self { left: middle(width, room.0), top: middle(height, room.1), width, height }
    }

    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }
}

/// How source and model lie upon each other: `seen` of the source is `painted` of the model's picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub source: (u32, u32),
    pub model: (u32, u32),
    pub seen: Part,
    pub painted: Part,
}

impl Geometry {
    pub fn new(source: (u32, u32), model: (u32, u32), fit: Fit) -> Self {
        let (seen, painted) = match fit {
            Fit::Stretch => (Part::whole(source), Part::whole(model)),
            Fit::Cover => (Part::shaped(model, source), Part::whole(model)),
            Fit::Contain => (Part::whole(source), Part::shaped(source, model)),
        };
        Self { source, model, seen, painted }
    }
}

/// A model's size for a source: turned on its side where the source is upright.
pub(super) fn turned((width, height): (u32, u32), source: (u32, u32)) -> (u32, u32) {
    if (source.1 > source.0) == (height > width) { (width, height) } else { (height, width) }
}

/// How large the result is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputSize {
    /// As the model paints it.
    Model,
    /// As the source was.
    Source,
    /// This; 0 follows from the other by the picture's shape.
    Of(u32, u32),
}

impl FromStr for OutputSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "source" => Ok(Self::Source),
            "model" => Ok(Self::Model),
            _ => crate::settings::parse::size(text).map(|(w, h)| Self::Of(w, h)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cover_cuts_the_middle_out_of_the_source() {
        let g = Geometry::new((1280, 720), (480, 480), Fit::Cover);
        assert_eq!(g.seen, Part { left: 280, top: 0, width: 720, height: 720 });
        assert_eq!(g.painted, Part::whole((480, 480)));
    }

    #[test]
    fn contain_leaves_bars_in_the_model() {
        let g = Geometry::new((640, 480), (832, 480), Fit::Contain);
        assert_eq!(g.painted, Part { left: 96, top: 0, width: 640, height: 480 });
        assert_eq!(g.seen, Part::whole((640, 480)));
    }

    #[test]
    fn nearly_the_same_shape_is_the_same_shape() {
        let g = Geometry::new((853, 480), (832, 468), Fit::Contain);
        assert_eq!(g.painted, Part::whole((832, 468)));
        let tiny = Geometry::new((1, 1000), (64, 32), Fit::Contain).painted;
        assert!(tiny.width >= 2 && tiny.height == 32);
    }

    #[test]
    fn an_upright_source_turns_the_model() {
        assert_eq!(turned((832, 480), (270, 480)), (480, 832));
        assert_eq!(turned((832, 480), (640, 480)), (832, 480));
        assert_eq!(turned((512, 512), (270, 480)), (512, 512));
    }
}
