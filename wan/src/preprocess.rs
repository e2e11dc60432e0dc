//! Frames to the model and back: 8-bit pixels, bicubic resize, resampling in time.

use tch::{Kind, Tensor};

use crate::{Error, Result};

/// Packed 8-bit RGB frames (row by row, without padding) to `[1, T, 3, H, W]` float32 in [-1, 1].
pub fn pixels_from_rgb24(rgb: &[u8], height: usize, width: usize) -> Result<Tensor> {
    let frame = height * width * 3;
    if frame == 0 || rgb.is_empty() || !rgb.len().is_multiple_of(frame) {
        return Err(Error::parameter(format!(
            "{} bytes are not a whole number of RGB frames of {width}x{height}",
            rgb.len()
        )));
    }
    let (h, w) = (height as i64, width as i64);
    let packed = Tensor::from_slice(rgb).reshape([1, -1, h, w, 3]);
    // In place: a block at 832x480 is 57 MB, and each step would take as much again.
    let mut pixels = packed.permute([0, 1, 4, 2, 3]).contiguous().to_kind(Kind::Float);
    let _ = pixels.f_div_scalar_(127.5)?.f_sub_scalar_(1.0)?;
    Ok(pixels)
}

/// The inverse of [`pixels_from_rgb24`], rounded to the nearest and clamped.
pub fn rgb24_from_pixels(pixels: &Tensor) -> Result<Vec<u8>> {
    let mut scaled = pixels.to_kind(Kind::Float).f_add_scalar(1.0)?;
    let _ = scaled.f_mul_scalar_(127.5)?.f_round_()?.f_clamp_(0.0, 255.0)?;
    let packed = scaled.to_kind(Kind::Uint8).permute([0, 1, 3, 4, 2]).contiguous();
    let mut rgb = vec![0; packed.numel()];
    let length = rgb.len();
    packed.to_device(tch::Device::Cpu).f_copy_data_u8(&mut rgb, length)?;
    Ok(rgb)
}

/// Stretches `frames [.., 3, H, W]` to the given size: bicubic (a = -0.75), pixel centres aligned
/// (`align_corners=False`), no antialiasing, no crop, as the reference does.
pub fn resize_bicubic(frames: &Tensor, height: i64, width: i64) -> Tensor {
    let size = frames.size();
    let (outer, inner) = size.split_at(size.len() - 3);
    if inner[1..] == [height, width] {
        return frames.shallow_clone();
    }
    let flat = frames.reshape([-1, inner[0], inner[1], inner[2]]);
    let resized = flat.upsample_bicubic2d([height, width], false, None, None);
    let shape: Vec<i64> = outer.iter().copied().chain([inner[0], height, width]).collect();
    resized.reshape(shape)
}

/// Which of `have` frames stand for `want` evenly spaced moments, the first and the last among
/// them: `numpy.round(numpy.linspace(0, have - 1, want))`, halves to even.
pub fn resample_indices(have: usize, want: usize) -> Vec<usize> {
    if have == 0 {
        return Vec::new();
    }
    let last = have - 1;
    let step = last as f64 / want.saturating_sub(1).max(1) as f64;
    let moment = |i: usize| (i as f64 * step).round_ties_even() as usize;
    (0..want).map(|i| moment(i).min(last)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_as_they_went() {
        let rgb: Vec<u8> = (0..2 * 4 * 6 * 3).map(|i| (i * 7 % 256) as u8).collect();
        let pixels = pixels_from_rgb24(&rgb, 4, 6).expect("two whole frames");
        assert_eq!(pixels.size(), [1, 2, 3, 4, 6]);
        assert!(pixels.min().double_value(&[]) >= -1.0);
        assert!(pixels.max().double_value(&[]) <= 1.0);
        assert_eq!(rgb24_from_pixels(&pixels).expect("pixels"), rgb);
    }

    #[test]
    fn half_a_frame_is_refused() {
        assert!(pixels_from_rgb24(&[0; 100], 4, 6).is_err());
        assert!(pixels_from_rgb24(&[], 4, 6).is_err());
    }

    #[test]
    fn resampling_keeps_both_ends() {
        for have in 1..40 {
            for want in 2..20 {
                let indices = resample_indices(have, want);
                assert_eq!(indices.len(), want);
                assert_eq!((indices[0], indices[want - 1]), (0, have - 1));
                assert!(indices.is_sorted());
            }
        }
        assert_eq!(resample_indices(5, 1), [0]);
        assert!(resample_indices(0, 9).is_empty());
    }
}
