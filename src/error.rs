//! What can go wrong, and the exit code that each kind of failure ends with.

use thiserror::Error;

/// A failure in the terms of the person who typed the command: what happened, to which file, what to do.
#[derive(Debug, Error)]
pub enum Error {
    /// The command line asks for something impossible.
    #[error("{0}")]
    Usage(String),
    /// The input cannot be read as video.
    #[error("{0}")]
    Input(String),
    /// A model is missing, damaged, or not one that krea knows how to use.
    #[error("{0}")]
    Model(String),
    /// No runtime, no such device, or not enough memory.
    #[error("{0}")]
    Device(String),
    /// The output cannot be written.
    #[error("{0}")]
    Output(String),
    /// Whoever reads the output has gone; a normal end.
    #[error("the reader of the output has closed it")]
    Closed,
    /// A stage stopped on its own account.
    #[error("{stage}: {message}")]
    Stage { stage: String, message: String },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Exit codes, stable and listed in the man page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Input = 3,
    Model = 4,
    Device = 5,
    Output = 6,
    Partial = 7,
    Interrupted = 130,
    Terminated = 143,
}

impl Error {
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Input(_) => Exit::Input,
            Self::Model(_) => Exit::Model,
            Self::Device(_) => Exit::Device,
            Self::Output(_) => Exit::Output,
            Self::Closed => Exit::Done,
            Self::Stage { .. } => Exit::Failed,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
