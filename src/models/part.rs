//! The parts of a generator, and how their files are told apart: by the names of their tensors, then by their own.

use serde::Deserialize;

use super::tensors::Names;

/// What a file is to a generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    Transformer,
    /// Wan's own autoencoder.
    Vae,
    /// The small one that may take its place.
    Taehv,
    TextEncoder,
    Tokenizer,
}

impl Part {
    pub const ALL: [Self; 5] = [Self::Transformer, Self::Vae, Self::Taehv, Self::TextEncoder, Self::Tokenizer];

    /// How messages call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Transformer => "transformer",
            Self::Vae => "VAE",
            Self::Taehv => "TAEHV",
            Self::TextEncoder => "text encoder",
            Self::Tokenizer => "tokenizer",
        }
    }

    /// Names that such files have, those that say it best first; `*` is anything.
    pub(super) fn patterns(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Transformer => &[
                &["*krea*realtime*", "*self*forcing*"],
                &["diffusion_pytorch_model*", "model.*", "dit.*", "*wan2*t2v*"],
            ],
            Self::Vae => &[&["wan*vae*"], &["vae.*", "diffusion_pytorch_model*"]],
            Self::Taehv => &[&["*taew2_1*"], &["taehv*"]],
            Self::TextEncoder => &[&["*umt5*"], &["model.*", "text_encoder.*"]],
            Self::Tokenizer => &[&["tokenizer.json"]],
        }
    }

    /// How well a file's name says that it is this part; less is better.
    pub(super) fn rank(self, name: &str) -> Option<usize> {
        let name = name.to_ascii_lowercase();
        self.patterns().iter().position(|tier| tier.iter().any(|pattern| fits(pattern, &name)))
    }

    /// The names to look for, in words.
    pub(super) fn looked_for(self) -> String {
        let names = self.patterns().concat().join(", ");
        match self {
            Self::Tokenizer => names,
            _ => format!("{names}, as .safetensors, .pt or .pth"),
        }
    }

    /// Tensors of which one is in every file of this part, whoever has written it.
    fn marks(self) -> &'static [&'static str] {
        match self {
            Self::Transformer => &["blocks.0.self_attn.q.weight", "blocks.0.attn1.to_q.weight"],
            Self::Vae => &["decoder.conv1.weight", "decoder.conv_in.weight"],
            Self::Taehv => &["decoder.1.weight"],
            Self::TextEncoder => &["blocks.0.attn.q.weight", "encoder.block.0.layer.0.SelfAttention.q.weight"],
            Self::Tokenizer => &[],
        }
    }

    /// The part whose tensors these are.
    pub(super) fn of(names: &Names) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.marks().iter().any(|mark| names.have(mark)))
    }
}

/// Whether `name` fits the pattern, in which `*` stands for anything.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == name };
    let Some(rest) = name.strip_prefix(head) else { return false };
    (0..=rest.len()).filter(|&at| rest.is_char_boundary(at)).any(|at| fits(tail, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_published_files_are_known() {
        for (name, part, rank) in [
            ("krea-realtime-video-14b.safetensors", Part::Transformer, 0),
            ("self_forcing_dmd.pt", Part::Transformer, 0),
            ("diffusion_pytorch_model.safetensors.index.json", Part::Transformer, 1),
            ("Wan2.1_VAE.pth", Part::Vae, 0),
            ("Wan2_1_VAE_bf16.safetensors", Part::Vae, 0),
            ("taew2_1.safetensors", Part::Taehv, 0),
            ("models_t5_umt5-xxl-enc-bf16.pth", Part::TextEncoder, 0),
            ("umt5-xxl-enc-fp8_e4m3fn.safetensors", Part::TextEncoder, 0),
            ("tokenizer.json", Part::Tokenizer, 0),
        ] {
            assert_eq!(part.rank(name), Some(rank), "{name}");
        }
        assert_eq!(Part::Vae.rank("krea-realtime-video-14b.safetensors"), None);
    }

    #[test]
    fn a_star_is_anything() {
        assert!(fits("*a*b*", "xaxxbx") && fits("*a*b*", "ab") && !fits("*a*b*", "ba"));
        assert!(fits("a*", "a") && !fits("a", "ab") && fits("*ü", "aü"));
    }
}
