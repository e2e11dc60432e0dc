//! `krea doctor` with each part taken away: the right line says so, with a remedy, and the others are still looked at.

mod harness;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Scratch, krea, run, skip};
use serde_json::Value;

const CHECKS: [&str; 8] = ["ffmpeg", "onnxruntime", "libtorch", "plugin", "gpu", "cameras", "models", "memory"];

/// What was found, and the exit code.
struct Report {
    json: Value,
    code: i32,
}

impl Report {
    /// Runs with these variables set.
    fn with(variables: &[(&str, &str)]) -> Self {
        let mut command = krea(["doctor", "--json"]);
        command.envs(variables.iter().copied());
        Self::of(command)
    }

    #[track_caller]
    fn of(command: Command) -> Self {
        let ran = run(command);
        let json: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {}", ran.stderr));
        assert_eq!(json["version"], 1);
        let names: Vec<_> = json["checks"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
        assert_eq!(names, CHECKS, "no check may be lost");
        let code = ran.code.unwrap();
        assert_eq!(json["ready"] == true, code == 0);
        Self { json, code }
    }

    fn check(&self, name: &str) -> &Value {
        self.json["checks"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap()
    }

    /// Some line of the check has this verdict, these words, and a remedy with these.
    #[track_caller]
    fn says(&self, check: &str, verdict: &str, words: &str, remedy: &str) {
        let has = |value: &Value, words: &str| value.as_str().unwrap_or_default().contains(words);
        let lines = self.check(check)["lines"].as_array().unwrap();
        let found =
            lines.iter().any(|l| l["verdict"] == verdict && has(&l["text"], words) && has(&l["remedy"], remedy));
        assert!(found, "{check} does not say '{words}' and '{remedy}': {lines:#?}");
    }

    /// The verdicts of all checks but these.
    fn others(&self, but: &[&str]) -> Vec<(String, String)> {
        let checks = self.json["checks"].as_array().unwrap().iter();
        let pair = |c: &Value| (c["name"].as_str().unwrap().to_owned(), c["verdict"].as_str().unwrap().to_owned());
        checks.map(pair).filter(|(name, _)| !but.contains(&name.as_str())).collect()
    }
}

/// The libonnxruntime that is found without being named.
fn onnxruntime(test: &str) -> Option<PathBuf> {
    let report = Report::with(&[]);
    let path = report.check("onnxruntime")["facts"]["path"].as_str().map(PathBuf::from);
    if path.is_none() {
        skip(test, "there is no ONNX Runtime here");
    }
    path
}

#[test]
fn the_list_and_the_json_say_the_same() {
    let json = Report::with(&[]);
    let list = run(krea(["doctor"])).exits(json.code);
    let list = String::from_utf8(list.stdout).unwrap();
    let mark = |verdict: &str| match verdict {
        "ok" => "ok",
        "absent" => "--",
        _ => "!!",
    };
    let marks = |m: &str| list.lines().filter(|l| l.starts_with(m)).count();
    let all = json.json["checks"].as_array().unwrap().iter().flat_map(|c| c["lines"].as_array().unwrap());
    let expected = |m: &str| all.clone().filter(|l| mark(l["verdict"].as_str().unwrap()) == m).count();
    for m in ["ok", "--", "!!"] {
        assert_eq!(marks(m), expected(m), "{m}\n{list}");
    }
    assert!(all.clone().all(|l| l["verdict"] == "ok" || l["remedy"].is_string()), "a remedy for all that is not ok");
    for title in ["FFmpeg", "ONNX Runtime", "libtorch", "Generator", "GPU", "Cameras", "Models", "Memory, disk"] {
        assert!(list.contains(title), "{title}");
    }
}

#[test]
fn what_works_was_tried() {
    let report = Report::with(&[]);
    report.says("ffmpeg", "ok", "encoders that open: ", "");
    let encoders = report.check("ffmpeg")["facts"]["encoders"].as_array().unwrap();
    assert!(encoders.contains(&"ffv1".into()), "{encoders:?}");
    report.says("memory", "ok", " free", "");
    if onnxruntime("what_works_was_tried").is_some() {
        report.says("onnxruntime", "ok", "the embedded model ran, on CPU", "");
        assert_eq!(report.code, 0, "FFmpeg and ONNX Runtime are enough");
    }
}

#[test]
fn without_onnx_runtime_the_main_job_cannot_be_done() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("text.so"), "not a library").unwrap();
    let usual = Report::with(&[]).others(&["onnxruntime"]);
    for (path, words) in
        [("/nowhere", "/nowhere"), (&scratch.path("text.so"), "text.so"), ("/tmp", "no libonnxruntime")]
    {
        let report = Report::with(&[("KREA_ONNXRUNTIME", path)]);
        assert_eq!(report.code, 5);
        report.says("onnxruntime", "wrong", words, "pip install onnxruntime");
        report.says("onnxruntime", "wrong", words, "KREA_ONNXRUNTIME");
        assert_eq!(report.others(&["onnxruntime"]), usual);
    }
}

#[test]
fn a_library_that_is_cut_short_is_told_and_not_opened() {
    let Some(library) = onnxruntime("a_library_that_is_cut_short_is_told_and_not_opened") else { return };
    let scratch = Scratch::new();
    let whole = std::fs::read(library).unwrap();
    let half = scratch.path("libonnxruntime.so");
    std::fs::write(&half, &whole[..whole.len() / 2]).unwrap();
    let report = Report::with(&[("KREA_ONNXRUNTIME", &half)]);
    assert_eq!(report.code, 5);
    report.says("onnxruntime", "wrong", &format!("and {} are there", whole.len() / 2), "pip install onnxruntime");
    let mut command = krea(["run", harness::CLIP, "--remove-bg", "-o", &scratch.path("out.mp4")]);
    command.env("KREA_ONNXRUNTIME", &half);
    run(command).fails(5, &["libonnxruntime.so", "is damaged", "pip install onnxruntime"]);
}

#[test]
fn a_library_that_crashes_whoever_opens_it_takes_nothing_with_it() {
    let name = "a_library_that_crashes_whoever_opens_it_takes_nothing_with_it";
    let scratch = Scratch::new();
    let (source, library) = (scratch.path("crash.c"), scratch.path("libonnxruntime.so"));
    std::fs::write(&source, "#include <stdlib.h>\n__attribute__((constructor)) void crash(void) { abort(); }\n")
        .unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o", &library, &source]).output();
    if !built.is_ok_and(|o| o.status.success()) {
        return skip(name, "there is no C compiler");
    }
    let usual = Report::with(&[]).others(&["onnxruntime"]);
    let report = Report::with(&[("KREA_ONNXRUNTIME", &library)]);
    assert_eq!(report.code, 5);
    report.says("onnxruntime", "wrong", "has crashed (signal 6)", "install it again");
    assert_eq!(report.others(&["onnxruntime"]), usual);
}

#[test]
fn libtorch_missing_wrong_and_damaged() {
    let scratch = Scratch::new();
    let report = Report::with(&[("KREA_LIBTORCH", scratch.root().to_str().unwrap())]);
    report.says("libtorch", "wrong", "libtorch is not on this machine", "pip install torch==");
    let version = krea::runtime::torch::VERSION;
    for (says, content, words, remedy) in [
        ("2.0.0".to_owned(), "", "holds libtorch 2.0.0", "KREA_LIBTORCH"),
        (format!("{version}.0"), "<html>404</html>", "is damaged", "--force-reinstall"),
    ] {
        std::fs::write(scratch.path("version.py"), format!("__version__ = '{says}'\n")).unwrap();
        for file in ["libc10.so", "libtorch_cpu.so"] {
            std::fs::write(scratch.path(file), content).unwrap();
        }
        // The version stands beside the folder `lib`.
        let lib = scratch.root().join("lib");
        std::fs::create_dir_all(&lib).unwrap();
        for file in ["libc10.so", "libtorch_cpu.so"] {
            std::fs::copy(scratch.path(file), lib.join(file)).unwrap();
        }
        let report = Report::with(&[("KREA_LIBTORCH", scratch.root().to_str().unwrap())]);
        report.says("libtorch", "wrong", words, remedy);
        assert_ne!(report.check("plugin")["verdict"], "ok", "it does not open without libtorch");
        assert_eq!(report.code, Report::with(&[]).code, "removing backgrounds needs no libtorch");
    }
}

#[test]
fn the_plugin_missing_and_not_a_plugin() {
    let report = Report::with(&[("KREA_WAN_PLUGIN", "/nowhere/libkrea_wan.so")]);
    report.says("plugin", "wrong", "/nowhere/libkrea_wan.so", "KREA_WAN_PLUGIN");
    assert_eq!(report.code, Report::with(&[]).code);
    let scratch = Scratch::new();
    std::fs::write(scratch.path("libkrea_wan.so"), "text").unwrap();
    let report = Report::with(&[("KREA_WAN_PLUGIN", &scratch.path("libkrea_wan.so"))]);
    match report.check("libtorch")["facts"]["version"].is_string() {
        true => report.says("plugin", "wrong", "cannot be opened", "same release"),
        false => report.says("plugin", "absent", "does not open without libtorch", "See libtorch"),
    }
}

#[test]
fn without_any_environment_the_rest_still_works() {
    let mut command = krea(["doctor", "--json"]);
    command.env_clear();
    let report = Report::of(command);
    report.says("models", "wrong", "no place for the Hugging Face cache", "HF_HUB_CACHE");
    assert_eq!(report.check("ffmpeg")["verdict"], "ok");
    let scratch = Scratch::new();
    let mut command = krea(["doctor", "--json"]);
    command.env_clear().env("HOME", scratch.root()).env("PATH", "");
    let report = Report::of(command);
    report.says("models", "ok", "Hugging Face cache, 0 bytes", "");
    report.says("models", "absent", "no model is here", "krea models pull yolov8n-seg");
    assert!(scratch.names().is_empty(), "looking leaves nothing behind: {:?}", scratch.names());
}

/// A folder with a program `nvidia-smi` in it that does this.
fn nvidia_smi(scratch: &Scratch, script: &str) -> String {
    let path = scratch.path("nvidia-smi");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("{}:/usr/bin:/bin", scratch.root().display())
}

#[test]
fn a_check_that_hangs_is_given_up_with_all_that_it_has_started() {
    let scratch = Scratch::new();
    let path = nvidia_smi(&scratch, &format!("echo $$ > {}; exec sleep 600", scratch.path("pid")));
    let mut command = krea(["doctor", "--json", "--deadline", "20"]);
    command.env("PATH", &path);
    let begun = std::time::Instant::now();
    let report = Report::of(command);
    assert!(begun.elapsed().as_secs() < 120);
    report.says("gpu", "wrong", "has not answered in 20 s", "--deadline");
    assert_eq!(report.check("ffmpeg")["verdict"], "ok");
    let pid = std::fs::read_to_string(scratch.path("pid")).unwrap();
    let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "the program that hangs is still there: {state}");
}

#[test]
fn what_the_driver_says_is_told() {
    let scratch = Scratch::new();
    let path = nvidia_smi(&scratch, "echo 'NVIDIA H200, 143771, 143000, 570.86'");
    Report::with(&[("PATH", &path)]).says("gpu", "ok", "NVIDIA H200, 143000 of 143771 MiB free, driver 570.86", "");
    let path = nvidia_smi(&scratch, "echo 'No devices were found'; exit 6");
    let report = Report::with(&[("PATH", &path)]);
    report.says("gpu", "wrong", "nvidia-smi", "driver");
}

#[test]
fn models_that_are_here_and_a_lock_that_is_damaged() {
    let (home, plain) = (Scratch::new(), Scratch::new());
    std::fs::write(plain.path("yolov8n-seg.onnx"), "x").unwrap();
    let folders = [("HOME", home.root().to_str().unwrap()), ("KREA_MODELS_DIR", plain.root().to_str().unwrap())];
    let report = |more: &[(&str, &str)]| {
        let mut command = krea(["doctor", "--json"]);
        for name in ["HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "XDG_STATE_HOME"] {
            command.env_remove(name);
        }
        command.envs(folders).envs(more.iter().copied());
        Report::of(command)
    };
    let found = report(&[]);
    found.says("models", "ok", "here: yolov8n-seg", "");
    found.says("models", "ok", "yolov8n-seg.onnx", "");
    assert_eq!(found.check("models")["facts"]["models"]["krea-14b"], "missing");
    report(&[("KREA_MODELS_DIR", "/nowhere")]).says("models", "wrong", "/nowhere", "Make it");

    let state = home.root().join(".local/state/krea");
    std::fs::create_dir_all(&state).unwrap();
    std::fs::write(state.join("models.lock.json"), "{").unwrap();
    report(&[]).says("models", "wrong", "models.lock.json", "Move the file away");
}

#[test]
fn a_cache_that_cannot_be_written() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path("file"), "x").unwrap();
    let report = Report::with(&[("HF_HUB_CACHE", &scratch.path("file/hub"))]);
    report.says("models", "wrong", "is no folder", "HF_HUB_CACHE");
    assert_eq!(report.check("ffmpeg")["verdict"], "ok");

    let name = "a_cache_that_cannot_be_written";
    let Some(disk) = Mounted::new("size=1m,ro") else { return skip(name, "only root may mount a disk") };
    let report = Report::with(&[("HF_HUB_CACHE", disk.0.root().to_str().unwrap())]);
    report.says("models", "wrong", "cannot be written: Read-only file system", "HF_HUB_CACHE");
    let report = Report::with(&[("TMPDIR", disk.0.root().to_str().unwrap())]);
    report.says("memory", "wrong", "cannot be written", "TMPDIR");
    report.says("memory", "wrong", "free (", "Make room");
    assert_eq!(report.code, Report::with(&[]).code);
}

/// A file system in memory that is gone when this is dropped.
struct Mounted(Scratch);

impl Mounted {
    fn new(options: &str) -> Option<Self> {
        let folder = Scratch::new();
        let path: &Path = folder.root();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "krea-test"]).arg(path).output();
        mounted.is_ok_and(|o| o.status.success()).then_some(Self(folder))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.root()).status();
    }
}
