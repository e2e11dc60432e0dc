//! What the mask tests share: optional test data, pictures, NumPy archives, scores.
#![allow(dead_code, unreachable_pub)] // each test program uses a part

pub mod toy;

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use ffmpeg_next::format::Pixel;
use ffmpeg_next::frame::Video;
use krea::frame::{Frame, PicturePool, Time, plane_mut};
use krea::pipeline::Stage;
use krea::runtime::onnx::{Runtime, Search};

/// Says that a test did not run. With `KREA_TEST_REQUIRE=all` that is a failure.
pub fn skip(test: &str, reason: &str) {
    assert!(std::env::var("KREA_TEST_REQUIRE").as_deref() != Ok("all"), "{test} cannot run: {reason}");
    eprintln!("SKIP {test}: {reason}");
}

/// The folder of test data beside the checkout, if this file or folder is in it.
pub fn shared(test: &str, inside: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(inside);
    if !path.exists() {
        skip(test, &format!("../shared/{inside} is absent"));
        return None;
    }
    Some(path)
}

pub fn search() -> Search {
    let mut search = Search::of_this_machine();
    search.roots.push(env!("CARGO_MANIFEST_DIR").into());
    search
}

pub fn runtime(test: &str) -> Option<Runtime> {
    match Runtime::load(&search()) {
        Ok(runtime) => Some(runtime),
        Err(e) => {
            skip(test, &e.to_string());
            None
        }
    }
}

/// A picture file as planar RGB.
pub fn read_picture(path: &Path) -> Video {
    let image = image::open(path).unwrap().to_rgb8();
    rgb_picture(image.width() as usize, image.height() as usize, |x, y| image.get_pixel(x as u32, y as u32).0)
}

/// A planar RGB picture from a function of x and y.
pub fn rgb_picture(width: usize, height: usize, colour: impl Fn(usize, usize) -> [u8; 3]) -> Video {
    let mut picture = PicturePool::new(Pixel::GBRP, width as u32, height as u32).unwrap().get().unwrap();
    for (index, channel) in [1, 2, 0].into_iter().enumerate() {
        let (samples, stride) = plane_mut::<u8>(&mut picture, index);
        for y in 0..height {
            for x in 0..width {
                samples[y * stride + x] = colour(x, y)[channel];
            }
        }
    }
    picture
}

pub fn frame(picture: Video, index: u64) -> Frame {
    let time = Time { pts: index as i64, duration: 1, base: ffmpeg_next::Rational(1, 30) };
    Frame::new(picture, index, time)
}

/// A grey picture file: width, height, samples.
pub fn read_grey(path: &Path) -> (usize, usize, Vec<u8>) {
    let image = image::open(path).unwrap().to_luma8();
    (image.width() as usize, image.height() as usize, image.into_raw())
}

/// Intersection over union of two masks (a pixel above 127 belongs), 1 if both are empty.
pub fn iou(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let (mut both, mut either) = (0u32, 0u32);
    for (&a, &b) in a.iter().zip(b) {
        both += u32::from(a > 127 && b > 127);
        either += u32::from(a > 127 || b > 127);
    }
    if either == 0 { 1.0 } else { f64::from(both) / f64::from(either) }
}

/// IoU on the pixels that a trimap decides: 255 person, 0 background, others not scored.
pub fn trimap_iou(mask: &[u8], trimap: &[u8]) -> f64 {
    let known = |v: &u8| *v == 0 || *v == 255;
    let pairs = || mask.iter().zip(trimap).filter(|(_, t)| known(t));
    let mask: Vec<u8> = pairs().map(|(m, _)| *m).collect();
    let truth: Vec<u8> = pairs().map(|(_, t)| *t).collect();
    iou(&mask, &truth)
}

/// Every picture of a clip.
pub fn decode(path: &Path) -> Vec<Video> {
    let mut input = ffmpeg_next::format::input(path).unwrap();
    let stream = input.streams().best(ffmpeg_next::media::Type::Video).unwrap();
    let index = stream.index();
    let context = ffmpeg_next::codec::Context::from_parameters(stream.parameters()).unwrap();
    let mut decoder = context.decoder().video().unwrap();
    let mut pictures = Vec::new();
    let mut receive = |decoder: &mut ffmpeg_next::decoder::Video| {
        let mut picture = Video::empty();
        while decoder.receive_frame(&mut picture).is_ok() {
            pictures.push(std::mem::replace(&mut picture, Video::empty()));
        }
    };
    for (stream, packet) in input.packets() {
        if stream.index() == index {
            decoder.send_packet(&packet).unwrap();
            receive(&mut decoder);
        }
    }
    decoder.send_eof().unwrap();
    receive(&mut decoder);
    pictures
}

/// The float arrays of a NumPy archive: shape and numbers in C order, by name.
pub fn read_npz(path: &Path) -> HashMap<String, (Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(path).unwrap();
    let u16_at = |i: usize| usize::from(u16::from_le_bytes([bytes[i], bytes[i + 1]]));
    let u32_at = |i: usize| u32::from_le_bytes(bytes[i..i + 4].try_into().unwrap()) as usize;
    // The end of a zip file points at its directory, whose entries point at the files.
    let end = bytes.windows(4).rposition(|w| w == b"PK\x05\x06").unwrap();
    let (count, mut at) = (u16_at(end + 10), u32_at(end + 16));
    let mut arrays = HashMap::new();
    for _ in 0..count {
        let (method, size, name_len) = (u16_at(at + 10), u32_at(at + 20), u16_at(at + 28));
        let local = u32_at(at + 42);
        let name = String::from_utf8(bytes[at + 46..at + 46 + name_len].to_vec()).unwrap();
        let start = local + 30 + u16_at(local + 26) + u16_at(local + 28);
        let packed = &bytes[start..start + size];
        let mut npy = Vec::new();
        match method {
            0 => npy.extend_from_slice(packed),
            8 => drop(flate2::read::DeflateDecoder::new(packed).read_to_end(&mut npy).unwrap()),
            other => panic!("compression {other}"),
        }
        arrays.insert(name.trim_end_matches(".npy").to_owned(), read_npy(&npy));
        at += 46 + name_len + u16_at(at + 30) + u16_at(at + 32);
    }
    arrays
}

fn read_npy(bytes: &[u8]) -> (Vec<usize>, Vec<f32>) {
    assert_eq!(&bytes[..6], b"\x93NUMPY");
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..start]).unwrap();
    assert!(header.contains("'<f4'") && header.contains("'fortran_order': False"), "{header}");
    let shape = header.split_once('(').unwrap().1.split_once(')').unwrap().0;
    let shape = shape.split(',').filter_map(|d| d.trim().parse().ok()).collect();
    let data = bytes[start..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    (shape, data)
}

/// The masks that a stage gives for pictures in a row.
pub(crate) fn masks(mut stage: krea::mask::MaskStage, pictures: &[Video]) -> Vec<Vec<u8>> {
    let mut masks = Vec::new();
    let mut emit = |frame: Frame| {
        masks.push(frame.mask.unwrap().alpha.to_vec());
        Ok(())
    };
    for (i, picture) in pictures.iter().enumerate() {
        stage.push(frame(picture.clone(), i as u64), &mut emit).unwrap();
    }
    stage.finish(&mut emit).unwrap();
    masks
}
