//! Four hundred blocks of the tiny model: memory stays flat, no NaN appears, positions stay in range.

use std::path::PathBuf;
use std::sync::Arc;

use krea_wan::autoencoder::Autoencoder;
use krea_wan::dit::{Dit, DitOptions};
use krea_wan::models::Models;
use krea_wan::session::{Context, Input, Session, SessionSettings, Steps};
use krea_wan::taehv::Taehv;
use krea_wan::weights::{Layout, Placement, Weights};
use tch::{Device, Kind, Tensor};

const BLOCKS: usize = 400;

fn resident() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split_whitespace().nth(1)?.parse::<f64>().ok()
}

/// Both contexts in one test, so that nothing else moves the memory meanwhile.
#[test]
fn four_hundred_blocks() {
    tch::set_num_threads(1);
    let path = |name: &str| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/parity/data").join(name);
    let options = DitOptions { heads: Some(2), text_len: Some(16), fp8: false };
    let dit = Dit::load(
        Weights::open(path("dit_krea_prefixed.safetensors"), Layout::Dit).unwrap(),
        options,
        Placement::CPU_F32,
    )
    .unwrap();
    let taehv =
        Taehv::load(Weights::open(path("taehv_weights.safetensors"), Layout::Taehv).unwrap(), Placement::CPU_F32)
            .unwrap();
    let models = Arc::new(Models { dit, autoencoder: Autoencoder::Tiny(taehv), text: None });
    // Four hundred rolling blocks of three frames pass the model's 1024 positions.
    for context in [Context::Recompute, Context::Rolling { sink: 1 }] {
        let settings = SessionSettings { steps: Steps::Count(2), context, ..SessionSettings::new(32, 32) };
        let mut session = Session::new(models.clone(), settings).unwrap();
        let prompt = |n: f64| (Tensor::arange(16 * 48, (Kind::Float, Device::Cpu)) * n).sin().view([1, 16, 48]);
        session.set_prompt(&prompt(0.3), 1).unwrap();
        let mut marks = Vec::new();
        for block in 0..BLOCKS {
            if block % 50 == 25 {
                session.set_prompt(&prompt(block as f64), 4).unwrap();
            }
            let made =
                session.next(Input::None, &mut |_| true).unwrap_or_else(|error| panic!("block {block}: {error}"));
            assert_eq!(made.pixels.isfinite().all().int64_value(&[]), 1, "block {block}");
            assert_eq!(made.latents.isfinite().all().int64_value(&[]), 1, "block {block}");
            if block % 100 == 99 {
                marks.push((session.bytes(), resident()));
            }
        }
        let (bytes, first) = marks[0];
        for (held, now) in &marks {
            assert_eq!(*held, bytes, "bytes of the session, {context:?}");
            if let (Some(first), Some(now)) = (first, now) {
                assert!(
                    (now / first - 1.0).abs() < 0.01,
                    "resident memory went from {first} to {now} pages, {context:?}"
                );
            }
        }
    }
}
