//! FFmpeg's devices: cameras that are read, virtual ones that are written, graphs of filters.

use ffmpeg_next::ffi;

use crate::error::{Error, Result};

/// Makes FFmpeg's devices known: cameras, and `lavfi`.
///
/// libavdevice draws in dozens of libraries for windows and sound, so it is loaded only when it is needed.
pub(crate) fn register() -> Result<()> {
    // SAFETY: reads a version number; the two libraries have carried the same one since FFmpeg 5.
    let major = unsafe { ffi::avformat_version() } >> 16;
    let name = if cfg!(target_os = "macos") {
        format!("libavdevice.{major}.dylib")
    } else {
        format!("libavdevice.so.{major}")
    };
    let missing = |e: libloading::Error| {
        Error::Input(format!(
            "FFmpeg's devices need {name}, which is not there ({e}); on Debian and Ubuntu: apt-get install ffmpeg"
        ))
    };
    // SAFETY: FFmpeg's own library, whose initialisers do nothing but set up its tables.
    let library = unsafe { libloading::Library::new(&name) }.map_err(missing)?;
    // SAFETY: the function takes nothing and returns nothing.
    unsafe { library.get::<unsafe extern "C" fn()>(b"avdevice_register_all\0").map_err(missing)?() };
    // FFmpeg now points into the library, so it stays.
    std::mem::forget(library);
    Ok(())
}
