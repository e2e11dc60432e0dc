//! What the tests of live use share: a camera whose frames carry their number in their pixels, a reader that tells the
//! number and how old it is, and small networks that fail or dawdle as a test needs it.

#![allow(dead_code, reason = "each test program uses a part of this")]

pub(crate) mod onnx;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::harness::listen;

pub(crate) const WIDTH: usize = 640;
pub(crate) const HEIGHT: usize = 480;
/// Nothing in these tests takes so long, on however slow a machine.
pub(crate) const FOREVER: Duration = Duration::from_secs(120);

/// Squares of black and white along the top that hold the number of a frame.
const BITS: usize = 16;
const SIDE: usize = WIDTH / BITS;

/// Sends frames over TCP at their pace, and remembers when it sent them.
pub(crate) struct Camera {
    pub(crate) url: String,
    sent: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Camera {
    /// `grey` gives the brightness of the picture below the number, by the number.
    pub(crate) fn start(fps: u32, grey: impl Fn(usize) -> u8 + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("tcp://{}", listener.local_addr().unwrap());
        let (sent, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, end) = (sent.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let Ok((mut peer, _)) = listener.accept() else { return };
            // The end of a frame must not wait for the next one.
            peer.set_nodelay(true).unwrap();
            if writeln!(peer, "YUV4MPEG2 W{WIDTH} H{HEIGHT} F{fps}:1 Ip A1:1 C420jpeg").is_err() {
                return;
            }
            let start = Instant::now();
            for number in 0.. {
                let due = start + Duration::from_secs(1) * number as u32 / fps;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                if end.load(Ordering::Relaxed) {
                    return;
                }
                log.lock().unwrap().push(Instant::now());
                if peer.write_all(&picture(number, grey(number))).is_err() {
                    return;
                }
            }
        });
        Self { url, sent, stop, thread: Some(thread) }
    }

    /// How long ago the frame of this number was sent.
    pub(crate) fn age(&self, number: usize) -> Duration {
        self.sent.lock().unwrap()[number].elapsed()
    }

    pub(crate) fn sent(&self) -> usize {
        self.sent.lock().unwrap().len()
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A thread that waits for a peer that never came is left to the end of the test.
        if let Some(thread) = self.thread.take().filter(|t| t.is_finished()) {
            let _ = thread.join();
        }
    }
}

fn picture(number: usize, grey: u8) -> Vec<u8> {
    let mut bytes = b"FRAME\n".to_vec();
    bytes.reserve(WIDTH * HEIGHT * 3 / 2);
    for y in 0..HEIGHT {
        for bit in 0..BITS {
            let value = match number >> bit & 1 {
                _ if y >= SIDE => grey,
                0 => 16,
                _ => 235,
            };
            bytes.extend([value; SIDE]);
        }
    }
    bytes.resize(bytes.len() + WIDTH * HEIGHT / 2, 128);
    bytes
}

/// A frame as it comes out: planar, 8 bits, 4:2:0.
pub(crate) struct Shown(Vec<u8>);

impl Shown {
    /// The luma at a place.
    pub(crate) fn luma(&self, x: usize, y: usize) -> u8 {
        self.0[y * WIDTH + x]
    }

    /// Y, Cb and Cr at a place.
    pub(crate) fn at(&self, x: usize, y: usize) -> [u8; 3] {
        let (plane, chroma) = (WIDTH * HEIGHT, y / 2 * (WIDTH / 2) + x / 2);
        [self.luma(x, y), self.0[plane + chroma], self.0[plane + plane / 4 + chroma]]
    }

    /// The number that the camera drew.
    pub(crate) fn number(&self) -> usize {
        (0..BITS).map(|bit| usize::from(self.luma(bit * SIDE + SIDE / 2, SIDE / 2) > 125) << bit).sum()
    }
}

/// A krea that runs, what it has said, and the frames that it writes to its standard output.
pub(crate) struct Running {
    pub(crate) child: Child,
    frames: Option<ChildStdout>,
    said: Arc<Mutex<String>>,
    listener: Option<JoinHandle<()>>,
}

/// The options of an output that [`Running::frame`] reads.
pub(crate) const RAW: [&str; 6] = ["-o", "-", "-f", "rawvideo", "--pix-fmt", "yuv420p"];

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (said, listener) = listen(child.stderr.take().unwrap());
        Self { frames: child.stdout.take(), child, said, listener: Some(listener) }
    }

    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// The JSON lines so far.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.said().lines().filter_map(|line| serde_json::from_str(line).ok()).filter(Value::is_object).collect()
    }

    /// The next frame of the output.
    #[track_caller]
    pub(crate) fn frame(&mut self) -> Shown {
        let mut bytes = vec![0; WIDTH * HEIGHT * 3 / 2];
        if let Err(error) = self.frames.as_mut().expect("it is open").read_exact(&mut bytes) {
            panic!("no more frames: {error}; {}", self.said());
        }
        Shown(bytes)
    }

    /// Reads no more.
    pub(crate) fn hang_up(&mut self) {
        self.frames = None;
    }

    #[track_caller]
    pub(crate) fn wait_until(&mut self, what: &str, done: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        while !done(&self.said()) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended before '{what}', {status}: {}", self.said());
            }
            assert!(begun.elapsed() < FOREVER, "'{what}' does not come: {}", self.said());
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: kill(2) takes no pointer; the child has not been waited for, so its number is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Waits for its end, whatever it still writes; its exit code, and all that it has said.
    #[track_caller]
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        if let Some(mut rest) = self.frames.take() {
            thread::spawn(move || std::io::copy(&mut rest, &mut std::io::sink()));
        }
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < FOREVER, "it does not end: {}", self.said());
            thread::sleep(Duration::from_millis(20));
        };
        let _ = self.listener.take().map(JoinHandle::join);
        let said = self.said();
        assert!(!said.contains("panicked"), "{said}");
        (status.code(), said)
    }

    /// Ends it as Ctrl-C does.
    #[track_caller]
    pub(crate) fn interrupt(self) -> String {
        self.signal(libc::SIGINT);
        let (code, said) = self.end();
        assert_eq!(code, Some(130), "{said}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
