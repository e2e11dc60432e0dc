//! Everything that is read: files, pictures, streams and stdin through FFmpeg; backdrops.

mod arrivals;
mod backdrop;
mod camera;
mod clock;
mod darkness;
mod goal;
mod input;
mod live;
mod normalise;
mod open;
mod packets;
mod place;
mod reader;
mod refusal;
mod stdin;
mod trial;

pub use backdrop::Backdrop;
pub use camera::{Api, Camera, Format, Size, cameras};
pub use input::{Input, Native};
pub use live::Connection;
pub use open::Options;
pub use place::Place;
pub use reader::{Damage, Reader, Target};
