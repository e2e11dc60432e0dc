//! When the other side of something live sleeps, goes quiet, ends or is full: what was made is whole, and the run knows.

mod harness;
mod live_support;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use harness::{CLIP, Scratch, assert_plays, cleaned, ffmpeg, frame_count, krea, probe, run};
use live_support::{Camera, FOREVER, RAW, Running};

fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// An ffmpeg that sends pictures and sound over UDP at their pace.
struct Sender(Child);

impl Sender {
    fn start(port: u16, seconds: &str) -> Self {
        let mut command = Command::new("ffmpeg");
        command.args(["-v", "error", "-nostdin", "-re", "-f", "lavfi", "-i", "testsrc2=s=160x120:r=25"]);
        command.args(["-f", "lavfi", "-i", "sine=r=48000", "-t", seconds, "-c:v", "libx264", "-preset", "ultrafast"]);
        command.args(["-tune", "zerolatency", "-g", "5", "-c:a", "aac", "-f", "mpegts"]);
        command.arg(format!("udp://127.0.0.1:{port}?pkt_size=1316"));
        Self(command.spawn().unwrap())
    }

    fn wait(mut self) {
        self.0.wait().unwrap();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts and lengths of a stream's packets in seconds, in the order of their times.
fn times(path: &str, stream: &str) -> Vec<f64> {
    let packets = probe(path, "packets", &["-select_streams", stream, "-show_entries", "packet=pts_time"]);
    let mut times: Vec<f64> = packets.iter().map(|p| p["pts_time"].as_str().unwrap().parse().unwrap()).collect();
    times.sort_by(f64::total_cmp);
    times
}

fn widest_gap(times: &[f64]) -> f64 {
    times.windows(2).map(|w| w[1] - w[0]).fold(0.0, f64::max)
}

/// A server without ranges, as many small ones are: the whole file for each request, with its length. Counts requests.
fn serve(path: &str) -> (String, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/film", listener.local_addr().unwrap());
    let bytes = std::fs::read(path).unwrap();
    let requests = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = requests.clone();
    thread::spawn(move || {
        for peer in listener.incoming() {
            let (mut peer, bytes) = (peer.unwrap(), bytes.clone());
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            thread::spawn(move || {
                let _ = peer.read(&mut [0; 4096]);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
                let _ = peer.write_all(head.as_bytes()).and_then(|()| peer.write_all(&bytes));
            });
        }
    });
    (url, requests)
}

#[test]
fn a_reader_that_sleeps_does_not_keep_a_stopped_run_alive() {
    for signals in [1, 2] {
        let camera = Camera::start(25, |_| 100);
        let args = ["run", &camera.url];
        let mut running = Running::start(krea(args.into_iter().chain(RAW)));
        drop(running.frame());
        // The pipe is full by now, and nobody takes anything out of it any more.
        sleep(Duration::from_secs(2));
        for _ in 0..signals {
            running.signal(libc::SIGINT);
            sleep(Duration::from_millis(300));
        }
        let begun = Instant::now();
        while running.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < FOREVER / 4, "{signals} signals: it does not end: {}", running.said());
            sleep(Duration::from_millis(20));
        }
        let (code, said) = running.end();
        assert_eq!(code, Some(6), "{said}");
        assert!(said.contains("standard output: the other side does not answer"), "{said}");
    }
}

#[test]
fn a_peer_that_says_nothing_is_asked_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtmp://{}/app/streamkey", listener.local_addr().unwrap());
    run(krea(["run", CLIP, "-o", &url])).fails(6, &["does not answer"]);
    listener.set_nonblocking(true).unwrap();
    listener.accept().unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "it was asked again");
}

#[test]
fn a_sound_stream_that_goes_quiet_does_not_hold_the_picture_up() {
    let scratch = Scratch::new();
    let clip = scratch.path("clip.mkv");
    // Eight seconds of pictures, one of sound.
    ffmpeg(&[
        "-stream_loop",
        "1",
        "-i",
        CLIP,
        "-f",
        "lavfi",
        "-i",
        "sine=r=48000:d=1",
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-t",
        "8",
        "-s",
        "160x120",
        "-preset",
        "ultrafast",
        "-c:a",
        "aac",
        &clip,
    ]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let url = format!("udp://{}", socket.local_addr().unwrap());
    let mut child = krea(["run", &clip, "-o", &url, "-q"]).spawn().unwrap();
    let (mut widest, mut buffer) = (Duration::ZERO, [0; 2048]);
    socket.recv(&mut buffer).unwrap();
    let mut last = Instant::now();
    while child.try_wait().unwrap().is_none() {
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        if socket.recv(&mut buffer).is_ok() {
            widest = widest.max(last.elapsed());
            last = Instant::now();
        }
    }
    assert!(widest < Duration::from_secs(4), "nothing came for {widest:?}");
}

#[test]
fn a_full_disk_does_not_stop_the_stream_beside_it() {
    let scratch = Scratch::new();
    let (file, got) = (scratch.path("out.ts"), scratch.path("got.mkv"));
    let port = free_port();
    let mut receiver = Command::new("timeout");
    receiver.args(["60", "ffmpeg", "-v", "error", "-nostdin", "-i", &format!("tcp://127.0.0.1:{port}?listen=1")]);
    let mut receiver = receiver.args(["-c", "copy", &got]).spawn().unwrap();
    sleep(Duration::from_millis(1500));
    // A file may grow to 100 KiB, as if that were all that is left. Matroska would notice at the end of a cluster only.
    let script = r#"trap "" XFSZ; ulimit -f 100; exec "$@""#;
    let (krea, url) = (env!("CARGO_BIN_EXE_krea"), format!("tcp://127.0.0.1:{port}"));
    let ran = run(cleaned("bash", ["-c", script, "bash", krea, "run", CLIP, "-o", &file, "-o", &url]));
    ran.says("go on").fails(6, &["out.ts"]);
    receiver.wait().unwrap();
    assert_eq!(frame_count(&got), 125);
}

#[test]
fn a_stream_that_goes_quiet_is_joined_again_and_given_up_in_the_end() {
    let scratch = Scratch::new();
    let (out, port) = (scratch.path("out.mkv"), free_port());
    let url = format!("udp://127.0.0.1:{port}");
    let args = ["run", &url, "-o", &out, "--timeout", "1.5", "--reconnect-timeout", "8", "--preset", "ultrafast"];
    let mut running = Running::start(krea(args));
    sleep(Duration::from_millis(500));
    Sender::start(port, "3").wait();
    let quiet = Instant::now();
    running.wait_until("it notices", |said| said.contains("trying again"));
    sleep(Duration::from_millis(1500));
    let pause = quiet.elapsed();
    let again = Sender::start(port, "3");
    running.wait_until("it is back", |said| said.contains("back after"));
    again.wait();
    let (code, said) = running.end();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("given up after"), "{said}");
    // The file is whole, and the pause lasts in it as long as it lasted: for the sound as for the pictures.
    assert_eq!(scratch.names(), ["out.mkv"]);
    assert_plays(&out);
    for stream in ["v:0", "a:0"] {
        let gap = widest_gap(&times(&out, stream));
        let pause = pause.as_secs_f64();
        assert!((pause - 1.0..pause + 3.0).contains(&gap), "{stream}: a gap of {gap} s for {pause} s; {said}");
    }
}

#[test]
fn a_short_timeout_is_about_silence_and_not_about_the_wait_for_a_key_frame() {
    let scratch = Scratch::new();
    let (out, port) = (scratch.path("out.mkv"), free_port());
    let mut sender = Command::new("ffmpeg");
    sender.args(["-v", "error", "-nostdin", "-re", "-f", "lavfi", "-i", "testsrc2=s=160x120:r=25", "-c:v", "libx264"]);
    sender.args(["-preset", "ultrafast", "-g", "100", "-t", "20", "-f", "mpegts"]);
    let sender = Sender(sender.arg(format!("udp://127.0.0.1:{port}?pkt_size=1316")).spawn().unwrap());
    sleep(Duration::from_millis(1500));
    let url = format!("udp://127.0.0.1:{port}");
    run(krea(["run", &url, "-o", &out, "--timeout", "1", "--duration", "6"])).exits(0);
    drop(sender);
    assert_plays(&out);
}

#[test]
fn a_film_on_a_server_that_tells_no_length_of_time_is_read_once() {
    let scratch = Scratch::new();
    for name in ["film.h264", "film.ts"] {
        let (film, out) = (scratch.path(name), scratch.path("out.mkv"));
        ffmpeg(&["-i", CLIP, "-c", "copy", "-t", "2", &film]);
        let (url, requests) = serve(&film);
        let ran = run(krea(["run", &url, "-o", &out, "-y", "--reconnect-timeout", "3"])).exits(0);
        assert!(!ran.stderr.contains("trying again"), "{name}: {}", ran.stderr);
        assert_eq!(frame_count(&out), frame_count(&film), "{name}");
        assert!(requests.load(std::sync::atomic::Ordering::Relaxed) <= 2, "{name}");
    }
}

#[test]
fn a_film_on_a_server_loses_no_frame_to_a_slow_reader() {
    let scratch = Scratch::new();
    let film = scratch.path("film.mp4");
    ffmpeg(&["-i", CLIP, "-c", "copy", "-movflags", "+faststart", &film]);
    let (url, _) = serve(&film);
    let args = ["run", &url];
    let mut running = Running::start(krea(args.into_iter().chain(RAW)));
    for _ in 0..125 {
        drop(running.frame());
        sleep(Duration::from_millis(10));
    }
    assert_eq!(running.end().0, Some(0));
}

#[test]
fn what_is_said_during_a_pause_is_not_heard_after_it() {
    let scratch = Scratch::new();
    let (out, socket, port) = (scratch.path("out.mkv"), scratch.path("control"), free_port());
    let url = format!("udp://127.0.0.1:{port}");
    let mut running =
        Running::start(krea(["run", &url, "-o", &out, "--control", &socket, "--preset", "ultrafast", "-v"]));
    sleep(Duration::from_millis(500));
    let sender = Sender::start(port, "60");
    running.wait_until("it runs", |said| said.contains("->"));
    let begun = Instant::now();
    let mut client = loop {
        match UnixStream::connect(&socket) {
            Ok(client) => break client,
            Err(_) => assert!(begun.elapsed() < FOREVER, "nobody answers"),
        }
        sleep(Duration::from_millis(20));
    };
    for (line, seconds) in [(r#"{"pause": true}"#, 3), (r#"{"pause": false}"#, 2), (r#"{"quit": true}"#, 0)] {
        sleep(Duration::from_secs(1));
        client.write_all(format!("{line}\n").as_bytes()).unwrap();
        sleep(Duration::from_secs(seconds));
    }
    let (code, said) = running.end();
    drop(sender);
    assert_eq!(code, Some(0), "{said}");
    for stream in ["v:0", "a:0"] {
        let gap = widest_gap(&times(&out, stream));
        assert!((3.0..6.0).contains(&gap), "{stream}: the pause of 4 s leaves a gap of {gap} s");
    }
}
