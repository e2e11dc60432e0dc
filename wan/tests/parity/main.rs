//! Runs every case of a parity folder and compares with what the reference made.
//!
//! `KREA_PARITY_DIR` names the folder (default: `data` beside this file); sizes, key layouts and
//! constants all come from its `manifest.json`. `KREA_PARITY_CASE` picks one case by name.

mod case;
mod dit;
mod preprocess;
mod scheduler;
mod session;
mod taehv;
mod text;
mod vae;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use case::{Case, Entry, Manifest};

fn folder() -> PathBuf {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parity/data");
    let given = std::env::var_os("KREA_PARITY_DIR").map(PathBuf::from);
    // cargo runs tests in the package's folder; a relative name is meant from the workspace's.
    let from_root = |path: PathBuf| {
        if path.exists() { path } else { PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path) }
    };
    given.map_or_else(beside, from_root)
}

/// Runs one case; a panic is its failure.
fn run(case: &mut Case, kind: &str) {
    match kind {
        "scheduler" => scheduler::scheduler(case),
        "primitives" => dit::primitives(case),
        "dit_forward" => dit::forward(case),
        "dit_rolling" => dit::rolling(case),
        "dit_recompute" => dit::recompute(case),
        "dit_crossattn_cache" => dit::prompt_change(case),
        "dit_kv_bias" => dit::kv_bias(case),
        "preprocess" => preprocess::run(case),
        "taehv" => taehv::run(case),
        "text" => text::run(case),
        "umt5" => text::umt5(case),
        "vae_encode" => vae::encode(case),
        "vae_decode" => vae::decode_stream(case),
        "vae_decode_upstream" => vae::decode_upstream(case),
        "session_t2v" | "session_v2v" | "session_webcam" => session::run(case),
        _ => panic!("a case of unknown kind {kind}"),
    }
}

#[test]
fn every_case_of_the_manifest() {
    // More threads than idle cores make the tiny tensors of a parity folder slow, not fast.
    tch::set_num_threads(1);
    let folder = folder();
    let path = folder.join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let manifest: Manifest = serde_json::from_str(&text).expect("manifest.json is readable");
    assert!(!manifest.cases.is_empty(), "the manifest has no cases");
    let only = std::env::var("KREA_PARITY_CASE").ok();
    let chosen = |entry: &&Entry| only.as_ref().is_none_or(|name| *name == entry.name);

    let mut failed = Vec::new();
    let mut count = 0;
    for entry in manifest.cases.iter().filter(chosen) {
        let (name, kind) = (entry.name.clone(), entry.kind.clone());
        count += 1;
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut case = Case::open(&folder, &manifest, entry);
            run(&mut case, &kind);
            case.finish()
        }));
        match result {
            Ok(worst) => eprintln!("ok     {name} ({kind}): largest error {worst:.2e}"),
            Err(_) => {
                eprintln!("FAILED {name} ({kind})");
                failed.push(name);
            }
        }
    }
    assert!(count > 0, "no case is named {only:?}");
    assert!(failed.is_empty(), "{} of {count} cases failed: {}", failed.len(), failed.join(", "));
}
