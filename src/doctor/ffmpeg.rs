//! FFmpeg: its libraries, the encoders that really open, the hardware that really answers.

use std::ffi::CStr;

use ffmpeg_next as ffmpeg;
use ffmpeg_next::ffi;
use ffmpeg_next::format::Pixel;

use super::Finding;

/// Encoders that people ask for, besides those of H.264.
const OF_NOTE: [&str; 10] = [
    "libx265",
    "hevc_nvenc",
    "libsvtav1",
    "libaom-av1",
    "av1_nvenc",
    "libvpx-vp9",
    "prores_ks",
    "ffv1",
    "qtrle",
    "libwebp_anim",
];

pub(super) fn look() -> Finding {
    let mut finding = Finding::default();
    // SAFETY: gives a static string.
    let version = unsafe { CStr::from_ptr(ffi::av_version_info()) }.to_string_lossy().into_owned();
    if let Err(e) = ffmpeg::init() {
        finding.blocked(format!("{version} does not start: {e}"), "Install FFmpeg's libraries again");
        return finding;
    }
    // What fails here is told here.
    ffmpeg::log::set_level(ffmpeg::log::Level::Quiet);
    libraries(&mut finding, &version);
    encoders(&mut finding);
    hardware(&mut finding);
    finding
}

fn libraries(finding: &mut Finding, version: &str) {
    let parts = |v: u32| format!("{}.{}.{}", v >> 16, v >> 8 & 0xff, v & 0xff);
    // SAFETY: these give numbers.
    let versions = unsafe {
        [
            ("libavcodec", ffi::avcodec_version()),
            ("libavformat", ffi::avformat_version()),
            ("libavfilter", ffi::avfilter_version()),
            ("libswscale", ffi::swscale_version()),
            ("libavutil", ffi::avutil_version()),
        ]
    };
    let list: Vec<String> = versions.iter().map(|(name, v)| format!("{name} {}", parts(*v))).collect();
    finding.ok(format!("{version}: {}", list.join(", ")));
    finding.fact("version", version);
    let map: serde_json::Map<_, _> = versions.iter().map(|(n, v)| ((*n).to_owned(), parts(*v).into())).collect();
    finding.fact("libraries", map);
}

fn encoders(finding: &mut Finding) {
    let (mut open, mut closed) = (Vec::new(), Vec::new());
    for codec in all_of_h264() {
        match tried(codec) {
            Ok(()) => open.push(codec.name().to_owned()),
            Err(why) => closed.push((codec.name().to_owned(), why)),
        }
    }
    let h264 = open.clone();
    for codec in OF_NOTE.iter().filter_map(|name| ffmpeg::encoder::find_by_name(name)) {
        match tried(codec) {
            Ok(()) => open.push(codec.name().to_owned()),
            Err(why) => closed.push((codec.name().to_owned(), why)),
        }
    }
    match (h264.is_empty(), open.is_empty()) {
        (false, _) => finding.ok(format!("encoders that open: {}", open.join(", "))),
        (true, false) => finding.wrong(
            format!("no encoder of H.264 opens, only {}", open.join(", ")),
            "Install an FFmpeg with libx264, or choose an encoder with --codec",
        ),
        (true, true) => finding.blocked("no encoder opens", "Install an FFmpeg with libx264"),
    }
    if !closed.is_empty() {
        let list: Vec<String> = closed.iter().map(|(name, why)| format!("{name} ({why})")).collect();
        finding.absent(
            format!("encoders that are built in but do not open: {}", list.join(", ")),
            "They need their own hardware and driver; libx264 does without",
        );
    }
    finding.fact("encoders", open);
    finding.fact("encoders_that_do_not_open", closed.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
}

fn all_of_h264() -> Vec<ffmpeg::Codec> {
    let mut found = Vec::new();
    let mut state = std::ptr::null_mut();
    loop {
        // SAFETY: `state` is FFmpeg's own position in its list; the codecs are static.
        let codec = unsafe { ffi::av_codec_iterate(&mut state) };
        if codec.is_null() {
            return found;
        }
        // SAFETY: not null, and static.
        let encodes =
            unsafe { (*codec).id == ffi::AVCodecID::AV_CODEC_ID_H264 && ffi::av_codec_is_encoder(codec) != 0 };
        if encodes {
            // SAFETY: FFmpeg never frees a codec nor changes it.
            let name = unsafe { CStr::from_ptr((*codec).name) }.to_string_lossy();
            found.extend(ffmpeg::encoder::find_by_name(&name));
        }
    }
}

/// Opens the encoder for a small picture, as a run would.
fn tried(codec: ffmpeg::Codec) -> Result<(), String> {
    let attempt = || -> Result<(), ffmpeg::Error> {
        let mut video = ffmpeg::codec::context::Context::new_with_codec(codec).encoder().video()?;
        let formats: Vec<Pixel> = codec.video()?.formats().map(Iterator::collect).unwrap_or_default();
        let usual = [Pixel::YUV420P, Pixel::NV12].into_iter().find(|f| formats.contains(f));
        video.set_format(usual.or(formats.first().copied()).unwrap_or(Pixel::YUV420P));
        video.set_width(640);
        video.set_height(480);
        video.set_time_base((1, 25));
        video.set_frame_rate(Some((25, 1)));
        // Not closed: SVT-AV1 1.4 waits for ever when it has seen no frame. This process ends soon.
        video.open_as(codec).map(std::mem::forget)
    };
    attempt().map_err(|e| match e {
        // FFmpeg's own words for it help nobody here.
        ffmpeg::Error::External | ffmpeg::Error::Unknown => "no such hardware or driver".to_owned(),
        e => e.to_string(),
    })
}

/// The kinds of hardware that FFmpeg was built for, and those of them that can be opened.
fn hardware(finding: &mut Finding) {
    let (mut open, mut closed) = (Vec::new(), Vec::new());
    let mut kind = ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_NONE;
    loop {
        // SAFETY: goes from one number to the next.
        kind = unsafe { ffi::av_hwdevice_iterate_types(kind) };
        if kind == ffi::AVHWDeviceType::AV_HWDEVICE_TYPE_NONE {
            break;
        }
        // SAFETY: the name is static; the device that is made is given back at once.
        let (name, opened) = unsafe {
            let name = CStr::from_ptr(ffi::av_hwdevice_get_type_name(kind)).to_string_lossy().into_owned();
            let mut device = std::ptr::null_mut();
            let result = ffi::av_hwdevice_ctx_create(&mut device, kind, std::ptr::null(), std::ptr::null_mut(), 0);
            ffi::av_buffer_unref(&mut device);
            (name, result >= 0)
        };
        if opened { open.push(name) } else { closed.push(name) }
    }
    let known = closed.join(", ");
    match (open.is_empty(), closed.is_empty()) {
        (false, _) => finding.ok(format!("hardware that answers: {}", open.join(", "))),
        (true, false) => finding.absent(
            format!("no hardware for video answers (built for {known})"),
            "Decoding and encoding work on the CPU; for a GPU, install its driver",
        ),
        (true, true) => finding.absent("built without hardware for video", "Decoding and encoding work on the CPU"),
    }
    finding.fact("hardware", open);
    finding.fact("hardware_that_does_not_answer", closed);
}
