//! `krea doctor`: what of all that krea can use is on this machine, whether it is really used, and what to do if not.
//!
//! Each check looks by trying, in a process of its own: a library that hangs or crashes takes nothing with it.

mod cameras;
mod ffmpeg;
mod gpu;
pub mod isolation;
mod memory;
mod models;
mod onnx;
mod torch;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Exit;

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// There, tried, works.
    Ok,
    /// Not there; something can be done without it.
    Absent,
    /// There, and does not work; or needed, and not there.
    Wrong,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub verdict: Verdict,
    pub text: String,
    pub remedy: Option<String>,
    /// Without it people cannot be found and no video be written.
    pub blocks: bool,
}

/// What a check has found, for people and for programs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub lines: Vec<Line>,
    pub facts: serde_json::Map<String, Value>,
}

/// A check by its name.
pub struct Check {
    pub name: &'static str,
    pub title: &'static str,
    /// The main job needs what is looked at here.
    needed: bool,
    /// What to do when looking alone crashes the process.
    after_crash: &'static str,
    look: fn() -> Finding,
}

const REINSTALL: &str = "A library that it opens is likely damaged: install it again";

pub const CHECKS: [Check; 8] = [
    Check { name: "ffmpeg", title: "FFmpeg", needed: true, after_crash: REINSTALL, look: ffmpeg::look },
    Check { name: "onnxruntime", title: "ONNX Runtime", needed: true, after_crash: REINSTALL, look: onnx::look },
    Check { name: "libtorch", title: "libtorch", needed: false, after_crash: REINSTALL, look: torch::look },
    Check { name: "plugin", title: "Generator", needed: false, after_crash: REINSTALL, look: torch::look_at_plugin },
    Check { name: "gpu", title: "GPU", needed: false, after_crash: "Install the driver again", look: gpu::look },
    Check { name: "cameras", title: "Cameras", needed: false, after_crash: REINSTALL, look: cameras::look },
    Check { name: "models", title: "Models", needed: false, after_crash: REINSTALL, look: models::look },
    Check { name: "memory", title: "Memory, disk", needed: false, after_crash: REINSTALL, look: memory::look },
];

/// The check of this name, carried out here and now.
pub fn look(name: &str) -> Option<Finding> {
    CHECKS.iter().find(|c| c.name == name).map(|check| (check.look)())
}

/// Carries out all checks side by side, each in a process of its own that must end within `deadline`.
pub fn examine(deadline: Duration) -> Vec<(&'static Check, Finding)> {
    static ALL: &[Check] = &CHECKS;
    std::thread::scope(|scope| {
        let running: Vec<_> =
            ALL.iter().map(|check| (check, scope.spawn(move || isolation::run(check, deadline)))).collect();
        let joined = |(check, thread): (&'static Check, std::thread::ScopedJoinHandle<'_, Finding>)| {
            (check, thread.join().unwrap_or_else(|_| isolation::failed(check, "the check has panicked")))
        };
        running.into_iter().map(joined).collect()
    })
}

/// Done if people can be found and video be written, else a device error.
pub fn verdict<'a>(mut findings: impl Iterator<Item = &'a Finding>) -> Exit {
    if findings.any(|f| f.lines.iter().any(|l| l.blocks)) { Exit::Device } else { Exit::Done }
}

impl Finding {
    fn ok(&mut self, text: impl Into<String>) {
        self.push(Verdict::Ok, text.into(), None, false);
    }

    fn absent(&mut self, text: impl Into<String>, remedy: impl Into<String>) {
        self.push(Verdict::Absent, text.into(), Some(remedy.into()), false);
    }

    fn wrong(&mut self, text: impl Into<String>, remedy: impl Into<String>) {
        self.push(Verdict::Wrong, text.into(), Some(remedy.into()), false);
    }

    /// Wrong, and the main job cannot do without.
    fn blocked(&mut self, text: impl Into<String>, remedy: impl Into<String>) {
        self.push(Verdict::Wrong, text.into(), Some(remedy.into()), true);
    }

    fn push(&mut self, verdict: Verdict, text: String, remedy: Option<String>, blocks: bool) {
        self.lines.push(Line { verdict, text, remedy: remedy.filter(|r| !r.is_empty()), blocks });
    }

    fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    /// The worst of its lines.
    pub fn verdict(&self) -> Verdict {
        let has = |verdict| self.lines.iter().any(|l| l.verdict == verdict);
        match (has(Verdict::Wrong), has(Verdict::Ok)) {
            (true, _) => Verdict::Wrong,
            (false, true) => Verdict::Ok,
            (false, false) => Verdict::Absent,
        }
    }
}

/// The sentence that says what is wrong, and the rest, which says what to do.
fn halves(message: &str) -> (String, String) {
    let starts = [". Install", ". Take it", ". Use ", " (Install", ": take both"];
    match starts
        .iter()
        .filter_map(|s| message.find(s).map(|at| (at, s.len() - s.trim_start_matches(['.', ' ', '(', ':']).len())))
        .min()
    {
        Some((at, skip)) => {
            let remedy = message[at + skip..].trim_end_matches(['.', ')']);
            (message[..at].to_owned(), remedy.to_owned())
        }
        None => (message.to_owned(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_and_what_to_do_are_told_apart() {
        assert_eq!(halves("x is old. Install y."), ("x is old".into(), "Install y".into()));
        assert_eq!(halves("nothing in /d (Install z)"), ("nothing in /d".into(), "Install z".into()));
        assert_eq!(halves("speaks 2, krea 1: take both"), ("speaks 2, krea 1".into(), "take both".into()));
        assert_eq!(halves("a. b"), ("a. b".into(), String::new()));
    }

    #[test]
    fn one_wrong_line_is_enough() {
        let mut finding = Finding::default();
        assert_eq!(finding.verdict(), Verdict::Absent);
        finding.ok("a");
        finding.absent("b", "");
        assert_eq!((finding.verdict(), verdict([&finding].into_iter())), (Verdict::Ok, Exit::Done));
        finding.wrong("c", "d");
        assert_eq!((finding.verdict(), verdict([&finding].into_iter())), (Verdict::Wrong, Exit::Done));
        finding.blocked("e", "f");
        assert_eq!(verdict([&finding].into_iter()), Exit::Device);
    }
}
