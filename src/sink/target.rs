//! Where the output grows and how it gets its name: as `.part` beside its place, renamed when whole.

use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use ffmpeg_next::ffi;

use crate::error::{Error, Result};

/// Where the output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    File(PathBuf),
    /// Numbered pictures: the name holds a `%d` or `%05d`.
    Pictures(PathBuf),
    Stdout,
    Url(String),
    /// A virtual camera of Video4Linux, which other programs see as a camera.
    Camera(PathBuf),
    /// Nothing is written: the preview is all.
    Window,
}

impl Destination {
    pub fn parse(text: &str) -> Self {
        if text == "-" {
            Self::Stdout
        } else if let Some(device) = text.strip_prefix("v4l2:") {
            Self::Camera(PathBuf::from(device))
        } else if text.contains("://") {
            Self::Url(text.to_owned())
        } else if crate::stream::is_numbered(text) {
            Self::Pictures(PathBuf::from(text))
        } else {
            Self::File(PathBuf::from(text))
        }
    }

    /// Someone watches while it is made, and it can stand beside another output.
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::Url(_) | Self::Camera(_))
    }

    /// The main output, a file if there is one, and the streams beside it. Without any, the window is all.
    pub fn among(texts: &[String]) -> (Self, Vec<Self>) {
        let mut all: Vec<Self> = texts.iter().map(|t| Self::parse(t)).collect();
        let main = all.iter().position(|d| !d.is_stream()).unwrap_or(0);
        let output = if all.is_empty() { Self::Window } else { all.remove(main) };
        (output, all)
    }

    /// The file that the output becomes, where it is one file.
    pub fn path(&self) -> Option<&Path> {
        match self {
            // A playlist is written by its muxer, which names the pieces after it.
            Self::File(path) if !is_playlist(path) => Some(path),
            _ => None,
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) | Self::Pictures(path) => write!(f, "{}", path.display()),
            Self::Stdout => write!(f, "standard output"),
            Self::Url(url) => write!(f, "{}", crate::address::without_secrets(url)),
            Self::Camera(device) => write!(f, "v4l2:{}", device.display()),
            Self::Window => write!(f, "the window"),
        }
    }
}

fn is_playlist(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("m3u8"))
}

/// What to do about a file that stands where the output shall go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    Refuse,
    Replace,
    /// Leave it and call the job done.
    Skip,
}

/// Looks at a destination before anything is read or loaded. `Ok(false)` means: skip, it is there already.
pub fn check(destination: &Destination, input: Option<&Path>, overwrite: Overwrite) -> Result<bool> {
    let path = match destination {
        Destination::File(path) | Destination::Pictures(path) => path,
        Destination::Camera(device) => return check_camera(device).map(|()| true),
        Destination::Stdout | Destination::Url(_) | Destination::Window => return Ok(true),
    };
    if path.is_dir() {
        return Err(Error::Output(format!("{}: is a directory; name a file in it", path.display())));
    }
    let Some(taken) = firsts(destination).into_iter().find(|p| p.exists()) else {
        return check_folder(path).map(|()| true);
    };
    if input.is_some_and(|input| same_file(input, &taken)) {
        return Err(Error::Usage(format!(
            "{}: input and output are the same file; choose another name for the output",
            taken.display()
        )));
    }
    match overwrite {
        Overwrite::Refuse => Err(Error::Output(format!(
            "{}: exists already; -y overwrites it, -n leaves it and ends well",
            taken.display()
        ))),
        Overwrite::Skip => Ok(false),
        Overwrite::Replace => check_folder(path).map(|()| true),
    }
}

/// The files that are written first: the output itself, picture number one, a playlist and its first piece.
fn firsts(destination: &Destination) -> Vec<PathBuf> {
    match destination {
        Destination::File(path) if is_playlist(path) => {
            let mut piece = path.with_extension("").into_os_string();
            piece.push("0.ts");
            vec![path.clone(), piece.into()]
        }
        Destination::Pictures(path) => first_picture(path).into_iter().collect(),
        Destination::File(path) => vec![path.clone()],
        _ => Vec::new(),
    }
}

/// The name of the first of many pictures; `None` where the pattern is none that FFmpeg takes.
fn first_picture(pattern: &Path) -> Option<PathBuf> {
    let text = CString::new(pattern.to_str()?).ok()?;
    let mut name = [0; 4096];
    // SAFETY: writes a NUL-terminated string of at most the given length.
    unsafe {
        let made = ffi::av_get_frame_filename(name.as_mut_ptr(), name.len() as i32, text.as_ptr(), 1);
        (made >= 0).then(|| CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned().into())
    }
}

/// How a virtual camera comes to be.
pub(super) const LOOPBACK: &str = "a virtual camera is made by the kernel module v4l2loopback: \
     sudo modprobe v4l2loopback exclusive_caps=1 card_label=krea";

fn check_camera(device: &Path) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let failed = |why: &str| Error::Output(format!("v4l2:{}: {why}; {LOOPBACK}", device.display()));
    if !cfg!(target_os = "linux") {
        return Err(failed("virtual cameras are Linux's"));
    }
    match fs::metadata(device) {
        Err(e) if e.kind() == ErrorKind::NotFound => Err(failed("there is no such device")),
        Err(e) => Err(failed(&e.to_string())),
        Ok(meta) if !meta.file_type().is_char_device() => Err(failed("this is no device")),
        Ok(_) => Ok(()),
    }
}

fn check_folder(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if folder.is_dir() {
        Ok(())
    } else {
        Err(Error::Output(format!("{}: the folder {} does not exist", path.display(), folder.display())))
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// A file that is being written under its temporary name, locked against a second writer.
pub(super) struct Part {
    place: PathBuf,
    part: PathBuf,
    _lock: File,
}

impl Part {
    pub(super) fn create(place: &Path) -> Result<Self> {
        let mut name = place.as_os_str().to_owned();
        name.push(".part");
        let part = PathBuf::from(name);
        let failed = |e: std::io::Error| Error::Output(format!("{}: cannot be written: {e}", part.display()));
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&part).map_err(failed)?;
        // SAFETY: locks a descriptor that is open for as long as this value lives.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            return Err(Error::Output(format!("{}: another krea is writing this file", part.display())));
        }
        file.set_len(0).map_err(failed)?;
        Ok(Self { place: place.to_owned(), part, _lock: file })
    }

    pub(super) fn path(&self) -> &Path {
        &self.part
    }

    /// Gives the file its name. What stood there before is gone only now.
    pub(super) fn keep(self) -> Result<()> {
        fs::rename(&self.part, &self.place).map_err(|e| {
            Error::Output(format!(
                "{}: the finished file cannot be given its name: {e}; it lies in {}",
                self.place.display(),
                self.part.display()
            ))
        })
    }

    /// Removes what was written.
    pub(super) fn discard(self) {
        if let Err(e) = fs::remove_file(&self.part)
            && e.kind() != ErrorKind::NotFound
        {
            tracing::warn!("{}: cannot be removed: {e}", self.part.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_file_unless_it_says_otherwise() {
        assert_eq!(Destination::parse("-"), Destination::Stdout);
        assert_eq!(Destination::parse("a/%05d.png"), Destination::Pictures("a/%05d.png".into()));
        assert_eq!(Destination::parse("100%.mp4"), Destination::File("100%.mp4".into()));
        assert_eq!(Destination::parse("udp://h:1"), Destination::Url("udp://h:1".into()));
        assert_eq!(Destination::parse("v4l2:/dev/video9"), Destination::Camera("/dev/video9".into()));
    }

    #[test]
    fn a_part_is_locked_and_renamed_when_kept() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("out.mp4");
        let part = Part::create(&place).unwrap();
        assert!(matches!(Part::create(&place), Err(Error::Output(m)) if m.contains("another krea")));
        part.keep().unwrap();
        assert!(place.exists() && !dir.path().join("out.mp4.part").exists());
        Part::create(&place).unwrap().discard();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
