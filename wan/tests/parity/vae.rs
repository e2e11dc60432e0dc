//! The autoencoder: streaming, in one go, and single pictures.

use krea_wan::vae::{DecoderState, EncoderState, TimeHistory, Vae};
use krea_wan::weights::{Layout, Placement, Weights};
use tch::Tensor;

use crate::case::Case;

fn load(case: &Case) -> Vae {
    let files = case.weights();
    let weights = Weights::open(&files[0], Layout::Vae).unwrap_or_else(|error| panic!("{error}"));
    Vae::load(weights, Placement::CPU_F32).unwrap_or_else(|error| panic!("{error}"))
}

/// `[1, C, T, H, W]` to `[1, T, C, H, W]` and back.
fn swapped(x: &Tensor) -> Tensor {
    x.transpose(1, 2)
}

/// Cases of kind `vae_encode`.
pub(crate) fn encode(case: &mut Case) {
    let vae = load(case);
    let pixels = swapped(&case.tensor("in.pixels"));
    let encode = |from: i64, count: i64, state: &mut EncoderState| {
        let latents = vae.encode(&pixels.narrow(1, from, count), state);
        swapped(&latents.expect("frames can be encoded"))
    };

    let mut state = EncoderState::new();
    let mut at = 0;
    for (block, count) in case.config::<Vec<i64>>("/chunks").into_iter().enumerate() {
        let latents = encode(at, count, &mut state);
        case.check(&format!("out.latent_b{block}"), &latents);
        at += count;
    }
    let total = pixels.size()[1];
    let batch = encode(0, total, &mut EncoderState::new());
    case.check("out.latent_batch", &batch);

    // The remaining outputs carry the frame or the number of frames in their names.
    for name in case.names("out.latent_") {
        if let Some(frame) = name.strip_prefix("out.latent_image_frame") {
            let frame: i64 = frame.parse().expect("a frame index");
            let image = vae.encode_image(&pixels.narrow(1, frame, 1));
            case.check(&name, &swapped(&image.expect("one frame can be encoded")));
        } else if let Some(count) = name.strip_suffix("frames_batch") {
            let count = count.strip_prefix("out.latent_").expect("as filtered");
            let count: i64 = count.parse().expect("a number of frames");
            let latents = encode(0, count, &mut EncoderState::new());
            case.check(&name, &latents);
        }
    }
}

fn decode_chunks(vae: &Vae, latents: &Tensor, chunks: &[i64], history: TimeHistory) -> Vec<Tensor> {
    let mut state = DecoderState::new(history);
    let mut at = 0;
    let decode = |count: &i64| {
        let chunk = latents.narrow(1, at, *count);
        at += count;
        vae.decode(&chunk, &mut state).expect("latents can be decoded")
    };
    chunks.iter().map(decode).collect()
}

/// Cases of kind `vae_decode`: krea's decoder, block by block, and upstream's beside it.
pub(crate) fn decode_stream(case: &mut Case) {
    let vae = load(case);
    let latents = case.tensor("in.latents");
    let chunks: Vec<i64> = case.config("/chunks");
    let blocks = decode_chunks(&vae, &latents, &chunks, TimeHistory::Krea);
    let counts: Vec<i64> = blocks.iter().map(|block| block.size()[1]).collect();
    assert_eq!(counts, case.config::<Vec<i64>>("/frames_out"));
    for (index, block) in blocks.iter().enumerate() {
        case.check(&format!("out.pixels_b{index}"), block);
    }
    if case.has("mid.wan_original_pixels") {
        let upstream = decode_chunks(&vae, &latents, &chunks, TimeHistory::Upstream);
        // Stored in half precision.
        let whole = Tensor::cat(&upstream, 1);
        case.check_within("mid.wan_original_pixels", &whole, 1e-3, 1e-3);
    }
}

/// Cases of kind `vae_decode_upstream`: the same in one go, the other way round.
pub(crate) fn decode_upstream(case: &mut Case) {
    let vae = load(case);
    let latents = case.tensor("in.latents");
    let all = [case.config::<i64>("/frames")];
    let upstream = decode_chunks(&vae, &latents, &all, TimeHistory::Upstream);
    case.check("out.pixels", &upstream[0]);
    if case.has("mid.krea_pixels") {
        let krea = decode_chunks(&vae, &latents, &all, TimeHistory::Krea);
        case.check("mid.krea_pixels", &krea[0]);
    }
}
