//! Free memory, and room on the disks of the cache and of temporary files.

use std::path::Path;

use super::Finding;
use super::models::writable;
use crate::models::{Library, bytes_in_words, free_bytes};

/// With less than this even a short clip may not fit.
const LITTLE: u64 = 500_000_000;

pub(super) fn look() -> Finding {
    let mut finding = Finding::default();
    memory(&mut finding);
    let temporary = std::env::temp_dir();
    disk(&mut finding, "temporary files", "temporary", &temporary);
    if let Err(why) = writable(&temporary) {
        finding.wrong(format!("{} cannot be written: {why}", temporary.display()), "Set TMPDIR to a folder that can");
    }
    if let Some(hub) = Library::of_this_machine().hub() {
        disk(&mut finding, "the cache", "cache", hub);
    }
    finding
}

fn memory(finding: &mut Finding) {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let (Some(total), Some(free)) = (field(&info, "MemTotal:"), field(&info, "MemAvailable:")) else {
        finding.absent("free memory is not known on this system", "Look at it with the tools of the system");
        return;
    };
    // A container may take less than the machine has.
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|t| t.trim().parse::<u64>().ok());
    let used = std::fs::read_to_string("/sys/fs/cgroup/memory.current").ok().and_then(|t| t.trim().parse::<u64>().ok());
    let (total, free) = match (limit, used) {
        (Some(limit), Some(used)) if limit < total => (limit, free.min(limit.saturating_sub(used))),
        _ => (total, free),
    };
    finding.fact("memory_bytes", total);
    finding.fact("memory_bytes_free", free);
    let words = format!("memory: {} of {} free", bytes_in_words(free), bytes_in_words(total));
    match free < LITTLE {
        true => finding.wrong(words, "End other programs, or make less of it: --size 1280x, --threads 1"),
        false => finding.ok(words),
    }
}

/// A line such as `MemTotal:  24564 kB`, in bytes.
fn field(info: &str, name: &str) -> Option<u64> {
    let rest = info.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn disk(finding: &mut Finding, what: &str, fact: &str, folder: &Path) {
    let there = folder.ancestors().find(|p| p.exists()).unwrap_or(folder);
    match free_bytes(there) {
        Ok(free) => {
            finding.fact(&format!("{fact}_bytes_free"), free);
            let words = format!("disk of {what}: {} free ({})", bytes_in_words(free), folder.display());
            match free < LITTLE {
                true => finding.wrong(words, "Make room on it"),
                false => finding.ok(words),
            }
        }
        Err(error) => finding.wrong(error.to_string(), "Look whether the disk is there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_table_is_read() {
        let info = "MemTotal:       24689764 kB\nMemAvailable:     200 kB\n";
        assert_eq!(field(info, "MemTotal:"), Some(24_689_764 * 1024));
        assert_eq!(field(info, "MemAvailable:"), Some(204_800));
        assert_eq!(field(info, "MemFree:"), None);
    }
}
