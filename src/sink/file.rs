//! The sink for files, numbered pictures, stdout and streams.

use std::io::IsTerminal;

use crossbeam_channel::Receiver;
use ffmpeg_next as ffmpeg;

use super::encoder::{self, Encoder};
use super::muxer::{self, Container, Contents, says};
use super::plan::Plan;
use super::target::{Destination, LOOPBACK, Part};
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::pipeline::{Control, End, Sink};
use crate::stream::{CopiedPacket, Extras, VideoInfo};

pub struct FileSink {
    destination: Destination,
    part: Option<Part>,
    plan: Plan,
    info: VideoInfo,
    extras: Extras,
    copied: Receiver<CopiedPacket>,
    control: Control,
    encoder: Encoder,
    /// Opened with the first frame, so that a job that has none leaves nothing behind.
    container: Option<Container>,
    /// A write has failed; what lies there cannot be completed.
    broken: bool,
}

impl FileSink {
    pub fn create(
        destination: Destination,
        plan: Plan,
        info: VideoInfo,
        extras: Extras,
        copied: Receiver<CopiedPacket>,
        control: Control,
    ) -> Result<Self> {
        if destination == Destination::Stdout && std::io::stdout().is_terminal() {
            return Err(Error::Usage(
                "standard output is a terminal; send the video on (| ffplay -) or write a file with -o".to_owned(),
            ));
        }
        for (key, _) in &plan.choices.options {
            if !encoder::has_option(&plan.codec, key) && !muxer::has_option(&plan, key) {
                return Err(Error::Usage(format!(
                    "-{key} is an option neither of the encoder {} nor of the container {}",
                    plan.codec.name(),
                    plan.muxer.name()
                )));
            }
        }
        for (flag, option, given) in
            [("--crf", "crf", plan.choices.crf.is_some()), ("--preset", "preset", plan.choices.preset.is_some())]
        {
            if given && !encoder::has_option(&plan.codec, option) {
                return Err(Error::Usage(format!(
                    "{} has no {flag}; `ffmpeg -h encoder={}` lists what it has, to be given after --",
                    plan.codec.name(),
                    plan.codec.name()
                )));
            }
        }
        let encoder = Encoder::open(&plan, &info)?;
        let part = destination.path().map(Part::create).transpose()?;
        Ok(Self { destination, part, plan, info, extras, copied, control, encoder, container: None, broken: false })
    }

    /// One line about what is written.
    pub fn describe(&self) -> String {
        format!("{} ({}, {})", self.destination, self.plan.muxer.name(), self.plan.codec.name())
    }

    fn open_container(&mut self) -> Result<()> {
        let url = match (&self.destination, &self.part) {
            (_, Some(part)) => format!("file:{}", text(part.path())?),
            (Destination::Stdout, _) => muxer::STDOUT.to_owned(),
            (Destination::Url(url), _) => url.clone(),
            (Destination::Window, _) => "-".to_owned(),
            (Destination::Camera(device), _) => text(device)?.to_owned(),
            // A playlist names its pieces as it is named itself, without the folders: never with the protocol.
            (Destination::File(path), _) if path.is_relative() => format!("file:./{}", text(path)?),
            (Destination::Pictures(path) | Destination::File(path), _) => format!("file:{}", text(path)?),
        };
        let contents = Contents {
            plan: &self.plan,
            info: &self.info,
            extras: &self.extras,
            encoder: self.encoder.context(),
            time_base: self.encoder.time_base,
            url: &url,
            control: &self.control,
        };
        let (container, left_out) = Container::open(&contents).map_err(|e| self.failed(e))?;
        if !left_out.is_empty() {
            tracing::warn!("{} cannot hold {}; left out", self.plan.muxer.name(), left_out.join(", "));
        }
        self.container = Some(container);
        Ok(())
    }

    /// Writes what the encoder gives, and before it the copied packets that have come so far.
    fn write_packets(
        &mut self,
        encode: impl FnOnce(&mut Encoder, &mut dyn FnMut(ffmpeg::Packet) -> Result<()>) -> Result<()>,
    ) -> Result<()> {
        let container = self.container.as_mut().expect("opened with the first frame");
        let base = self.encoder.time_base;
        let destination = &self.destination;
        let mut broken = false;
        let mut result = Ok(());
        for packet in self.copied.try_iter() {
            let Some(stream) = self.extras.streams.get(packet.stream) else { continue };
            result = container.write_copy(packet, stream.time_base).map_err(|e| failure(destination, e));
            if result.is_err() {
                broken = true;
                break;
            }
        }
        if result.is_ok() {
            result = encode(&mut self.encoder, &mut |packet| {
                container.write_video(packet, base).map_err(|e| {
                    broken = true;
                    failure(destination, e)
                })
            });
        }
        self.broken |= broken;
        result
    }

    fn failed(&self, error: ffmpeg::Error) -> Error {
        failure(&self.destination, error)
    }

    /// Gives the file its name, or tells where the remains are.
    fn settle(&mut self, end: End, closed: Result<()>) -> Result<()> {
        let Some(part) = self.part.take() else { return closed };
        match (end, closed) {
            (End::Drained | End::Abandoned, Ok(())) => part.keep(),
            (_, Ok(())) => {
                tracing::warn!("what was made before the failure plays and lies in {}", part.path().display());
                Ok(())
            }
            (_, Err(error)) => {
                // Without its trailer MP4 is not playable; Matroska and its like are.
                if ["matroska", "webm", "mpegts", "nut", "flv"].contains(&self.plan.muxer.name().as_str()) {
                    tracing::warn!("what could be written plays and lies in {}", part.path().display());
                } else {
                    part.discard();
                }
                Err(error)
            }
        }
    }
}

impl Drop for FileSink {
    /// A job that fails before it starts leaves nothing behind.
    fn drop(&mut self) {
        if let (None, Some(part)) = (&self.container, self.part.take()) {
            part.discard();
        }
    }
}

impl Sink for FileSink {
    fn write(&mut self, frame: Frame) -> Result<()> {
        if self.container.is_none() {
            self.open_container()?;
        }
        self.write_packets(|encoder, emit| encoder.encode(frame, emit))
    }

    fn finish(&mut self, end: End) -> Result<()> {
        let Some(_) = &self.container else { return Ok(()) };
        let flushed = match end {
            _ if self.broken => Ok(()),
            End::Abandoned => Ok(()),
            End::Drained | End::Failed => self.write_packets(Encoder::flush),
        };
        let container = self.container.take().expect("checked at the top");
        let closed = match (flushed, container.close()) {
            (Ok(()), closed) => closed.map_err(|e| self.failed(e)),
            (Err(error), _) => Err(error),
        };
        self.settle(end, closed)
    }
}

fn text(path: &std::path::Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::Output(format!("{}: the name is not UTF-8, which FFmpeg needs", path.display())))
}

/// What went wrong in the words of the person who waits for the file.
fn failure(destination: &Destination, error: ffmpeg::Error) -> Error {
    match error {
        other if matches!(destination, Destination::Camera(_)) => Error::Output(format!(
            "{destination}: takes no pictures: {}; it is no virtual camera, or another program writes to it. For browsers \
             it must be loaded with exclusive_caps=1; {LOOPBACK}",
            says(other)
        )),
        ffmpeg::Error::Other { errno: libc::EPIPE } => Error::Closed,
        ffmpeg::Error::Exit | ffmpeg::Error::Other { errno: libc::ETIMEDOUT } => {
            Error::Output(format!("{destination}: the other side does not answer; given up"))
        }
        ffmpeg::Error::Other { errno: libc::ENOSPC } => {
            Error::Output(format!("{destination}: the disk is full; free some space or choose another place"))
        }
        other => Error::Output(format!("{destination}: cannot be written: {}", says(other))),
    }
}
