//! What a generator needs as files: from a folder, or by the name of a model in the manifest.

use std::path::{Path, PathBuf};

use super::folder::{Folder, PLACES};
use super::manifest::Model;
use super::part::Part;
use super::pull::Options;
use super::retry::Retry;
use super::tensors::Names;
use super::{Library, State, Transfer, bytes_in_words, consent, space};
use crate::error::{Error, Result};

/// The files of a generator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The model's name, or the folder.
    pub name: String,
    /// The transformer: a file, or the index of its shards.
    pub dit: PathBuf,
    /// Wan's autoencoder, unless TAEHV takes its place.
    pub vae: Option<PathBuf>,
    pub taehv: Option<PathBuf>,
    pub text: PathBuf,
    pub tokenizer: PathBuf,
    /// Attention heads, where a `config.json` beside the transformer says so.
    pub heads: Option<i64>,
    /// Rows of a prompt's embedding, likewise.
    pub text_len: Option<i64>,
}

/// What becomes of a model that is not on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The user is asked whether to fetch it.
    Ask,
    /// It is an error, which says what to type.
    Refuse,
}

impl Offer {
    /// Asks where somebody can answer, unless nothing shall be fetched.
    pub fn here(offline: bool) -> Self {
        if !offline && consent::somebody_is_there() { Self::Ask } else { Self::Refuse }
    }
}

impl Library {
    /// The files of the generator `model`: a folder (or the file of the transformer in it), or a name of the manifest.
    /// With `tiny_vae`, TAEHV instead of the VAE.
    ///
    /// May ask, and may download for long: call it before signals are caught, so that Ctrl-C ends the program.
    pub fn bundle(&self, model: &str, tiny_vae: bool, offer: Offer, progress: &mut Transfer) -> Result<Bundle> {
        let path = Path::new(model);
        match self.manifest.model(model) {
            Some(known) => self.of_manifest(known, tiny_vae, offer, progress),
            None if path.is_dir() => of_folder(path, None, tiny_vae),
            None if path.is_file() => {
                let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
                of_folder(folder, Some(path), tiny_vae)
            }
            None if model.contains(std::path::is_separator) => {
                Err(Error::Model(format!("{model}: there is no such folder of model files")))
            }
            None => Err(Error::Usage(format!(
                "'{model}' is neither a folder nor a model that can generate: one of {}",
                self.generators()
            ))),
        }
    }

    fn generators(&self) -> String {
        let generators = self.manifest.models.iter().filter(|m| m.part == Some(Part::Transformer));
        generators.map(|m| m.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn of_manifest(&self, model: &Model, tiny_vae: bool, offer: Offer, progress: &mut Transfer) -> Result<Bundle> {
        let set = self.set(model, tiny_vae)?;
        let mut missing = Vec::new();
        for &part in &set {
            if self.locate(part)?.is_none() {
                missing.push(part);
            }
        }
        if !missing.is_empty() {
            let names: Vec<String> = missing.iter().map(|m| m.name.clone()).collect();
            if self.environment.offline || offer == Offer::Refuse || !consent::yes(&self.question(model, &missing)?)? {
                return Err(Error::Model(not_here(model, &missing)));
            }
            let options = Options { offline: false, update: false, needs: false, retry: Retry::default() };
            // The question has named each licence.
            self.pull(&names, &options, &mut |_| Ok(true), progress)?;
        }
        let file = |part: Part| -> Result<Option<PathBuf>> {
            let Some(model) = set.iter().find(|m| m.part == Some(part)) else { return Ok(None) };
            Ok(self.require(&model.name)?.into_iter().next())
        };
        let needed = |part: Part| file(part)?.ok_or_else(|| lacks(model, part));
        let dit = needed(Part::Transformer)?;
        let (vae, taehv) = (file(Part::Vae)?, file(Part::Taehv)?);
        if vae.is_none() && taehv.is_none() {
            return Err(lacks(model, Part::Vae));
        }
        let (heads, text_len) = said_beside(&dit)?;
        let (text, tokenizer) = (needed(Part::TextEncoder)?, needed(Part::Tokenizer)?);
        Ok(Bundle { name: model.name.clone(), dit, vae, taehv, text, tokenizer, heads, text_len })
    }

    /// The model and what it needs, with TAEHV in the place of the VAE if that is wanted.
    fn set<'a>(&'a self, model: &'a Model, tiny_vae: bool) -> Result<Vec<&'a Model>> {
        if model.part != Some(Part::Transformer) {
            return Err(Error::Usage(format!(
                "'{}' cannot generate; it is for {}. One of {} can",
                model.name,
                model.purpose,
                self.generators()
            )));
        }
        let mut set = vec![model];
        for name in &model.needs {
            set.push(self.model(name)?);
        }
        if tiny_vae {
            let taehv = self.manifest.models.iter().find(|m| m.part == Some(Part::Taehv));
            set.retain(|m| m.part != Some(Part::Vae));
            set.push(taehv.ok_or_else(|| lacks(model, Part::Taehv))?);
        }
        Ok(set)
    }

    fn question(&self, model: &Model, missing: &[&Model]) -> Result<String> {
        let (mut lines, mut total) = (String::new(), 0);
        for part in missing {
            let mut bytes = 0;
            for file in &part.files {
                bytes += match self.state(file)? {
                    State::Here { .. } => 0,
                    State::Partial { bytes } => file.about_bytes.saturating_sub(bytes),
                    _ => file.about_bytes,
                };
            }
            total += bytes;
            let binding = part.binding.as_ref().map_or(String::new(), |asks| format!(": {asks}"));
            let size = bytes_in_words(bytes);
            lines += &format!("  {:18} {size:>8}  {}{binding}\n", part.name, part.licence);
        }
        let hub = self.environment.hub.as_ref().ok_or_else(super::cache::no_cache)?;
        space::check(hub, total)?;
        let total = bytes_in_words(total);
        let agree = if missing.iter().any(|m| m.binding.is_some()) { ", and agree to these licences" } else { "" };
        let place = hub.display();
        Ok(format!(
            "{} is not whole on this machine. To fetch, into {place}:\n{lines}Fetch about {total} now{agree}? [y/N] ",
            model.name
        ))
    }
}

/// What to type; what the model brings along by itself is not named.
fn not_here(model: &Model, missing: &[&Model]) -> String {
    let whole = missing.iter().any(|m| m.name == model.name);
    let named = missing.iter().filter(|m| !whole || !model.needs.contains(&m.name));
    let names = named.map(|m| m.name.as_str()).collect::<Vec<_>>().join(" ");
    let bytes = bytes_in_words(missing.iter().flat_map(|m| &m.files).map(|f| f.about_bytes).sum());
    let all = missing.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", ");
    let (licence, accept) = match missing.iter().find(|m| m.binding.is_some()) {
        Some(bound) => (format!(", {} under licence {}", bound.name, bound.licence), " --accept-license"),
        None => (String::new(), ""),
    };
    format!("not on this machine: {all}. To get it (about {bytes}{licence}): krea models pull {names}{accept}")
}

fn lacks(model: &Model, part: Part) -> Error {
    Error::Model(format!("the list of models has no {} for {}", part.word(), model.name))
}

fn of_folder(root: &Path, dit: Option<&Path>, tiny_vae: bool) -> Result<Bundle> {
    let folder = Folder::read(root)?;
    let mut missing = Vec::new();
    let mut file = |part: Part| -> Result<PathBuf> {
        Ok(folder.file(part)?.unwrap_or_else(|| {
            missing.push(part);
            PathBuf::new()
        }))
    };
    let dit = match dit {
        Some(path) => transformer(path)?,
        None => file(Part::Transformer)?,
    };
    let decoder = file(if tiny_vae { Part::Taehv } else { Part::Vae })?;
    let (text, tokenizer) = (file(Part::TextEncoder)?, file(Part::Tokenizer)?);
    if !missing.is_empty() {
        return Err(incomplete(root, &folder, &missing));
    }
    let (vae, taehv) = if tiny_vae { (None, Some(decoder)) } else { (Some(decoder), None) };
    let (heads, text_len) = said_beside(&dit)?;
    Ok(Bundle { name: root.display().to_string(), dit, vae, taehv, text, tokenizer, heads, text_len })
}

/// A file that the user has named must be what it is named for.
fn transformer(path: &Path) -> Result<PathBuf> {
    let wrong = |why: String| Error::Model(format!("{} {why}", path.display()));
    match Part::of(&Names::of(path).map_err(wrong)?) {
        Some(Part::Transformer) => Ok(path.to_owned()),
        Some(other) => Err(wrong(format!("is a {}, not a transformer", other.word()))),
        None => Err(wrong("holds no transformer of Wan 2.1".to_owned())),
    }
}

/// Names every part that is missing, and what to do.
fn incomplete(root: &Path, folder: &Folder, missing: &[Part]) -> Error {
    let told = missing.iter().map(|&part| {
        let misnamed = folder.misnamed(part).map_or(String::new(), |told| format!("; {told}"));
        let instead = match part {
            Part::Vae if folder.has(Part::Taehv) => "; a TAEHV is there, which --tiny-vae takes",
            Part::Taehv if folder.has(Part::Vae) => "; a VAE is there, which is taken without --tiny-vae",
            _ => "",
        };
        format!("no {} (looked for {}{misnamed}{instead})", part.word(), part.looked_for())
    });
    let told = told.collect::<Vec<_>>().join(" and ");
    let places = PLACES.iter().filter(|p| !p.is_empty()).copied().collect::<Vec<_>>().join(", ");
    Error::Model(format!(
        "{}: {told}. Put the files there, or into one of its folders {places}; or take a model by its name, which krea fetches whole: krea models pull krea-14b",
        root.display()
    ))
}

/// `num_heads` (Wan) or `num_attention_heads` (diffusers) and `text_len` of the `config.json` beside the transformer.
fn said_beside(dit: &Path) -> Result<(Option<i64>, Option<i64>)> {
    let path = dit.with_file_name("config.json");
    let Ok(text) = std::fs::read(&path) else { return Ok((None, None)) };
    let wrong = |why: String| Error::Model(format!("{}: {why}", path.display()));
    let config: serde_json::Value = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
    let number = |name: &str| match config.get(name).filter(|v| !v.is_null()) {
        None => Ok(None),
        Some(value) => match value.as_i64().filter(|n| *n > 0) {
            Some(number) => Ok(Some(number)),
            None => Err(wrong(format!("{name} is {value}, not a number of one or more"))),
        },
    };
    let heads = match number("num_heads")? {
        Some(heads) => Some(heads),
        None => number("num_attention_heads")?,
    };
    Ok((heads, number("text_len")?))
}
