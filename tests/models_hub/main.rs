//! `krea models` with the real binary, against a hub on loopback that speaks the Hugging Face hub's redirects, etags
//! and ranges, and fails as a test wants it to.

mod bundles;
mod downloads;
mod hub;
mod library;
mod machine;
