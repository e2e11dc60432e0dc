//! Where model files lie, and which are here.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::Finding;
use crate::mask::find::Places;
use crate::models::{Library, State, bytes_in_words};

/// What `--mask-model auto` looks for.
const DEFAULT_NAME: &str = "yolov8n-seg";

pub(super) fn look() -> Finding {
    let mut finding = Finding::default();
    let library = Library::of_this_machine();
    let hub = library.hub();
    match hub {
        None => finding.wrong("there is no place for the Hugging Face cache", "Set HOME, HF_HOME or HF_HUB_CACHE"),
        Some(hub) => {
            let bytes = size_of_cache(hub);
            let words = format!("Hugging Face cache, {}: {}", bytes_in_words(bytes), hub.display());
            finding.fact("cache", hub.display().to_string());
            finding.fact("cache_bytes", bytes);
            match writable(hub) {
                Ok(()) => finding.ok(words),
                Err(why) => finding.wrong(
                    format!("{words} cannot be written: {why}"),
                    "What is there is used, nothing can be pulled; HF_HUB_CACHE names another place",
                ),
            }
        }
    }
    if let Some(folder) = library.plain_folder() {
        finding.fact("models_dir", folder.display().to_string());
        match folder.is_dir() {
            true => finding.ok(format!("plain files: {}", folder.display())),
            false if std::env::var_os("KREA_MODELS_DIR").is_some_and(|v| !v.is_empty()) => finding.wrong(
                format!("KREA_MODELS_DIR names {}, which is no folder", folder.display()),
                "Make it, or take the variable away",
            ),
            false => {}
        }
    }
    listed(&mut finding, &library);
    finding
}

fn listed(finding: &mut Finding, library: &Library) {
    let (mut here, mut facts) = (Vec::new(), serde_json::Map::new());
    for model in &library.manifest.models {
        let states: Result<Vec<State>, _> = model.files.iter().map(|f| library.state(f)).collect();
        let states = match states {
            Ok(states) => states,
            Err(error) => {
                finding.wrong(error.to_string(), "Move the file away; pulling writes it anew");
                return;
            }
        };
        let is = |wanted: fn(&State) -> bool| states.iter().any(wanted);
        let word = if let Some(State::Damaged { path, bytes, expected }) =
            states.iter().find(|s| matches!(s, State::Damaged { .. }))
        {
            let text = format!("{}: {bytes} bytes, where {expected} were pulled", path.display());
            finding.wrong(text, format!("krea models rm {0}, then krea models pull {0}", model.name));
            "damaged"
        } else if is(|s| matches!(s, State::Partial { .. })) {
            finding.absent(
                format!("{} is half here", model.name),
                format!("It goes on from there: krea models pull {}", model.name),
            );
            "partial"
        } else if is(|s| matches!(s, State::Missing)) {
            "missing"
        } else {
            here.push(model.name.as_str());
            "here"
        };
        facts.insert(model.name.clone(), word.into());
    }
    let found = Places::from_env().find(DEFAULT_NAME, None);
    let masks = found.map_or_else(|| "the embedded selfie model".to_owned(), |path| path.display().to_string());
    match here.is_empty() {
        true => finding.absent(
            format!("no model is here; masks are made by {masks}"),
            "For several people, at any distance: krea models pull yolov8n-seg",
        ),
        false => finding.ok(format!("here: {}; masks are made by {masks}", here.join(", "))),
    }
    finding.fact("models", facts);
}

/// Bytes of all blobs. Links are not followed, so nothing is counted twice.
fn size_of_cache(hub: &Path) -> u64 {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let files = entries(hub).flat_map(|repo| entries(&repo.path().join("blobs")));
    files.filter_map(|e| e.metadata().ok()).filter(std::fs::Metadata::is_file).map(|m| m.len()).sum()
}

/// Whether this user may make files in the folder, or in the nearest one above it that is there.
pub(super) fn writable(folder: &Path) -> Result<(), String> {
    let there = folder.ancestors().find(|p| p.exists()).unwrap_or(folder);
    if !there.is_dir() {
        return Err(format!("{} is no folder", there.display()));
    }
    let name = std::ffi::CString::new(there.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
    // SAFETY: `name` ends with a zero.
    match unsafe { libc::access(name.as_ptr(), libc::W_OK | libc::X_OK) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().to_string()),
    }
}
