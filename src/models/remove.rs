//! `krea models rm`: what belongs to a model, and to nothing else in the shared cache.

use std::path::{Path, PathBuf};

use super::cache::Repo;
use super::lock::IMPORTED;
use super::manifest::Model;
use super::{Library, disk};
use crate::error::Result;

impl Library {
    /// Removes the files of the model, what is left of cut off downloads, and what was locked; returns the bytes that
    /// are free now. Files that krea has not put into the folder of plain files stay.
    pub fn remove(&self, model: &Model) -> Result<u64> {
        let lock = self.lock.read()?;
        let mut freed = 0;
        for file in &model.files {
            for origin in &file.from {
                let Some(repo) = self.repo(origin) else { continue };
                if let Some(entry) = lock.find(&origin.repository, &origin.file) {
                    freed += remove_file(&repo.incomplete(&entry.sha256))?;
                }
                freed += repo.remove(&origin.file)?;
            }
            if let Some(path) = self.plain(file) {
                if lock.find(IMPORTED, &file.name).is_some() {
                    freed += remove_file(&path)?;
                } else if path.is_file() {
                    tracing::warn!("{} stays: krea has not put it there", path.display());
                }
            }
        }
        if lock.files.is_empty() {
            return Ok(freed);
        }
        self.lock.update(|lock| {
            for file in &model.files {
                file.from.iter().for_each(|o| lock.forget(&o.repository, &o.file));
                lock.forget(IMPORTED, &file.name);
            }
        })?;
        Ok(freed)
    }
}

impl Repo {
    /// Removes the file from every commit, and its bytes where no other name stands for them.
    fn remove(&self, file: &str) -> Result<u64> {
        let mut freed = 0;
        for snapshot in self.snapshots() {
            let pointer = snapshot.join(file);
            if std::fs::symlink_metadata(&pointer).is_err() {
                continue;
            }
            let blob = std::fs::canonicalize(&pointer).ok();
            let own = remove_file(&pointer)?;
            match blob.filter(|b| {
                b.file_name().is_some_and(|n| b.parent() == real(&self.blob(&n.to_string_lossy())).as_deref())
            }) {
                Some(blob) if !self.is_used(&blob) => freed += remove_file(&blob)?,
                Some(_) => {}
                // A system without links: the file itself lay here.
                None => freed += own,
            }
            // Fails where other files are left, as it should.
            pointer.ancestors().skip(1).take_while(|a| a.starts_with(&snapshot)).for_each(|a| {
                let _ = std::fs::remove_dir(a);
            });
        }
        Ok(freed)
    }

    /// Does any file of any commit stand for these bytes?
    fn is_used(&self, blob: &Path) -> bool {
        let mut folders = self.snapshots();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    folders.push(path);
                } else if std::fs::canonicalize(path).is_ok_and(|p| p == blob) {
                    return true;
                }
            }
        }
        false
    }
}

/// The real folder that a file lies in.
fn real(file: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(file.parent()?).ok()
}

/// Removes a file or a link; returns the bytes that this frees, 0 if nothing was there.
fn remove_file(path: &Path) -> Result<u64> {
    let Ok(status) = std::fs::symlink_metadata(path) else { return Ok(0) };
    std::fs::remove_file(path).map_err(|e| disk(path, "cannot be removed", &e))?;
    Ok(if status.is_symlink() { 0 } else { status.len() })
}
