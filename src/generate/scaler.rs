//! Scales a part of one picture into a part of another, in the right matrix and range.

use ffmpeg::color::{Range, Space};
use ffmpeg::ffi;
use ffmpeg::frame::Video;
use ffmpeg::software::scaling::{Context, Flags};
use ffmpeg_next as ffmpeg;

use super::geometry::Part;
use crate::frame::{is_rgb, plain};

/// Keeps what it made for pictures of the same kind. libswscale wants to stay on one thread, so it is made where it is
/// first used.
#[derive(Default)]
pub(super) struct Scaler {
    made: Option<(Kind, Context)>,
}

// SAFETY: each stage's scaler is empty until the stage's own thread uses it, and is not moved afterwards.
unsafe impl Send for Scaler {}

/// What a context is made for: both sizes, formats, matrices and ranges.
#[derive(Clone, Copy, PartialEq)]
struct Kind {
    from: Side,
    to: Side,
}

#[derive(Clone, Copy, PartialEq)]
struct Side {
    format: ffmpeg::format::Pixel,
    size: (u32, u32),
    space: i32,
    full: bool,
}

impl Side {
    fn of(picture: &Video, part: Part) -> Self {
        let format = picture.format();
        let full = picture.color_range() == Range::JPEG || plain(format) != format || is_rgb(format);
        let space = match picture.color_space() {
            Space::RGB => Space::Unspecified,
            other => other,
        };
        Self { format, size: part.size(), space: ffi::AVColorSpace::from(space) as i32, full }
    }
}

impl Scaler {
    /// Fills the part `to` of `target` with the part `from` of `picture`.
    pub(super) fn scale(
        &mut self,
        picture: &Video,
        from: Part,
        target: &mut Video,
        to: Part,
    ) -> Result<(), ffmpeg::Error> {
        let kind = Kind { from: Side::of(picture, from), to: Side::of(target, to) };
        let context = match &mut self.made {
            Some((made, context)) if *made == kind => context,
            empty => &mut empty.insert((kind, context(kind)?)).1,
        };
        let (source, source_lines) = corner(picture, from);
        let (into, into_lines) = corner(target, to);
        // SAFETY: both pictures are live and hold their parts, whose corners the pointers are; the context was made for
        // exactly these sizes.
        let rows = unsafe {
            ffi::sws_scale(
                context.as_mut_ptr(),
                source.as_ptr().cast::<*const u8>(),
                source_lines.as_ptr(),
                0,
                from.height as i32,
                into.as_ptr(),
                into_lines.as_ptr(),
            )
        };
        if rows < 0 { Err(ffmpeg::Error::from(rows)) } else { Ok(()) }
    }
}

fn context(Kind { from, to }: Kind) -> Result<Context, ffmpeg::Error> {
    let same = from.size == to.size;
    // Without a change of size there is nothing to interpolate but chroma, for which libswscale has quick ways.
    let flags = if same { Flags::BILINEAR } else { Flags::BICUBIC | Flags::ACCURATE_RND };
    let (w, h) = to.size;
    let mut context = Context::get(from.format, from.size.0, from.size.1, to.format, w, h, flags)?;
    // SAFETY: the context is live; the tables are static, and an unknown space gives the default one.
    unsafe {
        let (source, target) = (ffi::sws_getCoefficients(from.space), ffi::sws_getCoefficients(to.space));
        let (a, b) = (i32::from(from.full), i32::from(to.full));
        ffi::sws_setColorspaceDetails(context.as_mut_ptr(), source, a, target, b, 0, 1 << 16, 1 << 16);
    }
    Ok(context)
}

/// Where a part begins in each plane, and the planes' strides. Chroma begins at the sample that covers the corner.
fn corner(picture: &Video, part: Part) -> ([*mut u8; 4], [i32; 4]) {
    let mut planes = [std::ptr::null_mut(); 4];
    let mut lines = [0; 4];
    // SAFETY: the frame and the descriptor of its format are live; a plane that a component lies in has memory.
    unsafe {
        let frame = picture.as_ptr();
        let Some(d) = ffi::av_pix_fmt_desc_get(picture.format().into()).as_ref() else { return (planes, lines) };
        for (i, component) in d.comp[..usize::from(d.nb_components)].iter().enumerate() {
            let plane = component.plane as usize;
            let chroma = (i == 1 || i == 2) && plane > 0;
            let (x, y) = if chroma {
                (part.left >> d.log2_chroma_w, part.top >> d.log2_chroma_h)
            } else {
                (part.left, part.top)
            };
            let stride = (*frame).linesize[plane];
            planes[plane] =
                (*frame).data[plane].offset(y as isize * stride as isize + x as isize * component.step as isize);
            lines[plane] = stride;
        }
    }
    (planes, lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PicturePool;
    use ffmpeg::format::Pixel;

    fn part(left: u32, top: u32, width: u32, height: u32) -> Part {
        Part { left, top, width, height }
    }

    #[test]
    fn a_part_goes_to_a_part_and_the_rest_stays() {
        let mut from = PicturePool::new(Pixel::RGB24, 64, 32).unwrap().get().unwrap();
        let stride = from.stride(0);
        from.data_mut(0).fill(0);
        for y in 8..24 {
            from.data_mut(0)[y * stride + 16 * 3..y * stride + 48 * 3].fill(200);
        }
        let mut to = PicturePool::new(Pixel::YUV420P, 48, 48).unwrap().get().unwrap();
        to.data_mut(0).fill(77);
        to.data_mut(1).fill(128);
        to.data_mut(2).fill(128);
        Scaler::default().scale(&from, part(16, 8, 32, 16), &mut to, part(10, 20, 32, 16)).unwrap();
        let luma = |x: usize, y: usize| to.data(0)[y * to.stride(0) + x];
        // 16 + 200 * 219 / 255, BT.601 limited.
        assert!(luma(12, 22).abs_diff(188) <= 1 && luma(40, 34).abs_diff(188) <= 1, "{}", luma(12, 22));
        assert_eq!((luma(9, 22), luma(12, 19), luma(42, 22), luma(12, 36)), (77, 77, 77, 77));
    }

    #[test]
    fn matrix_and_range_are_those_of_the_yuv_side() {
        let mut from = PicturePool::new(Pixel::RGB24, 32, 32).unwrap().get().unwrap();
        for rgb in from.data_mut(0).as_chunks_mut::<3>().0 {
            *rgb = [0, 255, 0];
        }
        let whole = part(0, 0, 32, 32);
        for (space, range, y) in [
            (Space::SMPTE170M, Range::MPEG, 145),
            (Space::BT709, Range::MPEG, 173),
            (Space::SMPTE170M, Range::JPEG, 150),
        ] {
            let mut to = PicturePool::new(Pixel::YUV444P, 32, 32).unwrap().get().unwrap();
            to.set_color_space(space);
            to.set_color_range(range);
            Scaler::default().scale(&from, whole, &mut to, whole).unwrap();
            assert!(to.data(0)[5].abs_diff(y) <= 1, "{space:?} {range:?}: {}", to.data(0)[5]);
            let mut back = PicturePool::new(Pixel::RGB24, 32, 32).unwrap().get().unwrap();
            Scaler::default().scale(&to, whole, &mut back, whole).unwrap();
            let rgb = &back.data(0)[..3];
            assert!(rgb[0] < 4 && rgb[1] > 251 && rgb[2] < 4, "{space:?} {range:?}: {rgb:?}");
        }
    }
}
