//! Networks that give one map of probabilities, such as MediaPipe's selfie segmentation.

use ffmpeg_next::frame::Video;

use crate::frame::Format;

use super::coverage::{Choice, Coverage, Curve, Network, View};
use super::letterbox::{Fit, Layout, Normalise, Sampler};
use super::session::Session;

/// MediaPipe's selfie segmentation, 256 x 144 (Apache-2.0). Its square sibling costs twice as much, and finds people in
/// tall pictures no better: against YOLOv8n-seg at 640 x 640 on a clip of 270 x 480, .971 IoU for .976 of this one.
pub const LANDSCAPE: &[u8] = include_bytes!("../../models/selfie_segmentation_landscape_nchw.onnx");

/// A map with less of its area than this likelier person than not shows nobody.
const LEAST_AREA: f32 = 0.001;

/// A probability-map network on ONNX Runtime.
pub struct Selfie {
    session: Session,
    sampler: Sampler,
    layout: Layout,
    canvas: (usize, usize),
    choice: Choice,
}

impl Selfie {
    /// True when the only output is a map of one channel.
    pub fn fits(session: &Session) -> bool {
        matches!(&session.outputs[..], [one] if matches!(one.shape[..], [1 | -1, 1, _, _] | [1 | -1, _, _, 1]))
    }

    /// `size` is the input size that the user asks for, where the model leaves it open.
    pub fn new(session: Session, size: Option<(usize, usize)>, choice: Choice) -> Result<Self, String> {
        let (layout, fixed) = session.image()?;
        let canvas = fixed.or(size).unwrap_or((256, 144));
        let sampler = Sampler::new(Normalise::NONE, layout);
        Ok(Self { session, sampler, layout, canvas, choice })
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
        let limit = self.choice.limit;
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
            if let Some(limit) = limit {
                keep_largest(&mut out.values, width, limit);
            }
            let likely = out.values.iter().filter(|&&p| p > 0.5).count();
            out.empty = (likely as f32) < LEAST_AREA * (width * height) as f32;
            Ok(())
        })?
    }
}

/// Clears all but the `limit` largest connected areas that are likelier person than not; their soft rims, which are
/// connected with them above [`RIM`], stay.
fn keep_largest(map: &mut [f32], width: usize, limit: usize) {
    const RIM: f32 = 0.05;
    let mut area_of = vec![usize::MAX; map.len()];
    let mut sizes = Vec::new();
    let mut open = Vec::new();
    for start in 0..map.len() {
        if map[start] < RIM || area_of[start] != usize::MAX {
            continue;
        }
        let area = sizes.len();
        sizes.push(0usize);
        area_of[start] = area;
        open.push(start);
        while let Some(cell) = open.pop() {
            sizes[area] += usize::from(map[cell] > 0.5);
            let (x, y) = (cell % width, cell / width);
            let sides = [
                (x > 0).then(|| cell - 1),
                (x + 1 < width).then(|| cell + 1),
                (y > 0).then(|| cell - width),
                Some(cell + width).filter(|&c| c < map.len()),
            ];
            for next in sides.into_iter().flatten() {
                if map[next] >= RIM && area_of[next] == usize::MAX {
                    area_of[next] = area;
                    open.push(next);
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&area| std::cmp::Reverse(sizes[area]));
    let kept: std::collections::HashSet<usize> = order.into_iter().take(limit).collect();
    for (value, area) in map.iter_mut().zip(&area_of) {
        if !kept.contains(area) {
            *value = 0.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_largest_areas_stay_with_their_rims() {
        let map = [0.9, 0.0, 0.3, 0.9, 0.9, 0.0, 0.0, 0.3, 0.9, 0.2, 0.6, 0.0, 0.0, 0.0, 0.0];
        let kept = |limit| {
            let mut map = map;
            keep_largest(&mut map, 5, limit);
            map
        };
        let mut one = map;
        (one[0], one[10]) = (0.0, 0.0);
        assert_eq!(kept(1), one);
        assert_eq!(kept(3), map);
        assert_eq!(kept(0), [0.0; 15]);
    }
}
