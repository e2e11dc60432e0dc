//! Notices a camera that shows nothing.

use crate::frame::{Format, Frame, plane};

/// Seconds after which a picture should have been seen.
const PATIENCE: f64 = 2.0;
/// What a sensor in the dark makes by itself stays below this, of 255.
const DARK: u8 = 32;
/// Of so many rows and samples in a row, one is looked at.
const STRIDE: usize = 16;

/// Whether all pictures since the beginning were black.
#[derive(Default)]
pub(super) struct Darkness {
    /// Something was seen, or it was said that nothing was.
    settled: bool,
}

impl Darkness {
    /// True once, with the first frame that is late enough to say that all before it were black, as it is itself.
    pub(super) fn is_told(&mut self, frame: &Frame) -> bool {
        if self.settled {
            return false;
        }
        let black = is_black(frame);
        let late = frame.time.seconds() >= PATIENCE;
        self.settled = !black || late;
        black && late
    }
}

fn is_black(frame: &Frame) -> bool {
    let picture = &frame.picture;
    // Luma, or green.
    if Format::of(picture.format()).is_none_or(|f| f.depth != 8) {
        return false;
    }
    let (samples, stride) = plane::<u8>(picture, 0);
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let rows = samples.chunks(stride).take(height).step_by(STRIDE);
    rows.flat_map(|row| row[..width].iter().step_by(STRIDE)).all(|sample| *sample < DARK)
}

#[cfg(test)]
mod tests {
    use ffmpeg_next::format::Pixel;
    use ffmpeg_next::frame::Video;
    use ffmpeg_next::{Rational, ffi};

    use super::*;
    use crate::frame::Time;

    fn frame(luma: u8, seconds: i64) -> Frame {
        let mut picture = Video::new(Pixel::YUV420P, 64, 48);
        picture.data_mut(0).fill(luma);
        // SAFETY: a plain field of a frame that we own.
        unsafe { (*picture.as_mut_ptr()).pts = ffi::AV_NOPTS_VALUE };
        Frame::new(picture, 0, Time { pts: seconds, duration: 1, base: Rational(1, 1) })
    }

    #[test]
    fn two_seconds_of_black_are_told_once_and_never_after_a_picture() {
        let told = |frames: &[(u8, i64)]| {
            let mut darkness = Darkness::default();
            frames.iter().map(|(luma, at)| darkness.is_told(&frame(*luma, *at))).collect::<Vec<_>>()
        };
        assert_eq!(told(&[(16, 0), (20, 1), (16, 2), (16, 3)]), [false, false, true, false]);
        assert_eq!(told(&[(16, 0), (90, 1), (16, 2), (16, 3)]), [false; 4]);
    }
}
