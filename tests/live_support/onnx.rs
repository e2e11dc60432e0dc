//! Networks of a few nodes, written as the protocol buffers of ONNX (onnx.proto3), for what no real network does on
//! demand: fail on some pictures, take its time.

use std::path::Path;

/// Side of the image and of the map.
const SIDE: u64 = 64;

const FLOAT: u64 = 1;
const INT64: u64 = 7;

/// A message of protocol buffers, field by field.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value > 127 {
            self.0.push(value as u8 | 128);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(self, field: u64, inner: Self) -> Self {
        self.bytes(field, &inner.0)
    }
}

fn node(kind: &str, inputs: &[&str], output: &str, attributes: Vec<Message>) -> Message {
    let node = inputs.iter().fold(Message::default(), |m, name| m.text(1, name));
    let node = node.text(2, output).text(3, output).text(4, kind);
    attributes.into_iter().fold(node, |m, a| m.message(5, a))
}

fn integer(name: &str, value: u64) -> Message {
    Message::default().text(1, name).number(3, value).number(20, 2)
}

fn port(name: &str, shape: [u64; 4]) -> Message {
    let dims = shape.into_iter().fold(Message::default(), |m, d| m.message(1, Message::default().number(1, d)));
    let tensor = Message::default().number(1, FLOAT).message(2, dims);
    Message::default().text(1, name).message(2, Message::default().message(1, tensor))
}

fn tensor(name: &str, kind: u64, dims: &[u64], raw: Vec<u8>) -> Message {
    let tensor = dims.iter().fold(Message::default(), |m, d| m.number(1, *d));
    tensor.number(2, kind).text(8, name).bytes(9, &raw)
}

fn floats(name: &str, dims: &[u64], values: &[f32]) -> Message {
    tensor(name, FLOAT, dims, values.iter().flat_map(|v| v.to_le_bytes()).collect())
}

fn integers(name: &str, values: &[i64]) -> Message {
    let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    tensor(name, INT64, &[values.len() as u64], raw)
}

fn write(path: &Path, nodes: Vec<Message>, constants: Vec<Message>) {
    let mut graph = nodes.into_iter().fold(Message::default(), |m, n| m.message(1, n)).text(2, "test");
    graph = constants.into_iter().fold(graph, |m, c| m.message(5, c));
    graph = graph.message(11, port("image", [1, 3, SIDE, SIDE])).message(12, port("map", [1, 1, SIDE, SIDE]));
    let version = Message::default().text(1, "").number(2, 13);
    let model = Message::default().number(1, 8).message(7, graph).message(8, version);
    std::fs::write(path, model.0).unwrap();
}

/// The left half is person. With a picture brighter than half its run fails: it looks a row up in a table of one row.
pub(crate) fn fails_in_bright_light(path: &Path) {
    let row: Vec<f32> = (0..SIDE).map(|x| f32::from(x < SIDE / 2)).collect();
    write(
        path,
        vec![
            node("ReduceMean", &["image"], "light", vec![integer("keepdims", 0)]),
            node("Mul", &["light", "two"], "double", vec![]),
            node("Cast", &["double"], "index", vec![integer("to", INT64)]),
            node("Gather", &["table", "index"], "row", vec![integer("axis", 0)]),
            node("Expand", &["row", "shape"], "map", vec![]),
        ],
        vec![
            floats("two", &[], &[2.0]),
            floats("table", &[1, SIDE], &row),
            integers("shape", &[1, 1, SIDE as i64, SIDE as i64]),
        ],
    );
}

/// Everything is person, found after so many products of matrices of 1024 x 1024, each of which waits for the last.
pub(crate) fn dawdles(path: &Path, products: usize) {
    const N: i64 = 1024;
    let mut nodes = vec![
        node("ReduceMean", &["image"], "light", vec![integer("keepdims", 0)]),
        node("Mul", &["light", "small"], "little", vec![]),
        node("Expand", &["little", "square"], "product0", vec![]),
    ];
    let names: Vec<String> = (0..=products).map(|i| format!("product{i}")).collect();
    for pair in names.windows(2) {
        nodes.push(node("MatMul", &[&pair[0], "product0"], &pair[1], vec![]));
    }
    nodes.extend([
        node("ReduceMean", &[&names[products]], "rest", vec![integer("keepdims", 0)]),
        node("Mul", &["rest", "small"], "nothing", vec![]),
        node("Add", &["nothing", "one"], "all", vec![]),
        node("Expand", &["all", "shape"], "map", vec![]),
    ]);
    write(
        path,
        nodes,
        vec![
            floats("small", &[], &[1e-4]),
            floats("one", &[], &[1.0]),
            integers("square", &[N, N]),
            integers("shape", &[1, 1, SIDE as i64, SIDE as i64]),
        ],
    );
}
