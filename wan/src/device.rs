//! Which device computes, and in which precision.

use std::fmt;
use std::str::FromStr;

use tch::{Cuda, Device, Kind};

use crate::{Error, Result};

/// What the user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// bf16 where the device multiplies it in hardware, else fp32.
    #[default]
    Auto,
    /// 32-bit floats everywhere.
    Fp32,
    /// bf16 transformer and text encoder.
    Bf16,
    /// IEEE half precision.
    Fp16,
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Precision::Auto),
            "fp32" | "float32" => Ok(Precision::Fp32),
            "bf16" | "bfloat16" => Ok(Precision::Bf16),
            "fp16" | "float16" => Ok(Precision::Fp16),
            _ => Err(Error::parameter(format!("the precision {text} is not known: auto, fp32, bf16 or fp16"))),
        }
    }
}

/// The device and the precision of each network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Where everything is computed.
    pub device: Device,
    /// What the transformer and the text encoder compute in.
    pub transformer: Kind,
    /// What the autoencoder computes in.
    pub autoencoder: Kind,
}

impl Choice {
    /// Resolves `auto`, `cpu`, `cuda` or `cuda:N`. A device that is asked for by name is used or is
    /// an error; only `auto` falls back to the CPU.
    pub fn new(device: &str, precision: Precision) -> Result<Self> {
        let device = match device {
            "cpu" => Device::Cpu,
            "auto" if Cuda::is_available() => Device::Cuda(0),
            "auto" => Device::Cpu,
            "cuda" => cuda(0)?,
            _ => match device.strip_prefix("cuda:").and_then(|index| index.parse().ok()) {
                Some(index) => cuda(index)?,
                None => {
                    return Err(Error::Device(format!("the device {device} is not known: auto, cpu, cuda or cuda:N")));
                }
            },
        };
        let fast = match device {
            Device::Cpu => cpu_multiplies_bf16(),
            _ => true,
        };
        let transformer = match precision {
            Precision::Auto if fast => Kind::BFloat16,
            Precision::Auto | Precision::Fp32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
            Precision::Fp16 => Kind::Half,
        };
        // Pictures need the mantissa more than the range; the CPU's fp16 convolutions are slow.
        let autoencoder = match (device, transformer) {
            (_, Kind::Float) => Kind::Float,
            (Device::Cpu, kind) => kind,
            _ => Kind::Half,
        };
        Ok(Choice { device, transformer, autoencoder })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let device = match self.device {
            Device::Cuda(index) => format!("cuda:{index}"),
            _ => "cpu".to_owned(),
        };
        write!(f, "{device}, transformer in {:?}, autoencoder in {:?}", self.transformer, self.autoencoder)
    }
}

fn cuda(index: usize) -> Result<Device> {
    if !Cuda::is_available() {
        return Err(Error::Device(
            "CUDA cannot be used: this libtorch has no CUDA part, or no driver answers it".into(),
        ));
    }
    let count = Cuda::device_count();
    if index as i64 >= count {
        return Err(Error::Device(format!("cuda:{index} is not there: this machine has {count} CUDA devices")));
    }
    Ok(Device::Cuda(index))
}

/// Whether bf16 products are instructions of this CPU (AVX512-BF16, which every CPU with AMX has too).
fn cpu_multiplies_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("bf16");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_device_is_refused() {
        assert!(Choice::new("tpu", Precision::Auto).is_err());
        assert!(Choice::new("cuda:x", Precision::Auto).is_err());
    }

    #[test]
    fn precision_overrides_the_device() {
        assert_eq!(Choice::new("cpu", Precision::Fp32).unwrap().transformer, Kind::Float);
        assert_eq!(Choice::new("cpu", Precision::Bf16).unwrap().transformer, Kind::BFloat16);
    }
}
