//! What keeps errors and panics on their side of the border.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

use crate::{Error, Result};

/// What a function of the interface returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// It did what it says.
    Ok = 0,
    /// It failed; the text says how.
    Failed = 1,
    /// A parameter is wrong.
    Parameter = 2,
    /// A file cannot be read.
    Input = 3,
    /// A file is not the weights that it should be.
    Weights = 4,
    /// The device cannot be used.
    Device = 5,
    /// There is not enough memory.
    Memory = 6,
    /// It was cancelled.
    Cancelled = 7,
    /// The session is busy with another call.
    Busy = 8,
    /// A defect: a panic was caught.
    Panic = 9,
}

/// Where an error's text goes: UTF-8, cut to the capacity.
#[repr(C)]
#[derive(Debug)]
pub struct ErrorText {
    /// `capacity` bytes of the caller.
    pub text: *mut u8,
    /// How many.
    pub capacity: usize,
    /// How many were written.
    pub length: usize,
}

/// The caller's error text, if there is one.
pub(super) struct Text<'a>(Option<&'a mut ErrorText>);

/// The two things that most calls come with.
pub(super) struct Guard<'a> {
    pub(super) json: &'a [u8],
    pub(super) error: Text<'a>,
}

/// # Safety
/// `json` points to `len` bytes or is null; `error` is valid for writing or null; both outlive the call.
pub(super) unsafe fn guard<'a>(json: *const u8, len: usize, error: *mut ErrorText) -> Guard<'a> {
    // SAFETY: the caller's promise.
    unsafe {
        Guard { json: if json.is_null() { &[] } else { slice::from_raw_parts(json, len) }, error: Text::of(error) }
    }
}

impl Text<'_> {
    /// # Safety
    /// `error` is valid for writing or null, and so is its text.
    pub(super) unsafe fn of<'a>(error: *mut ErrorText) -> Text<'a> {
        // SAFETY: the caller's promise.
        Text(unsafe { error.as_mut() })
    }

    /// Runs `work`; what goes wrong becomes a code and a text.
    pub(super) fn report(mut self, work: impl FnOnce() -> Result<()>) -> i32 {
        let (code, text) = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => (Code::Ok, String::new()),
            Ok(Err(error)) => (code_of(&error), error.to_string()),
            Err(panic) => {
                let said = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("no message");
                // libtorch speaks through panics where an operator has no other way.
                let code = if out_of_memory(said) { Code::Memory } else { Code::Panic };
                (code, format!("inside the generator: {said}"))
            }
        };
        self.write(&text);
        code as i32
    }

    fn write(&mut self, text: &str) {
        let Some(error) = &mut self.0 else { return };
        let mut length = text.len().min(error.capacity);
        while !text.is_char_boundary(length) {
            length -= 1;
        }
        error.length = if error.text.is_null() { 0 } else { length };
        if error.length > 0 {
            // SAFETY: the caller of the interface promises `capacity` bytes at `text`.
            unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), error.text, length) };
        }
    }
}

/// Runs `work` and swallows a panic, where there is nobody to tell.
pub(super) fn contain(work: impl FnOnce()) {
    let _ = catch_unwind(AssertUnwindSafe(work));
}

fn out_of_memory(text: &str) -> bool {
    text.contains("out of memory") || text.contains("can't allocate memory")
}

fn code_of(error: &Error) -> Code {
    match error {
        Error::Io { .. } => Code::Input,
        Error::File { .. } | Error::Weights { .. } => Code::Weights,
        Error::Parameter(_) => Code::Parameter,
        Error::Device(_) => Code::Device,
        Error::Memory(_) => Code::Memory,
        Error::Cancelled => Code::Cancelled,
        Error::Busy => Code::Busy,
        Error::Torch(error) if out_of_memory(&error.to_string()) => Code::Memory,
        Error::Torch(_) => Code::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(capacity: usize, work: impl FnOnce() -> Result<()>) -> (i32, String) {
        let mut buffer = vec![0u8; 256];
        let mut error = ErrorText { text: buffer.as_mut_ptr(), capacity, length: 0 };
        // SAFETY: both live to the end of this function, and the capacity is at most the buffer's.
        let code = unsafe { Text::of(&mut error) }.report(work);
        (code, String::from_utf8(buffer[..error.length].to_vec()).expect("whole characters"))
    }

    #[test]
    fn a_panic_becomes_a_code_and_its_text() {
        let (code, text) = reported(256, || panic!("a hole in the floor"));
        assert_eq!(code, Code::Panic as i32);
        assert!(text.contains("a hole in the floor"));
    }

    #[test]
    fn libtorch_without_memory_is_told_apart() {
        let (code, _) = reported(256, || panic!("CUDA out of memory. Tried to allocate"));
        assert_eq!(code, Code::Memory as i32);
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let (code, text) = reported(3, || Err(Error::Parameter("éé".into())));
        assert_eq!((code, text.as_str()), (Code::Parameter as i32, "é"));
    }

    #[test]
    fn no_place_for_a_text_is_no_crime() {
        // SAFETY: null is allowed.
        assert_eq!(unsafe { Text::of(std::ptr::null_mut()) }.report(|| Err(Error::Cancelled)), Code::Cancelled as i32);
    }
}
