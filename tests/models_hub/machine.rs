//! A machine with nothing on it, to pull to.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest, Sha256};

use crate::hub::Hub;

/// Bytes that look random and are the same every time.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A manifest with one model `m` of one file, from these places.
pub(crate) fn manifest(origins: &[(&str, &str)]) -> String {
    let from: Vec<_> = origins.iter().map(|(r, f)| format!("{{ repository = '{r}', file = '{f}' }}")).collect();
    format!(
        "[[model]]\nname = 'm'\nfor = 'a test'\nlicence = 'MIT'\n[[model.file]]\nname = 'm.bin'\nabout_bytes = 1000\nfrom = [{}]\n",
        from.join(", ")
    )
}

/// A home folder of its own, and the hub that it knows.
pub(crate) struct Machine {
    pub(crate) home: tempfile::TempDir,
    pub(crate) cache: PathBuf,
    endpoint: String,
}

impl Machine {
    pub(crate) fn new(hub: &Hub, manifest: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("manifest.toml"), manifest).unwrap();
        let cache = home.path().join(".cache/huggingface/hub");
        Self { home, cache, endpoint: hub.url.clone() }
    }

    /// `krea models ARGS`, without the environment of whoever runs the test.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_krea"));
        command.arg("models").args(args).env_clear().stdin(Stdio::null());
        command.env("HOME", self.home.path()).env("HF_ENDPOINT", &self.endpoint);
        command.env("HF_HUB_CACHE", &self.cache).env("KREA_MODELS_MANIFEST", self.home.path().join("manifest.toml"));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        Ended::of(self.command(args).output().unwrap())
    }

    /// Pulls `m` without pauses between tries.
    pub(crate) fn pull(&self, more: &[&str]) -> Ended {
        self.run(&[&["pull", "m", "--retry-delay", "0"], more].concat())
    }

    pub(crate) fn repo(&self, repository: &str) -> PathBuf {
        self.cache.join(format!("models--{}", repository.replace('/', "--")))
    }

    /// The names of the files in `blobs`.
    pub(crate) fn blobs(&self, repository: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.repo(repository).join("blobs")).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|e| e.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn lock(&self) -> serde_json::Value {
        let path = self.home.path().join(".local/state/krea/models.lock.json");
        std::fs::read(path).map_or(serde_json::json!({"files": []}), |t| serde_json::from_slice(&t).unwrap())
    }

    /// Every file and link below the home folder, to see that nothing lies where it should not.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let (mut folders, mut found) = (vec![self.home.path().to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                match entry.file_type().unwrap().is_dir() {
                    true => folders.push(entry.path()),
                    false => found.push(entry.path()),
                }
            }
        }
        found
    }
}

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Fails with everything that was said unless it ended with this code.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn saying(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "'{words}' is not in:\n{}", self.stderr);
        self
    }
}

/// Says that a test could not run; with KREA_TEST_REQUIRE=all that is a failure.
pub(crate) fn skip(name: &str, reason: &str) {
    eprintln!("SKIP {name}: {reason}");
    assert_ne!(std::env::var("KREA_TEST_REQUIRE").as_deref(), Ok("all"), "{name} was skipped: {reason}");
}

/// A file system of so many MiB that is gone when this is dropped; `None` where one may not be made.
pub(crate) struct SmallDisk {
    pub(crate) path: PathBuf,
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    pub(crate) fn new(mebibytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "krea-test"])
            .arg(dir.path())
            .output();
        let path = dir.path().to_owned();
        mounted.is_ok_and(|o| o.status.success()).then_some(Self { path, _dir: dir })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

pub(crate) fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
