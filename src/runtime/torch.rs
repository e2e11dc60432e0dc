//! Finds libtorch on this machine, checks it before anything of it is loaded, and opens it and the generator's plugin.
//!
//! The plugin `libkrea_wan.so` is linked against libtorch's names only, so whatever libtorch is opened first serves it:
//! the CPU's or CUDA's. CUDA registers itself when `libtorch_cuda.so` is opened, which must be before anybody asks
//! whether there is CUDA: the answer is remembered.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The libtorch that the plugin is built with. C++ names change between minor versions, so these must be equal.
pub const VERSION: &str = "2.13";

/// The interface of the plugin that this program speaks.
pub const PLUGIN_ABI: u32 = 1;

/// What can be wrong with libtorch or the plugin, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum TorchError {
    #[error(
        "libtorch is not on this machine (looked in {searched}). Install it with `pip install torch=={VERSION}.0`, or point \
         KREA_LIBTORCH at its folder"
    )]
    NotFound { searched: String },
    #[error(
        "{folder} holds libtorch {found}, but the generator is built for {VERSION}. Install it with `pip install \
         torch=={VERSION}.0`, or point KREA_LIBTORCH at another folder"
    )]
    WrongVersion { folder: PathBuf, found: String },
    #[error(
        "{file} is damaged: {reason}. Install libtorch again with `pip install --force-reinstall torch=={VERSION}.0`"
    )]
    Damaged { file: PathBuf, reason: String },
    #[error("{file} cannot be opened: {reason}")]
    Open { file: PathBuf, reason: String },
    #[error(
        "the generator's plugin {name} is not beside krea (looked in {searched}). Take it from the same release as krea, \
         build it with `cargo build --release -p krea-wan`, or point KREA_WAN_PLUGIN at it"
    )]
    NoPlugin { name: &'static str, searched: String },
    #[error(
        "the generator's plugin {file} speaks version {found} of the interface, krea speaks {PLUGIN_ABI}: take both from \
         the same release"
    )]
    PluginVersion { file: PathBuf, found: u32 },
}

type Result<T> = std::result::Result<T, TorchError>;

/// Where to look for libtorch, in this order. Tests build their own; the program uses [`Search::of_this_machine`].
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Named by the user: this folder and no other.
    pub explicit: Option<PathBuf>,
    /// Folders that are libtorch's or its `lib`.
    pub folders: Vec<PathBuf>,
    /// Folders whose `.deps/torch/torch`, and whose parents', may be it.
    pub roots: Vec<PathBuf>,
    /// Ask the active Python for its package `torch`, without importing it.
    pub python: bool,
    /// Folders to look in at the end.
    pub last: Vec<PathBuf>,
}

/// A libtorch that has been checked, but not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Libtorch {
    /// The folder of `libtorch_cpu.so`.
    pub lib: PathBuf,
    /// As its own files say, for example `2.13.0+cu130`.
    pub version: String,
    /// Whether it has a CUDA part.
    pub cuda: bool,
}

#[cfg(target_os = "macos")]
mod name {
    pub(super) const C10: &str = "libc10.dylib";
    pub(super) const CPU: &str = "libtorch_cpu.dylib";
    pub(super) const CUDA: &str = "libtorch_cuda.dylib";
    pub(super) const PLUGIN: &str = "libkrea_wan.dylib";
}
#[cfg(not(target_os = "macos"))]
mod name {
    pub(super) const C10: &str = "libc10.so";
    pub(super) const CPU: &str = "libtorch_cpu.so";
    pub(super) const CUDA: &str = "libtorch_cuda.so";
    pub(super) const PLUGIN: &str = "libkrea_wan.so";
}

impl Search {
    /// `KREA_LIBTORCH` if set; else `LIBTORCH`, `.deps` upward from the program and from the current folder, the active
    /// Python, and the places where it is put by hand.
    pub fn of_this_machine() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let exe = std::env::current_exe().ok().and_then(|path| path.parent().map(Path::to_path_buf));
        Search {
            explicit: variable("KREA_LIBTORCH"),
            folders: variable("LIBTORCH").into_iter().collect(),
            roots: exe.into_iter().chain(std::env::current_dir().ok()).collect(),
            python: true,
            last: ["/opt/libtorch", "/usr/local/lib/libtorch"].map(PathBuf::from).into(),
        }
    }

    /// The first libtorch of the wanted version. A folder that the user named must be it; elsewhere a wrong version is
    /// passed over, and named if nothing better is found.
    pub fn find(&self) -> Result<Libtorch> {
        if let Some(folder) = &self.explicit {
            let Some(lib) = lib_folder(folder) else {
                return Err(TorchError::NotFound { searched: folder.display().to_string() });
            };
            return check(lib);
        }
        let mut searched = Vec::new();
        let mut wrong = None;
        let roots = self.roots.iter().flat_map(|root| root.ancestors()).map(|folder| folder.join(".deps/torch/torch"));
        let candidates = self.folders.iter().cloned().chain(roots);
        // Python is asked only if nothing is nearer: it takes a moment.
        let python = std::iter::once_with(|| if self.python { python_torch() } else { None }).flatten();
        for folder in candidates.chain(python).chain(self.last.iter().cloned()) {
            let Some(lib) = lib_folder(&folder) else {
                searched.push(folder);
                continue;
            };
            match check(lib) {
                Err(error @ TorchError::WrongVersion { .. }) => wrong = wrong.or(Some(error)),
                other => return other,
            }
        }
        let places = |paths: &[PathBuf]| paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
        let python = if self.python { ", the active Python" } else { "" };
        Err(wrong.unwrap_or_else(|| TorchError::NotFound { searched: format!("{}{python}", places(&searched)) }))
    }
}

/// `folder` or its `lib`, whichever holds libtorch.
fn lib_folder(folder: &Path) -> Option<PathBuf> {
    [folder.join("lib"), folder.to_path_buf()]
        .into_iter()
        .find(|lib| lib.join(name::CPU).is_file() || lib.join(name::C10).is_file())
}

fn python_torch() -> Option<PathBuf> {
    let script =
        "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')";
    let output =
        Command::new("python3").args(["-c", script]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim()).filter(|path| output.status.success() && !path.is_empty()).map(PathBuf::from)
}

/// Checks version and wholeness without loading anything.
fn check(lib: PathBuf) -> Result<Libtorch> {
    let home = lib.parent().unwrap_or(&lib);
    let found = version(home).unwrap_or_else(|| "of an unknown version".to_owned());
    let minor: Vec<&str> = found.split('.').take(2).collect();
    if minor.join(".") != VERSION {
        return Err(TorchError::WrongVersion { folder: home.to_path_buf(), found });
    }
    for file in [name::C10, name::CPU] {
        whole(&lib.join(file))?;
    }
    let cuda = lib.join(name::CUDA);
    let has_cuda = cuda.exists();
    if has_cuda {
        whole(&cuda)?;
    }
    Ok(Libtorch { version: found, cuda: has_cuda, lib })
}

/// What a wheel (`version.py`) or a zip (`build-version`) says about itself.
fn version(home: &Path) -> Option<String> {
    if let Ok(text) = std::fs::read_to_string(home.join("version.py")) {
        let line = text.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
        return Some(line.trim().trim_matches(['\'', '"']).to_owned());
    }
    std::fs::read_to_string(home.join("build-version")).ok().map(|text| text.trim().to_owned())
}

/// Whether a shared library is all there. The loader maps what the headers promise, and a file that is cut short would
/// end the whole process when a missing page is touched.
pub(super) fn whole(file: &Path) -> Result<()> {
    let damaged = |reason: &str| TorchError::Damaged { file: file.to_path_buf(), reason: reason.to_owned() };
    let mut opened = File::open(file).map_err(|error| damaged(&error.to_string()))?;
    let length = opened.metadata().map_err(|error| damaged(&error.to_string()))?.len();
    if cfg!(not(target_os = "linux")) {
        return if length > 0 { Ok(()) } else { Err(damaged("it is empty")) };
    }
    let mut head = Vec::new();
    opened.by_ref().take(1 << 16).read_to_end(&mut head).map_err(|error| damaged(&error.to_string()))?;
    // ELF64, little-endian: see elf(5) for the offsets.
    let number = |at: usize, bytes: usize| -> Option<u64> {
        Some(head.get(at..at + bytes)?.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    };
    if head.len() < 64 || !head.starts_with(b"\x7fELF\x02\x01") {
        return Err(damaged("it is not a 64-bit shared library"));
    }
    let segments = || -> Option<u64> {
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        let end = |i: u64| -> Option<u64> {
            let at = usize::try_from(table + i * size).ok()?;
            number(at + 8, 8)?.checked_add(number(at + 32, 8)?)
        };
        (0..count).map(end).try_fold(0, |most, end| Some(end?.max(most)))
    };
    match segments() {
        Some(end) if end <= length => Ok(()),
        Some(end) => Err(damaged(&format!("{end} bytes are needed and {length} are there"))),
        None => Err(damaged("its headers are cut short")),
    }
}

/// A libtorch that is open in this process, and stays so: it does not survive being closed.
#[derive(Clone, Debug)]
pub struct OpenLibtorch {
    pub libtorch: Libtorch,
    /// Why the CUDA part was not opened, where it was wanted; `None` if it was opened or not wanted.
    pub without_cuda: Option<String>,
}

impl Libtorch {
    /// Opens it for all of the process, with its CUDA part if `want_cuda`.
    pub fn open(self, want_cuda: bool) -> Result<OpenLibtorch> {
        for file in [name::C10, name::CPU] {
            open_global(&self.lib.join(file))?;
        }
        let without_cuda = match (want_cuda, self.cuda) {
            (false, _) => None,
            (true, false) => {
                Some(format!("{} has no CUDA part: `pip install torch=={VERSION}.0` brings one", self.lib.display()))
            }
            (true, true) => open_global(&self.lib.join(name::CUDA)).err().map(|error| error.to_string()),
        };
        Ok(OpenLibtorch { libtorch: self, without_cuda })
    }
}

fn open_global(file: &Path) -> Result<()> {
    let failed = |error: libloading::Error| TorchError::Open { file: file.to_path_buf(), reason: said(&error) };
    #[cfg(unix)]
    {
        use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
        // SAFETY: libtorch's initialisers are made for being loaded by any program; the file was checked to be whole and
        // of the wanted version.
        let library = unsafe { Library::open(Some(file), RTLD_NOW | RTLD_GLOBAL) }.map_err(failed)?;
        std::mem::forget(library);
    }
    #[cfg(not(unix))]
    {
        // SAFETY: as above.
        let library = unsafe { libloading::Library::new(file) }.map_err(failed)?;
        std::mem::forget(library);
    }
    Ok(())
}

/// The loader's own words, which stand in the error's source.
fn said(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| source.to_string())
}

/// Where the plugin may be. Tests build their own; the program uses [`PluginSearch::of_this_machine`].
#[derive(Clone, Debug, Default)]
pub struct PluginSearch {
    /// Named by the user: this file and no other.
    pub explicit: Option<PathBuf>,
    /// Folders that may hold it.
    pub folders: Vec<PathBuf>,
}

impl PluginSearch {
    /// `KREA_WAN_PLUGIN` if set; else beside the program, and in `lib/krea` and `lib` of its prefix.
    pub fn of_this_machine() -> Self {
        let explicit = std::env::var_os("KREA_WAN_PLUGIN").filter(|value| !value.is_empty()).map(PathBuf::from);
        let exe = std::env::current_exe().ok().map(|path| path.canonicalize().unwrap_or(path));
        let beside = exe.as_deref().and_then(Path::parent);
        let prefix = beside.and_then(Path::parent);
        let folders = beside
            .map(Path::to_path_buf)
            .into_iter()
            .chain(prefix.map(|p| p.join("lib/krea")))
            .chain(prefix.map(|p| p.join("lib")));
        PluginSearch { explicit, folders: folders.collect() }
    }

    /// The plugin's file.
    pub fn find(&self) -> Result<PathBuf> {
        let candidates = match &self.explicit {
            Some(file) => vec![file.clone()],
            None => self.folders.iter().map(|folder| folder.join(name::PLUGIN)).collect(),
        };
        let searched = candidates.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ");
        candidates.into_iter().find(|file| file.is_file()).ok_or(TorchError::NoPlugin { name: name::PLUGIN, searched })
    }
}

/// The generator's plugin, open in this process for as long as it lives.
#[derive(Debug)]
pub struct Plugin {
    library: std::mem::ManuallyDrop<libloading::Library>,
    pub file: PathBuf,
}

impl Plugin {
    /// Opens the plugin, for which libtorch must be open, and asks for its version before anything else.
    pub fn open(file: PathBuf, _libtorch: &OpenLibtorch) -> Result<Self> {
        whole(&file).map_err(|error| match error {
            TorchError::Damaged { file, reason } => TorchError::Open { file, reason },
            other => other,
        })?;
        let failed = |error: libloading::Error| TorchError::Open { file: file.clone(), reason: said(&error) };
        // SAFETY: the plugin's initialisers are libtorch's and Rust's own; what it needs of libtorch is open.
        let library = unsafe { libloading::Library::new(&file) }.map_err(failed)?;
        // libtorch registers the plugin's own operators nowhere, but neither survives being closed.
        let plugin = Plugin { library: std::mem::ManuallyDrop::new(library), file };
        // SAFETY: every version of the interface has this function with this signature.
        let found = unsafe { plugin.symbol::<unsafe extern "C" fn() -> u32>("krea_wan_abi_version")?() };
        if found != PLUGIN_ABI {
            return Err(TorchError::PluginVersion { file: plugin.file.clone(), found });
        }
        Ok(plugin)
    }

    /// A function of the plugin (see `wan/include/krea_wan.h`).
    ///
    /// # Safety
    /// `T` is the type of the function of that name.
    pub unsafe fn symbol<T: Copy>(&self, name: &str) -> Result<T> {
        // SAFETY: the caller's promise; the library is never closed, so the pointer stays valid.
        let symbol = unsafe { self.library.get::<T>(name.as_bytes()) };
        symbol
            .map(|symbol| *symbol)
            .map_err(|error| TorchError::Open { file: self.file.clone(), reason: format!("{name}: {}", said(&error)) })
    }
}
