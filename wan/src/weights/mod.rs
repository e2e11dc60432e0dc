//! Weights: files of named tensors, read without a copy.
