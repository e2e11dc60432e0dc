//! What a timestep does to the model: shifts, scales and gates, computed once per timestep
//! (adaLN of DiT, arXiv 2212.09748, in Wan 2.1's form).

use tch::{Kind, Tensor};

use super::config::DitConfig;
use super::linear::Linear;
use crate::Result;
use crate::weights::{Placement, Weight, Weights};

/// How many timesteps are remembered: those of any step list and the clean context's.
const REMEMBERED: usize = 32;

/// Shifts, scales and gates of one block. Each is `[1, D]`, or `[F, 1, D]` with one row a frame.
#[derive(Debug)]
pub(super) struct BlockModulation {
    pub(super) attention: Affine,
    pub(super) attention_gate: Tensor,
    pub(super) ffn: Affine,
    pub(super) ffn_gate: Tensor,
}

/// `x * scale + shift`; the scale already has its one added.
#[derive(Debug)]
pub(super) struct Affine {
    pub(super) scale: Tensor,
    pub(super) shift: Tensor,
}

/// What a call needs of its timesteps.
#[derive(Debug)]
pub(super) struct Modulation {
    pub(super) blocks: Vec<BlockModulation>,
    pub(super) head: Affine,
}

/// The newest modulations, by the bits of their timesteps.
#[derive(Debug, Default)]
pub(super) struct Modulations {
    known: Vec<(Vec<u64>, Modulation)>,
}

impl Modulations {
    /// The modulation of timesteps `t`, one a frame, from memory or newly computed.
    pub(super) fn of(&mut self, time: &TimeEmbedding, t: &[f64]) -> Result<&Modulation> {
        // One row serves all frames if they share their timestep.
        let uniform = t.iter().all(|value| value.to_bits() == t[0].to_bits());
        let distinct = if uniform { &t[..1] } else { t };
        let key: Vec<u64> = distinct.iter().map(|value| value.to_bits()).collect();
        let at = match self.known.iter().position(|(known, _)| *known == key) {
            Some(at) => at,
            None => {
                if self.known.len() == REMEMBERED {
                    self.known.remove(0);
                }
                self.known.push((key, time.modulation(distinct)?));
                self.known.len() - 1
            }
        };
        Ok(&self.known[at].1)
    }
}

/// The layers that a timestep passes through.
#[derive(Debug)]
pub(super) struct TimeEmbedding {
    input: Linear,
    output: Linear,
    projection: Linear,
    /// The table of each block, `[1, 6, D]`.
    tables: Vec<Weight>,
    /// `[1, 2, D]`.
    head_table: Weight,
    freq_dim: i64,
    place: Placement,
}

impl TimeEmbedding {
    pub(super) fn load(weights: &mut Weights, config: &DitConfig, place: Placement) -> Result<Self> {
        let d = config.dim;
        let tables = (0..config.layers)
            .map(|i| weights.take(&format!("blocks.{i}.modulation"), &[1, 6, d], place))
            .collect::<Result<_>>()?;
        Ok(TimeEmbedding {
            input: Linear::load(weights, "time_embedding.0", config.freq_dim, d, place)?,
            output: Linear::load(weights, "time_embedding.2", d, d, place)?,
            projection: Linear::load(weights, "time_projection.1", d, 6 * d, place)?,
            tables,
            head_table: weights.take("head.modulation", &[1, 2, d], place)?,
            freq_dim: config.freq_dim,
            place,
        })
    }

    fn modulation(&self, t: &[f64]) -> Result<Modulation> {
        let frames = t.len() as i64;
        let wave = sinusoid(t, self.freq_dim)?.f_to_device(self.place.device)?.f_to_kind(self.place.kind)?;
        let e = self.output.forward(&self.input.forward(&wave)?.f_silu()?)?;
        let six = self.projection.forward(&e.f_silu()?)?.f_view([frames, 6, -1])?;
        let rows = |all: &Tensor, index: i64| -> Result<Tensor> {
            let row = all.f_select(1, index)?;
            Ok(if frames == 1 { row.f_contiguous()? } else { row.f_unsqueeze(1)?.f_contiguous()? })
        };
        let affine = |all: &Tensor, shift: i64, scale: i64| -> Result<Affine> {
            Ok(Affine { shift: rows(all, shift)?, scale: rows(all, scale)?.f_add_scalar_(1.0)? })
        };
        let mut blocks = Vec::with_capacity(self.tables.len());
        for table in &self.tables {
            let all = table.f_add(&six)?;
            blocks.push(BlockModulation {
                attention: affine(&all, 0, 1)?,
                attention_gate: rows(&all, 2)?,
                ffn: affine(&all, 3, 4)?,
                ffn_gate: rows(&all, 5)?,
            });
        }
        let head = affine(&self.head_table.f_add(&e.f_unsqueeze(1)?)?, 0, 1)?;
        Ok(Modulation { blocks, head })
    }
}

impl Affine {
    /// `layer_norm(x) * scale + shift` for `x` `[1, frames * tokens, D]`.
    pub(super) fn layer_norm(&self, x: &Tensor, eps: f64) -> Result<Tensor> {
        let (_, tokens, dim) = x.size3()?;
        if self.scale.dim() == 2 {
            return Ok(x.f_layer_norm(
                [dim],
                Some(&self.scale.f_view([dim])?),
                Some(&self.shift.f_view([dim])?),
                eps,
                true,
            )?);
        }
        let normed = x.f_layer_norm([dim], None::<&Tensor>, None, eps, true)?;
        let mut per_frame = normed.f_view([self.scale.size()[0], -1, dim])?;
        Ok(per_frame.f_mul_(&self.scale)?.f_add_(&self.shift)?.f_view([1, tokens, dim])?)
    }
}

/// Adds `y * gate` to `x` in place, `x` and `y` `[1, frames * tokens, D]`.
pub(super) fn add_gated(x: &mut Tensor, y: &Tensor, gate: &Tensor) -> Result<()> {
    if gate.dim() == 2 {
        let _ = x.f_addcmul_(y, gate)?;
        return Ok(());
    }
    let frames = gate.size()[0];
    let dim = *x.size().last().unwrap_or(&0);
    let _ = x.f_view([frames, -1, dim])?.f_addcmul_(&y.f_view([frames, -1, dim])?, gate)?;
    Ok(())
}

/// `[cos(t w_0).., sin(t w_0)..]` with `w_j = 10000^(-j / (dim / 2))`, `[len(t), dim]`, computed in
/// fp64 and kept in fp32 (Attention Is All You Need, arXiv 1706.03762, cosines first).
pub fn sinusoid(t: &[f64], dim: i64) -> Result<Tensor> {
    let half = dim / 2;
    let mut values = Vec::with_capacity(t.len() * dim as usize);
    for &t in t {
        let angle = |j: i64| t * 10_000f64.powf(-(j as f64) / half as f64);
        values.extend((0..half).map(|j| angle(j).cos() as f32));
        values.extend((0..half).map(|j| angle(j).sin() as f32));
    }
    Ok(Tensor::f_from_slice(&values)?.f_view([t.len() as i64, dim])?.f_to_kind(Kind::Float)?)
}
