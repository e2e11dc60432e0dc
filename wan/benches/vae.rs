//! Time of a full-size autoencoder decoding 3 latents, against diffusers' `AutoencoderKLWan` on
//! the same weights, input, precision and number of threads, turn by turn in one run.
//!
//! `cargo bench -p krea-wan --bench vae [-- --dtype bfloat16|float32 --rounds N --threads N]`.
//! The peer is Python with torch and diffusers: `KREA_PEER_PYTHON`, or `.deps/peers/bin/python`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use krea_wan::vae::{DecoderState, LATENT_MEAN, LATENT_STD, TimeHistory, Vae};
use krea_wan::weights::{Layout, Placement, Weights};
use tch::{Device, Kind, Tensor};

struct Options {
    dtype: String,
    rounds: usize,
    threads: i32,
    width: i64,
    height: i64,
    latents: i64,
}

impl Options {
    fn parse() -> Self {
        let mut options =
            Options { dtype: "bfloat16".to_owned(), rounds: 5, threads: 2, width: 320, height: 192, latents: 3 };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            // What cargo itself passes.
            if name == "--bench" {
                continue;
            }
            let value = arguments.next().expect("every option has a value");
            match name.as_str() {
                "--dtype" => options.dtype = value,
                "--rounds" => options.rounds = value.parse().expect("a number"),
                "--threads" => options.threads = value.parse().expect("a number"),
                "--width" => options.width = value.parse().expect("a number"),
                "--height" => options.height = value.parse().expect("a number"),
                "--latents" => options.latents = value.parse().expect("a number"),
                _ => panic!("unknown option {name}"),
            }
        }
        options
    }

    fn kind(&self) -> Kind {
        match self.dtype.as_str() {
            "bfloat16" => Kind::BFloat16,
            "float16" => Kind::Half,
            "float32" => Kind::Float,
            other => panic!("unknown dtype {other}"),
        }
    }
}

/// What one decode took. On a machine with other work, only the processor time says something.
#[derive(Clone, Copy)]
struct Cost {
    /// Seconds that passed.
    wall: f64,
    /// Seconds of all threads together.
    cpu: f64,
}

/// Processor seconds of this process so far: `utime` and `stime` of proc(5), in hundredths.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, fields) = stat.rsplit_once(')').expect("the name is in brackets");
    let ticks = |index: usize| -> f64 {
        fields.split_whitespace().nth(index).and_then(|field| field.parse().ok()).expect("a number of ticks")
    };
    (ticks(11) + ticks(12)) / 100.0
}

/// The running peer, which decodes once for every line.
struct Peer {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Peer {
    fn start(python: &Path, script: &Path, folder: &Path, options: &Options) -> Self {
        let mut child = Command::new(python)
            .arg(script)
            .arg(folder)
            .args(["--dtype", &options.dtype])
            .args(["--threads", &options.threads.to_string()])
            .args(["--width", &options.width.to_string()])
            .args(["--height", &options.height.to_string()])
            .args(["--latents", &options.latents.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the peer's python starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut peer = Peer { child, lines };
        let first = peer.line();
        eprintln!("peer, first decode: {first} s; {}", peer.line());
        peer
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the peer is alive");
        assert!(!line.is_empty(), "the peer ended");
        line.trim().to_owned()
    }

    fn decode(&mut self) -> Cost {
        let input = self.child.stdin.as_mut().expect("stdin is piped");
        writeln!(input, "decode").expect("the peer is alive");
        let line = self.line();
        let (wall, cpu) = line.split_once(' ').expect("two numbers");
        Cost { wall: wall.parse().expect("seconds"), cpu: cpu.parse().expect("seconds") }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let options = Options::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python =
        std::env::var_os("KREA_PEER_PYTHON").map_or_else(|| root.join(".deps/peers/bin/python"), PathBuf::from);
    if !python.exists() {
        eprintln!("SKIP vae: no peer at {} (`make peers`)", python.display());
        return;
    }
    tch::set_num_threads(options.threads);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = root.join("benches/peers/wan_vae.py");
    let mut peer = Peer::start(&python, &script, folder.path(), &options);

    let place = Placement { device: Device::Cpu, kind: options.kind() };
    let weights =
        Weights::open(folder.path().join("vae.safetensors"), Layout::Vae).expect("the peer's weights can be read");
    let vae = Vae::load(weights, place).expect("the peer's weights are complete");
    let decoded = Weights::open(folder.path().join("decoded.safetensors"), Layout::Plain)
        .and_then(Weights::into_tensors)
        .expect("the peer's pictures can be read");

    // The peer takes latents in the autoencoder's own scale, ours in the transformer's.
    let vector = |values: &[f64]| Tensor::from_slice(values).to_kind(Kind::Float).reshape([1, 1, -1, 1, 1]);
    let latents = decoded["latents"].to_kind(Kind::Float).transpose(1, 2);
    let latents = (latents - vector(&LATENT_MEAN)) / vector(&LATENT_STD);
    let decode = || {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let mut state = DecoderState::new(TimeHistory::Upstream);
        let pixels = vae.decode(&latents, &mut state).expect("latents decode");
        (Cost { wall: start.elapsed().as_secs_f64(), cpu: cpu_seconds() - cpu }, pixels)
    };
    let (first, pixels) = decode();
    let expected = decoded["pixels"].to_kind(Kind::Float).transpose(1, 2);
    let error = (pixels.to_kind(Kind::Float) - &expected).abs();
    eprintln!(
        "ours, first decode: {:.4} s; pixels differ by {:.2e} in the mean, {:.2e} at most, of {:.2e}",
        first.wall,
        error.mean(Kind::Float).double_value(&[]),
        error.max().double_value(&[]),
        expected.abs().mean(Kind::Float).double_value(&[]),
    );

    let mut rounds: Vec<(Cost, Cost)> = Vec::new();
    for round in 0..options.rounds {
        // Whoever goes first changes from round to round.
        let (theirs, ours) = if round % 2 == 0 {
            let theirs = peer.decode();
            (theirs, decode().0)
        } else {
            let ours = decode().0;
            (peer.decode(), ours)
        };
        eprintln!(
            "round {round}: peer {:.2} s ({:.2} of processor), ours {:.2} s ({:.2}), ratio {:.3} ({:.3})",
            theirs.wall,
            theirs.cpu,
            ours.wall,
            ours.cpu,
            ours.wall / theirs.wall,
            ours.cpu / theirs.cpu
        );
        rounds.push((theirs, ours));
    }
    let of = |value: fn(&(Cost, Cost)) -> f64| median(rounds.iter().map(value));
    eprintln!(
        "vae decode {}x{}, {} latents, {}, {} threads, medians of {}: peer {:.2} s, ours {:.2} s, ratio {:.3} \
         (of processor time {:.3})",
        options.width,
        options.height,
        options.latents,
        options.dtype,
        options.threads,
        options.rounds,
        of(|(theirs, _)| theirs.wall),
        of(|(_, ours)| ours.wall),
        of(|(theirs, ours)| ours.wall / theirs.wall),
        of(|(theirs, ours)| ours.cpu / theirs.cpu),
    );
}
