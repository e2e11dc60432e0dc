//! Commands from a file, carried out whenever it changes: for those who steer with an editor or a script.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::{Command, Desk, terminal};
use crate::error::{Error, Result};

/// How often the file is looked at. It must look the same twice, so that nothing half written is read.
const LOOK: Duration = Duration::from_millis(100);

/// More than this is no list of commands.
const LARGEST: u64 = 1 << 20;

/// By what a change is seen: inode, length, time of the last change.
type Mark = (u64, u64, i64, i64);

/// What the file holds now is carried out too. It may appear later, and be replaced.
pub(super) fn follow(path: PathBuf, desk: Desk) -> Result<()> {
    if path.is_dir() {
        return Err(Error::Usage(format!("--control-file {}: is a directory", path.display())));
    }
    let body = move || {
        let (mut done, mut last) = (None, None);
        while !desk.is_over() {
            let now = mark(&path);
            if now.is_some() && now == last && now != done {
                done = now;
                carry_out(&path, &desk);
            }
            last = now;
            thread::sleep(LOOK);
        }
    };
    let failed = |e: io::Error| Error::Stage { stage: "control file".to_owned(), message: e.to_string() };
    thread::Builder::new().name("control file".to_owned()).spawn(body).map(drop).map_err(failed)
}

fn mark(path: &Path) -> Option<Mark> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
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
