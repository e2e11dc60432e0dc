//! Memory layouts: kernels with their channels innermost, which libtorch's convolutions like best.

use tch::Tensor;

/// A copy of a kernel `[O, I, ..]` of the same shape whose memory is ordered `[O, .., I]`, by which
/// libtorch recognises channels-last. It owns its memory, also where the source lies in a file.
pub(crate) fn channels_last(kernel: &Tensor) -> Tensor {
    let last = kernel.dim() as i64 - 1;
    let inwards: Vec<i64> = [0].into_iter().chain(2..=last).chain([1]).collect();
    let outwards: Vec<i64> = [0, last].into_iter().chain(1..last).collect();
    let source = kernel.permute(&inwards);
    let mut own = Tensor::empty(source.size(), (source.kind(), source.device()));
    own.copy_(&source);
    own.permute(&outwards)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    #[test]
    fn shape_and_values_stay_and_the_memory_is_new() {
        for shape in [vec![4, 3, 5, 5], vec![4, 3, 3, 5, 5], vec![4, 1, 1, 1]] {
            let kernel = Tensor::randn(&shape, (Kind::Float, Device::Cpu));
            let own = channels_last(&kernel);
            assert_eq!(own.size(), shape);
            assert!(own.equal(&kernel));
            assert_ne!(own.data_ptr(), kernel.data_ptr());
            assert_eq!(own.stride()[1], 1);
        }
    }
}
