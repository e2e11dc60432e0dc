//! `krea models import`: a file that the user has brought, into the folder of plain files.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::lock::{Entry, IMPORTED};
use super::manifest::{self, Model};
use super::verify::hex;
use super::{Library, Transfer, disk, space};
use crate::error::{Error, Result};

impl Library {
    /// Copies `path` to where krea finds it as a file of `model`, and locks it; returns the new path.
    pub fn import(&self, model: &Model, path: &Path, progress: &mut Transfer) -> Result<PathBuf> {
        let file = file_for(model, path)?;
        let unreadable = |e: std::io::Error| Error::Model(format!("{}: {e}", path.display()));
        let status = std::fs::metadata(path).map_err(unreadable)?;
        if !status.is_file() || status.len() == 0 {
            return Err(Error::Model(format!("{}: not a file with something in it", path.display())));
        }
        let no_folder = || Error::Output("there is no place for models: set HOME or KREA_MODELS_DIR".to_owned());
        let target = self.plain(file).ok_or_else(no_folder)?;
        let lock = self.lock.read()?;
        let ours = lock.find(IMPORTED, &file.name).is_some();
        let in_place = std::fs::canonicalize(&target).is_ok_and(|t| std::fs::canonicalize(path).is_ok_and(|p| p == t));
        if target.exists() && !ours && !in_place {
            return Err(Error::Output(format!("{} exists, and krea has not put it there", target.display())));
        }
        let folder = target.parent().unwrap_or(&target);
        std::fs::create_dir_all(folder).map_err(|e| disk(folder, "the folder cannot be made", &e))?;
        if !in_place {
            space::check(folder, status.len())?;
        }
        let part = target.with_file_name(format!(".{}.{}.part", file.name, std::process::id()));
        progress.begin(&file.name, status.len(), 0);
        let mut source = File::open(path).map_err(unreadable)?;
        let copied =
            if in_place { super::verify::sha256_of(path, progress) } else { copy(&mut source, path, &part, progress) };
        progress.end();
        let pulled = file.from.iter().find_map(|o| lock.find(&o.repository, &o.file)).map(|e| e.sha256.clone());
        let kept = copied.and_then(|sha256| match file.sha256.clone().or(pulled) {
            Some(expected) if expected != sha256 => Err(Error::Model(format!(
                "{}: its sha256 is {sha256}, not {expected}: not the file that {} stands for",
                path.display(),
                model.name
            ))),
            _ if in_place => Ok(sha256),
            _ => std::fs::rename(&part, &target).map(|()| sha256).map_err(|e| disk(&target, "cannot be written", &e)),
        });
        let sha256 = kept.inspect_err(|_| {
            // There is nothing there if the copy could not even begin.
            let _ = std::fs::remove_file(&part);
        })?;
        let entry = Entry {
            repo: IMPORTED.to_owned(),
            file: file.name.clone(),
            commit: String::new(),
            sha256,
            size: status.len(),
        };
        self.lock.update(|lock| lock.put(entry))?;
        Ok(target)
    }
}

/// The only file of the model, or the one that bears the name.
fn file_for<'a>(model: &'a Model, path: &Path) -> Result<&'a manifest::File> {
    if let [only] = model.files.as_slice() {
        return Ok(only);
    }
    let name = path.file_name().unwrap_or_default();
    model.files.iter().find(|f| f.name.as_str() == name).ok_or_else(|| {
        let names: Vec<_> = model.files.iter().map(|f| f.name.as_str()).collect();
        Error::Usage(format!("{} has several files; {} is none of {}", model.name, path.display(), names.join(", ")))
    })
}

/// Copies and hashes; the copy is on the disk when this returns.
fn copy(source: &mut File, path: &Path, part: &Path, progress: &mut Transfer) -> Result<String> {
    let failed = |e: std::io::Error| disk(part, "cannot be written", &e);
    let mut target = File::create(part).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = source.read(&mut buffer);
        let n = read.map_err(|e| Error::Model(format!("{}: cannot be read: {e}", path.display())))?;
        if n == 0 {
            break;
        }
        target.write_all(&buffer[..n]).map_err(failed)?;
        hasher.update(&buffer[..n]);
        progress.add(n as u64);
    }
    target.sync_all().map_err(failed)?;
    Ok(hex(hasher))
}
