//! The C interface that `krea` opens this package through; `include/krea_wan.h` is its other side.
//!
//! Rules. Every function returns a code of [`Code`] and, where it fails, writes a sentence to the
//! [`ErrorText`] that it is given. No panic crosses the border: one is caught and returned as
//! [`Code::Panic`]. Text is UTF-8 with a length, not NUL-terminated. Pictures are packed RGB.
//!
//! Threads. Handles may be used from any thread. Models serve any number of sessions at the same
//! time. A session does one thing at a time: a second call while one is running returns
//! [`Code::Busy`] and changes nothing; only [`krea_wan_session_cancel`] may come at any time.
//! A handle must not be closed while a call on it is running. Models may be closed before their
//! sessions, which keep them alive.

mod border;
mod request;

use std::ffi::c_void;
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::models::Models;
use crate::noise::{NoiseSource, SeededNoise};
use crate::preprocess::{pixels_from_rgb24, rgb24_from_pixels};
use crate::session::{Input, Progress, Session};
use crate::{Error, Result};
pub use border::{Code, ErrorText};
use border::{Guard, guard};
use request::{Change, ModelsRequest, SessionRequest};

/// The version of this interface. It is asked for before anything else; another one is refused.
pub const ABI_VERSION: u32 = 1;

/// The version of this interface.
#[unsafe(no_mangle)]
pub extern "C" fn krea_wan_abi_version() -> u32 {
    ABI_VERSION
}

/// Models that sessions share.
pub struct ModelsHandle(Arc<Shared>);

struct Shared {
    models: Arc<Models>,
    /// What is used, in words: device and precisions.
    choice: String,
}

// SAFETY: after loading, weights are only read; libtorch's operators may read one tensor from
// several threads at a time, and its reference counts are atomic.
unsafe impl Sync for Models {}

/// One generation.
pub struct SessionHandle {
    session: Mutex<Owned>,
    cancel: AtomicBool,
}

struct Owned {
    session: Session,
    /// Keeps the models alive and lends them to `krea_wan_session_prompt`.
    models: Arc<Shared>,
}

/// Packed RGB frames of the caller.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Frames {
    /// `count * height * width * 3` bytes.
    pub data: *const u8,
    /// Frames.
    pub count: u32,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// What became of a block.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct BlockInfo {
    /// The block's number from 0.
    pub index: u64,
    /// Frames written.
    pub frames: u32,
    /// [`BLOCK_NOT_FINITE`], or 0.
    pub flags: u32,
    /// Seconds spent on encoding, in the transformer, and on decoding.
    pub seconds: [f64; 3],
}

/// A flag of a block: some of its numbers are infinite or not numbers, and its frames are worth nothing.
pub const BLOCK_NOT_FINITE: u32 = 1;

/// Told before each call of the transformer; a value other than 0 ends the block with [`Code::Cancelled`].
pub type ProgressFn = extern "C" fn(user: *mut c_void, block: u64, done: u32, total: u32) -> i32;

/// Input of a block: noise only.
pub const INPUT_NONE: u32 = 0;
/// Input of a block: exactly as many frames as are needed.
pub const INPUT_VIDEO: u32 = 1;
/// Input of a block: all frames that have come, at least as many as needed; they are resampled.
pub const INPUT_LIVE: u32 = 2;

/// Opens the models that a JSON text describes (see `request.rs` for its fields).
///
/// # Safety
/// `json` points to `json_len` bytes; `out` and `error` are valid for writing or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn krea_wan_models_open(
    json: *const u8,
    json_len: usize,
    out: *mut *mut ModelsHandle,
    error: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's promise above.
    let Guard { json, error } = unsafe { guard(json, json_len, error) };
    error.report(|| {
        let request: ModelsRequest = request::parse(json)?;
        let (models, choice) = request.open()?;
        let handle = ModelsHandle(Arc::new(Shared { models: Arc::new(models), choice }));
        // SAFETY: the caller's promise above.
        unsafe { hand_out(out, handle) }
    })
}

/// Writes how much memory the models of a JSON text would take for what its `fit` says, by the headers
/// of their files alone: `{"parts": {"transformer": bytes, ..}, "total": bytes, "free": bytes or null}`.
///
/// # Safety
/// `json` points to `json_len` bytes; `text` points to `capacity` bytes; `written` and `error` are valid for writing or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn krea_wan_plan(
    json: *const u8,
    json_len: usize,
    text: *mut u8,
    capacity: usize,
    written: *mut usize,
    error: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's promise above.
    let Guard { json, error } = unsafe { guard(json, json_len, error) };
    error.report(|| {
        let (plan, free) = request::parse::<ModelsRequest>(json)?.plan()?;
        let parts: serde_json::Map<_, _> =
            plan.parts.iter().map(|(name, bytes)| ((*name).to_owned(), (*bytes).into())).collect();
        let answer = serde_json::json!({ "parts": parts, "total": plan.total(), "free": free });
        // SAFETY: the caller's promise above.
        unsafe { write_text(&answer.to_string(), text, capacity, written) }
    })
}

/// Writes which device and precisions are used, in words.
///
/// # Safety
/// `models` is a live handle; `text` points to `capacity` bytes; `written` and `error` are valid for writing or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn krea_wan_models_describe(
    models: *const ModelsHandle,
    text: *mut u8,
    capacity: usize,
    written: *mut usize,
    error: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's promise above.
    let (error, models) = unsafe { (border::Text::of(error), models.as_ref()) };
    error.report(|| {
        let models = models.ok_or_else(null)?;
        // SAFETY: the caller's promise above.
        unsafe { write_text(&models.0.choice, text, capacity, written) }
    })
}

/// Closes models; null is ignored.
///
/// # Safety
/// `models` came from [`krea_wan_models_open`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn krea_wan_models_close(models: *mut ModelsHandle) {
    // SAFETY: the caller's promise above.
    border::contain(|| drop((!models.is_null()).then(|| unsafe { Box::from_raw(models) })));
}

/// Opens a session on models, as a JSON text says (see `request.rs` for its fields).
///
/// # Safety
/// `models` is a live handle; `json` points to `json_len` bytes; `out` and `error` are valid for writing or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn krea_wan_session_open(
    models: *const ModelsHandle,
    json: *const u8,
    json_len: usize,
    out: *mut *mut SessionHandle,
    error: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's promise above.
    let (Guard { json, error }, models) = unsafe { (guard(json, json_len, error), models.as_ref()) };
    error.report(|| {
        let shared = models.ok_or_else(null)?.0.clone();
        let request: SessionRequest = request::parse(json)?;
        let settings = request.settings()?;
        let noise: Box<dyn NoiseSource> = match request.reference_noise(&shared.models) {
            Some(noise) => Box::new(noise),
            None => Box::new(SeededNoise { seed: settings.seed }),
        };
        let session = Session::with_noise(shared.models.clone(), settings, noise)?;
        let handle =
            SessionHandle { session: Mutex::new(Owned { session, models: shared }), cancel: AtomicBool::new(false) };
        // SAFETY: the caller's promise above.
        unsafe { hand_out(out, handle) }
    })
}

/// Closes a session; null is ignored.
///
/// # Safety
/// `session` came from [`krea_wan_session_open`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn krea_wan_session_close(session: *mut SessionHandle) {
    // SAFETY: the caller's promise above.
    border::contain(|| drop((!session.is_null()).then(|| unsafe { Box::from_raw(session) })));
}

/// Changes the prompt over `steps` blocks; the first prompt is taken at once.
///
/// # Safety
/// `session` is a live handle; `text` points to `text_len` bytes; `error` is valid for writing or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn krea_wan_session_prompt(
    session: *const SessionHandle,
    text: *const u8,
    text_len: usize,
    steps: u32,
    error: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's promise above.
    let (Guard { json: text, error }, session) = unsafe { (guard(text, text_len, error), session.as_ref()) };
    error.report(|| {
        with(session, |owned| {
            let text = std::str::from_utf8(text).map_err(|_| Error::parameter("the prompt is not UTF-8"))?;
            let embedding = owned.models.models.embed(text)?;
            owned.session.set_prompt(&embedding, steps as usize)
        })
    })
}

/// As [`krea_wan_session_prompt`], with an embedding of `rows` x `columns` fp32 numbers.
///
/// # Safety
/// `session` is a live handle; `values` points to `rows * columns` numbers; `error` is valid for writing or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn krea_wan_session_embedding(
    session: *const SessionHandle,
    values: *const f32,
    rows: u32,
    columns: u32,
    steps: u32,
    error: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's promise above.
    let (error, session) = unsafe { (border::Text::of(error), session.as_ref()) };
    error.report(|| {
        let count = rows as usize * columns as usize;
        if values.is_null() || count == 0 {
            return Err(null());
        }
        // SAFETY: the caller's promise above.
        let values = unsafe { slice::from_raw_parts(values, count) };
        let embedding = tch::Tensor::f_from_slice(values)?.f_view([1, rows.into(), columns.into()])?;
        with(session, |owned| owned.session.set_prompt(&embedding, steps as usize))
    })
}

/// Changes seed, strength or steps from the next block on, as a JSON text says.
///
/// # Safety
/// `session` is a live handle; `json` points to `json_len` bytes; `error` is valid for writing or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn krea_wan_session_change(
    session: *const SessionHandle,
    json: *const u8,
    json_len: usize,
    error: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's promise above.
    let (Guard { json, error }, session) = unsafe { (guard(json, json_len, error), session.as_ref()) };
    error.report(|| {
        let change: Change = request::parse(json)?;
        with(session, |owned| change.apply(&mut owned.session))
    })
}

/// Lets the video go on from the first of `frames`; before the first block only.
///
/// # Safety
/// `session` is a live handle; `frames` is valid and its data too; `error` is valid for writing or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn krea_wan_session_start_frame(
    session: *const SessionHandle,
    frames: *const Frames,
    error: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's promise above.
    let (error, session, frames) = unsafe { (border::Text::of(error), session.as_ref(), frames.as_ref()) };
    error.report(|| {
        // SAFETY: the caller's promise above.
        let pixels = unsafe { pixels(frames.ok_or_else(null)?) }?;
        with(session, |owned| owned.session.set_start_frame(&pixels))
    })
}

/// How many input frames the next block takes, which is also how many it gives at most.
///
/// # Safety
/// `session` is a live handle; `count` and `error` are valid for writing or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn krea_wan_session_frames_needed(
    session: *const SessionHandle,
    count: *mut u32,
    error: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's promise above.
    let (error, session, count) = unsafe { (border::Text::of(error), session.as_ref(), count.as_mut()) };
    error.report(|| {
        let count = count.ok_or_else(null)?;
        with(session, |owned| {
            *count = owned.session.frames_needed() as u32;
            Ok(())
        })
    })
}

/// Makes the next block and writes its frames, of the session's size, to `out`.
///
/// `input` may be null for [`INPUT_NONE`]. If `out` is too small for
/// [`krea_wan_session_frames_needed`] frames, nothing is made.
///
/// # Safety
/// `session` is a live handle; `input` is null or valid and its data too; `out` points to
/// `capacity` bytes that are nobody else's meanwhile; `info` and `error` are valid for writing or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn krea_wan_session_next(
    session: *const SessionHandle,
    kind: u32,
    input: *const Frames,
    progress: Option<ProgressFn>,
    user: *mut c_void,
    out: *mut u8,
    capacity: usize,
    info: *mut BlockInfo,
    error: *mut ErrorText,
) -> i32 {
    // SAFETY: the caller's promise above.
    let (error, handle, input, info) =
        unsafe { (border::Text::of(error), session.as_ref(), input.as_ref(), info.as_mut()) };
    error.report(|| {
        let (handle, info) = (handle.ok_or_else(null)?, info.ok_or_else(null)?);
        let frames = match kind {
            INPUT_NONE => None,
            // SAFETY: the caller's promise above.
            INPUT_VIDEO | INPUT_LIVE => Some(unsafe { pixels(input.ok_or_else(null)?) }?),
            other => return Err(Error::parameter(format!("{other} is not a kind of input"))),
        };
        with(Some(handle), |owned| {
            let session = &mut owned.session;
            let frame = (session.settings().width * session.settings().height * 3) as usize;
            let room = session.frames_needed() * frame;
            if out.is_null() || capacity < room {
                return Err(Error::parameter(format!(
                    "{capacity} bytes are too few for the frames of a block: {room}"
                )));
            }
            handle.cancel.store(false, Ordering::Relaxed);
            let mut report = |p: Progress| {
                let stop = progress.is_some_and(|progress| progress(user, p.block, p.done as u32, p.total as u32) != 0);
                !stop && !handle.cancel.load(Ordering::Relaxed)
            };
            let input = match &frames {
                None => Input::None,
                Some(frames) if kind == INPUT_LIVE => Input::Live(frames),
                Some(frames) => Input::Video(frames),
            };
            let block = session.next(input, &mut report)?;
            // One number that is none makes the sum one too, and a sum takes no memory.
            let sum = |x: &tch::Tensor| x.f_sum(tch::Kind::Double)?.f_double_value(&[]);
            let finite = sum(&block.latents)?.is_finite() && sum(&block.pixels)?.is_finite();
            let rgb = rgb24_from_pixels(&block.pixels)?;
            let written = rgb.len().min(capacity);
            // SAFETY: `out` has room for `capacity` bytes by the caller's promise.
            unsafe { std::ptr::copy_nonoverlapping(rgb.as_ptr(), out, written) };
            let t = block.timings;
            *info = BlockInfo {
                index: block.index,
                frames: (written / frame) as u32,
                flags: if finite { 0 } else { BLOCK_NOT_FINITE },
                seconds: [t.encode, t.transformer, t.decode].map(|part| part.as_secs_f64()),
            };
            Ok(())
        })
    })
}

/// Ends the block that is being made, if any, before its next call of the transformer. May be
/// called from any thread at any time while the handle lives.
///
/// # Safety
/// `session` is a live handle or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn krea_wan_session_cancel(session: *const SessionHandle) {
    // SAFETY: the caller's promise above.
    if let Some(handle) = unsafe { session.as_ref() } {
        handle.cancel.store(true, Ordering::Relaxed);
    }
}

/// Forgets all frames; the next block begins a new video with the newest prompt.
///
/// # Safety
/// `session` is a live handle; `error` is valid for writing or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn krea_wan_session_reset(session: *const SessionHandle, error: *mut ErrorText) -> i32 {
    // SAFETY: the caller's promise above.
    let (error, session) = unsafe { (border::Text::of(error), session.as_ref()) };
    error.report(|| {
        with(session, |owned| {
            owned.session.reset();
            Ok(())
        })
    })
}

fn null() -> Error {
    Error::parameter("a pointer that must not be null is null")
}

/// Runs `work` on the session if nobody else does.
fn with<T>(handle: Option<&SessionHandle>, work: impl FnOnce(&mut Owned) -> Result<T>) -> Result<T> {
    let handle = handle.ok_or_else(null)?;
    match handle.session.try_lock() {
        Ok(mut owned) => work(&mut owned),
        Err(std::sync::TryLockError::WouldBlock) => Err(Error::Busy),
        Err(std::sync::TryLockError::Poisoned(_)) => {
            Err(Error::parameter("this session failed in the middle of a block: close it"))
        }
    }
}

/// # Safety
/// `out` is valid for writing or null.
unsafe fn hand_out<T>(out: *mut *mut T, value: T) -> Result<()> {
    if out.is_null() {
        return Err(null());
    }
    // SAFETY: checked above and promised by the caller.
    unsafe { *out = Box::into_raw(Box::new(value)) };
    Ok(())
}

/// # Safety
/// `text` points to `capacity` bytes or is null; `written` is valid for writing or null.
unsafe fn write_text(answer: &str, text: *mut u8, capacity: usize, written: *mut usize) -> Result<()> {
    if text.is_null() || written.is_null() {
        return Err(null());
    }
    if answer.len() > capacity {
        return Err(Error::parameter(format!("{capacity} bytes are too few for an answer of {}", answer.len())));
    }
    // SAFETY: both pointers were checked, and there is room by the caller's promise.
    unsafe {
        std::ptr::copy_nonoverlapping(answer.as_ptr(), text, answer.len());
        *written = answer.len();
    }
    Ok(())
}

/// # Safety
/// The data of `frames` is as long as its sizes say.
unsafe fn pixels(frames: &Frames) -> Result<tch::Tensor> {
    let (count, height, width) = (frames.count as usize, frames.height as usize, frames.width as usize);
    let bytes = [count, height, width, 3].into_iter().try_fold(1usize, usize::checked_mul).filter(|&bytes| bytes > 0);
    let (Some(bytes), false) = (bytes, frames.data.is_null()) else {
        return Err(Error::parameter(format!("{count} frames of {width}x{height} are no input")));
    };
    // SAFETY: the caller's promise above.
    pixels_from_rgb24(unsafe { slice::from_raw_parts(frames.data, bytes) }, height, width)
}
