//! How much memory a generation takes, computed from sizes before anything is loaded.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use tch::{Device, Kind};

use crate::Result;
use crate::dit::{DitConfig, PATCH};
use crate::vae::VaeSize;
use crate::weights::{Layout, Weights};

/// The size of a UMT5 encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextSize {
    /// Rows of the embedding table.
    pub vocabulary: u64,
    /// Width of a token.
    pub dim: u64,
    /// Width of all heads together.
    pub attention: u64,
    /// Width of the feed-forward layer.
    pub ffn: u64,
    /// Attention heads.
    pub heads: u64,
    /// Blocks.
    pub layers: u64,
    /// Rows of each block's table of relative positions.
    pub buckets: u64,
}

impl TextSize {
    /// The encoder of Wan 2.1.
    pub const UMT5_XXL: TextSize =
        TextSize { vocabulary: 256_384, dim: 4096, attention: 4096, ffn: 10_240, heads: 64, layers: 24, buckets: 32 };

    /// By the shapes in a file, of which nothing else is read.
    pub fn read(path: &PathBuf) -> Result<Self> {
        let weights = Weights::open(path, Layout::Umt5)?;
        let [vocabulary, dim] = weights.require_shape("token_embedding.weight")?;
        let [attention, _] = weights.require_shape("blocks.0.attn.q.weight")?;
        let [ffn, _] = weights.require_shape("blocks.0.ffn.fc1.weight")?;
        let [buckets, heads] = weights.require_shape("blocks.0.pos_embedding.embedding.weight")?;
        let layers = weights.count("blocks.") as u64;
        let [vocabulary, dim, attention, ffn, buckets, heads] =
            [vocabulary, dim, attention, ffn, buckets, heads].map(|n: i64| n as u64);
        Ok(TextSize { vocabulary, dim, attention, ffn, heads, layers, buckets })
    }

    /// Numbers in the embedding table, which may stay in the main memory.
    pub fn embedding(&self) -> u64 {
        self.vocabulary * self.dim
    }

    /// Numbers in all weights.
    pub fn parameters(&self) -> u64 {
        let block = 4 * self.dim * self.attention + 3 * self.dim * self.ffn + self.buckets * self.heads + 2 * self.dim;
        self.embedding() + self.layers * block + self.dim
    }
}

/// Which autoencoder is planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoencoderPlan {
    /// Wan's, of a size and precision.
    Wan(VaeSize, Kind),
    /// TAEHV (taew2_1), in a precision.
    Tiny(Kind),
}

/// What is to be generated and what stays on the device meanwhile.
#[derive(Clone, Debug)]
pub struct Request {
    /// The transformer.
    pub dit: DitConfig,
    /// What its linear layers are stored in; may be fp8.
    pub stored: Kind,
    /// What it computes in.
    pub compute: Kind,
    /// The autoencoder.
    pub autoencoder: AutoencoderPlan,
    /// The text encoder and what it is stored in, if it stays on the device.
    pub text: Option<(TextSize, Kind)>,
    /// Whether the text encoder's embedding table is kept elsewhere.
    pub embedding_elsewhere: bool,
    /// Frames in pixels.
    pub width: u64,
    /// Frames in pixels.
    pub height: u64,
    /// Latent frames in a block.
    pub block: u64,
    /// Latent frames of context.
    pub window: u64,
    /// Whether frames are encoded as a stream (video to video, live).
    pub input: bool,
    /// Generations at a time.
    pub sessions: u64,
    /// Whether it is the CPU that computes.
    pub on_cpu: bool,
}

/// Bytes by component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What it is and how many bytes it takes.
    pub parts: Vec<(&'static str, u64)>,
}

/// Names of a plan's parts.
pub mod part {
    /// The transformer's weights.
    pub const TRANSFORMER: &str = "transformer";
    /// The text encoder's weights.
    pub const TEXT: &str = "text encoder";
    /// The autoencoder's weights.
    pub const AUTOENCODER: &str = "autoencoder";
    /// Keys and values of frames.
    pub const KV_CACHE: &str = "frame cache";
    /// Keys and values of the prompt.
    pub const CROSS_CACHE: &str = "prompt cache";
    /// What the decoder remembers between blocks.
    pub const DECODER_CACHE: &str = "decoder cache";
    /// What the encoder remembers between blocks.
    pub const ENCODER_CACHE: &str = "encoder cache";
    /// What is alive at most inside of a call.
    pub const ACTIVATIONS: &str = "activations";
}

impl Plan {
    /// Makes the plan (wan-spec 13).
    pub fn new(request: &Request) -> Self {
        let dit = &request.dit;
        let (dim, layers) = (dit.dim as u64, dit.layers as u64);
        let compute = bytes(request.compute);
        let parameters = dit.parameters();
        // Only the matrices of the blocks are kept as they are stored; the rest is small.
        let matrices = layers * (8 * dim * dim + 2 * dim * dit.ffn_dim as u64);
        let transformer = matrices * bytes(request.stored) + (parameters - matrices) * compute;

        let (rows, columns) = (request.height / 8, request.width / 8);
        let per_frame = rows * columns / (PATCH * PATCH) as u64;
        let per_token = 2 * dim * layers * compute;
        let new = request.block.max(request.window) * per_frame;
        // The widest moment of a block: the residual, the normed input and the hidden layer twice.
        let transformer_peak = new * (2 * dim + 2 * dit.ffn_dim as u64) * compute + new * dim * 3 * 4;

        let (weights, decoder, encoder, autoencoder_peak) = match request.autoencoder {
            AutoencoderPlan::Wan(size, kind) => {
                let pixels = request.width * request.height;
                let peak = if request.on_cpu {
                    // Measured with autoencoders of 8 and of 96 channels: oneDNN keeps copies of feature maps in layouts
                    // of its own, of which narrow ones are padded, and the frames of a block are fp32.
                    pixels * (CPU_PER_PIXEL + CPU_PER_CHANNEL * size.dim() * bytes(kind))
                } else {
                    // Three feature maps of the last stage for the four frames of a latent.
                    3 * 4 * size.dim() * pixels * bytes(kind)
                };
                (
                    size.parameters() * bytes(kind),
                    size.decoder_cache(rows, columns) * bytes(kind),
                    size.encoder_cache(rows, columns) * bytes(kind),
                    peak,
                )
            }
            AutoencoderPlan::Tiny(kind) => {
                let frame = 64 * request.width * request.height * bytes(kind);
                (
                    TAEHV_PARAMETERS * bytes(kind),
                    3 * (256 + 4 * 128 + 16 * 64) * rows * columns * bytes(kind),
                    3 * (1 + 4 + 16) * 64 * rows * columns * bytes(kind),
                    12 * frame,
                )
            }
        };
        let text = request.text.map_or(0, |(size, kind)| {
            let left_out = if request.embedding_elsewhere { size.embedding() } else { 0 };
            (size.parameters() - left_out) * bytes(kind)
        });
        let each = request.sessions.max(1);
        let parts = vec![
            (part::TRANSFORMER, transformer),
            (part::TEXT, text),
            (part::AUTOENCODER, weights),
            (part::KV_CACHE, each * (request.window + request.block) * per_frame * per_token),
            (part::CROSS_CACHE, each * dit.text_len as u64 * per_token),
            (part::DECODER_CACHE, each * decoder),
            (part::ENCODER_CACHE, if request.input { each * encoder } else { 0 }),
            (part::ACTIVATIONS, transformer_peak.max(autoencoder_peak)),
        ];
        Plan { parts }
    }

    /// Bytes of one part; 0 if there is no such part.
    pub fn get(&self, name: &str) -> u64 {
        self.parts.iter().filter(|(part, _)| *part == name).map(|(_, bytes)| bytes).sum()
    }

    /// Bytes of everything.
    pub fn total(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        for (name, bytes) in self.parts.iter().filter(|(_, bytes)| *bytes > 0) {
            write!(f, "{name} {:.2}, ", gigabytes(*bytes))?;
        }
        write!(f, "together {:.2} GB", gigabytes(self.total()))
    }
}

/// Bytes for each pixel that decoding takes on the CPU, whatever the autoencoder's width; see `benches/memory.py`.
const CPU_PER_PIXEL: u64 = 1900;
/// Numbers for each pixel and each channel of the outermost stage.
const CPU_PER_CHANNEL: u64 = 51;

/// Numbers in the weights of taew2_1.
const TAEHV_PARAMETERS: u64 = 11_311_000;

fn bytes(kind: Kind) -> u64 {
    kind.elt_size_in_bytes() as u64
}

/// Bytes free on a device now, as far as can be found out: the kernel's estimate for the CPU,
/// the driver's for CUDA.
pub fn free(device: Device) -> Option<u64> {
    match device {
        Device::Cpu => {
            let text = std::fs::read_to_string("/proc/meminfo").ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
        }
        Device::Cuda(index) => {
            // libtorch's C interface cannot be asked; the driver's tool comes with every driver.
            let query = ["--query-gpu=memory.free", "--format=csv,noheader,nounits", "--id"];
            let output = Command::new("nvidia-smi").args(query).arg(index.to_string()).output().ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse::<u64>().ok().map(|mebibytes| mebibytes << 20)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(dit: DitConfig, width: u64, height: u64) -> Request {
        Request {
            dit,
            stored: Kind::BFloat16,
            compute: Kind::BFloat16,
            autoencoder: AutoencoderPlan::Wan(VaeSize::WAN_2_1, Kind::Half),
            text: Some((TextSize::UMT5_XXL, Kind::BFloat16)),
            embedding_elsewhere: false,
            width,
            height,
            block: 3,
            window: 3,
            input: true,
            sessions: 1,
            on_cpu: false,
        }
    }

    #[track_caller]
    fn close(made: u64, gigabytes: f64) {
        let made = made as f64 / 1e9;
        assert!((made / gigabytes - 1.0).abs() <= 0.02, "{made} GB for {gigabytes} GB");
    }

    #[test]
    fn the_plan_is_the_specifications() {
        let plan = Plan::new(&request(DitConfig::T2V_14B, 832, 480));
        close(plan.get(part::TRANSFORMER), 28.58);
        close(plan.get(part::TEXT), 11.36);
        close(plan.get(part::AUTOENCODER), 0.2538);
        close(plan.get(part::KV_CACHE), 7.67);
        close(plan.get(part::CROSS_CACHE), 0.42);
        close(plan.get(part::DECODER_CACHE), 1.89);
        assert!(plan.get(part::ACTIVATIONS) < 3_000_000_000);
        close(plan.total(), 52.0);
        close(Plan::new(&request(DitConfig::T2V_14B, 640, 352)).get(part::KV_CACHE), 4.33);
        close(Plan::new(&request(DitConfig::T2V_14B, 576, 320)).get(part::KV_CACHE), 3.54);
        let small = Plan::new(&request(DitConfig::T2V_1_3B, 832, 480));
        close(small.get(part::TRANSFORMER), 2.84);
        close(small.get(part::KV_CACHE), 1.73);
    }

    #[test]
    fn fp8_and_an_embedding_elsewhere_save_what_they_should() {
        let fp8 = Request {
            stored: Kind::Float8e4m3fn,
            text: Some((TextSize::UMT5_XXL, Kind::Float8e4m3fn)),
            ..request(DitConfig::T2V_14B, 832, 480)
        };
        close(Plan::new(&fp8).get(part::TRANSFORMER), 14.5);
        let lean = Request { embedding_elsewhere: true, ..request(DitConfig::T2V_14B, 832, 480) };
        close(Plan::new(&lean).get(part::TEXT), 11.36 - 2.1);
    }

    #[test]
    fn the_cpu_has_memory() {
        assert!(free(Device::Cpu).is_none_or(|bytes| bytes > 1 << 20));
    }
}
