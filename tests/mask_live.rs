//! Masks of live runs: a network that fails takes nothing else with it and comes back; masks shared by several frames.

mod harness;
mod live_support;

use std::time::Instant;

use harness::{CLIP, Scratch, assert_plays, ffmpeg, frame_count, krea, run};
use live_support::{Camera, HEIGHT, RAW, Running, WIDTH, onnx};

/// Cb of #00FF00 by BT.601; the camera's own pictures are grey.
fn is_green([_, cb, _]: [u8; 3]) -> bool {
    cb.abs_diff(54) < 8
}

/// A camera whose picture is too bright for the network from frame 30 to 120, though not enough so for a cut.
fn dazzled() -> Camera {
    Camera::start(25, |number| if (30..120).contains(&number) { 140 } else { 122 })
}

fn start(camera: &Camera, model: &str, more: &[&str]) -> Running {
    let args = ["run", &camera.url, "--remove-bg", "--no-despill", "--mask-model", model, "--progress", "json"];
    Running::start(krea(args.into_iter().chain(RAW).chain(more.iter().copied())))
}

#[test]
fn a_lost_network_leaves_the_picture_and_comes_back() {
    let scratch = Scratch::new();
    let (model, stats) = (scratch.path("dazzled.onnx"), scratch.path("stats.json"));
    onnx::fails_in_bright_light(model.as_ref());
    let camera = dazzled();
    let mut running = start(&camera, &model, &["--stats", &stats]);
    // Left is the person, right the background.
    let (mut held, mut passed, mut back) = (0, 0, 0);
    let begun = Instant::now();
    while back < 10 {
        assert!(begun.elapsed() < live_support::FOREVER, "{}", running.said());
        let shown = running.frame();
        // The upper half of the number lies on the background.
        let number = shown.number() & 0xff;
        let (left, right) = (shown.at(WIDTH / 4, HEIGHT / 2), shown.at(WIDTH * 3 / 4, HEIGHT / 2));
        assert!(!is_green(left), "frame {number}");
        match number {
            0..30 => assert!(is_green(right), "frame {number}: {right:?}"),
            30..120 if is_green(right) => {
                assert_eq!(passed, 0, "held again after it had passed");
                held += 1;
            }
            30..120 => passed += 1,
            _ => back += usize::from(is_green(right)),
        }
    }
    // Two seconds of the last mask, the rest of the bright time without one.
    assert!((30..=70).contains(&held) && passed > 10, "{held} held, {passed} passed");
    running.wait_until("the message", |said| said.contains("the mask is back after"));
    let said = running.interrupt();
    assert!(said.contains("the mask is lost, and the picture goes on without it"), "{said}");
    assert!(said.contains("is opened again in 1 s") && said.contains("is opened again in 2 s"), "{said}");
    assert!(said.contains("\"mask_lost\":true") && said.contains("\"mask_losses\":1"), "{said}");
    let stats: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(stats).unwrap()).unwrap();
    assert_eq!(stats["mask"]["losses"], 1, "{stats}");
    assert!(stats["mask"]["failed"].as_u64().unwrap() >= 2, "{stats}");
}

#[test]
fn green_never_shows_the_room_and_strict_ends() {
    let scratch = Scratch::new();
    let model = scratch.path("dazzled.onnx");
    onnx::fails_in_bright_light(model.as_ref());
    let camera = dazzled();
    let mut running = start(&camera, &model, &["--on-mask-error", "green"]);
    while camera.sent() < 140 {
        let right = running.frame().at(WIDTH * 3 / 4, HEIGHT / 2);
        assert!(is_green(right), "after {} frames: {right:?}", camera.sent());
    }
    assert!(running.interrupt().contains("\"mask_lost\":true"));
    let camera = dazzled();
    let (code, said) = start(&camera, &model, &["--strict"]).end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("error: mask: "), "{said}");
}

/// Runs the clip with masks of every `n` frames; how many were masked, and the picture, small and raw.
fn every(scratch: &Scratch, n: &str) -> (u64, Vec<u8>) {
    let (out, stats) = (scratch.path(&format!("{n}.mkv")), scratch.path("stats.json"));
    let args = ["run", CLIP, "--remove-bg", "--mask-model", "selfie", "--mask-every", n, "-o", &out];
    run(krea(args.into_iter().chain(["--stats", &stats, "-y"]))).exits(0);
    assert_plays(&out);
    assert_eq!(frame_count(&out), 125);
    let raw = scratch.path("raw.yuv");
    ffmpeg(&["-i", &out, "-vf", "scale=80:60", "-pix_fmt", "gray", "-f", "rawvideo", &raw]);
    let stats: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(stats).unwrap()).unwrap();
    let mask = &stats["mask"];
    let own = ["masked", "held", "empty"].map(|name| mask[name].as_u64().unwrap()).iter().sum();
    assert_eq!(own + mask["followed"].as_u64().unwrap(), 125, "{stats}");
    (own, std::fs::read(raw).unwrap())
}

#[test]
fn masks_of_a_file_can_be_shared_and_stay_close() {
    let scratch = Scratch::new();
    let (all, truth) = every(&scratch, "1");
    let (some, shared) = every(&scratch, "4");
    assert_eq!((all, some), (125, 32));
    assert_eq!(truth.len(), shared.len());
    let off = truth.iter().zip(&shared).filter(|(a, b)| a.abs_diff(**b) > 40).count() as f64 / truth.len() as f64;
    eprintln!("{:.3} % of the pixels differ", off * 100.0);
    assert!(off < 0.01, "{off}");
    let (auto, same) = every(&scratch, "auto");
    assert_eq!(auto, 125);
    assert!(same == truth, "auto masks every frame of a file");
}

#[test]
fn nonsense_is_refused() {
    for bad in ["0", "31", "often"] {
        run(krea(["run", CLIP, "--remove-bg", "--mask-every", bad, "-o", "/tmp/none.mp4"])).exits(2).says("auto");
    }
}
