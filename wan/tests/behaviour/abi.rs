//! The C interface as a host uses it.

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use krea_wan::abi::*;

use crate::tiny;

const WIDTH: u32 = 32;
const HEIGHT: u32 = 48;
const FRAME: usize = (WIDTH * HEIGHT * 3) as usize;

/// Calls a function with a place for its error; returns the code and the text.
fn call(work: impl FnOnce(*mut ErrorText) -> i32) -> (i32, String) {
    let mut buffer = [0u8; 400];
    let mut error = ErrorText { text: buffer.as_mut_ptr(), capacity: buffer.len(), length: 0 };
    let code = work(&mut error);
    (code, String::from_utf8(buffer[..error.length].to_vec()).unwrap())
}

#[track_caller]
fn ok(work: impl FnOnce(*mut ErrorText) -> i32) {
    let (code, text) = call(work);
    assert_eq!((code, text.as_str()), (Code::Ok as i32, ""));
}

fn open_models(json: &str) -> Result<*mut ModelsHandle, (i32, String)> {
    let mut handle = null_mut();
    // SAFETY: all pointers live through the call.
    match call(|e| unsafe { krea_wan_models_open(json.as_ptr(), json.len(), &mut handle, e) }) {
        (0, _) => Ok(handle),
        failed => Err(failed),
    }
}

fn tiny_models() -> *mut ModelsHandle {
    let files = serde_json::json!({ "dit": tiny::path("dit_krea_prefixed.safetensors"), "vae": tiny::path("vae_original_wan.safetensors") });
    let json = serde_json::json!({ "files": files, "device": "cpu", "precision": "fp32", "threads": 1, "heads": 2, "text_len": 16 });
    open_models(&json.to_string()).unwrap()
}

fn open_session(models: *mut ModelsHandle, seed: u64) -> *mut SessionHandle {
    let json = serde_json::json!({ "width": WIDTH, "height": HEIGHT, "steps": 3, "seed": seed }).to_string();
    let mut handle = null_mut();
    // SAFETY: all pointers live through the call.
    ok(|e| unsafe { krea_wan_session_open(models, json.as_ptr(), json.len(), &mut handle, e) });
    let values: Vec<f32> = Vec::try_from(tiny::prompt(1).view([-1])).unwrap();
    // SAFETY: as above.
    ok(|e| unsafe {
        krea_wan_session_embedding(handle, values.as_ptr(), tiny::PROMPT[1] as u32, tiny::PROMPT[2] as u32, 1, e)
    });
    handle
}

fn needed(session: *mut SessionHandle) -> usize {
    let mut count = 0;
    // SAFETY: all pointers live through the call.
    ok(|e| unsafe { krea_wan_session_frames_needed(session, &mut count, e) });
    count as usize
}

fn next(
    session: *mut SessionHandle,
    kind: u32,
    input: Option<&Frames>,
    progress: Option<ProgressFn>,
    user: *mut c_void,
) -> Result<(BlockInfo, Vec<u8>), (i32, String)> {
    let mut out = vec![0; needed(session) * FRAME];
    let mut info = BlockInfo::default();
    let input = input.map_or(null(), |frames| frames as *const Frames);
    // SAFETY: all pointers live through the call.
    let made = call(|e| unsafe {
        krea_wan_session_next(session, kind, input, progress, user, out.as_mut_ptr(), out.len(), &mut info, e)
    });
    if made.0 != 0 {
        return Err(made);
    }
    out.truncate(info.frames as usize * FRAME);
    Ok((info, out))
}

#[test]
fn the_version_is_the_first_question() {
    assert_eq!(krea_wan_abi_version(), ABI_VERSION);
}

#[test]
fn blocks_are_those_of_the_library() {
    let models = tiny_models();
    let session = open_session(models, 1);
    // Sessions keep their models alive.
    // SAFETY: the handle is not used again.
    unsafe { krea_wan_models_close(models) };
    let shared = tiny::models(false);
    let mut own = tiny::session(&shared, 1);
    for block in 0..2 {
        let (info, rgb) = next(session, INPUT_NONE, None, None, null_mut()).unwrap();
        let pixels = own.next(krea_wan::session::Input::None, &mut |_| true).unwrap().pixels;
        assert_eq!(rgb, krea_wan::preprocess::rgb24_from_pixels(&pixels).unwrap());
        assert_eq!((info.index, info.frames), (block, if block == 0 { 9 } else { 12 }));
        assert!(info.seconds[1] > 0.0 && info.seconds[2] > 0.0);
    }
    // SAFETY: the handle is not used again.
    unsafe { krea_wan_session_close(session) };
}

#[test]
fn prompts_are_cleaned_tokenized_and_embedded() {
    let files = serde_json::json!({
        "dit": tiny::path("dit_krea_prefixed.safetensors"),
        "taehv": tiny::path("taehv_weights.safetensors"),
        "text": tiny::path("umt5_wan.safetensors"),
        "tokenizer": tiny::path("tokenizer_tiny.json"),
    });
    let json = serde_json::json!({ "files": files, "device": "cpu", "precision": "fp32", "threads": 1, "heads": 2, "text_len": 16 });
    let models = open_models(&json.to_string()).unwrap();
    let made = |text: &str| {
        let session = open_session(models, 1);
        // SAFETY: all pointers live through the call.
        ok(|e| unsafe { krea_wan_session_prompt(session, text.as_ptr(), text.len(), 1, e) });
        let rgb = next(session, INPUT_NONE, None, None, null_mut()).unwrap().1;
        // SAFETY: the handle is not used again.
        unsafe { krea_wan_session_close(session) };
        rgb
    };
    assert_eq!(made("a  cat &amp; a dog "), made("a cat & a dog"));
    assert_ne!(made("a cat & a dog"), made("rain over a city"));
    // SAFETY: the handle is not used again.
    unsafe { krea_wan_models_close(models) };
}

#[test]
fn frames_go_in() {
    let models = tiny_models();
    let session = open_session(models, 1);
    let change = br#"{"strength": 0.4, "steps": 4}"#;
    // SAFETY: all pointers live through the call.
    ok(|e| unsafe { krea_wan_session_change(session, change.as_ptr(), change.len(), e) });
    let rgb: Vec<u8> = (0..14 * 20 * 24 * 3).map(|i| (i * 31 % 251) as u8).collect();
    let frames = |count| Frames { data: rgb.as_ptr(), count, width: 20, height: 24 };
    assert_eq!(next(session, INPUT_VIDEO, Some(&frames(8)), None, null_mut()).unwrap_err().0, Code::Parameter as i32);
    assert_eq!(next(session, INPUT_VIDEO, Some(&frames(9)), None, null_mut()).unwrap().0.frames, 9);
    assert_eq!(next(session, INPUT_LIVE, Some(&frames(14)), None, null_mut()).unwrap().0.frames, 12);
    // SAFETY: the handles are not used again.
    unsafe {
        krea_wan_session_close(session);
        krea_wan_models_close(models);
    }
}

extern "C" fn stop_at_two(user: *mut c_void, _block: u64, done: u32, total: u32) -> i32 {
    // SAFETY: the test passes a counter that outlives the call.
    unsafe { &*user.cast::<AtomicU32>() }.fetch_add(1, Ordering::Relaxed);
    assert!(done < total);
    i32::from(done == 2)
}

struct Rendezvous {
    running: AtomicBool,
    go_on: AtomicBool,
}

extern "C" fn wait(user: *mut c_void, _block: u64, done: u32, _total: u32) -> i32 {
    // SAFETY: the test passes a rendezvous that outlives the call.
    let meet = unsafe { &*user.cast::<Rendezvous>() };
    if done == 1 {
        meet.running.store(true, Ordering::SeqCst);
        while !meet.go_on.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    0
}

#[test]
fn progress_can_stop_a_block_and_it_can_be_made_again() {
    let models = tiny_models();
    let (broken, whole) = (open_session(models, 2), open_session(models, 2));
    let calls = AtomicU32::new(0);
    let error = next(broken, INPUT_NONE, None, Some(stop_at_two), (&raw const calls).cast_mut().cast()).unwrap_err();
    assert_eq!((error.0, calls.load(Ordering::Relaxed)), (Code::Cancelled as i32, 3));
    let again = next(broken, INPUT_NONE, None, None, null_mut()).unwrap();
    assert_eq!(again.1, next(whole, INPUT_NONE, None, None, null_mut()).unwrap().1);
    // SAFETY: the handles are not used again.
    unsafe {
        krea_wan_session_close(broken);
        krea_wan_session_close(whole);
        krea_wan_models_close(models);
    }
}

#[test]
fn a_busy_session_says_so_and_can_be_cancelled_from_elsewhere() {
    struct Handle(*mut SessionHandle);
    // SAFETY: the interface allows handles on any thread.
    unsafe impl Send for Handle {}
    let models = tiny_models();
    let session = open_session(models, 3);
    let meet = Rendezvous { running: AtomicBool::new(false), go_on: AtomicBool::new(false) };
    let handle = Handle(session);
    let result = std::thread::scope(|scope| {
        let meet = &meet;
        let worker = scope.spawn(move || {
            let handle = handle;
            next(handle.0, INPUT_NONE, None, Some(wait), std::ptr::from_ref(meet).cast_mut().cast())
        });
        while !meet.running.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        // SAFETY: all pointers live through the calls.
        let (code, text) = call(|e| unsafe { krea_wan_session_reset(session, e) });
        assert_eq!(code, Code::Busy as i32, "{text}");
        // SAFETY: the handle lives.
        unsafe { krea_wan_session_cancel(session) };
        meet.go_on.store(true, Ordering::SeqCst);
        worker.join().unwrap()
    });
    assert_eq!(result.unwrap_err().0, Code::Cancelled as i32);
    assert_eq!(next(session, INPUT_NONE, None, None, null_mut()).unwrap().0.index, 0, "an old cancellation is over");
    // SAFETY: the handles are not used again.
    unsafe {
        krea_wan_session_close(session);
        krea_wan_models_close(models);
    }
}

#[test]
fn what_goes_wrong_has_a_code_and_a_sentence() {
    let (code, text) = open_models("{").unwrap_err();
    assert!(code == Code::Parameter as i32 && text.contains("cannot be read"), "{text}");
    let (code, text) = open_models(
        r#"{"files": {"dit": "/absent/dit.safetensors", "vae": "/absent/vae.safetensors"}, "device": "cpu"}"#,
    )
    .unwrap_err();
    assert!(code == Code::Input as i32 && text.contains("/absent/"), "{text}");
    let (code, _) = open_models(r#"{"files": {"dit": "x"}, "device": "tpu"}"#).unwrap_err();
    assert_eq!(code, Code::Device as i32);
    let (code, text) = open_models(r#"{"files": {"dit": "x"}, "colour": 1}"#).unwrap_err();
    assert!(code == Code::Parameter as i32 && text.contains("colour"), "{text}");
    let files = serde_json::json!({ "dit": tiny::path("vae_original_wan.safetensors"), "vae": tiny::path("vae_original_wan.safetensors") });
    let (code, _) = open_models(&serde_json::json!({ "files": files, "device": "cpu" }).to_string()).unwrap_err();
    assert_eq!(code, Code::Weights as i32);

    let models = tiny_models();
    let session = open_session(models, 1);
    let mut info = BlockInfo::default();
    let mut small = [0u8; 16];
    // SAFETY: all pointers live through the calls; null is what is tested.
    unsafe {
        let (code, text) = call(|e| {
            krea_wan_session_next(
                session,
                INPUT_NONE,
                null(),
                None,
                null_mut(),
                small.as_mut_ptr(),
                small.len(),
                &mut info,
                e,
            )
        });
        assert!(code == Code::Parameter as i32 && text.contains("16 bytes"), "{text}");
        assert_eq!(
            call(|e| krea_wan_session_next(null(), INPUT_NONE, null(), None, null_mut(), null_mut(), 0, null_mut(), e))
                .0,
            Code::Parameter as i32
        );
        assert_eq!(call(|e| krea_wan_session_reset(null(), e)).0, Code::Parameter as i32);
        assert_eq!(krea_wan_session_reset(null(), null_mut()), Code::Parameter as i32);
        let (code, text) = call(|e| krea_wan_session_prompt(session, b"a cat".as_ptr(), 5, 1, e));
        assert!(code == Code::Parameter as i32 && text.contains("text encoder"), "{text}");
        krea_wan_session_cancel(null());
        krea_wan_session_close(null_mut());
        krea_wan_models_close(null_mut());
        krea_wan_session_close(session);
        krea_wan_models_close(models);
    }
}

#[test]
fn a_plan_is_made_from_the_headers_and_too_much_is_refused() {
    let files = serde_json::json!({ "dit": tiny::path("dit_krea_prefixed.safetensors"), "vae": tiny::path("vae_original_wan.safetensors") });
    let request = |width: u64| {
        serde_json::json!({ "files": files, "device": "cpu", "precision": "fp32", "heads": 2, "text_len": 16, "fit": { "width": width, "height": 480 } }).to_string()
    };
    let mut text = [0u8; 600];
    let mut written = 0;
    let json = request(832);
    // SAFETY: all pointers live through the call.
    ok(|e| unsafe { krea_wan_plan(json.as_ptr(), json.len(), text.as_mut_ptr(), text.len(), &mut written, e) });
    let plan: serde_json::Value = serde_json::from_slice(&text[..written]).unwrap();
    // Six frames of 60x104/4 tokens, keys and values of 64 numbers in 2 layers, 4 bytes each.
    assert_eq!(plan["parts"]["frame cache"], 6 * 1560 * 2 * 2 * 64 * 4);
    assert!(plan["total"].as_u64().unwrap() > plan["parts"]["transformer"].as_u64().unwrap());
    let (code, text) = open_models(&request(16_000_000)).unwrap_err();
    assert!(code == Code::Memory as i32 && text.contains("GB are free"), "{text}");
}

#[test]
fn the_device_in_use_is_told() {
    let models = tiny_models();
    let mut text = [0u8; 100];
    let mut written = 0;
    // SAFETY: all pointers live through the calls.
    unsafe {
        ok(|e| krea_wan_models_describe(models, text.as_mut_ptr(), text.len(), &mut written, e));
        krea_wan_models_close(models);
    }
    let text = std::str::from_utf8(&text[..written]).unwrap();
    assert!(text.starts_with("cpu") && text.contains("Float"), "{text}");
}
