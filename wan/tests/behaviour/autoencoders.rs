//! The autoencoders by themselves: pieces equal the whole, streams do not meet, layouts agree.

use std::path::Path;

use krea_wan::taehv::{Taehv, TaehvDecoderState, TaehvEncoderState};
use krea_wan::vae::{DecoderState, EncoderState, TimeHistory, Vae};
use krea_wan::weights::{Layout, Placement, Weights};
use tch::{Device, Kind, Tensor};

use crate::tiny::{frames, path};

const HISTORIES: [TimeHistory; 2] = [TimeHistory::Upstream, TimeHistory::Krea];

fn open(path: &Path, kind: Kind) -> krea_wan::Result<Vae> {
    tch::set_num_threads(1);
    let place = Placement { device: Device::Cpu, kind };
    Vae::load(Weights::open(path, Layout::Vae)?, place)
}

fn vae() -> Vae {
    open(&path("vae_original_wan.safetensors"), Kind::Float).unwrap()
}

fn taehv() -> Taehv {
    let weights = Weights::open(path("taehv_weights.safetensors"), Layout::Taehv).unwrap();
    Taehv::load(weights, Placement::CPU_F32).unwrap()
}

fn latents(seed: i64, count: i64) -> Tensor {
    let line = Tensor::arange(count * 16 * 4 * 6, (Kind::Float, Device::Cpu));
    (line * (0.731 + seed as f64)).sin().view([1, count, 16, 4, 6])
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.size(), b.size());
    let error = (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs();
    error.max().double_value(&[])
}

fn in_pieces(x: &Tensor, pieces: &[i64], mut step: impl FnMut(&Tensor) -> Tensor) -> Tensor {
    let mut at = 0;
    let made: Vec<Tensor> = pieces
        .iter()
        .map(|&count| {
            at += count;
            step(&x.narrow(1, at - count, count))
        })
        .collect();
    Tensor::cat(&made, 1)
}

#[test]
fn encoding_in_pieces_is_encoding_in_one_go() {
    let vae = vae();
    let video = frames(33, 32, 48);
    let whole = vae.encode(&video, &mut EncoderState::new()).unwrap();
    assert_eq!(whole.size(), [1, 9, 16, 4, 6]);
    for pieces in [vec![9, 12, 12], vec![1, 4, 4, 24], vec![1, 32], vec![5, 28]] {
        let mut state = EncoderState::new();
        let made = in_pieces(&video, &pieces, |x| vae.encode(x, &mut state).unwrap());
        assert!(difference(&made, &whole) <= 1e-5, "{pieces:?}");
    }
}

#[test]
fn decoding_in_pieces_is_decoding_in_one_go() {
    let vae = vae();
    let video = latents(0, 7);
    for history in HISTORIES {
        let whole = vae.decode(&video, &mut DecoderState::new(history)).unwrap();
        assert_eq!(whole.size(), [1, 25, 3, 32, 48]);
        for pieces in [vec![3, 3, 1], vec![1, 1, 5], vec![2, 5]] {
            let mut state = DecoderState::new(history);
            let made = in_pieces(&video, &pieces, |x| vae.decode(x, &mut state).unwrap());
            assert!(difference(&made, &whole) <= 1e-5, "{pieces:?}");
        }
    }
}

#[test]
fn both_histories_agree_until_the_fourth_latent_and_not_after() {
    let vae = vae();
    let [upstream, krea] =
        HISTORIES.map(|history| vae.decode(&latents(0, 5), &mut DecoderState::new(history)).unwrap());
    assert_eq!(difference(&upstream.narrow(1, 0, 9), &krea.narrow(1, 0, 9)), 0.0);
    assert!(difference(&upstream.narrow(1, 9, 4), &krea.narrow(1, 9, 4)) > 1e-3);
}

#[test]
fn interleaved_streams_are_each_alone_bit_for_bit() {
    let vae = vae();
    let (a, b) = (frames(17, 32, 48), frames(17, 32, 48) * -0.5);
    let alone = |video: &Tensor| {
        let mut state = EncoderState::new();
        in_pieces(video, &[9, 8], |x| vae.encode(x, &mut state).unwrap())
    };
    let (mut state_a, mut state_b) = (EncoderState::new(), EncoderState::new());
    let mut made: [Vec<Tensor>; 2] = Default::default();
    for (at, count) in [(0, 9), (9, 8)] {
        made[0].push(vae.encode(&a.narrow(1, at, count), &mut state_a).unwrap());
        made[1].push(vae.encode(&b.narrow(1, at, count), &mut state_b).unwrap());
    }
    assert!(Tensor::cat(&made[0], 1).equal(&alone(&a)));
    assert!(Tensor::cat(&made[1], 1).equal(&alone(&b)));

    let (a, b) = (latents(1, 4), latents(2, 4));
    let alone = |video: &Tensor| {
        let mut state = DecoderState::new(TimeHistory::Upstream);
        in_pieces(video, &[1, 1, 1, 1], |x| vae.decode(x, &mut state).unwrap())
    };
    let mut states = [(); 2].map(|()| DecoderState::new(TimeHistory::Upstream));
    let mut made: [Vec<Tensor>; 2] = Default::default();
    for at in 0..4 {
        for (i, video) in [&a, &b].into_iter().enumerate() {
            made[i].push(vae.decode(&video.narrow(1, at, 1), &mut states[i]).unwrap());
        }
    }
    assert!(Tensor::cat(&made[0], 1).equal(&alone(&a)));
    assert!(Tensor::cat(&made[1], 1).equal(&alone(&b)));
}

#[test]
fn a_copied_state_is_a_fork() {
    let vae = vae();
    let mut state = DecoderState::new(TimeHistory::Upstream);
    let _ = vae.decode(&latents(0, 2), &mut state).unwrap();
    let mut fork = state.clone();
    let first = vae.decode(&latents(1, 1), &mut fork).unwrap();
    let _ = vae.decode(&latents(2, 3), &mut fork).unwrap();
    let again = vae.decode(&latents(1, 1), &mut state).unwrap();
    assert!(first.equal(&again));
}

#[test]
fn what_a_stream_remembers_does_not_grow() {
    let vae = vae();
    let mut state = DecoderState::new(TimeHistory::Upstream);
    let _ = vae.decode(&latents(0, 4), &mut state).unwrap();
    let bytes = state.bytes();
    assert!(bytes > 0);
    let _ = vae.decode(&latents(1, 6), &mut state).unwrap();
    assert_eq!(state.bytes(), bytes);
}

#[test]
fn sizes_that_cannot_be_encoded_are_refused() {
    let vae = vae();
    let mut state = EncoderState::new();
    let text = vae.encode(&frames(1, 30, 48), &mut state).unwrap_err().to_string();
    assert!(text.contains("48x30") && text.contains("multiples of 8"), "{text}");
    let _ = vae.encode(&frames(1, 32, 48), &mut state).unwrap();
    // The next latent takes four frames.
    assert!(vae.encode(&frames(3, 32, 48), &mut state).is_err());
    assert!(vae.decode(&frames(1, 32, 48), &mut DecoderState::default()).is_err());
}

/// All tensors of the tiny autoencoder under other names or in other shapes.
fn rewritten(change: impl Fn(&str, &Tensor) -> (String, Tensor), to: &Path) {
    let weights = Weights::open(path("vae_original_wan.safetensors"), Layout::Plain).unwrap();
    let tensors: Vec<(String, Tensor)> =
        weights.into_tensors().unwrap().iter().map(|(name, tensor)| change(name, tensor)).collect();
    Tensor::write_safetensors(&tensors, to).unwrap();
}

/// Diffusers' name of a tensor, written the other way round than the loader reads it.
fn diffusers_name(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("conv1.") {
        return format!("quant_conv.{rest}");
    }
    if let Some(rest) = name.strip_prefix("conv2.") {
        return format!("post_quant_conv.{rest}");
    }
    let mut name = name
        .replace("coder.conv1.", "coder.conv_in.")
        .replace(".head.0.", ".norm_out.")
        .replace(".head.2.", ".conv_out.")
        .replace(".middle.0.", ".mid_block.resnets.0.")
        .replace(".middle.1.", ".mid_block.attentions.0.")
        .replace(".middle.2.", ".mid_block.resnets.1.")
        .replace(".residual.0.", ".norm1.")
        .replace(".residual.2.", ".conv1.")
        .replace(".residual.3.", ".norm2.")
        .replace(".residual.6.", ".conv2.")
        .replace(".shortcut.", ".conv_shortcut.")
        .replace(".downsamples.", ".down_blocks.");
    for flat in (0..16).rev() {
        let (stage, index) = (flat / 4, flat % 4);
        let group = if index == 3 {
            format!("up_blocks.{stage}.upsamplers.0.")
        } else {
            format!("up_blocks.{stage}.resnets.{index}.")
        };
        name = name.replace(&format!("upsamples.{flat}."), &group);
    }
    name
}

#[test]
fn diffusers_names_are_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("diffusers.safetensors");
    rewritten(|name, tensor| (diffusers_name(name), tensor.copy()), &file);
    let (original, renamed) = (vae(), open(&file, Kind::Float).unwrap());
    let decode = |vae: &Vae| vae.decode(&latents(0, 2), &mut DecoderState::default()).unwrap();
    assert!(decode(&original).equal(&decode(&renamed)));
    let encode = |vae: &Vae| vae.encode_image(&frames(1, 32, 48)).unwrap();
    assert!(encode(&original).equal(&encode(&renamed)));
}

#[test]
fn a_pruned_model_loads_with_its_own_widths() {
    // Three quarters of all channels but those of pixels and latents.
    let pruned = |name: &str, tensor: &Tensor| {
        let mut kept = tensor.size();
        let quarter = |size: &mut i64| *size = *size * 3 / 4;
        let outside = name.starts_with("conv") || name.contains("coder.head.2.");
        if !outside {
            quarter(&mut kept[0]);
        }
        let first = name.contains("coder.conv1.") || name.starts_with("conv");
        if kept.len() > 1 && kept[1] > 1 && !first {
            quarter(&mut kept[1]);
        }
        let mut small = tensor.shallow_clone();
        for (dim, size) in kept.iter().enumerate() {
            small = small.narrow(dim as i64, 0, *size);
        }
        // A copy, since a view of the file does not keep its map alive.
        (name.to_owned(), small.contiguous().copy())
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pruned.safetensors");
    rewritten(pruned, &file);
    let vae = open(&file, Kind::Float).unwrap();
    let video = latents(0, 3);
    let whole = vae.decode(&video, &mut DecoderState::default()).unwrap();
    assert_eq!(whole.size(), [1, 9, 3, 32, 48]);
    let mut state = DecoderState::default();
    let made = in_pieces(&video, &[1, 2], |x| vae.decode(x, &mut state).unwrap());
    assert!(difference(&made, &whole) <= 1e-5);
    assert!(whole.isfinite().all().int64_value(&[]) == 1);
}

#[test]
fn a_missing_convolution_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cut.safetensors");
    let missing = "decoder.upsamples.5.residual.2.bias";
    let rename = |name: &str| if name == missing { "stray".to_owned() } else { name.to_owned() };
    rewritten(|name, tensor| (rename(name), tensor.copy()), &file);
    let text = open(&file, Kind::Float).unwrap_err().to_string();
    assert!(text.contains(missing) && text.contains("stray"), "{text}");
    assert!(text.contains("cut.safetensors"), "{text}");
}

#[test]
fn bfloat16_is_near_single_precision() {
    let half = open(&path("vae_original_wan.safetensors"), Kind::BFloat16).unwrap();
    let exact = vae().decode(&latents(0, 3), &mut DecoderState::default()).unwrap();
    let made = half.decode(&latents(0, 3), &mut DecoderState::default()).unwrap();
    assert_eq!(made.kind(), Kind::BFloat16);
    let error = (made.to_kind(Kind::Float) - exact).abs();
    assert!(error.mean(Kind::Double).double_value(&[]) < 0.02);
}

#[test]
fn the_tiny_autoencoder_streams_as_well() {
    let taehv = taehv();
    let video = (frames(16, 32, 48) + 1.0) / 2.0;
    let whole = taehv.encode_all(&video).unwrap();
    for pieces in [vec![9, 3, 4], vec![1; 16], vec![8, 8]] {
        let mut state = TaehvEncoderState::new();
        let made = in_pieces(&video, &pieces, |x| taehv.encode(x, &mut state).unwrap());
        assert!(difference(&made, &whole) <= 1e-5, "{pieces:?}");
    }
    let video = latents(0, 6);
    let whole = taehv.decode(&video, &mut TaehvDecoderState::new()).unwrap();
    assert_eq!(whole.size(), [1, 21, 3, 32, 48]);
    for pieces in [vec![3, 3], vec![1; 6], vec![2, 4]] {
        let mut state = TaehvDecoderState::new();
        let made = in_pieces(&video, &pieces, |x| taehv.decode(x, &mut state).unwrap());
        assert!(difference(&made, &whole) <= 1e-5, "{pieces:?}");
    }
}

#[test]
fn interleaved_tiny_streams_are_each_alone_bit_for_bit() {
    let taehv = taehv();
    let videos = [latents(1, 4), latents(2, 4)];
    let mut states = [(); 2].map(|()| TaehvDecoderState::new());
    let mut made: [Vec<Tensor>; 2] = Default::default();
    for at in 0..4 {
        for (i, video) in videos.iter().enumerate() {
            made[i].push(taehv.decode(&video.narrow(1, at, 1), &mut states[i]).unwrap());
        }
    }
    for (i, video) in videos.iter().enumerate() {
        let mut state = TaehvDecoderState::new();
        let alone = in_pieces(video, &[1; 4], |x| taehv.decode(x, &mut state).unwrap());
        assert!(Tensor::cat(&made[i], 1).equal(&alone));
    }
}
