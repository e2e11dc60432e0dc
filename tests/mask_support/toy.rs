//! A small network with YOLO's inputs and outputs for which bright places are persons, written as ONNX files of every kind
//! that exporters make.

use half::f16;
use krea::mask::refit;

/// What kind of export to write.
#[derive(Clone, Copy, PartialEq)]
pub struct Toy {
    /// Width and height of the input; `None` leaves them open.
    pub size: Option<(usize, usize)>,
    pub half: bool,
    /// Constants are nodes, not initializers.
    pub nodes: bool,
    /// The number of cells of every level is written down.
    pub rigid: bool,
}

const CLASSES: usize = 1;
const CHANNELS: usize = 4 + CLASSES + 32;

fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

fn number(field: u64, n: i64) -> Vec<u8> {
    [varint(field << 3), varint(n as u64)].concat()
}

fn bytes(field: u64, inner: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(inner.len() as u64), inner.to_vec()].concat()
}

/// An attribute of integers (AttributeProto).
fn ints(name: &str, values: &[i64]) -> Vec<u8> {
    let list = values.iter().flat_map(|&v| number(8, v)).collect::<Vec<_>>();
    [bytes(1, name.as_bytes()), list, number(20, 7)].concat()
}

fn int(name: &str, value: i64) -> Vec<u8> {
    [bytes(1, name.as_bytes()), number(3, value), number(20, 2)].concat()
}

/// A GraphProto in the making.
struct Graph {
    kind: Toy,
    bytes: Vec<u8>,
}

impl Graph {
    fn node(&mut self, op: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) {
        self.node_of_many(op, inputs, &[output], attributes);
    }

    fn node_of_many(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) {
        let mut node = Vec::new();
        inputs.iter().for_each(|i| node.extend(bytes(1, i.as_bytes())));
        outputs.iter().for_each(|o| node.extend(bytes(2, o.as_bytes())));
        node.extend(bytes(4, op.as_bytes()));
        attributes.iter().for_each(|a| node.extend(bytes(5, a)));
        self.bytes.extend(bytes(1, &node));
    }

    fn constant(&mut self, name: &str, dims: &[usize], element: i64, raw: &[u8]) {
        let mut tensor: Vec<u8> = dims.iter().flat_map(|&d| number(1, d as i64)).collect();
        tensor.extend([number(2, element), bytes(9, raw)].concat());
        if self.kind.nodes {
            let value = [bytes(1, b"value"), bytes(5, &tensor), number(20, 4)].concat();
            self.node("Constant", &[], name, &[value]);
        } else {
            tensor.extend(bytes(8, name.as_bytes()));
            self.bytes.extend(bytes(5, &tensor));
        }
    }

    fn integers(&mut self, name: &str, values: &[i64]) {
        let raw: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, &[values.len()], 7, &raw);
    }

    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) {
        let raw: Vec<u8> = match self.kind.half {
            true => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
            false => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        };
        self.constant(name, dims, self.element(), &raw);
    }

    fn element(&self) -> i64 {
        if self.kind.half { 10 } else { 1 }
    }

    /// An input or output; open sides have names.
    fn port(&mut self, field: u64, name: &str, dims: &[Option<usize>]) {
        let dim = |(i, d): (usize, &Option<usize>)| match d {
            Some(d) => bytes(1, &number(1, *d as i64)),
            None => bytes(1, &bytes(2, format!("{name}{i}").as_bytes())),
        };
        let shape: Vec<u8> = dims.iter().enumerate().flat_map(dim).collect();
        let tensor = [number(1, self.element()), bytes(2, &shape)].concat();
        let value = [bytes(1, name.as_bytes()), bytes(2, &bytes(1, &tensor))].concat();
        self.bytes.extend(bytes(field, &value));
    }

    /// A convolution of single pixels: `weights` per output and input channel, one bias per output.
    fn mix(&mut self, input: &str, output: &str, weights: &[f32], biases: &[f32]) {
        let (w, b) = (format!("{output}.weight"), format!("{output}.bias"));
        self.floats(&w, &[biases.len(), weights.len() / biases.len(), 1, 1], weights);
        self.floats(&b, &[biases.len()], biases);
        self.node("Conv", &[input, &w, &b], output, &[]);
    }

    fn shrink(&mut self, input: &str, output: &str, by: i64) {
        self.node("AveragePool", &[input], output, &[ints("kernel_shape", &[by, by]), ints("strides", &[by, by])]);
    }

    /// Offset of the box's centre from its anchor (nothing), its size in strides, the score's logit, the coefficients.
    fn level(&mut self, stride: i64) -> String {
        let (small, raw, flat) = (format!("small{stride}"), format!("raw{stride}"), format!("flat{stride}"));
        self.shrink("grey", &small, stride);
        let (mut weights, mut biases) = ([0.0; CHANNELS], [0.0; CHANNELS]);
        (biases[2], biases[3]) = (6.0, 6.0);
        // Large boxes score best, so that they are not crowded out by the many small ones.
        let steep = 12.0 + stride as f32 / 4.0;
        (weights[4], biases[4]) = (steep, -steep / 2.0);
        biases[5] = 1.0;
        self.mix(&small, &raw, &weights, &biases);
        let raw = if self.kind.size.is_none() { self.placed(&raw, stride) } else { raw };
        let mut shape = "flatten".to_owned();
        if let Some((width, height)) = self.kind.size.filter(|_| self.kind.rigid) {
            shape = format!("flatten{stride}");
            self.integers(&shape, &[1, CHANNELS as i64, width as i64 / stride * (height as i64 / stride)]);
        }
        self.node("Reshape", &[&raw, &shape], &flat, &[]);
        flat
    }

    /// Where the size is open, centres are counted out in the graph: sums of ones.
    fn placed(&mut self, raw: &str, stride: i64) -> String {
        let name = |what: &str| format!("{what}.{stride}");
        let (ones, x, y, both) = (name("ones"), name("x"), name("y"), name("both"));
        self.mix(raw, &ones, &[0.0; CHANNELS], &[1.0]);
        self.node("CumSum", &[&ones, "three"], &x, &[]);
        self.node("CumSum", &[&ones, "two"], &y, &[]);
        self.node("Concat", &[&x, &y], &both, &[int("axis", 1)]);
        // Counted from one half, in pixels; the other channels pass.
        let mut place = [0.0; 2 * CHANNELS];
        (place[0], place[3]) = (stride as f32, stride as f32);
        let mut half = [0.0; CHANNELS];
        half[..2].fill(-0.5 * stride as f32);
        self.mix(&both, &name("place"), &place, &half);
        let mut scale = [1.0; CHANNELS];
        scale[..4].fill(stride as f32);
        self.floats(&name("scale"), &[1, CHANNELS, 1, 1], &scale);
        self.node("Mul", &[raw, &name("scale")], &name("scaled"), &[]);
        self.node("Add", &[&name("scaled"), &name("place")], &name("placed"), &[]);
        name("placed")
    }
}

impl Toy {
    /// The bytes of the ONNX file.
    pub fn write(self) -> Vec<u8> {
        let mut graph = Graph { kind: self, bytes: Vec::new() };
        graph.integers("flatten", &[1, CHANNELS as i64, -1]);
        graph.integers("two", &[2]);
        graph.integers("three", &[3]);
        graph.integers("parts", &[2, 2, CLASSES as i64, 32]);
        graph.mix("images", "grey", &[1.0 / 3.0; 3], &[0.0]);
        graph.shrink("grey", "small4", 4);
        let (mut weights, mut biases) = ([0.0; 32], [0.0; 32]);
        (weights[0], biases[0]) = (20.0, -10.0);
        graph.mix("small4", "output1", &weights, &biases);
        let levels = [8, 16, 32].map(|stride| graph.level(stride));
        let levels = levels.each_ref().map(String::as_str);
        graph.node("Concat", &levels, "all", &[int("axis", 2)]);
        graph.node_of_many("Split", &["all", "parts"], &["xy", "wh", "logit", "coefficients"], &[int("axis", 1)]);
        graph.node("Sigmoid", &["logit"], "score", &[]);
        let (mut xy, mut wh) = ("xy", "wh");
        if let Some(size) = self.size {
            let (centres, strides) = anchors(size);
            graph.floats("centres", &[1, 2, strides.len()], &centres);
            graph.floats("strides", &[1, strides.len()], &strides);
            graph.integers("again", &[1, 2, strides.len() as i64]);
            graph.node("Add", &["xy", "centres"], "moved", &[]);
            graph.node("Reshape", &["moved", "again"], "reshaped", &[]);
            graph.node("Mul", &["reshaped", "strides"], "centre", &[]);
            graph.node("Mul", &["wh", "strides"], "extent", &[]);
            (xy, wh) = ("centre", "extent");
        }
        graph.node("Concat", &[xy, wh, "score", "coefficients"], "output0", &[int("axis", 1)]);
        let (width, height) = (self.size.map(|s| s.0), self.size.map(|s| s.1));
        graph.port(11, "images", &[Some(1), Some(3), height, width]);
        graph.port(12, "output0", &[Some(1), Some(CHANNELS), self.size.map(refit::anchors)]);
        graph.port(12, "output1", &[Some(1), Some(32), height.map(|h| h / 4), width.map(|w| w / 4)]);
        let graph = [bytes(2, b"toy"), graph.bytes].concat();
        [number(1, 8), bytes(7, &graph), bytes(8, &number(2, 17))].concat()
    }
}

/// x of the anchors' centres, then y, in units of their strides; and the strides.
fn anchors((width, height): (usize, usize)) -> (Vec<f32>, Vec<f32>) {
    let mut all = Vec::new();
    for stride in [8, 16, 32] {
        for y in 0..height / stride {
            all.extend((0..width / stride).map(|x| [x as f32 + 0.5, y as f32 + 0.5, stride as f32]));
        }
    }
    let column = |i: usize| all.iter().map(move |a| a[i]);
    (column(0).chain(column(1)).collect(), column(2).collect())
}
