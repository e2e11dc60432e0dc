//! The Hugging Face cache, in its own layout, so that every tool on the machine shares one copy.
//!
//! `models--owner--name/blobs/<etag>` holds the bytes, `snapshots/<commit>/<file>` is a relative link to them,
//! `refs/main` holds the commit, `.locks/models--owner--name/<etag>.lock` is held while a blob is written.
//! The layout is described at <https://huggingface.co/docs/hub/local-cache>.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::disk;
use crate::error::{Error, Result};

/// The folder `hub`, with all repositories.
pub struct Cache {
    root: PathBuf,
}

/// One repository in the cache.
pub struct Repo {
    root: PathBuf,
    name: String,
}

impl Cache {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// `repository` is `owner/name`, checked by `is_repository`.
    pub fn repo(&self, repository: &str) -> Repo {
        Repo { root: self.root.clone(), name: format!("models--{}", repository.replace('/', "--")) }
    }
}

impl Repo {
    fn folder(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    /// Where the bytes lie; the etag must have passed `is_etag`.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder().join("blobs").join(etag)
    }

    /// Where the bytes gather until they are whole.
    pub(super) fn incomplete(&self, etag: &str) -> PathBuf {
        self.folder().join("blobs").join(format!("{etag}.incomplete"))
    }

    /// The name under which tools find the file of a commit.
    pub(super) fn pointer(&self, commit: &str, file: &str) -> PathBuf {
        self.folder().join("snapshots").join(commit).join(file)
    }

    /// The folders of all commits, newest first.
    pub fn snapshots(&self) -> Vec<PathBuf> {
        let folder = self.folder().join("snapshots");
        let mut commits: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().collect();
        commits.sort_by_key(|e| std::cmp::Reverse(e.metadata().and_then(|m| m.modified()).ok()));
        commits.into_iter().map(|e| e.path()).collect()
    }

    /// The file at this commit if it is known, else at `refs/main`, else in the newest snapshot that has it.
    pub fn find(&self, file: &str, commit: Option<&str>) -> Option<PathBuf> {
        let main = std::fs::read_to_string(self.folder().join("refs/main")).ok();
        let main = main.as_deref().map(str::trim).filter(|c| is_commit(c));
        let known = commit.into_iter().chain(main).map(|c| self.pointer(c, file));
        let any = self.snapshots().into_iter().map(|s| s.join(file));
        known.chain(any).find(|p| p.is_file())
    }

    /// Points the commit's file at the blob, and `refs/main` at the commit if asked to.
    pub(super) fn link(&self, etag: &str, commit: &str, file: &str, main: bool) -> Result<PathBuf> {
        let pointer = self.pointer(commit, file);
        let parent = pointer.parent().unwrap_or(&pointer);
        std::fs::create_dir_all(parent).map_err(|e| disk(parent, "the folder cannot be made", &e))?;
        let up = "../".repeat(1 + file.split('/').count());
        place_link(Path::new(&format!("{up}blobs/{etag}")), &self.blob(etag), &pointer)
            .map_err(|e| disk(&pointer, "the link cannot be made", &e))?;
        let reference = self.folder().join("refs/main");
        if main || !reference.exists() {
            write_whole(&reference, commit.as_bytes())?;
        }
        Ok(pointer)
    }

    /// Waits until no other program writes this blob. `waiting` is called once if it must wait.
    pub(super) fn lock(&self, etag: &str, waiting: impl FnOnce()) -> Result<File> {
        let path = self.root.join(".locks").join(&self.name).join(format!("{etag}.lock"));
        lock_file(&path, waiting)
    }

    /// Makes the folders that a download needs.
    pub(super) fn prepare(&self) -> Result<()> {
        let blobs = self.folder().join("blobs");
        std::fs::create_dir_all(&blobs).map_err(|e| disk(&blobs, "the folder cannot be made", &e))
    }
}

/// Takes the lock that the file at `path` stands for; it is given back when the handle is dropped.
pub(super) fn lock_file(path: &Path, waiting: impl FnOnce()) -> Result<File> {
    let failed = |e: std::io::Error| disk(path, "cannot be locked", &e);
    std::fs::create_dir_all(path.parent().unwrap_or(path)).map_err(failed)?;
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    let mut waiting = Some(waiting);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                if let Some(tell) = waiting.take() {
                    tell();
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            // A file system without locks: the check by sha256 still guards the result.
            Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => return Ok(file),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
    }
}

/// Makes or renews the link; `target` is relative to the link's folder.
#[cfg(unix)]
fn place_link(target: &Path, _blob: &Path, pointer: &Path) -> std::io::Result<()> {
    if std::fs::read_link(pointer).is_ok_and(|t| t == target) {
        return Ok(());
    }
    // Made beside and renamed, so that a reader never finds nothing there.
    let mut name = pointer.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.link", std::process::id()));
    let beside = pointer.with_file_name(name);
    std::os::unix::fs::symlink(target, &beside)?;
    std::fs::rename(&beside, pointer).inspect_err(|_| {
        let _ = std::fs::remove_file(&beside);
    })
}

/// Where links need rights that a user lacks, huggingface_hub puts a copy there too.
#[cfg(not(unix))]
fn place_link(_target: &Path, blob: &Path, pointer: &Path) -> std::io::Result<()> {
    std::fs::copy(blob, pointer).map(|_| ())
}

/// Writes a small file so that it is there whole or not at all.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |e: std::io::Error| disk(path, "cannot be written", &e);
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let beside = path.with_file_name(name);
    std::fs::write(&beside, bytes).and_then(|()| std::fs::rename(&beside, path)).map_err(|e| {
        let _ = std::fs::remove_file(&beside);
        failed(e)
    })
}

/// `owner/name` as the hub spells it: so that it can be neither a path upwards nor two names for one folder.
pub fn is_repository(text: &str) -> bool {
    let part = |p: &str| {
        is_file_name(p) && p.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && !p.contains("--")
    };
    text.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

/// A path with `/` that stays below the folder it is joined to, on every system.
pub fn is_relative_file(text: &str) -> bool {
    text.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains(['\\', ':', '\0']))
        && !text.chars().any(char::is_control)
}

/// One visible name, no folder.
pub fn is_file_name(text: &str) -> bool {
    is_relative_file(text) && !text.contains('/') && !text.starts_with('.')
}

/// A commit as the hub names it.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// An etag that can be a file name.
pub(super) fn is_etag(text: &str) -> bool {
    is_file_name(text) && text.len() <= 128 && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// The error for a cache that has no place.
pub(super) fn no_cache() -> Error {
    Error::Output("there is no place for the cache: set HOME, HF_HOME or HF_HUB_CACHE".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_link_is_relative_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Cache::new(dir.path().to_owned()).repo("owner/name");
        repo.prepare().unwrap();
        std::fs::write(repo.blob("abc"), "bytes").unwrap();
        let path = repo.link("abc", COMMIT, "deep/er/file.bin", true).unwrap();
        let base = dir.path().join("models--owner--name");
        assert_eq!(path, base.join("snapshots").join(COMMIT).join("deep/er/file.bin"));
        assert_eq!(std::fs::read_link(&path).unwrap(), Path::new("../../../../blobs/abc"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "bytes");
        assert_eq!(std::fs::read_to_string(base.join("refs/main")).unwrap(), COMMIT);
        assert_eq!(repo.find("deep/er/file.bin", None), Some(path));
        assert_eq!(repo.find("other", None), None);
    }

    #[test]
    fn a_link_whose_bytes_are_gone_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Cache::new(dir.path().to_owned()).repo("owner/name");
        repo.prepare().unwrap();
        repo.link("gone", COMMIT, "f", true).unwrap();
        assert_eq!(repo.find("f", Some(COMMIT)), None);
    }

    #[test]
    fn nothing_from_a_server_can_be_a_path() {
        for etag in ["../x", "a/b", "", ".", "..", ".a", "a b", "a\nb", "a\\b"] {
            assert!(!is_etag(etag), "{etag:?}");
        }
        assert!(is_etag("d7edf6bd2a681fb0175f7735299831ee1b22b812"));
        for commit in ["main", "../../../../../../../../../../../../../x", &COMMIT.to_uppercase(), &COMMIT[1..]] {
            assert!(!is_commit(commit), "{commit}");
        }
    }
}
