//! The generator behind the plugin's C interface (`wan/include/krea_wan.h`).

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Block, Change, Generator};
use crate::error::{Error, Result};
use crate::pipeline::Control;
use crate::runtime::torch::{Plugin, PluginSearch, Search, TorchError};

#[repr(C)]
struct ErrorText {
    text: *mut u8,
    capacity: usize,
    length: usize,
}

#[repr(C)]
struct Pictures {
    data: *const u8,
    count: u32,
    width: u32,
    height: u32,
}

#[repr(C)]
#[derive(Default)]
struct BlockInfo {
    index: u64,
    frames: u32,
    /// 1 if something of the block was not a number.
    flags: u32,
    seconds: [f64; 3],
}

type Handle = *mut c_void;
type Progress = extern "C" fn(*mut c_void, u64, u32, u32) -> i32;

/// The plugin's functions, with their types as the header has them.
#[derive(Clone, Copy)]
struct Functions {
    plan: unsafe extern "C" fn(*const u8, usize, *mut u8, usize, *mut usize, *mut ErrorText) -> i32,
    models_open: unsafe extern "C" fn(*const u8, usize, *mut Handle, *mut ErrorText) -> i32,
    models_describe: unsafe extern "C" fn(Handle, *mut u8, usize, *mut usize, *mut ErrorText) -> i32,
    models_close: unsafe extern "C" fn(Handle),
    session_open: unsafe extern "C" fn(Handle, *const u8, usize, *mut Handle, *mut ErrorText) -> i32,
    session_close: unsafe extern "C" fn(Handle),
    session_prompt: unsafe extern "C" fn(Handle, *const u8, usize, u32, *mut ErrorText) -> i32,
    session_change: unsafe extern "C" fn(Handle, *const u8, usize, *mut ErrorText) -> i32,
    session_start_frame: unsafe extern "C" fn(Handle, *const Pictures, *mut ErrorText) -> i32,
    session_frames_needed: unsafe extern "C" fn(Handle, *mut u32, *mut ErrorText) -> i32,
    session_next: unsafe extern "C" fn(
        Handle,
        u32,
        *const Pictures,
        Option<Progress>,
        *mut c_void,
        *mut u8,
        usize,
        *mut BlockInfo,
        *mut ErrorText,
    ) -> i32,
    session_reset: unsafe extern "C" fn(Handle, *mut ErrorText) -> i32,
}

const INPUT_NONE: u32 = 0;
const INPUT_VIDEO: u32 = 1;

/// libtorch and the plugin, open in this process.
pub(super) struct Wan {
    functions: Functions,
    /// Why CUDA cannot be used, where it was wanted.
    without_cuda: Option<String>,
}

/// Bytes that a generation takes, by part.
#[derive(Clone, Debug, Deserialize)]
pub struct Memory {
    pub parts: BTreeMap<String, u64>,
    pub total: u64,
    /// Free on the device, where that can be found out.
    pub free: Option<u64>,
}

impl Memory {
    pub(super) fn fits(&self) -> bool {
        self.free.is_none_or(|free| self.total <= free)
    }
}

impl Wan {
    pub(super) fn open(want_cuda: bool) -> Result<Self> {
        let device = |e: TorchError| Error::Device(e.to_string());
        // The plugin is looked for first: without it there is no use in opening libtorch.
        let file = PluginSearch::of_this_machine().find().map_err(device)?;
        let libtorch = Search::of_this_machine().find().map_err(device)?.open(want_cuda).map_err(device)?;
        let plugin = Plugin::open(file, &libtorch).map_err(device)?;
        let functions = functions(&plugin).map_err(device)?;
        Ok(Self { functions, without_cuda: libtorch.without_cuda })
    }

    pub(super) fn without_cuda(&self) -> Option<&str> {
        self.without_cuda.as_deref()
    }

    /// What `request` would take, by the headers of its files alone.
    pub(super) fn plan(&self, request: &Value) -> Result<Memory> {
        let text = request.to_string();
        // SAFETY: the pointers are valid for the lengths beside them.
        let answer = answer(|out, capacity, written, error| unsafe {
            (self.functions.plan)(text.as_ptr(), text.len(), out, capacity, written, error)
        })?;
        serde_json::from_str(&answer).map_err(|e| broken(&format!("an answer that cannot be read: {e}")))
    }

    /// Opens models and a session on them.
    pub(super) fn session(
        self,
        models: &Value,
        session: &Value,
        size: (u32, u32),
        control: Control,
    ) -> Result<WanGenerator> {
        let f = self.functions;
        let (models, session) = (models.to_string(), session.to_string());
        let mut made = WanGenerator {
            functions: f,
            models: ptr::null_mut(),
            session: ptr::null_mut(),
            size,
            control: Box::new(control),
        };
        // SAFETY: the pointers are valid for the lengths beside them; `made` closes what was opened.
        call(|error| unsafe { (f.models_open)(models.as_ptr(), models.len(), &raw mut made.models, error) })?;
        // SAFETY: as above; the models are live.
        call(|error| unsafe {
            (f.session_open)(made.models, session.as_ptr(), session.len(), &raw mut made.session, error)
        })?;
        Ok(made)
    }
}

fn functions(plugin: &Plugin) -> std::result::Result<Functions, TorchError> {
    // SAFETY: the types are those of the header, whose version was checked when the plugin was opened.
    unsafe {
        Ok(Functions {
            plan: plugin.symbol("krea_wan_plan")?,
            models_open: plugin.symbol("krea_wan_models_open")?,
            models_describe: plugin.symbol("krea_wan_models_describe")?,
            models_close: plugin.symbol("krea_wan_models_close")?,
            session_open: plugin.symbol("krea_wan_session_open")?,
            session_close: plugin.symbol("krea_wan_session_close")?,
            session_prompt: plugin.symbol("krea_wan_session_prompt")?,
            session_change: plugin.symbol("krea_wan_session_change")?,
            session_start_frame: plugin.symbol("krea_wan_session_start_frame")?,
            session_frames_needed: plugin.symbol("krea_wan_session_frames_needed")?,
            session_next: plugin.symbol("krea_wan_session_next")?,
            session_reset: plugin.symbol("krea_wan_session_reset")?,
        })
    }
}

/// A session and the models that it keeps in memory.
pub(super) struct WanGenerator {
    functions: Functions,
    models: Handle,
    session: Handle,
    size: (u32, u32),
    /// Asked before each call of the transformer; boxed, for the plugin holds its address meanwhile.
    control: Box<Control>,
}

// SAFETY: the plugin's handles may be used from any thread.
unsafe impl Send for WanGenerator {}

impl WanGenerator {
    /// Device and precisions that are really used.
    pub(super) fn describe(&self) -> Result<String> {
        // SAFETY: a live handle; the pointers are valid for the lengths beside them.
        answer(|out, capacity, written, error| unsafe {
            (self.functions.models_describe)(self.models, out, capacity, written, error)
        })
    }
}

impl Drop for WanGenerator {
    fn drop(&mut self) {
        // SAFETY: both came from the plugin or are null, and no call is running.
        unsafe {
            (self.functions.session_close)(self.session);
            (self.functions.models_close)(self.models);
        }
    }
}

/// A value other than 0 ends the block.
extern "C" fn stops(control: *mut c_void, _block: u64, _done: u32, _total: u32) -> i32 {
    // SAFETY: `next` hands the address of its generator's control in, which outlives the call.
    let control = unsafe { &*control.cast::<Control>() };
    i32::from(control.abandoned())
}

const CANCELLED: i32 = 7;

impl Generator for WanGenerator {
    fn size(&self) -> (u32, u32) {
        self.size
    }

    fn frames_needed(&mut self) -> Result<usize> {
        let mut count = 0;
        // SAFETY: a live handle; `count` is valid for writing.
        call(|error| unsafe { (self.functions.session_frames_needed)(self.session, &raw mut count, error) })?;
        Ok(count as usize)
    }

    fn next(&mut self, input: Option<&[u8]>, out: &mut [u8]) -> Result<Option<Block>> {
        let (width, height) = self.size;
        let count = |bytes: &[u8]| (bytes.len() / (width as usize * height as usize * 3)) as u32;
        let pictures = input.map(|bytes| Pictures { data: bytes.as_ptr(), count: count(bytes), width, height });
        let kind = if pictures.is_some() { INPUT_VIDEO } else { INPUT_NONE };
        let mut info = BlockInfo::default();
        let control: *mut c_void = (&raw mut *self.control).cast();
        // SAFETY: a live handle; pictures and `out` are as large as they say; the control outlives the call.
        let result = call(|error| unsafe {
            (self.functions.session_next)(
                self.session,
                kind,
                pictures.as_ref().map_or(ptr::null(), ptr::from_ref),
                Some(stops),
                control,
                out.as_mut_ptr(),
                out.len(),
                &raw mut info,
                error,
            )
        });
        match result {
            Ok(()) => {
                let finite = info.flags & 1 == 0;
                Ok(Some(Block { frames: info.frames as usize, finite, seconds: info.seconds }))
            }
            Err(Failure { code: CANCELLED, .. }) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    fn prompt(&mut self, text: &str, blend: u32) -> Result<()> {
        // SAFETY: a live handle; the pointer is valid for the length beside it.
        call(|error| unsafe { (self.functions.session_prompt)(self.session, text.as_ptr(), text.len(), blend, error) })
            .map_err(Error::from)
    }

    fn change(&mut self, change: &Change) -> Result<()> {
        let text = json!(change).to_string();
        // SAFETY: as above.
        call(|error| unsafe { (self.functions.session_change)(self.session, text.as_ptr(), text.len(), error) })
            .map_err(Error::from)
    }

    fn start_from(&mut self, picture: &[u8], width: u32, height: u32) -> Result<()> {
        assert_eq!(picture.len(), width as usize * height as usize * 3, "a packed picture");
        let pictures = Pictures { data: picture.as_ptr(), count: 1, width, height };
        // SAFETY: a live handle; the picture is as large as it says.
        call(|error| unsafe { (self.functions.session_start_frame)(self.session, &raw const pictures, error) })
            .map_err(Error::from)
    }

    fn reset(&mut self) -> Result<()> {
        // SAFETY: a live handle.
        call(|error| unsafe { (self.functions.session_reset)(self.session, error) }).map_err(Error::from)
    }
}

/// What the plugin says when something fails.
struct Failure {
    code: i32,
    text: String,
}

impl From<Failure> for Error {
    fn from(Failure { code, text }: Failure) -> Self {
        match code {
            2 => Self::Usage(text),
            3 | 4 => Self::Model(text),
            5 | 6 => Self::Device(text),
            _ => broken(&text),
        }
    }
}

fn broken(text: &str) -> Error {
    Error::Stage { stage: "generate".to_owned(), message: text.to_owned() }
}

/// Calls a function of the plugin with a place for its error.
fn call(function: impl FnOnce(*mut ErrorText) -> i32) -> std::result::Result<(), Failure> {
    let mut text = [0; 2048];
    let mut error = ErrorText { text: text.as_mut_ptr(), capacity: text.len(), length: 0 };
    match function(&raw mut error) {
        0 => Ok(()),
        code => Err(Failure { code, text: String::from_utf8_lossy(&text[..error.length.min(2048)]).into_owned() }),
    }
}

/// Calls a function that answers in text.
fn answer(function: impl FnOnce(*mut u8, usize, *mut usize, *mut ErrorText) -> i32) -> Result<String> {
    let mut out = vec![0; 1 << 16];
    let mut written = 0;
    call(|error| function(out.as_mut_ptr(), out.len(), &raw mut written, error))?;
    out.truncate(written);
    String::from_utf8(out).map_err(|e| broken(&e.to_string()))
}
