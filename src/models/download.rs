//! One file from the hub into the cache: goes on at the byte where it was cut off, hashes as it writes, and gives the
//! file its name only when it is whole.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};

use sha2::{Digest, Sha256};

use super::cache::Repo;
use super::client::{Client, Fault, Meta};
use super::manifest::Origin;
use super::retry::{Patience, Retry};
use super::verify::{feed, hex, is_sha256, sha256_of};
use super::{Transfer, bytes_in_words, disk};
use crate::error::{Error, Result};

/// A file, where it comes from, and what it must turn out to be.
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) origin: Origin,
    pub(super) repo: Repo,
    /// A commit, or `main`.
    pub(super) revision: String,
    pub(super) meta: Meta,
    /// Unknown only for small files at their first pull: the hub gives no sha256 for those.
    pub(super) sha256: Option<String>,
}

/// What has come.
pub(super) enum Outcome {
    /// Whole, and what it should be; its sha256.
    Sound(String),
    /// Whole, and something else; nothing of it is kept.
    Other { found: String },
}

impl Wanted {
    /// Bytes that are not on the disk yet.
    pub(super) fn missing(&self) -> u64 {
        if self.repo.blob(&self.meta.etag).is_file() {
            return 0;
        }
        let begun = std::fs::metadata(self.repo.incomplete(&self.meta.etag)).map_or(0, |m| m.len());
        self.meta.size.saturating_sub(begun)
    }

    /// Brings the blob into the cache unless it is there.
    pub(super) fn download(&self, client: &Client, retry: Retry, progress: &mut Transfer) -> Result<Outcome> {
        self.repo.prepare()?;
        let waiting = || tracing::info!("{}: another program is downloading this file; waiting for it", self.name);
        let _lock = self.repo.lock(&self.meta.etag, waiting)?;
        let blob = self.repo.blob(&self.meta.etag);
        if blob.is_file() {
            let found = sha256_of(&blob, progress)?;
            let long = std::fs::metadata(&blob).is_ok_and(|m| m.len() == self.meta.size);
            if long && self.is_expected(&found) {
                return Ok(Outcome::Sound(found));
            }
            tracing::warn!("{}: the copy in the cache is damaged; it is fetched anew", self.name);
            std::fs::remove_file(&blob).map_err(|e| disk(&blob, "cannot be removed", &e))?;
        }
        let mut part = Part::open(self, progress)?;
        let mut found = part.complete(client, retry, progress)?;
        if !self.is_expected(&found) && part.resumed {
            tracing::warn!("{}: what an earlier download had left was damaged; beginning anew", self.name);
            part.restart(progress)?;
            found = part.complete(client, retry, progress)?;
        }
        progress.end();
        let path = self.repo.incomplete(&self.meta.etag);
        if !self.is_expected(&found) {
            std::fs::remove_file(&path).map_err(|e| disk(&path, "cannot be removed", &e))?;
            return Ok(Outcome::Other { found });
        }
        let kept = part.file.sync_all().and_then(|()| std::fs::rename(&path, &blob));
        kept.map_err(|e| disk(&blob, "cannot be written", &e))?;
        Ok(Outcome::Sound(found))
    }

    fn is_expected(&self, sha256: &str) -> bool {
        let promised = self.sha256.as_deref().or(Some(self.meta.etag.as_str()).filter(|e| is_sha256(e)));
        promised.is_none_or(|expected| expected == sha256)
    }
}

/// The file while it grows. What `hasher` has seen is exactly the first `length` bytes of `file`.
struct Part<'a> {
    wanted: &'a Wanted,
    file: File,
    hasher: Sha256,
    length: u64,
    /// Some bytes were there before this download.
    resumed: bool,
}

impl<'a> Part<'a> {
    /// Opens what an earlier download has left, or begins.
    fn open(wanted: &'a Wanted, progress: &mut Transfer) -> Result<Self> {
        let path = wanted.repo.incomplete(&wanted.meta.etag);
        let failed = |e: std::io::Error| disk(&path, "cannot be opened", &e);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let mut part = Self { wanted, file, hasher: Sha256::new(), length: 0, resumed: false };
        let left = part.file.metadata().map_err(failed)?.len();
        if left > wanted.meta.size {
            // Not a part of this file, whatever it is.
            part.restart(progress)?;
        } else if left > 0 {
            progress.begin(&format!("checking what is here of {}", wanted.name), left, 0);
            part.length = feed(&mut part.file, left, &mut part.hasher, progress).map_err(failed)?;
            part.resumed = true;
            let size = wanted.meta.size;
            tracing::info!("{}: going on at {} of {}", wanted.name, bytes_in_words(part.length), bytes_in_words(size));
        }
        progress.begin(&wanted.name, wanted.meta.size, part.length);
        Ok(part)
    }

    fn restart(&mut self, progress: &mut Transfer) -> Result<()> {
        let path = self.wanted.repo.incomplete(&self.wanted.meta.etag);
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|e| disk(&path, "cannot be emptied", &e))?;
        (self.hasher, self.length, self.resumed) = (Sha256::new(), 0, false);
        progress.set(0);
        Ok(())
    }

    /// Fetches until the file has its size; returns its sha256.
    fn complete(&mut self, client: &Client, retry: Retry, progress: &mut Transfer) -> Result<String> {
        let mut patience = Patience::new(retry, ". What has come is kept: the same command goes on from there");
        while self.length < self.wanted.meta.size {
            let before = self.length;
            let fault = match self.fetch(client, progress) {
                Ok(()) => continue,
                Err(fault) => fault,
            };
            if self.length > before {
                patience.progressed();
            }
            patience.bear(&self.wanted.name, fault)?;
        }
        Ok(hex(std::mem::take(&mut self.hasher)))
    }

    /// One request, from the first missing byte on.
    fn fetch(&mut self, client: &Client, progress: &mut Transfer) -> Result<(), Fault> {
        let Wanted { origin, meta, .. } = self.wanted;
        let (start, body) = client.get(origin, &self.wanted.revision, self.length, meta.size)?;
        if start != self.length {
            tracing::warn!("{}: the server cannot go on in the middle; beginning anew", self.wanted.name);
            self.restart(progress).map_err(Fault::Final)?;
        }
        let mut body = body.take(meta.size - self.length);
        let mut buffer = vec![0; 1 << 18];
        let passing = |why: String| Fault::Passing { why, after: None };
        while self.length < meta.size {
            match body.read(&mut buffer) {
                Ok(0) => return Err(passing(format!("cut off at {}", bytes_in_words(self.length)))),
                Ok(n) => self.append(&buffer[..n]).map_err(Fault::Final)?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(passing(format!("cut off at {}: {e}", bytes_in_words(self.length)))),
            }
            progress.set(self.length);
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // Some of these bytes may be written; drop them, so that the next download goes on from what was hashed.
            let _ = self.file.set_len(self.length);
            let path = self.wanted.repo.incomplete(&self.wanted.meta.etag);
            let (here, size) = (bytes_in_words(self.length), bytes_in_words(self.wanted.meta.size));
            return Err(Error::Output(format!(
                "{}: {error}. {here} of {size} are kept: the same command goes on from there",
                path.display()
            )));
        }
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }
}
