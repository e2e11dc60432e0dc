//! Where model files lie: the models folder, then the Hugging Face cache.

use std::path::{Path, PathBuf};

/// Repositories on Hugging Face that hold YOLOv8n-seg as ONNX.
const REPOSITORIES: [&str; 2] = ["onnx-community/yolov8n-seg", "onnx-models/yolov8n-seg"];

/// Folders to look in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// `KREA_MODELS_DIR`.
    pub models: Option<PathBuf>,
    /// The Hugging Face cache that is shared with other tools.
    pub hub: Option<PathBuf>,
}

impl Places {
    pub fn from_env() -> Self {
        Self::from_lookup(|name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from))
    }

    /// As huggingface_hub finds its cache.
    fn from_lookup(var: impl Fn(&str) -> Option<PathBuf>) -> Self {
        let hub = var("HF_HUB_CACHE")
            .or_else(|| var("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| var("HF_HOME").map(|p| p.join("hub")))
            .or_else(|| var("XDG_CACHE_HOME").map(|p| p.join("huggingface/hub")))
            .or_else(|| var("HOME").or_else(|| var("USERPROFILE")).map(|p| p.join(".cache/huggingface/hub")));
        Self { models: var("KREA_MODELS_DIR"), hub }
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

/// `models--org--name/snapshots/*` and their subfolder `onnx`, newest first.
fn snapshots(hub: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for repository in REPOSITORIES.iter().filter(|r| r.ends_with(&format!("/{name}"))) {
        let folder = hub.join(format!("models--{}", repository.replace('/', "--"))).join("snapshots");
        let mut revisions: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().collect();
        revisions.sort_by_key(|e| std::cmp::Reverse(e.metadata().and_then(|m| m.modified()).ok()));
        found.extend(revisions.into_iter().flat_map(|e| [e.path(), e.path().join("onnx")]));
    }
    found
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

    #[test]
    fn the_cache_is_where_huggingface_hub_says() {
        let hub = |set: &[(&str, &str)]| {
            Places::from_lookup(|n| set.iter().find(|(k, _)| *k == n).map(|(_, v)| PathBuf::from(v))).hub.unwrap()
        };
        assert_eq!(hub(&[("HOME", "/h")]), Path::new("/h/.cache/huggingface/hub"));
        assert_eq!(hub(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(hub(&[("HF_HOME", "/f"), ("XDG_CACHE_HOME", "/x")]), Path::new("/f/hub"));
        assert_eq!(hub(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/f")]), Path::new("/c"));
    }
}
