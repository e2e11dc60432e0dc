//! Streaming Wan 2.1 inference on libtorch.
//!
//! Data flows down the page: weights are opened, a prompt becomes embeddings, noise or encoded
//! frames become latents through the causal transformer, and latents become frames.

pub mod abi;
pub mod autoencoder;
pub mod device;
pub mod dit;
pub mod error;
mod layout;
pub mod memory;
pub mod models;
pub mod noise;
pub mod preprocess;
pub mod scheduler;
pub mod session;
pub mod taehv;
pub mod text;
pub mod vae;
pub mod weights;

pub use error::{Error, Result};
