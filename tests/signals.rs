//! A stop is a normal end: whenever a signal comes, the exit code is right, what lies there plays, and no temporary file
//! stays. Only SIGKILL may leave one, and it does no harm.

mod harness;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::{CLIP, Ran, Scratch, assert_plays, frame_count, krea, run};
use libc::{SIGINT, SIGKILL, SIGTERM};

/// Nothing in these tests takes so long, on however slow a machine.
const FOREVER: Duration = Duration::from_secs(120);

fn send(child: &Child, signal: i32) {
    let pid = i32::try_from(child.id()).unwrap();
    // SAFETY: kill(2) takes no pointer; the child has not been waited for, so its number is still its own.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

fn start(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(child: Child) -> Ran {
    child.wait_with_output().unwrap().into()
}

/// Waits until `done`, as long as the child runs.
fn wait_until(child: &mut Child, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        if let Some(status) = child.try_wait().unwrap() {
            let mut stderr = String::new();
            std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
            panic!("ended too early, {status}: {stderr}");
        }
        assert!(begun.elapsed() < FOREVER, "nothing happened");
        sleep(Duration::from_millis(2));
    }
}

/// The temporary file holds more than its header: frames are being written.
fn grows(out: &str) -> impl FnMut() -> bool + use<> {
    let part = format!("{out}.part");
    move || fs::metadata(&part).is_ok_and(|m| m.len() > 100_000)
}

/// A job that takes a while: one thread, a long clip.
fn long_job(scratch: &Scratch, out: &str) -> Command {
    let input = scratch.path("long.mp4");
    if !Path::new(&input).exists() {
        scratch.long_clip(20);
    }
    krea(["run", &input, "-o", out, "--threads", "1", "--progress", "none"])
}

#[test]
fn one_signal_in_the_middle_finishes_what_is_on_its_way() {
    for (signal, code) in [(SIGINT, 130), (SIGTERM, 143)] {
        for name in ["out.mp4", "out.mkv"] {
            let scratch = Scratch::new();
            let out = scratch.path(name);
            let mut child = start(long_job(&scratch, &out));
            wait_until(&mut child, grows(&out));
            send(&child, signal);
            end(child).exits(code).says("stopping");
            assert_plays(&out);
            assert!(frame_count(&out) < 2500, "it was stopped in the middle");
            assert_eq!(scratch.names(), ["long.mp4", name]);
        }
    }
}

#[test]
fn a_second_signal_still_closes_the_file() {
    let scratch = Scratch::new();
    let out = scratch.path("out.mp4");
    let mut child = start(long_job(&scratch, &out));
    wait_until(&mut child, grows(&out));
    send(&child, SIGINT);
    sleep(Duration::from_millis(1));
    send(&child, SIGINT);
    end(child).exits(130);
    assert_plays(&out);
    assert_eq!(scratch.names(), ["long.mp4", "out.mp4"]);
}

#[test]
fn a_signal_at_any_moment_leaves_a_whole_file_or_none() {
    let scratch = Scratch::new();
    let out = scratch.path("out.mp4");
    // faststart makes the trailer long: the whole file is written once more.
    let job = || {
        let mut command = krea(["run", CLIP, "-o", &out, "-y", "--duration", "1", "--progress", "none"]);
        command.args(["--", "-movflags", "+faststart"]);
        command
    };
    let begun = Instant::now();
    end(start(job())).exits(0);
    let whole = begun.elapsed();
    let frames = frame_count(&out);
    for (signal, code) in [(SIGINT, 130), (SIGTERM, 143)] {
        for step in 0..16 {
            fs::remove_file(&out).ok();
            let child = start(job());
            // From before main() to after the end, twice as dense over the last quarter, where the trailer is written.
            let share = if step < 8 { f64::from(step) / 10.7 } else { 0.75 + f64::from(step - 8) / 22.0 };
            sleep(whole.mul_f64(share));
            send(&child, signal);
            let ran = end(child);
            assert!(!ran.stderr.contains("error") && !ran.stderr.contains("panicked"), "{}", ran.stderr);
            match (ran.code, ran.signal) {
                (Some(0), _) => assert_eq!(frame_count(&out), frames, "it says that it was done"),
                (Some(c), _) => assert_eq!(c, code, "{}", ran.stderr),
                // Before the program could say that it wants to hear of signals.
                (None, s) => {
                    assert_eq!(s, Some(signal));
                    assert!(scratch.names().is_empty());
                }
            }
            if Path::new(&out).exists() {
                assert_plays(&out);
            }
            assert!(scratch.names().iter().all(|n| n == "out.mp4"), "step {step}: {:?}", scratch.names());
        }
    }
}

#[test]
fn what_stood_there_is_replaced_only_by_a_whole_file() {
    let scratch = Scratch::new();
    let out = scratch.path("out.mp4");
    fs::write(&out, b"precious").unwrap();
    let mut command = long_job(&scratch, &out);
    command.arg("-y");
    let mut child = start(command);
    wait_until(&mut child, grows(&out));
    send(&child, SIGKILL);
    assert_eq!(end(child).signal, Some(SIGKILL));
    assert_eq!(fs::read(&out).unwrap(), b"precious");
    // What SIGKILL left behind is in nobody's way.
    assert_eq!(scratch.names(), ["long.mp4", "out.mp4", "out.mp4.part"]);
    run(krea(["run", CLIP, "-o", &out, "-y", "--duration", "0.5"])).exits(0);
    assert_plays(&out);
    assert_eq!(scratch.names(), ["long.mp4", "out.mp4"]);
}

#[test]
fn an_input_that_never_speaks_can_be_stopped() {
    let scratch = Scratch::new();
    let out = scratch.path("out.mp4");
    let mut command = krea(["run", "-", "-o", &out]);
    let mut child = start({
        command.stdin(Stdio::piped());
        command
    });
    // Long enough for it to wait for its input; should it not be there yet, the signal comes early, which is as good.
    sleep(Duration::from_millis(500));
    let open = child.stdin.take();
    send(&child, SIGINT);
    end(child).exits(130);
    drop(open);
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}

#[test]
fn an_input_that_falls_silent_can_be_stopped() {
    let scratch = Scratch::new();
    let (input, out) = (scratch.path("in.ts"), scratch.path("out.mkv"));
    harness::ffmpeg(&["-i", &scratch.long_clip(4), "-c", "copy", &input]);
    let bytes = fs::read(&input).unwrap();
    let mut command = krea(["run", "-", "-o", &out]);
    command.stdin(Stdio::piped());
    let mut child = start(command);
    let mut stdin = child.stdin.take().unwrap();
    // A pipe holds 64 kB, so most of this has been read when the call returns.
    stdin.write_all(&bytes[..bytes.len() * 3 / 4]).unwrap();
    wait_until(&mut child, grows(&out));
    send(&child, SIGTERM);
    end(child).exits(143);
    drop(stdin);
    assert_plays(&out);
    assert_eq!(scratch.names(), ["in.ts", "long.mp4", "out.mkv"]);
}

#[test]
fn two_programs_do_not_write_one_file() {
    let scratch = Scratch::new();
    let out = scratch.path("out.mp4");
    let mut child = start(long_job(&scratch, &out));
    wait_until(&mut child, grows(&out));
    run(krea(["run", CLIP, "-o", &out])).fails(6, &["another krea"]);
    send(&child, SIGINT);
    end(child).exits(130);
    assert_plays(&out);
}
