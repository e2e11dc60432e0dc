//! A YOLO export for one input size, made into the same network for another.
//!
//! Convolutions do not care how large a picture is. What ties an export to its size is what the exporter wrote down as
//! constants: the shapes of input and outputs, the centres and strides of the anchors, and how many anchors there are. An
//! export that says anything else is left alone.

mod dfl;
mod wire;

use half::f16;

use super::letterbox::Fit;
use super::yolo::{PROTOTYPES, STRIDE};
use wire::{Edit, Field, Value};

/// Pixels between the anchors of the three levels.
const STRIDES: [usize; 3] = [8, 16, 32];
/// Pixels between the cells of the prototypes.
pub const CELL: usize = 4;

// Field numbers of onnx.proto, and its types of numbers.
const MODEL_GRAPH: u64 = 7;
const GRAPH_NODE: u64 = 1;
const GRAPH_INITIALIZER: u64 = 5;
const GRAPH_INPUT: u64 = 11;
const GRAPH_OUTPUT: u64 = 12;
const GRAPH_VALUE_INFO: u64 = 13;
const VALUE_NAME: u64 = 1;
const VALUE_TYPE: u64 = 2;
const TYPE_TENSOR: u64 = 1;
const TENSOR_TYPE_SHAPE: u64 = 2;
const SHAPE_DIM: u64 = 1;
const DIM_VALUE: u64 = 1;
const NODE_ATTRIBUTE: u64 = 5;
const ATTRIBUTE_TENSOR: u64 = 5;
const TENSOR_DIMS: u64 = 1;
const TENSOR_TYPE: u64 = 2;
const TENSOR_RAW: u64 = 9;
const FLOAT: u64 = 1;
const INT64: u64 = 7;
const FLOAT16: u64 = 10;

/// Width and height in pixels.
type Size = (usize, usize);

/// Grey that stays on either side of the picture where there was grey: at a bare edge the network takes fragments of
/// persons for whole ones, and its scores waver. 16:9 has as much in an input of 640x384.
const BORDER: usize = 12;

/// The input size that `source` fills best, of those within `canvas`: what letterboxing would pad beyond [`BORDER`] is left
/// away, up to the network's stride.
pub fn fitting(source: Size, canvas: Size) -> Size {
    let (width, height) = Fit::letterbox(source, canvas).size;
    let side = |n: usize, most: usize| ((n + 2 * BORDER).div_ceil(STRIDE) * STRIDE).min(most);
    (side(width, canvas.0), side(height, canvas.1))
}

/// The input size of a YOLO segmentation export that fixes it.
pub fn fixed_size(model: &[u8]) -> Option<Size> {
    let graph = wire::bytes(model, MODEL_GRAPH)?;
    let mut inputs = messages(graph, GRAPH_INPUT);
    let (_, shape) = inputs.next().and_then(port)?;
    let &[Some(1), Some(3), Some(height), Some(width)] = &shape[..] else { return None };
    let size = (width as usize, height as usize);
    let named = |name: &str| messages(graph, GRAPH_OUTPUT).filter_map(port).find(|(n, _)| *n == name);
    let (_, boxes) = named("output0")?;
    let (_, masks) = named("output1")?;
    let grid = [Some(1), Some(PROTOTYPES as u64), Some((size.1 / CELL) as u64), Some((size.0 / CELL) as u64)];
    let whole = size.0.is_multiple_of(STRIDE) && size.1.is_multiple_of(STRIDE) && inputs.next().is_none();
    let fits = boxes.len() == 3 && boxes[2] == Some(anchors(size) as u64) && masks == grid;
    (whole && fits).then_some(size)
}

/// The same network for an input of `size`, as the bytes of an ONNX file, and a little faster where [`dfl`] knows how.
pub fn refit(model: &[u8], size: Size) -> Result<Vec<u8>, String> {
    let old = fixed_size(model).ok_or("it is no YOLO segmentation network of one size")?;
    if size.0 == 0 || size.1 == 0 || !size.0.is_multiple_of(STRIDE) || !size.1.is_multiple_of(STRIDE) {
        return Err(format!("{}x{} is no multiple of {STRIDE}", size.0, size.1));
    }
    let mut change = Change { old: Anchors::of(old), new: Anchors::of(size), size, centres: 0, strides: 0 };
    let model = wire::rewrite(model, |field| match field {
        Field { number: MODEL_GRAPH, value: Value::Bytes(graph), .. } => {
            let graph = change.graph(graph)?;
            Ok(Edit::Bytes(dfl::reordered(&graph).unwrap_or(graph)))
        }
        _ => Ok(Edit::Keep),
    })?;
    if change.centres == 0 || change.strides == 0 {
        return Err("its anchors were not found".into());
    }
    Ok(model)
}

/// How many anchors all levels have together.
pub fn anchors((width, height): Size) -> usize {
    STRIDES.iter().map(|s| (width / s) * (height / s)).sum()
}

/// What the head knows of the input's size.
struct Anchors {
    count: usize,
    /// x of every anchor, then y, in units of its level's stride.
    centres: Vec<f32>,
    strides: Vec<f32>,
}

impl Anchors {
    fn of(size: Size) -> Self {
        let count = anchors(size);
        let (mut x, mut y, mut strides) = (Vec::new(), Vec::new(), Vec::new());
        for stride in STRIDES {
            let (columns, rows) = (size.0 / stride, size.1 / stride);
            for i in 0..columns * rows {
                x.push((i % columns) as f32 + 0.5);
                y.push((i / columns) as f32 + 0.5);
                strides.push(stride as f32);
            }
        }
        x.append(&mut y);
        Self { count, centres: x, strides }
    }
}

/// A change from one size to another, and how many constants it has met.
struct Change {
    old: Anchors,
    new: Anchors,
    size: Size,
    centres: usize,
    strides: usize,
}

impl Change {
    fn graph(&mut self, graph: &[u8]) -> Result<Vec<u8>, String> {
        let (width, height) = (self.size.0 as u64, self.size.1 as u64);
        let count = self.new.count as u64;
        wire::rewrite(graph, |field| {
            let Value::Bytes(message) = field.value else { return Ok(Edit::Keep) };
            Ok(match field.number {
                GRAPH_INITIALIZER => self.tensor(message)?.map_or(Edit::Keep, Edit::Bytes),
                GRAPH_NODE => self.node(message)?,
                GRAPH_INPUT => Edit::Bytes(with_dims(message, &[(2, height), (3, width)])?),
                GRAPH_OUTPUT if wire::bytes(message, VALUE_NAME) == Some(b"output0") => {
                    Edit::Bytes(with_dims(message, &[(2, count)])?)
                }
                GRAPH_OUTPUT if wire::bytes(message, VALUE_NAME) == Some(b"output1") => {
                    let cell = CELL as u64;
                    Edit::Bytes(with_dims(message, &[(2, height / cell), (3, width / cell)])?)
                }
                // Shapes in between are found anew.
                GRAPH_VALUE_INFO => Edit::Drop,
                _ => Edit::Keep,
            })
        })
    }

    /// Constants may also be nodes.
    fn node(&mut self, node: &[u8]) -> Result<Edit, String> {
        let tensors = || messages(node, NODE_ATTRIBUTE).any(|a| wire::bytes(a, ATTRIBUTE_TENSOR).is_some());
        if !tensors() {
            return Ok(Edit::Keep);
        }
        let node = wire::rewrite(node, |field| match field {
            Field { number: NODE_ATTRIBUTE, value: Value::Bytes(attribute), .. } => {
                let attribute = wire::rewrite(attribute, |field| match field {
                    Field { number: ATTRIBUTE_TENSOR, value: Value::Bytes(tensor), .. } => {
                        Ok(self.tensor(tensor)?.map_or(Edit::Keep, Edit::Bytes))
                    }
                    _ => Ok(Edit::Keep),
                })?;
                Ok(Edit::Bytes(attribute))
            }
            _ => Ok(Edit::Keep),
        })?;
        Ok(Edit::Bytes(node))
    }

    /// The constant for the new size; `None` if the size is nothing to it.
    fn tensor(&mut self, tensor: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let count = self.old.count as u64;
        let dims = wire::numbers(tensor, TENSOR_DIMS);
        let element = wire::number(tensor, TENSOR_TYPE);
        let raw = wire::bytes(tensor, TENSOR_RAW);
        if dims.contains(&count) {
            let raw = raw.ok_or("a constant of its anchors is not written as raw data")?;
            let (is, becomes) = if numbers_of(raw, element)? == self.old.centres {
                self.centres += 1;
                (&self.old.centres, &self.new.centres)
            } else if numbers_of(raw, element)? == self.old.strides {
                self.strides += 1;
                (&self.old.strides, &self.new.strides)
            } else {
                return Err(format!("a constant with the shape {dims:?} is neither centres nor strides of anchors"));
            };
            debug_assert_eq!(is.len() / self.old.count, becomes.len() / self.new.count);
            let dims = dims.iter().map(|&d| if d == count { self.new.count as u64 } else { d }).collect::<Vec<_>>();
            return with_data(tensor, &dims, bytes_of(becomes, element)).map(Some);
        }
        // A shape to bring something into, one side of which is the number of anchors.
        let Some(raw) = raw.filter(|_| element == Some(INT64) && dims.len() == 1) else { return Ok(None) };
        let mut shape: Vec<_> = raw.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect();
        if !shape.contains(&count) {
            return Ok(None);
        }
        shape.iter_mut().filter(|d| **d == count).for_each(|d| *d = self.new.count as u64);
        with_data(tensor, &dims, shape.iter().flat_map(|d| d.to_le_bytes()).collect()).map(Some)
    }
}

fn messages(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    wire::all(message, number).filter_map(|v| if let Value::Bytes(b) = v { Some(b) } else { None })
}

/// Name and shape of an input or output; `None` in the shape is an open side.
fn port(value: &[u8]) -> Option<(&str, Vec<Option<u64>>)> {
    let name = std::str::from_utf8(wire::bytes(value, VALUE_NAME)?).ok()?;
    let tensor = wire::bytes(wire::bytes(value, VALUE_TYPE)?, TYPE_TENSOR)?;
    let shape = wire::bytes(tensor, TENSOR_TYPE_SHAPE)?;
    Some((name, messages(shape, SHAPE_DIM).map(|dim| wire::number(dim, DIM_VALUE)).collect()))
}

/// An input or output with other sides.
fn with_dims(value: &[u8], sides: &[(usize, u64)]) -> Result<Vec<u8>, String> {
    /// Goes down to the shape, and rewrites the messages on the way.
    fn down(message: &[u8], path: &[u64], sides: &[(usize, u64)]) -> Result<Vec<u8>, String> {
        let mut index = 0;
        wire::rewrite(message, |field| {
            let Value::Bytes(inner) = field.value else { return Ok(Edit::Keep) };
            Ok(match path {
                [first, rest @ ..] if field.number == *first => Edit::Bytes(down(inner, rest, sides)?),
                [] if field.number == SHAPE_DIM => {
                    let side = sides.iter().find(|(i, _)| *i == index);
                    index += 1;
                    match side {
                        Some(&(_, side)) => Edit::Bytes(wire::rewrite(inner, |field| {
                            Ok(if field.number == DIM_VALUE { Edit::Varint(side) } else { Edit::Keep })
                        })?),
                        None => Edit::Keep,
                    }
                }
                _ => Edit::Keep,
            })
        })
    }
    down(value, &[VALUE_TYPE, TYPE_TENSOR, TENSOR_TYPE_SHAPE], sides)
}

/// A tensor with another shape and other raw data.
fn with_data(tensor: &[u8], dims: &[u64], raw: Vec<u8>) -> Result<Vec<u8>, String> {
    let mut dims = dims.iter();
    let (mut raw, mut packed) = (Some(raw), false);
    let out = wire::rewrite(tensor, |field| {
        Ok(match (field.number, field.value) {
            (TENSOR_DIMS, Value::Varint(_)) => dims.next().map_or(Edit::Drop, |&d| Edit::Varint(d)),
            (TENSOR_DIMS, _) => {
                packed = true;
                Edit::Keep
            }
            (TENSOR_RAW, _) => raw.take().map_or(Edit::Drop, Edit::Bytes),
            _ => Edit::Keep,
        })
    })?;
    if packed { Err("the shape of a constant is packed".into()) } else { Ok(out) }
}

fn numbers_of(raw: &[u8], element: Option<u64>) -> Result<Vec<f32>, String> {
    match element {
        Some(FLOAT) => Ok(raw.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
        Some(FLOAT16) => Ok(raw.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()),
        other => Err(format!("a constant of its anchors has the type {other:?}")),
    }
}

fn bytes_of(numbers: &[f32], element: Option<u64>) -> Vec<u8> {
    match element {
        Some(FLOAT16) => numbers.iter().flat_map(|&n| f16::from_f32(n).to_le_bytes()).collect(),
        _ => numbers.iter().flat_map(|n| n.to_le_bytes()).collect(),
    }
}
