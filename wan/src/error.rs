//! What can go wrong in this package, as one enum.

use std::path::{Path, PathBuf};

/// A result with this package's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong between a weights file and a block of frames.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be opened or read.
    #[error("{path}: {source}")]
    Io {
        /// The file in question.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {reason}")]
    File {
        /// The file in question.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A set of weights lacks a tensor, has one too many, or has one of another shape.
    #[error("{origin}: {reason}")]
    Weights {
        /// The files that the weights came from.
        origin: String,
        /// Which tensors are missing, surplus or misshapen.
        reason: String,
    },
    /// A parameter is out of its range.
    #[error("{0}")]
    Parameter(String),
    /// The device or the precision asked for cannot be used.
    #[error("{0}")]
    Device(String),
    /// Not enough memory for the model at this size.
    #[error("{0}")]
    Memory(String),
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// The session is busy with another call.
    #[error("this session is busy with another call")]
    Busy,
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

impl Error {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Error::Io { path: path.to_owned(), source }
    }

    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> Self {
        Error::File { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn parameter(reason: impl Into<String>) -> Self {
        Error::Parameter(reason.into())
    }
}
