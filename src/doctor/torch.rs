//! libtorch and the generator's plugin.

use std::path::Path;

use super::onnx::nvidia;
use super::{Finding, halves};
use crate::runtime::torch::{OpenLibtorch, PLUGIN_ABI, Plugin, PluginSearch, Search, TorchError};

pub(super) fn look() -> Finding {
    let mut finding = Finding::default();
    let opened = match opened() {
        Ok(opened) => opened,
        Err(error) => {
            told(&mut finding, &error);
            return finding;
        }
    };
    let (version, lib) = (&opened.libtorch.version, opened.libtorch.lib.display());
    finding.ok(format!("{version}: {lib}"));
    finding.fact("version", version.as_str());
    finding.fact("path", lib.to_string());
    finding.fact("has_cuda", opened.libtorch.cuda);
    let devices = cuda_devices(&opened.libtorch.lib);
    finding.fact("cuda_devices", devices);
    let driver = "Install a driver from NVIDIA that is new enough for its CUDA: nvidia-smi shows the version that the driver takes";
    match (devices, opened.without_cuda) {
        (Some(n), _) if n > 0 => finding.ok(format!("CUDA is used: {n} device{}", if n == 1 { "" } else { "s" })),
        (_, Some(why)) if opened.libtorch.cuda => {
            finding.wrong(format!("its CUDA part does not open: {why}"), driver);
        }
        (_, Some(_)) if nvidia() => finding.wrong(
            "there is an NVIDIA GPU, but this libtorch has no CUDA part",
            format!("pip install torch=={}.0", crate::runtime::torch::VERSION),
        ),
        (_, Some(_)) => finding.absent(
            "it has no CUDA part: generating runs on the CPU, very slowly",
            format!("With an NVIDIA GPU: pip install torch=={}.0", crate::runtime::torch::VERSION),
        ),
        (_, None) => finding.absent("its CUDA part opens, but finds no GPU: generating runs on the CPU", driver),
    }
    finding
}

/// Missing is no fault, damaged is one.
fn told(finding: &mut Finding, error: &TorchError) {
    let (text, remedy) = halves(&error.to_string());
    match error {
        TorchError::NotFound { .. } | TorchError::NoPlugin { .. } if !is_named(error) => {
            finding.absent(format!("{text}. Only --prompt needs it"), remedy);
        }
        _ => finding.wrong(text, remedy),
    }
}

/// Whether the user has said where it is: then its absence is a fault.
fn is_named(error: &TorchError) -> bool {
    let name = if matches!(error, TorchError::NoPlugin { .. }) { "KREA_WAN_PLUGIN" } else { "KREA_LIBTORCH" };
    std::env::var_os(name).is_some_and(|v| !v.is_empty())
}

fn opened() -> Result<OpenLibtorch, TorchError> {
    Search::of_this_machine().find()?.open(true)
}

/// What libtorch itself says; `None` where it cannot be asked.
fn cuda_devices(lib: &Path) -> Option<usize> {
    let name = if cfg!(target_os = "macos") { "libtorch_cpu.dylib" } else { "libtorch_cpu.so" };
    // SAFETY: it is open already; this only counts one more user.
    let library = unsafe { libloading::Library::new(lib.join(name)) }.ok()?;
    // SAFETY: `size_t torch::cuda::device_count()`, of the one version of libtorch that is accepted.
    let count = unsafe {
        let ask: libloading::Symbol<'_, unsafe extern "C" fn() -> usize> =
            library.get(b"_ZN5torch4cuda12device_countEv\0").ok()?;
        ask()
    };
    // libtorch does not survive being closed.
    std::mem::forget(library);
    Some(count)
}

pub(super) fn look_at_plugin() -> Finding {
    let mut finding = Finding::default();
    let file = match PluginSearch::of_this_machine().find() {
        Ok(file) => file,
        Err(error) => {
            told(&mut finding, &error);
            return finding;
        }
    };
    finding.fact("path", file.display().to_string());
    match opened().map(|libtorch| Plugin::open(file.clone(), &libtorch)) {
        Ok(Ok(plugin)) => {
            finding.fact("interface", PLUGIN_ABI);
            finding.ok(format!("interface {PLUGIN_ABI}: {}", plugin.file.display()));
        }
        Ok(Err(error)) => {
            let (text, remedy) = halves(&error.to_string());
            let remedy =
                if remedy.is_empty() { "Take krea and the plugin from the same release".into() } else { remedy };
            finding.wrong(text, remedy);
        }
        Err(_) => {
            let text = format!("{} is there, but does not open without libtorch", file.display());
            finding.absent(text, "See libtorch");
        }
    }
    finding
}
