//! A machine with cameras that exist only for krea: `v4l2.c` stands between it and the kernel.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{Ran, Scratch, ffmpeg, krea, run, skip};
use crate::recording::Recording;

/// A webcam as most are: raw pictures only as fast as USB 2 carries them.
pub(crate) const WEBCAM: &str = "\
format YUYV 640x480 30 15
format YUYV 1280x720 10
format MJPG 1280x720 30 15
";

/// A virtual camera of v4l2loopback, before anybody gives it pictures.
pub(crate) const LOOPBACK: &str = "output\n";

pub(crate) struct Machine {
    pub(crate) scratch: Scratch,
    library: PathBuf,
}

impl Machine {
    /// `None`, said aloud, where there is no Video4Linux to pretend or no compiler to do it with.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let scratch = Scratch::new();
        let library = scratch.root().join("v4l2.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/camera/v4l2.c");
        if !cfg!(target_os = "linux") {
            skip(test, "Video4Linux is Linux's");
            return None;
        }
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source).args(["-ldl", "-lpthread"]);
        let Ok(compiled) = compiler.output() else {
            skip(test, "no C compiler (cc)");
            return None;
        };
        assert!(compiled.status.success(), "v4l2.c: {}", String::from_utf8_lossy(&compiled.stderr));
        for folder in ["dev/v4l/by-id", "sys/class/video4linux", "state", "jpeg", "aside", "written"] {
            fs::create_dir_all(scratch.root().join(folder)).unwrap();
        }
        Some(Self { scratch, library })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.scratch.root().join(path)
    }

    /// A camera with these formats appears as `/dev/videoN`.
    pub(crate) fn plug(&self, node: u32, name: &str, formats: &str) {
        let class = self.at(&format!("sys/class/video4linux/video{node}"));
        fs::create_dir_all(&class).unwrap();
        fs::write(class.join("name"), format!("{name}\n")).unwrap();
        fs::write(class.join("index"), "0\n").unwrap();
        self.set(node, "ok");
        let id = self.at(&format!("dev/v4l/by-id/usb-{}-video-index0", name.replace(' ', "_")));
        let _ = fs::remove_file(&id);
        std::os::unix::fs::symlink(format!("../../video{node}"), id).unwrap();
        let aside = self.at("aside/new");
        fs::write(&aside, format!("card {name}\n{formats}")).unwrap();
        fs::rename(aside, self.at(&format!("dev/video{node}"))).unwrap();
    }

    pub(crate) fn unplug(&self, node: u32) {
        fs::remove_file(self.at(&format!("dev/video{node}"))).unwrap();
        fs::remove_dir_all(self.at(&format!("sys/class/video4linux/video{node}"))).unwrap();
    }

    /// `ok`, `busy`, `denied`, `stalled`, `hung` (until it is started anew) or `black`, from the next picture on.
    pub(crate) fn set(&self, node: u32, state: &str) {
        let aside = self.at("aside/state");
        fs::write(&aside, format!("{state}\n")).unwrap();
        fs::rename(aside, self.at(&format!("state/video{node}"))).unwrap();
    }

    /// What the cameras give as JPEG of that size: the left half red, the right half blue, a white bar that moves.
    pub(crate) fn draw_jpegs(&self, width: u32, height: u32) {
        let folder = self.at(&format!("jpeg/{width}x{height}"));
        fs::create_dir_all(&folder).unwrap();
        let half = width / 2;
        let graph = format!(
            "color=red:s={width}x{height}:r=30[r];color=blue:s={half}x{height}:r=30[b];color=white:s=8x{height}:r=30[w];\
             [r][b]overlay=x={half}[t];[t][w]overlay=x=n*8"
        );
        let files = folder.join("%d.jpg");
        ffmpeg(&["-f", "lavfi", "-i", &graph, "-t", "1", "-q:v", "3", files.to_str().unwrap()]);
    }

    /// What a virtual camera was given: the format as `FOURCC WxH`, and the bytes of the pictures.
    pub(crate) fn given(&self, node: u32) -> (String, Vec<u8>) {
        let log = fs::read_to_string(self.at("log")).unwrap_or_default();
        let start = format!("video{node} S_FMT ");
        let format = log.lines().rev().find_map(|l| l.strip_prefix(&start)?.split('@').next()).unwrap_or_default();
        (format.to_owned(), fs::read(self.at(&format!("written/video{node}"))).unwrap_or_default())
    }

    /// The formats that pictures were taken in, each as `videoN FOURCC WxH@FPS`.
    pub(crate) fn streamed(&self) -> Vec<String> {
        let log = fs::read_to_string(self.at("log")).unwrap_or_default();
        log.lines().filter(|l| l.contains(" STREAMON ")).map(|l| l.replace(" STREAMON", "")).collect()
    }

    pub(crate) fn krea(&self, args: &[&str]) -> Command {
        let mut command = krea(args.iter().copied());
        command.env("LD_PRELOAD", &self.library).env("FAKE_V4L2", self.scratch.root());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        run(self.krea(args))
    }

    /// Records until it is stopped.
    pub(crate) fn record(&self, out: &str, args: &[&str]) -> Recording {
        let fixed = ["run", "-o", out, "--preset", "ultrafast", "--progress", "json", "-y", "--size", "640x480"];
        Recording::start(self.krea(&[&fixed, args].concat()))
    }
}

/// Frame `number` of a video, as RGB.
pub(crate) fn picture(path: &str, number: usize, width: usize, height: usize) -> Vec<[u8; 3]> {
    let select = format!("select=eq(n\\,{number}),scale={width}:{height}");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-i", path, "-vf", &select, "-frames:v", "1", "-f", "rawvideo"]);
    command.args(["-pix_fmt", "rgb24", "-"]).stdout(Stdio::piped()).stdin(Stdio::null());
    let mut child = command.spawn().expect("ffmpeg is here");
    let mut bytes = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
    assert!(child.wait().unwrap().success() && bytes.len() == width * height * 3, "{path}: no frame {number}");
    bytes.chunks(3).map(|p| [p[0], p[1], p[2]]).collect()
}
