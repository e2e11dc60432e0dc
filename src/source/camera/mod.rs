//! The cameras of this machine: which there are, how the one that was meant is found, now and after it was unplugged.

mod choose;
mod feed;
#[cfg_attr(target_os = "linux", path = "v4l2.rs")]
#[cfg_attr(not(target_os = "linux"), path = "elsewhere.rs")]
mod list;

mod open;

use serde::Serialize;

pub use choose::{Format, Size};
pub(super) use feed::Feed;
pub(super) use open::open;

use crate::error::{Error, Result};

/// A camera as the operating system knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Camera {
    /// The number in `/dev/videoN`.
    pub index: u32,
    pub device: String,
    pub name: String,
    /// What stays the same wherever it is plugged in: its name in `/dev/v4l/by-id`, if it has one.
    pub id: Option<String>,
}

/// What reads a camera.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Api {
    /// nokhwa, or FFmpeg where nokhwa cannot.
    #[default]
    Auto,
    Nokhwa,
    Ffmpeg,
}

/// All cameras, by their number.
pub fn cameras() -> Vec<Camera> {
    list::cameras()
}

impl Camera {
    /// What it offers; an error that says why it cannot be asked.
    pub fn formats(&self) -> Result<Vec<Format>> {
        list::formats(self, &choose::Wish::default()).map_err(|trouble| self.trouble(&trouble))
    }

    /// What stands in the way of reading it, and what to do.
    fn trouble(&self, trouble: &Trouble) -> Error {
        let Self { name, device, .. } = self;
        Error::Input(match trouble.errno {
            Some(libc::EBUSY) => {
                format!(
                    "camera {name} ({device}) is in use by another program; close it there: `fuser {device}` tells which"
                )
            }
            Some(libc::EACCES | libc::EPERM) => format!(
                "no permission to open camera {name} ({device}); on Linux: sudo usermod -aG video $USER, then log in again"
            ),
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => format!("camera {name} ({device}) is not connected"),
            Some(libc::ENOSPC) => format!(
                "camera {name} ({device}): its USB bus cannot carry so much more: try a smaller --size, or another port"
            ),
            _ => format!("camera {name} ({device}) cannot be read: {}", trouble.text),
        })
    }
}

/// Why a camera did not do what it was asked for.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    errno: Option<i32>,
    text: String,
}

impl Trouble {
    /// Another way of reading would meet it too.
    fn is_final(&self) -> bool {
        use libc::{EACCES, EBUSY, ENODEV, ENOENT, ENXIO, EPERM};
        self.errno.is_some_and(|n| [EACCES, EBUSY, ENODEV, ENOENT, ENXIO, EPERM].contains(&n))
    }
}

impl From<String> for Trouble {
    /// Of libraries that tell no number, only what the standard library makes of one.
    fn from(text: String) -> Self {
        let number = text.rsplit_once("(os error ").and_then(|(_, rest)| rest.split(')').next()?.parse().ok());
        Self { errno: number, text }
    }
}

/// The camera with this number, device or part of a name; with nothing said, the first that has pictures.
fn find(wanted: &str) -> Result<Camera> {
    let all = cameras();
    // One that cannot be asked now, being busy perhaps, is a camera all the same.
    let has_pictures = |c: &&Camera| !c.formats().is_ok_and(|formats| formats.is_empty());
    if wanted.is_empty()
        && let Some(first) = all.iter().find(has_pictures)
    {
        return Ok(first.clone());
    }
    choose(&all, wanted)
}

fn choose(cameras: &[Camera], wanted: &str) -> Result<Camera> {
    let part = wanted.to_lowercase();
    let fits = |c: &&Camera| match wanted.parse::<u32>() {
        Ok(index) => c.index == index,
        Err(_) => c.device == wanted || c.name.to_lowercase().contains(&part),
    };
    cameras.iter().find(fits).cloned().ok_or_else(|| {
        let list: Vec<String> = cameras.iter().map(|c| format!("{} ({}, {})", c.index, c.name, c.device)).collect();
        Error::Input(match (cameras.is_empty(), wanted) {
            (true, _) => "no camera is connected to this machine; `krea devices` lists what is there".to_owned(),
            (false, _) => format!("there is no camera '{wanted}'; there are: {}", list.join(", ")),
        })
    })
}

/// The same camera as before, whatever its number is now. Of cameras that cannot be told apart, the one in its place.
fn again(cameras: &[Camera], known: &Camera) -> Option<Camera> {
    let same = |c: &&Camera| c.name == known.name && c.id == known.id;
    cameras.iter().filter(same).min_by_key(|c| (c.index != known.index, c.index)).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camera(index: u32, name: &str, id: Option<&str>) -> Camera {
        Camera { index, device: format!("/dev/video{index}"), name: name.to_owned(), id: id.map(str::to_owned) }
    }

    #[test]
    fn a_camera_is_meant_by_its_number_its_device_or_a_part_of_its_name() {
        let all = [camera(0, "C920", None), camera(2, "Desk cam", None)];
        assert_eq!(choose(&all, "").unwrap().index, 0);
        assert_eq!(choose(&all, "2").unwrap().index, 2);
        assert_eq!(choose(&all, "desk").unwrap().device, "/dev/video2");
        assert_eq!(choose(&all, "/dev/video0").unwrap().name, "C920");
        let error = choose(&all, "5").unwrap_err().to_string();
        assert!(error.contains("C920") && error.contains("Desk cam"), "{error}");
        assert!(choose(&[], "").unwrap_err().to_string().contains("no camera"));
    }

    #[test]
    fn a_camera_that_returns_is_known_again_under_another_number() {
        let known = camera(0, "C920", Some("usb-C920_A1"));
        let other = camera(0, "C920", Some("usb-C920_B2"));
        let moved = camera(4, "C920", Some("usb-C920_A1"));
        assert_eq!(again(&[other.clone(), moved.clone()], &known), Some(moved));
        assert_eq!(again(&[other], &known), None);
        // Two of a kind without an id: the one in the same place, else the first.
        let twins = [camera(1, "Cam", None), camera(3, "Cam", None)];
        assert_eq!(again(&twins, &twins[1]).unwrap().index, 3);
        assert_eq!(again(&twins[..1], &twins[1]).unwrap().index, 1);
    }

    #[test]
    fn the_number_of_an_error_is_found_in_its_text() {
        let busy =
            Trouble::from("Could not open device 0: V4L2 Error: Device or resource busy (os error 16)".to_owned());
        assert!(busy.errno == Some(libc::EBUSY) && busy.is_final());
        let odd = Trouble::from("Could not get device property CameraFormat: Failed to Fufill".to_owned());
        assert!(odd.errno.is_none() && !odd.is_final());
    }
}
