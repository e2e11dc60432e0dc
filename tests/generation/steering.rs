//! A generation that is steered while it runs.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::Studio;

const CAMERA: &str = "lavfi:testsrc2=size=64x48:rate=16,realtime";

fn start(studio: &Studio, args: &[&str]) -> Child {
    let out = studio.path("out.mkv");
    let mut command = studio.command(&[&[CAMERA, "-o", &out], args].concat());
    command.stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for something that comes within a minute.
fn wait_for<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = what() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "it never comes");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn commands_reach_the_model() {
    let Some(studio) = Studio::new("commands_reach_the_model") else { return };
    let (socket, stats) = (studio.path("krea.sock"), studio.path("stats.json"));
    let child = start(&studio, &["--prompt", "oil painting", "--control", &socket, "--stats", &stats]);
    let stream = wait_for(|| UnixStream::connect(&socket).ok());
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut ask = |line: &str| -> serde_json::Value {
        writeln!(&stream, "{line}").unwrap();
        serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()
    };
    // The first block is there before anything is changed.
    wait_for(|| ask(r#"{"status":true}"#)["status"]["frames"].as_u64().filter(|n| *n > 0));
    for good in [r#"{"prompt":"snow at night","blend":1}"#, r#"{"strength":0.4}"#, r#"{"seed":9}"#, r#"{"reset":true}"#]
    {
        assert_eq!(ask(good)["ok"], true, "{good}");
    }
    for bad in [r#"{"strength":0}"#, r#"{"strength":7}"#, r#"{"prompt":" "}"#] {
        assert_eq!(ask(bad)["ok"], false, "{bad}");
    }
    assert_eq!(ask(r#"{"status":true}"#)["status"]["prompt"], "snow at night");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(ask(r#"{"quit":true}"#)["ok"], true);
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success() && said.contains("prompt: snow at night"), "{said}");
    let stats: serde_json::Value = serde_json::from_slice(&std::fs::read(stats).unwrap()).unwrap();
    assert_eq!(stats["generation"]["resets"], 1);
}

#[test]
fn a_prompt_file_is_read_again_when_it_changes() {
    let Some(studio) = Studio::new("a_prompt_file_is_read_again_when_it_changes") else { return };
    let file = studio.path("looks.txt");
    std::fs::write(&file, "0 oil painting\n").unwrap();
    let mut child = start(&studio, &["--prompt-file", &file, "--duration", "60"]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut until = |word: &str| {
        let found = lines.find(|line| line.contains(word));
        found.unwrap_or_else(|| panic!("it ends without '{word}'"))
    };
    until("repainted by");
    std::fs::write(&file, "0 oil painting\nx nonsense\n").unwrap();
    until("stay as they are");
    std::fs::write(&file, "0 snow at night\n").unwrap();
    until("read again");
    assert!(until("prompt at").contains("snow at night"));
    // SAFETY: kill(2) takes no pointer; the child has not been waited for, so its number is still its own.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGINT) }, 0);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
