//! Frames per second of whole blocks on any device, with the shares of transformer and autoencoder,
//! and how near that comes to what the device could multiply.
//!
//! `cargo bench -p krea-wan --bench session -- --dit FILE --vae FILE --device cuda --peak 989`; the
//! weights may be random ones, as `benches/peers/wan_dit.py` and `wan_vae.py` write them.

// A bench's table is what it is run for.
#[allow(unreachable_pub, dead_code, clippy::print_stdout)]
mod peer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use krea_wan::device::{Choice, Precision};
use krea_wan::dit::{DitConfig, DitOptions};
use krea_wan::models::{ModelFiles, Models, Placing};
use krea_wan::session::{Input, Session, SessionSettings, Steps};
use tch::{Device, Kind, Tensor};

use peer::{Options, median};

/// Floating point operations of a block: `steps` denoising calls and one context pass, two for each
/// product, and the autoencoder's 8.44 million a pixel.
fn operations(dit: &DitConfig, steps: u64, block: u64, window: u64, per_frame: u64, pixels: u64) -> f64 {
    let (dim, ffn, text) = (dit.dim as u64, dit.ffn_dim as u64, dit.text_len as u64);
    let call = |queries: u64, keys: u64| {
        let linear = 2 * queries * (6 * dim * dim + 2 * dim * ffn);
        dit.layers as u64 * (linear + 4 * queries * keys * dim + 4 * queries * text * dim)
    };
    let denoise = call(block * per_frame, (block + window) * per_frame);
    let context = call(window * per_frame, window * per_frame);
    (steps * denoise + context) as f64 + 8.44e6 * (4 * block * pixels) as f64
}

fn main() {
    let options = Options::parse(&[
        ("dit", ""),
        ("vae", ""),
        ("taehv", ""),
        ("device", "auto"),
        ("precision", "auto"),
        ("width", "832"),
        ("height", "480"),
        ("steps", "4"),
        ("blocks", "6"),
        ("peak", "0"),
    ]);
    if options.get("dit").is_empty() {
        eprintln!("SKIP session: no weights are named (--dit FILE --vae FILE)");
        return;
    }
    let choice =
        Choice::new(options.get("device"), options.get("precision").parse::<Precision>().expect("a precision"))
            .expect("the device works");
    let path = |name: &str| Some(PathBuf::from(options.get(name))).filter(|path| !path.as_os_str().is_empty());
    let files =
        ModelFiles { dit: options.get("dit").into(), vae: path("vae"), taehv: path("taehv"), ..ModelFiles::default() };
    let clock = Instant::now();
    let models = Models::open(&files, Placing { choice, text_on_cpu: true, dit: DitOptions::default() })
        .expect("the weights load");
    eprintln!("{choice}: loaded in {:.2} s", clock.elapsed().as_secs_f64());

    let steps: usize = options.number("steps");
    let settings = SessionSettings {
        steps: Steps::Count(steps),
        ..SessionSettings::new(options.number("width"), options.number("height"))
    };
    let dit = models.dit.config().clone();
    let mut session = Session::new(Arc::new(models), settings.clone()).expect("the size fits");
    let prompt = Tensor::ones([1, 32, dit.text_dim], (Kind::Float, Device::Cpu));
    session.set_prompt(&prompt, 1).expect("the prompt fits");
    let (mut walls, mut transformer, mut autoencoder) = (Vec::new(), Vec::new(), Vec::new());
    for block in 0..options.number::<usize>("blocks") {
        let clock = Instant::now();
        let made = session.next(Input::None, &mut |_| true).expect("a block is made");
        let pixels = krea_wan::preprocess::rgb24_from_pixels(&made.pixels).expect("pixels");
        let wall = clock.elapsed().as_secs_f64();
        eprintln!("block {block}: {wall:.3} s, {} bytes", pixels.len());
        // The first blocks have less context and warm up.
        if block >= 2 {
            walls.push(wall);
            transformer.push(made.timings.transformer.as_secs_f64());
            autoencoder.push((made.timings.decode + made.timings.encode).as_secs_f64());
        }
    }
    assert!(!walls.is_empty(), "at least three blocks are needed");
    let (block, window, pixels) =
        (settings.block as u64, settings.window as u64, (settings.width * settings.height) as u64);
    let wall = median(&mut walls);
    let done = operations(&dit, steps as u64, block, window, pixels / 256, pixels) / wall / 1e12;
    let peak: f64 = options.number("peak");
    let share =
        if peak > 0.0 { format!("{:.1} % of {peak} TF/s", 100.0 * done / peak) } else { format!("{done:.2} TF/s") };
    peer::row(&format!(
        "| {} x {}, {} layers of {}, {steps} steps | {:.2} fps | transformer {:.3} s | autoencoder {:.3} s | {share} |",
        settings.width,
        settings.height,
        dit.layers,
        dit.dim,
        4.0 * block as f64 / wall,
        median(&mut transformer),
        median(&mut autoencoder),
    ));
}
