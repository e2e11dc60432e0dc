//! Opens a camera in the one way or the other, set to what fits.

use std::ffi::CString;
use std::ptr;

use ffmpeg::format::context;
use ffmpeg::{Dictionary, Rational, ffi};
use ffmpeg_next as ffmpeg;

use super::choose::{self, Choice, Wish, choose};
use super::feed::{Feed, Setting, TIME_BASE};
use super::{Api, Camera, Trouble, again, cameras, find, list};
use crate::error::Error;
use crate::ffmpeg_devices;
use crate::source::open::{Deadline, Failure, Options, demuxer, open_device};
use crate::source::packets::{self, Packets};

/// The camera that was meant, or the one that was read before, once it is back.
pub(in crate::source) fn open(
    wanted: &str,
    options: &Options,
    deadline: Deadline,
) -> Result<(Packets, Camera), Failure> {
    let camera = match &options.known_camera {
        None => find(wanted).map_err(Failure::Other)?,
        Some(known) => again(&cameras(), known)
            .ok_or_else(|| Failure::Other(Error::Input(format!("{} is not connected", known.name))))?,
    };
    let trouble = |trouble: &Trouble| Failure::Other(camera.trouble(trouble));
    let wish = Wish { size: options.size, rate: options.rate };
    let formats = list::formats(&camera, &wish).map_err(|t| trouble(&t))?;
    if formats.is_empty() && cfg!(target_os = "linux") {
        let text = "it offers no pictures; a virtual camera has none until another program writes to it".to_owned();
        return Err(trouble(&Trouble { errno: None, text }));
    }
    let choice = choose(&formats, &wish);
    if choice.is_none() && !formats.is_empty() && formats.iter().all(|f| choose::ffmpeg_name(&f.fourcc).is_none()) {
        let named: Vec<&str> = formats.iter().map(|f| f.fourcc.as_str()).collect();
        let text = format!("it offers only formats that FFmpeg cannot decode ({})", named.join(", "));
        return Err(trouble(&Trouble { errno: None, text }));
    }
    let way = if options.camera_api == Api::Ffmpeg { None } else { Some(through_nokhwa(&camera, &choice, &deadline)) };
    let why = match way {
        Some(Ok(packets)) => {
            say(&camera, choice.as_ref(), "nokhwa");
            return Ok((packets, camera));
        }
        Some(Err(t)) if t.is_final() || deadline.stopped() => return Err(trouble(&t)),
        Some(Err(t)) if options.camera_api == Api::Nokhwa => {
            let text = format!("{}; --camera-api ffmpeg may read it", t.text);
            return Err(trouble(&Trouble { text, ..t }));
        }
        Some(Err(t)) => format!("FFmpeg, since nokhwa cannot: {}", t.text),
        None => "FFmpeg".to_owned(),
    };
    let context = through_ffmpeg(&camera, choice.as_ref(), &deadline)?;
    say(&camera, choice.as_ref(), &why);
    Ok((Packets::of_device(context, deadline), camera))
}

fn say(camera: &Camera, choice: Option<&Choice>, way: &str) {
    let set = choice.map_or("as it is set".to_owned(), |c| {
        let rate = c.rate.map_or(String::new(), |r| format!(" at {:.4} fps", f64::from(r)).replace(".0000", ""));
        format!("{} {}x{}{rate}", c.fourcc.trim(), c.width, c.height)
    });
    tracing::info!("camera {} ({}): {set}, through {way}", camera.name, camera.device);
}

fn through_nokhwa(camera: &Camera, choice: &Option<Choice>, deadline: &Deadline) -> Result<Packets, Trouble> {
    let cannot = |text: String| Trouble { errno: None, text };
    let choice = choice.as_ref().ok_or_else(|| cannot("the camera tells no sizes".to_owned()))?;
    let setting = Setting::of(choice).map_err(cannot)?;
    let context = description(choice, &setting).map_err(|e| cannot(e.to_string()))?;
    Ok(Packets::of_feed(context, Feed::open(camera, &setting, deadline)?, deadline.clone()))
}

/// A container without a demuxer, whose one stream says what comes out of the feed.
fn description(choice: &Choice, setting: &Setting) -> Result<context::Input, ffmpeg::Error> {
    let rate = choice.rate.unwrap_or(Rational(0, 1));
    let mut input = packets::nothing()?;
    // SAFETY: the stream is the context's, which frees it; only plain fields are set.
    unsafe {
        let stream = ffi::avformat_new_stream(input.as_mut_ptr(), ptr::null());
        if stream.is_null() {
            return Err(ffmpeg::Error::Other { errno: libc::ENOMEM });
        }
        (*stream).time_base = TIME_BASE.into();
        (*stream).avg_frame_rate = rate.into();
        let parameters = (*stream).codecpar;
        (*parameters).codec_type = ffi::AVMediaType::AVMEDIA_TYPE_VIDEO;
        (*parameters).codec_id = setting.codec.into();
        (*parameters).format = ffi::AVPixelFormat::from(setting.pixel) as i32;
        (*parameters).width = choice.width as i32;
        (*parameters).height = choice.height as i32;
    }
    Ok(input)
}

/// FFmpeg's demuxer for this system's cameras; as the camera likes, if it refuses what it offered.
fn through_ffmpeg(camera: &Camera, choice: Option<&Choice>, deadline: &Deadline) -> Result<context::Input, Failure> {
    ffmpeg_devices::register().map_err(Failure::Other)?;
    let (name, location) = match std::env::consts::OS {
        "macos" => ("avfoundation", camera.index.to_string()),
        "windows" => ("dshow", format!("video={}", camera.name)),
        _ => ("v4l2", camera.device.clone()),
    };
    let format = demuxer(name).map_err(Failure::Other)?;
    let location = CString::new(location).expect("no name of a device holds a zero byte");
    let mut settings = Dictionary::new();
    if let Some(choice) = choice {
        settings.set("video_size", &format!("{}x{}", choice.width, choice.height));
        if let Some(Rational(num, den)) = choice.rate {
            settings.set("framerate", &format!("{num}/{den}"));
        }
        if let (Some(coding), "v4l2") = (choose::ffmpeg_name(&choice.fourcc), name) {
            settings.set("input_format", coding);
        }
    }
    let mut opened = open_device(&location, format, settings, deadline);
    // Only a refusal of the settings is worth another try.
    if choice.is_some() && matches!(opened, Err(ffmpeg::Error::Other { errno: libc::EINVAL })) {
        tracing::warn!("camera {}: it refuses the format that it offers, and is read as it is set", camera.name);
        opened = open_device(&location, format, Dictionary::new(), deadline);
    }
    opened.map_err(|error| match error {
        ffmpeg::Error::Other { errno } => {
            Failure::Other(camera.trouble(&Trouble { errno: Some(errno), text: error.to_string() }))
        }
        _ => Failure::Ffmpeg(error),
    })
}
