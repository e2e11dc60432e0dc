//! Time of a full-size autoencoder decoding 3 latents, against diffusers' `AutoencoderKLWan` on
//! the same weights, input, precision and number of threads, turn by turn in one run.
//!
//! `cargo bench -p krea-wan --bench vae [-- --dtype bfloat16|float32 --rounds N --threads N]`.

// A bench's table is what it is run for.
#[allow(unreachable_pub, dead_code, clippy::print_stdout)]
mod peer;

use krea_wan::vae::{DecoderState, LATENT_MEAN, LATENT_STD, TimeHistory, Vae};
use krea_wan::weights::{Layout, Placement, Weights};
use tch::{Cuda, Device, Kind, Tensor};

use peer::{Cost, Options, Peer, compare};

fn main() {
    let options = Options::parse(&[
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
    let arguments = ["dtype", "device", "threads", "width", "height", "latents"].map(|name| (name, options.get(name)));
    let Some(mut peer) = Peer::start("wan_vae.py", folder.path(), &arguments) else { return };

    let weights =
        Weights::open(folder.path().join("vae.safetensors"), Layout::Vae).expect("the peer's weights can be read");
    let vae = Vae::load(weights, Placement { device, kind }).expect("the peer's weights are complete");
    let decoded = Weights::open(folder.path().join("decoded.safetensors"), Layout::Plain)
        .and_then(Weights::into_tensors)
        .expect("the peer's pictures can be read");

    // The peer takes latents in the autoencoder's own scale, ours in the transformer's.
    let vector = |values: &[f64]| Tensor::from_slice(values).to_kind(Kind::Float).reshape([1, 1, -1, 1, 1]);
    let latents = decoded["latents"].to_kind(Kind::Float).transpose(1, 2);
    let latents = (latents - vector(&LATENT_MEAN)) / vector(&LATENT_STD);
    let decode = || {
        Cost::of(|| {
            let mut state = DecoderState::new(TimeHistory::Upstream);
            let pixels = vae.decode(&latents, &mut state).expect("latents decode");
            if device != Device::Cpu {
                Cuda::synchronize(0);
            }
            pixels
        })
    };
    let (first, pixels) = decode();
    let expected = decoded["pixels"].to_kind(Kind::Float).transpose(1, 2);
    let error = (pixels.to_device(Device::Cpu).to_kind(Kind::Float) - &expected).abs();
    eprintln!(
        "ours, first decode: {:.3} s; pixels differ by {:.2e} in the mean, of {:.2e}",
        first.wall,
        error.mean(Kind::Float).double_value(&[]),
        expected.abs().mean(Kind::Float).double_value(&[])
    );
    let what = format!(
        "autoencoder, decoding {} latents at {}x{}, {}, {}, {} threads",
        options.get("latents"),
        options.get("width"),
        options.get("height"),
        options.get("dtype"),
        options.get("device"),
        options.get("threads")
    );
    compare(&what, options.number("rounds"), &mut peer, || decode().0);
}
