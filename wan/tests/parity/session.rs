//! Cases of whole sessions: the reference server's block loop with its noise recorded.

use std::sync::Arc;

use krea_wan::autoencoder::Autoencoder;
use krea_wan::dit::{Dit, DitOptions};
use krea_wan::models::Models;
use krea_wan::noise::NoiseSource;
use krea_wan::scheduler::Scheduler;
use krea_wan::session::{Compat, Input, Session, SessionSettings, Steps};
use krea_wan::vae::Vae;
use krea_wan::weights::{Layout, Placement, Weights};
use serde::Deserialize;
use tch::{Kind, Tensor};

use crate::case::Case;

/// The noise of a case, in the order in which the reference drew it.
struct Recorded {
    /// For all latents of the session, or one tensor a block.
    whole: Option<Tensor>,
    blocks: Vec<Vec<Tensor>>,
    /// How many draws of a block come before the renoising.
    inputs: usize,
}

impl NoiseSource for Recorded {
    fn input(&mut self, block: u64, latent: i64, shape: &[i64]) -> krea_wan::Result<Tensor> {
        let noise = match &self.whole {
            Some(whole) => whole.narrow(1, latent, shape[1]),
            None => self.blocks[block as usize][0].shallow_clone(),
        };
        Ok(noise.reshape(shape))
    }

    fn renoise(&mut self, block: u64, step: u64, shape: &[i64]) -> krea_wan::Result<Tensor> {
        Ok(self.blocks[block as usize][self.inputs + step as usize].reshape(shape))
    }

    fn restart(&mut self, _seed: u64) {
        unreachable!("no case resets its session");
    }
}

#[derive(Deserialize)]
struct BlockInfo {
    denoise_calls: usize,
    context_frames: usize,
    pixels_emitted: i64,
    timesteps: Vec<f64>,
}

#[derive(Deserialize)]
struct PromptChange {
    before_block: usize,
    to: String,
    interp_steps: usize,
}

fn models(case: &Case) -> Models {
    let (mut dit, mut vae) = (None, None);
    let options =
        DitOptions { heads: case.optional("/dit/num_heads"), text_len: case.optional("/dit/text_len"), fp8: false };
    for path in case.weights() {
        let weights = Weights::open(&path, Layout::Vae).unwrap();
        if weights.shape("decoder.conv1.weight").is_some() {
            vae = Some(Vae::load(weights, Placement::CPU_F32).unwrap());
        } else {
            let weights = Weights::open(&path, Layout::Dit).unwrap();
            dit = Some(Dit::load(weights, options, Placement::CPU_F32).unwrap());
        }
    }
    Models {
        dit: dit.expect("a transformer among the weights"),
        autoencoder: Autoencoder::Wan(vae.expect("an autoencoder among the weights")),
        text: None,
    }
}

/// 8-bit `[T, 3, H, W]` as the network sees it, `[1, T, 3, H, W]` in [-1, 1].
fn normalised(frames: &Tensor) -> Tensor {
    ((frames.to_kind(Kind::Float) / 255.0 - 0.5) / 0.5).unsqueeze(0)
}

pub(crate) fn run(case: &mut Case) {
    let models = Arc::new(models(case));
    let [height, width]: [i64; 2] = case.config("/pixel_hw");
    let blocks: Vec<BlockInfo> = case.config("/blocks");
    let live = case.has("in.b0.webcam_u8");
    let settings = SessionSettings {
        block: case.config("/num_frame_per_block"),
        window: case.config("/kv_cache_num_frames"),
        steps: Steps::Count(case.config("/num_denoising_steps")),
        shift: case.config("/scheduler_shift"),
        strength: case.config("/strength"),
        keep_first_frame: case.optional("/keep_first_frame").unwrap_or(false),
        compat: Compat::Krea,
        ..SessionSettings::new(width, height)
    };
    let list: Vec<f64> = case.config("/denoising_step_list");
    let made = settings.steps.timesteps(&Scheduler::new(settings.shift).unwrap(), settings.strength).unwrap();
    assert!(
        made.len() == list.len() && made.iter().zip(&list).all(|(a, b)| (a - b).abs() < 1e-3),
        "{made:?} for {list:?}"
    );

    let draws = |b: usize| -> Vec<Tensor> {
        let named = |j: usize| format!("in.b{b}.randn{j}");
        (0..).map(named).take_while(|name| case.has(name)).map(|name| case.tensor(&name)).collect()
    };
    // The last draw for all latents is the one that is used.
    let whole = case.names("in.init_randn").last().map(|name| case.tensor(name));
    let noise = Recorded {
        whole: whole.filter(|_| !live),
        blocks: (0..blocks.len()).map(draws).collect(),
        inputs: usize::from(live),
    };
    let mut session = Session::with_noise(models, settings, Box::new(noise)).unwrap();
    session.set_prompt(&case.tensor("in.prompt_embeds_A"), 1).unwrap();
    if case.has("in.start_image_u8") {
        let image = case.tensor("in.start_image_u8").permute([2, 0, 1]).unsqueeze(0);
        session.set_start_frame(&normalised(&image)).unwrap();
    }
    let change: Option<PromptChange> = case.optional("/prompt_change");
    let video = case.has("in.video_u8").then(|| normalised(&case.tensor("in.video_u8")));
    let mut at = 0;
    for (b, info) in blocks.iter().enumerate() {
        if let Some(change) = change.as_ref().filter(|change| change.before_block == b) {
            session.set_prompt(&case.tensor(&format!("in.prompt_embeds_{}", change.to)), change.interp_steps).unwrap();
        }
        let needed = session.frames_needed() as i64;
        let frames = match &video {
            Some(video) => Some(video.narrow(1, at, needed)),
            None if live => Some(normalised(&case.tensor(&format!("in.b{b}.webcam_u8")))),
            None => None,
        };
        at += needed;
        if let Some(needed_frames) = case.optional::<Vec<i64>>("/needed_frames") {
            assert_eq!(needed, needed_frames[b]);
        }
        let input = match &frames {
            None => Input::None,
            Some(frames) if live => Input::Live(frames),
            Some(frames) => Input::Video(frames),
        };
        let mut calls = 0;
        let block = session
            .next(input, &mut |_| {
                calls += 1;
                true
            })
            .unwrap();
        assert_eq!(calls, info.denoise_calls + usize::from(info.context_frames > 0), "calls of block {b}");
        assert_eq!(info.timesteps.len(), info.denoise_calls);
        assert_eq!(block.pixels.size()[1], info.pixels_emitted);
        case.check(&format!("out.b{b}.latents"), &block.latents);
        let pixels = format!("out.b{b}.pixels");
        if case.has(&pixels) {
            case.check(&pixels, &block.pixels);
        }
    }
}
