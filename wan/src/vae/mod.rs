//! The Wan 2.1 causal video autoencoder.
