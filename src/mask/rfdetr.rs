//! RF-DETR-seg: a fixed number of queries, each with a box, class logits and a mask; no suppression, no letterbox.

use std::ops::Range;

use ffmpeg_next::frame::Video;

use crate::frame::Format;

use super::DEFAULT_CONFIDENCE;
use super::coverage::{Choice, Coverage, Curve, NOBODY, Network, View};
use super::letterbox::{Fit, Layout, Normalise, Sampler};
use super::session::{Output, Port, Session};

/// The label "person" of the COCO ids that the networks are trained with: 1 to 90, of 91 rows.
const COCO_ROWS: usize = 91;
const COCO_PERSON: usize = 1;
/// What stands for [`DEFAULT_CONFIDENCE`] here: RF-DETR's own default.
const DEFAULT_THRESHOLD: f32 = 0.5;

/// A query that found a person.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Person {
    pub query: usize,
    pub score: f32,
    /// Centre x, y, width, height as parts of the frame.
    pub bounds: [f32; 4],
}

/// The network's three tensors for one image.
#[derive(Clone, Copy)]
pub struct Raw<'a> {
    /// Boxes, `queries x 4`.
    pub boxes: &'a [f32],
    /// Class logits, `queries x classes`.
    pub labels: &'a [f32],
    /// Mask logits, `queries x height x width`.
    pub masks: &'a [f32],
    pub queries: usize,
    /// Width and height of a mask.
    pub grid: (usize, usize),
}

impl Raw<'_> {
    fn classes(&self) -> usize {
        self.labels.len() / self.queries.max(1)
    }

    /// The persons that score more than `threshold`, best first.
    ///
    /// All pairs of query and class compete for as many places as there are queries, each by its own sigmoid; equal
    /// scores keep the order of the tensor.
    pub fn detect(&self, threshold: f32) -> Vec<Person> {
        let classes = self.classes();
        // Fine-tuned networks count their classes from 0 and put "no object" last.
        let person = if classes == COCO_ROWS { COCO_PERSON } else { 0 };
        let least = (threshold / (1.0 - threshold)).ln();
        let mut pairs: Vec<usize> = (0..self.labels.len()).filter(|&i| self.labels[i] > least).collect();
        pairs.sort_by(|&a, &b| self.labels[b].total_cmp(&self.labels[a]));
        pairs.truncate(self.queries);
        let persons = pairs.into_iter().filter(|i| i % classes == person);
        persons
            .map(|i| {
                let query = i / classes;
                let bounds = std::array::from_fn(|k| self.boxes[query * 4 + k]);
                Person { query, score: 1.0 / (1.0 + (-self.labels[i]).exp()), bounds }
            })
            .collect()
    }

    /// The maximum of the persons' mask logits; [`NOBODY`] everywhere if there are none.
    pub fn union(&self, persons: &[Person], logits: &mut Vec<f32>) {
        let area = self.grid.0 * self.grid.1;
        logits.clear();
        logits.resize(area, NOBODY);
        for person in persons {
            let range: Range<usize> = person.query * area..(person.query + 1) * area;
            logits.iter_mut().zip(&self.masks[range]).for_each(|(o, &m)| *o = o.max(m));
        }
    }
}

/// Keeps the largest persons, as many as `choice` allows.
pub fn choose(persons: &mut Vec<Person>, choice: Choice) {
    if let Some(limit) = choice.limit {
        persons.sort_by(|a, b| (b.bounds[2] * b.bounds[3]).total_cmp(&(a.bounds[2] * a.bounds[3])));
        persons.truncate(limit);
    }
}

/// An RF-DETR segmentation network on ONNX Runtime.
pub struct RfDetr {
    session: Session,
    sampler: Sampler,
    layout: Layout,
    canvas: (usize, usize),
    threshold: f32,
    choice: Choice,
    /// Names of the outputs: boxes, labels, masks.
    outputs: [String; 3],
}

/// The outputs that hold boxes, labels and masks: by name, or, where an exporter has numbered them, by shape.
fn roles(outputs: &[Port]) -> Option<[String; 3]> {
    let masks = outputs.iter().find(|o| o.shape.len() == 4 && o.name != "output1")?;
    let boxes = outputs.iter().find(|o| o.shape.len() == 3 && o.shape[2] == 4)?;
    let labels = outputs.iter().find(|o| o.shape.len() == 3 && o.name != boxes.name && o.name != "output0")?;
    (outputs.len() == 3).then(|| [boxes, labels, masks].map(|o| o.name.clone()))
}

impl RfDetr {
    /// True when the outputs are boxes, labels and masks of queries.
    pub fn fits(session: &Session) -> bool {
        roles(&session.outputs).is_some()
    }

    /// `size` is the input size that the user asks for, where the model leaves it open.
    pub fn new(
        session: Session,
        size: Option<(usize, usize)>,
        confidence: f32,
        choice: Choice,
    ) -> Result<Self, String> {
        let (layout, fixed) = session.image()?;
        let canvas = fixed.or(size).ok_or("its input size is open: name it with --mask-size")?;
        let outputs = roles(&session.outputs).ok_or("its outputs are not boxes, labels and masks")?;
        let sampler = Sampler::new(Normalise::IMAGENET, layout);
        let threshold = if confidence == DEFAULT_CONFIDENCE { DEFAULT_THRESHOLD } else { confidence };
        Ok(Self { session, sampler, layout, canvas, threshold, choice, outputs })
    }

    /// Input width and height.
    pub fn canvas(&self) -> (usize, usize) {
        self.canvas
    }
}

impl Network for RfDetr {
    fn find(&mut self, picture: &Video, format: Format, out: &mut Coverage) -> Result<(), String> {
        let fit = Fit::stretch((picture.width() as usize, picture.height() as usize), self.canvas);
        let image = self.sampler.sample(picture, format, fit);
        let shape = self.layout.shape(self.canvas);
        let (names, threshold, choice) = (&self.outputs, self.threshold, self.choice);
        self.session.run(shape, image, |outputs| {
            let find = |i: usize| -> Result<&Output<'_>, String> {
                outputs.iter().find(|o| o.name == names[i]).ok_or_else(|| format!("output '{}' is missing", names[i]))
            };
            let (boxes, labels, masks) = (find(0)?, find(1)?, find(2)?);
            let (&[_, queries, 4], &[_, of_labels, _], &[_, of_masks, height, width]) =
                (&boxes.shape[..], &labels.shape[..], &masks.shape[..])
            else {
                return Err(format!(
                    "its outputs have the shapes {:?} {:?} {:?}",
                    boxes.shape, labels.shape, masks.shape
                ));
            };
            if (of_labels, of_masks) != (queries, queries) {
                return Err(format!("{queries} boxes, {of_labels} labels and {of_masks} masks do not fit together"));
            }
            let grid = (width, height);
            let raw = Raw { boxes: &boxes.data, labels: &labels.data, masks: &masks.data, queries, grid };
            let mut persons = raw.detect(threshold);
            choose(&mut persons, choice);
            raw.union(&persons, &mut out.values);
            (out.width, out.height) = grid;
            out.view = View::of(fit, width, height);
            out.curve = Curve::Logit;
            out.empty = persons.is_empty();
            Ok(())
        })?
    }
}
