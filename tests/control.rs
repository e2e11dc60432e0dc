//! Commands to a run that goes on: over its socket, from a file, from its terminal.

mod harness;
mod live_support;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use harness::{CLIP, Scratch, assert_plays, krea, run};
use live_support::{Camera, FOREVER, HEIGHT, RAW, Running, WIDTH, onnx};
use serde_json::{Value, json};

/// One connection to the socket.
struct Client {
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Waits until there is somebody to talk to.
    #[track_caller]
    fn connect(path: &str) -> Self {
        let begun = Instant::now();
        loop {
            if let Ok(stream) = UnixStream::connect(path) {
                stream.set_read_timeout(Some(FOREVER)).unwrap();
                return Self { reader: BufReader::new(stream) };
            }
            assert!(begun.elapsed() < FOREVER, "nobody answers at {path}");
            sleep(Duration::from_millis(20));
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    fn reply(&mut self) -> Value {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?}: {e}"))
    }

    fn ask(&mut self, line: &str) -> Value {
        self.send(format!("{line}\n").as_bytes());
        self.reply()
    }

    #[track_caller]
    fn obeys(&mut self, line: &str) {
        assert_eq!(self.ask(line), json!({"ok": true}), "{line}");
    }

    #[track_caller]
    fn refuses(&mut self, line: &str, why: &str) {
        let reply = self.ask(line);
        assert_eq!(reply["ok"], false, "{line}: {reply}");
        assert!(reply["error"].as_str().unwrap().contains(why), "{line}: {reply}");
    }

    fn status(&mut self) -> Value {
        let reply = self.ask(r#"{"status": true}"#);
        assert_eq!(reply["ok"], true, "{reply}");
        reply["status"].clone()
    }
}

/// A live run with a socket; the person is the left half of the picture.
struct Live {
    _scratch: Scratch,
    camera: Camera,
    socket: String,
    running: Running,
}

impl Live {
    fn start(more: &[&str]) -> Self {
        let scratch = Scratch::new();
        let (socket, model) = (scratch.path("control"), scratch.path("half.onnx"));
        onnx::fails_in_bright_light(model.as_ref());
        let camera = Camera::start(25, |_| 60);
        let args = ["run", &camera.url, "--control", &socket];
        let mask = ["--remove-bg", "--no-despill", "--mask-model", &model];
        let all = args.into_iter().chain(mask).chain(RAW).chain(more.iter().copied());
        let running = Running::start(krea(all));
        Self { _scratch: scratch, camera, socket, running }
    }

    /// Reads frames until the background has this Cb, for at most `most` frames that were sent after now.
    #[track_caller]
    fn background_becomes(&mut self, wanted: u8, most: usize) {
        // The upper half of the number lies on the background.
        let now = self.camera.sent().saturating_sub(1);
        assert!(now < 250, "the test takes too long");
        loop {
            let shown = self.running.frame();
            let (number, [_, cb, _]) = (shown.number() & 0xff, shown.at(WIDTH * 3 / 4, HEIGHT / 2));
            if cb.abs_diff(wanted) < 8 {
                return;
            }
            assert!(number < now + most, "frame {number} of {now}: {cb} instead of {wanted}");
        }
    }
}

const GREEN: u8 = 54;
const BLUE: u8 = 240;
/// Of the camera's own picture.
const GREY: u8 = 128;

#[test]
fn backgrounds_change_within_two_frames() {
    let mut live = Live::start(&[]);
    let mut client = Client::connect(&live.socket);
    live.background_becomes(GREEN, 20);
    for (what, cb) in [("#0000ff", BLUE), ("off", GREY), ("#00ff00", GREEN), ("blur", GREY), ("blue", BLUE)] {
        // What has waited in the pipe meanwhile is old.
        (0..5).for_each(|_| drop(live.running.frame()));
        client.obeys(&json!({"background": what}).to_string());
        live.background_becomes(cb, 3);
    }
    let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/astronaut.png");
    client.obeys(&json!({"background": picture}).to_string());
    assert_eq!(client.status()["background"], picture);
    client.obeys(&json!({"background": CLIP}).to_string());
    client.refuses(r#"{"background": "transparent"}"#, "no alpha");
    client.refuses(r#"{"background": "/none/such.png"}"#, "no file");
    client.obeys(r#"{"quit": true}"#);
    assert_eq!(live.running.end().0, Some(0));
}

#[test]
fn a_pause_holds_the_picture_and_skips_what_comes() {
    let mut live = Live::start(&[]);
    let mut client = Client::connect(&live.socket);
    let before = live.running.frame().number() & 0xff;
    client.obeys(r#"{"pause": true}"#);
    assert_eq!(client.status()["paused"], true);
    let paused = live.camera.sent();
    sleep(Duration::from_secs(2));
    client.obeys(r#"{"pause": false}"#);
    let resumed = live.camera.sent();
    // Nothing in between is shown but what was on its way, and nothing of it comes later.
    let mut last = before;
    loop {
        let number = live.running.frame().number() & 0xff;
        assert!(number > last && (number <= paused + 3 || number + 3 >= resumed), "{number}: {paused}, {resumed}");
        if number > resumed + 5 {
            break;
        }
        last = number;
    }
    sleep(Duration::from_secs(1));
    let status = client.status();
    assert!(status["dropped"].as_u64().unwrap() >= 40, "{status}");
    assert_eq!(status["paused"], false);
    client.obeys(r#"{"quit": true}"#);
    assert_eq!(live.running.end().0, Some(0));
}

#[test]
fn a_file_is_not_read_during_a_pause_and_loses_nothing() {
    let scratch = Scratch::new();
    let (clip, out, socket) = (scratch.long_clip(8), scratch.path("out.mkv"), scratch.path("control"));
    let args = ["run", &clip, "-o", &out, "--control", &socket, "--preset", "slower"];
    let running = Running::start(krea(args));
    let mut client = Client::connect(&socket);
    client.obeys(r#"{"pause": true}"#);
    // What is on its way is finished.
    sleep(Duration::from_secs(3));
    let first = client.status()["frames"].clone();
    sleep(Duration::from_secs(2));
    assert_eq!(client.status()["frames"], first);
    assert!(first.as_u64().unwrap() < 990, "the clip is too short for this test");
    client.obeys(r#"{"pause": false}"#);
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
    assert_plays(&out);
    assert_eq!(harness::frame_count(&out), harness::frame_count(&clip));
}

#[test]
fn what_there_is_nothing_to_do_with_is_said() {
    let scratch = Scratch::new();
    let socket = scratch.path("control");
    let camera = Camera::start(25, |_| 60);
    let args = ["run", &camera.url, "--control", &socket];
    let running = Running::start(krea(args.into_iter().chain(RAW)));
    let mut client = Client::connect(&socket);
    for line in [r#"{"prompt": "a robot", "blend": 2}"#, r#"{"strength": 0.5}"#, r#"{"seed": 1}"#, r#"{"reset": true}"#]
    {
        client.refuses(line, "no --prompt");
    }
    client.refuses(r#"{"background": "blur"}"#, "no --remove-bg");
    sleep(Duration::from_millis(1500));
    let status = client.status();
    assert_eq!(status["event"], "status");
    assert!(status["fps_in"].is_f64() && status["queues"]["sink"].is_u64(), "{status}");
    client.obeys(r#"{"quit": true}"#);
    assert_eq!(running.end().0, Some(0));
}

#[test]
fn nonsense_is_answered_and_the_connection_lives() {
    let live = Live::start(&[]);
    let mut client = Client::connect(&live.socket);
    let nonsense = [
        "",
        "{",
        "[1, 2]",
        "quit",
        r#"{"quit": "yes"}"#,
        r#"{"pause": true, "quit": true}"#,
        r#"{"fly": true}"#,
        "null",
    ];
    for line in nonsense.iter().filter(|line| !line.is_empty()) {
        client.refuses(line, "");
    }
    client.send(b"\xff\xfe\n");
    assert!(client.reply()["error"].as_str().unwrap().contains("UTF-8"));
    // An empty line is nothing, the end of a line may come late, and two may come at once.
    client.send(b"\n\r\n{\"status\":");
    sleep(Duration::from_millis(500));
    client.send(b" true}\n{\"status\": true}\n");
    assert_eq!((client.reply()["ok"].clone(), client.reply()["ok"].clone()), (json!(true), json!(true)));
    live.running.interrupt();
}

#[test]
fn a_line_without_end_is_cut_off() {
    let live = Live::start(&[]);
    let mut client = Client::connect(&live.socket);
    // Just long enough to be read.
    let line = format!("{{\"prompt\": \"{}\"}}", "x".repeat(60_000));
    client.refuses(&line, "no --prompt");
    client.send(&vec![b'x'; 1 << 20]);
    client.send(b"\n");
    assert!(client.reply()["error"].as_str().unwrap().contains("64 KiB"));
    let mut rest = Vec::new();
    assert_eq!(client.reader.read_to_end(&mut rest).unwrap(), 0);
    // Nobody else is concerned.
    assert_eq!(Client::connect(&live.socket).status()["paused"], false);
    live.running.interrupt();
}

#[test]
fn twenty_clients_are_served_at_once_and_may_leave_at_any_time() {
    let mut live = Live::start(&[]);
    let first = Client::connect(&live.socket);
    let mut clients: Vec<_> = (0..20).map(|_| Client::connect(&live.socket)).collect();
    // All of them are connected; the last one is answered first.
    for client in clients.iter_mut().rev() {
        assert_eq!(client.status()["paused"], false);
    }
    let threads: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(i, mut client)| {
            thread::spawn(move || {
                for _ in 0..20 {
                    assert_eq!(client.status()["paused"], false);
                }
                // Some leave in the middle of a line, some without taking their answer.
                match i % 3 {
                    0 => client.send(b"{\"pause\": tr"),
                    1 => client.send(b"{\"status\": true}\n{\"status\": true}\n"),
                    _ => {}
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
    drop(first);
    let mut late = Client::connect(&live.socket);
    assert_eq!(late.status()["paused"], false);
    let shown = live.running.frame();
    assert_eq!(shown.at(WIDTH * 3 / 4, HEIGHT / 2)[1], shown.at(WIDTH * 3 / 4, HEIGHT / 3)[1]);
    live.running.interrupt();
}

#[test]
fn the_socket_is_private_and_goes_with_the_run() {
    let live = Live::start(&[]);
    let mut client = Client::connect(&live.socket);
    let mode = std::fs::metadata(&live.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    client.status();
    // Another run must not take it over.
    let out = live._scratch.path("other.mkv");
    run(krea(["run", CLIP, "-o", &out, "--control", &live.socket])).fails(6, &["another run answers", &live.socket]);
    assert!(!std::path::Path::new(&out).exists());
    client.status();
    live.running.interrupt();
    assert!(!std::path::Path::new(&live.socket).exists());
}

#[test]
fn a_stale_socket_is_replaced_and_a_file_is_not() {
    let scratch = Scratch::new();
    let (socket, out, file) = (scratch.path("stale"), scratch.path("out.mkv"), scratch.path("notes.txt"));
    drop(UnixListener::bind(&socket).unwrap());
    assert!(std::path::Path::new(&socket).exists());
    run(krea(["run", CLIP, "-o", &out, "--control", &socket])).exits(0);
    assert!(!std::path::Path::new(&socket).exists());
    std::fs::write(&file, "dear diary").unwrap();
    run(krea(["run", CLIP, "-y", "-o", &out, "--control", &file])).fails(6, &["notes.txt", "no socket"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "dear diary");
    run(krea(["run", CLIP, "-y", "-o", &out, "--control", "/none/such/socket"])).fails(6, &["/none/such/socket"]);
}

#[test]
fn a_file_of_commands_is_carried_out_when_it_changes() {
    let scratch = Scratch::new();
    let file = scratch.path("commands");
    let mut live = Live::start(&["--control-file", &file]);
    live.background_becomes(GREEN, 20);
    std::fs::write(&file, "{\"background\": \"#0000ff\"}\n").unwrap();
    live.background_becomes(BLUE, 25);
    // As editors do it: another file takes the place. Words and JSON, and one line that is neither.
    let new = scratch.path("new");
    std::fs::write(&new, "/fly\n\n/bg off\n").unwrap();
    std::fs::rename(&new, &file).unwrap();
    live.background_becomes(GREY, 25);
    live.running.wait_until("the warning", |said| said.contains("/fly is no command"));
    live.running.interrupt();
}

#[test]
fn a_live_run_takes_commands_from_its_terminal() {
    let test = "a_live_run_takes_commands_from_its_terminal";
    if !Command::new("script").arg("--version").stdout(Stdio::null()).status().is_ok_and(|s| s.success()) {
        harness::skip(test, "no script(1)");
        return;
    }
    let scratch = Scratch::new();
    let out = scratch.path("out.mkv");
    let camera = Camera::start(25, |_| 60);
    let words = format!("{} run {} --progress none -o {out}", env!("CARGO_BIN_EXE_krea"), camera.url);
    let mut command = Command::new("script");
    command.args(["-q", "-f", "-e", "-c", &words, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut keys = child.stdin.take().unwrap();
    let mut screen = child.stdout.take().unwrap();
    let listener = thread::spawn(move || {
        let mut text = Vec::new();
        let _ = screen.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    });
    while camera.sent() < 20 {
        sleep(Duration::from_millis(50));
    }
    keys.write_all(b"a robot\n/bg blur\n/status\n/dance\n").unwrap();
    sleep(Duration::from_secs(1));
    keys.write_all(b"/quit\n").unwrap();
    let status = child.wait().unwrap();
    drop(keys);
    let screen = listener.join().unwrap();
    assert_eq!(status.code(), Some(0), "{screen}");
    for word in ["no --prompt", "no --remove-bg", "\"event\":\"status\"", "/dance is no command"] {
        assert!(screen.contains(word), "{word} is not in {screen}");
    }
    assert_plays(&out);
}
