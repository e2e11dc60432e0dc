//! What the flags of repainting refuse, and what they say.

use super::harness::{CLIP, Scratch, krea, run};
use super::{Studio, tiny};

fn refused(args: &[&str], code: i32, words: &[&str]) {
    let scratch = Scratch::new();
    let out = scratch.path("out.mp4");
    run(krea([&["run"], args, &["-o", &out]].concat())).fails(code, words);
    assert!(scratch.names().is_empty(), "{args:?} leaves {:?}", scratch.names());
}

#[test]
fn what_cannot_be_repainted_is_refused_with_the_reason() {
    refused(&[CLIP, "--prompt", "x", "--negative", "blurry"], 2, &["--negative", "guidance"]);
    refused(&[CLIP, "--prompt", "x", "--bg", "transparent"], 2, &["transparent"]);
    refused(&[CLIP, "--prompt", "x", "--blocks", "3"], 2, &["--blocks"]);
    refused(&["--prompt", "x", "--region", "person"], 2, &["--region"]);
    refused(&["--prompt", "x", "--remove-bg"], 2, &["input"]);
    refused(&[CLIP, "--prompt", "x", "--gen-size", "100x50"], 2, &["--gen-size", "96x48"]);
    refused(&[CLIP, "--prompt", "x", "--strength", "0"], 2, &["strength"]);
    refused(&[CLIP, "--strength", "0.5"], 2, &["required"]);
    refused(&[CLIP, "--prompt-file", "/nowhere/looks.txt"], 3, &["/nowhere/looks.txt"]);
}

#[test]
fn a_model_that_is_not_here_ends_with_the_command_that_helps() {
    let empty = Scratch::new();
    let out = empty.path("x.mp4");
    for offline in [&["--offline"][..], &[]] {
        let args = [&["run", CLIP, "--prompt", "x", "--model", "krea-14b", "-o", &out], offline].concat();
        let mut command = krea(args);
        command.env("HF_HOME", empty.root()).env("KREA_MODELS_DIR", empty.root()).env("XDG_STATE_HOME", empty.root());
        command.env("XDG_DATA_HOME", empty.root());
        run(command).fails(4, &["krea models pull krea-14b"]);
    }
    refused(&[CLIP, "--prompt", "x", "--model", "/nowhere/model"], 4, &["/nowhere/model"]);
    refused(&[CLIP, "--prompt", "x", "--model", "gpt"], 2, &["gpt", "krea-14b"]);
}

#[test]
fn a_damaged_model_is_named() {
    let scratch = Scratch::new();
    let Some(model) = tiny::model("a_damaged_model_is_named", &scratch) else { return };
    let dit = format!("{model}/dit.safetensors");
    let bytes = std::fs::read(&dit).unwrap();
    std::fs::write(&dit, &bytes[..bytes.len() / 2]).unwrap();
    refused(&[CLIP, "--prompt", "x", "--model", &model], 4, &["dit.safetensors"]);
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let Some(studio) = Studio::new("a_dry_run_says_what_would_be_done_and_does_nothing") else { return };
    let out = studio.path("out.mp4");
    let ran = studio.krea(&[CLIP, "--remove-bg", "--prompt", "x", "--dry-run", "-o", &out]).exits(0);
    let plan = String::from_utf8(ran.stdout).unwrap();
    for word in ["source", "640x480", "mask", "composite", "generate", "64x48", "transformer", "together", "sink"] {
        assert!(plan.contains(word), "'{word}' is not in:\n{plan}");
    }
    assert!(plan.contains("not known") && !std::path::Path::new(&out).exists());
    // Once it ran, it is known how long such a run takes.
    studio.krea(&[CLIP, "--prompt", "x", "--duration", "3", "-o", &out]).exits(0);
    let again = studio.krea(&[CLIP, "--prompt", "x", "--dry-run", "-o", &out]).exits(0);
    let plan = String::from_utf8(again.stdout).unwrap();
    assert!(plan.contains("frames a second, as such a run had here"), "{plan}");
}

#[test]
fn without_libtorch_or_the_plugin_it_says_what_to_install() {
    let Some(studio) = Studio::new("without_libtorch_or_the_plugin_it_says_what_to_install") else { return };
    let out = studio.path("out.mp4");
    for (name, word) in [("KREA_LIBTORCH", "pip install torch"), ("KREA_WAN_PLUGIN", "cargo build")] {
        let mut command = studio.command(&[CLIP, "--prompt", "x", "-o", &out]);
        command.env(name, "/nowhere");
        run(command).fails(5, &[word]);
    }
    let mut command = studio.command(&[CLIP, "--prompt", "x", "-o", &out, "--device", "cuda"]);
    command.env("CUDA_VISIBLE_DEVICES", "");
    run(command).fails(5, &["cuda"]);
}

#[test]
fn what_does_not_fit_is_refused_with_the_numbers_and_the_flag() {
    let Some(studio) = Studio::new("what_does_not_fit_is_refused_with_the_numbers_and_the_flag") else { return };
    let out = studio.path("out.mp4");
    studio
        .krea(&["--prompt", "x", "--gen-size", "8192x8192", "-o", &out])
        .fails(5, &["are needed", "decoder cache", "are free", "--gen-size 576x320"]);
}

#[test]
fn the_reference_leaves_three_frames_out() {
    let Some(studio) = Studio::new("the_reference_leaves_three_frames_out") else { return };
    let frames = studio.frames("compat.mkv", &["--prompt", "x", "--blocks", "2", "--compat", "krea"]);
    assert_eq!(frames.len(), 6 + 12);
}
