//! Writes packets into a container: the encoded video, and the streams that are copied.

use std::ffi::{CStr, CString};
use std::ptr;
use std::time::Duration;

use ffmpeg::codec::Parameters;
use ffmpeg::ffi;
use ffmpeg::format::context::{Output, StreamIo};
use ffmpeg::{Dictionary, Packet, Rational, media};
use ffmpeg_next as ffmpeg;

use super::deadline::Deadline;
use super::plan::Plan;
use super::stdout::Stdout;
use crate::pipeline::Control;
use crate::stream::{CopiedPacket, CopiedStream, Extras, VideoInfo};

/// So long does a picture that someone waits for wait for sound that may never come. FFmpeg's own measure is 10 s.
const PATIENCE_WITH_SOUND: Duration = Duration::from_secs(1);

/// What stands for standard output among the addresses.
pub(super) const STDOUT: &str = "pipe:1";

/// An open container.
pub(super) struct Container {
    output: Output,
    /// Declared after `output`, whose closing may still ask it.
    deadline: Box<Deadline>,
    /// How long the protocol goes on sending after the last byte was handed to it.
    linger: Duration,
    video_base: Rational,
    /// It collects some seconds before it writes them, which whoever watches would wait for.
    collects: bool,
    /// For each copied stream its index in the container, if it has one.
    places: Vec<Option<usize>>,
}

/// A container whose header is written, and where in it each copied stream lies.
type Begun = (Output, Vec<Option<usize>>);

/// What the container is made of.
pub(super) struct Contents<'a> {
    pub plan: &'a Plan,
    pub info: &'a VideoInfo,
    pub extras: &'a Extras,
    pub encoder: &'a ffmpeg::codec::Context,
    pub time_base: Rational,
    /// What FFmpeg opens, such as `file:out.mp4.part` or `pipe:1`.
    pub url: &'a str,
    pub control: &'a Control,
}

impl Container {
    /// Writes the header with as many of the copied streams as the container accepts; tells which are left out.
    pub(super) fn open(contents: &Contents<'_>) -> Result<(Self, Vec<String>), ffmpeg::Error> {
        let streams = &contents.extras.streams;
        let fitting: Vec<bool> = streams.iter().map(|s| fits(contents.plan, s)).collect();
        let sound: Vec<bool> =
            streams.iter().zip(&fitting).map(|(s, &f)| f && s.parameters.medium() == media::Type::Audio).collect();
        let mut choices = vec![fitting, sound, vec![false; streams.len()]];
        choices.dedup();
        let mut last = ffmpeg::Error::Unknown;
        for choice in choices {
            // Declared before the output, whose closing may still ask it.
            let deadline = Deadline::new(contents.control.clone());
            let output = allocate(contents, &deadline)?;
            match begin(contents, output, &choice) {
                Ok((output, places)) => {
                    let left_out = streams.iter().zip(&choice).filter(|(s, kept)| !**kept && wanted(contents.plan, s));
                    let left_out = left_out.map(|(s, _)| s.name()).collect();
                    let video_base = output.stream(0).map_or(contents.info.time_base, |s| s.time_base());
                    let linger = linger(contents.url);
                    let plan = contents.plan;
                    let collects = plan.live && ["matroska", "webm"].contains(&plan.muxer.name().as_str());
                    return Ok((Self { output, deadline, linger, video_base, collects, places }, left_out));
                }
                // Fewer streams do not wake a peer that says nothing.
                Err(_) if deadline.is_over() => return Err(ffmpeg::Error::Exit),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(super) fn write_video(&mut self, mut packet: Packet, base: Rational) -> Result<(), ffmpeg::Error> {
        self.deadline.restart();
        packet.set_stream(0);
        packet.rescale_ts(base, self.video_base);
        packet.write_interleaved(&mut self.output)?;
        if self.collects {
            // SAFETY: the context is live; no packet means that what was collected is written.
            let written = unsafe { ffi::av_write_frame(self.output.as_mut_ptr(), ptr::null_mut()) };
            if written < 0 {
                return Err(written.into());
            }
        }
        self.health()
    }

    pub(super) fn write_copy(&mut self, copied: CopiedPacket, base: Rational) -> Result<(), ffmpeg::Error> {
        let Some(Some(place)) = self.places.get(copied.stream).copied() else { return Ok(()) };
        let mut packet = copied.packet;
        if packet.pts().is_none() && packet.dts().is_none() {
            packet.set_pts(Some(0));
            packet.set_dts(Some(0));
        }
        self.deadline.restart();
        packet.set_stream(place);
        packet.set_position(-1);
        let to = self.output.stream(place).map_or(base, |s| s.time_base());
        packet.rescale_ts(base, to);
        match packet.write_interleaved(&mut self.output) {
            // One packet whose times run backwards is no reason to end the job.
            Err(ffmpeg::Error::Other { errno: libc::EINVAL }) => {
                tracing::debug!("a copied packet at {:?} has times that the container refuses", packet.dts());
                Ok(())
            }
            other => other.and_then(|()| self.health()),
        }
    }

    /// Writes the trailer and makes sure that the last byte is out.
    pub(super) fn close(mut self) -> Result<(), ffmpeg::Error> {
        self.deadline.restart();
        self.output.write_trailer()?;
        // SAFETY: the I/O context belongs to the live container; it is null for muxers that open their own files.
        unsafe {
            let io = (*self.output.as_ptr()).pb;
            if !io.is_null() {
                ffi::avio_flush(io);
            }
        }
        self.health()?;
        std::thread::sleep(self.linger);
        Ok(())
    }

    /// Muxers do not always report a failed write; the I/O context remembers it.
    fn health(&self) -> Result<(), ffmpeg::Error> {
        // SAFETY: as in `close`.
        let error = unsafe { (*self.output.as_ptr()).pb.as_ref() }.map_or(0, |io| io.error);
        if error < 0 { Err(ffmpeg::Error::from(error)) } else { Ok(()) }
    }
}

/// Names the streams and writes the header.
fn begin(contents: &Contents<'_>, mut output: Output, keep: &[bool]) -> Result<Begun, ffmpeg::Error> {
    let Contents { plan, extras, .. } = contents;
    add_video(&mut output, contents)?;
    let mut places = Vec::new();
    for (stream, &keep) in extras.streams.iter().zip(keep) {
        places.push(if keep { Some(add_copy(&mut output, stream)?) } else { None });
    }
    let metadata = extras.metadata.iter().filter(|(k, _)| !belongs_to_the_container(k));
    let mut tags = Dictionary::new();
    metadata.chain(&plan.choices.metadata).for_each(|(k, v)| tags.set(k, v));
    output.set_metadata(tags);
    for c in &extras.chapters {
        output.add_chapter(c.id, c.time_base, c.start, c.end, &c.title)?;
    }
    let mut options = Dictionary::new();
    if plan.muxer.is_pictures() {
        let numbered = contents.url.contains('%');
        options.set(if numbered { "atomic_writing" } else { "update" }, "1");
    }
    for (key, value) in live_options(plan) {
        options.set(key, value);
    }
    for (key, value) in &plan.choices.options {
        if has_option(plan, key) {
            options.set(key, value);
        }
    }
    output.write_header_with(options)?;
    Ok((output, places))
}

/// SRT sends late packets again for as long as its latency, and whoever hangs up at once loses the end.
fn linger(url: &str) -> Duration {
    if !url.starts_with("srt:") {
        return Duration::ZERO;
    }
    let value = |name| url.split(['?', '&']).find_map(|o| o.strip_prefix(name)).and_then(|v| v.parse::<u64>().ok());
    // FFmpeg counts it in microseconds; 120 ms is libsrt's own value.
    let latency = value("latency=").or_else(|| value("peerlatency=")).unwrap_or(120_000).min(10_000_000);
    Duration::from_micros(2 * latency + 200_000)
}

/// What a container needs to know when someone watches while it is made.
fn live_options(plan: &Plan) -> &'static [(&'static str, &'static str)] {
    match plan.muxer.name().as_str() {
        "rtsp" => &[("rtsp_transport", "tcp")],
        // The length stands in the header, which has been sent by the time it is known.
        "flv" if plan.live => &[("flvflags", "no_duration_filesize")],
        // All pieces stay in the list, as a film; a short list for a live audience is `-hls_list_size 5` after --.
        "hls" => &[("hls_list_size", "0")],
        _ => &[],
    }
}

/// Packets of seven MPEG-TS cells fill an Ethernet frame and start where a cell starts.
fn with_packet_size(url: &str) -> String {
    match url.contains("pkt_size=") || !url.starts_with("udp:") {
        true => url.to_owned(),
        false => format!("{url}{}pkt_size=1316", if url.contains('?') { '&' } else { '?' }),
    }
}

fn allocate(contents: &Contents<'_>, deadline: &Deadline) -> Result<Output, ffmpeg::Error> {
    let Contents { plan, url, .. } = contents;
    // A disk is never given up on: however slow, it answers in the end.
    let local = url.starts_with("file:");
    let stdout = *url == STDOUT && !plan.muxer.has(ffi::AVFMT_NOFILE);
    let never = ffi::AVIOInterruptCB { callback: None, opaque: ptr::null_mut() };
    let callback = if local { never } else { deadline.callback() };
    let url = CString::new(with_packet_size(url)).map_err(|_| ffmpeg::Error::InvalidData)?;
    let mut context = ptr::null_mut();
    // SAFETY: the context is checked, then owned by `Output`, which frees it and closes its I/O.
    unsafe {
        let made =
            ffi::avformat_alloc_output_context2(&mut context, plan.muxer.0.cast_mut(), ptr::null(), url.as_ptr());
        if made < 0 {
            return Err(ffmpeg::Error::from(made));
        }
        (*context).interrupt_callback = callback;
        if plan.live {
            (*context).max_interleave_delta = PATIENCE_WITH_SOUND.as_micros() as i64;
        }
        deadline.restart();
        if stdout {
            let mut io = match StreamIo::from_write(Stdout::new(contents.control.clone())) {
                Ok(io) => io,
                Err(error) => {
                    ffi::avformat_free_context(context);
                    return Err(error);
                }
            };
            (*context).pb = io.as_mut_ptr();
            (*context).flags |= ffi::AVFMT_FLAG_CUSTOM_IO;
            return Ok(Output::wrap_with_custom_io(context, io));
        }
        let output = Output::wrap(context);
        if !plan.muxer.has(ffi::AVFMT_NOFILE) {
            let opened =
                ffi::avio_open2(&mut (*context).pb, url.as_ptr(), ffi::AVIO_FLAG_WRITE, &callback, ptr::null_mut());
            if opened < 0 {
                return Err(ffmpeg::Error::from(opened));
            }
        }
        Ok(output)
    }
}

fn add_video(output: &mut Output, contents: &Contents<'_>) -> Result<(), ffmpeg::Error> {
    let mut stream = output.add_stream_with(contents.encoder)?;
    stream.set_time_base(contents.time_base);
    stream.set_avg_frame_rate(contents.info.frame_rate);
    let mut tags = Dictionary::new();
    let carried = contents.extras.video_metadata.iter().filter(|(k, _)| !belongs_to_the_container(k));
    carried.for_each(|(k, v)| tags.set(k, v));
    stream.set_metadata(tags);
    // SAFETY: plain fields of the stream that was just made.
    unsafe {
        (*stream.as_mut_ptr()).sample_aspect_ratio = ffi::AVRational { num: 1, den: 1 };
        (*stream.as_mut_ptr()).disposition = ffi::AV_DISPOSITION_DEFAULT;
    }
    Ok(())
}

fn add_copy(output: &mut Output, copied: &CopiedStream) -> Result<usize, ffmpeg::Error> {
    let mut stream = output.add_stream(None::<ffmpeg::Codec>)?;
    // SAFETY: both parameters are live; a tag of another container would be refused, so it is cleared.
    unsafe {
        let raw = stream.as_mut_ptr();
        let done = ffi::avcodec_parameters_copy((*raw).codecpar, copied.parameters.as_ptr());
        if done < 0 {
            return Err(ffmpeg::Error::from(done));
        }
        (*(*raw).codecpar).codec_tag = 0;
        (*raw).disposition = copied.disposition;
    }
    stream.set_time_base(copied.time_base);
    let mut tags = Dictionary::new();
    copied.metadata.iter().filter(|(k, _)| !belongs_to_the_container(k)).for_each(|(k, v)| tags.set(k, v));
    stream.set_metadata(tags);
    Ok(stream.index())
}

/// Tags that describe the old file rather than the film.
fn belongs_to_the_container(key: &str) -> bool {
    let own = ["major_brand", "minor_version", "compatible_brands", "encoder", "handler_name", "vendor_id", "duration"];
    own.iter().any(|k| key.eq_ignore_ascii_case(k)) || key.starts_with("NUMBER_OF_") || key.starts_with("_STATISTICS")
}

/// Whether the user wants a stream of this kind at all, and pictures have a place for it.
fn wanted(plan: &Plan, stream: &CopiedStream) -> bool {
    match stream.parameters.medium() {
        media::Type::Audio => !plan.choices.no_audio && !plan.muxer.is_pictures(),
        media::Type::Subtitle => !plan.choices.no_subtitles && !plan.muxer.is_pictures(),
        _ => !plan.muxer.is_pictures(),
    }
}

/// Whether a stream can be tried in the container.
fn fits(plan: &Plan, stream: &CopiedStream) -> bool {
    let known = is_known(&stream.parameters);
    let place = match stream.parameters.medium() {
        // Of the containers for film only MP4 and its kin keep a cover picture as a stream.
        media::Type::Video => ["mp4", "mov", "ipod", "3gp"].contains(&plan.muxer.name().as_str()),
        media::Type::Data => false,
        _ => true,
    };
    wanted(plan, stream) && known && place && plan.muxer.takes(stream.parameters.id())
}

fn is_known(parameters: &Parameters) -> bool {
    parameters.id() != ffmpeg::codec::Id::None
}

/// Whether the muxer, or FFmpeg for every muxer, knows an option.
pub(super) fn has_option(plan: &Plan, name: &str) -> bool {
    // SAFETY: the classes are static tables of option descriptions.
    unsafe {
        super::encoder::class_has(ffi::avformat_get_class(), name)
            || super::encoder::class_has((*plan.muxer.0).priv_class, name)
    }
}

/// FFmpeg's words for an error, without the crate's prefix.
pub(super) fn says(error: ffmpeg::Error) -> String {
    let mut text = [0; 128];
    // SAFETY: writes a NUL-terminated string of at most the given length.
    unsafe {
        ffi::av_strerror(error.into(), text.as_mut_ptr(), text.len());
        CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned()
    }
}
