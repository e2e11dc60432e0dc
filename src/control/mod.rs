//! Commands to a run that goes on: from a socket, from the terminal, from a file that changes.
//!
//! Each way in turns what it reads into a [`Command`] and hands it to the [`Desk`], which carries it out and answers.

mod command;
mod desk;
mod file;
mod socket;
mod terminal;
mod watch;

use std::path::PathBuf;

use crate::error::Result;

pub use command::Command;
pub use desk::{Backgrounds, Desk, Steering};
pub(crate) use terminal::is_there as can_type;
pub(crate) use watch::on_change;

/// Which ways in are open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// Where the socket stands.
    pub socket: Option<PathBuf>,
    /// A file of commands.
    pub file: Option<PathBuf>,
    /// Lines typed where the program was started.
    pub terminal: bool,
}

impl Ways {
    pub fn any(&self) -> bool {
        self.socket.is_some() || self.file.is_some() || self.terminal
    }

    /// Opens them. What comes back keeps them open.
    pub fn open(&self, desk: &Desk) -> Result<Open> {
        if let Some(path) = &self.file {
            file::follow(path.clone(), desk.clone())?;
        }
        if self.terminal {
            terminal::listen(desk.clone())?;
        }
        let socket = self.socket.as_deref().map(|path| socket::Server::start(path, desk.clone())).transpose()?;
        Ok(Open { _socket: socket })
    }
}

/// Ways in that are open until this is dropped.
#[derive(Default)]
pub struct Open {
    _socket: Option<socket::Server>,
}
