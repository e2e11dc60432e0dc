//! Everything that is written: files, pictures and stdout through FFmpeg; copied sound, subtitles and chapters.

mod encoder;
mod file;
mod muxer;
mod plan;
mod target;

pub use file::FileSink;
pub use plan::{Choices, Plan};
pub use target::{Destination, Overwrite, check};
