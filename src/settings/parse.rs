//! Readers for the values of single flags.

use std::path::Path;

use ffmpeg_next::Rational;

use super::{Backing, Smooth};

/// A colour, `transparent`, `blur`, `blur=RADIUS`, or a file that exists.
pub(crate) fn backing(text: &str) -> Result<Backing, String> {
    if let Some(radius) = text.strip_prefix("blur=") {
        return match radius.parse() {
            Ok(px) if px > 0.0 && px <= 1000.0 => Ok(Backing::Blur(Some(px))),
            _ => Err(format!("blur={radius}: the radius is a number of pixels from 0 to 1000")),
        };
    }
    match text {
        "transparent" | "none" => return Ok(Backing::Transparent),
        "blur" => return Ok(Backing::Blur(None)),
        _ => {}
    }
    if Path::new(text).is_file() {
        return Ok(Backing::File(text.into()));
    }
    text.parse()
        .map(Backing::Colour)
        .map_err(|_| format!("'{text}' is no colour (#00ff00, navy), not transparent or blur, and no file that exists"))
}

/// `WxH` with both given.
pub(crate) fn whole_size(text: &str) -> Result<(u32, u32), String> {
    match size(text)? {
        (0, _) | (_, 0) => Err(format!("'{text}': write both, as 640x384")),
        both => Ok(both),
    }
}

/// `WxH`, `Wx` or `xH`; what is left open is 0.
pub(crate) fn size(text: &str) -> Result<(u32, u32), String> {
    let wrong = || format!("'{text}' is no size: write 1280x720, 1280x or x720");
    let (w, h) = text.split_once(['x', 'X', ':']).ok_or_else(wrong)?;
    let side = |s: &str| match s {
        "" | "-1" | "-2" => Ok(0),
        _ => s.parse::<u32>().ok().filter(|n| (1..=32768).contains(n)).ok_or_else(wrong),
    };
    match (side(w)?, side(h)?) {
        (0, 0) => Err(wrong()),
        size => Ok(size),
    }
}

/// Whole milliseconds, at least one.
pub(crate) fn milliseconds(text: &str) -> Result<std::time::Duration, String> {
    match text.parse() {
        Ok(ms @ 1..=3_600_000) => Ok(std::time::Duration::from_millis(ms)),
        _ => Err(format!("'{text}': write whole milliseconds, from 1 on")),
    }
}

/// `30`, `29.97` or `30000/1001`.
pub(crate) fn rate(text: &str) -> Result<Rational, String> {
    let wrong = || format!("'{text}' is no frame rate: write 30, 29.97 or 30000/1001");
    let rate = match text.split_once('/') {
        Some((n, d)) => Rational(n.parse().map_err(|_| wrong())?, d.parse().map_err(|_| wrong())?),
        None => {
            let value: f64 = text.parse().map_err(|_| wrong())?;
            let ntsc = Rational((value.ceil() * 1000.0) as i32, 1001);
            // The broadcast rates are written with two or three digits and mean a fraction of 1001.
            if (f64::from(ntsc) - value).abs() < 0.005 && value.fract() != 0.0 {
                ntsc
            } else {
                Rational((value * 1000.0).round() as i32, 1000).reduce()
            }
        }
    };
    let valid = rate.denominator() > 0 && (0.01..=1000.0).contains(&f64::from(rate));
    if valid { Ok(rate) } else { Err(wrong()) }
}

/// Seconds, `MM:SS` or `HH:MM:SS`, with a fraction if need be.
pub(crate) fn time(text: &str) -> Result<f64, String> {
    let wrong = || format!("'{text}' is no time: write 90, 1:30 or 0:01:30.5");
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 {
        return Err(wrong());
    }
    let mut seconds = 0.0;
    for part in parts {
        let value: f64 = part.parse().map_err(|_| wrong())?;
        if !value.is_finite() || value < 0.0 {
            return Err(wrong());
        }
        seconds = seconds * 60.0 + value;
    }
    Ok(seconds)
}

/// A length of time, more than nothing.
pub(crate) fn span(text: &str) -> Result<std::time::Duration, String> {
    match time(text)? {
        s if s > 0.0 && s < 1e9 => Ok(std::time::Duration::from_secs_f64(s)),
        _ => Err(format!("'{text}' must be more than 0 s")),
    }
}

pub(crate) fn fraction(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|v| (0.0..=1.0).contains(v)).ok_or_else(|| format!("'{text}' is not from 0 to 1"))
}

pub(crate) fn pixels(text: &str) -> Result<f32, String> {
    let valid = |v: &f32| (0.0..=200.0).contains(v);
    text.parse().ok().filter(valid).ok_or_else(|| format!("'{text}' is not a number of pixels from 0 to 200"))
}

pub(crate) fn smooth(text: &str) -> Result<Smooth, String> {
    match text {
        "off" => Ok(Smooth(None)),
        _ => fraction(text).map(|v| Smooth(Some(v))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_ffmpeg_reads_them() {
        assert_eq!(time("90"), Ok(90.0));
        assert_eq!(time("1:30"), Ok(90.0));
        assert_eq!(time("0:01:30.5"), Ok(90.5));
        assert!(time("-1").is_err() && time("1:2:3:4").is_err() && time("nan").is_err() && time("").is_err());
    }

    #[test]
    fn rates_may_be_fractions() {
        assert_eq!(rate("30"), Ok(Rational(30, 1)));
        assert_eq!(rate("29.97"), Ok(Rational(30000, 1001)));
        assert_eq!(rate("23.976"), Ok(Rational(24000, 1001)));
        assert_eq!(rate("12.5"), Ok(Rational(25, 2)));
        assert!(rate("0").is_err() && rate("30/0").is_err() && rate("-5").is_err() && rate("fast").is_err());
    }

    #[test]
    fn one_side_of_a_size_may_be_left_open() {
        assert_eq!(size("1280x720"), Ok((1280, 720)));
        assert_eq!(size("1280x"), Ok((1280, 0)));
        assert_eq!(size("x720"), Ok((0, 720)));
        assert!(size("x").is_err() && size("0x4").is_err() && size("big").is_err());
        assert!(whole_size("640x").is_err());
    }

    #[test]
    fn a_backing_is_a_word_a_colour_or_a_file() {
        assert_eq!(backing("blur=12"), Ok(Backing::Blur(Some(12.0))));
        assert_eq!(backing("transparent"), Ok(Backing::Transparent));
        assert_eq!(backing("#0f0"), Ok(Backing::GREEN));
        assert_eq!(backing("Cargo.toml"), Ok(Backing::File("Cargo.toml".into())));
        assert!(backing("no/such/file.png").is_err() && backing("blur=-1").is_err());
    }
}
