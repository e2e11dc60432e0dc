//! Puts the persons in a frame on another background.
