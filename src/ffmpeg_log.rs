//! Sends FFmpeg's log to ours, so that it neither garbles the progress bar nor reaches people who did not ask.

use std::ffi::CStr;

use ffmpeg_next::ffi;

/// Takes FFmpeg's log over for this process.
pub(crate) fn route() {
    #[cfg(all(unix, target_arch = "x86_64"))]
    // SAFETY: the callback is a plain function that lives for ever.
    unsafe {
        ffi::av_log_set_level(ffi::AV_LOG_VERBOSE);
        ffi::av_log_set_callback(Some(unix::callback));
    }
    // Elsewhere the type of the arguments differs; FFmpeg then speaks only of what is fatal.
    #[cfg(not(all(unix, target_arch = "x86_64")))]
    // SAFETY: sets an integer.
    unsafe {
        ffi::av_log_set_level(ffi::AV_LOG_FATAL);
    }
}

#[cfg(all(unix, target_arch = "x86_64"))]
mod unix {
    use super::{CStr, ffi};
    use libc::{c_char, c_int, c_void};

    /// FFmpeg calls this from any of its threads.
    pub(super) unsafe extern "C" fn callback(
        object: *mut c_void,
        level: c_int,
        format: *const c_char,
        arguments: *mut ffi::__va_list_tag,
    ) {
        if level > ffi::AV_LOG_VERBOSE {
            return;
        }
        let mut line = [0 as c_char; 1024];
        let mut prefix = 1;
        // SAFETY: FFmpeg passes arguments that fit the format; the line is NUL-terminated within its length.
        let text = unsafe {
            ffi::av_log_format_line(
                object,
                level,
                format,
                arguments,
                line.as_mut_ptr(),
                line.len() as c_int,
                &mut prefix,
            );
            CStr::from_ptr(line.as_ptr()).to_string_lossy()
        };
        // FFmpeg names URLs as they were given.
        let text = crate::address::without_secrets_within(text.trim());
        if text.is_empty() {
            return;
        }
        // SAFETY: a logging object begins with a pointer to its class, by FFmpeg's rule.
        let writes = unsafe { is_writer(object) };
        match level {
            // Why an output fails concerns the user; what is wrong with the input is counted elsewhere. A parser of the
            // input speaks as a codec context without a codec, whose name is NULL.
            l if l <= ffi::AV_LOG_ERROR && writes && !text.starts_with("[NULL") => {
                tracing::warn!(target: "ffmpeg", "{text}")
            }
            l if l <= ffi::AV_LOG_WARNING => tracing::debug!(target: "ffmpeg", "{text}"),
            _ => tracing::trace!(target: "ffmpeg", "{text}"),
        }
    }

    /// Whether the object that speaks is an encoder or a muxer.
    ///
    /// # Safety
    /// `object` is null or a pointer to a structure that begins with an `AVClass` pointer.
    unsafe fn is_writer(object: *mut c_void) -> bool {
        // SAFETY: as the function's own.
        let class = unsafe { object.cast::<*const ffi::AVClass>().as_ref().and_then(|c| c.as_ref()) };
        let Some(class) = class else { return false };
        let category = match class.get_category {
            // SAFETY: FFmpeg's own function for this object.
            Some(get) => unsafe { get(object) },
            None => class.category,
        };
        use ffi::AVClassCategory::{AV_CLASS_CATEGORY_ENCODER, AV_CLASS_CATEGORY_MUXER};
        [AV_CLASS_CATEGORY_ENCODER, AV_CLASS_CATEGORY_MUXER].contains(&category)
    }
}
