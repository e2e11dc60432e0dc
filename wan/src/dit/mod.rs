//! The causal Wan 2.1 transformer: noisy latents in, flow out, frames remembered in a cache.
//!
//! The weights ([`Dit`]) are immutable and serve any number of generations; everything that a
//! generation remembers is in its [`DitState`]. Three ways to call it (wan-spec 4.5):
//! [`Dit::denoise`] appends to the cache or repeats the newest frames, evicting the oldest that are
//! not pinned when the window is full; [`Dit::recompute`] fills the cache anew from clean frames.

mod attention;
mod cache;
mod config;
mod linear;
mod modulation;
pub mod rope;

use tch::{Kind, Tensor};

pub use attention::rms_norm;
pub use cache::{DitState, KeyValue, Window};
pub use config::{DitConfig, DitOptions, EPS, PATCH};
pub use modulation::sinusoid;

use crate::weights::{Placement, Weight, Weights};
use crate::{Error, Result};
use attention::{CrossAttention, Reach, SelfAttention};
use linear::Linear;
use modulation::{BlockModulation, Modulation, TimeEmbedding, add_gated};

/// The weights of a transformer.
#[derive(Debug)]
pub struct Dit {
    config: DitConfig,
    place: Placement,
    patch: Linear,
    text_input: Linear,
    text_output: Linear,
    time: TimeEmbedding,
    blocks: Vec<Block>,
    head: Linear,
}

/// Damping of old frames during denoising: `ln(bias)` is added to the logits of all cached frames but
/// the first one and the newest `block` ones (Krea's answer to error accumulation).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KvBias {
    /// In (0, 1]; 1 changes nothing.
    pub bias: f64,
    /// Frames of the block that is being denoised.
    pub block: i64,
}

#[derive(Debug)]
struct Block {
    self_attention: SelfAttention,
    norm3_weight: Weight,
    norm3_bias: Weight,
    cross_attention: CrossAttention,
    ffn_input: Linear,
    ffn_output: Linear,
}

impl Block {
    fn load(weights: &mut Weights, index: usize, config: &DitConfig, fp8: bool, place: Placement) -> Result<Self> {
        let name = format!("blocks.{index}");
        let (d, ffn) = (config.dim, config.ffn_dim);
        Ok(Block {
            self_attention: SelfAttention::load(weights, &format!("{name}.self_attn"), config, fp8, place)?,
            norm3_weight: weights.take(&format!("{name}.norm3.weight"), &[d], place)?,
            norm3_bias: weights.take(&format!("{name}.norm3.bias"), &[d], place)?,
            cross_attention: CrossAttention::load(weights, &format!("{name}.cross_attn"), config, fp8, place)?,
            ffn_input: Linear::load(weights, &format!("{name}.ffn.0"), d, ffn, place)?.in_fp8(fp8)?,
            ffn_output: Linear::load(weights, &format!("{name}.ffn.2"), ffn, d, place)?.in_fp8(fp8)?,
        })
    }

    /// One block over `x` `[1, tokens, D]`, in place.
    fn forward(
        &self,
        x: &mut Tensor,
        m: &BlockModulation,
        table: &Tensor,
        cache: &KeyValue,
        prompt: &KeyValue,
        reach: &Reach,
    ) -> Result<()> {
        let attended = self.self_attention.forward(&m.attention.layer_norm(x, EPS)?, table, cache, reach)?;
        add_gated(x, &attended, &m.attention_gate)?;

        let dim = self.norm3_weight.size();
        let normed = x.f_layer_norm(&dim[..], Some(&*self.norm3_weight), Some(&*self.norm3_bias), EPS, true)?;
        let _ = x.f_add_(&self.cross_attention.forward(&normed, prompt)?)?;

        let hidden = self.ffn_input.forward(&m.ffn.layer_norm(x, EPS)?)?.f_gelu_("tanh")?;
        add_gated(x, &self.ffn_output.forward(&hidden)?, &m.ffn_gate)
    }
}

impl Dit {
    /// Takes the weights of a transformer; every tensor of the file must have its place.
    pub fn load(mut weights: Weights, options: DitOptions, place: Placement) -> Result<Self> {
        let config = DitConfig::from_weights(&weights, options)?;
        let d = config.dim;
        let w = &mut weights;
        let dit = Dit {
            patch: Linear::from_patch_convolution(w, "patch_embedding", &[d, config.channels, 1, PATCH, PATCH], place)?,
            text_input: Linear::load(w, "text_embedding.0", config.text_dim, d, place)?,
            text_output: Linear::load(w, "text_embedding.2", d, d, place)?,
            time: TimeEmbedding::load(w, &config, place)?,
            blocks: (0..config.layers)
                .map(|i| Block::load(w, i, &config, options.fp8, place))
                .collect::<Result<_>>()?,
            head: Linear::load(w, "head.head", d, config.channels * PATCH * PATCH, place)?,
            config,
            place,
        };
        weights.finish()?;
        Ok(dit)
    }

    /// The model's size.
    pub fn config(&self) -> &DitConfig {
        &self.config
    }

    /// Where it is and what it computes in.
    pub fn placement(&self) -> Placement {
        self.place
    }

    /// An empty state for latents of `height` x `width` (even numbers).
    pub fn state(&self, window: Window, height: i64, width: i64) -> Result<DitState> {
        if height < PATCH || width < PATCH || height % PATCH != 0 || width % PATCH != 0 {
            return Err(Error::parameter(format!(
                "latents of {width}x{height} cannot be cut into {PATCH}x{PATCH} patches"
            )));
        }
        DitState::new(&self.config, window, height / PATCH, width / PATCH, self.place.kind, self.place.device)
    }

    /// One denoising call on latents `x` `[1, F, 16, h, w]` whose first frame has the position
    /// `start`, with one timestep a frame; returns the flow in fp32, of the shape of `x`.
    ///
    /// `prompt` `[1, <= text_len, text_dim]` is only looked at if the state has no prompt.
    pub fn denoise(
        &self,
        state: &mut DitState,
        x: &Tensor,
        t: &[f64],
        start: i64,
        prompt: &Tensor,
        bias: Option<KvBias>,
    ) -> Result<Tensor> {
        let frames = self.check(state, x, t)?;
        self.fill_prompt(state, prompt)?;
        let slots = state.append(start, frames)?;
        let bias = match bias {
            Some(kv) if kv.bias != 1.0 => self.key_bias(kv, slots.first_key, slots.end, state.tokens_per_frame())?,
            _ => None,
        };
        let table = state.rope(start, frames)?;
        let modulation = state.modulations.of(&self.time, t)?;
        let mut tokens = self.patchify(x)?;
        let reach = Reach::Window { slots, bias };
        for ((block, m), (cache, prompt)) in
            self.blocks.iter().zip(&modulation.blocks).zip(state.layers.iter().zip(&state.cross))
        {
            block.forward(&mut tokens, m, &table, cache, prompt, &reach)?;
        }
        self.flow(&tokens, modulation, x)
    }

    /// Fills the cache anew from clean latents `[1, F, 16, h, w]` at positions 0 to F-1: frames
    /// see their own group of `group` frames and those before (block-causal).
    pub fn recompute(&self, state: &mut DitState, context: &Tensor, t: f64, group: i64, prompt: &Tensor) -> Result<()> {
        self.context_pass(state, context, t, group, prompt, false).map(|_| ())
    }

    /// As [`Dit::recompute`], and also returns the flow, which generation has no use for.
    pub fn recompute_with_flow(
        &self,
        state: &mut DitState,
        context: &Tensor,
        t: f64,
        group: i64,
        prompt: &Tensor,
    ) -> Result<Tensor> {
        let tokens = self.context_pass(state, context, t, group, prompt, true)?;
        let t = vec![t; context.size()[1] as usize];
        let modulation = state.modulations.of(&self.time, &t)?;
        self.flow(&tokens, modulation, context)
    }

    fn context_pass(
        &self,
        state: &mut DitState,
        context: &Tensor,
        t: f64,
        group: i64,
        prompt: &Tensor,
        whole: bool,
    ) -> Result<Tensor> {
        let t = vec![t; context.size().get(1).copied().unwrap_or(0).max(0) as usize];
        let frames = self.check(state, context, &t)?;
        self.fill_prompt(state, prompt)?;
        state.restart(frames)?;
        let table = state.rope(0, frames)?;
        let reach = Reach::Groups { tokens: group.max(1) * state.tokens_per_frame() };
        let modulation = state.modulations.of(&self.time, &t)?;
        let mut tokens = self.patchify(context)?;
        let last = self.blocks.len() - 1;
        for (i, (block, m)) in self.blocks.iter().zip(&modulation.blocks).enumerate() {
            if i == last && !whole {
                // Nobody reads what comes after the last keys and values.
                block.self_attention.fill(&m.attention.layer_norm(&tokens, EPS)?, &table, &state.layers[i])?;
            } else {
                block.forward(&mut tokens, m, &table, &state.layers[i], &state.cross[i], &reach)?;
            }
        }
        Ok(tokens)
    }

    fn check(&self, state: &DitState, x: &Tensor, t: &[f64]) -> Result<i64> {
        let (rows, columns) = state.rows_columns();
        match x.size().as_slice() {
            &[1, frames, channels, h, w]
                if frames > 0
                    && channels == self.config.channels
                    && h == rows * PATCH
                    && w == columns * PATCH
                    && t.len() == frames as usize =>
            {
                Ok(frames)
            }
            other => Err(Error::parameter(format!(
                "latents of the shape {other:?} with {} timesteps do not fit a state for [1, F, {}, {}, {}]",
                t.len(),
                self.config.channels,
                rows * PATCH,
                columns * PATCH
            ))),
        }
    }

    /// `[1, F, C, h, w]` to `[1, tokens, D]`, tokens by frame, row and column.
    fn patchify(&self, x: &Tensor) -> Result<Tensor> {
        let (_, f, c, h, w) = x.size5()?;
        let x = x.f_to_device(self.place.device)?.f_to_kind(self.place.kind)?;
        let patches = x.f_view([f, c, h / PATCH, PATCH, w / PATCH, PATCH])?.f_permute([0, 2, 4, 1, 3, 5])?;
        self.patch.forward(&patches.f_reshape([1, -1, c * PATCH * PATCH])?)
    }

    /// The head: `[1, tokens, D]` to flow of the shape of `like`.
    fn flow(&self, tokens: &Tensor, modulation: &Modulation, like: &Tensor) -> Result<Tensor> {
        let (_, f, c, h, w) = like.size5()?;
        let values = self.head.forward(&modulation.head.layer_norm(tokens, EPS)?)?;
        let patches = values.f_view([f, h / PATCH, w / PATCH, PATCH, PATCH, c])?.f_permute([0, 5, 1, 3, 2, 4])?;
        Ok(patches.f_reshape([1, f, c, h, w])?.f_to_kind(Kind::Float)?)
    }

    /// Keys and values of the prompt for every block, if the state has none.
    fn fill_prompt(&self, state: &mut DitState, prompt: &Tensor) -> Result<()> {
        if !state.cross.is_empty() {
            return Ok(());
        }
        let (rows, width) = match prompt.size().as_slice() {
            &[1, rows, width] => (rows, width),
            other => {
                return Err(Error::parameter(format!("a prompt's embedding has three dimensions, not {other:?}")));
            }
        };
        if rows > self.config.text_len || width != self.config.text_dim {
            return Err(Error::parameter(format!(
                "a prompt's embedding of [1, {rows}, {width}] does not fit this model's [1, {}, {}]",
                self.config.text_len, self.config.text_dim
            )));
        }
        let prompt = prompt.f_to_device(self.place.device)?.f_to_kind(self.place.kind)?;
        // Rows past the prompt are zeros, and are attended to.
        let padded = prompt.f_constant_pad_nd([0, 0, 0, self.config.text_len - rows])?;
        let text = self.text_output.forward(&self.text_input.forward(&padded)?.f_gelu_("tanh")?)?;
        state.cross = self.blocks.iter().map(|block| block.cross_attention.key_value(&text)).collect::<Result<_>>()?;
        Ok(())
    }

    /// The additive mask of [`KvBias`] over the keys `first..end`, `[1, 1, 1, keys]`; `None` if it touches no key.
    fn key_bias(&self, kv: KvBias, first: i64, end: i64, per_frame: i64) -> Result<Option<Tensor>> {
        if !(kv.bias > 0.0 && kv.bias <= 1.0) {
            return Err(Error::parameter(format!("a bias of {} is not in (0, 1]", kv.bias)));
        }
        let (from, to) = ((per_frame - first).max(0), end - kv.block * per_frame - first);
        if to <= from {
            return Ok(None);
        }
        let mask = Tensor::f_zeros([1, 1, 1, end - first], (self.place.kind, self.place.device))?;
        let _ = mask.f_narrow(3, from, to - from)?.f_fill_(kv.bias.ln())?;
        Ok(Some(mask))
    }
}
