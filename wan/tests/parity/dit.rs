//! Cases of the transformer: one call, rolling windows, recomputed contexts, prompts, damping.

use krea_wan::dit::{Dit, DitOptions, DitState, KvBias, Window, rms_norm, rope, sinusoid};
use krea_wan::weights::{Layout, Placement, Weights};
use tch::{Device, Kind, Tensor};

use crate::case::Case;

/// Every layout of names that the folder has of these weights, for the layouts hold the same values.
fn models(case: &Case, kind: Kind) -> Vec<Dit> {
    let place = Placement { device: Device::Cpu, kind };
    let options =
        DitOptions { heads: case.optional("/dit/num_heads"), text_len: case.optional("/dit/text_len"), fp8: false };
    let mut paths = case.weights();
    paths.truncate(1);
    for other in ["dit_krea_prefixed", "dit_original_wan", "dit_diffusers"] {
        let path = case.beside(&format!("{other}.safetensors"));
        if path.is_file() && !paths.contains(&path) {
            paths.push(path);
        }
    }
    assert!(!paths.is_empty(), "the case names no weights");
    let open = |path| Weights::open(path, Layout::Dit).and_then(|weights| Dit::load(weights, options, place));
    let models: Vec<Dit> = paths.iter().map(|path| open(path).unwrap_or_else(|error| panic!("{error}"))).collect();
    for model in &models {
        for (what, value) in [
            ("dim", model.config().dim),
            ("ffn_dim", model.config().ffn_dim),
            ("num_layers", model.config().layers as i64),
        ] {
            assert_eq!(value, case.config::<i64>(&format!("/dit/{what}")), "{what} by shape");
        }
    }
    models
}

fn state(case: &Case, model: &Dit, window: Window) -> DitState {
    let [height, width]: [i64; 2] = case.config("/latent_hw");
    let state = model.state(window, height, width).unwrap();
    assert_eq!(state.tokens_per_frame(), case.config::<i64>("/tokens_per_frame"));
    state
}

fn frames(x: &Tensor) -> usize {
    x.size()[1] as usize
}

pub(crate) fn forward(case: &mut Case) {
    let bf16 = case.optional::<String>("/dtype").as_deref() == Some("bfloat16");
    for model in models(case, if bf16 { Kind::BFloat16 } else { Kind::Float }) {
        let mut state = state(case, &model, Window::of(case.config("/cache_frames")));
        let x = case.tensor("in.x");
        let t: Vec<f64> = match case.optional::<f64>("/t") {
            Some(t) => vec![t; frames(&x)],
            None => Vec::try_from(case.tensor("in.t").to_kind(Kind::Double).flatten(0, -1)).unwrap(),
        };
        let flow = model
            .denoise(&mut state, &x, &t, case.config("/start_frame"), &case.tensor("in.prompt_embeds"), None)
            .unwrap();
        if let Some(allowed) = case.optional::<f64>("/ref_bf16_vs_fp32_meanabs") {
            let error =
                |to: &str| (&flow - case.tensor(to).to_kind(Kind::Float)).abs().mean(Kind::Double).double_value(&[]);
            let (to_reference, to_exact) = (error("out.flow"), error("mid.flow_fp32"));
            eprintln!(
                "       bf16 mean error {to_reference:.2e} to the reference's bf16, {to_exact:.2e} to fp32 (its own: {allowed:.2e})"
            );
            assert!(to_reference <= 2.0 * allowed && to_exact <= 2.0 * allowed);
        }
        case.check("out.flow", &flow);
        let last = model.config().layers - 1;
        let tokens = frames(&x) as i64 * state.tokens_per_frame();
        if case.has("out.k0") {
            case.check("out.k0", &state.layer(0).k.narrow(1, 0, tokens));
            case.check("out.v_last", &state.layer(last).v.narrow(1, 0, tokens));
            case.check("out.crossk0", &state.cross_layer(0).unwrap().k);
        }
    }
}

pub(crate) fn rolling(case: &mut Case) {
    for model in models(case, Kind::Float) {
        let window = Window {
            capacity: case.config("/cache_frames"),
            sink: case.config("/sink_size"),
            attention: case.config::<Option<i64>>("/local_attn_size").filter(|&n| n > 0),
        };
        let mut state = state(case, &model, window);
        let prompt = case.tensor("in.prompt_embeds");
        let starts: Vec<i64> = case.config("/start_frames");
        let timesteps: Vec<f64> = case.config("/timesteps_per_block");
        let ends: Vec<[i64; 2]> = case.config("/end_indices_frames_after_block");
        assert_eq!(starts.len(), case.config::<usize>("/blocks"));
        for (b, &start) in starts.iter().enumerate() {
            for (c, &t) in timesteps.iter().enumerate() {
                let x = case.tensor(&format!("in.b{b}.c{c}.x"));
                let flow = model.denoise(&mut state, &x, &vec![t; frames(&x)], start, &prompt, None).unwrap();
                case.check(&format!("out.b{b}.c{c}.flow"), &flow);
            }
            let per_frame = state.tokens_per_frame();
            assert_eq!(state.ends(), (ends[b][0] * per_frame, ends[b][1] * per_frame), "ends after block {b}");
        }
        case.check("out.final_k0", &state.layer(0).k);
        case.check("out.final_v_last", &state.layer(model.config().layers - 1).v);
    }
}

pub(crate) fn recompute(case: &mut Case) {
    for model in models(case, Kind::Float) {
        let [clean, first, second]: [f64; 3] = case.config("/timesteps");
        let group: i64 = case.config("/mask_block_frames");
        let start: i64 = case.config("/start_frame");
        let (context, prompt) = (case.tensor("in.context"), case.tensor("in.prompt_embeds"));
        assert_eq!(frames(&context), case.config::<usize>("/context_frames"));
        // With and without the flow, which must leave the same keys and values behind.
        for whole in [true, false] {
            let mut state = state(case, &model, Window::of(case.config("/cache_frames")));
            if whole {
                let flow = model.recompute_with_flow(&mut state, &context, clean, group, &prompt).unwrap();
                case.check("out.ctx_flow", &flow);
            } else {
                model.recompute(&mut state, &context, clean, group, &prompt).unwrap();
            }
            let tokens = frames(&context) as i64 * state.tokens_per_frame();
            case.check("out.k0", &state.layer(0).k.narrow(1, 0, tokens));
            case.check("out.v_last", &state.layer(model.config().layers - 1).v.narrow(1, 0, tokens));
            for (i, t) in [(1, first), (2, second)] {
                let x = case.tensor(&format!("in.x{i}"));
                let flow = model.denoise(&mut state, &x, &vec![t; frames(&x)], start, &prompt, None).unwrap();
                case.check(&format!("out.flow{i}"), &flow);
            }
        }
    }
}

pub(crate) fn prompt_change(case: &mut Case) {
    for model in models(case, Kind::Float) {
        let mut state = state(case, &model, Window::of(case.config("/cache_frames")));
        let x = case.tensor("in.x");
        let t = vec![case.config::<f64>("/t"); frames(&x)];
        let call =
            |prompt: &str, state: &mut DitState| model.denoise(state, &x, &t, 0, &case.tensor(prompt), None).unwrap();
        let a = call("in.prompt_embeds_A", &mut state);
        let stale = call("in.prompt_embeds_B", &mut state);
        state.reset_prompt();
        let b = call("in.prompt_embeds_B", &mut state);
        case.check("out.flow_A", &a);
        case.check("out.flow_B_stale_cache", &stale);
        case.check("out.flow_B_after_reset", &b);
    }
}

pub(crate) fn kv_bias(case: &mut Case) {
    for model in models(case, Kind::Float) {
        let block: i64 = case.config("/num_frame_per_block");
        let prompt = case.tensor("in.prompt_embeds");
        let mut state = state(case, &model, Window::of(case.config("/cache_frames")));
        for bias in case.config::<Vec<f64>>("/biases") {
            model.recompute(&mut state, &case.tensor("in.context"), 0.0, block, &prompt).unwrap();
            let x = case.tensor("in.x");
            let t = vec![case.config::<f64>("/t"); frames(&x)];
            let flow = model
                .denoise(&mut state, &x, &t, case.config("/start_frame"), &prompt, Some(KvBias { bias, block }))
                .unwrap();
            case.check(&format!("out.flow_bias{bias}"), &flow);
        }
    }
}

pub(crate) fn primitives(case: &mut Case) {
    let t: Vec<f64> = Vec::try_from(case.tensor("in.t").to_kind(Kind::Double)).unwrap();
    for name in ["out.sinusoid", "out.sinusoid_real256"] {
        let dim = case.tensor(name).size()[1];
        case.check(name, &sinusoid(&t, dim).unwrap());
    }
    let [height, width]: [i64; 2] = case.config("/latent_hw");
    let [time, patch_h, patch_w]: [i64; 3] = case.config("/dit/patch_size");
    assert_eq!(time, 1);
    let (rows, columns) = (height / patch_h, width / patch_w);
    let head_dim: i64 = case.config("/head_dim");
    assert_eq!(rope::split(head_dim).to_vec(), case.config::<Vec<i64>>("/rope_split_complex"));
    for name in case.names("out.rope_start") {
        let start: i64 = name["out.rope_start".len()..].parse().unwrap();
        let q = case.tensor("in.q");
        let grid = rope::Grid { start, frames: q.size()[1] / (rows * columns), rows, columns };
        let table = rope::table(grid, head_dim, Device::Cpu).unwrap();
        case.check(&name, &rope::rotate(&q, &table).unwrap());
    }
    // The grid of this one is in its name: f, h, w and the start.
    for name in case.names("out.rope128_") {
        let numbers: Vec<i64> =
            name["out.rope128_".len()..].split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
        let &[frames, rows, columns, start] = numbers.as_slice() else { panic!("{name} does not name a grid") };
        let q = case.tensor("in.q128");
        let table = rope::table(rope::Grid { start, frames, rows, columns }, q.size()[3], Device::Cpu).unwrap();
        case.check(&name, &rope::rotate(&q, &table).unwrap());
    }
    let (x, weight) = (case.tensor("in.rms_x"), case.tensor("in.rms_w"));
    case.check("out.rms", &rms_norm(&x, &weight).unwrap());
    let normed = x.layer_norm([x.size()[2]], None::<&Tensor>, None, krea_wan::dit::EPS, true);
    case.check("out.layernorm_eps1e-6", &normed);
}
