//! Linux: cameras as the kernel lists them, and their formats as Video4Linux tells them.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use ffmpeg_next::Rational;
use v4l::frameinterval::FrameIntervalEnum;
use v4l::framesize::{FrameSizeEnum, Stepwise};
use v4l::video::Capture;
use v4l::{Device, FourCC, Fraction};

use super::choose::Wish;
use super::{Camera, Format, Size, Trouble};

/// Where a camera takes any size, these are told, and the one that is asked for.
const SIZES: [(u32, u32); 5] = [(320, 240), (640, 480), (1280, 720), (1920, 1080), (3840, 2160)];
/// The same for rates.
const RATES: [i32; 7] = [60, 50, 30, 25, 20, 15, 10];

pub(super) fn cameras() -> Vec<Camera> {
    list(Path::new("/sys/class/video4linux"), |device| {
        // Something else may lie there: a file that a program wrote in the belief that there is a device.
        fs::metadata(device).is_ok_and(|meta| meta.file_type().is_char_device())
    })
}

fn list(class: &Path, exists: impl Fn(&str) -> bool) -> Vec<Camera> {
    let read = |path: &Path| fs::read_to_string(path).map(|t| t.trim().to_owned()).ok();
    let entries = fs::read_dir(class).into_iter().flatten().flatten();
    let mut cameras: Vec<Camera> = entries
        .filter_map(|entry| {
            let node = entry.file_name().into_string().ok()?;
            let index = node.strip_prefix("video")?.parse().ok()?;
            let device = format!("/dev/{node}");
            // A camera's further nodes carry metadata, not pictures.
            let first = read(&entry.path().join("index")).is_none_or(|i| i == "0");
            let name = read(&entry.path().join("name")).unwrap_or_default();
            (first && exists(&device)).then(|| Camera { index, device, name, id: id(&node) })
        })
        .collect();
    cameras.sort_by_key(|c| c.index);
    cameras
}

/// The name that udev gives a camera by its maker, model and serial number.
fn id(node: &str) -> Option<String> {
    let links = fs::read_dir("/dev/v4l/by-id").ok()?.flatten();
    let mut names: Vec<String> = links
        .filter(|link| fs::read_link(link.path()).is_ok_and(|to| to.file_name().is_some_and(|name| name == node)))
        .filter_map(|link| link.file_name().into_string().ok())
        .collect();
    names.sort();
    names.into_iter().next()
}

pub(super) fn formats(camera: &Camera, wish: &Wish) -> Result<Vec<Format>, Trouble> {
    let device = Device::with_path(&camera.device)
        .map_err(|e: io::Error| Trouble { errno: e.raw_os_error(), text: e.to_string() })?;
    let mut formats: Vec<Format> = Vec::new();
    for format in device.enum_formats().unwrap_or_default() {
        let fourcc = String::from_utf8_lossy(&format.fourcc.repr).into_owned();
        // Some drivers tell one twice.
        if !formats.iter().any(|f| f.fourcc == fourcc) {
            formats.push(Format { fourcc, sizes: sizes(&device, format.fourcc, wish) });
        }
    }
    Ok(formats)
}

fn sizes(device: &Device, fourcc: FourCC, wish: &Wish) -> Vec<Size> {
    // Drivers that do not tell their sizes say that the question is unknown.
    let told = device.enum_framesizes(fourcc).unwrap_or_default();
    let mut sizes: Vec<(u32, u32)> = told
        .into_iter()
        .flat_map(|told| match told.size {
            FrameSizeEnum::Discrete(size) => vec![(size.width, size.height)],
            FrameSizeEnum::Stepwise(range) => within(&range, wish.size),
        })
        .collect();
    sizes.sort_unstable();
    sizes.dedup();
    let size = |(width, height)| Size { width, height, fps: rates(device, fourcc, (width, height), wish.rate) };
    sizes.into_iter().map(size).collect()
}

/// The usual sizes in a range, its ends, and the one that is asked for.
fn within(range: &Stepwise, asked: Option<(u32, u32)>) -> Vec<(u32, u32)> {
    let on = |n: u32, least: u32, most: u32, step: u32| {
        (least..=most).contains(&n) && (n - least).is_multiple_of(step.max(1))
    };
    let fits = |&(w, h): &(u32, u32)| {
        on(w, range.min_width, range.max_width, range.step_width)
            && on(h, range.min_height, range.max_height, range.step_height)
    };
    let ends = [(range.min_width, range.min_height), (range.max_width, range.max_height)];
    ends.into_iter().chain(SIZES).chain(asked).filter(fits).collect()
}

fn rates(device: &Device, fourcc: FourCC, (width, height): (u32, u32), asked: Option<Rational>) -> Vec<Rational> {
    // An interval is the inverse of a rate.
    let rate = |i: &Fraction| Rational(i.denominator as i32, i.numerator as i32);
    let told = device.enum_frameintervals(fourcc, width, height).unwrap_or_default();
    let mut rates: Vec<Rational> = told
        .into_iter()
        .flat_map(|told| match told.interval {
            FrameIntervalEnum::Discrete(interval) => vec![rate(&interval)],
            FrameIntervalEnum::Stepwise(range) => {
                let (fastest, slowest) = (rate(&range.min), rate(&range.max));
                let usual = RATES.map(|r| Rational(r, 1)).into_iter().chain(asked);
                usual.filter(|r| *r > slowest && *r < fastest).chain([fastest, slowest]).collect()
            }
        })
        .filter(|r| r.numerator() > 0 && r.denominator() > 0)
        .map(|r| r.reduce())
        .collect();
    rates.sort_by(|a, b| f64::from(*b).total_cmp(&f64::from(*a)));
    rates.dedup();
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_without_pictures_and_without_a_device_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for (node, index, name) in
            [("video2", "0", "Desk cam\n"), ("video3", "1", "Desk cam\n"), ("video0", "0", "C920\n")]
        {
            fs::create_dir(folder.path().join(node)).unwrap();
            fs::write(folder.path().join(node).join("index"), index).unwrap();
            fs::write(folder.path().join(node).join("name"), name).unwrap();
        }
        let all = list(folder.path(), |_| true);
        assert_eq!(all.iter().map(|c| (c.index, c.name.as_str())).collect::<Vec<_>>(), [(0, "C920"), (2, "Desk cam")]);
        assert_eq!(list(folder.path(), |device| device == "/dev/video2").len(), 1);
    }

    #[test]
    fn of_a_range_the_usual_sizes_are_told_and_the_one_that_is_asked_for() {
        let range = Stepwise {
            min_width: 32,
            max_width: 1920,
            step_width: 2,
            min_height: 32,
            max_height: 1080,
            step_height: 2,
        };
        let usual = [(32, 32), (1920, 1080), (320, 240), (640, 480), (1280, 720), (1920, 1080)];
        assert_eq!(within(&range, None), usual);
        assert_eq!(within(&range, Some((800, 600))).last(), Some(&(800, 600)));
        assert_eq!(within(&range, Some((801, 600))), usual);
        assert_eq!(within(&range, Some((0, 600))), usual);
    }
}
