//! The other side of a bench: a Python program that does the same once for every line.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

/// Options as `--name value`, with defaults.
pub struct Options(Vec<(&'static str, String)>);

impl Options {
    /// Reads the command line; an unknown name is refused.
    pub fn parse(defaults: &[(&'static str, &str)]) -> Self {
        let mut options: Vec<(&'static str, String)> =
            defaults.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        // cargo itself passes `--bench`.
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(name) = arguments.next() {
            let known = options.iter_mut().find(|(known, _)| name.strip_prefix("--") == Some(known));
            let (_, value) = known.unwrap_or_else(|| panic!("unknown option {name}"));
            *value = arguments.next().expect("every option has a value");
        }
        Options(options)
    }

    /// The value of an option.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str()).expect("a known option")
    }

    /// The value of an option as a number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> T {
        self.get(name).parse().ok().unwrap_or_else(|| panic!("--{name} takes a number"))
    }
}

/// What doing it once took. On a machine with other work the processor time says more.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Seconds that passed.
    pub wall: f64,
    /// Seconds of all threads together.
    pub cpu: f64,
}

impl Cost {
    /// Measures `work`.
    pub fn of<T>(work: impl FnOnce() -> T) -> (Self, T) {
        let (clock, cpu) = (Instant::now(), cpu_seconds());
        let made = work();
        (Cost { wall: clock.elapsed().as_secs_f64(), cpu: cpu_seconds() - cpu }, made)
    }
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

/// The running peer.
pub struct Peer {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts `benches/peers/{script}` on a folder; `None`, said aloud, if there is no Python for it.
    pub fn start(script: &str, folder: &Path, arguments: &[(&str, &str)]) -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let python =
            std::env::var_os("KREA_PEER_PYTHON").map_or_else(|| root.join(".deps/peers/bin/python"), PathBuf::from);
        if !python.exists() {
            eprintln!("SKIP {script}: no peer at {} (benches/wan.sh makes it)", python.display());
            return None;
        }
        let mut command = Command::new(python);
        command.arg(root.join("benches/peers").join(script)).arg(folder);
        for (name, value) in arguments {
            command.arg(format!("--{name}")).arg(value);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the peer's python starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut peer = Peer { child, lines };
        let first = peer.line();
        eprintln!("peer, first call: {first} s; {}", peer.line());
        Some(peer)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the peer is alive");
        assert!(!line.is_empty(), "the peer ended");
        line.trim().to_owned()
    }

    /// Has the peer do it once; its own measure.
    pub fn once(&mut self) -> Cost {
        let input = self.child.stdin.as_mut().expect("stdin is piped");
        writeln!(input, "once").expect("the peer is alive");
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

/// The middle one.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures both sides turn by turn, whoever goes first changing from round to round; prints each
/// round and the medians as one row of the table.
pub fn compare(what: &str, rounds: usize, peer: &mut Peer, mut own: impl FnMut() -> Cost) {
    let mut made: Vec<(Cost, Cost)> = Vec::new();
    for round in 0..rounds {
        let (theirs, ours) = if round % 2 == 0 {
            let theirs = peer.once();
            (theirs, own())
        } else {
            let ours = own();
            (peer.once(), ours)
        };
        eprintln!(
            "round {round}: peer {:.3} s, ours {:.3} s, ratio {:.3}; of processor time {:.3}",
            theirs.wall,
            ours.wall,
            ours.wall / theirs.wall,
            ours.cpu / theirs.cpu
        );
        made.push((theirs, ours));
    }
    let middle = |pick: fn(&(Cost, Cost)) -> f64| median(&mut made.iter().map(pick).collect::<Vec<_>>());
    row(&format!(
        "| {what} | {:.3} | {:.3} | {:.3} | {:.3} |",
        middle(|(theirs, _)| theirs.wall),
        middle(|(_, ours)| ours.wall),
        middle(|(theirs, ours)| ours.wall / theirs.wall),
        middle(|(theirs, ours)| ours.cpu / theirs.cpu)
    ));
}

/// Prints a row of the table.
pub fn row(text: &str) {
    println!("{text}");
}
