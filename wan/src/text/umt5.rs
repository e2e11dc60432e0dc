//! The UMT5 encoder: token ids to prompt embeddings ("UniMax", Chung et al. 2023; the encoder half
//! of a T5 v1.1 whose every layer has its own table of relative position biases).
//!
//! All sizes are read from the weights. Only the tokens of the prompt go through the network: with
//! the padding fully masked that is exact, and many times cheaper.

use tch::{Device, Kind, Tensor};

use crate::weights::{Placement, Weight, Weights};
use crate::{Error, Result};

/// What the shapes of the weights do not tell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Umt5Constants {
    /// Distance in tokens from which on all positions share the last bucket.
    pub max_distance: i64,
    /// Added to the mean square in every norm.
    pub eps: f64,
}

impl Default for Umt5Constants {
    fn default() -> Self {
        Umt5Constants { max_distance: 128, eps: 1e-6 }
    }
}

/// One layer: attention, then a gated feed-forward, each on a normed input.
#[derive(Debug)]
struct Block {
    norm1: Weight,
    q: Weight,
    k: Weight,
    v: Weight,
    o: Weight,
    norm2: Weight,
    gate: Weight,
    fc1: Weight,
    fc2: Weight,
    /// `[buckets, heads]`; a model that shares one table has it in its first layer only.
    positions: Option<Weight>,
}

/// The encoder with its weights, which does not change after loading.
#[derive(Debug)]
pub struct Umt5 {
    embedding: Weight,
    blocks: Vec<Block>,
    norm: Weight,
    heads: i64,
    buckets: i64,
    constants: Umt5Constants,
    place: Placement,
}

impl Umt5 {
    /// Builds the encoder from weights opened as `Layout::Umt5`.
    ///
    /// The embedding table is only looked up in; it stays on `embedding` as the file stores it,
    /// and the linear maps keep a stored fp8.
    pub fn load(mut weights: Weights, place: Placement, embedding: Device, constants: Umt5Constants) -> Result<Self> {
        let table = "token_embedding.weight";
        let [vocabulary, dim] = weights.require_shape(table)?;
        let stored = Placement { device: embedding, kind: weights.kind(table).unwrap_or(place.kind) };
        let embedding = weights.take_stored(table, &[vocabulary, dim], stored)?;
        let shared = "pos_embedding.embedding.weight";
        let first = format!("blocks.0.{shared}");
        let bias = if weights.shape(shared).is_some() { shared } else { &first };
        let [buckets, heads] = weights.require_shape(bias)?;
        let [inner, _] = weights.require_shape("blocks.0.attn.q.weight")?;
        let [hidden, _] = weights.require_shape("blocks.0.ffn.fc1.weight")?;
        if inner % heads != 0 || buckets % 4 != 0 {
            return Err(Error::Weights {
                origin: weights.origin().to_owned(),
                reason: format!("{inner} channels and {buckets} buckets for {heads} heads"),
            });
        }

        let mut blocks = Vec::new();
        for index in 0..weights.count("blocks.") {
            let key = |name: &str| format!("blocks.{index}.{name}");
            let positions = if index == 0 && bias == shared { shared.to_owned() } else { key(shared) };
            let mut linear =
                |name: &str, o: i64, i: i64| weights.take_stored(&key(&format!("{name}.weight")), &[o, i], place);
            let (q, k, v) =
                (linear("attn.q", inner, dim)?, linear("attn.k", inner, dim)?, linear("attn.v", inner, dim)?);
            let o = linear("attn.o", dim, inner)?;
            let (gate, fc1) = (linear("ffn.gate.0", hidden, dim)?, linear("ffn.fc1", hidden, dim)?);
            let fc2 = linear("ffn.fc2", dim, hidden)?;
            blocks.push(Block {
                norm1: weights.take(&key("norm1.weight"), &[dim], place)?,
                norm2: weights.take(&key("norm2.weight"), &[dim], place)?,
                positions: weights.take_optional(&positions, &[buckets, heads], place)?,
                q,
                k,
                v,
                o,
                gate,
                fc1,
                fc2,
            });
        }
        let norm = weights.take("norm.weight", &[dim], place)?;
        weights.finish()?;
        Ok(Umt5 { embedding, blocks, norm, heads, buckets, constants, place })
    }

    /// The number of channels of an embedding: 4096 for UMT5-XXL.
    pub fn dim(&self) -> i64 {
        self.norm.size()[0]
    }

    /// Embeds the tokens of one prompt (without padding) and adds rows of zeros:
    /// `[1, length, dim]` in this model's precision.
    pub fn encode(&self, tokens: &[i64], length: usize) -> Result<Tensor> {
        let count = tokens.len();
        if count == 0 || count > length {
            return Err(Error::parameter(format!("a prompt of {count} tokens does not fit 1 to {length}")));
        }
        let rows = self.embedding.size()[0];
        if let Some(token) = tokens.iter().find(|token| !(0..rows).contains(*token)) {
            return Err(Error::parameter(format!(
                "the tokenizer made token {token}, but this text encoder has {rows}: they do not \
                 belong together"
            )));
        }
        tch::no_grad(|| {
            let x = self.forward(&self.look_up(tokens)?);
            Ok(x.constant_pad_nd([0, 0, 0, (length - count) as i64]))
        })
    }

    /// Rows of the embedding table: `[1, tokens, dim]`.
    fn look_up(&self, tokens: &[i64]) -> Result<Tensor> {
        let table = &*self.embedding;
        let tokens = Tensor::from_slice(tokens).to_device(table.device());
        let rows = match table.kind() {
            // Not every device can gather fp8, but bytes are bytes.
            kind @ (Kind::Float8e4m3fn | Kind::Float8e5m2) => {
                table.f_view_dtype(Kind::Uint8)?.index_select(0, &tokens).f_view_dtype(kind)?
            }
            _ => table.index_select(0, &tokens),
        };
        Ok(rows.to_device(self.place.device).to_kind(self.place.kind).unsqueeze(0))
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let [_, length, dim] = x.size()[..] else { unreachable!("`look_up` gives three dimensions") };
        let buckets: Vec<i64> = (0..length * length)
            .map(|at| {
                let (query, key) = (at / length, at % length);
                relative_bucket(key - query, self.buckets, self.constants.max_distance)
            })
            .collect();
        let buckets = Tensor::from_slice(&buckets).to_device(self.place.device);
        let bias_of = |table: &Tensor| {
            table.index_select(0, &buckets).reshape([1, length, length, self.heads]).permute([0, 3, 1, 2]).contiguous()
        };
        let rms = |x: &Tensor, weight: &Tensor| x.rms_norm([dim], Some(weight), Some(self.constants.eps));
        // A stored fp8 is widened for the one product that needs it.
        let linear = |x: &Tensor, weight: &Tensor| x.linear::<Tensor>(&weight.to_kind(self.place.kind), None);

        let mut x = x.shallow_clone();
        let mut bias = Tensor::new();
        for block in &self.blocks {
            if let Some(table) = &block.positions {
                bias = bias_of(table);
            }
            let y = rms(&x, &block.norm1);
            let heads = |weight: &Tensor| linear(&y, weight).reshape([1, length, self.heads, -1]).transpose(1, 2);
            // T5 does not divide by the root of the head's size.
            let y = Tensor::scaled_dot_product_attention(
                &heads(&block.q),
                &heads(&block.k),
                &heads(&block.v),
                Some(&bias),
                0.0,
                false,
                1.0,
                false,
            );
            let y = y.transpose(1, 2).reshape([1, length, -1]);
            x += linear(&y, &block.o);
            let y = rms(&x, &block.norm2);
            let y = linear(&y, &block.gate).gelu("tanh") * linear(&y, &block.fc1);
            x += linear(&y, &block.fc2);
        }
        rms(&x, &self.norm)
    }
}

/// The bucket of a key `relative` tokens after the query: half of the buckets for either side, of
/// which half are single distances and the rest grow by a constant factor up to `max_distance`.
pub fn relative_bucket(relative: i64, buckets: i64, max_distance: i64) -> i64 {
    let side = buckets / 2;
    let offset = if relative > 0 { side } else { 0 };
    let distance = relative.abs();
    let exact = side / 2;
    if distance < exact {
        return offset + distance;
    }
    // In single precision, as the reference computes it.
    let octaves = (distance as f32 / exact as f32).ln();
    let range = (max_distance as f64 / exact as f64).ln() as f32;
    let grown = (octaves / range * (side - exact) as f32) as i64;
    offset + (exact + grown).min(side - 1)
}

#[cfg(test)]
mod tests {
    use super::relative_bucket;

    #[test]
    fn buckets_of_both_sides() {
        let bucket = |relative| relative_bucket(relative, 32, 128);
        let past: Vec<i64> = (0..8).map(|distance| bucket(-distance)).collect();
        assert_eq!(past, [0, 1, 2, 3, 4, 5, 6, 7]);
        // Powers of two fall on the borders of buckets.
        assert_eq!([8, 15, 16, 31, 32, 64].map(|d| bucket(-d)), [8, 9, 10, 11, 12, 14]);
        assert_eq!([1, 127, 128, 5000].map(bucket), [17, 31, 31, 31]);
        assert_eq!([127, 128, 5000].map(|d| bucket(-d)), [15, 15, 15]);
    }
}
