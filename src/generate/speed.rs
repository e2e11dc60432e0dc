//! How fast a model was on this machine, remembered from run to run.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use super::outline::Outline;
use super::settings::Settings;
use crate::models::{Bundle, Environment};

/// Milliseconds of a block by what it depends on, in `speed.json` of krea's state folder.
type Speeds = BTreeMap<String, f64>;

/// Where the speed of one kind of generation is remembered.
#[derive(Clone, Debug)]
pub struct Speed {
    file: Option<PathBuf>,
    key: String,
}

impl Speed {
    pub(super) fn new(settings: &Settings, outline: &Outline, bundle: &Bundle) -> Self {
        let (width, height) = outline.geometry.model;
        let autoencoder = if bundle.taehv.is_some() { "tae" } else { "wan" };
        let steps = settings.steps.unwrap_or(settings.preset(outline.live).steps());
        let (window, precision, device) = (settings.window, settings.precision.name(), settings.device);
        let file = Environment::from_env().state.map(|folder| folder.join("speed.json"));
        let work = format!("{width}x{height}, {steps} steps, window {window}, {autoencoder}, {precision} on {device}");
        Self { file, key: format!("{}: {work}", bundle.name) }
    }

    fn read(&self) -> Speeds {
        let text = self.file.as_ref().and_then(|file| fs::read(file).ok());
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Frames a second, as the last such run had them.
    pub fn recall(&self) -> Option<f64> {
        self.read().get(&self.key).map(|block| 12_000.0 / block)
    }

    /// What cannot be written is measured again another time.
    pub(crate) fn remember(&self, milliseconds: f64) {
        let Some(file) = &self.file else { return };
        let mut speeds = self.read();
        speeds.insert(self.key.clone(), milliseconds);
        let part = file.with_extension("json.part");
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(file.parent().unwrap_or(file))?;
            fs::write(&part, serde_json::to_vec_pretty(&speeds)?)?;
            fs::rename(&part, file)
        };
        if let Err(error) = write() {
            tracing::debug!("{}: {error}", file.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_remembered_beside_others() {
        let folder = tempfile::tempdir().unwrap();
        let file = Some(folder.path().join("krea/speed.json"));
        let of = |key: &str| Speed { file: file.clone(), key: key.to_owned() };
        assert_eq!(of("a").recall(), None);
        of("a").remember(600.0);
        of("b").remember(1200.0);
        assert_eq!((of("a").recall(), of("b").recall()), (Some(20.0), Some(10.0)));
        std::fs::write(file.as_ref().unwrap(), "nonsense").unwrap();
        assert_eq!(of("a").recall(), None);
        of("a").remember(300.0);
        assert_eq!(of("a").recall(), Some(40.0));
    }
}
