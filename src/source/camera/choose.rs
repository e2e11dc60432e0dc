//! Which of a camera's formats is taken.

use std::cmp::Reverse;

use ffmpeg_next::Rational;
use serde::{Serialize, Serializer};

/// A coding of pictures that a camera offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Format {
    /// By its four characters, as Video4Linux has them: `YUYV`, `MJPG`.
    pub fourcc: String,
    pub sizes: Vec<Size>,
}

/// A size of pictures, and how many of them come in a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    pub width: u32,
    pub height: u32,
    /// The fastest first; empty where the camera does not tell.
    #[serde(serialize_with = "as_numbers")]
    pub fps: Vec<Rational>,
}

fn as_numbers<S: Serializer>(rates: &[Rational], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(rates.iter().map(|r| (f64::from(*r) * 1000.0).round() / 1000.0))
}

/// What is asked of a camera.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    /// Width and height; 0 is left open.
    pub(super) size: Option<(u32, u32)>,
    pub(super) rate: Option<Rational>,
}

/// What it is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) fourcc: String,
    pub(super) width: u32,
    pub(super) height: u32,
    /// `None` where the camera does not tell its rates.
    pub(super) rate: Option<Rational>,
}

/// How a coding is valued: what needs no decoding first; colour before grey; what delays frames last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Raw,
    Jpeg,
    Grey,
    Film,
}

/// The codings that FFmpeg decodes: Video4Linux's characters, and FFmpeg's name for them.
const CODINGS: [(&str, &str, Value); 16] = [
    ("YUYV", "yuyv422", Value::Raw),
    ("UYVY", "uyvy422", Value::Raw),
    ("NV12", "nv12", Value::Raw),
    ("NV21", "nv21", Value::Raw),
    ("YU12", "yuv420p", Value::Raw),
    ("422P", "yuv422p", Value::Raw),
    ("RGB3", "rgb24", Value::Raw),
    ("BGR3", "bgr24", Value::Raw),
    ("BGR4", "bgr0", Value::Raw),
    ("XR24", "bgr0", Value::Raw),
    ("MJPG", "mjpeg", Value::Jpeg),
    ("JPEG", "mjpeg", Value::Jpeg),
    ("GREY", "gray", Value::Grey),
    ("Y16 ", "gray16le", Value::Grey),
    ("H264", "h264", Value::Film),
    ("HEVC", "hevc", Value::Film),
];

/// What a camera is asked for if nobody says: a picture from the first to the second size, the larger the better.
const USUAL: [(u32, u32); 2] = [(640, 480), (1280, 720)];
const USUAL_RATE: Rational = Rational(30, 1);

/// FFmpeg's name for a coding.
pub(super) fn ffmpeg_name(fourcc: &str) -> Option<&'static str> {
    CODINGS.iter().find(|c| c.0 == fourcc).map(|c| c.1)
}

/// The format that fits best; `None` if the camera tells none that FFmpeg can decode.
///
/// A size that was asked for comes before the rate, a usual size after it. The exact size is best, then the smallest
/// that covers it, then the largest. Of equal ones, pictures that need no decoding are taken before JPEG; H.264 and
/// HEVC only if there is nothing else.
pub(super) fn choose(formats: &[Format], wish: &Wish) -> Option<Choice> {
    let asked = wish.size.filter(|size| *size != (0, 0));
    let mut candidates = Vec::new();
    for format in formats {
        let Some((_, _, value)) = CODINGS.iter().find(|c| c.0 == format.fourcc) else { continue };
        for size in &format.sizes {
            let (rate, short, over) = fit_rate(&size.fps, wish.rate.unwrap_or(USUAL_RATE));
            let fit = match asked {
                Some(asked) => fit_size((size.width, size.height), asked),
                None => fit_usual((size.width, size.height)),
            };
            let order = if asked.is_some() { [fit.0, fit.1, short] } else { [short, fit.0, fit.1] };
            let key = (*value == Value::Film, order, *value, over);
            candidates.push((key, format, size, rate));
        }
    }
    let (_, format, size, rate) = candidates.into_iter().min_by_key(|c| c.0)?;
    Some(Choice { fourcc: format.fourcc.clone(), width: size.width, height: size.height, rate })
}

/// How a size fits one that was asked for, less is better.
fn fit_size((w, h): (u32, u32), (width, height): (u32, u32)) -> (i64, i64) {
    let area = i64::from(w) * i64::from(h);
    let fits = |side: u32, asked: u32, exact: bool| asked == 0 || if exact { side == asked } else { side >= asked };
    if fits(w, width, true) && fits(h, height, true) {
        // Of sizes that share the one side, the fullest picture.
        (0, -area)
    } else if fits(w, width, false) && fits(h, height, false) {
        (1, area)
    } else {
        (2, -area)
    }
}

fn fit_usual((w, h): (u32, u32)) -> (i64, i64) {
    let [least, most] = USUAL;
    let area = i64::from(w) * i64::from(h);
    if w > most.0 || h > most.1 {
        (1, area)
    } else if w < least.0 || h < least.1 {
        (2, -area)
    } else {
        (0, -area)
    }
}

/// The lowest rate that is enough, else the highest; and by how much, in thousandths, it is too low or too high.
fn fit_rate(rates: &[Rational], wanted: Rational) -> (Option<Rational>, i64, i64) {
    let thousandths = |r: Rational| (f64::from(r) * 1000.0).round() as i64;
    // 29.97 is 30.
    let enough = thousandths(wanted) * 998 / 1000;
    let good = rates.iter().copied().filter(|r| thousandths(*r) >= enough).min_by_key(|r| thousandths(*r));
    let Some(rate) = good.or_else(|| rates.iter().copied().min_by_key(|r| Reverse(thousandths(*r)))) else {
        return (None, 0, 0);
    };
    let got = thousandths(rate);
    if got >= enough { (Some(rate), 0, got - enough) } else { (Some(rate), enough - got, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `YUYV 640x480@30,15 320x240@30; MJPG ...`
    fn formats(text: &str) -> Vec<Format> {
        let size = |text: &str| {
            let (size, rates) = text.split_once('@').unwrap();
            let (w, h) = size.split_once('x').unwrap();
            let fps = rates.split(',').filter(|r| !r.is_empty()).map(|r| Rational(r.parse().unwrap(), 1)).collect();
            Size { width: w.parse().unwrap(), height: h.parse().unwrap(), fps }
        };
        let format = |text: &str| {
            let mut words = text.split_whitespace();
            Format { fourcc: words.next().unwrap().to_owned(), sizes: words.map(size).collect() }
        };
        text.split(';').map(format).collect()
    }

    fn chosen(text: &str, size: Option<(u32, u32)>, rate: Option<i32>) -> String {
        let wish = Wish { size, rate: rate.map(|r| Rational(r, 1)) };
        let choice = choose(&formats(text), &wish).expect("something fits");
        let rate = choice.rate.map_or("?".to_owned(), |r| f64::from(r).to_string());
        format!("{} {}x{}@{rate}", choice.fourcc, choice.width, choice.height)
    }

    /// As most webcams are: raw pictures only as fast as USB 2 carries them.
    const WEBCAM: &str = "YUYV 640x480@30,15 1280x720@10,5 1920x1080@5; MJPG 640x480@30 1280x720@60,30 1920x1080@30,15";

    #[test]
    fn the_size_that_is_asked_for_comes_first_then_the_smallest_that_covers_it() {
        assert_eq!(chosen(WEBCAM, Some((1920, 1080)), None), "MJPG 1920x1080@30");
        assert_eq!(chosen(WEBCAM, Some((800, 600)), None), "MJPG 1280x720@30");
        assert_eq!(chosen(WEBCAM, Some((3840, 2160)), None), "MJPG 1920x1080@30");
        // Even where it is slow.
        assert_eq!(chosen("YUYV 640x480@30 1280x720@10", Some((1280, 720)), Some(25)), "YUYV 1280x720@10");
    }

    #[test]
    fn one_side_may_be_left_open() {
        assert_eq!(chosen(WEBCAM, Some((0, 480)), None), "YUYV 640x480@30");
        assert_eq!(chosen("YUYV 640x360@30 640x480@30", Some((640, 0)), None), "YUYV 640x480@30");
        assert_eq!(chosen(WEBCAM, Some((0, 0)), None), chosen(WEBCAM, None, None));
    }

    #[test]
    fn without_a_size_the_rate_comes_first() {
        assert_eq!(chosen(WEBCAM, None, None), "MJPG 1280x720@30");
        assert_eq!(chosen("YUYV 640x480@30 1280x720@10", None, None), "YUYV 640x480@30");
        assert_eq!(chosen("YUYV 640x480@30 1280x720@10", None, Some(10)), "YUYV 1280x720@10");
        // Nothing of the usual sizes: above before below.
        assert_eq!(chosen("MJPG 320x240@30 1920x1080@30 3840x2160@30", None, None), "MJPG 1920x1080@30");
        assert_eq!(chosen("MJPG 160x120@30 320x240@30", None, None), "MJPG 320x240@30");
    }

    #[test]
    fn raw_pictures_are_taken_where_they_are_as_fast() {
        assert_eq!(chosen(WEBCAM, Some((640, 480)), None), "YUYV 640x480@30");
        assert_eq!(chosen(WEBCAM, Some((1280, 720)), Some(10)), "YUYV 1280x720@10");
        assert_eq!(chosen(WEBCAM, Some((1280, 720)), Some(50)), "MJPG 1280x720@60");
        assert_eq!(chosen("GREY 640x480@30; MJPG 640x480@30", None, None), "MJPG 640x480@30");
    }

    #[test]
    fn film_codecs_only_if_there_is_nothing_else() {
        assert_eq!(chosen("H264 1280x720@30; MJPG 320x240@5", Some((1280, 720)), None), "MJPG 320x240@5");
        assert_eq!(chosen("H264 1280x720@30", None, None), "H264 1280x720@30");
        assert_eq!(choose(&formats("RGGB 640x480@30"), &Wish::default()), None);
        assert_eq!(choose(&[], &Wish::default()), None);
    }

    #[test]
    fn the_lowest_rate_that_is_enough_is_taken_and_broadcast_rates_count_as_whole_ones() {
        let ntsc = Rational(30000, 1001);
        let [fast, slow] = [60, 15].map(|n| Rational(n, 1));
        assert_eq!(fit_rate(&[fast, ntsc, slow], Rational(30, 1)).0, Some(ntsc));
        assert_eq!(fit_rate(&[fast, slow], Rational(24, 1)).0, Some(fast));
        assert_eq!(fit_rate(&[slow], Rational(24, 1)).0, Some(slow));
        assert_eq!(chosen("YUYV 640x480@", None, None), "YUYV 640x480@?");
    }
}
