//! Finds libonnxruntime, checks it before anything else touches it, and keeps the one environment of the process.

use std::ffi::{CStr, OsStr, c_char, c_void};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::torch::{TorchError, whole};
use crate::error::{Error, Result};

/// The oldest runtime that krea works with: 1.20, the `api-20` feature of `ort`.
pub const OLDEST: u32 = 20;

const REMEDY: &str = "Install it with `pip install onnxruntime`, or point KREA_ONNXRUNTIME at libonnxruntime";

/// Where to look for the library, in this order. Tests build their own; the program uses [`Search::of_this_machine`].
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Named by the user: this file (or the folder that holds it) and no other.
    pub explicit: Option<PathBuf>,
    /// Folders whose `.deps/ort/onnxruntime/capi`, and whose parents', may hold it.
    pub roots: Vec<PathBuf>,
    /// Folders that hold it themselves.
    pub folders: Vec<PathBuf>,
    /// Ask the active Python for its package `onnxruntime`.
    pub python: bool,
    /// Ask the system's loader by name.
    pub loader: bool,
}

/// A libonnxruntime that has been opened and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    pub path: PathBuf,
    /// As the library itself says, for example `1.31.1`.
    pub version: String,
}

/// A loaded ONNX Runtime.
#[derive(Clone)]
pub struct Runtime {
    pub library: Library,
    pub environment: ort::environment::Environment,
}

impl Search {
    /// `KREA_ONNXRUNTIME` or `ORT_DYLIB_PATH` if set; else `.deps` upward from the program and from the current folder,
    /// the active Python environment, the system.
    pub fn of_this_machine() -> Self {
        let explicit = ["KREA_ONNXRUNTIME", "ORT_DYLIB_PATH"]
            .iter()
            .find_map(|name| std::env::var_os(name).filter(|v| !v.is_empty()))
            .map(PathBuf::from);
        let exe = std::env::current_exe().ok().and_then(|p| p.parent().map(Path::to_path_buf));
        let roots = exe.into_iter().chain(std::env::current_dir().ok()).collect();
        let mut folders = Vec::new();
        for name in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
            if let Some(prefix) = std::env::var_os(name).filter(|v| !v.is_empty()) {
                folders.extend(site_packages(Path::new(&prefix)).map(|p| p.join("onnxruntime/capi")));
            }
        }
        let system = ["/usr/local/lib", "/opt/onnxruntime/lib", "/usr/lib", "/usr/lib64", "/opt/homebrew/lib"];
        folders.extend(system.map(PathBuf::from));
        folders.push(Path::new("/usr/lib").join(format!("{}-linux-gnu", std::env::consts::ARCH)));
        Self { explicit, roots, folders, python: true, loader: true }
    }

    /// The first library that opens and is new enough.
    pub fn find(&self) -> Result<Library> {
        if let Some(path) = &self.explicit {
            let file = if path.is_dir() {
                newest_in(path)
                    .ok_or_else(|| Error::Device(format!("no libonnxruntime in {} ({REMEDY})", path.display())))?
            } else {
                path.clone()
            };
            return probe(&file).map_err(|why| Error::Device(format!("{}: {why}. {REMEDY}.", file.display())));
        }
        let mut refused = Vec::new();
        let mut attempt = |file: &Path| match probe(file) {
            Ok(library) => Some(library),
            Err(why) => {
                tracing::debug!("{}: {why}", file.display());
                refused.push(format!("{}: {why}", file.display()));
                None
            }
        };
        let beside = self.roots.iter().flat_map(|root| root.ancestors()).map(|p| p.join(".deps/ort/onnxruntime/capi"));
        for folder in beside.chain(self.folders.iter().cloned()) {
            if let Some(library) = newest_in(&folder).and_then(|file| attempt(&file)) {
                return Ok(library);
            }
        }
        if self.loader
            && let Ok(library) = probe(Path::new(&library_name()))
        {
            return Ok(library);
        }
        if self.python
            && let Some(library) = python_package().and_then(|p| newest_in(&p.join("capi"))).and_then(|f| attempt(&f))
        {
            return Ok(library);
        }
        Err(Error::Device(if refused.is_empty() {
            format!("finding people needs ONNX Runtime 1.{OLDEST} or newer, and none was found. {REMEDY}.")
        } else {
            let found = refused.join("; ");
            format!(
                "finding people needs ONNX Runtime 1.{OLDEST} or newer; what was found does not do: {found}. {REMEDY}."
            )
        }))
    }
}

impl Runtime {
    /// Finds and loads ONNX Runtime. A process can hold one only, so every later call gets the first one.
    pub fn load(search: &Search) -> Result<Self> {
        // `ort` allows one environment a process, and cannot make another once it is gone.
        static LOADED: OnceLock<Result<Runtime, String>> = OnceLock::new();
        if let Some(Ok(runtime)) = LOADED.get() {
            return Ok(runtime.clone());
        }
        let library = search.find()?;
        LOADED
            .get_or_init(|| {
                let builder = ort::init_from(&library.path).map_err(|e| e.to_string())?;
                let environment = builder.with_name("krea").with_telemetry(false).build().map_err(|e| e.to_string())?;
                Ok(Self { library: library.clone(), environment })
            })
            .clone()
            .map_err(|why| Error::Device(format!("{}: {why}. {REMEDY}.", library.path.display())))
    }
}

/// The head of `OrtApiBase` (onnxruntime_c_api.h), stable since the first release.
#[repr(C)]
struct ApiBase {
    get_api: unsafe extern "C" fn(u32) -> *const c_void,
    get_version_string: unsafe extern "C" fn() -> *const c_char,
}

/// Opens the file and asks it for its version; what is wrong is told in words that a user can act on.
pub fn probe(file: &Path) -> Result<Library, String> {
    // A bare name is for the system's loader to find.
    if let Some(TorchError::Damaged { reason, .. }) = file.is_file().then(|| whole(file).err()).flatten() {
        return Err(format!("is damaged: {reason}"));
    }
    // SAFETY: loading runs the library's constructors. The user or the system placed the file; ONNX Runtime's
    // constructors only set up its own state.
    let library = unsafe { libloading::Library::new(file) }.map_err(|e| {
        let mut why = e.to_string();
        // glibc repeats the path, which the caller says already.
        if let Some(rest) = why.strip_prefix(&format!("{}: ", file.display())) {
            why = rest.to_owned();
        }
        format!("cannot be loaded ({why})")
    })?;
    // SAFETY: the symbol has this type in every release of ONNX Runtime, and gives a pointer to a static or null.
    let base = unsafe {
        let get: libloading::Symbol<'_, unsafe extern "C" fn() -> *const ApiBase> =
            library.get(b"OrtGetApiBase\0").map_err(|_| "is not ONNX Runtime (no OrtGetApiBase)".to_owned())?;
        get().as_ref()
    }
    .ok_or("is damaged (OrtGetApiBase gives nothing)")?;
    // SAFETY: the library is still open; the string is static within it.
    let version = unsafe {
        let text = (base.get_version_string)();
        if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
    };
    let mut parts = version.split('.').map(|p| p.parse::<u32>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if (major, minor) < (1, OLDEST) {
        return Err(format!("is ONNX Runtime {version}, too old: 1.{OLDEST} or newer is needed"));
    }
    // SAFETY: as above; a runtime that lacks the version gives null.
    if unsafe { (base.get_api)(OLDEST) }.is_null() {
        return Err(format!("ONNX Runtime {version} does not offer version {OLDEST} of its interface"));
    }
    // Closing and opening it again would cost its relocation twice, and not every runtime survives being unloaded.
    std::mem::forget(library);
    Ok(Library { path: file.to_path_buf(), version })
}

fn library_name() -> String {
    format!("{}onnxruntime{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

/// The libonnxruntime with the highest version in its name.
fn newest_in(folder: &Path) -> Option<PathBuf> {
    let is_library = |name: &OsStr| {
        let name = name.to_string_lossy();
        let stem = format!("{}onnxruntime.", std::env::consts::DLL_PREFIX);
        name.starts_with(&stem) && name.contains(std::env::consts::DLL_SUFFIX)
    };
    let version = |path: &PathBuf| -> Vec<u32> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.split('.').filter_map(|part| part.parse().ok()).collect()
    };
    let entries = std::fs::read_dir(folder).ok()?.flatten().filter(|e| is_library(&e.file_name()));
    entries.map(|e| e.path()).max_by_key(version)
}

fn site_packages(prefix: &Path) -> impl Iterator<Item = PathBuf> {
    let lib = std::fs::read_dir(prefix.join("lib")).into_iter().flatten().flatten();
    lib.filter(|e| e.file_name().to_string_lossy().starts_with("python")).map(|e| e.path().join("site-packages"))
}

/// The folder of the active Python's package, without importing it.
fn python_package() -> Option<PathBuf> {
    const CODE: &str = "import importlib.util as u; s = u.find_spec('onnxruntime'); print(s.submodule_search_locations[0] if s and s.submodule_search_locations else '')";
    let python = if cfg!(windows) { "python" } else { "python3" };
    let output = Command::new(python).args(["-c", CODE]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(path.trim())).filter(|p| p.is_dir())
}
