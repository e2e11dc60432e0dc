//! Frames to the model: bicubic resize and resampling in time.
