//! Why an input cannot be read: in words with a remedy, and whether another try may help.

use std::path::Path;

use ffmpeg::format::context;
use ffmpeg::media;
use ffmpeg_next as ffmpeg;

use super::Place;
use super::open::Options;
use crate::error::{Error, Result};

/// Why an input could not be opened, and what is to be expected of another try.
pub(super) struct Refusal {
    pub(super) error: Error,
    pub(super) cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The name or the password is wrong.
    Denied,
    /// It was reached and holds nothing of use, or the command line is wrong.
    Unfit,
    Unreachable,
    /// Nobody is there at all, so that a try costs nobody anything.
    Absent,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, cause: Cause::Unfit }
    }
}

/// Of what came so far nothing tells the size. A stream may do so with its next key frame, which some cameras send
/// every ten seconds or more.
pub(super) fn shapeless(place: &Place) -> Refusal {
    match place.scheme() {
        Some(scheme) if !scheme.starts_with("http") => Refusal {
            error: Error::Input(format!("{place}: no key frame has come yet, which tells the size")),
            cause: Cause::Unreachable,
        },
        _ => Refusal::from(Error::Input(format!(
            "{place}: the video's size or pixel format cannot be found out; the file may be cut off at its start"
        ))),
    }
}

pub(super) fn refuse_what_is_no_file(path: &Path) -> Result<()> {
    let meta = std::fs::metadata(path).map_err(|e| {
        Error::Input(match e.kind() {
            std::io::ErrorKind::NotFound => format!("{}: no such file", path.display()),
            _ => format!("{}: cannot be read: {e}", path.display()),
        })
    })?;
    if meta.is_dir() {
        return Err(Error::Input(format!("{}: is a directory; name a video or a picture in it", path.display())));
    }
    if meta.is_file() && meta.len() == 0 {
        return Err(Error::Input(format!("{}: the file is empty", path.display())));
    }
    Ok(())
}

pub(super) fn refusal(place: &Place, options: &Options, error: ffmpeg::Error) -> Refusal {
    let cause = match error {
        ffmpeg::Error::HttpUnauthorized | ffmpeg::Error::HttpForbidden => Cause::Denied,
        ffmpeg::Error::ProtocolNotFound => Cause::Unfit,
        ffmpeg::Error::Other { errno: libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH } => Cause::Absent,
        _ => Cause::Unreachable,
    };
    Refusal { error: Error::Input(unreadable(place, options, error)), cause }
}

pub(super) fn unreadable(place: &Place, options: &Options, error: ffmpeg::Error) -> String {
    let network = matches!(place, Place::Url(_));
    let silent = matches!(place, Place::Url(_) | Place::Camera(_)) && !options.control.stopped();
    match error {
        ffmpeg::Error::HttpUnauthorized => {
            format!("{place}: the name or the password is wrong or missing; they stand in NAME:PASSWORD@HOST")
        }
        ffmpeg::Error::Other { errno: libc::EBUSY } => format!("{place}: is in use by another program"),
        ffmpeg::Error::Other { errno: libc::ENOSPC } if matches!(place, Place::Camera(_)) => {
            format!("{place}: its USB bus cannot carry so much more: try a smaller --size, or another port")
        }
        ffmpeg::Error::Other { errno: libc::ENODEV } => format!("{place}: was unplugged"),
        ffmpeg::Error::HttpForbidden => format!("{place}: access is forbidden"),
        ffmpeg::Error::HttpNotFound => format!("{place}: the server is there and knows no such stream"),
        ffmpeg::Error::Exit if silent => {
            format!("{place}: no data for {} s", options.timeout.as_secs_f32())
        }
        ffmpeg::Error::InvalidData if network => format!("{place}: what comes is not a video that FFmpeg can read"),
        other if network => format!("{place}: cannot be reached: {other}"),
        ffmpeg::Error::InvalidData => {
            format!("{place}: is not a video or picture that FFmpeg can read, or its index (moov) is missing")
        }
        ffmpeg::Error::Eof => format!("{place}: ends before its first frame"),
        ffmpeg::Error::Exit => format!("{place}: stopped before the first frame"),
        other => format!("{place}: cannot be opened: {other}"),
    }
}

pub(super) fn no_video(place: &Place, context: &context::Input) -> String {
    let has = |kind| context.streams().any(|s| s.parameters().medium() == kind);
    if has(media::Type::Video) {
        format!("{place}: has no video, only a cover picture")
    } else if has(media::Type::Audio) {
        format!("{place}: has sound but no video")
    } else {
        format!("{place}: has no video stream")
    }
}
