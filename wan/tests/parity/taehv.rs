//! The tiny autoencoder.

use krea_wan::taehv::{Taehv, TaehvDecoderState, TaehvEncoderState};
use krea_wan::weights::{Layout, Placement, Weights};
use tch::Tensor;

use crate::case::Case;

/// Cases of kind `taehv`: whole videos, and the same frame by frame.
pub(crate) fn run(case: &mut Case) {
    let files = case.weights();
    let weights = Weights::open(&files[0], Layout::Taehv).unwrap_or_else(|error| panic!("{error}"));
    let taehv = Taehv::load(weights, Placement::CPU_F32).unwrap_or_else(|error| panic!("{error}"));

    let pixels = case.tensor("in.pixels01");
    // The number of frames is in the output's name.
    for name in case.names("out.encode") {
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        let count: i64 = digits.parse().expect("a number of frames");
        let latents = taehv.encode_all(&pixels.narrow(1, 0, count));
        case.check(&name, &latents.expect("frames can be encoded"));
    }
    let counts: Vec<i64> = case.config("/stream_encode_counts");
    let mut state = TaehvEncoderState::new();
    let mut made = Vec::new();
    for (at, count) in counts.iter().enumerate() {
        let one = pixels.narrow(1, at as i64, 1);
        let latents = taehv.encode(&one, &mut state).expect("one frame");
        assert_eq!(latents.size()[1], *count, "latents after frame {at}");
        made.push(latents);
    }
    if let Some(name) = case.names("out.encode").iter().find(|n| !n.contains('_')) {
        case.check(name, &Tensor::cat(&made, 1));
    }

    let latents = case.tensor("in.latents");
    for name in case.names("out.decode") {
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        let chunk = latents.narrow(1, 0, digits.parse().expect("a number of latents"));
        let frames = taehv.decode(&chunk, &mut TaehvDecoderState::new());
        case.check(&name, &frames.expect("latents can be decoded"));
    }
    let counts: Vec<i64> = case.config("/stream_decode_counts");
    let mut state = TaehvDecoderState::new();
    let mut made = Vec::new();
    for (at, count) in counts.iter().enumerate() {
        let one = latents.narrow(1, at as i64, 1);
        let frames = taehv.decode(&one, &mut state).expect("one latent");
        assert_eq!(frames.size()[1], *count, "frames of latent {at}");
        made.push(frames);
    }
    if let Some(name) = case.names("out.decode").first() {
        case.check(name, &Tensor::cat(&made, 1));
    }
}
