//! Streaming Wan 2.1 inference on libtorch.
