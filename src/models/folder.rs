//! A folder with the files of a generator, as people and download tools lay them out.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::part::Part;
use super::tensors::{self, Names};
use crate::error::{Error, Result};

/// Where in the folder files are looked for: it itself, then what repositories on the hub call their folders.
pub(super) const PLACES: [&str; 7] =
    ["", "transformer", "checkpoints", "vae", "text_encoder", "tokenizer", "google/umt5-xxl"];
const INDEX: &str = ".safetensors.index.json";

/// What was found.
pub(super) struct Folder {
    root: PathBuf,
    known: Vec<Known>,
    /// Files that are weights by name but cannot be read, and why.
    unreadable: Vec<(PathBuf, String)>,
}

struct Known {
    part: Part,
    path: PathBuf,
    /// The best name wins; a pickle loses against its like as safetensors.
    rank: (usize, bool),
}

impl Folder {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut folder = Self { root: root.to_owned(), known: Vec::new(), unreadable: Vec::new() };
        // A folder that cannot be read is not one without files.
        names_in(root).map_err(|e| Error::Model(format!("{}: {e}", root.display())))?;
        for place in PLACES {
            let below = root.join(place);
            let names = names_in(&below).unwrap_or_default();
            let shards: HashSet<String> = names
                .iter()
                .filter(|name| name.ends_with(INDEX))
                .flat_map(|name| tensors::shards(&below.join(name)).unwrap_or_default())
                .collect();
            for name in names.iter().filter(|name| !shards.contains(*name)) {
                let path = below.join(name);
                if path.is_file() {
                    folder.add(name, path);
                }
            }
        }
        Ok(folder)
    }

    fn add(&mut self, name: &str, path: PathBuf) {
        if name == "tokenizer.json" {
            self.known.push(Known { part: Part::Tokenizer, path, rank: (self.known.len(), false) });
            return;
        }
        let pickle = name.ends_with(".pt") || name.ends_with(".pth");
        if !pickle && ![".safetensors", ".sft", INDEX].iter().any(|end| name.ends_with(end)) {
            return;
        }
        if name.contains("-of-") {
            self.unreadable.push((path, format!("is a shard, and its {INDEX} is not there")));
            return;
        }
        match Names::of(&path) {
            Ok(names) => {
                if let Some(part) = Part::of(&names) {
                    let rank = part.rank(name).unwrap_or(usize::MAX);
                    self.known.push(Known { part, path, rank: (rank, pickle) });
                }
            }
            Err(why) => self.unreadable.push((path, why)),
        }
    }

    pub(super) fn has(&self, part: Part) -> bool {
        self.known.iter().any(|k| k.part == part)
    }

    /// The file of this part; `None` if there is none. Two that are equally good are an error.
    pub(super) fn file(&self, part: Part) -> Result<Option<PathBuf>> {
        let mut files: Vec<&Known> = self.known.iter().filter(|k| k.part == part).collect();
        files.sort_by_key(|k| k.rank);
        let best = files.first().map(|k| k.rank.0);
        // A damaged file is not passed over for one that is less likely to be meant.
        let better = |path: &Path| part.rank(&name_of(path)).is_some_and(|rank| best.is_none_or(|best| rank < best));
        if let Some((path, why)) = self.unreadable.iter().find(|(path, _)| better(path)) {
            return Err(Error::Model(format!("{} {why}. Fetch it again", path.display())));
        }
        match files.as_slice() {
            [first, second, ..] if first.rank == second.rank && !same(&first.path, &second.path) => {
                Err(Error::Model(format!(
                    "{}: more than one file is a {}: {} and {}. Keep one of them there, or make a folder of links to the files that are meant",
                    self.root.display(),
                    part.word(),
                    self.shown(&first.path),
                    self.shown(&second.path)
                )))
            }
            files => Ok(files.first().map(|k| k.path.clone())),
        }
    }

    /// The file that is this part by its name, but holds another.
    pub(super) fn misnamed(&self, part: Part) -> Option<String> {
        let other = self.known.iter().find(|k| k.part != part && part.rank(&name_of(&k.path)) == Some(0))?;
        Some(format!("{} is the {}", self.shown(&other.path), other.part.word()))
    }

    fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}

/// Two links to one file are one file.
fn same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn names_in(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder)?.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
