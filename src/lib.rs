//! krea: find the people in a video, put them on another background, let a generator repaint them.
//!
//! Data flows source -> mask -> composite -> generate -> sink; no stage knows another.

pub mod colour;
pub mod composite;
pub mod error;
pub mod frame;
pub mod mask;
pub mod pipeline;
pub mod runtime;
pub mod sink;
pub mod source;
pub mod stream;
