//! Commands from a file, carried out whenever it changes: for those who steer with an editor or a script.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Command, Desk, terminal, watch};
use crate::error::{Error, Result};

/// More than this is no list of commands.
const LARGEST: u64 = 1 << 20;

/// What the file holds now is carried out too. It may appear later, and be replaced.
pub(super) fn follow(path: PathBuf, desk: Desk) -> Result<()> {
    if path.is_dir() {
        return Err(Error::Usage(format!("--control-file {}: is a directory", path.display())));
    }
    let control = desk.control();
    watch::on_change(path, true, control, move |path| carry_out(path, &desk))
}

/// Line by line: JSON as the socket takes it, words as the terminal does.
fn carry_out(path: &Path, desk: &Desk) {
    let text = match fs::metadata(path) {
        Ok(meta) if meta.len() > LARGEST => Err(format!("more than {LARGEST} bytes are no commands")),
        _ => fs::read_to_string(path).map_err(|e| e.to_string()),
    };
    let text = match text {
        Ok(text) => text,
        Err(why) => {
            tracing::warn!("{}: {why}", path.display());
            return;
        }
    };
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let command = if line.starts_with('{') { Command::from_json(line) } else { Command::from_words(line) };
        terminal::tell(&desk.obey(command));
    }
}
