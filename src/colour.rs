//! Colour: how RGB and the codes in a picture's planes belong together (ITU-R BT.601, BT.709, BT.2020; full and limited
//! range).

use std::fmt;
use std::str::FromStr;

use ffmpeg::color::{Range, Space};
use ffmpeg::frame::Video;
use ffmpeg_next as ffmpeg;

use crate::frame::Format;

/// An RGB colour of 8 bits a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rgb(pub [u8; 3]);

/// The green that keyers expect.
pub const GREEN: Rgb = Rgb([0, 255, 0]);

/// How the codes in the planes map to RGB.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coding {
    /// Weights of red and blue in luma (Kr, Kb).
    pub kr: f64,
    pub kb: f64,
    /// Codes use the full range (0..=255 at 8 bits) instead of 16..=235 and 16..=240.
    pub full: bool,
    /// The planes are R, G, B themselves.
    pub rgb: bool,
    pub depth: u8,
}

impl Coding {
    /// Reads matrix and range from the picture. Unmarked YUV is BT.601 limited, as swscale and most players assume.
    pub fn of(picture: &Video, format: Format) -> Self {
        let (kr, kb) = weights(picture.color_space());
        let full = picture.color_range() == Range::JPEG || crate::frame::plain(format.pixel) != format.pixel;
        Self { kr, kb, full: full || format.rgb, rgb: format.rgb, depth: format.depth }
    }

    /// Scale and offset of luma, scale and offset of chroma, in codes.
    fn scales(&self) -> (f64, f64, f64, f64) {
        let unit = f64::from(1u32 << (self.depth - 8));
        let max = f64::from((1u32 << self.depth) - 1);
        let middle = f64::from(1u32 << (self.depth - 1));
        if self.full { (max, 0.0, max, middle) } else { (219.0 * unit, 16.0 * unit, 224.0 * unit, middle) }
    }

    /// RGB in 0..=1 to the real-valued codes of the three planes: Y, Cb, Cr, or G, B, R.
    pub fn encode(&self, [r, g, b]: [f64; 3]) -> [f64; 3] {
        let (ys, yo, cs, co) = self.scales();
        if self.rgb {
            return [g * ys, b * ys, r * ys];
        }
        let y = self.kr * r + (1.0 - self.kr - self.kb) * g + self.kb * b;
        let cb = (b - y) / (2.0 * (1.0 - self.kb));
        let cr = (r - y) / (2.0 * (1.0 - self.kr));
        [y * ys + yo, cb * cs + co, cr * cs + co]
    }

    /// Codes of the three planes to RGB in 0..=1, not clamped.
    pub fn decode(&self, codes: [f64; 3]) -> [f64; 3] {
        let (ys, yo, cs, co) = self.scales();
        if self.rgb {
            return [codes[2] / ys, codes[0] / ys, codes[1] / ys];
        }
        let y = (codes[0] - yo) / ys;
        let cb = (codes[1] - co) / cs;
        let cr = (codes[2] - co) / cs;
        let r = y + 2.0 * (1.0 - self.kr) * cr;
        let b = y + 2.0 * (1.0 - self.kb) * cb;
        let g = (y - self.kr * r - self.kb * b) / (1.0 - self.kr - self.kb);
        [r, g, b]
    }

    /// The three codes that a viewer decodes nearest to `colour`.
    ///
    /// Rounding each code on its own can miss by a level: in BT.601 the rounded #00FF00 decodes to #00FF01. So the
    /// neighbours of the rounded codes are tried too.
    pub fn codes(&self, Rgb(colour): Rgb) -> [u16; 3] {
        let target = colour.map(f64::from);
        let exact = self.encode(target.map(|c| c / 255.0));
        let max = f64::from((1u32 << self.depth) - 1);
        let mut best = (f64::INFINITY, [0u16; 3]);
        let steps = [0.0, -1.0, 1.0];
        for dy in steps {
            for du in steps {
                for dv in steps {
                    let codes = [exact[0] + dy, exact[1] + du, exact[2] + dv].map(|c| c.round().clamp(0.0, max));
                    let seen = self.decode(codes).map(|c| (c * 255.0).clamp(0.0, 255.0));
                    let shown: f64 = (0..3).map(|i| (seen[i].round() - target[i]).abs()).sum();
                    let exactly: f64 = (0..3).map(|i| (codes[i] - exact[i]).powi(2)).sum();
                    let error = shown * 1e3 + exactly;
                    if error < best.0 {
                        best = (error, codes.map(|c| c as u16));
                    }
                }
            }
        }
        best.1
    }
}

/// Kr and Kb of a matrix; BT.601 where nothing is marked.
fn weights(space: Space) -> (f64, f64) {
    match space {
        Space::BT709 => (0.2126, 0.0722),
        Space::BT2020NCL | Space::BT2020CL => (0.2627, 0.0593),
        Space::FCC => (0.30, 0.11),
        Space::SMPTE240M => (0.212, 0.087),
        _ => (0.299, 0.114),
    }
}

impl FromStr for Rgb {
    type Err = String;

    /// Reads `#rgb`, `#rrggbb`, `0xrrggbb` or one of FFmpeg's colour names (`green` is the keyer's #00FF00).
    fn from_str(s: &str) -> Result<Self, String> {
        if s.eq_ignore_ascii_case("green") {
            return Ok(GREEN);
        }
        let hex = s.strip_prefix('#').or_else(|| s.strip_prefix("0x")).unwrap_or(s);
        if hex.chars().all(|c| c.is_ascii_hexdigit()) {
            let wide = match hex.len() {
                3 => hex.chars().flat_map(|c| [c, c]).collect(),
                _ => hex.to_owned(),
            };
            if let (6, Ok(v)) = (wide.len(), u32::from_str_radix(&wide, 16)) {
                return Ok(Self([(v >> 16) as u8, (v >> 8) as u8, v as u8]));
            }
        }
        named(s).ok_or_else(|| format!("'{s}' is not a colour: write #rrggbb or a name such as green, white, navy"))
    }
}

/// Looks a name up in FFmpeg's own table.
fn named(name: &str) -> Option<Rgb> {
    let wanted = std::ffi::CString::new(name.to_ascii_lowercase()).ok()?;
    let mut rgba = [0u8; 4];
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphabetic()) || wanted.as_bytes() == b"random" {
        return None;
    }
    // SAFETY: writes four bytes to `rgba`, reads a NUL-terminated string.
    let found =
        unsafe { ffmpeg::ffi::av_parse_color(rgba.as_mut_ptr(), wanted.as_ptr(), -1, std::ptr::null_mut()) >= 0 };
    found.then_some(Rgb([rgba[0], rgba[1], rgba[2]]))
}

impl fmt::Display for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [r, g, b] = self.0;
        write!(f, "#{r:02X}{g:02X}{b:02X}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coding(kr: f64, kb: f64, full: bool, depth: u8) -> Coding {
        Coding { kr, kb, full, rgb: false, depth }
    }

    #[test]
    fn green_survives_every_matrix_range_and_depth() {
        for (kr, kb) in [(0.299, 0.114), (0.2126, 0.0722), (0.2627, 0.0593)] {
            for full in [false, true] {
                for depth in [8, 10, 12, 16] {
                    let c = coding(kr, kb, full, depth);
                    let seen = c.decode(c.codes(GREEN).map(f64::from)).map(|v| (v * 255.0).clamp(0.0, 255.0).round());
                    assert_eq!(seen, [0.0, 255.0, 0.0], "{c:?}");
                }
            }
        }
    }

    #[test]
    fn encode_and_decode_are_inverse() {
        let c = coding(0.2126, 0.0722, false, 10);
        let rgb = [0.2, 0.7, 0.4];
        let back = c.decode(c.encode(rgb));
        assert!((0..3).all(|i| (back[i] - rgb[i]).abs() < 1e-12));
        // White is 940, grey has no chroma (ITU-R BT.709, 10 bits).
        let white = c.encode([1.0; 3]);
        assert!((white[0] - 940.0).abs() < 1e-9 && (white[1] - 512.0).abs() < 1e-9);
    }

    #[test]
    fn planes_of_rgb_are_green_blue_red() {
        let c = Coding { kr: 0.299, kb: 0.114, full: true, rgb: true, depth: 8 };
        assert_eq!(c.codes(Rgb([10, 20, 30])), [20, 30, 10]);
    }

    #[test]
    fn colours_are_read_as_people_write_them() {
        assert_eq!("#0f0".parse(), Ok(GREEN));
        assert_eq!("00FF00".parse(), Ok(GREEN));
        assert_eq!("green".parse(), Ok(GREEN));
        assert_eq!("Navy".parse(), Ok(Rgb([0, 0, 128])));
        assert!("#12".parse::<Rgb>().is_err() && "nocolour".parse::<Rgb>().is_err() && "".parse::<Rgb>().is_err());
    }
}
