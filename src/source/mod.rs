//! Everything that is read: files, pictures and stdin through FFmpeg; backdrops.

mod backdrop;
mod input;
mod normalise;
mod reader;
mod stdin;

pub use backdrop::Backdrop;
pub use input::{Input, Native, Options, Place};
pub use reader::{Damage, Reader, Target};
