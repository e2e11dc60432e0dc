//! Bad input, bad places, bad models and runtimes: the right exit code, one clear message, and nothing left behind.

mod harness;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};

use harness::{CLIP, Scratch, assert_plays, cleaned, frame_count, krea, run, shared, skip};

const MASK: [&str; 3] = ["--remove-bg", "--mask-model", "selfie"];

/// `krea run INPUT --remove-bg` with the embedded model.
fn remove_bg(input: &str, output: &str) -> Command {
    let mut command = krea(["run", input, "-o", output]);
    command.args(MASK);
    command
}

fn root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

#[test]
fn files_without_video_are_refused() {
    for (name, word) in [
        ("text.mp4", "text.mp4"),
        ("zero_bytes.mp4", "empty"),
        ("truncated_no_moov.mp4", "moov"),
        ("audio_only.m4a", "no video"),
    ] {
        let Some(input) = shared("files_without_video_are_refused", &format!("media/broken/{name}")) else { return };
        let scratch = Scratch::new();
        let ran = run(remove_bg(input.to_str().unwrap(), &scratch.path("out.mp4")));
        ran.fails(3, &[name, word]);
        assert!(scratch.names().is_empty(), "{name} left {:?}", scratch.names());
    }
}

#[test]
fn what_can_be_decoded_of_a_damaged_file_is_converted() {
    for (name, word) in
        [("truncated_faststart.mp4", "cut off"), ("truncated.mkv", "cut off"), ("corrupt_middle.mp4", "damaged")]
    {
        let Some(input) = shared("damaged_files", &format!("media/broken/{name}")) else { return };
        let input = input.to_str().unwrap();
        let scratch = Scratch::new();
        let out = scratch.path("out.mp4");
        run(remove_bg(input, &out)).exits(0).says(word);
        assert_plays(&out);
        assert_eq!(frame_count(&out), frame_count(input), "{name}: frames out against frames that ffprobe decodes");
        assert_eq!(scratch.names(), ["out.mp4"]);
    }
}

#[test]
fn an_input_must_be_a_file_that_is_there() {
    let scratch = Scratch::new();
    let out = scratch.path("out.mp4");
    run(remove_bg(&scratch.path("nothing.mp4"), &out)).fails(3, &["nothing.mp4", "no such file"]);
    run(remove_bg(scratch.root().to_str().unwrap(), &out)).fails(3, &["directory"]);
    assert!(scratch.names().is_empty());
}

#[test]
fn an_input_that_may_not_be_read_is_refused() {
    let scratch = Scratch::new();
    let locked = scratch.path("locked.mp4");
    fs::copy(CLIP, &locked).unwrap();
    if root() {
        // Nothing is closed to root but what the kernel itself cannot read.
        let ran = run(remove_bg("/proc/self/mem", &scratch.path("out.mp4"))).exits(3);
        assert!(ran.stderr.contains("/proc/self/mem"), "{}", ran.stderr);
    } else {
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o0)).unwrap();
        run(remove_bg(&locked, &scratch.path("out.mp4"))).fails(3, &["locked.mp4"]);
    }
    assert_eq!(scratch.names(), ["locked.mp4"]);
}

#[test]
fn an_output_needs_a_place_that_can_be_written() {
    let scratch = Scratch::new();
    fs::write(scratch.path("file"), b"x").unwrap();
    fs::create_dir(scratch.path("folder")).unwrap();
    for (output, word) in [
        (scratch.path("missing/out.mp4"), "does not exist"),
        (scratch.path("file/out.mp4"), "file"),
        (scratch.path("folder"), "directory"),
        ("/proc/out.mp4".to_owned(), "/proc/out.mp4"),
    ] {
        run(remove_bg(CLIP, &output)).fails(6, &[word]);
    }
    assert_eq!(scratch.names(), ["file", "folder"]);
    assert_eq!(fs::read(scratch.path("file")).unwrap(), b"x");
}

#[test]
fn a_container_that_nobody_knows_is_a_usage_error() {
    let scratch = Scratch::new();
    run(remove_bg(CLIP, &scratch.path("out.nosuchcontainer"))).fails(2, &["nosuchcontainer"]);
    assert!(scratch.names().is_empty());
}

/// Runs a shell script in a mount namespace of its own, where `$1` is a fresh tmpfs with these options. `None` where
/// that is not allowed.
fn on_tmpfs(test: &str, scratch: &Scratch, options: &str, script: &str, args: &[&str]) -> Option<harness::Ran> {
    let disk = scratch.path("disk");
    fs::create_dir_all(&disk).unwrap();
    let flags = if root() { "-m" } else { "-rm" };
    let mount = format!("mount -t tmpfs -o {options} none \"$1\" || exit 99\n{script}");
    let mut command = cleaned("unshare", [flags, "sh", "-c", &mount, "sh", &disk]);
    command.args(args);
    let ran = run(command);
    if ran.stderr.contains("unshare") || ran.code == Some(99) {
        skip(test, &format!("no mount namespace: {}", ran.stderr.trim()));
        return None;
    }
    Some(ran)
}

const KREA: &str = env!("CARGO_BIN_EXE_krea");

#[test]
fn a_full_disk_is_named_and_nothing_half_done_stays() {
    let scratch = Scratch::new();
    let script = r#""$2" run "$3" -o "$1/out.mp4"; code=$?; ls "$1" >"$4"; exit $code"#;
    let list = scratch.path("list");
    let Some(ran) = on_tmpfs("a_full_disk", &scratch, "size=100k", script, &[KREA, CLIP, &list]) else { return };
    ran.fails(6, &["disk is full", "out.mp4"]);
    assert_eq!(fs::read_to_string(&list).unwrap(), "", "files left on the full disk");
}

#[test]
fn a_full_disk_leaves_what_stood_there() {
    let scratch = Scratch::new();
    let script =
        r#"echo before >"$1/out.mp4"; "$2" run "$3" -y -o "$1/out.mp4"; code=$?; cat "$1/out.mp4"; exit $code"#;
    let Some(ran) = on_tmpfs("a_full_disk_leaves", &scratch, "size=100k", script, &[KREA, CLIP]) else { return };
    let ran = ran.fails(6, &["disk is full"]);
    assert_eq!(ran.stdout, b"before\n");
}

#[test]
fn a_read_only_disk_is_named() {
    let scratch = Scratch::new();
    let script = r#"mount -o remount,ro "$1" || exit 99; exec "$2" run "$3" -o "$1/out.mp4""#;
    let Some(ran) = on_tmpfs("a_read_only_disk", &scratch, "size=100k", script, &[KREA, CLIP]) else { return };
    ran.fails(6, &["out.mp4", "ead-only"]);
}

#[test]
fn stdout_that_cannot_be_written_is_an_output_error() {
    let mut command = krea(["run", CLIP, "-o", "-", "-f", "mpegts"]);
    command.stdout(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    run(command).fails(6, &["full"]);
}

#[test]
fn an_output_that_exists_is_kept_unless_told_otherwise() {
    let scratch = Scratch::new();
    let out = scratch.path("out.mp4");
    fs::write(&out, b"precious").unwrap();
    run(krea(["run", CLIP, "-o", &out])).fails(6, &["exists", "-y"]);
    run(krea(["run", CLIP, "-o", &out, "-n"])).exits(0).says("left as it is");
    assert_eq!(fs::read(&out).unwrap(), b"precious");
    run(krea(["run", CLIP, "-o", &out, "-y", "--duration", "0.5"])).exits(0);
    assert_plays(&out);
    assert_eq!(scratch.names(), ["out.mp4"]);
}

#[test]
fn the_input_is_never_overwritten() {
    let scratch = Scratch::new();
    let (clip, link) = (scratch.path("clip.mp4"), scratch.path("link.mp4"));
    fs::copy(CLIP, &clip).unwrap();
    symlink(&clip, &link).unwrap();
    for output in [&clip, &link, &scratch.path("./clip.mp4")] {
        run(krea(["run", &clip, "-o", output, "-y"])).fails(2, &["same file"]);
    }
    assert_eq!(fs::read(&clip).unwrap(), fs::read(CLIP).unwrap());
    assert_eq!(scratch.names(), ["clip.mp4", "link.mp4"]);
}

/// One field of a protocol buffer with a length in front.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    assert!(number < 16 && content.len() < 128, "one byte each is enough here");
    [&[number << 3 | 2, content.len() as u8], content].concat()
}

/// A sound ONNX file that has nothing to do with people: y = x, four numbers.
fn identity_model() -> Vec<u8> {
    let shape = field(2, &field(1, &[1 << 3, 4]));
    let tensor = field(2, &field(1, &[vec![1 << 3, 1], shape].concat()));
    let port = |name: &[u8]| [field(1, name), tensor.clone()].concat();
    let node = [field(1, b"x"), field(2, b"y"), field(4, b"Identity")].concat();
    let graph = [field(1, &node), field(2, b"g"), field(11, &port(b"x")), field(12, &port(b"y"))].concat();
    [vec![1 << 3, 8], field(8, &[2 << 3, 13]), field(7, &graph)].concat()
}

#[test]
fn a_model_that_is_none_is_named() {
    let scratch = Scratch::new();
    let selfie =
        fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/models/selfie_segmentation_landscape_nchw.onnx")).unwrap();
    let files = [
        ("random.onnx", (0..5000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()),
        ("cut.onnx", selfie[..selfie.len() / 2].to_vec()),
        ("empty.onnx", Vec::new()),
        ("identity.onnx", identity_model()),
        ("clip.onnx", fs::read(CLIP).unwrap()),
    ];
    for (name, bytes) in files {
        let model = scratch.path(name);
        fs::write(&model, bytes).unwrap();
        let out = scratch.path("out.mp4");
        run(krea(["run", CLIP, "--remove-bg", "--mask-model", &model, "-o", &out])).fails(4, &[name]);
        fs::remove_file(&model).unwrap();
        assert!(scratch.names().is_empty(), "{name} left {:?}", scratch.names());
    }
    let missing = scratch.path("missing.onnx");
    run(krea(["run", CLIP, "--remove-bg", "--mask-model", &missing, "-o", &scratch.path("o.mp4")]))
        .fails(4, &["missing.onnx"]);
    let (mut command, home) = (
        krea(["run", CLIP, "--remove-bg", "--mask-model", "yolov8n-seg", "-o", &scratch.path("o.mp4")]),
        Scratch::new(),
    );
    command.env("KREA_MODELS_DIR", scratch.root()).env("HOME", home.root()).env_remove("XDG_CACHE_HOME");
    command.env_remove("HF_HOME").env_remove("HF_HUB_CACHE");
    run(command).fails(4, &["yolov8n-seg", "KREA_MODELS_DIR"]);
    assert!(scratch.names().is_empty());
}

#[test]
fn the_identity_model_is_sound() {
    // Else `a_model_that_is_none_is_named` would test a corrupt file twice.
    let scratch = Scratch::new();
    let model = scratch.path("identity.onnx");
    fs::write(&model, identity_model()).unwrap();
    let ran = run(krea(["run", CLIP, "--remove-bg", "--mask-model", &model, "-o", &scratch.path("out.mp4")]));
    ran.fails(4, &["Expected", "Found"]);
}

#[test]
fn without_onnx_runtime_the_remedy_is_named() {
    let scratch = Scratch::new();
    // Away from the checkout, so that its .deps is out of sight; without a PATH, so that no Python is asked.
    let lonely = scratch.path("krea");
    fs::copy(KREA, &lonely).unwrap();
    let out = scratch.path("out.mp4");
    let mut command = cleaned(&lonely, ["run", CLIP, "-o", &out]);
    command.args(MASK).current_dir(scratch.root()).env("PATH", scratch.root());
    for name in ["ORT_DYLIB_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH"] {
        command.env_remove(name);
    }
    let ran = run(command);
    if ran.code == Some(0) {
        skip("without_onnx_runtime", "this system has an ONNX Runtime of its own");
        return;
    }
    ran.fails(5, &["ONNX Runtime", "pip install onnxruntime", "KREA_ONNXRUNTIME"]);
    assert_eq!(scratch.names(), ["krea"]);

    // What needs no mask needs no runtime.
    let mut command = cleaned(&lonely, ["run", CLIP, "-o", &out, "--duration", "0.2"]);
    command.current_dir(scratch.root()).env("PATH", scratch.root());
    run(command).exits(0);
}

/// A library that says it is ONNX Runtime of some version and offers no interface at all.
fn fake_runtime(scratch: &Scratch, version: &str) -> String {
    let (source, library) = (scratch.path("fake.c"), scratch.path("libonnxruntime.so"));
    let code = format!(
        "static const void *get_api(unsigned v) {{ (void)v; return 0; }}
         static const char *version(void) {{ return \"{version}\"; }}
         static const struct {{ const void *(*a)(unsigned); const char *(*v)(void); }} base = {{ get_api, version }};
         const void *OrtGetApiBase(void) {{ return &base; }}"
    );
    fs::write(&source, code).unwrap();
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o", &library, &source]).status().unwrap();
    assert!(built.success());
    library
}

#[test]
fn a_runtime_that_will_not_do_is_named() {
    let scratch = Scratch::new();
    let old = fake_runtime(&scratch, "1.17.3");
    let (text, missing) = (scratch.path("text.so"), scratch.path("missing.so"));
    fs::write(&text, b"no library").unwrap();
    for (library, words) in
        [(&old, &["1.17.3", "too old", "pip install"][..]), (&text, &["text.so"]), (&missing, &["missing.so"])]
    {
        let mut command = remove_bg(CLIP, &scratch.path("out.mp4"));
        command.env("KREA_ONNXRUNTIME", library);
        run(command).fails(5, words);
    }
    fake_runtime(&scratch, "1.99.0");
    let mut command = remove_bg(CLIP, &scratch.path("out.mp4"));
    command.env("KREA_ONNXRUNTIME", &old);
    run(command).fails(5, &["1.99.0", "interface"]);
    assert!(!scratch.names().iter().any(|n| n.starts_with("out")), "{:?}", scratch.names());
}

#[test]
fn a_reader_that_goes_away_is_a_normal_end() {
    for format in ["matroska", "mpegts", "yuv4mpegpipe"] {
        let mut command = krea(["run", CLIP, "-o", "-", "-f", format]);
        command.args(MASK).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut head = Command::new("head")
            .args(["-c", "1000"])
            .stdin(child.stdout.take().unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        head.wait().unwrap();
        let ran = harness::Ran::from(child.wait_with_output().unwrap()).exits(0);
        assert!(!ran.stderr.contains("error"), "{format}: {}", ran.stderr);
    }
}

#[test]
fn flags_that_make_no_sense_are_usage_errors() {
    let scratch = Scratch::new();
    let out = scratch.path("out.mp4");
    for args in [
        &["--no-such-flag"][..],
        &["--bg", "nocolour"],
        &["--confidence", "2"],
        &["--size", "0x0"],
        &["--fps", "-1"],
        &["--smooth", "7"],
        &["--codec", "nosuchcodec"],
        &["--pix-fmt", "nosuchformat"],
        &["--codec", "mjpeg", "--crf", "20"],
        &["--", "-nosuchoption", "1"],
        &["--", "stray"],
    ] {
        let mut command = krea(["run", CLIP, "-o", &out]);
        command.args(args);
        let ran = run(command).exits(2);
        assert!(ran.stderr.contains("error:"), "{args:?}: {}", ran.stderr);
        assert!(scratch.names().is_empty(), "{args:?} left {:?}", scratch.names());
    }
}

#[test]
fn a_start_behind_the_end_says_so_with_every_encoder() {
    let scratch = Scratch::new();
    // SVT-AV1 never came back from being closed without a frame.
    for codec in ["libx264", "libsvtav1"] {
        let out = scratch.path("x.mkv");
        let mut child = krea(["run", CLIP, "--codec", codec, "--start", "100", "-o", &out]).spawn().unwrap();
        let begun = std::time::Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed().as_secs() > 60 {
                child.kill().unwrap();
                panic!("{codec}: it never ends");
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        // 2 where this FFmpeg has no such encoder.
        assert!(matches!(status.code(), Some(3 | 2)), "{codec}: {status}");
        assert!(scratch.names().is_empty(), "{:?}", scratch.names());
    }
}
