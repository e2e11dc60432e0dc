//! Works out size, format and colours of the frames from what is stored and what is asked for.

use ffmpeg::color;
use ffmpeg_next as ffmpeg;

use super::input::Native;
use super::normalise::{Goal, is_sideways};
use super::reader::Target;
use crate::frame::{Format, is_rgb, plain};
use crate::stream::Colour;

/// Works out what every frame shall be.
pub(super) fn goal(native: &Native, target: &Target) -> Goal {
    let shown = shown_size(native);
    let scaled = match target.size {
        None => shown,
        Some((w, 0)) => (w, in_shape(shown.1, w, shown.0)),
        Some((0, h)) => (in_shape(shown.0, h, shown.1), h),
        Some(size) => size,
    };
    let format = Format::of(target.format);
    let whole = |n: u32, log2: u8| (n >> log2 << log2).max(1 << log2);
    let (width, height) = match format {
        // Encoders refuse sizes that do not fill their chroma samples.
        Some(f) => (whole(scaled.0, f.log2_chroma_w), whole(scaled.1, f.log2_chroma_h)),
        None => scaled,
    };
    let scaled = (scaled.0.max(width), scaled.1.max(height));
    let fps = target.fps;
    Goal {
        format: target.format,
        width,
        height,
        scaled,
        colour: colour(native, target, height),
        source_space: matrix_space(native, height),
        fps,
        matrix: native.matrix,
        time_bases: (native.time_base, fps.map_or(native.time_base, |f| f.invert())),
    }
}

/// The side that goes with `wanted` as `side` goes with `other`.
fn in_shape(side: u32, wanted: u32, other: u32) -> u32 {
    ((f64::from(side) * f64::from(wanted) / f64::from(other.max(1))).round() as u32).max(1)
}

/// Upright and with square pixels.
pub(super) fn shown_size(native: &Native) -> (u32, u32) {
    let wide = f64::from(native.width) * f64::from(native.aspect);
    let size = ((wide.round() as u32).max(1), native.height);
    if is_sideways(native.matrix) { (size.1, size.0) } else { size }
}

/// The matrix on the YUV side. What is not marked follows the size, as players have it.
pub(super) fn matrix_space(native: &Native, height: u32) -> color::Space {
    let guess = if height >= 720 { color::Space::BT709 } else { color::Space::SMPTE170M };
    match native.space {
        color::Space::Unspecified | color::Space::RGB => guess,
        known => known,
    }
}

fn colour(native: &Native, target: &Target, height: u32) -> Colour {
    let to_rgb = is_rgb(target.format);
    let full = native.range == color::Range::JPEG || plain(native.format) != native.format;
    let keeps_full = full && !is_rgb(native.format);
    Colour {
        space: if to_rgb { color::Space::RGB } else { matrix_space(native, height) },
        range: if to_rgb || target.full_range || keeps_full { color::Range::JPEG } else { color::Range::MPEG },
        primaries: native.primaries,
        transfer: native.transfer,
    }
}
