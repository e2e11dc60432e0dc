//! Keeps a part of the original picture, by the persons' mask.

use ffmpeg_next::frame::Video;

use super::geometry::Part;
use crate::frame::{Format, Mask, Sample, plane, plane_mut};

/// What is repainted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Region {
    /// The whole picture.
    #[default]
    All,
    /// The persons.
    Person,
    /// What is behind the persons.
    Background,
}

/// Lays `painted`, which is as large as `at`, on `picture` where the mask says so.
pub(super) fn lay(picture: &mut Video, format: Format, painted: &Video, at: Part, mask: &Mask, region: Region) {
    match format.depth {
        8 => lay_as::<u8>(picture, format, painted, at, mask, region),
        _ => lay_as::<u16>(picture, format, painted, at, mask, region),
    }
}

fn lay_as<T: Sample>(picture: &mut Video, format: Format, painted: &Video, at: Part, mask: &Mask, region: Region) {
    let flip = if region == Region::Background { 255 } else { 0 };
    for p in 0..3 {
        let (log2_w, log2_h) = if p > 0 { (format.log2_chroma_w, format.log2_chroma_h) } else { (0, 0) };
        let (width, height) = format.plane_size(p, at.width as usize, at.height as usize);
        let (left, top) = ((at.left >> log2_w) as usize, (at.top >> log2_h) as usize);
        let (new, new_stride) = plane::<T>(painted, p);
        let (old, old_stride) = plane_mut::<T>(picture, p);
        for y in 0..height {
            let row = &mut old[(top + y) * old_stride + left..][..width];
            let over = &new[y * new_stride..][..width];
            for (x, (old, new)) in row.iter_mut().zip(over).enumerate() {
                let m = covered(mask, (left + x, top + y), (log2_w, log2_h)) ^ flip;
                let (a, b): (u32, u32) = ((*old).into(), (*new).into());
                *old = T::from_u32((a * (255 - m) + b * m + 127) / 255);
            }
        }
    }
}

/// The mean of the mask over the pixels that share a sample, 0 to 255.
#[inline]
fn covered(mask: &Mask, (x, y): (usize, usize), (log2_w, log2_h): (u8, u8)) -> u32 {
    let (x, y) = (x << log2_w, y << log2_h);
    if log2_w == 0 && log2_h == 0 {
        return mask.alpha[y * mask.width + x].into();
    }
    let (right, bottom) = ((x + (1 << log2_w)).min(mask.width), (y + (1 << log2_h)).min(mask.height));
    let mut sum = 0;
    for y in y..bottom {
        sum += mask.alpha[y * mask.width + x..y * mask.width + right].iter().map(|a| u32::from(*a)).sum::<u32>();
    }
    sum / ((right - x) * (bottom - y)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{PicturePool, Pool};
    use ffmpeg_next::format::Pixel;

    #[test]
    fn the_mask_decides_sample_by_sample() {
        let filled = |format, width, height, value| {
            let mut picture = PicturePool::new(format, width, height).unwrap().get().unwrap();
            (0..3).for_each(|p| picture.data_mut(p).fill(value));
            picture
        };
        let mut alpha = Pool::new().get(32 * 16);
        alpha.iter_mut().enumerate().for_each(|(i, a)| *a = if i % 32 < 17 { 255 } else { 0 });
        let mask = Mask { width: 32, height: 16, alpha };
        for (region, person, behind) in [(Region::Person, 200, 10), (Region::Background, 10, 200)] {
            let mut picture = filled(Pixel::YUV420P, 32, 16, 10);
            let painted = filled(Pixel::YUV420P, 24, 16, 200);
            let at = Part { left: 8, top: 0, width: 24, height: 16 };
            lay(&mut picture, Format::of(Pixel::YUV420P).unwrap(), &painted, at, &mask, region);
            let luma = |x: usize| picture.data(0)[x];
            // Left of the part nothing is painted.
            assert_eq!((luma(7), luma(8), luma(16), luma(17)), (10, person, person, behind), "{region:?}");
            // The chroma sample of columns 16 and 17 is half person.
            assert!(picture.data(1)[8].abs_diff(105) <= 1, "{}", picture.data(1)[8]);
        }
    }
}
