//! The GPUs that NVIDIA's driver knows.

use std::fs;
use std::process::Command;

use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gpu {
    pub name: String,
    /// Memory in MiB, where it can be asked for.
    pub memory_mib: Option<u64>,
}

/// Asks `nvidia-smi`, or else reads what the kernel module shows.
pub fn gpus() -> Vec<Gpu> {
    let query = ["--query-gpu=name,memory.total", "--format=csv,noheader,nounits"];
    match Command::new("nvidia-smi").args(query).output() {
        Ok(output) if output.status.success() => parse(&String::from_utf8_lossy(&output.stdout)),
        _ => from_kernel(),
    }
}

fn parse(csv: &str) -> Vec<Gpu> {
    let gpu = |line: &str| {
        let (name, memory) = line.rsplit_once(',')?;
        Some(Gpu { name: name.trim().to_owned(), memory_mib: memory.trim().parse().ok() })
    };
    csv.lines().filter_map(gpu).collect()
}

fn from_kernel() -> Vec<Gpu> {
    let folders = fs::read_dir("/proc/driver/nvidia/gpus").into_iter().flatten().flatten();
    let name = |text: String| Some(text.lines().find_map(|l| l.strip_prefix("Model:"))?.trim().to_owned());
    let texts = folders.filter_map(|f| fs::read_to_string(f.path().join("information")).ok());
    texts.filter_map(name).map(|name| Gpu { name, memory_mib: None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nvidia_smi_says_is_read() {
        let gpus = parse("NVIDIA H200, 143771\nNVIDIA T4, [N/A]\n");
        assert_eq!((gpus[0].name.as_str(), gpus[0].memory_mib), ("NVIDIA H200", Some(143_771)));
        assert_eq!((gpus[1].name.as_str(), gpus[1].memory_mib), ("NVIDIA T4", None));
        assert!(parse("").is_empty());
    }
}
