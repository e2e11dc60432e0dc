//! Commands over a Unix socket: one JSON object a line, and a line of JSON in answer to each.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Command, Desk};
use crate::error::{Error, Result};

/// A line that is longer is no command.
const LONGEST: u64 = 64 * 1024;
/// More clients at once are sent away.
const CLIENTS: usize = 64;
/// How often a client's thread looks whether the run is over.
const LOOK: Duration = Duration::from_millis(200);
/// A client that does not read its answers is let go.
const PATIENCE: Duration = Duration::from_secs(5);

/// The socket and its thread; the file goes away with it.
pub(super) struct Server {
    path: PathBuf,
    /// By which the file is known to be ours still.
    inode: u64,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(path: &Path, desk: Desk) -> Result<Self> {
        make_room(path)?;
        let listener = bind(path).map_err(|e| failed(path, &e.to_string()))?;
        let inode = fs::metadata(path).map_err(|e| failed(path, &e.to_string()))?.ino();
        let over = Arc::new(AtomicBool::new(false));
        let end = over.clone();
        let body = move || serve(&listener, &desk, &end);
        let thread = thread::Builder::new().name("control".to_owned()).spawn(body);
        let thread = thread.map_err(|e| failed(path, &e.to_string()))?;
        Ok(Self { path: path.to_owned(), inode, over, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let ours = fs::metadata(&self.path).is_ok_and(|m| m.ino() == self.inode);
        // The thread waits for a client; one that says nothing wakes it.
        let woken = ours && UnixStream::connect(&self.path).is_ok();
        if ours {
            // Nothing can be done about a file that does not go.
            let _ = fs::remove_file(&self.path);
        }
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
    }
}

fn failed(path: &Path, why: &str) -> Error {
    Error::Output(format!("--control {}: {why}", path.display()))
}

/// Takes away what a run has left that ended badly. Anything else that stands there stays.
fn make_room(path: &Path) -> Result<()> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    if !meta.file_type().is_socket() {
        return Err(failed(path, "this file exists and is no socket; choose another name"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|e| failed(path, &format!("the old socket cannot be removed: {e}")))
        }
        Ok(_) => Err(failed(path, "another run answers at this socket; choose another name")),
        Err(error) => Err(failed(path, &error.to_string())),
    }
}

/// For the user alone from the very beginning.
fn bind(path: &Path) -> io::Result<UnixListener> {
    // SAFETY: umask(2) takes no pointer and cannot fail. It holds for the whole process; what else is made in between
    // is more private than it need be.
    let before = unsafe { libc::umask(0o177) };
    let listener = UnixListener::bind(path);
    // SAFETY: as above.
    unsafe { libc::umask(before) };
    listener
}

/// Takes clients in until the run is over.
fn serve(listener: &UnixListener, desk: &Desk, over: &Arc<AtomicBool>) {
    let count = Arc::new(AtomicUsize::new(0));
    for client in listener.incoming() {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut client) = client else {
            // Out of file descriptors, perhaps; that passes.
            thread::sleep(LOOK);
            continue;
        };
        if count.load(Ordering::Relaxed) >= CLIENTS {
            let _ = answer(&mut client, &json!({"ok": false, "error": "too many clients"}));
            continue;
        }
        count.fetch_add(1, Ordering::Relaxed);
        let (desk, over, leaving) = (desk.clone(), over.clone(), count.clone());
        let body = move || {
            // A client that goes away is no concern of anybody's.
            let _ = attend(client, &desk, &over);
            leaving.fetch_sub(1, Ordering::Relaxed);
        };
        if thread::Builder::new().name("control client".to_owned()).spawn(body).is_err() {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Obeys one client until it leaves.
fn attend(mut client: UnixStream, desk: &Desk, over: &AtomicBool) -> io::Result<()> {
    client.set_read_timeout(Some(LOOK))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let room = LONGEST + 1 - line.len() as u64;
        match (&mut reader).take(room).read_until(b'\n', &mut line) {
            Ok(0) if line.is_empty() => return Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let ends = line.last() == Some(&b'\n');
        if !ends && line.len() as u64 > LONGEST {
            answer(
                &mut client,
                &json!({"ok": false, "error": "a line of more than 64 KiB; the connection is closed"}),
            )?;
            return drain(&mut reader, over);
        }
        let text = std::mem::take(&mut line);
        if text.trim_ascii().is_empty() {
            continue;
        }
        let command = match std::str::from_utf8(&text) {
            Ok(text) => Command::from_json(text),
            Err(_) => Err("this is not UTF-8".to_owned()),
        };
        let reply = desk.obey(command);
        answer(&mut client, &reply)?;
    }
    Ok(())
}

fn answer(client: &mut UnixStream, reply: &Value) -> io::Result<()> {
    client.write_all(format!("{reply}\n").as_bytes())
}

/// Takes the rest of a line that is too long, for a while: who is cut off in the middle of writing reads no answer.
fn drain(reader: &mut impl Read, over: &AtomicBool) -> io::Result<()> {
    let (begun, mut buffer) = (Instant::now(), [0; 4096]);
    while begun.elapsed() < PATIENCE && !over.load(Ordering::Relaxed) {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) if buffer[..n].contains(&b'\n') => break,
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
