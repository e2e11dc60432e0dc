//! The cameras of this machine, and how the one that was meant is found.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};

/// A camera as Linux's Video4Linux knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Camera {
    /// The number in `/dev/videoN`.
    pub index: u32,
    pub device: String,
    pub name: String,
}

/// All cameras, by their number.
pub fn cameras() -> Vec<Camera> {
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
            let index = entry.file_name().to_str()?.strip_prefix("video")?.parse().ok()?;
            let device = format!("/dev/video{index}");
            // A camera's further nodes carry metadata, not pictures.
            let first = read(&entry.path().join("index")).is_none_or(|i| i == "0");
            let name = read(&entry.path().join("name")).unwrap_or_default();
            (first && exists(&device)).then_some(Camera { index, device, name })
        })
        .collect();
    cameras.sort_by_key(|c| c.index);
    cameras
}

/// The camera with this number, device or part of a name; with nothing said, the first.
pub(super) fn find(wanted: &str) -> Result<Camera> {
    choose(&cameras(), wanted)
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
        assert_eq!(choose(&all, "").unwrap().index, 0);
        assert_eq!(choose(&all, "2").unwrap().index, 2);
        assert_eq!(choose(&all, "desk").unwrap().device, "/dev/video2");
        assert_eq!(choose(&all, "/dev/video0").unwrap().name, "C920");
        let error = choose(&all, "5").unwrap_err().to_string();
        assert!(error.contains("C920") && error.contains("Desk cam"), "{error}");
        assert!(choose(&[], "").unwrap_err().to_string().contains("no camera"));
    }
}
