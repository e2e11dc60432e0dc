//! `krea models pull`: what is missing, whether its licence is agreed to, what the hub says of it, whether it fits on
//! the disk; only then the bytes.

use std::path::{Component, Path};

use super::cache::{is_commit, no_cache};
use super::client::{Client, Fault};
use super::download::{Outcome, Wanted};
use super::lock::{Accepted, Entry, Lock};
use super::manifest::{File, Model, Origin};
use super::retry::{Patience, Retry};
use super::verify::{is_sha256, name_of_blob, sha256_of};
use super::{Library, State, Transfer, bytes_in_words, space};
use crate::error::{Error, Result};

/// How to pull.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Ask nothing of the network.
    pub offline: bool,
    /// Take what the hub has now, not what was locked.
    pub update: bool,
    /// Also the models that the named ones need.
    pub needs: bool,
    pub retry: Retry,
}

/// Nothing has been begun yet: who is offline should not wait long to hear it.
const TRIES_OF_THE_FIRST_QUESTION: u32 = 4;

impl Library {
    /// Brings the models to this machine. `consent` says whether the user agrees to a licence that binds; it is asked
    /// once a model, before anything is fetched.
    pub fn pull(
        &self,
        names: &[String],
        options: &Options,
        consent: &mut dyn FnMut(&Model) -> Result<bool>,
        progress: &mut Transfer,
    ) -> Result<()> {
        let mut missing = Vec::new();
        for model in self.chosen(names, options.needs)? {
            let mut files = Vec::new();
            for file in &model.files {
                match self.state(file)? {
                    State::Here { path, origin: Some(origin) } if !options.update => {
                        self.adopt(file, &origin, &path, progress)?;
                    }
                    State::Here { origin: None, .. } => {}
                    State::Damaged { path, .. } if self.plain(file).as_deref() == Some(path.as_path()) => {
                        return Err(Error::Model(format!(
                            "{} is damaged. krea did not fetch it: import it again, or krea models rm {}, then pull",
                            path.display(),
                            model.name
                        )));
                    }
                    State::Damaged { path, bytes, expected } => {
                        let path = path.display();
                        tracing::warn!("{path} is damaged: {bytes} bytes, where {expected} were pulled");
                        files.push(file);
                    }
                    _ => files.push(file),
                }
            }
            match files.is_empty() {
                true => tracing::info!("{} is here", model.name),
                false => missing.push((model, files)),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        if let Some((model, how)) = missing.iter().find_map(|(m, _)| Some((m, m.export.as_ref()?))) {
            return Err(Error::Model(format!("{} cannot be pulled. {how}", model.name)));
        }
        if options.offline || self.environment.offline {
            let names: Vec<_> = missing.iter().map(|(m, _)| m.name.as_str()).collect();
            let names = names.join(" ");
            return Err(Error::Model(format!(
                "offline, and not on this machine: {names}. Once online: krea models pull {names}"
            )));
        }
        for (model, _) in &missing {
            self.agree(model, consent)?;
        }
        let client = Client::new(&self.environment)?;
        let mut wanted = Vec::new();
        for file in missing.iter().flat_map(|(_, files)| files) {
            wanted.push((*file, self.ask(&client, file, options)?));
        }
        let total = wanted.iter().map(|(_, w)| w.missing()).sum();
        let root = self.environment.hub.as_ref().ok_or_else(no_cache)?;
        space::check(root, total)?;
        tracing::info!("{} to fetch, into {}", bytes_in_words(total), root.display());
        for (_, wanted) in &wanted {
            self.fetch(&client, wanted, options, progress)?;
        }
        for (model, _) in &missing {
            tracing::info!("{} is here", model.name);
        }
        Ok(())
    }

    /// The named models and, if asked for, what they need, each once, needs first.
    fn chosen(&self, names: &[String], needs: bool) -> Result<Vec<&Model>> {
        let mut chosen: Vec<&Model> = Vec::new();
        let mut queue: Vec<&str> = names.iter().rev().map(String::as_str).collect();
        let mut seen: Vec<&str> = Vec::new();
        while let Some(name) = queue.pop() {
            if seen.contains(&name) {
                continue;
            }
            seen.push(name);
            let model = self.model(name)?;
            chosen.push(model);
            if needs {
                queue.extend(model.needs.iter().rev().map(String::as_str));
            }
        }
        Ok(chosen)
    }

    fn agree(&self, model: &Model, consent: &mut dyn FnMut(&Model) -> Result<bool>) -> Result<()> {
        let accepted = Accepted { model: model.name.clone(), licence: model.licence.clone() };
        let Some(binding) = &model.binding else { return Ok(()) };
        if self.lock.read()?.accepted.contains(&accepted) {
            return Ok(());
        }
        if !consent(model)? {
            return Err(Error::Usage(format!(
                "{} is under {}: {binding}. If you agree: krea models pull {} --accept-license",
                model.name, model.licence, model.name
            )));
        }
        self.lock.update(|lock| lock.accepted.push(accepted))
    }

    /// Asks the hub what the file is, at the first place that has it.
    fn ask(&self, client: &Client, file: &File, options: &Options) -> Result<Wanted> {
        let lock = if options.update { Lock::default() } else { self.lock.read()? };
        let locked = |o: &Origin| lock.find(&o.repository, &o.file);
        // What was pulled once is pulled from there again.
        let mut origins: Vec<&Origin> = file.from.iter().collect();
        origins.sort_by_key(|o| locked(o).is_none());
        let mut refused = Vec::new();
        for origin in origins {
            let pinned = locked(origin);
            let revision = pinned.map_or("main", |e| e.commit.as_str());
            let retry = Retry { tries: options.retry.tries.min(TRIES_OF_THE_FIRST_QUESTION), ..options.retry };
            let mut patience = Patience::new(retry, "");
            let meta = loop {
                match client.head(origin, revision) {
                    Ok(meta) => break Some(meta),
                    Err(Fault::Absent(why)) => {
                        refused.push(format!("{}/{}: {why}", origin.repository, origin.file));
                        if pinned.is_some() {
                            return Err(Error::Model(format!(
                                "{}: it was pulled at commit {revision}; --update takes what the hub has now",
                                refused.concat()
                            )));
                        }
                        break None;
                    }
                    Err(fault) => patience.bear(&file.name, fault)?,
                }
            };
            let Some(meta) = meta else { continue };
            let said = Some(meta.etag.clone()).filter(|e| is_sha256(e));
            let expected = pinned.map(|e| e.sha256.clone()).or_else(|| file.sha256.clone());
            if let (Some(said), Some(expected)) = (&said, &expected)
                && said != expected
            {
                return Err(changed(file, origin, expected, said));
            }
            if let Some(entry) = pinned.filter(|e| e.size != meta.size) {
                return Err(changed(file, origin, &format!("{} bytes", entry.size), &format!("{} bytes", meta.size)));
            }
            let repo = self.repo(origin).ok_or_else(no_cache)?;
            let sha256 = expected.or(said);
            let (name, revision) = (file.name.clone(), revision.to_owned());
            return Ok(Wanted { name, origin: origin.clone(), repo, revision, meta, sha256 });
        }
        Err(Error::Model(format!("{} cannot be had:\n  {}", file.name, refused.join("\n  "))))
    }

    /// Fetches one file, and locks what it is.
    fn fetch(&self, client: &Client, wanted: &Wanted, options: &Options, progress: &mut Transfer) -> Result<()> {
        let Wanted { origin, meta, .. } = wanted;
        let entry = |sha256: String| Entry {
            repo: origin.repository.clone(),
            file: origin.file.clone(),
            commit: meta.commit.clone(),
            sha256,
            size: meta.size,
        };
        // Locked before it is whole, so that a pull that was cut off goes on with the same bytes even if the hub has
        // newer ones by then.
        let known = self.lock.read()?.find(&origin.repository, &origin.file).cloned();
        let fresh = known.is_none() || options.update;
        if let (true, Some(sha256)) = (fresh, &wanted.sha256) {
            self.lock.update(|lock| lock.put(entry(sha256.clone())))?;
        }
        match wanted.download(client, options.retry, progress)? {
            Outcome::Sound(sha256) => {
                wanted.repo.link(&meta.etag, &meta.commit, &origin.file, wanted.revision == "main")?;
                if fresh {
                    self.lock.update(|lock| lock.put(entry(sha256)))?;
                }
                Ok(())
            }
            Outcome::Other { found } => {
                if fresh {
                    self.lock.update(|lock| match known {
                        Some(known) => lock.put(known),
                        None => lock.forget(&origin.repository, &origin.file),
                    })?;
                }
                let expected = wanted.sha256.as_deref().unwrap_or(&meta.etag);
                Err(Error::Model(format!(
                    "{}: the bytes that {} sends have sha256 {found}, not {expected}; nothing of them is kept",
                    wanted.name, origin.repository
                )))
            }
        }
    }

    /// Locks a file that another tool has brought.
    fn adopt(&self, file: &File, origin: &Origin, path: &Path, progress: &mut Transfer) -> Result<()> {
        if self.lock.read()?.find(&origin.repository, &origin.file).is_some() {
            return Ok(());
        }
        let Some(commit) = commit_of(path) else { return Ok(()) };
        let sha256 = sha256_of(path, progress)?;
        let expected = file.sha256.clone().or_else(|| name_of_blob(path));
        if let Some(expected) = expected.filter(|e| *e != sha256) {
            return Err(Error::Model(format!(
                "{}: its sha256 is {sha256}, not {expected}. krea models rm removes it, then it can be pulled anew",
                path.display()
            )));
        }
        let size = std::fs::metadata(path).map_err(|e| super::disk(path, "cannot be read", &e))?.len();
        let (repo, file) = (origin.repository.clone(), origin.file.clone());
        self.lock.update(|lock| lock.put(Entry { repo, file, commit, sha256, size }))
    }
}

/// The commit in `.../snapshots/<commit>/...`.
fn commit_of(pointer: &Path) -> Option<String> {
    let mut names = pointer.components().rev().filter_map(|c| match c {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    names.find(|n| is_commit(n)).map(str::to_owned)
}

fn changed(file: &File, origin: &Origin, expected: &str, said: &str) -> Error {
    Error::Model(format!(
        "{}: {}/{} is no longer what was locked: {expected} then, {said} now. If that is right, krea models pull --update takes it",
        file.name, origin.repository, origin.file
    ))
}
