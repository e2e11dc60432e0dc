//! Everything that is written or shown: files, pictures, stdout and streams through FFmpeg; copied sound, subtitles and
//! chapters; a window.

mod deadline;
mod encoder;
mod file;
mod muxer;
mod pace;
mod plan;
pub mod preview;
mod stdout;
mod streams;
mod target;

pub use file::FileSink;
pub use pace::Paced;
pub use plan::{Choices, Plan};
pub use streams::Tee;
pub use target::{Destination, Overwrite, check};
