//! Finds the persons in a frame.
