//! A linear layer over a weight that may be stored as fp8.

use tch::{Kind, Tensor};

use crate::Result;
use crate::weights::{Placement, Weight, Weights};

/// `y = x W^T + b`, `W` of `[outputs, inputs]`.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Weight,
    bias: Weight,
}

impl Linear {
    pub(crate) fn load(weights: &mut Weights, name: &str, inputs: i64, outputs: i64, place: Placement) -> Result<Self> {
        let weight = weights.take_stored(&format!("{name}.weight"), &[outputs, inputs], place)?;
        let bias = weights.take(&format!("{name}.bias"), &[outputs], place)?;
        Ok(Linear { weight, bias })
    }

    /// The same layer with its weight kept as fp8.
    pub(crate) fn in_fp8(self, wanted: bool) -> Result<Self> {
        if !wanted || is_fp8(self.weight.kind()) {
            return Ok(self);
        }
        let weight = Weight::owned(self.weight.f_to_kind(Kind::Float8e4m3fn)?);
        Ok(Linear { weight, bias: self.bias })
    }

    /// Several layers of one input as one; `None` if that would copy a mapped file into memory.
    pub(crate) fn fused(parts: Vec<Linear>) -> std::result::Result<Result<Linear>, Vec<Linear>> {
        if parts.iter().any(|part| part.weight.is_mapped() || is_fp8(part.weight.kind())) {
            return Err(parts);
        }
        let cat = |pick: fn(&Linear) -> &Tensor| Tensor::f_cat(&parts.iter().map(pick).collect::<Vec<_>>(), 0);
        let joined = cat(|part| &part.weight).and_then(|weight| Ok((weight, cat(|part| &part.bias)?)));
        Ok(joined
            .map(|(weight, bias)| Linear { weight: Weight::owned(weight), bias: Weight::owned(bias) })
            .map_err(Into::into))
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if is_fp8(self.weight.kind()) {
            return Ok(x.f_linear(&self.weight.f_to_kind(x.kind())?, Some(&*self.bias))?);
        }
        Ok(x.f_linear(&self.weight, Some(&*self.bias))?)
    }

    /// Views the weight with its trailing dimensions flattened, as a convolution whose kernel is its stride.
    pub(crate) fn from_patch_convolution(
        weights: &mut Weights,
        name: &str,
        shape: &[i64],
        place: Placement,
    ) -> Result<Self> {
        let weight = weights.take(&format!("{name}.weight"), shape, place)?;
        let bias = weights.take(&format!("{name}.bias"), &shape[..1], place)?;
        let inputs: i64 = shape[1..].iter().product();
        Ok(Linear { weight: weight.view(&[shape[0], inputs]), bias })
    }
}

fn is_fp8(kind: Kind) -> bool {
    matches!(kind, Kind::Float8e4m3fn | Kind::Float8e5m2)
}
