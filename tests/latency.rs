//! Latency stays bounded: a camera draws each frame's number, a reader finds it again and knows how old it is.

mod harness;
mod live_support;

use std::io::Read;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use harness::{Scratch, krea, run};
use live_support::{Camera, RAW, Running, onnx};

/// What a test reads from the output for a while: the ages of the frames, and their numbers.
struct Seen {
    ages: Vec<Duration>,
    numbers: Vec<usize>,
}

impl Seen {
    /// Reads for `time`, resting for `pause` after each frame.
    fn watch(camera: &Camera, running: &mut Running, time: Duration, pause: Duration) -> Self {
        let mut seen = Self { ages: Vec::new(), numbers: Vec::new() };
        let begun = Instant::now();
        while begun.elapsed() < time {
            let number = running.frame().number();
            seen.ages.push(camera.age(number));
            seen.numbers.push(number);
            sleep(pause);
        }
        seen
    }

    fn percentile(&self, part: f64) -> Duration {
        let mut ages = self.ages.clone();
        ages.sort();
        ages[((ages.len() - 1) as f64 * part) as usize]
    }

    /// The frames come in their order, none twice.
    #[track_caller]
    fn in_order(&self) {
        assert!(self.numbers.windows(2).all(|w| w[0] < w[1]), "{:?}", self.numbers);
    }

    fn missed(&self) -> usize {
        self.numbers.last().unwrap() + 1 - self.numbers[0] - self.numbers.len()
    }
}

fn start(camera: &Camera, more: &[&str]) -> Running {
    let args = ["run", &camera.url, "--progress", "json"];
    Running::start(krea(args.into_iter().chain(RAW).chain(more.iter().copied())))
}

#[test]
fn an_undisturbed_stream_is_shown_at_once_and_whole() {
    let camera = Camera::start(30, |_| 100);
    let mut running = start(&camera, &[]);
    Seen::watch(&camera, &mut running, Duration::from_secs(2), Duration::ZERO);
    let seen = Seen::watch(&camera, &mut running, Duration::from_secs(3), Duration::ZERO);
    seen.in_order();
    let (p50, p95) = (seen.percentile(0.5), seen.percentile(0.95));
    eprintln!("p50 {p50:?}, p95 {p95:?}, {} frames, {} missed", seen.numbers.len(), seen.missed());
    assert!(p50 < Duration::from_millis(200), "{p50:?}");
    running.wait_until("a line with a latency", |said| said.contains("\"latency_ms\":{\"p50\""));
    let said = running.lines();
    let last = said.last().unwrap();
    eprintln!("by its own account {}", last["latency_ms"]);
    assert!(last["latency_ms"]["p50"].as_f64().unwrap() < 200.0, "{last}");
    assert!((25.0..=35.0).contains(&last["fps_in"].as_f64().unwrap()), "{last}");
    assert!(last["queues"]["sink"].is_u64() && last["drops"]["source"].is_u64(), "{last}");
    running.interrupt();
}

#[test]
fn a_picture_does_not_wait_for_the_next_one() {
    let camera = Camera::start(1, |_| 100);
    // Threads that share the work picture by picture would, on a machine of any size.
    let mut running = start(&camera, &["--threads", "4"]);
    // On a busy machine some may take longer than a second; but one that waits always does.
    let newest = (0..6).any(|_| running.frame().number() + 1 == camera.sent());
    assert!(newest, "{} sent: every picture came after the next one was sent", camera.sent());
    running.interrupt();
}

#[test]
fn neither_encoder_nor_container_holds_a_live_picture_in_a_pipe() {
    for format in ["h264", "matroska"] {
        let camera = Camera::start(5, |_| 100);
        let mut command = krea(["run", &camera.url, "-o", "-", "-f", format]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // More than a header.
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 1000]).unwrap();
        let sent = camera.sent();
        child.kill().unwrap();
        child.wait().unwrap();
        // x264 looks at ten pictures and more where it may, and Matroska collects five seconds.
        assert!(sent < 10, "{format}: the first picture came after {sent} were sent");
    }
}

#[test]
fn a_slow_reader_gets_fresh_frames_and_then_all_of_them() {
    let camera = Camera::start(30, |_| 100);
    let mut running = start(&camera, &["--max-latency", "400"]);
    Seen::watch(&camera, &mut running, Duration::from_secs(1), Duration::ZERO);
    // Four times too slow.
    let slow = Seen::watch(&camera, &mut running, Duration::from_secs(6), Duration::from_millis(133));
    slow.in_order();
    assert!(slow.missed() > 60, "{:?}", slow.numbers);
    // A frame that is being written when its time is up, and what the pipe holds, come on top.
    let worst = slow.percentile(1.0);
    assert!(worst < Duration::from_millis(900), "{worst:?}");
    Seen::watch(&camera, &mut running, Duration::from_secs(1), Duration::ZERO);
    let after = Seen::watch(&camera, &mut running, Duration::from_secs(2), Duration::ZERO);
    assert!(after.percentile(0.5) < Duration::from_millis(200), "{:?}", after.percentile(0.5));
    let said = running.interrupt();
    let end = said.lines().rev().find(|l| l.contains("\"event\":\"end\"")).expect("the last line");
    let end: serde_json::Value = serde_json::from_str(end).unwrap();
    assert!(end["dropped"].as_u64().unwrap() >= slow.missed() as u64 / 2, "{end}");
}

#[test]
fn a_network_that_is_too_slow_costs_frames_and_not_time() {
    let scratch = Scratch::new();
    let model = scratch.path("slow.onnx");
    onnx::dawdles(model.as_ref(), 12);
    let stats = scratch.path("stats.json");
    let camera = Camera::start(30, |_| 100);
    let more = ["--mask-model", &model, "--remove-bg", "--mask-every", "1", "--max-latency", "1000", "--stats", &stats];
    let mut running = start(&camera, &more);
    Seen::watch(&camera, &mut running, Duration::from_secs(2), Duration::ZERO);
    let seen = Seen::watch(&camera, &mut running, Duration::from_secs(6), Duration::ZERO);
    seen.in_order();
    let worst = seen.percentile(1.0);
    eprintln!(
        "p50 {:?}, worst {worst:?}, {} frames, {} missed",
        seen.percentile(0.5),
        seen.numbers.len(),
        seen.missed()
    );
    // The last stage may begin with a frame that is just young enough.
    assert!(worst < Duration::from_millis(1500), "{worst:?}");
    assert!(seen.missed() > 0, "the network is too fast for this test: {:?}", seen.numbers);
    running.interrupt();
    let stats: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(stats).unwrap()).unwrap();
    assert!(stats["dropped"].as_u64().unwrap() >= seen.missed() as u64, "{stats}");
    assert!(stats["latency_ms"]["p95"].as_f64().unwrap() < 1500.0, "{stats}");
    assert_eq!(stats["mask"]["followed"], 0, "{stats}");
}

#[test]
fn masks_of_every_few_frames_let_all_frames_through() {
    let scratch = Scratch::new();
    let model = scratch.path("slow.onnx");
    onnx::dawdles(model.as_ref(), 8);
    let stats = scratch.path("stats.json");
    let camera = Camera::start(15, |_| 100);
    let more = ["--mask-model", &model, "--remove-bg", "--stats", &stats];
    let mut running = start(&camera, &more);
    Seen::watch(&camera, &mut running, Duration::from_secs(3), Duration::ZERO);
    let seen = Seen::watch(&camera, &mut running, Duration::from_secs(4), Duration::ZERO);
    seen.in_order();
    let missed = seen.missed();
    eprintln!("p50 {:?}, {} frames, {missed} missed", seen.percentile(0.5), seen.numbers.len());
    assert!(missed * 4 < seen.numbers.len(), "{missed} of {:?}", seen.numbers);
    running.interrupt();
    let stats: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(stats).unwrap()).unwrap();
    eprintln!("{}", stats["mask"]);
}

#[test]
fn a_bound_is_for_what_comes_live() {
    run(krea(["run", harness::CLIP, "-o", "/tmp/none.mp4", "--max-latency", "100"]))
        .fails(2, &["--max-latency", "live"]);
    run(krea(["run", harness::CLIP, "-o", "/tmp/none.mp4", "--max-latency", "soon"])).exits(2);
}
