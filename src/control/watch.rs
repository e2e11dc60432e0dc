//! Notices when a file has changed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::pipeline::Control;

/// How often the file is looked at. It must look the same twice, so that nothing half written is read.
const LOOK: Duration = Duration::from_millis(100);

/// By what a change is seen: inode, length, time of the last change.
type Mark = (u64, u64, i64, i64);

/// Calls `act` whenever the file is another one than it was, until the run is stopped. `now` also calls it for what is
/// there at the beginning. The file may appear later, and be replaced.
pub(crate) fn on_change(
    path: PathBuf,
    now: bool,
    control: Control,
    mut act: impl FnMut(&Path) + Send + 'static,
) -> Result<()> {
    let mut done = if now { None } else { mark(&path) };
    let body = move || {
        let mut last = None;
        while !control.stopped() {
            let seen = mark(&path);
            if seen.is_some() && seen == last && seen != done {
                done = seen;
                act(&path);
            }
            last = seen;
            thread::sleep(LOOK);
        }
    };
    let failed = |e: io::Error| Error::Stage { stage: "watch".to_owned(), message: e.to_string() };
    thread::Builder::new().name("watch".to_owned()).spawn(body).map(drop).map_err(failed)
}

fn mark(path: &Path) -> Option<Mark> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}
