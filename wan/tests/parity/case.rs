//! One case of the manifest: its settings, its tensors, and the comparison with what was made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use krea_wan::weights::{Layout, Weight, Weights};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tch::{Kind, Tensor};

/// The part of `manifest.json` that this program reads.
#[derive(Deserialize)]
pub(crate) struct Manifest {
    pub(crate) cases: Vec<Entry>,
    #[serde(default)]
    weights: BTreeMap<String, WeightsEntry>,
}

#[derive(Deserialize)]
struct WeightsEntry {
    #[serde(default)]
    note: String,
}

impl Manifest {
    /// Files that the manifest says to hold the same values as others of their model, which is
    /// the first word of their names.
    fn same_values(&self, name: &str) -> Vec<String> {
        let model = |name: &str| name.split('_').next().map(str::to_owned);
        let others = self.weights.iter().filter(|(other, entry)| {
            other.as_str() != name && model(other) == model(name) && entry.note.contains("same values")
        });
        others.map(|(other, _)| other.clone()).collect()
    }
}

/// A case as the manifest gives it.
#[derive(Deserialize, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) kind: String,
    file: String,
    weights: Option<OneOrMany>,
    config: Value,
    #[serde(default)]
    tolerance: Tolerance,
    #[serde(default)]
    tensors: Vec<TensorEntry>,
}

#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize, Default, Clone, Copy)]
pub(crate) struct Tolerance {
    #[serde(default)]
    pub(crate) atol: f64,
    #[serde(default)]
    pub(crate) rtol: f64,
}

#[derive(Deserialize, Clone)]
struct TensorEntry {
    name: String,
    role: String,
}

/// A case with its tensors read. What a test calls an error is a panic here, and `main` counts it.
pub(crate) struct Case {
    folder: PathBuf,
    entry: Entry,
    same_values: Vec<String>,
    tensors: BTreeMap<String, Weight>,
    checked: BTreeSet<String>,
    worst: f64,
}

impl Case {
    pub(crate) fn open(folder: &Path, manifest: &Manifest, entry: &Entry) -> Self {
        let path = folder.join(&entry.file);
        let tensors = if entry.file.ends_with(".safetensors") {
            Weights::open(&path, Layout::Plain)
                .and_then(Weights::into_tensors)
                .unwrap_or_else(|error| panic!("{error}"))
        } else {
            BTreeMap::new()
        };
        let first = entry.weights.as_ref().and_then(|names| match names {
            OneOrMany::One(name) => Some(name),
            OneOrMany::Many(names) => names.first(),
        });
        Case {
            folder: folder.to_owned(),
            entry: entry.clone(),
            same_values: first.map_or_else(Vec::new, |name| manifest.same_values(name)),
            tensors,
            checked: BTreeSet::new(),
            worst: 0.0,
        }
    }

    /// The case's own file.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join(&self.entry.file)
    }

    /// A file beside the manifest.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The weights files that the case names; it may name several layouts of the same values.
    pub(crate) fn weights(&self) -> Vec<PathBuf> {
        let names = match &self.entry.weights {
            None => Vec::new(),
            Some(OneOrMany::One(name)) => vec![name],
            Some(OneOrMany::Many(names)) => names.iter().collect(),
        };
        names.into_iter().map(|name| self.beside(name)).collect()
    }

    /// The case's first weights file, and those that hold the same values under other names.
    pub(crate) fn layouts(&self) -> Vec<PathBuf> {
        let mut paths = self.weights();
        paths.truncate(1);
        paths.extend(self.same_values.iter().map(|name| self.beside(name)));
        paths
    }

    /// A setting by its path in the case's `config`, such as `/dit/num_heads`.
    pub(crate) fn config<T: DeserializeOwned>(&self, pointer: &str) -> T {
        self.optional(pointer).unwrap_or_else(|| panic!("config has no {pointer}"))
    }

    /// The same, if it is there.
    pub(crate) fn optional<T: DeserializeOwned>(&self, pointer: &str) -> Option<T> {
        let value = self.entry.config.pointer(pointer)?;
        let read = serde_json::from_value(value.clone());
        Some(read.unwrap_or_else(|error| panic!("config {pointer}: {error}")))
    }

    /// The allowed `|a - b| <= atol + rtol |b|`.
    pub(crate) fn tolerance(&self) -> Tolerance {
        self.entry.tolerance
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor of the case as it is stored.
    pub(crate) fn tensor(&self, name: &str) -> Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}")).copy()
    }

    /// The names of the tensors that start so, in order.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let names = self.tensors.keys();
        names.filter(|n| n.starts_with(prefix)).cloned().collect()
    }

    /// Compares with the tensor `name` of the case: the same shape, every element within tolerance.
    pub(crate) fn check(&mut self, name: &str, made: &Tensor) {
        let Tolerance { atol, rtol } = self.tolerance();
        self.check_within(name, made, atol, rtol);
    }

    /// The same with another tolerance, for what is stored in less precision.
    pub(crate) fn check_within(&mut self, name: &str, made: &Tensor, atol: f64, rtol: f64) {
        let expected = self.tensor(name).to_kind(Kind::Double);
        let made = made.detach().to_kind(Kind::Double);
        assert_eq!(made.size(), expected.size(), "shape of {name}");
        self.checked.insert(name.to_owned());
        let error = (&made - &expected).abs();
        let bad = error.isfinite().logical_not().any().int64_value(&[]) != 0;
        assert!(!bad, "{name} is not finite everywhere");
        let allowed = expected.abs() * rtol + atol;
        let worst = error.max().double_value(&[]);
        let beyond = (&error - &allowed).max().double_value(&[]);
        self.worst = self.worst.max(worst);
        assert!(beyond <= 0.0, "{name} is off by up to {worst:.3e} (allowed {atol:.1e} + {rtol:.1e} of the value)");
    }

    /// The largest error met; panics if an output of the case was never compared.
    pub(crate) fn finish(self) -> f64 {
        let outputs = self.entry.tensors.iter().filter(|t| t.role == "output");
        let left: Vec<&str> = outputs.map(|t| t.name.as_str()).filter(|name| !self.checked.contains(*name)).collect();
        assert!(left.is_empty(), "never compared: {}", left.join(", "));
        self.worst
    }
}
