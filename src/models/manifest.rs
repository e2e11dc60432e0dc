//! The list of models that can be pulled: `models/manifest.toml`, built in, or another file of that form.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::cache::{is_file_name, is_relative_file, is_repository};
use super::part::Part;
use crate::error::{Error, Result};

/// What the manifest says, checked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    #[serde(rename = "model", default)]
    pub models: Vec<Model>,
}

/// Something that a person asks for by name.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub name: String,
    /// What krea does with it.
    #[serde(rename = "for")]
    pub purpose: String,
    pub licence: String,
    /// What the licence asks of whoever uses the model, if it asks something.
    pub binding: Option<String>,
    /// What it is to a generator, if it belongs to one.
    pub part: Option<Part>,
    /// Names of the models that it does not run without.
    #[serde(default)]
    pub needs: Vec<String>,
    /// How to make the file, where no hub has it.
    pub export: Option<String>,
    #[serde(rename = "file")]
    pub files: Vec<File>,
}

/// One file of a model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its name among plain files; unique in the manifest.
    pub name: String,
    /// Size by the model's card; the hub says the true one.
    pub about_bytes: u64,
    /// Where it lies on the hub; the first that answers is taken.
    pub from: Vec<Origin>,
    /// Only where it was measured.
    pub sha256: Option<String>,
}

/// A file in a repository on the hub.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// `owner/name`.
    pub repository: String,
    /// Path inside the repository, with `/`.
    pub file: String,
}

impl Manifest {
    /// The list that comes with krea.
    pub fn built_in() -> Self {
        Self::parse(include_str!("../../models/manifest.toml")).expect("a test parses the built-in manifest")
    }

    pub fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::Usage(format!("{}: {e}", path.display())))?;
        Self::parse(&text).map_err(|e| Error::Usage(format!("{}: {e}", path.display())))
    }

    /// Reads a manifest and refuses names and paths that could leave their folders.
    pub fn parse(text: &str) -> Result<Self, String> {
        let manifest: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        manifest.check()?;
        Ok(manifest)
    }

    pub fn model(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|m| m.name == name)
    }

    fn check(&self) -> Result<(), String> {
        let (mut names, mut files) = (HashSet::new(), HashSet::new());
        for model in &self.models {
            let wrong = |what: String| Err(format!("model '{}': {what}", model.name.escape_default()));
            if !is_file_name(&model.name) || !names.insert(&model.name) {
                return wrong("the name is not a plain word, or stands twice".to_owned());
            }
            if let Some(need) = model.needs.iter().find(|n| self.model(n).is_none()) {
                return wrong(format!("it needs '{need}', which is not in the list"));
            }
            if model.files.is_empty() {
                return wrong("it has no file".to_owned());
            }
            for file in &model.files {
                if !is_file_name(&file.name) || !files.insert(&file.name) {
                    return wrong(format!(
                        "'{}' is not a plain file name, or stands twice",
                        file.name.escape_default()
                    ));
                }
                if file.from.is_empty() && model.export.is_none() {
                    return wrong(format!("nothing says where '{}' comes from", file.name));
                }
                if file.sha256.as_ref().is_some_and(|s| !super::verify::is_sha256(s)) {
                    return wrong(format!("the sha256 of '{}' is not 64 lowercase hex digits", file.name));
                }
                for origin in &file.from {
                    if !is_repository(&origin.repository) {
                        return wrong(format!("'{}' is not owner/name", origin.repository.escape_default()));
                    }
                    if !is_relative_file(&origin.file) {
                        return wrong(format!("'{}' leaves its folder", origin.file.escape_default()));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Model {
    /// What to type to have it.
    pub fn remedy(&self) -> String {
        match &self.export {
            Some(how) => how.clone(),
            None => {
                let accept = if self.binding.is_some() { " --accept-license" } else { "" };
                let binds = self.binding.as_ref().map_or(String::new(), |_| format!(", licence {}", self.licence));
                let bytes = self.files.iter().map(|f| f.about_bytes).sum();
                let size = super::bytes_in_words(bytes);
                format!("To get it (about {size}{binds}): krea models pull {}{accept}", self.name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_list_has_what_krea_can_use() {
        let manifest = Manifest::built_in();
        for name in [
            "krea-14b",
            "self-forcing-1.3b",
            "umt5-xxl",
            "wan-tokenizer",
            "wan-vae",
            "taew2.1",
            "yolov8n-seg",
            "rfdetr-seg",
        ] {
            let model = manifest.model(name).unwrap_or_else(|| panic!("{name}"));
            assert!(model.files.iter().all(|f| f.about_bytes > 0), "{name}");
            let binds = model.licence.starts_with("AGPL") || model.licence.contains("NC");
            assert_eq!(model.binding.is_some(), binds, "{name}: {}", model.licence);
        }
        let has = |part| manifest.models.iter().any(|m| m.part == Some(part));
        assert!(Part::ALL.into_iter().all(has), "a generator needs each of its parts");
    }

    fn one(name: &str, repository: &str, file: &str) -> Result<Manifest, String> {
        Manifest::parse(&format!(
            "[[model]]\nname = 'm'\nfor = 'x'\nlicence = 'MIT'\n[[model.file]]\nname = '{name}'\nabout_bytes = 1\n\
             from = [{{ repository = '{repository}', file = '{file}' }}]"
        ))
    }

    #[test]
    fn paths_that_leave_their_folder_are_refused() {
        assert!(one("a.onnx", "o/r", "d/a.onnx").is_ok());
        for name in ["../a", "a/b", "", ".", "..", ".hidden", "a\\b", "C:a"] {
            assert!(one(name, "o/r", "a").is_err(), "{name}");
        }
        for repository in ["o", "o/r/x", "../r", "o/..", "/o/r", "o//r", "o/r--x", "o/a b"] {
            assert!(one("a", repository, "a").is_err(), "{repository}");
        }
        for file in ["/etc/passwd", "../a", "a/../../b", "a//b", "a/./b", "", "a\\b", "C:/a"] {
            assert!(one("a", "o/r", file).is_err(), "{file}");
        }
    }

    #[test]
    fn what_is_misspelt_is_told() {
        let text = "[[model]]\nname = 'm'\nfor = 'x'\nlicense = 'MIT'";
        assert!(Manifest::parse(text).unwrap_err().contains("license"));
        let needs = "[[model]]\nname='m'\nfor='x'\nlicence='MIT'\nneeds=['y']\nexport='z'\n\
                     [[model.file]]\nname='a'\nabout_bytes=1\nfrom=[]";
        assert!(Manifest::parse(needs).unwrap_err().contains("'y'"));
    }
}
