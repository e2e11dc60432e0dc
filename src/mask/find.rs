//! Where model files lie: the models folder, then the Hugging Face cache.

use std::path::{Path, PathBuf};

use crate::models::cache::Cache;
use crate::models::{Environment, Manifest};

/// Folders to look in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// `KREA_MODELS_DIR`, or krea's own folder.
    pub models: Option<PathBuf>,
    /// The Hugging Face cache that is shared with other tools.
    pub hub: Option<PathBuf>,
}

impl Places {
    pub fn from_env() -> Self {
        let Environment { models, hub, .. } = Environment::from_env();
        Self { models, hub }
    }

    /// The file of the model `name` ("yolov8n-seg"): the export for the input `size` (width, height) if that is asked
    /// for and there, else the plain one, else the largest.
    pub fn find(&self, name: &str, size: Option<(u32, u32)>) -> Option<PathBuf> {
        let hub = self.hub.iter().flat_map(|hub| snapshots(hub, name));
        self.models.iter().cloned().chain(hub).find_map(|folder| best_in(&folder, name, size))
    }

    /// What was looked through, for messages.
    pub fn describe(&self) -> String {
        let models = match &self.models {
            Some(p) => p.display().to_string(),
            None => "KREA_MODELS_DIR (not set)".to_owned(),
        };
        let hub = self.hub.as_ref().map_or_else(|| "no Hugging Face cache".to_owned(), |p| p.display().to_string());
        format!("{models} and {hub}")
    }
}

/// The commits of the repositories that the manifest names for it, newest first, and their subfolder `onnx`.
fn snapshots(hub: &Path, name: &str) -> Vec<PathBuf> {
    let manifest = Manifest::built_in();
    let mut repositories: Vec<&str> = Vec::new();
    for origin in manifest.model(name).iter().flat_map(|m| &m.files).flat_map(|f| &f.from) {
        if !repositories.contains(&origin.repository.as_str()) {
            repositories.push(&origin.repository);
        }
    }
    let cache = Cache::new(hub.to_owned());
    let commits = repositories.into_iter().flat_map(|r| cache.repo(r).snapshots());
    commits.flat_map(|commit| [commit.clone(), commit.join("onnx")]).collect()
}

fn best_in(folder: &Path, name: &str, size: Option<(u32, u32)>) -> Option<PathBuf> {
    let sized = |(w, h): (u32, u32)| folder.join(format!("{name}-{h}x{w}.onnx"));
    let exact = size.map(sized).filter(|p| p.is_file());
    let plain = ["", "_fp32"].map(|end| folder.join(format!("{name}{end}.onnx"))).into_iter().find(|p| p.is_file());
    // onnx-community calls every model "model.onnx".
    let model = Some(folder.join("model.onnx")).filter(|p| p.is_file() && folder.to_string_lossy().contains(name));
    exact.or(plain).or(model).or_else(|| largest_export(folder, name))
}

/// Of `name-384x640.onnx` and the like, the one with the largest input.
fn largest_export(folder: &Path, name: &str) -> Option<PathBuf> {
    let area = |path: &PathBuf| -> Option<u32> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".onnx")?;
        let (h, w) = stem.strip_prefix(name)?.strip_prefix('-')?.split_once('x')?;
        Some(h.parse::<u32>().ok()? * w.parse::<u32>().ok()?)
    };
    let files = std::fs::read_dir(folder).ok()?.flatten().map(|e| e.path());
    files.filter_map(|p| Some((area(&p)?, p))).max_by_key(|(area, _)| *area).map(|(_, p)| p)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }

    #[test]
    fn the_export_of_the_asked_size_wins_then_the_plain_one() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places { models: Some(dir.path().to_owned()), hub: None };
        assert_eq!(places.find("yolov8n-seg", None), None);
        touch(&dir.path().join("yolov8n-seg-192x320.onnx"));
        touch(&dir.path().join("yolov8n-seg-384x640.onnx"));
        touch(&dir.path().join("yolov8n-seg-384x640-int8.onnx"));
        let name = |size| places.find("yolov8n-seg", size).unwrap().file_name().unwrap().to_owned();
        assert_eq!(name(None), "yolov8n-seg-384x640.onnx");
        assert_eq!(name(Some((320, 192))), "yolov8n-seg-192x320.onnx");
        touch(&dir.path().join("yolov8n-seg.onnx"));
        assert_eq!(name(None), "yolov8n-seg.onnx");
        assert_eq!(name(Some((640, 384))), "yolov8n-seg-384x640.onnx");
        assert_eq!(name(Some((64, 64))), "yolov8n-seg.onnx");
    }

    #[test]
    fn the_hugging_face_cache_is_searched_in_its_own_layout() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("models--onnx-models--yolov8n-seg/snapshots/abc/yolov8n-seg.onnx");
        touch(&file);
        let places = Places { models: None, hub: Some(dir.path().to_owned()) };
        assert_eq!(places.find("yolov8n-seg", None), Some(file));
        assert_eq!(places.find("other", None), None);
    }
}
