//! Finds the runtimes that are not linked: ONNX Runtime and libtorch.
