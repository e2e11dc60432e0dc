//! Attention over tokens: self-attention through the cache, cross-attention to the prompt.

use tch::Tensor;

use super::cache::{KeyValue, Slots};
use super::config::{DitConfig, EPS};
use super::linear::Linear;
use super::rope;
use crate::Result;
use crate::weights::{Placement, Weight, Weights};

/// Which keys the queries of a call see.
#[derive(Debug)]
pub(super) enum Reach {
    /// All cached keys of the range, with an additive mask `[1, 1, 1, keys]` or none.
    Window { slots: Slots, bias: Option<Tensor> },
    /// The call's own tokens, in groups of this many tokens: a group sees itself and those before.
    Groups { tokens: i64 },
}

/// The three projections of one input, as one matrix where that costs no copy.
#[derive(Debug)]
enum Qkv {
    Fused(Linear),
    Split([Linear; 3]),
}

/// Self-attention of one block.
#[derive(Debug)]
pub(super) struct SelfAttention {
    qkv: Qkv,
    output: Linear,
    norm_q: Weight,
    norm_k: Weight,
    heads: i64,
}

impl SelfAttention {
    pub(super) fn load(
        weights: &mut Weights,
        name: &str,
        config: &DitConfig,
        fp8: bool,
        place: Placement,
    ) -> Result<Self> {
        let d = config.dim;
        let mut part = |part: &str| Linear::load(weights, &format!("{name}.{part}"), d, d, place)?.in_fp8(fp8);
        let qkv = match Linear::fused(vec![part("q")?, part("k")?, part("v")?]) {
            Ok(fused) => Qkv::Fused(fused?),
            Err(parts) => match <[Linear; 3]>::try_from(parts) {
                Ok(parts) => Qkv::Split(parts),
                Err(_) => unreachable!("three layers went in"),
            },
        };
        Ok(SelfAttention {
            qkv,
            output: part("o")?,
            norm_q: weights.take(&format!("{name}.norm_q.weight"), &[d], place)?,
            norm_k: weights.take(&format!("{name}.norm_k.weight"), &[d], place)?,
            heads: config.heads,
        })
    }

    /// Writes keys and values of `x` `[1, tokens, D]` into the cache at `at`, and returns the rotated queries.
    fn project(
        &self,
        x: &Tensor,
        table: &Tensor,
        cache: &KeyValue,
        at: i64,
        want_queries: bool,
    ) -> Result<Option<Tensor>> {
        let tokens = x.size()[1];
        let (q, k, v) = match &self.qkv {
            Qkv::Fused(qkv) => {
                let mut parts = qkv.forward(x)?.f_chunk(3, -1)?.into_iter();
                (parts.next(), parts.next(), parts.next())
            }
            Qkv::Split([q, k, v]) => {
                (if want_queries { Some(q.forward(x)?) } else { None }, Some(k.forward(x)?), Some(v.forward(x)?))
            }
        };
        let (Some(k), Some(v)) = (k, v) else { unreachable!("a projection has three parts") };
        let k = rope::rotate(&split_heads(&rms_norm(&k, &self.norm_k)?, self.heads)?, table)?;
        // Copying converts to the cache's kind.
        cache.k.f_narrow(1, at, tokens)?.f_copy_(&k)?;
        cache.v.f_narrow(1, at, tokens)?.f_copy_(&split_heads(&v, self.heads)?)?;
        let Some(q) = q.filter(|_| want_queries) else {
            return Ok(None);
        };
        let q = rope::rotate(&split_heads(&rms_norm(&q, &self.norm_q)?, self.heads)?, table)?;
        Ok(Some(q.f_to_kind(x.kind())?))
    }

    /// Only fills the cache: all that the last block of a context pass has to do.
    pub(super) fn fill(&self, x: &Tensor, table: &Tensor, cache: &KeyValue) -> Result<()> {
        self.project(x, table, cache, 0, false).map(|_| ())
    }

    /// Attention of `x` `[1, tokens, D]`, normed and modulated, through the cache.
    pub(super) fn forward(&self, x: &Tensor, table: &Tensor, cache: &KeyValue, reach: &Reach) -> Result<Tensor> {
        let (_, tokens, dim) = x.size3()?;
        let at = match reach {
            Reach::Window { slots, .. } => slots.write,
            Reach::Groups { .. } => 0,
        };
        let Some(q) = self.project(x, table, cache, at, true)? else { unreachable!("queries were asked for") };
        let seen = match reach {
            Reach::Window { slots, bias } => {
                let keys = slots.end - slots.first_key;
                attend(
                    &q,
                    &cache.k.f_narrow(1, slots.first_key, keys)?,
                    &cache.v.f_narrow(1, slots.first_key, keys)?,
                    bias.as_ref(),
                )?
            }
            Reach::Groups { tokens: group } if *group >= tokens => {
                attend(&q, &cache.k.f_narrow(1, 0, tokens)?, &cache.v.f_narrow(1, 0, tokens)?, None)?
            }
            Reach::Groups { tokens: group } => {
                // One call a group with its prefix of keys: no mask, so every kernel will do.
                let mut parts = Vec::new();
                for from in (0..tokens).step_by(*group as usize) {
                    let end = (from + group).min(tokens);
                    parts.push(attend(
                        &q.f_narrow(1, from, end - from)?,
                        &cache.k.f_narrow(1, 0, end)?,
                        &cache.v.f_narrow(1, 0, end)?,
                        None,
                    )?);
                }
                Tensor::f_cat(&parts, 1)?
            }
        };
        self.output.forward(&seen.f_reshape([1, tokens, dim])?)
    }
}

/// Cross-attention of one block to the prompt.
#[derive(Debug)]
pub(super) struct CrossAttention {
    q: Linear,
    k: Linear,
    v: Linear,
    output: Linear,
    norm_q: Weight,
    norm_k: Weight,
    heads: i64,
}

impl CrossAttention {
    pub(super) fn load(
        weights: &mut Weights,
        name: &str,
        config: &DitConfig,
        fp8: bool,
        place: Placement,
    ) -> Result<Self> {
        let d = config.dim;
        let mut linear = |part: &str| Linear::load(weights, &format!("{name}.{part}"), d, d, place)?.in_fp8(fp8);
        let (q, k, v, output) = (linear("q")?, linear("k")?, linear("v")?, linear("o")?);
        let norm_q = weights.take(&format!("{name}.norm_q.weight"), &[d], place)?;
        let norm_k = weights.take(&format!("{name}.norm_k.weight"), &[d], place)?;
        Ok(CrossAttention { q, k, v, output, norm_q, norm_k, heads: config.heads })
    }

    /// Keys and values of the embedded prompt `[1, text_len, D]`.
    pub(super) fn key_value(&self, text: &Tensor) -> Result<KeyValue> {
        let k = split_heads(&rms_norm(&self.k.forward(text)?, &self.norm_k)?, self.heads)?;
        let v = split_heads(&self.v.forward(text)?, self.heads)?;
        Ok(KeyValue { k, v })
    }

    pub(super) fn forward(&self, x: &Tensor, prompt: &KeyValue) -> Result<Tensor> {
        let (_, tokens, dim) = x.size3()?;
        let q = split_heads(&rms_norm(&self.q.forward(x)?, &self.norm_q)?, self.heads)?;
        self.output.forward(&attend(&q, &prompt.k, &prompt.v, None)?.f_reshape([1, tokens, dim])?)
    }
}

fn split_heads(x: &Tensor, heads: i64) -> Result<Tensor> {
    let (batch, tokens, dim) = x.size3()?;
    Ok(x.f_reshape([batch, tokens, heads, dim / heads])?)
}

/// `x * rsqrt(mean(x^2) + eps) * weight` over the last dimension, statistics in fp32 (arXiv 1910.07467).
pub fn rms_norm(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(x.f_rms_norm(weight.size(), Some(weight), EPS)?)
}

/// Scaled dot products of queries with keys, all `[1, tokens, heads, head_dim]`.
fn attend(q: &Tensor, k: &Tensor, v: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let by_head = |t: &Tensor| t.f_transpose(1, 2);
    let out = Tensor::f_scaled_dot_product_attention(
        &by_head(q)?,
        &by_head(k)?,
        &by_head(v)?,
        bias,
        0.0,
        false,
        None,
        false,
    )?;
    Ok(out.f_transpose(1, 2)?)
}
