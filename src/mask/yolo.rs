//! YOLOv8-seg and its successors with the same head (YOLO11-seg): boxes, classes and mask coefficients in `output0`,
//! prototypes in `output1`.

use std::ops::Range;

use ffmpeg_next::frame::Video;

use crate::frame::Format;

use super::coverage::{Choice, Coverage, Curve, NOBODY, Network, View};
use super::letterbox::{Fit, Layout, Normalise, PAD, Sampler};
use super::refit;
use super::session::Session;

/// Mask coefficients per detection, and prototypes.
pub(super) const PROTOTYPES: usize = 32;
/// Network inputs are multiples of the coarsest stride.
pub const STRIDE: usize = 32;
/// The long side that Ultralytics takes for networks with dynamic input.
const DEFAULT_LONG_SIDE: usize = 640;
/// Boxes that overlap more than this are one person (the default of Ultralytics' `predict`).
const MAX_IOU: f32 = 0.7;
/// More persons than this cost time and change nothing that can be seen.
const MAX_PERSONS: usize = 32;
/// What the head's tensors mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub classes: usize,
    /// The class that is a person.
    pub person: usize,
}

/// A person's box on the canvas, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// x1, y1, x2, y2.
    pub bounds: [f32; 4],
    pub score: f32,
    /// Column in `output0`.
    pub anchor: usize,
}

impl Detection {
    pub fn area(&self) -> f32 {
        let [x1, y1, x2, y2] = self.bounds;
        (x2 - x1).max(0.0) * (y2 - y1).max(0.0)
    }

    /// The box in pixels of the frame, clipped to it.
    pub fn native(&self, fit: Fit) -> [f32; 4] {
        let (sx, sy) = fit.scale();
        let (w, h) = (fit.source.0 as f32, fit.source.1 as f32);
        let x = |v: f32| ((v - fit.left as f32) * sx as f32).clamp(0.0, w);
        let y = |v: f32| ((v - fit.top as f32) * sy as f32).clamp(0.0, h);
        let [x1, y1, x2, y2] = self.bounds;
        [x(x1), y(y1), x(x2), y(y2)]
    }

    fn iou(&self, other: &Self) -> f32 {
        let (a, b) = (&self.bounds, &other.bounds);
        let w = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0);
        let h = (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
        let both = w * h;
        both / (self.area() + other.area() - both).max(f32::MIN_POSITIVE)
    }
}

/// The head's two tensors for one image.
#[derive(Clone, Copy)]
pub struct Raw<'a> {
    pub head: Head,
    /// `output0`: `4 + classes + 32` rows of one number per anchor: box centre and size, class scores, coefficients.
    pub output0: &'a [f32],
    /// `output1`: 32 prototypes, each a map of the grid's size.
    pub prototypes: &'a [f32],
    /// Width and height of the prototypes.
    pub grid: (usize, usize),
}

impl Raw<'_> {
    fn anchors(&self) -> usize {
        self.output0.len() / (4 + self.head.classes + PROTOTYPES)
    }

    /// The persons, after non-maximum suppression, best first.
    ///
    /// A candidate counts when person is its likeliest class, and likelier than `confidence`.
    pub fn detect(&self, confidence: f32) -> Vec<Detection> {
        let Self { head, output0, .. } = *self;
        let anchors = self.anchors();
        let row = |c: usize| &output0[c * anchors..][..anchors];
        let person = row(4 + head.person);
        let beaten = |n: usize, score: f32| {
            (0..head.classes).any(|c| {
                let other = output0[(4 + c) * anchors + n];
                if c < head.person { other >= score } else { other > score }
            })
        };
        let (cx, cy, w, h) = (row(0), row(1), row(2), row(3));
        let mut found: Vec<_> = person
            .iter()
            .enumerate()
            .filter(|&(n, &score)| score > confidence && !beaten(n, score))
            .map(|(n, &score)| Detection {
                bounds: [cx[n] - w[n] / 2.0, cy[n] - h[n] / 2.0, cx[n] + w[n] / 2.0, cy[n] + h[n] / 2.0],
                score,
                anchor: n,
            })
            .collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut kept: Vec<Detection> = Vec::new();
        for candidate in found {
            if kept.len() < 300 && kept.iter().all(|k| k.iou(&candidate) <= MAX_IOU) {
                kept.push(candidate);
            }
        }
        kept
    }

    /// The union of the persons' masks, `canvas` wide and high: the maximum of their logits, [`NOBODY`] where no person
    /// reaches. Each mask is enlarged from the prototypes' grid (bilinearly, half-pixel centres) before its box crops
    /// it, as Ultralytics does it: cropped first, it would smear over the box's edge.
    pub fn union(&self, detections: &[Detection], fit: Fit, margin: Margin, logits: &mut Vec<f32>) {
        let (width, height) = fit.canvas;
        logits.clear();
        logits.resize(width * height, NOBODY);
        let (columns, rows) = (axis(self.grid.0, width), axis(self.grid.1, height));
        let mut coarse = Vec::new();
        let (mut line, mut inner) = (vec![0.0; self.grid.0], vec![0.0; self.grid.0]);
        for d in detections {
            let x = margin.reach(d.bounds[0], d.bounds[2], fit.left, fit.size.0);
            let y = margin.reach(d.bounds[1], d.bounds[3], fit.top, fit.size.1);
            let (Some(first), Some(last)) = (x.pixels.clone().next(), x.pixels.clone().last()) else { continue };
            let (Some(upper), Some(lower)) = (y.pixels.clone().next(), y.pixels.clone().last()) else { continue };
            let cells = columns[first].0..columns[last].1 + 1;
            let cell_rows = rows[upper].0..rows[lower].1 + 1;
            self.logits(d, cells.clone(), cell_rows.clone(), &mut coarse);
            let (line, inner) = (&mut line[..cells.len()], &mut inner[..cells.len()]);
            let prices: Vec<f32> = x.pixels.clone().map(|i| x.price(i)).collect();
            for row in y.pixels.clone() {
                let fill = |line: &mut [f32], row: usize| {
                    let (a, b, t) = rows[row];
                    let part = |r: usize| &coarse[(r - cell_rows.start) * cells.len()..][..cells.len()];
                    let price = y.price(row);
                    for ((l, a), b) in line.iter_mut().zip(part(a)).zip(part(b)) {
                        *l = a + t * (b - a) - price;
                    }
                };
                fill(line, row);
                if y.inwards(row) != row {
                    fill(inner, y.inwards(row));
                    line.iter_mut().zip(&*inner).for_each(|(l, i)| *l = l.max(*i));
                }
                let out = &mut logits[row * width..][x.pixels.clone()];
                for ((o, (a, b, t)), price) in out.iter_mut().zip(&columns[x.pixels.clone()]).zip(&prices) {
                    let (a, b) = (line[a - cells.start], line[b - cells.start]);
                    *o = o.max(a + t * (b - a) - price);
                }
                for (o, pixel) in out.iter_mut().zip(x.pixels.clone()).filter(|(_, pixel)| x.inwards(*pixel) != *pixel)
                {
                    let (a, b, t) = columns[x.inwards(pixel)];
                    let (a, b) = (line[a - cells.start], line[b - cells.start]);
                    *o = o.max(a + t * (b - a));
                }
            }
        }
    }

    /// One person's mask on a part of the prototypes' grid.
    fn logits(&self, d: &Detection, columns: Range<usize>, rows: Range<usize>, out: &mut Vec<f32>) {
        let anchors = self.anchors();
        let first = 4 + self.head.classes;
        let (width, height) = self.grid;
        out.clear();
        out.resize(columns.len() * rows.len(), 0.0);
        for (out, row) in out.chunks_exact_mut(columns.len()).zip(rows) {
            for k in 0..PROTOTYPES {
                let c = self.output0[(first + k) * anchors + d.anchor];
                let p = &self.prototypes[(k * height + row) * width..][columns.clone()];
                out.iter_mut().zip(p).for_each(|(o, p)| *o += c * p);
            }
        }
    }
}

/// For each of `pixels` pixels its two cells and the weight of the second, with half-pixel centres and edges repeated.
fn axis(cells: usize, pixels: usize) -> Vec<(usize, usize, f32)> {
    let scale = cells as f32 / pixels as f32;
    let place = |i: usize| {
        let at = ((i as f32 + 0.5) * scale - 0.5).clamp(0.0, cells as f32 - 1.0);
        (at as usize, (at as usize + 1).min(cells - 1), at.fract())
    };
    (0..pixels).map(place).collect()
}

/// Keeps the largest persons, as many as `choice` allows.
pub fn choose(detections: &mut Vec<Detection>, choice: Choice) {
    let limit = choice.limit.unwrap_or(MAX_PERSONS).min(MAX_PERSONS);
    if detections.len() > limit {
        detections.sort_by(|a, b| b.area().total_cmp(&a.area()));
        detections.truncate(limit);
    }
}

/// What becomes of a mask at the edges of its box.
///
/// A box that ends early would cut a limb with a straight edge. So a mask may go beyond its box, but needs more evidence
/// the farther it goes; and a box that ends just before the frame does reaches the frame's edge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Margin {
    /// How far a mask may go beyond its box, as a part of the box's length.
    pub part: f32,
    /// What is taken off the logit there.
    pub price: f32,
    /// A box that ends this part of the frame's length before the frame's edge reaches the edge.
    pub snap: f32,
}

/// A box along one axis of the canvas, in pixels.
struct Reach {
    pixels: Range<usize>,
    low: f32,
    high: f32,
    slope: f32,
    /// The pixels whose own logits are trusted; beyond them the frame's edge is near and the person goes on past it.
    trusted: Range<usize>,
}

/// The part of the frame's length, 1 in so many, over which the network lets a mask fade at the frame's edge, since it has
/// seen the border that comes after it.
const FADE: usize = 120;

impl Margin {
    /// The mask ends where the box does, as in Ultralytics' `process_mask`.
    pub const NONE: Self = Self { part: 0.0, price: 0.0, snap: 0.0 };
    pub const NATURAL: Self = Self { part: 0.08, price: 24.0, snap: 0.03 };

    /// `low` and `high` are the box's ends; the frame begins at `offset` and is `length` long.
    fn reach(&self, low: f32, high: f32, offset: usize, length: usize) -> Reach {
        let (start, end) = (offset as f32, (offset + length) as f32);
        let near = self.snap * length as f32;
        let fade = length / FADE;
        let mut trusted = offset..offset + length;
        let (mut low, mut high) = (low, high);
        if low - start < near {
            low = start.min(low);
            trusted.start += fade;
        }
        if end - high < near {
            high = end.max(high);
            trusted.end -= fade;
        }
        let reach = self.part * (high - low);
        // A pixel belongs to the box by its index, not its centre, as in `crop_mask`.
        let pixel = |v: f32| (v.ceil().max(start) as usize).min(offset + length);
        let pixels = pixel(low - reach)..pixel(high + reach);
        Reach { pixels, low, high, slope: if reach > 0.0 { self.price / reach } else { 0.0 }, trusted }
    }
}

impl Reach {
    /// What a pixel pays for lying outside the box.
    fn price(&self, pixel: usize) -> f32 {
        let at = pixel as f32;
        (self.low - at).max(at - self.high).max(0.0) * self.slope
    }

    /// The nearest trusted pixel of the box.
    fn inwards(&self, pixel: usize) -> usize {
        let (low, high) = (self.trusted.start.max(self.pixels.start), self.trusted.end.min(self.pixels.end));
        pixel.clamp(low, high.max(low + 1) - 1).clamp(self.pixels.start, self.pixels.end - 1)
    }
}

/// A YOLO segmentation network on ONNX Runtime.
pub struct Yolo {
    session: Session,
    head: Head,
    sampler: Sampler,
    layout: Layout,
    /// Input width and height, where the model or the user fixes it.
    canvas: Option<(usize, usize)>,
    confidence: f32,
    choice: Choice,
}

impl Yolo {
    /// True when the outputs look like a YOLO segmentation head.
    pub fn fits(session: &Session) -> bool {
        session.outputs.iter().any(|o| o.name == "output0" && o.shape.len() == 3)
            && session.outputs.iter().any(|o| o.name == "output1" && o.shape.len() == 4)
    }

    /// `size` is the input size that the user asks for.
    pub fn new(
        session: Session,
        size: Option<(usize, usize)>,
        confidence: f32,
        choice: Choice,
    ) -> Result<Self, String> {
        let (layout, fixed) = session.image()?;
        let head = head(&session)?;
        let canvas = match (fixed, size) {
            (Some(fixed), Some(asked)) if fixed != asked => {
                let ((fw, fh), (w, h)) = (fixed, asked);
                return Err(format!(
                    "its input is fixed at {fw}x{fh}, but --mask-size asks for {w}x{h}: leave --mask-size out, or name an export of that size"
                ));
            }
            (None, Some((w, h))) if w % STRIDE != 0 || h % STRIDE != 0 => {
                return Err(format!("--mask-size {w}x{h}: both must be multiples of {STRIDE}"));
            }
            (fixed, asked) => fixed.or(asked),
        };
        let sampler = Sampler::new(Normalise::NONE, layout);
        Ok(Self { session, head, sampler, layout, canvas, confidence, choice })
    }

    /// Input width and height; `None` while it follows the frame's shape.
    pub fn canvas(&self) -> Option<(usize, usize)> {
        self.canvas
    }
}

/// The input width and height for frames of `source` size where nothing fixes it.
pub(super) fn minimum_rectangle(source: (usize, usize)) -> (usize, usize) {
    Fit::minimum_rectangle(source, DEFAULT_LONG_SIDE, STRIDE)
}

/// Checks that the channels of `output0` add up, and finds the class "person".
fn head(session: &Session) -> Result<Head, String> {
    let shape =
        |name: &str| session.outputs.iter().find(|o| o.name == name).map(|o| o.shape.clone()).unwrap_or_default();
    let (boxes, prototypes) = (shape("output0"), shape("output1"));
    let expected = |what: &str| {
        let found: Vec<_> = session.outputs.iter().map(|o| o.to_string()).collect();
        format!(
            "it is not a YOLO segmentation network ({what}): output0 [1, 4 + classes + {PROTOTYPES}, n] and output1 [1, {PROTOTYPES}, h, w] were expected, found {}",
            found.join(" and ")
        )
    };
    if prototypes.get(1).is_some_and(|&d| d >= 0 && d != PROTOTYPES as i64) {
        return Err(expected("other number of prototypes"));
    }
    let names = session.names.as_deref().map(class_names).filter(|n| !n.is_empty());
    let classes = match (boxes[1], &names) {
        (d, Some(names)) if d < 0 || d as usize == 4 + names.len() + PROTOTYPES => names.len(),
        (d, Some(names)) => return Err(expected(&format!("{d} channels for {} classes", names.len()))),
        (d, None) if d > (4 + PROTOTYPES) as i64 => d as usize - 4 - PROTOTYPES,
        (d, None) => return Err(expected(&format!("{d} channels"))),
    };
    let person = match names {
        Some(names) => names.iter().position(|n| n == "person").ok_or("none of its classes is called 'person'")?,
        None => 0,
    };
    Ok(Head { classes, person })
}

/// Reads Ultralytics' `{0: 'person', 1: 'bicycle'}`.
fn class_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(['\'', '"']) {
        let quote = &rest[start..=start];
        let inner = &rest[start + 1..];
        let Some(end) = inner.find(quote) else { break };
        names.push(inner[..end].to_owned());
        rest = &inner[end + 1..];
    }
    names
}

impl Network for Yolo {
    fn find(&mut self, picture: &Video, format: Format, out: &mut Coverage) -> Result<(), String> {
        let source = (picture.width() as usize, picture.height() as usize);
        let canvas = self.canvas.unwrap_or_else(|| minimum_rectangle(source));
        let fit = Fit::letterbox(source, canvas);
        let image = self.sampler.sample(picture, format, fit);
        let shape = self.layout.shape(canvas);
        let (head, confidence, choice) = (self.head, self.confidence, self.choice);
        self.session.run(shape, image, |outputs| {
            let output = |name: &str| outputs.iter().find(|o| o.name == name);
            let (Some(boxes), Some(prototypes)) = (output("output0"), output("output1")) else {
                return Err("output0 or output1 is missing".to_owned());
            };
            if boxes.shape.len() != 3 || boxes.shape[1] != 4 + head.classes + PROTOTYPES {
                return Err(format!("output0 has the shape {:?}", boxes.shape));
            }
            let &[_, PROTOTYPES, height, width] = &prototypes.shape[..] else {
                return Err(format!("output1 has the shape {:?}", prototypes.shape));
            };
            let grid = (width, height);
            let raw = Raw { head, output0: &boxes.data, prototypes: &prototypes.data, grid };
            let mut persons = raw.detect(confidence);
            choose(&mut persons, choice);
            raw.union(&persons, fit, Margin::NATURAL, &mut out.values);
            (out.width, out.height) = canvas;
            out.view = View::of(fit, canvas.0, canvas.1);
            out.curve = Curve::Logit;
            out.empty = persons.is_empty();
            Ok(())
        })?
    }

    fn try_out(&mut self) -> Result<(), String> {
        let canvas = self.canvas.ok_or("its input size is open")?;
        let shape = self.layout.shape(canvas);
        let boxes = [1, 4 + self.head.classes + PROTOTYPES, refit::anchors(canvas)];
        let prototypes = [1, PROTOTYPES, canvas.1 / refit::CELL, canvas.0 / refit::CELL];
        self.session.run(shape, &vec![PAD; shape.iter().product()], |outputs| {
            let is = |name: &str, shape: &[usize]| outputs.iter().any(|o| o.name == name && o.shape == shape);
            let fits = is("output0", &boxes) && is("output1", &prototypes);
            if fits { Ok(()) } else { Err("its outputs have other shapes than they should have".to_owned()) }
        })?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_are_read_as_python_writes_them() {
        assert_eq!(class_names("{0: 'person', 1: \"teddy's\", 2: 'cat'}"), ["person", "teddy's", "cat"]);
        assert!(class_names("{}").is_empty());
    }

    /// Two classes, one person over the other class, one under it, one overlapping the first.
    #[test]
    fn a_person_counts_only_where_person_is_the_likeliest_class() {
        let head = Head { classes: 2, person: 0 };
        let (channels, anchors) = (4 + 2 + PROTOTYPES, 4);
        let mut out = vec![0.0; channels * anchors];
        let boxes =
            [[50.0, 50.0, 20.0, 40.0], [51.0, 50.0, 20.0, 40.0], [90.0, 50.0, 20.0, 40.0], [9.0, 9.0, 8.0, 8.0]];
        let scores = [[0.8, 0.1], [0.9, 0.2], [0.5, 0.6], [0.2, 0.0]];
        for n in 0..anchors {
            for c in 0..4 {
                out[c * anchors + n] = boxes[n][c];
            }
            for c in 0..2 {
                out[(4 + c) * anchors + n] = scores[n][c];
            }
        }
        let raw = Raw { head, output0: &out, prototypes: &[], grid: (0, 0) };
        let found = raw.detect(0.25);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].anchor, found[0].bounds), (1, [41.0, 30.0, 61.0, 70.0]));
    }

    /// A network lets masks fade towards the letterbox's border; a person whose box reaches the frame's edge does not
    /// end there.
    #[test]
    fn a_person_cut_by_the_frame_reaches_its_edge() {
        let head = Head { classes: 1, person: 0 };
        let (canvas, grid) = ((640, 640), (160, 160));
        // One prototype: certain above, fading out in the last row of the picture, which is 640x480 in its canvas.
        let mut prototypes = vec![0.0; PROTOTYPES * grid.0 * grid.1];
        for (i, p) in prototypes[..grid.0 * grid.1].iter_mut().enumerate() {
            *p = if i / grid.0 < 139 { 8.0 } else { -6.0 };
        }
        let mut output0 = vec![0.0; 4 + 1 + PROTOTYPES];
        output0[5] = 1.0;
        let raw = Raw { head, output0: &output0, prototypes: &prototypes, grid };
        let fit = Fit::letterbox((640, 480), canvas);
        let edge = fit.top + fit.size.1 - 1;
        let at = |bottom: f32, margin: Margin| {
            let person = Detection { bounds: [160.0, 100.0, 480.0, bottom], score: 0.9, anchor: 0 };
            let mut logits = Vec::new();
            raw.union(&[person], fit, margin, &mut logits);
            logits[edge * canvas.0 + 320]
        };
        assert!(at(edge as f32 + 0.5, Margin::NATURAL) > 2.0);
        assert!(at(edge as f32 + 0.5, Margin::NONE) < 0.0, "the reference lets it fade");
        assert!(at(edge as f32 - 40.0, Margin::NATURAL) < 0.0, "a person who ends earlier is not drawn out");
    }
}
