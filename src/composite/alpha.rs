//! Alpha planes: formats that have one, and what goes into it.

use ffmpeg::format::Pixel;
use ffmpeg_next as ffmpeg;

use super::blend::{Code, View};
use crate::frame::Format;

/// The format that has the planes of `pixel` and alpha, if FFmpeg knows one. Formats with alpha are their own.
pub fn with_alpha(pixel: Pixel) -> Option<Pixel> {
    let format = Format::of(pixel)?;
    if format.alpha {
        return Some(pixel);
    }
    let name = pixel.descriptor()?.name();
    let sibling = match name.strip_prefix("gbrp") {
        Some(rest) => format!("gbrap{rest}"),
        // The names with a j mean full range, which the frame's own mark says as well.
        None => format!("yuva{}", name.strip_prefix("yuvj").or_else(|| name.strip_prefix("yuv"))?),
    };
    sibling.parse().ok().filter(|&p| {
        Format::of(p).is_some_and(|f| {
            f.alpha
                && (f.depth, f.log2_chroma_w, f.log2_chroma_h)
                    == (format.depth, format.log2_chroma_w, format.log2_chroma_h)
        })
    })
}

/// The mask times the alpha that the picture already has, at 8 bits.
pub(super) fn multiply<T: Code>(mask: &[u8], own: View<T>, max: u16, out: &mut Vec<u8>) {
    out.clear();
    let (max, half) = (u32::from(max), u32::from(max) / 2);
    for (y, mask) in mask.chunks_exact(own.width).enumerate() {
        out.extend(mask.iter().zip(own.row(y)).map(|(&m, &a)| {
            let a: u32 = a.into();
            ((u32::from(m) * a + half) / max) as u8
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_common_format_has_a_sibling_with_alpha() {
        for (from, to) in [
            (Pixel::YUV420P, Pixel::YUVA420P),
            (Pixel::YUVJ422P, Pixel::YUVA422P),
            (Pixel::YUV444P10LE, Pixel::YUVA444P10LE),
            (Pixel::GBRP, Pixel::GBRAP),
            (Pixel::GBRP12LE, Pixel::GBRAP12LE),
            (Pixel::YUVA444P, Pixel::YUVA444P),
        ] {
            assert_eq!(with_alpha(from), Some(to));
        }
        for none in [Pixel::YUV411P, Pixel::NV12, Pixel::GRAY8] {
            assert_eq!(with_alpha(none), None);
        }
    }

    #[test]
    fn opaque_times_mask_is_the_mask() {
        let mask: Vec<u8> = (0..=255).collect();
        for max in [255u16, 1023, 65535] {
            let own = vec![max; 256];
            let mut out = Vec::new();
            multiply(&mask, View { samples: &own, stride: 256, width: 256, height: 1 }, max, &mut out);
            assert_eq!(out, mask);
        }
    }
}
