//! Repaints the frames as a prompt says, block by block, with a streaming model.
//!
//! Three stages carry it, each on its own thread, so that the model never waits for a picture to be scaled: `fit` brings
//! frames to the model's rate and size, `generate` repaints blocks of them, `paste` brings them back. The model itself
//! is behind [`Generator`].

mod blank;
mod fit;
mod geometry;
mod open;
mod outline;
mod paste;
mod rate;
mod region;
mod scaler;
mod settings;
mod speed;
mod stage;
mod steering;
mod timeline;
mod wan;
mod watch;

pub use blank::Blank;
pub use fit::FitStage;
pub use geometry::{Fit, Geometry, OutputSize, Part};
pub use open::Opened;
pub(crate) use open::{Prepared, find};
pub use outline::Outline;
pub use paste::PasteStage;
pub use region::Region;
pub use settings::{Autoencoder, Compat, Precision, Preset, Settings};
pub use speed::Speed;
pub use stage::{GenerateStage, Options, Stats};
pub use steering::Steering;
pub use timeline::Timeline;
pub use wan::Memory;

use crate::error::Result;

/// Frames a second that Wan 2.1 was trained at.
pub const RATE: i32 = 16;

/// A model that repaints video in blocks. The first block takes 9 frames, each later one 12 (wan-spec 1).
pub trait Generator: Send {
    /// Width and height of its frames.
    fn size(&self) -> (u32, u32);

    /// Frames that the next block takes, and the most that it gives.
    fn frames_needed(&mut self) -> Result<usize>;

    /// Makes a block from packed RGB frames, or from the prompt alone, and writes packed RGB to `out`.
    /// `None` if it was told to stop meanwhile.
    fn next(&mut self, input: Option<&[u8]>, out: &mut [u8]) -> Result<Option<Block>>;

    /// The first prompt holds at once, a later one is blended in over so many blocks.
    fn prompt(&mut self, text: &str, blend: u32) -> Result<()>;

    /// From the next block on.
    fn change(&mut self, change: &Change) -> Result<()>;

    /// The video goes on from this packed RGB picture. Only before the first block.
    fn start_from(&mut self, picture: &[u8], width: u32, height: u32) -> Result<()>;

    /// The next block begins a new video.
    fn reset(&mut self) -> Result<()>;
}

/// What became of a block.
#[derive(Clone, Copy, Debug, Default)]
pub struct Block {
    /// Frames written; the newest of those that went in, where they are fewer.
    pub frames: usize,
    /// Every number of the result was a number.
    pub finite: bool,
    /// Seconds spent on encoding, in the transformer, and on decoding.
    pub seconds: [f64; 3],
}

/// What can be changed between two blocks.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Change {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
}
