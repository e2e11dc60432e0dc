//! macOS and Windows: cameras and formats as nokhwa tells them.

use std::time::Duration;

use ffmpeg_next::Rational;
use nokhwa::pixel_format::RgbFormat;
use nokhwa::utils::{ApiBackend, CameraIndex, RequestedFormat, RequestedFormatType};

use super::choose::Wish;
use super::feed::fourcc;
use super::{Camera, Format, Size, Trouble};

/// So long may the user take to allow the use of cameras, which macOS asks for.
const CONSENT: Duration = Duration::from_secs(30);

pub(super) fn cameras() -> Vec<Camera> {
    let (granted, answer) = crossbeam_channel::bounded(1);
    nokhwa::nokhwa_initialize(move |yes| {
        let _ = granted.try_send(yes);
    });
    // Without it the list is empty, which is said.
    let _ = answer.recv_timeout(CONSENT);
    let told = nokhwa::query(ApiBackend::Auto).unwrap_or_default();
    let camera = |info: &nokhwa::utils::CameraInfo| {
        let index = info.index().as_index().ok()?;
        let id = Some(info.misc()).filter(|id| !id.is_empty());
        Some(Camera { index, device: index.to_string(), name: info.human_name(), id })
    };
    let mut cameras: Vec<Camera> = told.iter().filter_map(camera).collect();
    cameras.sort_by_key(|c| c.index);
    cameras
}

pub(super) fn formats(camera: &Camera, _: &Wish) -> Result<Vec<Format>, Trouble> {
    let failed = |e: nokhwa::NokhwaError| Trouble::from(e.to_string());
    let any = RequestedFormat::new::<RgbFormat>(RequestedFormatType::None);
    let mut device = nokhwa::Camera::new(CameraIndex::Index(camera.index), any).map_err(failed)?;
    let mut formats: Vec<Format> = Vec::new();
    for told in device.compatible_camera_formats().map_err(failed)? {
        let (code, rate) = (fourcc(told.format()), Rational(told.frame_rate() as i32, 1));
        let at = formats.iter().position(|f| f.fourcc == code).unwrap_or_else(|| {
            formats.push(Format { fourcc: code.to_owned(), sizes: Vec::new() });
            formats.len() - 1
        });
        let sizes = &mut formats[at].sizes;
        match sizes.iter_mut().find(|s| (s.width, s.height) == (told.width(), told.height())) {
            Some(size) => size.fps.push(rate),
            None => sizes.push(Size { width: told.width(), height: told.height(), fps: vec![rate] }),
        }
    }
    for size in formats.iter_mut().flat_map(|f| &mut f.sizes) {
        size.fps.sort_by_key(|r| std::cmp::Reverse(r.numerator()));
        size.fps.dedup();
    }
    Ok(formats)
}
