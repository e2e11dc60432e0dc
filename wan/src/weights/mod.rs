//! Weights: named tensors in files, read by memory map without a copy.
//!
//! A [`Weights`] is opened over one file, a sharded index or a folder; every name is brought to
//! the original Wan naming; a model takes its tensors one by one with the shapes that it expects
//! and closes with [`Weights::finish`], which names what is missing, misshapen or left over.

mod names;
mod pickle;
mod source;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

pub use names::Layout;
use source::{Entry, Source};

use crate::{Error, Result};

/// Where a model's tensors go when they are taken, and as what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The device that holds the weights.
    pub device: Device,
    /// The kind that the model computes in.
    pub kind: Kind,
}

impl Placement {
    /// fp32 on the CPU, which is what parity is measured in.
    pub const CPU_F32: Placement = Placement { device: Device::Cpu, kind: Kind::Float };
}

/// A tensor that may lie in a file's memory map, which it keeps alive. Never write to it.
///
/// A shallow clone or a view of the inner tensor does not keep the map alive by itself, so the
/// models hold `Weight`s and only borrow the tensors in them.
#[derive(Debug)]
pub struct Weight {
    tensor: Tensor,
    _map: Option<Arc<Source>>,
}

impl Weight {
    /// A weight that owns its memory.
    pub fn owned(tensor: Tensor) -> Self {
        Weight { tensor, _map: None }
    }

    /// The same memory under another shape (as for `reshape`; the tensor must be contiguous).
    pub fn view(self, shape: &[i64]) -> Self {
        Weight { tensor: self.tensor.view(shape), _map: self._map }
    }

    /// Whether this tensor still lies in the file's map.
    pub fn is_mapped(&self) -> bool {
        self._map.is_some()
    }
}

impl Deref for Weight {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.tensor
    }
}

/// The tensors of one model, still in their files.
#[derive(Debug)]
pub struct Weights {
    origin: String,
    layout: Layout,
    entries: BTreeMap<String, Entry>,
    problems: RefCell<Vec<String>>,
}

impl Weights {
    /// Opens a `.safetensors` file, a `.safetensors.index.json`, a `.pt`/`.pth` state dict, or a
    /// folder with one of them, and maps the names of `layout` to the original ones.
    pub fn open(path: impl AsRef<Path>, layout: Layout) -> Result<Self> {
        let path = path.as_ref();
        let files = source::files_of(path)?;
        let mut found = Vec::new();
        for file in &files {
            found.extend(source::entries_of(file)?);
        }
        Self::from_entries(path, layout, found)
    }

    /// Opens several files that hold one model together.
    pub fn open_all(paths: &[PathBuf], layout: Layout) -> Result<Self> {
        let first = paths.first().ok_or_else(|| Error::parameter("no weights file is given"))?;
        let mut found = Vec::new();
        for path in paths {
            for file in source::files_of(path)? {
                found.extend(source::entries_of(&file)?);
            }
        }
        Self::from_entries(first, layout, found)
    }

    fn from_entries(path: &Path, layout: Layout, found: Vec<(String, Entry)>) -> Result<Self> {
        let mut entries = BTreeMap::new();
        let prefix = layout.prefix(found.iter().map(|(name, _)| name.as_str()));
        for (name, entry) in found {
            let Some(known) = layout.original_name(name.strip_prefix(prefix).unwrap_or(&name)) else {
                continue;
            };
            if entries.insert(known.clone(), entry).is_some() {
                return Err(Error::file(path, format!("holds the tensor {known} twice (as {name})")));
            }
        }
        Ok(Weights { origin: path.display().to_string(), layout, entries, problems: RefCell::default() })
    }

    /// Where these weights come from, for messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The shape of a tensor by its original name, without loading it.
    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        self.entries.get(name).map(|entry| entry.shape.as_slice())
    }

    /// The kind in which a tensor is stored.
    pub fn kind(&self, name: &str) -> Option<Kind> {
        self.entries.get(name).map(|entry| entry.kind)
    }

    /// The shape of a tensor that decides the size of the model; its absence is an error.
    pub fn require_shape<const N: usize>(&self, name: &str) -> Result<[i64; N]> {
        let shape = self
            .shape(name)
            .ok_or_else(|| self.error(format!("the tensor {name} is missing: {}", self.layout.hint())))?;
        shape.try_into().map_err(|_| {
            self.error(format!("the tensor {name} has the shape {shape:?}, but {N} dimensions are expected"))
        })
    }

    /// How many blocks a numbered list has: one more than the greatest `i` in `{prefix}{i}.`.
    pub fn count(&self, prefix: &str) -> usize {
        let number = |name: &String| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
        self.entries.keys().filter_map(number).max().map_or(0, |last| last + 1)
    }

    /// Bytes that all tensors not yet taken occupy in their files.
    pub fn stored_bytes(&self) -> u64 {
        self.entries.values().map(Entry::bytes).sum()
    }

    /// Takes the tensor `name` (original naming) of the given shape, as `place.kind` on
    /// `place.device`. No copy is made when the file already holds that kind and the device is the CPU.
    ///
    /// What is missing or misshapen is noted, so that [`Weights::finish`] can name everything at
    /// once; a placeholder of the right shape is returned meanwhile.
    pub fn take(&mut self, name: &str, shape: &[i64], place: Placement) -> Result<Weight> {
        let Some((weight, scale)) = self.fetch(name, shape)? else {
            return Ok(Weight::owned(Tensor::zeros(shape, (place.kind, place.device))));
        };
        if scale.is_none() && weight.kind() == place.kind && place.device == weight.device() {
            return Ok(weight);
        }
        let moved = weight.f_to_device(place.device)?;
        let placed = match scale {
            Some(scale) => (moved.f_to_kind(Kind::Float)? * scale).f_to_kind(place.kind)?,
            None => moved.f_to_kind(place.kind)?,
        };
        Ok(Weight::owned(placed))
    }

    /// As [`Weights::take`], but an fp8 tensor stays fp8 (and is widened where it is used).
    pub fn take_stored(&mut self, name: &str, shape: &[i64], place: Placement) -> Result<Weight> {
        let scaled = self.entries.contains_key(&scale_name(name));
        match self.kind(name) {
            Some(kind @ (Kind::Float8e4m3fn | Kind::Float8e5m2)) if !scaled => {
                self.take(name, shape, Placement { kind, ..place })
            }
            _ => self.take(name, shape, place),
        }
    }

    /// Takes the tensor as it is stored, if it is there; `None` if not.
    pub fn take_optional(&mut self, name: &str, shape: &[i64], place: Placement) -> Result<Option<Weight>> {
        if self.entries.contains_key(name) { self.take(name, shape, place).map(Some) } else { Ok(None) }
    }

    /// Ends the loading of a model: an error that names every tensor that was missing or
    /// misshapen, or that the model did not ask for.
    pub fn finish(self) -> Result<()> {
        let mut problems = self.problems.take();
        let surplus: Vec<&String> = self.entries.keys().collect();
        if !surplus.is_empty() {
            problems.push(format!("surplus: {}", listed(surplus.iter().map(|name| name.as_str()))));
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::Weights {
            origin: self.origin,
            reason: format!(
                "these are not the weights of {}: {}",
                self.layout.hint(),
                listed(problems.iter().map(String::as_str))
            ),
        })
    }

    /// Every tensor as it is stored, under its original name.
    pub fn into_tensors(mut self) -> Result<BTreeMap<String, Weight>> {
        let names: Vec<String> = self.entries.keys().cloned().collect();
        names
            .into_iter()
            .map(|name| {
                let entry = self.entries.remove(&name).expect("the name comes from this map");
                Ok((name, entry.weight()?))
            })
            .collect()
    }

    /// Writes every tensor under its original name to one safetensors file, which appears under its
    /// name when it is whole. A pickle need be read but once so.
    pub fn save(self, path: &Path) -> Result<()> {
        let origin = self.origin.clone();
        let tensors = self.into_tensors()?;
        let views =
            tensors.iter().map(|(name, weight)| Ok((name, source::Stored::of(weight)?))).collect::<Result<Vec<_>>>()?;
        let part = path.with_extension("part");
        let written = safetensors::tensor::serialize_to_file(views, None, &part);
        written.map_err(|e| Error::file(&part, format!("{origin} cannot be kept there: {e}")))?;
        std::fs::rename(&part, path).map_err(|e| Error::io(path, e))
    }

    /// The tensor as stored and its fp8 scale, if the file has one beside it.
    fn fetch(&mut self, name: &str, shape: &[i64]) -> Result<Option<(Weight, Option<f64>)>> {
        let scale = match self.entries.remove(&scale_name(name)) {
            Some(entry) => Some(entry.weight()?.to_kind(Kind::Double).mean(Kind::Double).double_value(&[])),
            None => None,
        };
        let Some(entry) = self.entries.remove(name) else {
            self.problems.borrow_mut().push(format!("missing: {name} {shape:?}"));
            return Ok(None);
        };
        if entry.shape != shape {
            self.problems.borrow_mut().push(format!("misshapen: {name} has {:?}, expected {shape:?}", entry.shape));
            return Ok(None);
        }
        Ok(Some((entry.weight()?, scale)))
    }

    fn error(&self, reason: String) -> Error {
        Error::Weights { origin: self.origin.clone(), reason }
    }
}

/// ComfyUI's scaled fp8 files keep one factor beside each weight.
fn scale_name(name: &str) -> String {
    format!("{}.scale_weight", name.strip_suffix(".weight").unwrap_or(name))
}

/// At most eight of the names, and how many more there are.
fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let count = names.len();
    let shown: Vec<&str> = names.take(8).collect();
    let more = if count > 8 { format!(", and {} more", count - 8) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
