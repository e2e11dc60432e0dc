//! Decodes the beginning of an input, for what only a decoded frame tells.

use ffmpeg::decoder;
use ffmpeg::frame::Video;
use ffmpeg_next as ffmpeg;

use super::packets::Packets;
use super::refusal::unreadable;
use super::{Options, Place};
use crate::error::{Error, Result};

/// `None` when the first packet gives no frame; then the reader finds out why.
pub(super) fn decode_first(packets: &mut Packets, video: usize, decoder: &mut decoder::Video) -> Option<Video> {
    let mut packet = ffmpeg::Packet::empty();
    packets.read(&mut packet).ok().filter(|()| packet.stream() == video)?;
    let mut frame = Video::empty();
    decoder.send_packet(&packet).ok()?;
    if decoder.receive_frame(&mut frame).is_ok() {
        return Some(frame);
    }
    // A decoder with threads of its own waits for more; there is no more.
    decoder.send_eof().ok()?;
    let got = decoder.receive_frame(&mut frame);
    decoder.flush();
    got.ok().map(|()| frame)
}

/// The pictures of a camera tell their format only once one is decoded; all are then read again.
pub(super) fn try_out(
    place: &Place,
    options: &Options,
    packets: &mut Packets,
    decoder: &mut decoder::Video,
) -> Result<()> {
    /// Cameras begin with pictures that are cut off, and H.264 between two key frames.
    const PATIENCE: usize = 120;
    let mut frame = Video::empty();
    let mut read = Vec::new();
    while read.len() < PATIENCE {
        let mut packet = ffmpeg::Packet::empty();
        packets.read(&mut packet).map_err(|error| Error::Input(unreadable(place, options, error)))?;
        let decoded = decoder.send_packet(&packet).and_then(|()| decoder.receive_frame(&mut frame));
        read.push(packet);
        if decoded.is_ok() {
            decoder.flush();
            packets.again(read);
            return Ok(());
        }
    }
    Err(Error::Input(format!("{place}: none of its first {PATIENCE} pictures can be decoded; another --size may help")))
}
