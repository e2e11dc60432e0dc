//! What the tests of the whole program share: the real binary, a folder of its own for each test, a look at what was
//! made, and a loud way to skip.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

/// The clip that lies in the repository: a person, 640x480, 125 frames at 25 fps, with sound.
pub(crate) const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/astronaut.mp4");

/// A file of the optional folder of test data beside the checkout; `None`, said aloud, where it is not there.
pub(crate) fn shared(test: &str, path: &str) -> Option<PathBuf> {
    let full = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    if !full.exists() {
        skip(test, &format!("no {}", full.display()));
    }
    full.canonicalize().ok()
}

/// Says that a test cannot run here; fails where everything must run.
pub(crate) fn skip(test: &str, reason: &str) {
    eprintln!("SKIP {test}: {reason}");
    let required = std::env::var("KREA_TEST_REQUIRE").is_ok_and(|v| v == "all");
    assert!(!required, "{test} cannot run, and KREA_TEST_REQUIRE=all: {reason}");
}

/// The binary, free of the settings of whoever runs the tests.
pub(crate) fn krea<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    cleaned(env!("CARGO_BIN_EXE_krea"), args)
}

pub(crate) fn cleaned<'a>(program: &str, args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KREA_") {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    // Nor of the files in which they keep them.
    command.env("XDG_CONFIG_HOME", "/nonexistent");
    command
}

/// How a program ended, and what it said.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

pub(crate) fn run(mut command: Command) -> Ran {
    command.output().unwrap_or_else(|e| panic!("{:?}: {e}", command.get_program())).into()
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Self { code: output.status.code(), signal: output.status.signal(), stdout: output.stdout, stderr }
    }
}

impl Ran {
    /// Ended with this code, and without a panic.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        let (got, signal) = (self.code, self.signal);
        assert_eq!(got, Some(code), "signal {signal:?}, stderr:\n{}", self.stderr);
        self
    }

    /// Ended with this code and exactly one line of error, which holds all of `words`.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &[&str]) -> Self {
        let ran = self.exits(code);
        let errors: Vec<&str> = ran.stderr.lines().filter(|l| l.contains("error:")).collect();
        assert_eq!(errors.len(), 1, "one message is wanted:\n{}", ran.stderr);
        for word in words {
            assert!(errors[0].contains(word), "'{word}' is not in: {}", errors[0]);
        }
        ran
    }

    /// Some line of stderr holds `word`.
    #[track_caller]
    pub(crate) fn says(self, word: &str) -> Self {
        assert!(self.stderr.contains(word), "'{word}' is not in:\n{}", self.stderr);
        self
    }
}

/// A folder that goes away with the test.
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    /// The path of a file in the folder, as text.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("temporary paths are UTF-8").to_owned()
    }

    /// The names in the folder, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("the folder is there");
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The clip, `times` in a row, without encoding it again.
    pub(crate) fn long_clip(&self, times: usize) -> String {
        let (once, out) = (self.path("once.mp4"), self.path("long.mp4"));
        let again = (times - 1).to_string();
        // The sound ends a little before the picture, so that nothing overlaps where the ends meet.
        ffmpeg(&["-i", CLIP, "-t", "4.95", "-i", CLIP, "-map", "0:v", "-map", "1:a", "-c", "copy", &once]);
        ffmpeg(&["-stream_loop", &again, "-i", &once, "-c", "copy", &out]);
        std::fs::remove_file(once).expect("it was just written");
        out
    }
}

/// Runs the ffmpeg program, which must succeed.
#[track_caller]
pub(crate) fn ffmpeg(args: &[&str]) {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y"]).args(args);
    let ran = run(command);
    assert_eq!(ran.code, Some(0), "ffmpeg {args:?}: {}", ran.stderr);
}

/// What ffprobe knows under `section` (`streams`, `packets`, `frames`), with its own options in front.
#[track_caller]
pub(crate) fn probe(path: &str, section: &str, options: &[&str]) -> Vec<Value> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-of", "json", &format!("-show_{section}")]).args(options).arg(path);
    let ran = run(command);
    assert_eq!(ran.code, Some(0), "ffprobe {path}: {}", ran.stderr);
    let mut value: Value = serde_json::from_slice(&ran.stdout).expect("ffprobe writes JSON");
    match value[section].take() {
        Value::Array(list) => list,
        other => panic!("ffprobe {path}: {section} is {other}"),
    }
}

/// The number of video frames that can be decoded.
#[track_caller]
pub(crate) fn frame_count(path: &str) -> usize {
    probe(path, "frames", &["-select_streams", "v:0", "-show_entries", "frame=pts"]).len()
}

/// The file decodes from end to end without a single complaint, and holds at least one frame of video.
#[track_caller]
pub(crate) fn assert_plays(path: &str) {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "warning", "-nostdin", "-xerror", "-i", path, "-map", "0", "-f", "null", "-"]);
    let ran = run(command);
    assert!(ran.code == Some(0) && ran.stderr.is_empty(), "{path} does not play: {}", ran.stderr);
    assert!(frame_count(path) > 0, "{path} holds no frame");
}

/// The file decodes without a complaint. Times are taken as they are: the frames of a camera keep to no grid.
#[track_caller]
pub(crate) fn assert_plays_live(path: &str) {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "warning", "-nostdin", "-xerror", "-i", path, "-map", "0", "-fps_mode", "passthrough"]);
    command.args(["-enc_time_base", "-1", "-f", "null", "-"]);
    let ran = run(command);
    assert!(ran.code == Some(0) && ran.stderr.is_empty(), "{path} does not play: {}", ran.stderr);
}

/// Gathers what a program says on standard error while it runs.
pub(crate) fn listen(mut stderr: std::process::ChildStderr) -> (Arc<Mutex<String>>, JoinHandle<()>) {
    let said = Arc::new(Mutex::new(String::new()));
    let copy = said.clone();
    let listener = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stderr.read(&mut buffer) {
            copy.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
    });
    (said, listener)
}
