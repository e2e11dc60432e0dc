//! TAEHV, the tiny autoencoder for Wan 2.1 latents.
