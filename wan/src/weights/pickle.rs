//! torch's `.pt`/`.pth` state dicts, read by a reader that executes nothing.
//!
//! Such a file is a zip archive of a pickle and of one entry a storage, kept uncompressed, so
//! that tensors can be mapped in place. The pickle is interpreted as data: dictionaries, lists,
//! tuples, strings, numbers and the few torch names that a tensor is rebuilt from. Anything else,
//! such as a call of any other function, is refused by its name.

mod machine;
mod zip;

use std::path::Path;
use std::sync::Arc;

use tch::Kind;

use super::source::{Entry, Source};
use crate::{Error, Result};
use machine::{TensorRef, Value};
use zip::Archive;

/// The keys under which training scripts put the state dict, best first.
const NESTED: [&str; 5] = ["generator_ema", "generator", "state_dict", "model", "module"];

/// Lists the tensors of a mapped `.pt`/`.pth` file.
pub(super) fn entries(source: &Arc<Source>) -> Result<Vec<(String, Entry)>> {
    let path = source.path.as_path();
    let archive = Archive::read(source.bytes()).map_err(|reason| Error::file(path, reason))?;
    let (folder, pickle) = archive
        .pickle()
        .ok_or_else(|| Error::file(path, "is a zip archive, but not one of torch's (it has no data.pkl)"))?;
    if archive.get(&format!("{folder}byteorder")).is_some_and(|range| &source.bytes()[range] == b"big") {
        return Err(Error::file(path, "was written on a big-endian machine, which is not supported"));
    }
    let root =
        machine::run(&source.bytes()[pickle]).map_err(|reason| Error::file(path, format!("is refused: {reason}")))?;
    let mut tensors = Vec::new();
    collect(path, &state_dict(root), "", 0, &mut tensors)?;
    if tensors.is_empty() {
        return Err(Error::file(path, "holds no tensor"));
    }
    tensors
        .into_iter()
        .map(|(name, tensor)| Ok((name.clone(), entry(source, &archive, &folder, &name, &tensor)?)))
        .collect()
}

/// The dictionary of tensors inside of what a training script saved.
fn state_dict(root: Value) -> Value {
    for key in NESTED {
        if let Some(inner @ Value::Dict(_)) = root.get(key) {
            return inner;
        }
    }
    root
}

fn collect(path: &Path, value: &Value, name: &str, depth: usize, into: &mut Vec<(String, TensorRef)>) -> Result<()> {
    if depth > 8 {
        return Err(Error::file(path, "is refused: its dictionaries are nested too deeply"));
    }
    match value {
        Value::Tensor(tensor) => into.push((name.to_owned(), (**tensor).clone())),
        Value::Dict(items) => {
            for (key, item) in items.borrow().iter() {
                if let Value::Str(key) = key {
                    let full = if name.is_empty() { key.to_string() } else { format!("{name}.{key}") };
                    collect(path, item, &full, depth + 1, into)?;
                }
            }
        }
        // Step counters, learning rates and the like beside the tensors.
        _ => {}
    }
    Ok(())
}

fn entry(source: &Arc<Source>, archive: &Archive, folder: &str, name: &str, tensor: &TensorRef) -> Result<Entry> {
    let refuse = |reason: &str| Error::file(&source.path, format!("the tensor {name} {reason}"));
    let kind = kind_of(&tensor.storage)
        .ok_or_else(|| refuse(&format!("is stored as {}, which is not supported", tensor.storage)))?;
    let range = archive
        .get(&format!("{folder}data/{}", tensor.key))
        .ok_or_else(|| refuse("has no storage in the file: the download is incomplete"))?;
    if tensor.shape.len() != tensor.strides.len()
        || tensor.shape.iter().chain(&tensor.strides).any(|&n| n < 0)
        || tensor.offset < 0
    {
        return Err(refuse("has a shape that makes no sense"));
    }
    // The last element that the strides reach must lie in the storage.
    let empty = tensor.shape.contains(&0);
    let reach = tensor
        .shape
        .iter()
        .zip(&tensor.strides)
        .try_fold(0i64, |sum, (&n, &stride)| sum.checked_add((n - 1).max(0).checked_mul(stride)?));
    let size = kind.elt_size_in_bytes();
    let span = reach.filter(|_| !empty).map_or(0, |last| last as u128 + 1);
    let end = (tensor.offset as u128 + span) * size as u128;
    if end > range.len() as u128 || (reach.is_none() && !empty) {
        return Err(refuse("reaches past the end of its storage"));
    }
    let start = tensor.offset as usize * size;
    let strides = if contiguous(&tensor.shape, &tensor.strides) { vec![] } else { tensor.strides.clone() };
    Ok(Entry {
        source: source.clone(),
        kind,
        shape: tensor.shape.clone(),
        strides,
        offset: range.start + start,
        len: span as usize * size,
    })
}

fn contiguous(shape: &[i64], strides: &[i64]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(&n, &stride)| {
        let fits = n == 1 || stride == expected;
        expected *= n.max(1);
        fits
    })
}

fn kind_of(storage: &str) -> Option<Kind> {
    Some(match storage {
        "FloatStorage" => Kind::Float,
        "HalfStorage" => Kind::Half,
        "BFloat16Storage" => Kind::BFloat16,
        "DoubleStorage" => Kind::Double,
        "LongStorage" => Kind::Int64,
        "IntStorage" => Kind::Int,
        "ShortStorage" => Kind::Int16,
        "CharStorage" => Kind::Int8,
        "ByteStorage" => Kind::Uint8,
        "BoolStorage" => Kind::Bool,
        _ => return None,
    })
}
