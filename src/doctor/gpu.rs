//! GPUs: NVIDIA's as its driver knows them, and the nodes through which the others are reached.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use super::Finding;
use super::onnx::nvidia;
use crate::runtime::gpu;

const QUERY: &str = "--query-gpu=name,memory.total,memory.free,driver_version";

pub(super) fn look() -> Finding {
    let mut finding = Finding::default();
    let output = Command::new("nvidia-smi")
        .args([QUERY, "--format=csv,noheader,nounits"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let text = match &output {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(_) => String::new(),
    };
    match &output {
        Ok(output) if output.status.success() && !text.is_empty() => {
            let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(", ").collect()).collect();
            for row in &rows {
                let part = |i: usize| row.get(i).copied().unwrap_or("?");
                let (name, total, free, driver) = (part(0), part(1), part(2), part(3));
                finding.ok(format!("{name}, {free} of {total} MiB free, driver {driver}"));
            }
            finding.fact("nvidia", rows.iter().map(|row| json!(row)).collect::<Vec<_>>());
        }
        Ok(_) if nvidia() => finding.wrong(
            format!("NVIDIA's kernel module is loaded, but nvidia-smi says: {}", text.lines().next().unwrap_or("nothing")),
            "The driver and its libraries differ in version, which a restart cures, or the driver must be installed again",
        ),
        Ok(_) => finding.wrong("nvidia-smi is there, but finds no driver", "Install NVIDIA's driver, or load its module"),
        Err(_) if nvidia() => {
            let names: Vec<String> = gpu::gpus().into_iter().map(|g| g.name).collect();
            let names = if names.is_empty() { "an NVIDIA GPU".to_owned() } else { names.join(", ") };
            finding.ok(format!("{names} (there is no nvidia-smi to ask for more)"));
        }
        Err(_) => finding.absent(
            "no NVIDIA GPU",
            "Masks run well on a CPU. In a container the GPU must be passed in: docker run --gpus all",
        ),
    }
    nodes(&mut finding);
    finding
}

/// Whether this user may open the nodes.
fn nodes(finding: &mut Finding) {
    let mut usable = Vec::new();
    for (folder, start) in [("/dev", "nvidia"), ("/dev/dri", "renderD")] {
        for path in named(Path::new(folder), start) {
            match File::options().read(true).write(true).open(&path) {
                Ok(_) => usable.push(path.display().to_string()),
                Err(e) if e.kind() == ErrorKind::PermissionDenied => finding.wrong(
                    format!("{}: {e}", path.display()),
                    "sudo usermod -aG video,render $USER, then log in again",
                ),
                // Such as /dev/nvidia-caps, which is a folder.
                Err(e) => tracing::debug!("{}: {e}", path.display()),
            }
        }
    }
    if !usable.is_empty() {
        finding.ok(format!("can be opened: {}", usable.join(", ")));
    }
    finding.fact("nodes", usable);
}

fn named(folder: &Path, start: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries
        .filter(|e| e.file_name().to_string_lossy().starts_with(start))
        .map(|e| e.path())
        .filter(|path| !path.is_dir())
        .collect();
    paths.sort();
    paths
}
