//! krea: find the people in a video, put them on another background, let a generator repaint them.
//!
//! Data flows source -> mask -> composite -> generate -> sink; no stage knows another, `job` joins them.

mod address;
pub mod cli;
pub mod colour;
pub mod composite;
pub mod config;
pub mod console;
pub mod control;
pub mod doctor;
pub mod error;
mod ffmpeg_devices;
mod ffmpeg_log;
pub mod frame;
pub mod generate;
mod job;
pub mod mask;
pub mod models;
pub mod pipeline;
pub mod progress;
pub mod report;
pub mod runtime;
pub mod settings;
mod signals;
pub mod sink;
pub mod source;
pub mod stream;
