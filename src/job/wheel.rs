//! Hands the commands that concern a generation on to it, and prompts that were changed in their file.

use crate::control;
use crate::error::Result as Checked;
use crate::generate::{Settings, Steering};
use crate::pipeline::Control;

/// Reads the file of prompts again whenever it changes. What cannot be read leaves the prompts as they are.
pub(super) fn follow_prompts(settings: &Settings, steering: &Steering, control: &Control) -> Checked<()> {
    let Some(path) = settings.prompt_file.clone() else { return Ok(()) };
    let (steering, prompt) = (steering.clone(), settings.prompt.clone());
    control::on_change(path, false, control.clone(), move |path| match Settings::timeline_of(path, prompt.as_deref()) {
        Ok(timeline) => {
            tracing::info!("{}: read again, {} prompts", path.display(), timeline.len());
            steering.timeline(timeline);
        }
        Err(error) => tracing::warn!("{error}; the prompts stay as they are"),
    })
}

/// The generation's steering, as the desk knows it.
pub(super) struct Wheel(pub(super) Steering);

impl control::Steering for Wheel {
    fn prompt(&self, text: &str, blend: Option<u32>) -> Result<(), String> {
        if text.trim().is_empty() {
            return Err("the prompt is empty".to_owned());
        }
        self.0.prompt(text, blend);
        Ok(())
    }

    fn strength(&self, strength: f64) -> Result<(), String> {
        if !(strength > 0.0 && strength <= 1.0) {
            return Err(format!("the strength {strength} is not in (0, 1]"));
        }
        self.0.strength(strength);
        Ok(())
    }

    fn seed(&self, seed: u64) -> Result<(), String> {
        self.0.seed(seed);
        Ok(())
    }

    fn reset(&self) -> Result<(), String> {
        self.0.reset();
        Ok(())
    }
}
