//! Names of tensors: every known layout is brought to the original Wan naming.

/// Which model a set of weights holds; decides how its names are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The Wan 2.1 transformer: original or diffusers `WanTransformer3DModel` names.
    Dit,
    /// The Wan 2.1 autoencoder: original or diffusers `AutoencoderKLWan` names.
    Vae,
    /// The UMT5 encoder: Wan's or transformers' `UMT5EncoderModel` names.
    Umt5,
    /// TAEHV: its own names only.
    Taehv,
    /// Names are taken as they are.
    Plain,
}

const PREFIXES: [&str; 2] = ["model.diffusion_model.", "model."];

const DIT: [(&str, &str); 14] = [
    ("condition_embedder.time_embedder.linear_1.", "time_embedding.0."),
    ("condition_embedder.time_embedder.linear_2.", "time_embedding.2."),
    ("condition_embedder.text_embedder.linear_1.", "text_embedding.0."),
    ("condition_embedder.text_embedder.linear_2.", "text_embedding.2."),
    ("condition_embedder.time_proj.", "time_projection.1."),
    (".attn1.", ".self_attn."),
    (".attn2.", ".cross_attn."),
    (".to_out.0.", ".o."),
    (".to_q.", ".q."),
    (".to_k.", ".k."),
    (".to_v.", ".v."),
    (".ffn.net.0.proj.", ".ffn.0."),
    (".ffn.net.2.", ".ffn.2."),
    // The only norm with tensors; diffusers counts it second, the original third.
    (".norm2.", ".norm3."),
];

const UMT5: [(&str, &str); 8] = [
    (".layer.0.SelfAttention.relative_attention_bias.", ".pos_embedding.embedding."),
    (".layer.0.SelfAttention.", ".attn."),
    (".layer.0.layer_norm.", ".norm1."),
    (".layer.1.layer_norm.", ".norm2."),
    (".layer.1.DenseReluDense.wi_0.", ".ffn.gate.0."),
    (".layer.1.DenseReluDense.wi_1.", ".ffn.fc1."),
    (".layer.1.DenseReluDense.wo.", ".ffn.fc2."),
    ("encoder.block.", "blocks."),
];

const VAE_RESIDUAL: [(&str, &str); 5] = [
    ("norm1.", "residual.0."),
    ("conv1.", "residual.2."),
    ("norm2.", "residual.3."),
    ("conv2.", "residual.6."),
    ("conv_shortcut.", "shortcut."),
];

impl Layout {
    /// What these weights should be, for messages.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Layout::Dit => "a Wan 2.1 text-to-video transformer",
            Layout::Vae => "the Wan 2.1 autoencoder",
            Layout::Umt5 => "a UMT5 encoder",
            Layout::Taehv => "a TAEHV (taew2_1)",
            Layout::Plain => "this model",
        }
    }

    /// The known prefix that names of this file have, if any. No original name begins like one.
    pub(super) fn prefix<'a>(self, names: impl Iterator<Item = &'a str> + Clone) -> &'static str {
        if self == Layout::Plain {
            return "";
        }
        let used = |prefix: &&str| names.clone().any(|name| name.starts_with(prefix));
        PREFIXES.into_iter().find(used).unwrap_or("")
    }

    /// The original name of a tensor (its prefix already removed); `None` for what a known
    /// packaging adds and the model does not need.
    pub(super) fn original_name(self, name: &str) -> Option<String> {
        match self {
            Layout::Dit => dit(name),
            Layout::Vae => Some(vae(name)),
            Layout::Umt5 => umt5(name),
            Layout::Taehv | Layout::Plain => Some(name.to_owned()),
        }
    }
}

fn replaced(name: &str, table: &[(&str, &str)]) -> String {
    table.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}

fn dit(name: &str) -> Option<String> {
    match name {
        // Marks a ComfyUI file with scaled fp8 weights; its factors are tensors of their own.
        "scaled_fp8" => return None,
        "scale_shift_table" => return Some("head.modulation".into()),
        _ => {}
    }
    if let Some(rest) = name.strip_prefix("proj_out.") {
        return Some(format!("head.head.{rest}"));
    }
    if let Some(block) = name.strip_suffix(".scale_shift_table") {
        return Some(format!("{block}.modulation"));
    }
    Some(replaced(name, &DIT))
}

fn umt5(name: &str) -> Option<String> {
    // The tied copy of the embedding, the other half of a whole T5, and ComfyUI's tokenizer.
    let unused = ["decoder.", "lm_head.", "spiece_model", "scaled_fp8", "encoder.embed_tokens."];
    if unused.iter().any(|prefix| name.starts_with(prefix)) {
        return None;
    }
    if let Some(rest) = name.strip_prefix("shared.") {
        return Some(format!("token_embedding.{rest}"));
    }
    if let Some(rest) = name.strip_prefix("encoder.final_layer_norm.") {
        return Some(format!("norm.{rest}"));
    }
    Some(replaced(name, &UMT5))
}

fn vae(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("quant_conv.") {
        return format!("conv1.{rest}");
    }
    if let Some(rest) = name.strip_prefix("post_quant_conv.") {
        return format!("conv2.{rest}");
    }
    for half in ["encoder", "decoder"] {
        if let Some(inner) = name.strip_prefix(half).and_then(|rest| rest.strip_prefix('.')) {
            return format!("{half}.{}", vae_half(inner));
        }
    }
    name.to_owned()
}

/// A name inside of `encoder.` or `decoder.`.
fn vae_half(name: &str) -> String {
    let residual = |rest: &str| {
        let known = VAE_RESIDUAL.iter().find_map(|(from, to)| Some(format!("{to}{}", rest.strip_prefix(from)?)));
        known.unwrap_or_else(|| rest.to_owned())
    };
    for (from, to) in [
        ("conv_in.", "conv1."),
        ("norm_out.", "head.0."),
        ("conv_out.", "head.2."),
        ("mid_block.attentions.0.", "middle.1."),
    ] {
        if let Some(rest) = name.strip_prefix(from) {
            return format!("{to}{rest}");
        }
    }
    for (from, to) in [("mid_block.resnets.0.", "middle.0."), ("mid_block.resnets.1.", "middle.2.")] {
        if let Some(rest) = name.strip_prefix(from) {
            return format!("{to}{}", residual(rest));
        }
    }
    if let Some((index, rest)) = name.strip_prefix("down_blocks.").and_then(|rest| rest.split_once('.')) {
        return format!("downsamples.{index}.{}", residual(rest));
    }
    let Some((stage, rest)) = name.strip_prefix("up_blocks.").and_then(|rest| rest.split_once('.')) else {
        return name.to_owned();
    };
    let Ok(stage) = stage.parse::<usize>() else {
        return name.to_owned();
    };
    // Four layers a stage in the original's flat list: three residual blocks and an upsampler.
    if let Some(rest) = rest.strip_prefix("upsamplers.0.") {
        return format!("upsamples.{}.{rest}", stage * 4 + 3);
    }
    match rest.strip_prefix("resnets.").and_then(|rest| rest.split_once('.')) {
        Some((layer, rest)) if layer.parse::<usize>().is_ok_and(|layer| layer < 3) => {
            let layer: usize = layer.parse().unwrap_or_default();
            format!("upsamples.{}.{}", stage * 4 + layer, residual(rest))
        }
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diffusers_vae_names_become_original() {
        for (from, to) in [
            ("quant_conv.weight", "conv1.weight"),
            ("post_quant_conv.bias", "conv2.bias"),
            ("encoder.conv_in.weight", "encoder.conv1.weight"),
            ("encoder.down_blocks.0.norm1.gamma", "encoder.downsamples.0.residual.0.gamma"),
            ("encoder.down_blocks.3.conv_shortcut.bias", "encoder.downsamples.3.shortcut.bias"),
            ("encoder.down_blocks.5.time_conv.weight", "encoder.downsamples.5.time_conv.weight"),
            ("decoder.mid_block.resnets.1.conv2.weight", "decoder.middle.2.residual.6.weight"),
            ("decoder.mid_block.attentions.0.to_qkv.weight", "decoder.middle.1.to_qkv.weight"),
            ("decoder.up_blocks.1.resnets.2.norm2.gamma", "decoder.upsamples.6.residual.3.gamma"),
            ("decoder.up_blocks.2.upsamplers.0.resample.1.weight", "decoder.upsamples.11.resample.1.weight"),
            ("decoder.norm_out.gamma", "decoder.head.0.gamma"),
            ("decoder.conv_out.weight", "decoder.head.2.weight"),
        ] {
            assert_eq!(Layout::Vae.original_name(from).as_deref(), Some(to));
        }
    }

    #[test]
    fn original_names_stay() {
        for name in
            ["blocks.3.norm3.weight", "blocks.0.cross_attn.norm_k.weight", "head.modulation", "time_projection.1.bias"]
        {
            assert_eq!(Layout::Dit.original_name(name).as_deref(), Some(name));
        }
        for name in ["encoder.downsamples.2.resample.1.bias", "decoder.middle.1.norm.gamma", "conv1.weight"] {
            assert_eq!(Layout::Vae.original_name(name).as_deref(), Some(name));
        }
        assert_eq!(Layout::Umt5.original_name("blocks.2.norm2.weight").as_deref(), Some("blocks.2.norm2.weight"));
    }

    #[test]
    fn the_longer_prefix_wins() {
        assert_eq!(
            Layout::Dit.prefix(["model.diffusion_model.a", "model.diffusion_model.b"].into_iter()),
            "model.diffusion_model."
        );
        assert_eq!(Layout::Dit.prefix(["model.a", "scaled_fp8"].into_iter()), "model.");
        assert_eq!(Layout::Dit.prefix(["a", "blocks.0.model.b"].into_iter()), "");
    }
}
