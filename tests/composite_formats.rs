//! What a composite promises in every pixel format: the background exactly, the person exactly, nothing lost between.

use ffmpeg::color::{Range, Space};
use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use ffmpeg_next as ffmpeg;
use krea::colour::{Coding, GREEN};
use krea::composite::{Backdrop, Background, CompositeStage, with_alpha};
use krea::error::Result;
use krea::frame::{Format, Frame, Mask, PicturePool, Pool, Time, is_writable};
use krea::pipeline::Stage;

const FORMATS: [Pixel; 10] = [
    Pixel::YUV420P,
    Pixel::YUV422P,
    Pixel::YUV444P,
    Pixel::YUVJ420P,
    Pixel::YUV420P10LE,
    Pixel::YUV444P16LE,
    Pixel::GBRP,
    Pixel::GBRAP,
    Pixel::GBRP12LE,
    Pixel::YUVA444P10LE,
];
const SIZES: [(usize, usize); 5] = [(639, 479), (1, 1), (33, 17), (2, 2), (64, 48)];

/// The planes of a picture without padding, every sample widened.
type Planes = Vec<Vec<u16>>;

/// A repeatable noise, different for each `seed`.
fn noise(seed: u64, i: usize) -> u32 {
    let x = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(seed.wrapping_mul(0xD1B5_4A32_D192_ED03));
    ((x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 33) as u32
}

fn picture(pixel: Pixel, width: usize, height: usize, seed: u64) -> Video {
    let format = Format::of(pixel).unwrap();
    let mut picture = PicturePool::new(pixel, width as u32, height as u32).unwrap().get().unwrap();
    for p in 0..format.planes() {
        let (w, h) = format.plane_size(p, width, height);
        let stride = picture.stride(p);
        let bytes = picture.data_mut(p);
        for y in 0..h {
            for x in 0..w {
                // Alpha of the source is opaque unless a test says otherwise.
                let code = if p == 3 { format.max() } else { noise(seed + p as u64, y * w + x) as u16 & format.max() };
                if format.depth == 8 {
                    bytes[y * stride + x] = code as u8;
                } else {
                    bytes[y * stride + 2 * x..][..2].copy_from_slice(&code.to_le_bytes());
                }
            }
        }
    }
    picture
}

fn planes(picture: &Video) -> Planes {
    let format = Format::of(picture.format()).unwrap();
    (0..format.planes())
        .map(|p| {
            let (w, h) = format.plane_size(p, picture.width() as usize, picture.height() as usize);
            let (stride, bytes) = (picture.stride(p), picture.data(p));
            let code = |x: usize, y: usize| match format.depth {
                8 => u16::from(bytes[y * stride + x]),
                _ => u16::from_le_bytes([bytes[y * stride + 2 * x], bytes[y * stride + 2 * x + 1]]),
            };
            (0..w * h).map(|i| code(i % w, i / w)).collect()
        })
        .collect()
}

fn frame(picture: Video, alpha: impl Fn(usize, usize) -> u8) -> Frame {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let mut mask = Pool::new().get(width * height);
    for (i, a) in mask.iter_mut().enumerate() {
        *a = alpha(i % width, i / width);
    }
    let time = Time { pts: 7, duration: 1, base: ffmpeg::Rational(1, 25) };
    Frame { mask: Some(Mask { width, height, alpha: mask }), ..Frame::new(picture, 7, time) }
}

fn push(stage: &mut CompositeStage, frame: Frame) -> Frame {
    let mut out = Vec::new();
    let mut emit = |f| {
        out.push(f);
        Ok(())
    };
    stage.push(frame, &mut emit).unwrap();
    stage.finish(&mut emit).unwrap();
    assert_eq!(out.len(), 1);
    out.remove(0)
}

fn composite(background: Background, despill: bool, frame: Frame) -> Video {
    push(&mut CompositeStage::new(background, despill), frame).picture
}

struct Still(Video, Vec<f64>);

impl Backdrop for Still {
    fn at(&mut self, seconds: f64) -> Result<&Video> {
        self.1.push(seconds);
        Ok(&self.0)
    }
}

#[test]
fn where_no_person_is_every_viewer_sees_the_colour_exactly() {
    for pixel in FORMATS {
        for (w, h) in SIZES {
            for (space, range) in [
                (Space::BT709, Range::MPEG),
                (Space::SMPTE170M, Range::MPEG),
                (Space::BT709, Range::JPEG),
                (Space::Unspecified, Range::Unspecified),
            ] {
                let mut source = picture(pixel, w, h, 1);
                source.set_color_space(space);
                source.set_color_range(range);
                let out = composite(Background::Colour(GREEN), true, frame(source, |_, _| 0));
                assert_eq!((out.color_space(), out.color_range()), (space, range));
                let format = Format::of(pixel).unwrap();
                let p = planes(&out);
                let codes = [p[0][0], p[1][0], p[2][0]];
                for (p, code) in p.iter().zip(codes.iter().copied().chain([format.max()])) {
                    assert!(p.iter().all(|&c| c == code), "{pixel:?} {w}x{h}");
                }
                let seen = Coding::of(&out, format).decode(codes.map(f64::from));
                let seen = seen.map(|c| (c * 255.0).round().clamp(0.0, 255.0) as u8);
                assert_eq!(seen, GREEN.0, "{pixel:?} {w}x{h} {space:?} {range:?}");
            }
        }
    }
}

#[test]
fn where_only_person_is_the_picture_is_bit_identical() {
    for pixel in FORMATS {
        for (w, h) in SIZES {
            let source = || picture(pixel, w, h, 2);
            let before = planes(&source());
            let backgrounds: [fn(Video) -> Background; 4] = [
                |_| Background::Colour(GREEN),
                |_| Background::Blur(3.0),
                |p| Background::Pictures(Box::new(Still(p, vec![]))),
                |_| Background::Transparent,
            ];
            for (i, background) in backgrounds.iter().enumerate() {
                if i == 3 && with_alpha(pixel).is_none() {
                    continue;
                }
                let out = composite(background(picture(pixel, w, h, 9)), true, frame(source(), |_, _| 255));
                assert_eq!(planes(&out)[..3], before[..3], "{pixel:?} {w}x{h} background {i}");
                if let Some(alpha) = planes(&out).get(3) {
                    assert!(alpha.iter().all(|&a| a == Format::of(pixel).unwrap().max()));
                }
            }
        }
    }
}

#[test]
fn both_hold_beside_a_soft_edge() {
    // Soft columns from 20 to 27, so that runs of every kind share a row. Chroma that reaches into them is left out.
    let alpha = |x: usize, _: usize| {
        if x < 20 {
            0
        } else if x < 28 {
            (x - 19) as u8 * 28
        } else {
            255
        }
    };
    for pixel in FORMATS {
        let (w, h) = (61, 19);
        let format = Format::of(pixel).unwrap();
        let before = planes(&picture(pixel, w, h, 3));
        let out = composite(Background::Colour(GREEN), true, frame(picture(pixel, w, h, 3), alpha));
        let codes = Coding::of(&out, format).codes(GREEN);
        for (p, plane) in planes(&out)[..3].iter().enumerate() {
            let (w, _) = format.plane_size(p, w, h);
            let shift = if p > 0 { format.log2_chroma_w } else { 0 };
            for (i, &code) in plane.iter().enumerate() {
                let x = (i % w) << shift;
                if x + 1 < 20 {
                    assert_eq!(code, codes[p], "{pixel:?} plane {p} column {x}");
                } else if x > 28 {
                    assert_eq!(code, before[p][i], "{pixel:?} plane {p} column {x}");
                }
            }
        }
    }
}

#[test]
fn without_despill_the_blend_is_the_rounded_mean_of_front_and_back() {
    for pixel in [Pixel::YUV444P, Pixel::YUV444P10LE, Pixel::GBRP, Pixel::YUV444P16LE] {
        let (w, h) = (256, 3);
        let (front, back) = (planes(&picture(pixel, w, h, 4)), planes(&picture(pixel, w, h, 5)));
        let still = Still(picture(pixel, w, h, 5), vec![]);
        let out =
            composite(Background::Pictures(Box::new(still)), false, frame(picture(pixel, w, h, 4), |x, _| x as u8));
        for p in 0..3 {
            for (i, &code) in planes(&out)[p].iter().enumerate() {
                let a = (i % w) as u64;
                let want = (2 * (a * u64::from(front[p][i]) + (255 - a) * u64::from(back[p][i])) + 255) / 510;
                assert_eq!(u64::from(code), want, "{pixel:?}");
            }
        }
    }
}

#[test]
fn more_alpha_never_means_less_person() {
    // A flat person on a flat old background, alpha rising from left to right: codes go one way only.
    for pixel in [Pixel::YUV420P, Pixel::YUV422P, Pixel::YUV444P10LE, Pixel::GBRP] {
        for despill in [false, true] {
            let (w, h) = (256, 8);
            let mut source = picture(pixel, w, h, 0);
            let format = Format::of(pixel).unwrap();
            for p in 0..3 {
                let code = [180u16, 110, 140][p] << (format.depth - 8);
                let bytes = source.data_mut(p);
                if format.depth == 8 {
                    bytes.fill(code as u8);
                } else {
                    bytes.as_chunks_mut::<2>().0.fill(code.to_le_bytes());
                }
            }
            let person: Vec<u16> = planes(&source).iter().map(|p| p[0]).collect();
            let out = composite(Background::Colour(GREEN), despill, frame(source, |x, _| x as u8));
            for (p, plane) in planes(&out).iter().take(3).enumerate() {
                let row = &plane[..format.plane_size(p, w, h).0];
                let distance = |c: &u16| c.abs_diff(person[p]);
                assert!(row.iter().map(distance).is_sorted_by(|a, b| a >= b), "{pixel:?} plane {p}: {row:?}");
            }
        }
    }
}

#[test]
fn a_frame_without_a_mask_passes_untouched() {
    let mut bare = frame(picture(Pixel::YUV420P, 33, 17, 6), |_, _| 0);
    bare.mask = None;
    let before = planes(&bare.picture);
    let after = push(&mut CompositeStage::new(Background::Colour(GREEN), true), bare);
    assert_eq!(planes(&after.picture), before);
    assert_eq!((after.index, after.time.pts), (7, 7));
}

#[test]
fn a_picture_that_someone_else_holds_is_not_written_to() {
    for pixel in FORMATS {
        let source = picture(pixel, 33, 17, 7);
        let mut shared = Video::empty();
        // SAFETY: `shared` is empty and becomes a second reference to a live frame.
        assert!(unsafe { ffmpeg::ffi::av_frame_ref(shared.as_mut_ptr(), source.as_ptr()) } >= 0);
        assert!(!is_writable(&source));
        let before = planes(&shared);
        let alpha = |x: usize, y: usize| (x * 8 + y) as u8;
        let out = composite(Background::Colour(GREEN), true, frame(source, alpha));
        assert_eq!(planes(&shared), before, "{pixel:?}");
        let in_place = composite(Background::Colour(GREEN), true, frame(picture(pixel, 33, 17, 7), alpha));
        assert_eq!(planes(&out), planes(&in_place), "{pixel:?}");
    }
}

#[test]
fn a_transparent_background_gives_an_alpha_plane_that_is_the_mask() {
    for (pixel, max) in [(Pixel::YUV420P, 255u32), (Pixel::YUV444P10LE, 1023), (Pixel::GBRP, 255), (Pixel::GBRAP, 255)]
    {
        let alpha = |x: usize, y: usize| (x * 7 + y) as u8;
        let out = composite(Background::Transparent, true, frame(picture(pixel, 33, 17, 8), alpha));
        assert_eq!(Some(out.format()), with_alpha(pixel));
        for (i, &a) in planes(&out)[3].iter().enumerate() {
            let want = (u32::from(alpha(i % 33, i / 33)) * max * 2 + 255) / 510;
            assert_eq!(u32::from(a), want, "{pixel:?}");
        }
    }
}

#[test]
fn full_range_by_name_stays_full_range_under_the_new_name() {
    let mut source = picture(Pixel::YUVJ420P, 33, 17, 8);
    source.set_color_range(Range::Unspecified);
    let out = composite(Background::Transparent, true, frame(source, |_, _| 128));
    assert_eq!((out.format(), out.color_range()), (Pixel::YUVA420P, Range::JPEG));
    let out = composite(Background::Transparent, true, frame(picture(Pixel::YUV420P, 33, 17, 8), |_, _| 128));
    assert_eq!(out.color_range(), Range::Unspecified);
}

#[test]
fn a_person_who_fades_as_a_whole_keeps_the_colours() {
    // All of the person at the same low alpha, as when a held mask decays: nothing solid says what spill would be.
    let (w, h) = (96, 64);
    for alpha in [40u8, 100, 200] {
        let inside = |x: usize, y: usize| (24..72).contains(&x) && (16..56).contains(&y);
        let mask = |x, y| if inside(x, y) { alpha } else { 0 };
        let source = || {
            let mut p = picture(Pixel::GBRP, w, h, 17);
            for plane in 0..3 {
                let stride = p.stride(plane);
                let bytes = p.data_mut(plane);
                for (x, y) in (0..w * h).map(|i| (i % w, i / w)) {
                    bytes[y * stride + x] = if inside(x, y) { [120, 90, 200][plane] } else { 30 };
                }
            }
            frame(p, mask)
        };
        let [plain, clean] = [false, true].map(|d| planes(&composite(Background::Colour(GREEN), d, source())));
        for p in 0..3 {
            assert!(plain[p].iter().zip(&clean[p]).all(|(a, b)| a.abs_diff(*b) <= 1), "alpha {alpha}");
        }
    }
}

#[test]
fn transparency_leaves_nothing_of_the_old_background() {
    // Two scenes with the same person on different backgrounds: under alpha 0 nothing tells them apart.
    let alpha = |x: usize, _: usize| if x < 40 { 0 } else { 255 };
    for pixel in [Pixel::GBRP, Pixel::YUV444P10LE] {
        let scene = |seed| {
            let mut p = picture(pixel, 80, 24, 10);
            let other = picture(pixel, 80, 24, seed);
            let bytes = if pixel == Pixel::GBRP { 1 } else { 2 };
            for plane in 0..3 {
                let stride = p.stride(plane);
                for y in 0..24 {
                    let left = y * stride..y * stride + 40 * bytes;
                    p.data_mut(plane)[left.clone()].copy_from_slice(&other.data(plane)[left]);
                }
            }
            planes(&composite(Background::Transparent, true, frame(p, alpha)))
        };
        assert_ne!(planes(&picture(pixel, 80, 24, 11)), planes(&picture(pixel, 80, 24, 12)));
        assert_eq!(scene(11), scene(12), "{pixel:?}");
    }
}

#[test]
fn a_frame_s_own_alpha_counts_too() {
    let mut source = picture(Pixel::GBRAP, 48, 4, 13);
    let stride = source.stride(3);
    for row in source.data_mut(3).chunks_mut(stride) {
        row[..24].fill(0);
    }
    let before = planes(&source);
    let out = planes(&composite(Background::Colour(GREEN), false, frame(source, |_, _| 255)));
    let codes = [255, 0, 0];
    for p in 0..3 {
        for (i, &code) in out[p].iter().enumerate() {
            assert_eq!(code, if i % 48 < 24 { codes[p] } else { before[p][i] });
        }
    }
    assert!(out[3].iter().all(|&a| a == 255));
}

#[test]
fn a_picture_behind_is_asked_for_by_time_and_checked() {
    let mut stage =
        CompositeStage::new(Background::Pictures(Box::new(Still(picture(Pixel::YUV420P, 33, 17, 14), vec![]))), true);
    let back = planes(&picture(Pixel::YUV420P, 33, 17, 14));
    let out = push(&mut stage, frame(picture(Pixel::YUV420P, 33, 17, 15), |_, _| 0));
    assert_eq!(planes(&out.picture), back);
    let wrong = frame(picture(Pixel::YUV420P, 32, 17, 15), |_, _| 0);
    let error = stage.push(wrong, &mut |_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("composite") && error.contains("background"), "{error}");
}

#[test]
fn sizes_may_change_in_mid_stream() {
    let mut stage = CompositeStage::new(Background::Blur(4.0), true);
    for (w, h) in SIZES {
        for pixel in FORMATS {
            let out = push(&mut stage, frame(picture(pixel, w, h, 16), |x, y| (x * 3 + y * 5) as u8));
            assert_eq!((out.picture.width() as usize, out.picture.format()), (w, pixel));
        }
    }
}
