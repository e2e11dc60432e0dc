//! Finds the heavy runtimes on this machine when the program runs, and says which device is really used.

pub mod onnx;
pub mod torch;

use std::fmt;
use std::str::FromStr;

/// Where networks compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The best device that works; falling back to the CPU is told, not hidden.
    #[default]
    Auto,
    Cpu,
    Cuda,
    TensorRt,
    OpenVino,
    CoreMl,
}

impl Device {
    pub const ALL: [Self; 6] = [Self::Auto, Self::Cpu, Self::Cuda, Self::TensorRt, Self::OpenVino, Self::CoreMl];

    /// The word on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
            Self::OpenVino => "openvino",
            Self::CoreMl => "coreml",
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|d| d.name().eq_ignore_ascii_case(s)).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|d| d.name()).collect();
            format!("'{s}' is not a device: one of {}", names.join(", "))
        })
    }
}
