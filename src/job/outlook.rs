//! What `--dry-run` prints: the plan of a run, before anything is loaded.

use std::fmt::Write as _;

use super::reading::Reading;
use crate::error::Result;
use crate::generate::Prepared;
use crate::settings::Settings;

/// The plan in words, a line for each stage, then the memory by component.
pub(super) fn outlook(settings: &Settings, reading: &Reading, prepared: Option<&Prepared>) -> Result<String> {
    let mut text = String::new();
    let mut line = |name: &str, what: String| {
        let _ = writeln!(text, "{name:10} {what}");
    };
    let info = &reading.info;
    let rate = f64::from(info.frame_rate);
    line("source", format!("{}, {}x{} at {rate:.4} fps", settings.input, info.width, info.height));
    if let Some(generation) = settings.generation.as_ref().filter(|g| settings.backing.is_none() && g.needs_mask()) {
        line("mask", format!("for --region {:?}", generation.region).to_lowercase());
    }
    if let Some(backing) = &settings.backing {
        line("mask", format!("{:?} on {}", settings.mask.model, settings.mask.device).to_lowercase());
        line("composite", format!("on {backing:?}").to_lowercase());
    }
    if let (Some(generation), Some(outline), Some(prepared)) = (&settings.generation, &reading.outline, prepared) {
        let (w, h) = outline.geometry.model;
        line("generate", format!("{} at {w}x{h}, {}", prepared.bundle.name, generation.in_words(outline.live)));
        let out = &outline.output;
        line(
            "sink",
            format!("{}, {}x{} at {:.4} fps", settings.output, out.width, out.height, f64::from(out.frame_rate)),
        );
        let memory = &prepared.memory;
        for (part, bytes) in memory.parts.iter().filter(|(_, bytes)| **bytes > 0) {
            line("memory", format!("{:>12}  {part}", megabytes(*bytes)));
        }
        let free = memory.free.map_or("unknown".to_owned(), megabytes);
        line("memory", format!("{:>12}  together; free on {}: {free}", megabytes(memory.total), generation.device));
        if prepared.text_on_cpu {
            line("note", "the text encoder stays on the CPU: the device has no room for it".to_owned());
        }
        line(
            "speed",
            match prepared.speed.recall() {
                Some(fps) => format!("{fps:.1} frames a second, as such a run had here before"),
                None => "not known before the first such run".to_owned(),
            },
        );
    } else {
        line("sink", format!("{}, {}x{}", settings.output, info.width, info.height));
    }
    Ok(text)
}

/// In one unit, so that the column adds up.
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
