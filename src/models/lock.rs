//! The lock file: which bytes a name stood for when it was first pulled. A later difference is an error.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::cache::{lock_file, write_whole};
use crate::error::{Error, Result};

/// Stands in the place of the repository for a file that the user brought.
pub const IMPORTED: &str = "imported";

const VERSION: u32 = 1;

/// `$XDG_STATE_HOME/krea/models.lock.json`.
pub struct LockFile {
    folder: Option<PathBuf>,
}

/// What the lock file holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lock {
    version: u32,
    pub files: Vec<Entry>,
    /// Licences that the user has agreed to.
    #[serde(default)]
    pub accepted: Vec<Accepted>,
}

/// One file, as it was at its first pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub repo: String,
    pub file: String,
    /// Empty for an imported file.
    pub commit: String,
    pub sha256: String,
    pub size: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub model: String,
    pub licence: String,
}

impl Default for Lock {
    fn default() -> Self {
        Self { version: VERSION, files: Vec::new(), accepted: Vec::new() }
    }
}

impl Lock {
    pub fn find(&self, repo: &str, file: &str) -> Option<&Entry> {
        self.files.iter().find(|e| e.repo == repo && e.file == file)
    }

    /// Puts the entry in the place of an older one for the same file.
    pub fn put(&mut self, entry: Entry) {
        self.forget(&entry.repo, &entry.file);
        self.files.push(entry);
        self.files.sort_by(|a, b| (&a.repo, &a.file).cmp(&(&b.repo, &b.file)));
    }

    pub fn forget(&mut self, repo: &str, file: &str) {
        self.files.retain(|e| e.repo != repo || e.file != file);
    }
}

impl LockFile {
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    fn path(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|f| f.join("models.lock.json"))
    }

    /// An empty lock if there is no file yet.
    pub fn read(&self) -> Result<Lock> {
        let Some(path) = self.path() else { return Ok(Lock::default()) };
        let wrong = |why: String| {
            Error::Model(format!(
                "{}: {why}. It holds the checksums of what was pulled; delete it to start anew with what the hub says",
                path.display()
            ))
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Lock::default()),
            Err(e) => return Err(wrong(e.to_string())),
        };
        let lock: Lock = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        let sound = |e: &Entry| {
            super::verify::is_sha256(&e.sha256) && (e.repo == IMPORTED || super::cache::is_commit(&e.commit))
        };
        if lock.version != VERSION || !lock.files.iter().all(sound) {
            return Err(wrong(format!("not a lock file of version {VERSION}")));
        }
        Ok(lock)
    }

    /// Changes the file while no other krea does.
    pub fn update(&self, change: impl FnOnce(&mut Lock)) -> Result<()> {
        let no_place = || Error::Output("there is no place for the lock file: set HOME or XDG_STATE_HOME".to_owned());
        let path = self.path().ok_or_else(no_place)?;
        let _guard = lock_file(&path.with_extension("json.lock"), || {})?;
        let mut lock = self.read()?;
        change(&mut lock);
        let text = serde_json::to_string_pretty(&lock).map_err(|e| Error::Output(e.to_string()))?;
        write_whole(&path, (text + "\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(file: &str, digit: &str) -> Entry {
        Entry { repo: "o/r".into(), file: file.into(), commit: digit.repeat(40), sha256: digit.repeat(64), size: 1 }
    }

    #[test]
    fn what_is_put_is_found_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = LockFile::new(Some(dir.path().join("state")));
        assert!(file.read().unwrap().files.is_empty());
        file.update(|l| l.put(entry("b", "1"))).unwrap();
        file.update(|l| l.put(entry("a", "2"))).unwrap();
        file.update(|l| l.put(entry("b", "3"))).unwrap();
        let lock = file.read().unwrap();
        assert_eq!(lock.files, [entry("a", "2"), entry("b", "3")]);
        assert_eq!(lock.find("o/r", "b"), Some(&entry("b", "3")));
        file.update(|l| l.forget("o/r", "a")).unwrap();
        assert_eq!(file.read().unwrap().find("o/r", "a"), None);
    }

    #[test]
    fn a_lock_file_that_cannot_be_trusted_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let file = LockFile::new(Some(dir.path().to_owned()));
        for text in ["{", "{\"version\": 9, \"files\": []}"] {
            std::fs::write(dir.path().join("models.lock.json"), text).unwrap();
            assert!(file.read().unwrap_err().to_string().contains("models.lock.json"), "{text}");
        }
        let mut bad = entry("a", "1");
        bad.commit = "../../x".into();
        let text = serde_json::json!({"version": 1, "files": [bad]}).to_string();
        std::fs::write(dir.path().join("models.lock.json"), text).unwrap();
        assert!(file.read().is_err());
    }
}
