//! What the package promises beside parity: sessions, weights files and the C interface.

mod abi;
mod autoencoders;
mod pickles;
mod sessions;
mod tiny;
mod weights;
