//! A complete model folder, small enough for a block in a fraction of a second: random weights in the shapes of the
//! parity kit, every part of a real model.

use std::path::{Path, PathBuf};

use super::harness::{Scratch, skip};

const PARTS: [(&str, &str); 5] = [
    ("dit_krea_prefixed.safetensors", "dit.safetensors"),
    ("vae_original_wan.safetensors", "vae.safetensors"),
    ("taehv_weights.safetensors", "taew2_1.safetensors"),
    ("umt5_wan.safetensors", "umt5.safetensors"),
    ("tokenizer_tiny.json", "tokenizer.json"),
];

/// Lays the folder `model` into a test's own; `None`, said aloud, where nothing can be generated.
pub(crate) fn model(test: &str, scratch: &Scratch) -> Option<String> {
    let plugin = Path::new(env!("CARGO_BIN_EXE_krea")).with_file_name("libkrea_wan.so");
    if !plugin.is_file() {
        skip(test, &format!("no {}; `cargo build --workspace` makes it", plugin.display()));
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if !root.join(".deps/torch/torch/lib/libtorch_cpu.so").is_file() && std::env::var_os("LIBTORCH").is_none() {
        skip(test, "no libtorch in .deps (`.ci/deps torch` puts it there)");
        return None;
    }
    let folder = PathBuf::from(scratch.path("model"));
    std::fs::create_dir(&folder).unwrap();
    for (from, to) in PARTS {
        std::fs::copy(root.join("wan/tests/parity/data").join(from), folder.join(to)).unwrap();
    }
    std::fs::write(folder.join("config.json"), r#"{ "num_heads": 2, "text_len": 16 }"#).unwrap();
    Some(folder.to_str().unwrap().to_owned())
}

/// Writes "not a number" over a tensor of a safetensors file.
pub(crate) fn spoil(file: &Path, tensor: &str) {
    let mut bytes = std::fs::read(file).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let entry = &header[tensor];
    let nan: &[u8] = match entry["dtype"].as_str().unwrap_or_else(|| panic!("no {tensor}")) {
        "F32" => &[0, 0, 0xc0, 0x7f],
        "BF16" => &[0xc0, 0x7f],
        "F16" => &[0, 0x7e],
        other => panic!("{other}"),
    };
    let [from, to] = [0, 1].map(|i| 8 + length + entry["data_offsets"][i].as_u64().unwrap() as usize);
    for value in bytes[from..to].chunks_exact_mut(nan.len()) {
        value.copy_from_slice(nan);
    }
    std::fs::write(file, bytes).unwrap();
}
