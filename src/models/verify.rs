//! Checksums of files that are here.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::manifest::Model;
use super::{Library, State, Transfer, disk};
use crate::error::Result;

/// How one file stands against its checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it was when it was pulled, or as its name in the cache says.
    Sound {
        path: PathBuf,
        sha256: String,
    },
    /// Here, and nobody has said what it should be.
    Unknown {
        path: PathBuf,
        sha256: String,
    },
    /// Not what it was.
    Damaged {
        path: PathBuf,
        expected: String,
        found: String,
    },
    Missing {
        name: String,
    },
}

impl Library {
    /// Reads every file of the model and compares.
    pub fn verify(&self, model: &Model, progress: &mut Transfer) -> Result<Vec<Verdict>> {
        model
            .files
            .iter()
            .map(|file| {
                let (path, origin) = match self.state(file)? {
                    State::Here { path, origin } => (path, origin),
                    State::Damaged { path, bytes, expected } => {
                        let (expected, found) = (format!("{expected} bytes"), format!("{bytes} bytes"));
                        return Ok(Verdict::Damaged { path, expected, found });
                    }
                    State::Partial { .. } | State::Missing => return Ok(Verdict::Missing { name: file.name.clone() }),
                };
                let lock = self.lock.read()?;
                let locked = match &origin {
                    Some(o) => lock.find(&o.repository, &o.file),
                    None => lock.find(super::lock::IMPORTED, &file.name),
                };
                let expected = file.sha256.clone().or(locked.map(|e| e.sha256.clone()));
                let expected = expected.or_else(|| origin.is_some().then(|| name_of_blob(&path)).flatten());
                let sha256 = sha256_of(&path, progress)?;
                Ok(match expected {
                    None => Verdict::Unknown { path, sha256 },
                    Some(expected) if expected == sha256 => Verdict::Sound { path, sha256 },
                    Some(expected) => Verdict::Damaged { path, expected, found: sha256 },
                })
            })
            .collect()
    }
}

/// The sha256 that a large file's place in the cache promises.
pub(super) fn name_of_blob(pointer: &Path) -> Option<String> {
    let blob = std::fs::canonicalize(pointer).ok()?;
    blob.file_name()?.to_str().filter(|n| is_sha256(n)).map(str::to_owned)
}

pub(super) fn sha256_of(path: &Path, progress: &mut Transfer) -> Result<String> {
    let failed = |e: std::io::Error| disk(path, "cannot be read", &e);
    let mut file = File::open(path).map_err(failed)?;
    let total = file.metadata().map_err(failed)?.len();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    progress.begin(&format!("checking {name}"), total, 0);
    let mut hasher = Sha256::new();
    feed(&mut file, u64::MAX, &mut hasher, progress).map_err(failed)?;
    progress.end();
    Ok(hex(hasher))
}

/// Hashes up to `limit` bytes; returns how many there were.
pub(super) fn feed(
    from: &mut impl Read,
    limit: u64,
    hasher: &mut Sha256,
    progress: &mut Transfer,
) -> std::io::Result<u64> {
    let mut buffer = vec![0; 1 << 18];
    let (mut from, mut done) = (from.take(limit), 0);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(done),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                done += n as u64;
                progress.add(n as u64);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

pub(super) fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_the_standard_s_own_example() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_of(&path, &mut Transfer::silent()).unwrap(), sum);
        assert!(is_sha256(sum) && !is_sha256(&sum[1..]) && !is_sha256(&sum.to_uppercase()));
    }
}
