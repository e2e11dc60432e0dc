//! Commands typed where the program was started: a line is a prompt, a line with a slash a command.

use std::io::{self, BufRead, IsTerminal};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::{Command, Desk};
use crate::error::{Error, Result};

/// Whether somebody can type.
pub(crate) fn is_there() -> bool {
    io::stdin().is_terminal()
}

/// A program in the background that reads from its terminal is stopped by the system.
fn is_ours() -> bool {
    // SAFETY: neither call takes a pointer.
    unsafe { libc::tcgetpgrp(libc::STDIN_FILENO) == libc::getpgrp() }
}

pub(super) fn listen(desk: Desk) -> Result<()> {
    // The thread may be left in a read when the run ends; it holds nothing that anybody waits for.
    let body = move || {
        while !desk.is_over() {
            if !is_ours() || !is_waiting() {
                thread::sleep(Duration::from_millis(100));
                continue;
            }
            let mut line = String::new();
            match io::stdin().lock().read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line.trim().is_empty() => {}
                Ok(_) => tell(&desk.obey(Command::from_words(&line))),
            }
        }
    };
    let failed = |e: io::Error| Error::Stage { stage: "terminal".to_owned(), message: e.to_string() };
    thread::Builder::new().name("terminal".to_owned()).spawn(body).map(drop).map_err(failed)
}

/// Whether a line has been typed.
fn is_waiting() -> bool {
    let mut poll = libc::pollfd { fd: libc::STDIN_FILENO, events: libc::POLLIN, revents: 0 };
    // SAFETY: one live structure, and the count says so.
    unsafe { libc::poll(&mut poll, 1, 100) > 0 }
}

/// Answers in words.
pub(super) fn tell(reply: &Value) {
    match (&reply["error"], &reply["status"]) {
        (Value::String(why), _) => tracing::warn!("{why}"),
        (_, Value::Null) => {}
        (_, status) => tracing::info!("{status}"),
    }
}
