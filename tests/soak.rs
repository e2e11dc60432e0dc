//! A live run that goes on and on: its memory stays as it is, and so do its threads and its open files.
//!
//! Takes three minutes, or as many seconds as `KREA_SOAK_SECONDS` says; `make soak` runs it for half an hour.

mod harness;
mod live_support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use harness::{CLIP, Scratch, krea};
use live_support::{Camera, RAW, Running};

/// What the system says about a process.
#[derive(Clone, Copy, Debug)]
struct Use {
    /// Kilobytes.
    memory: u64,
    threads: u64,
    files: usize,
}

impl Use {
    fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let number = |name: &str| -> u64 {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).expect("the kernel tells");
            line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap()
        };
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it is ours").count();
        Self { memory: number("VmRSS"), threads: number("Threads"), files }
    }
}

/// The most memory in some samples. What the allocator gives back between two of them comes and goes.
fn peak(samples: &[Use]) -> f64 {
    samples.iter().map(|u| u.memory).max().unwrap() as f64
}

/// A client that comes, asks for something, and goes.
fn ask(socket: &str, line: &str) {
    let Ok(mut stream) = UnixStream::connect(socket) else { return };
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    writeln!(stream, "{line}").unwrap();
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply).unwrap();
    assert!(reply.contains("\"ok\":true"), "{line}: {reply}");
}

#[test]
#[ignore = "takes three minutes; `make soak` runs it for thirty"]
fn a_long_live_run_takes_no_more_than_a_short_one() {
    let seconds = std::env::var("KREA_SOAK_SECONDS").map_or(180, |s| s.parse().expect("a number of seconds"));
    let (whole, warm) = (Duration::from_secs(seconds), Duration::from_secs((seconds / 3).min(60)));
    let scratch = Scratch::new();
    let socket = scratch.path("control");
    let camera = Camera::start(30, |number| 90 + (number % 30) as u8);
    let args = ["run", &camera.url, "--remove-bg", "--mask-model", "selfie", "--control", &socket];
    let mut running = Running::start(krea(args.into_iter().chain(RAW).chain(["--progress", "none"])));
    let pid = running.child.id();
    let begun = Instant::now();
    let (mut samples, mut frames, mut asked): (Vec<(Duration, Use)>, u64, usize) = (Vec::new(), 0, 0);
    let backgrounds = ["blur", "#00ff00", CLIP, "off", "#0000ff"];
    while begun.elapsed() < whole {
        drop(running.frame());
        frames += 1;
        if frames.is_multiple_of(30) {
            samples.push((begun.elapsed(), Use::of(pid)));
            let line = serde_json::json!({"background": backgrounds[asked % backgrounds.len()]});
            ask(&socket, &line.to_string());
            asked += 1;
        }
    }
    let after: Vec<Use> = samples.iter().filter(|(at, _)| *at > warm).map(|(_, sample)| *sample).collect();
    let part = (after.len() / 4).max(1);
    let (first, last) = (&after[..part], &after[after.len() - part..]);
    let grown = peak(last) / peak(first) - 1.0;
    let most = |samples: &[Use]| {
        (samples.iter().map(|u| u.threads).max().unwrap(), samples.iter().map(|u| u.files).max().unwrap())
    };
    eprintln!(
        "{frames} frames, {asked} commands in {seconds} s; memory {:.0} kB, then {:.0} kB ({:+.2} %); threads and files {:?}, then {:?}",
        peak(first),
        peak(last),
        grown * 100.0,
        most(first),
        most(last)
    );
    assert!(grown.abs() <= 0.02, "the memory has changed by {:.1} %: {after:?}", grown * 100.0);
    let (before, now) = (most(first), most(last));
    assert!(now.0 <= before.0 && now.1 <= before.1, "threads and files: {before:?}, then {now:?}");
    assert!(frames > seconds * 20, "{frames} frames in {seconds} s");
    running.interrupt();
}
