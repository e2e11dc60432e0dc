//! The names of the tensors in a file of weights, without reading a single weight.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::bytes_in_words;

/// The longest header that the format allows.
const LONGEST_HEADER: u64 = 100_000_000;
/// torch puts the pickle, in which the names stand, in front of the weights.
const HEAD_OF_PICKLE: u64 = 8 << 20;
/// What some tools put before every name.
const PREFIXES: [&str; 3] = ["", "model.", "model.diffusion_model."];

/// What is known of the names.
pub(super) enum Names {
    Listed(HashSet<String>),
    /// The bytes of a pickle, which is searched and never executed.
    Somewhere(Vec<u8>),
}

impl Names {
    /// Reads them from a `.safetensors` file, its `.index.json`, or a `.pt`/`.pth`.
    pub(super) fn of(path: &Path) -> Result<Self, String> {
        if path.extension().is_some_and(|e| e == "json") {
            return of_index(path);
        }
        let mut file = File::open(path).map_err(|e| e.to_string())?;
        let mut start = [0; 8];
        file.read_exact(&mut start).map_err(|_| "is empty or cut short")?;
        if start.starts_with(b"PK\x03\x04") {
            let mut head = start.to_vec();
            file.take(HEAD_OF_PICKLE).read_to_end(&mut head).map_err(|e| e.to_string())?;
            return Ok(Self::Somewhere(head));
        }
        if path.extension().is_some_and(|e| e == "pt" || e == "pth") {
            return Err("is not a file that torch 1.6 or newer has written".to_owned());
        }
        of_header(file, u64::from_le_bytes(start))
    }

    pub(super) fn have(&self, name: &str) -> bool {
        match self {
            Self::Listed(names) => PREFIXES.iter().any(|prefix| names.contains(&format!("{prefix}{name}"))),
            Self::Somewhere(bytes) => bytes.windows(name.len()).any(|window| window == name.as_bytes()),
        }
    }
}

#[derive(Deserialize)]
struct Tensor {
    data_offsets: (u64, u64),
}

/// The header is a length and a JSON object; the file must be as long as the header says.
fn of_header(file: File, length: u64) -> Result<Names, String> {
    let size = file.metadata().map_err(|e| e.to_string())?.len();
    if length > LONGEST_HEADER.min(size.saturating_sub(8)) {
        return Err("is not a safetensors file, or cut short".to_owned());
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).map_err(|e| e.to_string())?;
    let mut entries: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&header).map_err(|e| format!("is not a safetensors file ({e})"))?;
    entries.remove("__metadata__");
    let mut end = 0;
    for (name, entry) in &entries {
        let tensor = Tensor::deserialize(entry).map_err(|e| format!("is not a safetensors file ({name}: {e})"))?;
        end = end.max(tensor.data_offsets.1);
    }
    let needed = end.saturating_add(8 + length);
    if size < needed {
        let (here, all) = (bytes_in_words(size), bytes_in_words(needed));
        return Err(format!("is cut short: {here} of {all} are here"));
    }
    Ok(Names::Listed(entries.into_keys().collect()))
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The names of the shards that an index lists, each once.
pub(super) fn shards(index: &Path) -> Result<HashSet<String>, String> {
    Ok(read_index(index)?.weight_map.into_values().collect())
}

fn read_index(path: &Path) -> Result<Index, String> {
    let text = std::fs::read(path).map_err(|e| e.to_string())?;
    serde_json::from_slice(&text).map_err(|e| format!("is not an index of shards ({e})"))
}

fn of_index(path: &Path) -> Result<Names, String> {
    let folder = path.parent().unwrap_or(path);
    let map = read_index(path)?.weight_map;
    match map.values().find(|shard| !folder.join(shard).is_file()) {
        Some(shard) => Err(format!("names {shard}, which is not there")),
        None => Ok(Names::Listed(map.into_keys().collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A safetensors file of one-byte tensors.
    fn safetensors(names: &[&str]) -> Vec<u8> {
        let entry = |(i, name): (usize, &&str)| {
            format!(r#""{name}":{{"dtype":"U8","shape":[1],"data_offsets":[{i},{}]}}"#, i + 1)
        };
        let entries: Vec<_> = names.iter().enumerate().map(entry).collect();
        let header = format!(r#"{{"__metadata__":{{"format":"pt"}},{}}}"#, entries.join(","));
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; names.len()]].concat()
    }

    fn names(name: &str, bytes: &[u8]) -> Result<Names, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Names::of(&path)
    }

    #[test]
    fn names_are_found_behind_every_known_prefix() {
        for prefix in PREFIXES {
            let found = names("a.safetensors", &safetensors(&["x", &format!("{prefix}a.weight")])).unwrap();
            assert!(found.have("a.weight") && !found.have("b.weight") && !found.have("weight"));
        }
    }

    #[test]
    fn a_pickle_of_torch_is_searched() {
        let file = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/wan/tests/behaviour/state.pth")).unwrap();
        let found = names("a.pth", &file).unwrap();
        assert!(!found.have("no.such.tensor"));
        assert!(found.have("data.pkl"), "the head of the archive is searched");
    }

    #[test]
    fn a_file_that_is_cut_short_is_told_with_the_numbers() {
        let whole = safetensors(&["a", "b", "c"]);
        let why = |bytes: &[u8]| names("a.safetensors", bytes).err().unwrap();
        assert!(why(&whole[..whole.len() - 1]).contains(&format!("of {} bytes are here", whole.len())));
        assert!(why(&whole[..20]).contains("cut short"));
        assert!(why(b"").contains("empty"));
        assert!(why(b"<!doctype html><html>").contains("not a safetensors file"));
        assert!(names("a.pt", b"\x80\x02abcdefgh").err().unwrap().contains("torch 1.6"));
    }
}
