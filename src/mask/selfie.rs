//! Networks that give one map of probabilities, such as MediaPipe's selfie segmentation.

use ffmpeg_next::frame::Video;

use crate::frame::Format;

use super::coverage::{Choice, Coverage, Curve, Network, View};
use super::letterbox::{Fit, Layout, Normalise, Sampler};
use super::session::Session;

/// MediaPipe's selfie segmentation for wide pictures, 256 x 144 (Apache-2.0).
pub const LANDSCAPE: &[u8] = include_bytes!("../../models/selfie_segmentation_landscape_nchw.onnx");
/// The same for square and tall pictures, 256 x 256 (Apache-2.0).
pub const SQUARE: &[u8] = include_bytes!("../../models/selfie_segmentation_nchw.onnx");

/// A map with less of its area than this likelier person than not shows nobody.
const LEAST_AREA: f32 = 0.001;

/// A probability-map network on ONNX Runtime.
pub struct Selfie {
    session: Session,
    sampler: Sampler,
    layout: Layout,
    canvas: (usize, usize),
}

impl Selfie {
    /// True when the only output is a map of one channel.
    pub fn fits(session: &Session) -> bool {
        matches!(&session.outputs[..], [one] if matches!(one.shape[..], [1 | -1, 1, _, _] | [1 | -1, _, _, 1]))
    }

    /// `size` is the input size that the user asks for, where the model leaves it open.
    pub fn new(session: Session, size: Option<(usize, usize)>, _choice: Choice) -> Result<Self, String> {
        let (layout, fixed) = session.image()?;
        let canvas = fixed.or(size).unwrap_or((256, 144));
        let sampler = Sampler::new(Normalise::NONE, layout);
        Ok(Self { session, sampler, layout, canvas })
    }

    /// Input width and height.
    pub fn canvas(&self) -> (usize, usize) {
        self.canvas
    }
}

impl Network for Selfie {
    fn find(&mut self, picture: &Video, format: Format, out: &mut Coverage) -> Result<(), String> {
        let source = (picture.width() as usize, picture.height() as usize);
        let fit = Fit::stretch(source, self.canvas);
        let image = self.sampler.sample(picture, format, fit);
        let shape = self.layout.shape(self.canvas);
        self.session.run(shape, image, |outputs| {
            let map = &outputs[0];
            let (height, width) = match map.shape[..] {
                [1, 1, h, w] | [1, h, w, 1] => (h, w),
                _ => return Err(format!("its output has the shape {:?}", map.shape)),
            };
            out.width = width;
            out.height = height;
            out.view = View::of(fit, width, height);
            out.curve = Curve::Linear;
            out.values.clear();
            out.values.extend_from_slice(&map.data);
            let likely = out.values.iter().filter(|&&p| p > 0.5).count();
            out.empty = (likely as f32) < LEAST_AREA * (width * height) as f32;
            Ok(())
        })?
    }
}
