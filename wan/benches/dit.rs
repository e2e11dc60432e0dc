//! Time of one call of the transformer, against diffusers' `WanTransformer3DModel` on the same
//! weights, input, precision and number of threads, turn by turn in one run; and of loading it.
//!
//! `cargo bench -p krea-wan --bench dit [-- --size 1.3B --dtype bfloat16 --rounds 5 ..]`.

// A bench's table is what it is run for.
#[allow(unreachable_pub, clippy::print_stdout)]
mod peer;

use std::time::Instant;

use krea_wan::dit::{Dit, DitOptions, Window};
use krea_wan::weights::{Layout, Placement, Weights};
use tch::{Cuda, Device, Kind, Tensor};

use peer::{Cost, Options, Peer, compare};

/// Megabytes of this process that lie in no file.
fn anonymous() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes / 1024)
}

fn main() {
    let options = Options::parse(&[
        ("size", "1.3B"),
        ("layers", "0"),
        ("dtype", "bfloat16"),
        ("device", "cpu"),
        ("threads", "2"),
        ("rounds", "5"),
        ("width", "320"),
        ("height", "192"),
        ("latents", "3"),
    ]);
    let device = if options.get("device") == "cpu" { Device::Cpu } else { Device::Cuda(0) };
    let kind = match options.get("dtype") {
        "bfloat16" => Kind::BFloat16,
        "float16" => Kind::Half,
        _ => Kind::Float,
    };
    tch::set_num_threads(options.number("threads"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let arguments = ["size", "layers", "dtype", "device", "threads", "width", "height", "latents"]
        .map(|name| (name, options.get(name)));
    let Some(mut peer) = Peer::start("wan_dit.py", folder.path(), &arguments) else { return };

    let before = anonymous();
    let clock = Instant::now();
    let weights =
        Weights::open(folder.path().join("dit.safetensors"), Layout::Dit).expect("the peer's weights can be read");
    let bytes = weights.stored_bytes();
    let dit =
        Dit::load(weights, DitOptions::default(), Placement { device, kind }).expect("the peer's weights are complete");
    let loaded = clock.elapsed();
    let after = anonymous();
    let growth =
        after.zip(before).map_or_else(|| "?".to_owned(), |(after, before)| (after.saturating_sub(before)).to_string());
    eprintln!(
        "loaded {:.2} GB in {:.3} s; memory outside of the file grew by {growth} MB",
        bytes as f64 / 1e9,
        loaded.as_secs_f64()
    );

    let saved = Weights::open(folder.path().join("call.safetensors"), Layout::Plain)
        .and_then(Weights::into_tensors)
        .expect("the peer's call can be read");
    let latents = saved["latents"].transpose(1, 2).contiguous();
    let expected = saved["flow"].to_kind(Kind::Float).transpose(1, 2);
    let frames: i64 = options.number("latents");
    let t = vec![937.5; frames as usize];
    let (height, width) = (options.number::<i64>("height") / 8, options.number::<i64>("width") / 8);
    let mut state = dit.state(Window::of(frames), height, width).expect("the size fits");
    let mut call = || {
        Cost::of(|| {
            let flow = dit.denoise(&mut state, &latents, &t, 0, &saved["prompt"], None).expect("the call fits");
            if device != Device::Cpu {
                Cuda::synchronize(0);
            }
            flow
        })
    };
    let (first, flow) = call();
    let error: Tensor = (flow.to_device(Device::Cpu) - &expected).abs();
    eprintln!(
        "ours, first call: {:.3} s; the flow differs by {:.2e} in the mean, of {:.2e}",
        first.wall,
        error.mean(Kind::Float).double_value(&[]),
        expected.abs().mean(Kind::Float).double_value(&[])
    );
    let what = format!(
        "transformer {}, {} latents at {}x{}, {}, {}, {} threads",
        options.get("size"),
        frames,
        options.get("width"),
        options.get("height"),
        options.get("dtype"),
        options.get("device"),
        options.get("threads")
    );
    compare(&what, options.number("rounds"), &mut peer, || call().0);
    let around = around_the_arithmetic(dit.config().layers);
    let whole = call().0.wall;
    let share = around / whole;
    peer::row(&format!(
        "| everything around the arithmetic, at most, of a call of {whole:.2} s | | {around:.4} | {share:.4} | |"
    ));
}

/// Seconds that a call of so many layers spends outside of arithmetic, at most: what a layer of the
/// tiny model costs, in which next to nothing is computed, libtorch's own dispatch included.
fn around_the_arithmetic(layers: usize) -> f64 {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/data/dit_krea_prefixed.safetensors");
    let weights = Weights::open(path, Layout::Dit).expect("the parity folder is there");
    let options = DitOptions { heads: Some(2), text_len: Some(16), fp8: false };
    let dit = Dit::load(weights, options, Placement::CPU_F32).expect("the tiny model loads");
    let threads = tch::get_num_threads();
    tch::set_num_threads(1);
    let mut state = dit.state(Window::of(1), 2, 2).expect("one token");
    let x = Tensor::zeros([1, 1, 16, 2, 2], (Kind::Float, Device::Cpu));
    let prompt = Tensor::zeros([1, 16, 48], (Kind::Float, Device::Cpu));
    let mut times: Vec<f64> = (0..200)
        .map(|_| {
            let clock = Instant::now();
            let _ = dit.denoise(&mut state, &x, &[500.0], 0, &prompt, None).expect("the call fits");
            clock.elapsed().as_secs_f64()
        })
        .collect();
    tch::set_num_threads(threads);
    peer::median(&mut times) / dit.config().layers as f64 * layers as f64
}
