//! Streams to real peers on this machine: every frame arrives, the last one too; a stream that stalls stops nothing.

mod harness;

use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use harness::{CLIP, Scratch, assert_plays, frame_count, krea, run};

fn free_port() -> u16 {
    // UDP too: SRT and RTP use it.
    (0..100)
        .find_map(|_| {
            let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
            UdpSocket::bind(("127.0.0.1", port)).ok().map(|_| port)
        })
        .expect("a free port")
}

/// An ffmpeg that waits for a stream and copies it into a file; it ends by itself, whatever happens.
struct Receiver(Child);

impl Receiver {
    fn start(options: &[&str], url: &str, out: &str) -> Self {
        let mut command = Command::new("timeout");
        command.args(["60", "ffmpeg", "-v", "error", "-nostdin", "-y"]).args(options).args(["-i", url, "-map", "0"]);
        command.args(["-c", "copy", out]).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        // It must listen before anything is sent; what is listening cannot be asked without disturbing it.
        sleep(Duration::from_millis(1500));
        Self(child)
    }

    fn wait(self) -> String {
        String::from_utf8_lossy(&self.0.wait_with_output().unwrap().stderr).into_owned()
    }
}

/// Sends the clip to `url`; 125 frames and the sound must arrive.
fn arrives(options: &[&str], listen: &str, url: &str) {
    let scratch = Scratch::new();
    let got = scratch.path("got.mkv");
    let receiver = Receiver::start(options, listen, &got);
    let ran = run(krea(["run", CLIP, "-o", url]));
    let said = receiver.wait();
    let ran = ran.exits(0);
    assert_eq!(frame_count(&got), 125, "{said}\n{}", ran.stderr);
    let sound = harness::probe(&got, "packets", &["-select_streams", "a:0"]).len();
    assert!(sound > 100, "{sound} packets of sound; {said}");
}

#[test]
fn every_frame_arrives_over_udp() {
    let port = free_port();
    let url = format!("udp://127.0.0.1:{port}");
    // UDP has no end; the receiver gives up two seconds after the last packet.
    arrives(&[], &format!("{url}?timeout=2000000&fifo_size=100000"), &url);
}

#[test]
fn every_frame_arrives_over_srt() {
    let port = free_port();
    arrives(&[], &format!("srt://127.0.0.1:{port}?mode=listener"), &format!("srt://127.0.0.1:{port}"));
}

#[test]
fn every_frame_arrives_over_rtmp() {
    let url = format!("rtmp://127.0.0.1:{}/live/key", free_port());
    arrives(&["-listen", "1", "-f", "flv"], &url, &url);
}

#[test]
fn every_frame_arrives_over_rtsp() {
    let url = format!("rtsp://127.0.0.1:{}/live", free_port());
    arrives(&["-rtsp_flags", "listen"], &url, &url);
}

#[test]
fn every_frame_arrives_over_tcp() {
    let url = format!("tcp://127.0.0.1:{}", free_port());
    arrives(&[], &format!("{url}?listen=1"), &url);
}

#[test]
fn a_playlist_holds_every_frame() {
    let scratch = Scratch::new();
    let out = scratch.path("live.m3u8");
    run(krea(["run", CLIP, "-o", &out])).exits(0);
    assert_eq!(frame_count(&out), 125);
    assert!(scratch.names().iter().any(|n| n.ends_with(".ts")) && !scratch.names().iter().any(|n| n.contains("part")));
}

#[test]
fn a_playlist_names_its_pieces_so_that_a_server_can_give_them() {
    let scratch = Scratch::new();
    let mut command = krea(["run", CLIP, "-o", "live.m3u8"]);
    command.current_dir(scratch.root());
    run(command).exits(0);
    let list = std::fs::read_to_string(scratch.path("live.m3u8")).unwrap();
    let pieces: Vec<&str> = list.lines().filter(|l| !l.starts_with('#')).collect();
    assert!(!pieces.is_empty() && pieces.iter().all(|p| scratch.root().join(p).exists()), "{list}");
    // Neither the list nor a piece that stands there without one is replaced unasked.
    for _ in 0..2 {
        let mut again = krea(["run", CLIP, "-o", "live.m3u8"]);
        again.current_dir(scratch.root());
        run(again).fails(6, &["exists already"]);
        let _ = std::fs::remove_file(scratch.path("live.m3u8"));
    }
}

#[test]
fn a_file_and_a_stream_are_made_at_once() {
    let scratch = Scratch::new();
    let (file, got) = (scratch.path("out.mp4"), scratch.path("got.mkv"));
    let port = free_port();
    let receiver = Receiver::start(&[], &format!("tcp://127.0.0.1:{port}?listen=1"), &got);
    run(krea(["run", CLIP, "-o", &file, "-o", &format!("tcp://127.0.0.1:{port}")])).exits(0);
    let said = receiver.wait();
    assert_plays(&file);
    assert_eq!((frame_count(&file), frame_count(&got)), (125, 125), "{said}");
}

#[test]
fn a_stream_that_stalls_or_is_refused_does_not_stop_the_file() {
    let scratch = Scratch::new();
    let file = scratch.path("out.mp4");
    // Takes the connection and never reads; the kernel's own buffers fill up.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stalls = format!("tcp://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let refuses = format!("tcp://me:secret@127.0.0.1:{}", free_port());
    let args = ["run", CLIP, "--size", "1280x960", "-o", &file, "-o", &stalls, "-o", &refuses];
    let ran = run(krea(args)).exits(0).says("goes on without it");
    assert!(!ran.stderr.contains("secret"), "{}", ran.stderr);
    assert_plays(&file);
    assert_eq!(frame_count(&file), 125);
}

#[test]
fn a_stream_that_is_all_there_is_ends_the_run_when_it_fails() {
    let url = format!("rtmp://me:secret@127.0.0.1:{}/app/streamkey", free_port());
    let ran = run(krea(["run", CLIP, "-o", &url])).fails(6, &["127.0.0.1"]);
    assert!(!ran.stderr.contains("secret") && !ran.stderr.contains("streamkey"), "{}", ran.stderr);
}

#[test]
fn two_files_are_refused() {
    run(krea(["run", CLIP, "-o", "/tmp/a.mp4", "-o", "/tmp/b.mp4"])).fails(2, &["one may be a file"]);
}
