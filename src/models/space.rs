//! Is there room on the disk?

use std::path::Path;

use super::{bytes_in_words, disk};
use crate::error::{Error, Result};

/// Refuses what will not fit below `folder`, which need not exist yet.
pub(super) fn check(folder: &Path, needed: u64) -> Result<()> {
    let there = folder.ancestors().find(|p| p.exists()).unwrap_or(folder);
    let free = free_bytes(there)?;
    if free < needed {
        return Err(Error::Output(format!(
            "{}: {} are needed, {} are free. Make room, or put the cache on another disk with HF_HUB_CACHE",
            folder.display(),
            bytes_in_words(needed),
            bytes_in_words(free)
        )));
    }
    Ok(())
}

/// Bytes that this user may still write on the disk of `path`.
#[cfg(unix)]
pub(crate) fn free_bytes(path: &Path) -> Result<u64> {
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::Output(format!("{}: not a path", path.display())))?;
    let mut status = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `name` ends with a zero and `status` has room for what statvfs writes.
    if unsafe { libc::statvfs(name.as_ptr(), status.as_mut_ptr()) } != 0 {
        return Err(disk(path, "free space cannot be read", &std::io::Error::last_os_error()));
    }
    // SAFETY: statvfs has returned 0, so it has filled the structure.
    let status = unsafe { status.assume_init() };
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "the fields' widths differ between systems")]
    Ok((status.f_bavail as u64).saturating_mul(status.f_frsize as u64))
}

/// Unknown here: a full disk is then noticed when it is.
#[cfg(not(unix))]
pub(crate) fn free_bytes(_path: &Path) -> Result<u64> {
    Ok(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_fit_is_refused_with_the_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("not/yet/there");
        check(&folder, 1).unwrap();
        let told = check(&folder, u64::MAX).unwrap_err().to_string();
        assert!(told.contains("are needed") && told.contains("HF_HUB_CACHE"), "{told}");
    }
}
