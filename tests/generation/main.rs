//! Repainting from end to end: the real binary, the real plugin, a complete tiny model.

#[path = "../harness/mod.rs"]
mod harness;
mod options;
mod steering;
mod tiny;

use std::path::Path;
use std::time::{Duration, Instant};

use harness::{CLIP, Ran, Scratch, assert_plays, ffmpeg, frame_count, krea, probe, run, shared};

/// A folder with a model in it, and what is made there.
pub(crate) struct Studio {
    scratch: Scratch,
    model: String,
}

impl Studio {
    fn new(test: &str) -> Option<Self> {
        let scratch = Scratch::new();
        let model = tiny::model(test, &scratch)?;
        Some(Self { scratch, model })
    }

    fn path(&self, name: &str) -> String {
        self.scratch.path(name)
    }

    fn krea(&self, args: &[&str]) -> Ran {
        run(self.command(args))
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let size: &[&str] = if args.contains(&"--gen-size") { &[] } else { &["--gen-size", "64x48"] };
        let steps: &[&str] = if args.contains(&"--steps") { &[] } else { &["--steps", "2"] };
        let own = ["--model", &self.model, "--mask-model", "selfie", "--precision", "fp32", "--threads", "1", "-y"];
        let mut command = krea([&["run"], args, &own, size, steps].concat());
        command.env("XDG_STATE_HOME", self.path("state"));
        command
    }

    /// Repaints without loss, and gives the hashes and times of the frames that were made.
    fn frames(&self, name: &str, args: &[&str]) -> Vec<(String, f64)> {
        let out = self.path(name);
        self.krea(&[args, &["-o", &out, "--codec", "ffv1", "--pix-fmt", "yuv420p"]].concat()).exits(0);
        let mut hashes = std::process::Command::new("ffmpeg");
        hashes.args(["-v", "error", "-i", &out, "-map", "0:v", "-f", "framemd5", "-"]);
        let text = String::from_utf8(run(hashes).stdout).unwrap();
        let hash = |line: &str| line.rsplit(',').next().map(|h| h.trim().to_owned());
        let hashes = text.lines().filter(|l| !l.starts_with('#')).filter_map(hash);
        let times = probe(&out, "frames", &["-select_streams", "v:0", "-show_entries", "frame=pts_time"]);
        let times = times.iter().map(|f| f["pts_time"].as_str().unwrap().parse().unwrap());
        hashes.zip(times).collect()
    }

    fn stats(&self, args: &[&str]) -> serde_json::Value {
        let path = self.path("stats.json");
        self.krea(&[args, &["--stats", &path]].concat()).exits(0);
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// Moving stripes, then something wholly different, at 16 frames a second.
    fn two_scenes(&self) -> (String, String) {
        let (both, second) = (self.path("both.mkv"), self.path("second.mkv"));
        let scenes = "color=white:64x48:r=16:d=1,drawbox=x=4+t*8:y=8:w=16:h=32:color=gray:t=fill[a];\
                      color=black:64x48:r=16:d=1.5,drawbox=x=30:y=4+t*8:w=30:h=16:color=gray:t=fill[b]";
        let lossless = ["-c:v", "ffv1", "-pix_fmt", "yuv420p"];
        let graph = format!("{scenes};[a][b]concat=n=2:v=1[v]");
        ffmpeg(&[&["-filter_complex", &graph, "-map", "[v]"], &lossless[..], &[&both]].concat());
        ffmpeg(&[&["-ss", "1", "-i", &both], &lossless[..], &[&second]].concat());
        (both, second)
    }
}

fn hashes(frames: &[(String, f64)]) -> Vec<&str> {
    frames.iter().map(|(hash, _)| hash.as_str()).collect()
}

#[test]
fn frames_keep_their_own_times_and_sound_is_copied() {
    let Some(studio) = Studio::new("frames_keep_their_own_times_and_sound_is_copied") else { return };
    let out = studio.path("out.mkv");
    let made = studio.frames("out.mkv", &[CLIP, "--prompt", "oil painting"]);
    // 5 s at 16 frames a second, each at a time of the source's 25.
    assert_eq!(made.len(), 80);
    for (_, time) in &made {
        // Matroska has no times below zero, where this clip's sound begins: all of it is moved by that much.
        let beat = (time - made[0].1) * 25.0;
        assert!((beat - beat.round()).abs() < 0.03, "{time} is no time of the source");
    }
    assert!(made.windows(2).all(|w| (0.03..0.09).contains(&(w[1].1 - w[0].1))));
    let sound = |path: &str| {
        let packets = probe(path, "packets", &["-select_streams", "a", "-show_data_hash", "md5"]);
        packets.iter().map(|p| p["data_hash"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(sound(&out), sound(CLIP));
    assert_plays(&out);
    let every = studio.frames("every.mkv", &[CLIP, "--prompt", "x", "--keep-fps", "--duration", "1"]);
    assert_eq!(every.len(), 25);
}

#[test]
fn the_same_words_and_seed_make_the_same_pictures() {
    let Some(studio) = Studio::new("the_same_words_and_seed_make_the_same_pictures") else { return };
    let base = [CLIP, "--duration", "1", "--prompt", "oil painting"];
    let first = studio.frames("a.mkv", &base);
    assert_eq!(first, studio.frames("b.mkv", &base));
    let differs = |name: &str, args: &[&str]| {
        let other = studio.frames(name, args);
        let same = first.iter().zip(&other).filter(|(a, b)| a.0 == b.0).count();
        assert!(other.len() == first.len() && same == 0, "{args:?}: {same} frames are the same");
    };
    differs("seed.mkv", &[&base[..], &["--seed", "1"]].concat());
    differs("prompt.mkv", &[CLIP, "--duration", "1", "--prompt", "snow at night"]);
    differs("strength.mkv", &[&base[..], &["--strength", "0.3"]].concat());
    differs("steps.mkv", &[&base[..], &["--steps", "3"]].concat());
    differs("tae.mkv", &[&base[..], &["--vae", "tae"]].concat());
    // A longer video begins as a shorter one does.
    let long = studio.frames("long.mkv", &[CLIP, "--duration", "2", "--prompt", "oil painting"]);
    assert_eq!(hashes(&long)[..9], hashes(&first)[..9]);
}

#[test]
fn a_timeline_changes_the_prompt_at_its_time() {
    let Some(studio) = Studio::new("a_timeline_changes_the_prompt_at_its_time") else { return };
    let file = studio.path("looks.txt");
    let base = [CLIP, "--duration", "3"];
    std::fs::write(&file, "0 oil painting\n00:01.5 snow at night, fade 0s\n").unwrap();
    let changed = studio.frames("timeline.mkv", &[&base[..], &["--prompt-file", &file]].concat());
    let constant = studio.frames("constant.mkv", &[&base[..], &["--prompt", "oil painting"]].concat());
    let differ = changed.iter().zip(&constant).position(|(a, b)| a.0 != b.0).expect("the prompt changes");
    // Blocks of 9 and 12 frames at 16 a second: it changes with the block whose middle lies behind the time.
    assert!([9, 21, 33].contains(&differ), "frame {differ}");
    assert!((changed[differ].1 - 1.5).abs() <= 12.0 / 16.0, "at {}", changed[differ].1);
    std::fs::write(&file, "1 a\n1 b\n").unwrap();
    studio.krea(&[CLIP, "--prompt-file", &file, "-o", &studio.path("x.mp4")]).fails(2, &["looks.txt", "line 2"]);
}

#[test]
fn a_region_leaves_the_rest_as_it_was() {
    let Some(studio) = Studio::new("a_region_leaves_the_rest_as_it_was") else { return };
    let pixels = |path: &str| {
        let mut raw = std::process::Command::new("ffmpeg");
        raw.args(["-v", "error", "-i", path, "-frames:v", "1", "-pix_fmt", "gray", "-f", "rawvideo", "-"]);
        run(raw).stdout
    };
    let original = pixels(CLIP);
    let unchanged = |region: &str| {
        let name = format!("{region}.mkv");
        studio.frames(&name, &[CLIP, "--duration", "0.5", "--prompt", "x", "--region", region]);
        let made = pixels(&studio.path(&name));
        assert_eq!(made.len(), 640 * 480, "the source's size is kept");
        let same = |x: usize, y: usize| made[y * 640 + x].abs_diff(original[y * 640 + x]) <= 1;
        // The upper left corner is background; the middle of the lower half is the person.
        let share = |x0: usize, y0: usize| {
            let inside = (0..60 * 60).filter(|i| same(x0 + i % 60, y0 + i / 60)).count();
            inside as f64 / 3600.0
        };
        (share(560, 10), share(290, 400))
    };
    let (behind, person) = unchanged("person");
    assert!(behind > 0.99 && person < 0.5, "person: {behind} of the background, {person} of the person are unchanged");
    let (behind, person) = unchanged("background");
    assert!(behind < 0.5 && person > 0.99, "background: {behind} of the background, {person} of the person");
}

#[test]
fn words_alone_make_a_video_as_long_as_was_asked_for() {
    let Some(studio) = Studio::new("words_alone_make_a_video_as_long_as_was_asked_for") else { return };
    let fox = ["--prompt", "a fox in the snow"];
    let frames = studio.frames("fox.mkv", &[&fox[..], &["--blocks", "3"]].concat());
    assert_eq!(frames.len(), 9 + 12 + 12);
    assert!(frames.iter().enumerate().all(|(i, (_, t))| (t - i as f64 / 16.0).abs() < 0.002));
    let second = studio.frames("second.mkv", &[&fox[..], &["--duration", "1"]].concat());
    assert_eq!(hashes(&second), hashes(&frames)[..16]);
    let picture = studio.path("fox.png");
    studio.krea(&[&fox[..], &["-o", &picture]].concat()).exits(0);
    assert_eq!(image::image_dimensions(&picture).unwrap(), (64, 48));
    let start = studio.path("start.png");
    image::RgbImage::from_fn(100, 80, |x, y| image::Rgb([x as u8 * 2, y as u8 * 3, 99])).save(&start).unwrap();
    let going_on = studio.frames("going_on.mkv", &[&fox[..], &["--blocks", "1", "--start-image", &start]].concat());
    assert!(going_on.len() == 9 || going_on.len() == 12, "{}", going_on.len());
    assert_ne!(hashes(&going_on)[0], hashes(&frames)[0]);
    studio
        .krea(&[&fox[..], &["--start-image", CLIP, "-o", &studio.path("x.mp4")]].concat())
        .fails(3, &["astronaut.mp4", "picture"]);
}

#[test]
fn a_cut_begins_anew() {
    let Some(studio) = Studio::new("a_cut_begins_anew") else { return };
    let (both, second) = studio.two_scenes();
    let whole = studio.frames("whole.mkv", &[&both, "--prompt", "x"]);
    assert_eq!(whole.len(), 40);
    // The second scene is painted as if there had been no first one.
    let alone = studio.frames("alone.mkv", &[&second, "--prompt", "x"]);
    assert_eq!(hashes(&whole)[16..], hashes(&alone)[..]);
    let stats = studio.stats(&[&both, "--prompt", "x", "-o", &studio.path("o.mp4")]);
    assert_eq!(stats["generation"]["resets"], 1);
    let on = studio.frames("on.mkv", &[&both, "--prompt", "x", "--reset-on-cut=false"]);
    assert_ne!(hashes(&on)[16..], hashes(&alone)[..]);
}

#[test]
fn a_model_that_gives_no_numbers_lets_the_frames_pass() {
    let Some(studio) = Studio::new("a_model_that_gives_no_numbers_lets_the_frames_pass") else { return };
    tiny::spoil(&Path::new(&studio.model).join("dit.safetensors"), "model.head.head.bias");
    let out = studio.path("out.mkv");
    let stats = studio.stats(&[CLIP, "--prompt", "x", "--duration", "2", "-o", &out, "--gen-size", "128x96"]);
    assert_eq!((&stats["frames_out"], &stats["generation"]["passed"]), (&32.into(), &32.into()));
    assert!(stats["generation"]["lost"].as_u64().unwrap() >= 3);
    // What passes is the input itself, brought to the model's size.
    let mut compare = std::process::Command::new("ffmpeg");
    let graph = "[0]select=eq(n\\,0)[a];[1]select=eq(n\\,0),scale=128:96:flags=bicubic[b];[a][b]psnr";
    compare.args(["-v", "info", "-i", &out, "-i", CLIP, "-filter_complex", graph, "-f", "null", "-"]);
    let said = run(compare).stderr;
    let psnr: f64 = said.split("average:").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    assert!(psnr > 30.0, "{psnr} dB");
}

#[test]
fn two_interrupts_end_a_block_in_its_middle() {
    let Some(studio) = Studio::new("two_interrupts_end_a_block_in_its_middle") else { return };
    let out = studio.path("out.mkv");
    // A hundred steps: one block takes far longer than the test is ready to wait.
    let args = [CLIP, "--prompt", "x", "--steps", "100", "--gen-size", "320x240", "--region", "all", "-o", &out];
    let mut child = studio.command(&args).stderr(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_secs(4));
    // SAFETY: kill(2) takes no pointer; the child has not been waited for, so its number is still its own.
    let interrupt = || assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    interrupt();
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    interrupt();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    let left: Vec<_> = studio.scratch.names().into_iter().filter(|n| n.ends_with(".part")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_video_lasts_as_long_as_the_input() {
    let name = "the_video_lasts_as_long_as_the_input";
    let (Some(studio), Some(vfr)) = (Studio::new(name), shared(name, "media/clips/webcam_vfr.mp4")) else { return };
    let late = studio.path("late.mkv");
    ffmpeg(&[
        "-i",
        CLIP,
        "-itsoffset",
        "1.3",
        "-i",
        CLIP,
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-c",
        "copy",
        "-t",
        "4",
        &late,
    ]);
    let end = |path: &str, stream: &str| {
        let frames = probe(path, "packets", &["-select_streams", stream]);
        let of = |p: &serde_json::Value, key: &str| p[key].as_str().and_then(|s| s.parse::<f64>().ok()).unwrap_or(0.0);
        frames.iter().map(|p| of(p, "pts_time") + of(p, "duration_time")).fold(0.0, f64::max)
    };
    for input in [vfr.to_str().unwrap(), &late] {
        let out = studio.path("out.mp4");
        studio.krea(&[input, "--prompt", "x", "-o", &out]).exits(0);
        let (before, after) = (end(input, "v:0"), end(&out, "v:0"));
        assert!((before - after).abs() <= 0.07, "{input}: {before} s became {after} s");
    }
    let starts = |path: &str| -> f64 {
        let packets = probe(path, "packets", &["-select_streams", "a"]);
        packets[0]["pts_time"].as_str().unwrap().parse().unwrap()
    };
    assert!((starts(&late) - starts(&studio.path("out.mp4"))).abs() < 0.001);
}

#[test]
fn live_video_is_repainted_at_its_own_pace() {
    let Some(studio) = Studio::new("live_video_is_repainted_at_its_own_pace") else { return };
    let out = studio.path("live.mkv");
    let graph = "lavfi:testsrc2=size=128x96:rate=30,realtime";
    // Far more work than there is time for.
    let args = [graph, "--prompt", "x", "--duration", "6", "--steps", "4", "--gen-size", "192x144", "-o", &out];
    let stats = studio.stats(&args);
    assert_plays(&out);
    let frames = frame_count(&out) as u64;
    let lost = stats["generation"]["skipped"].as_u64().unwrap() + stats["dropped"].as_u64().unwrap();
    assert!(frames > 0 && frames + lost >= 60, "{frames} made, {lost} left out");
    assert_eq!(stats["exit"], 0);
}
