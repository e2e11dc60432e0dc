//! Turns frames into what the window shows, at the window's size, on a thread of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use ffmpeg::color::Range;
use ffmpeg::ffi;
use ffmpeg::format::Pixel;
use ffmpeg::frame::Video;
use ffmpeg::software::scaling;
use ffmpeg_next as ffmpeg;

use super::{Newest, Painting, Shot, View};
use crate::frame::{Mask, Pool, has_alpha, plain};

pub(super) struct Painter {
    pub(super) view: Arc<View>,
    pub(super) shots: Receiver<Shot>,
    pub(super) paintings: Arc<Newest<Painting>>,
    /// Folder and beginning of the name of snapshots.
    pub(super) snapshots: PathBuf,
    pub(super) pool: Pool<u32>,
}

impl Painter {
    /// Paints until the window is closed.
    pub(super) fn run(&self) {
        let mut scaler = Scaler::default();
        let (mut last, mut painted): (Option<Shot>, u64) = (None, 0);
        while !self.view.closed.load(Ordering::Relaxed) {
            // Now and then a look at the switches, for a picture that stands still.
            match self.shots.recv_timeout(Duration::from_millis(20)) {
                Ok(shot) => last = Some(shot),
                Err(RecvTimeoutError::Timeout) if painted != self.view.changes.load(Ordering::Acquire) => {}
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            }
            painted = self.view.changes.load(Ordering::Acquire);
            let Some(shot) = &last else { continue };
            match self.paint(&mut scaler, shot) {
                Ok(painting) => self.paintings.put(painting),
                Err(error) => tracing::debug!("the preview cannot show a frame: {error}"),
            }
            if self.view.snapshot.swap(false, Ordering::Relaxed) {
                self.snapshot(shot);
            }
        }
    }

    fn paint(&self, scaler: &mut Scaler, shot: &Shot) -> Result<Painting, ffmpeg::Error> {
        let on = |switch: &std::sync::atomic::AtomicBool| switch.load(Ordering::Relaxed);
        let (width, height) = fit((shot.picture.width(), shot.picture.height()), self.view.size());
        let (w, h) = (width as usize, height as usize);
        let mut pixels = self.pool.get(w * h);
        let before = shot.before.as_ref().unwrap_or(&shot.picture);
        match &shot.mask {
            Some(mask) if on(&self.view.mask) => show_mask(mask, &mut pixels, w, h),
            _ if on(&self.view.before) => scaler.scale(before, width, height, &mut pixels, 0..w)?,
            _ => scaler.scale(&shot.picture, width, height, &mut pixels, 0..w)?,
        }
        if on(&self.view.split) {
            scaler.scale(before, width, height, &mut pixels, 0..w / 2)?;
            pixels.chunks_exact_mut(w).for_each(|row| row[w / 2] = 0x00ff_ffff);
        }
        Ok(Painting { pixels, width: w, height: h })
    }

    /// Writes the result at its full size, with its transparency if it has any.
    fn snapshot(&self, shot: &Shot) {
        let name = |n: u32| {
            let again = if n > 1 { format!("-{n}") } else { String::new() };
            let mut path = self.snapshots.as_os_str().to_owned();
            path.push(format!("-{:08.3}s{again}.png", shot.seconds));
            PathBuf::from(path)
        };
        let path = (1..).map(name).find(|p| !p.exists()).expect("there are more numbers than files");
        match write_png(&shot.picture, &path) {
            Ok(()) => tracing::info!("snapshot: {}", path.display()),
            Err(error) => tracing::warn!("{}: the snapshot cannot be written: {error}", path.display()),
        }
    }
}

/// The largest size of the picture's shape that the window has room for.
fn fit((width, height): (u32, u32), room: (u32, u32)) -> (u32, u32) {
    let scale = (f64::from(room.0) / f64::from(width)).min(f64::from(room.1) / f64::from(height));
    let side = |n: u32, room: u32| ((f64::from(n) * scale).round() as u32).clamp(1, room.max(1));
    (side(width, room.0), side(height, room.1))
}

/// White is person.
fn show_mask(mask: &Mask, pixels: &mut [u32], width: usize, height: usize) {
    for (y, row) in pixels.chunks_exact_mut(width).enumerate() {
        let line = &mask.alpha[y * mask.height / height * mask.width..][..mask.width];
        for (x, pixel) in row.iter_mut().enumerate() {
            *pixel = u32::from(line[x * mask.width / width]) * 0x0001_0101;
        }
    }
}

/// Scales to 0RGB, and keeps what it made for pictures of the same kind.
#[derive(Default)]
struct Scaler {
    made: Vec<(Kind, scaling::Context, Video)>,
}

type Kind = (Pixel, (u32, u32), (u32, u32), i32, bool);

impl Scaler {
    /// Fills the given columns of `pixels`, which is `width` x `height`.
    fn scale(
        &mut self,
        picture: &Video,
        width: u32,
        height: u32,
        pixels: &mut [u32],
        columns: std::ops::Range<usize>,
    ) -> Result<(), ffmpeg::Error> {
        let kind = kind(picture, (width, height));
        let at = match self.made.iter().position(|(k, ..)| *k == kind) {
            Some(at) => at,
            None => {
                // Before and after differ in format at most.
                self.made.truncate(1);
                let context = converter(picture, Pixel::BGRA, (width, height), scaling::Flags::BILINEAR)?;
                self.made.insert(0, (kind, context, Video::empty()));
                0
            }
        };
        let (_, context, scaled) = &mut self.made[at];
        context.run(picture, scaled)?;
        let stride = scaled.stride(0);
        let transparent = has_alpha(picture.format());
        for (y, row) in pixels.chunks_exact_mut(width as usize).enumerate() {
            let line = &scaled.data(0)[y * stride..][..4 * width as usize];
            for (x, (pixel, bgra)) in row.iter_mut().zip(line.as_chunks::<4>().0).enumerate() {
                if columns.contains(&x) {
                    let code = u32::from_le_bytes(*bgra);
                    *pixel = if transparent { over_checks(code, x, y) } else { code & 0x00ff_ffff };
                }
            }
        }
        Ok(())
    }
}

fn kind(picture: &Video, to: (u32, u32)) -> Kind {
    let full = picture.color_range() == Range::JPEG || plain(picture.format()) != picture.format();
    let space = ffi::AVColorSpace::from(picture.color_space()) as i32;
    (picture.format(), (picture.width(), picture.height()), to, space, full)
}

/// A scaler that knows the picture's matrix and range.
fn converter(
    picture: &Video,
    format: Pixel,
    to: (u32, u32),
    flags: scaling::Flags,
) -> Result<scaling::Context, ffmpeg::Error> {
    let (_, (width, height), _, space, full) = kind(picture, to);
    let flags = flags | scaling::Flags::ACCURATE_RND;
    let mut context = scaling::Context::get(picture.format(), width, height, format, to.0, to.1, flags)?;
    // SAFETY: the context is live; the tables are static, and an unknown space gives the default one.
    unsafe {
        let table = ffi::sws_getCoefficients(space);
        ffi::sws_setColorspaceDetails(context.as_mut_ptr(), table, i32::from(full), table, 1, 0, 1 << 16, 1 << 16);
    }
    Ok(context)
}

/// Lays a colour on grey checks, the sign of transparency.
fn over_checks(argb: u32, x: usize, y: usize) -> u32 {
    let check = if (x / 8 + y / 8).is_multiple_of(2) { 0x99 } else { 0x66 };
    let alpha = argb >> 24;
    let mix = |shift: u32| ((((argb >> shift) & 0xff) * alpha + check * (255 - alpha) + 127) / 255) << shift;
    mix(16) | mix(8) | mix(0)
}

fn write_png(picture: &Video, path: &std::path::Path) -> Result<(), String> {
    let alpha = has_alpha(picture.format());
    let (format, kind, bytes) = match alpha {
        true => (Pixel::RGBA, image::ColorType::Rgba8, 4),
        false => (Pixel::RGB24, image::ColorType::Rgb8, 3),
    };
    let (width, height) = (picture.width(), picture.height());
    let mut out = Video::empty();
    let mut context =
        converter(picture, format, (width, height), scaling::Flags::BICUBIC).map_err(|e| e.to_string())?;
    context.run(picture, &mut out).map_err(|e| e.to_string())?;
    let rows = out.data(0).chunks(out.stride(0)).take(height as usize);
    let packed: Vec<u8> = rows.flat_map(|row| &row[..width as usize * bytes]).copied().collect();
    image::save_buffer(path, &packed, width, height, kind).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_keeps_its_shape_in_any_window() {
        assert_eq!(fit((640, 480), (1280, 720)), (960, 720));
        assert_eq!(fit((1920, 1080), (640, 640)), (640, 360));
        assert_eq!(fit((4000, 2), (100, 100)), (100, 1));
        assert_eq!(fit((33, 17), (0, 0)), (1, 1));
    }

    #[test]
    fn checks_show_through_what_is_transparent() {
        assert_eq!(over_checks(0xff12_3456, 0, 0), 0x0012_3456);
        assert_eq!(over_checks(0x0012_3456, 0, 0), 0x0099_9999);
        assert_eq!(over_checks(0x0012_3456, 8, 0), 0x0066_6666);
    }
}
