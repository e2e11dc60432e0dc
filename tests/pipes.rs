//! krea between two programs: what a shell joins with `|`, a reader that stalls, a reader that dies, a writer that dies.

mod harness;
mod live_support;

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread::{self, sleep};
use std::time::Duration;

use harness::{CLIP, Scratch, assert_plays, cleaned, frame_count, krea, probe, run};
use live_support::{Camera, RAW, Running};

const KREA: &str = env!("CARGO_BIN_EXE_krea");

/// Runs a line of shell in which every program must succeed.
#[track_caller]
fn shell(script: &str) -> harness::Ran {
    run(cleaned("bash", ["-c", &format!("set -o pipefail; {script}")])).exits(0)
}

#[test]
fn a_player_gets_what_it_is_piped() {
    // `krea run ... -o - -f nut | ffplay -`, with a player that needs no screen.
    for format in ["", "-f nut", "-f mpegts"] {
        let player =
            "ffprobe -v error -count_frames -select_streams v -show_entries stream=nb_read_frames,width -of csv=p=0 -";
        let script = format!("{KREA} run {CLIP} --remove-bg --mask-model selfie -o - {format} | {player}");
        let said = String::from_utf8(shell(&script).stdout).unwrap();
        assert_eq!(said.lines().next().map(|l| l.trim_end_matches(',')), Some("640,125"), "{format}: {said}");
    }
}

#[test]
fn between_two_ffmpegs_every_frame_keeps_its_time_and_the_sound_comes_through() {
    let scratch = Scratch::new();
    let (out, stats) = (scratch.path("out.mkv"), scratch.path("stats.json"));
    let script = format!(
        "ffmpeg -v error -nostdin -i {CLIP} -c copy -f matroska - | \
         {KREA} run - --remove-bg --mask-model selfie --stats {stats} -o - | ffmpeg -v error -nostdin -i - -c copy {out}"
    );
    shell(&script);
    assert_plays(&out);
    let times = |path: &str| -> Vec<f64> {
        let frames = probe(path, "frames", &["-select_streams", "v", "-show_entries", "frame=pts_time"]);
        let times: Vec<f64> = frames.iter().map(|f| f["pts_time"].as_str().unwrap().parse().unwrap()).collect();
        // ffmpeg moves all streams so that sound which begins before zero begins at zero.
        times.iter().map(|t| t - times[0]).collect()
    };
    let (before, after) = (times(CLIP), times(&out));
    assert_eq!(before.len(), after.len());
    assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 0.002), "{after:?}");
    assert!(probe(&out, "packets", &["-select_streams", "a"]).len() > 100);
    // What comes through a pipe may be live, so its latency is told.
    let stats: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(stats).unwrap()).unwrap();
    assert!(stats["latency_ms"]["p50"].is_f64(), "{stats}");
}

#[test]
fn a_pipe_of_bare_pictures_keeps_each_of_them() {
    // The last one too: y4m counts frames and tells no times. Endings are names of formats.
    let scratch = Scratch::new();
    let out = scratch.path("out.mkv");
    let pictures = format!("ffmpeg -v error -i {CLIP} -f yuv4mpegpipe -pix_fmt yuv420p -");
    shell(&format!("{pictures} | {KREA} run - -o - -f y4m | ffmpeg -v error -i - {out}"));
    assert_eq!(frame_count(&out), 125);
    run(krea(["run", CLIP, "--fps", "25", "-o", &out, "-y"])).exits(0);
    assert_eq!(frame_count(&out), 125);
}

#[test]
fn the_format_of_standard_input_can_be_said() {
    let read = |format: &str| {
        let mut command = krea(["run", "-", "--input-format", format, "-o", "-", "-f", "null"]);
        command.stdin(std::fs::File::open(CLIP).unwrap());
        run(command)
    };
    read("mov").exits(0);
    read("nosuch").fails(2, &["nosuch"]);
    read("matroska").fails(3, &["standard input"]);
}

#[test]
fn a_reader_that_stalls_loses_nothing_of_a_file() {
    let mut command = krea(["run", CLIP]);
    command.args(RAW);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut frames = child.stdout.take().unwrap();
    let mut frame = vec![0; 640 * 480 * 3 / 2];
    let mut count = 0;
    while frames.read_exact(&mut frame).is_ok() {
        count += 1;
        if count == 20 {
            sleep(Duration::from_secs(3));
        }
    }
    let ran: harness::Ran = child.wait_with_output().unwrap().into();
    ran.exits(0);
    assert_eq!(count, 125);
}

#[test]
fn a_reader_that_stalls_gets_fresh_frames_of_what_is_live() {
    let camera = Camera::start(25, |_| 100);
    let args = ["run", &camera.url];
    let mut running = Running::start(krea(args.into_iter().chain(RAW)));
    (0..10).for_each(|_| drop(running.frame()));
    let stalled = camera.sent();
    sleep(Duration::from_secs(3));
    // One frame is in the pipe, one in the writer's hands, two in each queue.
    let numbers: Vec<usize> = (0..20).map(|_| running.frame().number()).collect();
    assert!(numbers.iter().filter(|n| **n < stalled + 60).count() <= 6, "{numbers:?} after {stalled}");
    assert!(numbers.windows(2).all(|w| w[0] < w[1]), "{numbers:?}");
    running.interrupt();
}

#[test]
fn a_reader_that_goes_is_a_normal_end() {
    // A file, and what is live; `head` takes a little and goes.
    shell(&format!("({KREA} run {CLIP} --size 1280x960 -o -; echo $? >&2) | head -c 100000 > /dev/null")).says("\n0\n");
    let camera = Camera::start(25, |_| 100);
    let args = ["run", &camera.url];
    let mut running = Running::start(krea(args.into_iter().chain(RAW)));
    drop(running.frame());
    running.hang_up();
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("error"), "{said}");
}

#[test]
fn a_writer_that_dies_leaves_a_whole_file() {
    let scratch = Scratch::new();
    let (clip, out) = (scratch.path("clip.ts"), scratch.path("out.mp4"));
    harness::ffmpeg(&["-i", CLIP, "-c", "copy", "-f", "mpegts", &clip]);
    let bytes = std::fs::read(clip).unwrap();
    let mut child = krea(["run", "-", "-o", &out]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // In the middle of a packet.
    pipe.write_all(&bytes[..bytes.len() / 2 + 77]).unwrap();
    drop(pipe);
    let ran: harness::Ran = child.wait_with_output().unwrap().into();
    ran.exits(0);
    assert_plays(&out);
    assert!((40..100).contains(&frame_count(&out)), "{}", frame_count(&out));
}

#[test]
fn max_latency_makes_a_pipe_live() {
    let scratch = Scratch::new();
    let stats = scratch.path("stats.json");
    let mut feeder = Command::new("ffmpeg");
    feeder.args([
        "-v",
        "error",
        "-nostdin",
        "-re",
        "-stream_loop",
        "-1",
        "-i",
        CLIP,
        "-t",
        "8",
        "-an",
        "-c:v",
        "rawvideo",
    ]);
    let mut feeder = feeder.args(["-f", "nut", "-"]).stdout(Stdio::piped()).spawn().unwrap();
    let args = ["run", "-", "--max-latency", "300", "--stats", &stats];
    let mut command = krea(args.into_iter().chain(RAW));
    command.stdin(feeder.stdout.take().unwrap());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut frames = child.stdout.take().unwrap();
    let reader = thread::spawn(move || {
        let (mut frame, mut count) = (vec![0; 640 * 480 * 3 / 2], 0);
        while frames.read_exact(&mut frame).is_ok() {
            count += 1;
            // Four times too slow.
            sleep(Duration::from_millis(160));
        }
        count
    });
    let ran: harness::Ran = child.wait_with_output().unwrap().into();
    ran.exits(0);
    assert!(feeder.wait().unwrap().success());
    let count = reader.join().unwrap();
    let stats: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(stats).unwrap()).unwrap();
    let (read, dropped) = (stats["frames_in"].as_u64().unwrap(), stats["dropped"].as_u64().unwrap());
    assert_eq!((read, count + dropped), (200, 200), "{stats}");
    assert!(dropped > 100, "{stats}");
    assert!(stats["latency_ms"]["max"].as_f64().unwrap() < 900.0, "{stats}");
}
