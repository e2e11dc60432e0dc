//! Live streams from a real RTSP server on the loopback interface: it plays, dies and comes back, refuses, wants a
//! password, falls silent, and changes its size.

mod harness;
#[path = "live_support/recording.rs"]
mod recording;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use harness::{Scratch, assert_plays_live, frame_count, krea, probe, run, skip};
use libc::{SIGCONT, SIGKILL, SIGSTOP};
use recording::Recording;

/// Debian's Python, which has GStreamer's bindings.
const PYTHON: &str = "/usr/bin/python3";

struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// `None`, said aloud, where there is no GStreamer to serve with.
    fn start(test: &str, args: &[&str]) -> Option<Self> {
        let bindings = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer";
        let probe = Command::new(PYTHON).args(["-c", bindings]).stderr(Stdio::null()).status();
        if !probe.is_ok_and(|s| s.success()) {
            skip(test, "no gst-rtsp-server; `.ci/deps test` installs it");
            return None;
        }
        Some(Self::begin(args))
    }

    fn begin(args: &[&str]) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/rtsp.py");
        let mut command = Command::new(PYTHON);
        let mut child =
            command.arg(script).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it was probed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("the server speaks");
        let url = line.strip_prefix("READY ").unwrap_or_else(|| panic!("the server does not start: {line}")).trim();
        Self { url: url.to_owned(), child }
    }

    fn port(&self) -> &str {
        let (_, rest) = self.url.rsplit_once(':').expect("a port is in the address");
        rest.split('/').next().expect("split gives at least one part")
    }

    fn signal(&self, signal: i32) {
        send(&self.child, signal);
    }

    /// Dies without a word, and another one takes its port.
    fn replace(self, args: &[&str]) -> Self {
        let port = self.port().to_owned();
        drop(self);
        let args: Vec<&str> = ["--port", &port].into_iter().chain(args.iter().copied()).collect();
        Self::begin(&args)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(SIGKILL);
        let _ = self.child.wait();
    }
}

fn send(child: &Child, signal: i32) {
    let pid = i32::try_from(child.id()).unwrap();
    // SAFETY: kill(2) takes no pointer; the child has not been waited for, so its number is still its own.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

fn record(url: &str, out: &str, more: &[&str]) -> Recording {
    let args = ["run", url, "-o", out, "--preset", "ultrafast", "--progress", "json"];
    Recording::start(krea(args.into_iter().chain(more.iter().copied())))
}

/// Presentation times of the video packets in seconds, in order of showing.
fn times(path: &str) -> Vec<f64> {
    let packets = probe(path, "packets", &["-select_streams", "v:0"]);
    let mut times: Vec<f64> = packets.iter().map(|p| p["pts_time"].as_str().unwrap().parse().unwrap()).collect();
    times.sort_by(f64::total_cmp);
    times
}

#[test]
fn a_stream_with_sound_is_recorded_as_it_comes() {
    let Some(server) = Server::start("a_stream_with_sound_is_recorded_as_it_comes", &["--audio"]) else { return };
    let scratch = Scratch::new();
    let out = scratch.path("out.mkv");
    run(krea(["run", &server.url, "-o", &out, "--duration", "2", "--preset", "ultrafast"])).exits(0);
    assert_plays_live(&out);
    let times = times(&out);
    assert!(times[0] < 1.0, "the recording begins at zero, not at {}", times[0]);
    assert!((25..=52).contains(&times.len()), "two seconds at 25 fps: {}", times.len());
    let streams = probe(&out, "streams", &[]);
    assert!(streams.iter().any(|s| s["codec_name"] == "opus"), "the sound is copied: {streams:?}");
}

#[test]
fn a_server_that_dies_again_and_again_is_joined_again() {
    let name = "a_server_that_dies_again_and_again_is_joined_again";
    let Some(mut server) = Server::start(name, &["--audio"]) else { return };
    let scratch = Scratch::new();
    let (out, stats) = (scratch.path("out.mkv"), scratch.path("stats.json"));
    let url = server.url.clone();
    let mut recording = record(&url, &out, &["--stats", &stats]);
    recording.goes_on();
    for round in 1..=5 {
        server = server.replace(&["--audio"]);
        recording.comes_back(round);
    }
    recording.stop();
    assert_plays_live(&out);
    let times = times(&out);
    assert!(times.windows(2).all(|t| t[1] > t[0]), "time runs on through every restart");
    let gaps = times.windows(2).filter(|t| t[1] - t[0] > 0.2).count();
    assert!(gaps >= 5, "each loss is seen as the pause that it was, {gaps} gaps");
    let stats: serde_json::Value = serde_json::from_slice(&std::fs::read(&stats).unwrap()).unwrap();
    assert_eq!(stats["reconnects"], 5);
    assert_eq!(stats["exit"], 130);
}

#[test]
fn a_server_that_is_away_is_asked_for_every_second() {
    let Some(mut server) = Server::start("a_server_that_is_away_is_asked_for_every_second", &[]) else { return };
    let scratch = Scratch::new();
    let out = scratch.path("out.mkv");
    let url = server.url.clone();
    let mut recording = record(&url, &out, &[]);
    recording.goes_on();
    let port = server.port().to_owned();
    drop(server);
    recording.wait_until("five tries", |said| said.matches("trying again in").count() >= 5);
    server = Server::begin(&["--port", &port]);
    recording.comes_back(1);
    let said = recording.said();
    let longer = said.lines().find(|l| l.contains("trying again") && !l.contains("in 0.25 s") && !l.contains("in 1 s"));
    assert_eq!(longer, None, "{said}");
    recording.stop();
    drop(server);
    assert_plays_live(&out);
}

#[test]
fn a_server_that_falls_silent_is_left_and_joined_again() {
    let Some(server) = Server::start("a_server_that_falls_silent_is_left_and_joined_again", &[]) else { return };
    let scratch = Scratch::new();
    let out = scratch.path("out.mkv");
    let mut recording = record(&server.url, &out, &["--timeout", "1"]);
    recording.goes_on();
    // The socket stays open: nobody tells that nothing more will come.
    server.signal(SIGSTOP);
    recording.wait_until("the loss", |said| said.contains("trying again"));
    server.signal(SIGCONT);
    recording.comes_back(1);
    recording.stop();
    assert_plays_live(&out);
}

#[test]
fn another_size_after_a_restart_is_scaled_to_the_first() {
    let Some(mut server) = Server::start("another_size_after_a_restart_is_scaled_to_the_first", &[]) else { return };
    let scratch = Scratch::new();
    let out = scratch.path("out.mkv");
    let url = server.url.clone();
    let mut recording = record(&url, &out, &[]);
    recording.goes_on();
    server = server.replace(&["--size", "640x360"]);
    recording.comes_back(1);
    recording.stop();
    drop(server);
    assert_plays_live(&out);
    let sizes = probe(&out, "frames", &["-select_streams", "v:0", "-show_entries", "frame=width,height"]);
    assert!(sizes.len() > 20 && sizes.iter().all(|f| f["width"] == 320 && f["height"] == 240));
}

#[test]
fn a_wrong_password_ends_at_once_and_is_never_shown() {
    let name = "a_wrong_password_ends_at_once_and_is_never_shown";
    let Some(server) = Server::start(name, &["--password", "me:s3cret"]) else { return };
    let scratch = Scratch::new();
    let out = scratch.path("out.mkv");
    let with = |login: &str| server.url.replace("//", &format!("//{login}@"));
    run(krea(["run", &server.url, "-o", &out])).fails(3, &["password"]);
    for log in ["info", "trace"] {
        let ran = run(krea(["run", &with("me:wr0ng"), "-o", &out, "--log-level", log])).fails(3, &["me:***@"]);
        assert!(!ran.stderr.contains("wr0ng"), "{}", ran.stderr);
    }
    let args = ["run", &with("me:s3cret"), "-o", &out, "--duration", "0.5", "--log-level", "trace"];
    let ran = run(krea(args)).exits(0);
    assert!(!ran.stderr.contains("s3cret"), "{}", ran.stderr);
    assert!(frame_count(&out) > 0);
}

#[test]
fn nobody_there_is_waited_for_only_as_long_as_asked() {
    // A port that was free a moment ago refuses.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("rtsp://127.0.0.1:{port}/live");
    let scratch = Scratch::new();
    let out = scratch.path("out.mkv");
    run(krea(["run", &url, "-o", &out, "--reconnect-timeout", "1"])).fails(3, &["given up"]).says("trying again");
    // Without a limit it waits, and can be stopped.
    let mut waiting = record(&url, &out, &[]);
    waiting.wait_until("a second try", |said| said.matches("trying again").count() >= 2);
    waiting.stop();
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}

#[test]
fn a_server_that_takes_the_call_and_says_nothing_is_left() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let scratch = Scratch::new();
    let out = scratch.path("out.mkv");
    for protocol in ["rtsp", "http", "rtmp"] {
        let url = format!("{protocol}://{address}/live");
        let args = ["run", &url, "-o", &out, "--timeout", "0.5", "--reconnect-timeout", "0.6"];
        run(krea(args)).fails(3, &[&url]);
    }
    assert!(scratch.names().is_empty(), "{:?}", scratch.names());
}
