//! Questions on the terminal. Where there is none, nobody has agreed to anything.

use std::io::{BufRead, IsTerminal, Write};

use super::manifest::Model;
use crate::error::{Error, Result};

/// Whether there is somebody to ask: both ends of a question must be a terminal.
pub fn somebody_is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Whether the user agrees to a licence that binds.
pub fn to_licence(model: &Model) -> Result<bool> {
    let binding = model.binding.as_deref().unwrap_or_default();
    yes(&format!("{} is under {}: {binding}.\nDo you agree? [y/N] ", model.name, model.licence))
}

/// Asks, and takes nothing but a yes for one.
pub(super) fn yes(question: &str) -> Result<bool> {
    if !somebody_is_there() {
        return Ok(false);
    }
    let failed = |e: std::io::Error| Error::Output(format!("the terminal: {e}"));
    let mut output = std::io::stderr();
    output.write_all(question.as_bytes()).and_then(|()| output.flush()).map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
