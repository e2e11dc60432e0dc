//! Hands the commands that concern a generation on to it.

use crate::control;
use crate::generate::Steering;

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
