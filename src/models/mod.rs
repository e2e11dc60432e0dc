//! Model files: what there is, where it lies on this machine, and how it gets there.
//!
//! `Library` is the door: it joins the manifest, the Hugging Face cache, the folder of plain files and the lock file.

pub mod bundle;
pub mod cache;
mod client;
pub mod consent;
mod download;
pub mod environment;
mod folder;
mod import;
pub mod lock;
pub mod manifest;
mod part;
mod pull;
mod remove;
mod retry;
mod space;
mod tensors;
mod transfer;
mod verify;

use std::path::{Path, PathBuf};

pub use bundle::{Bundle, Offer};
pub use environment::Environment;
pub use manifest::Manifest;
pub use part::Part;
pub use pull::Options;
pub use retry::Retry;
pub(crate) use space::free_bytes;
pub use transfer::Transfer;
pub use verify::Verdict;

use crate::error::{Error, Result};
use cache::{Cache, Repo};
use lock::{Entry, LockFile};
use manifest::{File, Model, Origin};

/// Every model that krea knows, and where each of their files is.
pub struct Library {
    pub manifest: Manifest,
    environment: Environment,
    lock: LockFile,
}

/// Where a file stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Whole, at this path; the origin is `None` for a file in the folder of plain files.
    Here {
        path: PathBuf,
        origin: Option<Origin>,
    },
    /// So many bytes of a download that was cut off.
    Partial {
        bytes: u64,
    },
    /// There, but not as long as it was when it was pulled.
    Damaged {
        path: PathBuf,
        bytes: u64,
        expected: u64,
    },
    Missing,
}

impl Library {
    pub fn new(manifest: Manifest, environment: Environment) -> Self {
        let lock = LockFile::new(environment.state.clone());
        Self { manifest, environment, lock }
    }

    /// The built-in manifest, in the places that the environment names.
    pub fn of_this_machine() -> Self {
        Self::new(Manifest::built_in(), Environment::from_env())
    }

    /// The model called `name`; a usage error lists the names.
    pub fn model(&self, name: &str) -> Result<&Model> {
        self.manifest.model(name).ok_or_else(|| {
            let names: Vec<_> = self.manifest.models.iter().map(|m| m.name.as_str()).collect();
            Error::Usage(format!("'{name}' is not a model that krea knows: one of {}", names.join(", ")))
        })
    }

    /// The paths of all files of the model, in the manifest's order; `None` unless all are here.
    pub fn locate(&self, model: &Model) -> Result<Option<Vec<PathBuf>>> {
        let mut paths = Vec::new();
        for file in &model.files {
            match self.state(file)? {
                State::Here { path, .. } => paths.push(path),
                _ => return Ok(None),
            }
        }
        Ok(Some(paths))
    }

    /// Like `locate`, for whoever cannot go on without: the error names the command that helps.
    pub fn require(&self, name: &str) -> Result<Vec<PathBuf>> {
        let model = self.model(name)?;
        self.locate(model)?.ok_or_else(|| Error::Model(format!("{name} is not on this machine. {}", model.remedy())))
    }

    /// Looks in the folder of plain files, then in the cache at every place that the manifest names.
    pub fn state(&self, file: &File) -> Result<State> {
        let lock = self.lock.read()?;
        if let Some(path) = self.plain(file).filter(|p| p.is_file()) {
            let locked = lock.find(lock::IMPORTED, &file.name);
            return Ok(whole(path, None, locked));
        }
        let mut partial = None;
        for origin in &file.from {
            let Some(repo) = self.repo(origin) else { continue };
            let locked = lock.find(&origin.repository, &origin.file);
            if let Some(path) = repo.find(&origin.file, locked.map(|e| e.commit.as_str())) {
                return Ok(whole(path, Some(origin.clone()), locked));
            }
            let begun = locked.and_then(|e| std::fs::metadata(repo.incomplete(&e.sha256)).ok());
            partial = partial.or(begun.map(|m| State::Partial { bytes: m.len() }));
        }
        Ok(partial.unwrap_or(State::Missing))
    }

    /// What was locked for this file, wherever it came from.
    pub fn locked(&self, file: &File) -> Result<Option<Entry>> {
        let lock = self.lock.read()?;
        let mut origins = file.from.iter().map(|o| (o.repository.as_str(), o.file.as_str()));
        let pulled = origins.find_map(|(repository, path)| lock.find(repository, path));
        Ok(pulled.or_else(|| lock.find(lock::IMPORTED, &file.name)).cloned())
    }

    /// The Hugging Face cache.
    pub fn hub(&self) -> Option<&Path> {
        self.environment.hub.as_deref()
    }

    /// The folder of plain files.
    pub fn plain_folder(&self) -> Option<&Path> {
        self.environment.models.as_deref()
    }

    /// Where a plain file of this name would lie.
    fn plain(&self, file: &File) -> Option<PathBuf> {
        self.environment.models.as_ref().map(|folder| folder.join(&file.name))
    }

    fn repo(&self, origin: &Origin) -> Option<Repo> {
        self.environment.hub.as_ref().map(|root| Cache::new(root.clone()).repo(&origin.repository))
    }
}

fn whole(path: PathBuf, origin: Option<Origin>, locked: Option<&Entry>) -> State {
    let bytes = std::fs::metadata(&path).map_or(0, |m| m.len());
    match locked {
        Some(entry) if entry.size != bytes => State::Damaged { path, bytes, expected: entry.size },
        _ => State::Here { path, origin },
    }
}

/// An error of the file system, with what was being done to which path.
fn disk(path: &Path, what: &str, error: &std::io::Error) -> Error {
    Error::Output(format!("{}: {what}: {error}", path.display()))
}

/// `28.6 GB`, in powers of ten as hubs and disks count.
pub fn bytes_in_words(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if value < 999.5 {
            let digits = usize::from(unit != "bytes" && value < 100.0);
            return format!("{value:.digits$} {unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        let cases = [(0, "0 bytes"), (999, "999 bytes"), (13_800_000, "13.8 MB"), (254_000_000, "254 MB")];
        for (bytes, words) in cases {
            assert_eq!(bytes_in_words(bytes), words);
        }
        assert_eq!(bytes_in_words(28_600_000_000), "28.6 GB");
        assert_eq!(bytes_in_words(2_000_000_000_000), "2.0 TB");
    }
}
