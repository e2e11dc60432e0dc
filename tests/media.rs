//! Pictures, times, sound and colours from end to end: what goes in and what comes out of the real binary.

mod harness;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use harness::{CLIP, Scratch, assert_plays, ffmpeg, frame_count, krea, probe, run, shared};
use serde_json::Value;

/// Every clip that FFmpeg reads whole.
const CLIPS: [&str; 21] = [
    "anamorphic_sar.mp4",
    "classroom_four_seated.mp4",
    "doctor_1280x720.mp4",
    "doctor_1920x1080.mp4",
    "doctor_960x540.mp4",
    "enter_leave_frame.mp4",
    "hevc_10bit.mp4",
    "no_person_bottle.mp4",
    "no_person_cars_audio.mp4",
    "no_person_cartoon_audio_5.1.mp4",
    "odd_639x479_444.mp4",
    "one_frame.mp4",
    "portrait_270x480.mp4",
    "rotated_meta90_480x270.mp4",
    "store_three_back_view.mp4",
    "three_people_walking.mp4",
    "vp9_alpha.webm",
    "webcam_2997.mp4",
    "webcam_640x480.mp4",
    "webcam_audio.mp4",
    "webcam_vfr.mp4",
];

/// `krea run input --remove-bg -o output` with the built-in model and more flags; must end well.
#[track_caller]
fn green(input: &str, output: &str, more: &[&str]) {
    let args = ["run", input, "--remove-bg", "--mask-model", "selfie", "-o", output, "-y"];
    run(krea(args.iter().chain(more).copied())).exits(0);
}

/// Presentation times of the video in seconds, in order of showing, from the packets (so that no decoder guesses).
fn times(path: &str) -> Vec<String> {
    let mut times: Vec<f64> = probe(path, "packets", &["-select_streams", "v:0"])
        .iter()
        .map(|p| p["pts_time"].as_str().expect("each packet has a time").parse().unwrap())
        .collect();
    times.sort_by(f64::total_cmp);
    times.iter().map(|t| format!("{t:.6}")).collect()
}

fn stream(path: &str, which: &str) -> Value {
    probe(path, "streams", &["-select_streams", which]).into_iter().next().expect("the stream is there")
}

/// One frame as packed RGB, converted exactly.
fn rgb(path: &str, frame: usize) -> (Vec<u8>, usize) {
    let (video, width) = (stream(path, "v:0"), "width");
    let width = video[width].as_u64().unwrap() as usize;
    let select = format!("select=eq(n\\,{frame}),scale=flags=accurate_rnd+full_chroma_int");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-i", path, "-vf", &select, "-frames:v", "1"]);
    command.args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]);
    (run(command).exits(0).stdout, width)
}

/// The pixels of the left and right border, an eighth of the width each: background in the clip, away from any edge.
fn borders((pixels, width): &(Vec<u8>, usize)) -> Vec<[u8; 3]> {
    let edge = width / 8;
    let is_border = |i: usize| i % width < edge || i % width >= width - edge;
    // The lower half of the picture is all shoulders.
    let upper = pixels.chunks_exact(3).take(pixels.len() / 3 / 2).enumerate();
    upper.filter(|(i, _)| is_border(*i)).map(|(_, p)| [p[0], p[1], p[2]]).collect()
}

/// A person in front of a plain wall: the borders of the upper half hold nobody.
const PLAIN: &str = "media/clips/webcam_640x480.mp4";

#[test]
fn every_frame_keeps_its_time() {
    let scratch = Scratch::new();
    for clip in CLIPS {
        let Some(input) = shared("every_frame_keeps_its_time", &format!("media/clips/{clip}")) else { return };
        let (input, out) = (input.to_str().unwrap(), scratch.path("out.mp4"));
        // WebM counts in milliseconds; MP4 keeps those as they are.
        green(input, &out, &["--preset", "ultrafast"]);
        assert_eq!(times(input), times(&out), "{clip}");
        assert_eq!(frame_count(input), frame_count(&out), "{clip}");
        let length = |path: &str| {
            let ends = probe(path, "packets", &["-select_streams", "v:0"]).into_iter().map(|p| {
                let number = |key: &str| p[key].as_str().map_or(0.0, |t| t.parse::<f64>().unwrap());
                number("pts_time") + number("duration_time")
            });
            ends.fold(0.0, f64::max)
        };
        let (before, after) = (length(input), length(&out));
        let rate: Vec<f64> =
            stream(input, "v:0")["avg_frame_rate"].as_str().unwrap().split('/').map(|n| n.parse().unwrap()).collect();
        assert!((before - after).abs() <= rate[1] / rate[0] + 0.001, "{clip}: {before} s and {after} s");
    }
}

#[test]
fn rotation_and_pixel_shape_are_applied() {
    let scratch = Scratch::new();
    for (clip, width, height) in [("rotated_meta90_480x270.mp4", 270, 480), ("anamorphic_sar.mp4", 640, 480)] {
        let test = "rotation_and_pixel_shape_are_applied";
        let Some(input) = shared(test, &format!("media/clips/{clip}")) else { return };
        let out = scratch.path("out.mp4");
        green(input.to_str().unwrap(), &out, &["--duration", "0.2"]);
        let video = stream(&out, "v:0");
        assert_eq!((video["width"].as_u64(), video["height"].as_u64()), (Some(width), Some(height)), "{clip}");
        assert_eq!(video["sample_aspect_ratio"], "1:1", "{clip}");
        assert!(video["side_data_list"].is_null(), "{clip}: the rotation is in the pixels");
        // The same picture as ffmpeg shows it, but for the background.
        let plain = scratch.path("plain.mp4");
        run(krea(["run", input.to_str().unwrap(), "-o", &plain, "--duration", "0.2", "-y"])).exits(0);
        let reference = scratch.path("reference.mp4");
        let scale = format!("scale={width}:{height},setsar=1");
        ffmpeg(&["-i", input.to_str().unwrap(), "-t", "0.2", "-vf", &scale, "-crf", "10", &reference]);
        let (a, b) = (rgb(&plain, 0).0, rgb(&reference, 0).0);
        let error: f64 = a.iter().zip(&b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        let psnr = 10.0 * (255.0_f64.powi(2) / (error / a.len() as f64)).log10();
        assert!(a.len() == b.len() && psnr > 35.0, "{clip}: {psnr:.1} dB");
    }
}

#[test]
fn sound_is_copied_bit_for_bit() {
    let scratch = Scratch::new();
    let packets = |path: &str, index: usize| -> Vec<(String, String, String)> {
        let options = ["-select_streams", &format!("a:{index}"), "-show_data_hash", "sha256"];
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let list = probe(path, "packets", &options);
        list.iter().map(|p| (text(&p["pts_time"]), text(&p["duration_time"]), text(&p["data_hash"]))).collect()
    };
    // Two tracks, the second one late by 0.4 s and longer than the picture.
    let tracks = scratch.path("tracks.mkv");
    ffmpeg(&[
        "-i",
        CLIP,
        "-itsoffset",
        "0.4",
        "-f",
        "lavfi",
        "-i",
        "sine=frequency=300:duration=6",
        "-map",
        "0",
        "-map",
        "1",
        "-c:v",
        "copy",
        "-c:a:0",
        "copy",
        "-c:a:1",
        "libvorbis",
        &tracks,
    ]);
    let mut inputs = vec![(CLIP.to_owned(), "out.mp4", 1), (tracks, "out.mkv", 2)];
    for clip in ["webcam_audio.mp4", "no_person_cartoon_audio_5.1.mp4"] {
        let Some(path) = shared("sound_is_copied_bit_for_bit", &format!("media/clips/{clip}")) else { return };
        inputs.push((path.to_str().unwrap().to_owned(), "out.mp4", 1));
    }
    for (input, name, tracks) in inputs {
        let out = scratch.path(name);
        green(&input, &out, &["--preset", "ultrafast"]);
        for track in 0..tracks {
            let (before, after) = (packets(&input, track), packets(&out, track));
            assert!(!before.is_empty());
            assert_eq!(before, after, "{input}, track {track}");
        }
    }
}

#[test]
fn what_the_container_refuses_is_left_out_and_told() {
    let scratch = Scratch::new();
    let subtitles = scratch.path("s.srt");
    std::fs::write(&subtitles, "1\n00:00:00,500 --> 00:00:02,000\nhello\n").unwrap();
    let chapters = scratch.path("c.txt");
    std::fs::write(
        &chapters,
        ";FFMETADATA1\ntitle=A film\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=2000\ntitle=First\n\
         [CHAPTER]\nTIMEBASE=1/1000\nSTART=2000\nEND=5000\ntitle=Second\n",
    )
    .unwrap();
    let full = scratch.path("full.mkv");
    ffmpeg(&[
        "-i",
        CLIP,
        "-i",
        &subtitles,
        "-i",
        &chapters,
        "-map",
        "0",
        "-map",
        "1",
        "-map_metadata",
        "2",
        "-map_chapters",
        "2",
        "-metadata:s:a:0",
        "language=fin",
        "-c",
        "copy",
        "-c:s",
        "srt",
        &full,
    ]);

    let out = scratch.path("out.mkv");
    green(&full, &out, &["--preset", "ultrafast"]);
    assert_eq!(stream(&out, "s:0")["codec_name"], "subrip");
    assert_eq!(stream(&out, "a:0")["tags"]["language"], "fin");
    let titles: Vec<_> = probe(&out, "chapters", &[]).iter().map(|c| c["tags"]["title"].clone()).collect();
    assert_eq!(titles, ["First", "Second"]);

    // MP4 has no place for SubRip; the job goes on without it, and says so.
    let out = scratch.path("out.mp4");
    let ran = run(krea(["run", &full, "-o", &out, "--preset", "ultrafast"])).exits(0).says("subtitles (subrip)");
    assert!(ran.stderr.contains("left out"), "{}", ran.stderr);
    let kinds: Vec<_> = probe(&out, "streams", &[]).iter().map(|s| s["codec_type"].clone()).collect();
    assert_eq!(&kinds[..2], ["video", "audio"]);
    assert_eq!(probe(&out, "chapters", &[]).len(), 2);
}

#[test]
fn a_cover_picture_is_not_the_video() {
    let scratch = Scratch::new();
    let cover = scratch.path("cover.png");
    ffmpeg(&["-f", "lavfi", "-i", "color=red:size=300x300", "-frames:v", "1", &cover]);
    let film = scratch.path("film.mp4");
    ffmpeg(&[
        "-i",
        &cover,
        "-i",
        CLIP,
        "-map",
        "0",
        "-map",
        "1",
        "-c",
        "copy",
        "-disposition:v:0",
        "attached_pic",
        &film,
    ]);
    let out = scratch.path("out.mp4");
    green(&film, &out, &["--preset", "ultrafast"]);
    let video = stream(&out, "v:0");
    assert_eq!((video["width"].as_u64(), video["codec_name"].as_str()), (Some(640), Some("h264")));
    let pictures = probe(&out, "streams", &["-select_streams", "v:1"]);
    assert_eq!(pictures[0]["disposition"]["attached_pic"], 1);

    let song = scratch.path("song.m4a");
    let only_cover = ["-map", "0", "-map", "1:a", "-c", "copy", "-disposition:v:0", "attached_pic"];
    ffmpeg(&[&["-i", &cover, "-i", CLIP], &only_cover[..], &[&song]].concat());
    run(krea(["run", &song, "-o", &out, "-y"])).fails(3, &["song.m4a", "only a cover picture"]);
}

#[test]
fn green_is_exact_where_the_format_allows_it() {
    let test = "green_is_exact_where_the_format_allows_it";
    let Some(input) = shared(test, PLAIN) else { return };
    let scratch = Scratch::new();
    let cases = [
        ("out.mkv", ["--codec", "ffv1", "--pix-fmt", "bgr0"]),
        ("out.mkv", ["--codec", "ffv1", "--pix-fmt", "gbrp10le"]),
        ("out.mkv", ["--codec", "ffv1", "--pix-fmt", "yuv444p"]),
        ("out.mkv", ["--codec", "ffv1", "--pix-fmt", "yuv444p10le"]),
        ("out.png", ["--codec", "png", "--pix-fmt", "rgb24"]),
    ];
    for (name, flags) in cases {
        let out = scratch.path(name);
        green(input.to_str().unwrap(), &out, &[&flags[..], &["--duration", "0.2"]].concat());
        let wrong = borders(&rgb(&out, 0)).into_iter().filter(|p| *p != [0, 255, 0]).count();
        assert_eq!(wrong, 0, "{flags:?}");
    }
}

#[test]
fn green_survives_compression_for_either_matrix() {
    let test = "green_survives_compression_for_either_matrix";
    let Some(input) = shared(test, PLAIN) else { return };
    let scratch = Scratch::new();
    for (matrix, tag) in [("bt601", "smpte170m"), ("bt709", "bt709")] {
        for (range, full) in [("tv", false), ("pc", true)] {
            let source = scratch.path("source.mkv");
            let filter = format!("scale=out_color_matrix={matrix}:out_range={range},format=yuv420p");
            ffmpeg(&[
                "-i",
                input.to_str().unwrap(),
                "-t",
                "0.5",
                "-vf",
                &filter,
                "-colorspace",
                tag,
                "-color_range",
                range,
                "-crf",
                "10",
                "-preset",
                "ultrafast",
                &source,
            ]);
            let out = scratch.path("out.mp4");
            green(&source, &out, &["--crf", "18", "--pix-fmt", "yuv420p"]);
            let video = stream(&out, "v:0");
            assert_eq!((video["color_space"].as_str(), video["color_range"].as_str()), (Some(tag), Some(range)));
            let worst = borders(&rgb(&out, 5)).into_iter().map(|[r, g, b]| r.max(255 - g).max(b)).max().unwrap();
            assert!(worst <= 3, "{matrix}, full range {full}: off by {worst}");
        }
    }
}

#[test]
fn pictures_go_in_and_out() {
    let scratch = Scratch::new();
    let photo = scratch.path("photo.jpg");
    ffmpeg(&["-i", CLIP, "-frames:v", "1", "-q:v", "2", &photo]);
    for out in ["out.png", "out.jpg", "out.webp", "out.mp4"] {
        let out = scratch.path(out);
        green(&photo, &out, &[]);
        assert_eq!(frame_count(&out), 1, "{out}");
        assert_eq!(stream(&out, "v:0")["width"], 640, "{out}");
    }
    // A film into one picture takes the first frame and says so.
    let out = scratch.path("first.png");
    let args = ["run", CLIP, "--remove-bg", "--mask-model", "selfie", "-o", &out];
    run(krea(args)).exits(0).says("holds one frame");
    assert_eq!(frame_count(&out), 1);
    // A film into numbered pictures takes all of them.
    let folder = Scratch::new();
    green(CLIP, &folder.path("%03d.png"), &["--duration", "0.4"]);
    assert_eq!(folder.names(), (1..=10).map(|n| format!("{n:03}.png")).collect::<Vec<_>>());
}

#[test]
fn exif_orientation_is_applied() {
    let scratch = Scratch::new();
    let photo = scratch.path("photo.jpg");
    ffmpeg(&["-i", CLIP, "-frames:v", "1", &photo]);
    let bytes = std::fs::read(&photo).unwrap();
    // TIFF header, one entry: orientation (0x0112) as a short, 6 = turn a quarter clockwise.
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let mut turned = bytes[..2].to_vec();
    turned.extend([0xFF, 0xE1]);
    turned.extend(((exif.len() + 2) as u16).to_be_bytes());
    turned.extend(exif);
    turned.extend(&bytes[2..]);
    std::fs::write(&photo, turned).unwrap();
    let out = scratch.path("out.png");
    green(&photo, &out, &[]);
    let video = stream(&out, "v:0");
    assert_eq!((video["width"].as_u64(), video["height"].as_u64()), (Some(480), Some(640)));
}

#[test]
fn transparency_is_stored_where_the_container_can() {
    let scratch = Scratch::new();
    for (name, codec, format) in [
        ("out.mov", "prores", "yuva444p"),
        ("out.mkv", "vp9", ""),
        ("out.webm", "vp9", ""),
        ("%02d.png", "png", "rgba"),
    ] {
        let folder = Scratch::new();
        let out = folder.path(name);
        green(CLIP, &out, &["--bg", "transparent", "--duration", "0.2"]);
        let made = if name.starts_with('%') { folder.path("03.png") } else { out };
        let video = stream(&made, "v:0");
        assert_eq!(video["codec_name"], codec, "{name}");
        assert!(video["pix_fmt"].as_str().unwrap().starts_with(format), "{name}: {}", video["pix_fmt"]);
        let mut command = Command::new("ffmpeg");
        if codec == "vp9" {
            // FFmpeg's own decoder leaves the alpha out.
            command.args(["-c:v", "libvpx-vp9"]);
        }
        command.args(["-v", "error", "-i", &made, "-frames:v", "1", "-vf", "alphaextract", "-pix_fmt", "gray"]);
        command.args(["-f", "rawvideo", "-"]);
        let alpha = run(command).exits(0).stdout;
        let (clear, solid) = (alpha.iter().filter(|a| **a < 8).count(), alpha.iter().filter(|a| **a > 247).count());
        let share = |n: usize| n as f64 / alpha.len() as f64;
        assert!(share(clear) > 0.2 && share(solid) > 0.2, "{name}: {:.2} {:.2}", share(clear), share(solid));
    }
    // MP4 cannot, and says what can.
    let out = scratch.path("out.mp4");
    let args = ["run", CLIP, "--bg", "transparent", "--mask-model", "selfie", "-o", &out];
    run(krea(args)).fails(2, &["transparency", ".mov", ".webm"]);
    assert!(scratch.names().is_empty());
}

#[test]
fn backgrounds_stand_where_nobody_is() {
    let test = "backgrounds_stand_where_nobody_is";
    let Some(input) = shared(test, PLAIN) else { return };
    let input = input.to_str().unwrap();
    let scratch = Scratch::new();
    let lossless = ["--codec", "ffv1", "--pix-fmt", "bgr0", "--duration", "0.5"];
    let out = scratch.path("out.mkv");

    green(input, &out, &[&lossless[..], &["--bg", "#204060"]].concat());
    assert!(borders(&rgb(&out, 3)).iter().all(|p| *p == [0x20, 0x40, 0x60]));

    let picture = scratch.path("bg.png");
    ffmpeg(&["-f", "lavfi", "-i", "color=0xAA3311:size=100x30", "-frames:v", "1", &picture]);
    green(input, &out, &[&lossless[..], &["--bg", &picture]].concat());
    let close = |p: &[u8; 3], q: [u8; 3]| p.iter().zip(q).all(|(a, b)| a.abs_diff(b) <= 2);
    assert!(borders(&rgb(&out, 3)).iter().all(|p| close(p, [0xAA, 0x33, 0x11])));

    // Red for 0.1 s, blue for 0.1 s, then red again: the video loops.
    let film = scratch.path("bg.mkv");
    let lavfi = "color=red:s=64x64:r=20:d=0.1[a];color=blue:s=64x64:r=20:d=0.1[b];[a][b]concat";
    ffmpeg(&["-f", "lavfi", "-i", lavfi, "-c:v", "ffv1", "-pix_fmt", "bgr0", &film]);
    green(input, &out, &[&lossless[..], &["--bg", &film]].concat());
    for (frame, red) in [(0, true), (2, true), (4, false), (7, true), (10, false), (13, true)] {
        let [r, _, b] = borders(&rgb(&out, frame))[0];
        assert_eq!(r > b, red, "frame {frame} at {:.2} s", frame as f64 / 30.0);
    }

    // Out of focus: no longer the source, but not far from it.
    green(input, &out, &[&lossless[..], &["--bg", "blur=20"]].concat());
    let plain = scratch.path("plain.mkv");
    run(krea(["run", input, "-o", &plain, "--codec", "ffv1", "--pix-fmt", "bgr0", "--duration", "0.5"])).exits(0);
    let mean = |p: &[[u8; 3]]| p.iter().map(|p| u64::from(p[1])).sum::<u64>() as f64 / p.len() as f64;
    let (soft, sharp) = (borders(&rgb(&out, 3)), borders(&rgb(&plain, 3)));
    assert!(soft != sharp && (mean(&soft) - mean(&sharp)).abs() < 6.0, "{} {}", mean(&soft), mean(&sharp));
}

#[test]
fn pipes_carry_video_with_its_times() {
    let scratch = Scratch::new();
    let (source, out) = (scratch.path("source.mkv"), scratch.path("out.mkv"));
    ffmpeg(&["-i", CLIP, "-c", "copy", &source]);
    // ffmpeg | krea | ffmpeg, as a person would type it.
    let script = format!(
        "ffmpeg -v error -i '{source}' -c copy -f matroska - | \
         '{}' run - --remove-bg --mask-model selfie --preset ultrafast -q -o - | ffmpeg -v error -y -i - -c copy '{out}'",
        env!("CARGO_BIN_EXE_krea")
    );
    let ran = run(harness::cleaned("bash", ["-c", &format!("set -o pipefail; {script}")])).exits(0);
    assert_eq!(ran.stderr, "");
    assert_eq!(times(&source), times(&out));
    assert!(probe(&out, "packets", &["-select_streams", "a"]).len() > 50);

    for format in ["nut", "mpegts", "yuv4mpegpipe", "rawvideo"] {
        let args = ["run", CLIP, "--duration", "1", "-o", "-", "-f", format, "-q"];
        let codec: &[&str] = if format == "nut" { &["--codec", "rawvideo"] } else { &[] };
        let ran = run(krea(args.iter().chain(codec).copied())).exits(0);
        let frame = 640 * 480 * 3 / 2;
        match format {
            "rawvideo" => assert_eq!(ran.stdout.len(), 25 * frame),
            "yuv4mpegpipe" => assert!(ran.stdout.starts_with(b"YUV4MPEG2 W640 H480 F25:1")),
            _ => {
                let file = scratch.path(format);
                std::fs::write(&file, &ran.stdout).unwrap();
                assert_eq!(frame_count(&file), 25, "{format}");
            }
        }
    }
}

#[test]
fn part_of_an_input_can_be_taken() {
    let scratch = Scratch::new();
    let out = scratch.path("out.mp4");
    green(CLIP, &out, &["--start", "0:01.2", "--duration", "2", "--preset", "ultrafast"]);
    let times = times(&out);
    assert_eq!((times.len(), times[0].as_str(), times[49].as_str()), (50, "0.000000", "1.960000"));
    let sound = probe(&out, "packets", &["-select_streams", "a"]);
    let at = |p: &Value| p["pts_time"].as_str().unwrap().parse::<f64>().unwrap();
    assert!(at(&sound[0]).abs() < 0.05 && (at(sound.last().unwrap()) - 2.0).abs() < 0.05);
    // The first frame is the one that was shown at 1.2 s.
    let (here, there) = (scratch.path("here.mkv"), scratch.path("all.mkv"));
    let exact = ["--codec", "ffv1", "-y"];
    run(krea(["run", CLIP, "-o", &there].into_iter().chain(exact))).exits(0);
    run(krea(["run", CLIP, "-o", &here, "--start", "1.2", "--duration", "0.1"].into_iter().chain(exact))).exits(0);
    assert_eq!(rgb(&here, 0), rgb(&there, 30));
}

#[test]
fn size_and_rate_can_be_chosen() {
    let scratch = Scratch::new();
    let out = scratch.path("out.mp4");
    for (size, width, height) in [("320x200", 320, 200), ("320x", 320, 240), ("x241", 320, 240)] {
        green(CLIP, &out, &["--size", size, "--fps", "10"]);
        let video = stream(&out, "v:0");
        assert_eq!((video["width"].as_u64(), video["height"].as_u64()), (Some(width), Some(height)), "{size}");
        assert_eq!(video["avg_frame_rate"], "10/1");
        assert_eq!(frame_count(&out), 50);
        assert_plays(&out);
    }
}

#[test]
fn interlaced_video_stays_marked() {
    let scratch = Scratch::new();
    let input = scratch.path("in.mp4");
    let flags = ["-flags", "+ildct+ilme", "-x264opts", "tff=1"];
    let interlace = ["-vf", "interlace=scan=tff,setfield=tff", "-t", "1"];
    ffmpeg(&[&["-i", CLIP], &interlace[..], &flags[..], &[&input]].concat());
    assert_eq!(stream(&input, "v:0")["field_order"], "tt");
    let out = scratch.path("out.mp4");
    green(&input, &out, &[]);
    assert_eq!(stream(&out, "v:0")["field_order"], "tt");
}

#[test]
fn a_change_of_size_in_mid_stream_is_survived() {
    let scratch = Scratch::new();
    let (a, b, joined) = (scratch.path("a.ts"), scratch.path("b.ts"), scratch.path("joined.ts"));
    ffmpeg(&["-i", CLIP, "-t", "1", "-an", &a]);
    ffmpeg(&["-i", CLIP, "-t", "1", "-an", "-vf", "scale=320:240", "-output_ts_offset", "1", &b]);
    let bytes = [std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap()].concat();
    std::fs::write(&joined, bytes).unwrap();
    let out = scratch.path("out.mp4");
    green(&joined, &out, &[]);
    assert_eq!(stream(&out, "v:0")["width"], 640);
    assert_eq!(frame_count(&out), frame_count(&joined));
    assert!(frame_count(&out) > 45);
    assert_plays(&out);
}

#[test]
fn sizes_as_small_and_odd_as_they_come() {
    let scratch = Scratch::new();
    for size in ["1x1", "2x2", "33x17", "17x400"] {
        let (raw, input) = (scratch.path("raw"), scratch.path("in.mkv"));
        let (width, height) = size.split_once('x').unwrap();
        let pixels = width.parse::<usize>().unwrap() * height.parse::<usize>().unwrap();
        std::fs::write(&raw, (0..pixels * 3 * 4).map(|i| (i * 7) as u8).collect::<Vec<_>>()).unwrap();
        let form = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-r", "10", "-s", size, "-i", &raw];
        ffmpeg(&[&form[..], &["-c:v", "ffv1", "-pix_fmt", "bgr0", &input]].concat());
        for out in ["out.mkv", "out.mp4", "out.png"] {
            let out = scratch.path(out);
            green(&input, &out, &[]);
            let expected = if out.ends_with("png") { 1 } else { 4 };
            assert_eq!(frame_count(&out), expected, "{size} {out}");
        }
    }
}

#[test]
fn too_large_a_picture_is_refused_before_memory_is_taken() {
    let scratch = Scratch::new();
    let out = scratch.path("out.mp4");
    let ran = run(krea(["run", CLIP, "--max-pixels", "10000", "-o", &out]));
    ran.fails(3, &["astronaut.mp4", "640x480", "--max-pixels"]);
}

#[test]
fn a_local_file_cannot_reach_the_network() {
    let scratch = Scratch::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let playlist = scratch.path("list.m3u8");
    let url = format!("http://{}/secret.ts", listener.local_addr().unwrap());
    let text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n");
    std::fs::write(&playlist, text).unwrap();
    let out = scratch.path("out.mp4");
    let ran = run(krea(["run", &playlist, "-o", &out]));
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    assert!(listener.accept().is_err(), "a connection was made");
}

#[test]
fn ffmpeg_options_reach_encoder_and_container() {
    let scratch = Scratch::new();
    let out = scratch.path("out.mp4");
    let args = ["run", CLIP, "-o", &out, "--duration", "2", "--", "-g", "10", "-movflags", "+faststart"];
    run(krea(args.into_iter().chain(["-metadata", "title=hello", "-an"]))).exits(0);
    let keys = probe(&out, "packets", &["-select_streams", "v:0"]);
    let keys = keys.iter().filter(|p| p["flags"].as_str().unwrap().starts_with('K')).count();
    assert!(keys >= 5, "{keys} key frames");
    assert!(probe(&out, "streams", &["-select_streams", "a"]).is_empty());
    let bytes = std::fs::read(&out).unwrap();
    let find = |tag: &[u8]| bytes.windows(4).position(|w| w == tag).unwrap();
    assert!(find(b"moov") < find(b"mdat"), "the index stands in front");
    assert!(bytes.windows(5).any(|w| w == b"hello"));
    let out = scratch.path("no.mp4");
    run(krea(["run", CLIP, "-o", &out, "--", "-nonsense", "1"])).fails(2, &["-nonsense"]);
}

#[test]
fn the_report_accounts_for_every_frame() {
    let scratch = Scratch::new();
    let (out, stats) = (scratch.path("out.mp4"), scratch.path("stats.json"));
    let args = ["run", CLIP, "--remove-bg", "--mask-model", "selfie", "-o", &out, "--stats", &stats];
    let ran = run(krea(args.into_iter().chain(["--progress", "json"]))).exits(0);
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&stats).unwrap()).unwrap();
    assert_eq!((report["version"].as_u64(), report["exit"].as_u64()), (Some(1), Some(0)));
    assert_eq!((report["frames_in"].as_u64(), report["frames_out"].as_u64()), (Some(125), Some(125)));
    let mask = &report["mask"];
    let count = |key: &str| mask[key].as_u64().unwrap();
    assert_eq!(count("masked") + count("held") + count("empty"), 125);
    let stages: BTreeMap<_, _> = report["stages"].as_array().unwrap().iter().map(|s| (s["name"].as_str(), s)).collect();
    for stage in ["source", "mask", "composite", "sink"] {
        assert_eq!(stages[&Some(stage)]["frames"], 125, "{stage}");
    }
    let last = ran.stderr.lines().rfind(|l| l.starts_with('{')).expect("a JSON line");
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!((last["event"].as_str(), last["frames"].as_u64()), (Some("end"), Some(125)));
}

#[test]
fn quiet_is_quiet() {
    // Nothing on stdout, nothing on stderr but what was asked for.
    let scratch = Scratch::new();
    let out = scratch.path("out.mp4");
    let mut command = krea(["run", CLIP, "--remove-bg", "--mask-model", "selfie", "-o", &out, "-q"]);
    command.stdout(Stdio::piped());
    let ran = run(command).exits(0);
    assert!(ran.stdout.is_empty() && ran.stderr.is_empty(), "{}", ran.stderr);
}
