//! A network on ONNX Runtime: what goes in, what comes out, and on which device it really runs.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use half::f16;
use half::slice::HalfFloatSliceExt;
use ort::ep::{self, ExecutionProvider};
use ort::logging::LogLevel;
use ort::session::Session as OrtSession;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::{DynValue, TensorElementType, TensorRef};

use super::letterbox::Layout;
use crate::error::{Error, Result};
use crate::runtime::Device;
use crate::runtime::onnx::Runtime;

/// Where the network's bytes come from.
#[derive(Clone, Copy)]
pub enum Model<'a> {
    File(&'a Path),
    /// What a file holds, changed.
    Changed {
        path: &'a Path,
        bytes: &'a [u8],
    },
    Embedded {
        name: &'static str,
        bytes: &'static [u8],
    },
}

impl Model<'_> {
    /// How messages call it.
    pub fn label(&self) -> String {
        match self {
            Self::File(path) | Self::Changed { path, .. } => path.display().to_string(),
            Self::Embedded { name, .. } => (*name).to_owned(),
        }
    }
}

/// A tensor as the model declares it; -1 is a dimension that the model leaves open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    pub shape: Vec<i64>,
    pub element: TensorElementType,
}

/// An output of one run: `data` in row-major order, as `f32` whatever the model's own type.
pub struct Output<'a> {
    pub name: &'a str,
    pub shape: Vec<usize>,
    pub data: Cow<'a, [f32]>,
}

/// A loaded network with one image input.
pub struct Session {
    session: OrtSession,
    pub input: Port,
    pub outputs: Vec<Port>,
    /// The execution provider that really runs it, as ONNX Runtime names it, without "ExecutionProvider".
    pub provider: String,
    /// What `Device::Auto` tried in vain before it took the CPU.
    pub fallback: Option<String>,
    /// Class names of the training, where the exporter wrote them down (Ultralytics: `{0: 'person', ...}`).
    pub names: Option<String>,
    halves: Vec<f16>,
    bytes: Vec<u8>,
}

impl Session {
    /// Loads `model` for `device` with `threads` threads of its own. An explicit device is used or refused.
    pub fn open(runtime: &Runtime, model: Model<'_>, device: Device, threads: usize) -> Result<Self> {
        if device != Device::Auto {
            return Self::open_on(runtime, model, device, threads);
        }
        let mut fallback = None;
        for device in [Device::Cuda, Device::CoreMl] {
            if offered(device) {
                match Self::open_on(runtime, model, device, threads) {
                    Ok(session) => return Ok(session),
                    Err(Error::Device(why)) => fallback = Some(why),
                    Err(other) => return Err(other),
                }
            }
        }
        Ok(Self { fallback, ..Self::open_on(runtime, model, Device::Cpu, threads)? })
    }

    fn open_on(runtime: &Runtime, model: Model<'_>, device: Device, threads: usize) -> Result<Self> {
        let label = model.label();
        let broken = |why: String| {
            let first = why.lines().next().unwrap_or_default();
            Error::Model(format!("{label} is damaged or not an ONNX model (ONNX Runtime says: {first})"))
        };
        if let Model::File(path) = model {
            let file = std::fs::metadata(path).map_err(|e| Error::Model(format!("{label}: {e}")))?;
            if file.len() == 0 {
                return Err(Error::Model(format!("{label} is empty; download it again")));
            }
        }
        let placements = Placements::default();
        let mut builder = options(runtime, threads).map_err(|e| Error::Device(e.to_string()))?;
        if provider_name(device).is_some() {
            builder = with_device(builder, device, &placements).map_err(|e| {
                Error::Device(format!(
                    "--device {device}: the ONNX Runtime at {} cannot use it ({}). Use --device cpu, or install the build of ONNX Runtime for this device.",
                    runtime.library.path.display(),
                    e.lines().next().unwrap_or_default()
                ))
            })?;
        }
        let session = match model {
            Model::File(path) => builder.commit_from_file(path),
            Model::Embedded { bytes, .. } | Model::Changed { bytes, .. } => builder.commit_from_memory(bytes),
        }
        .map_err(|e| broken(e.to_string()))?;
        let provider = match provider_name(device) {
            None => "CPU".to_owned(),
            Some(wanted) => {
                let used = placements.busiest();
                if used != wanted {
                    return Err(Error::Device(format!(
                        "--device {device}: ONNX Runtime {} put {label} on {used} instead of {wanted}. Use --device cpu or auto.",
                        runtime.library.version
                    )));
                }
                used
            }
        };
        let port = |outlet: &ort::value::Outlet| {
            let shape = outlet.dtype().tensor_shape().map(|s| s.to_vec()).unwrap_or_default();
            let element = outlet.dtype().tensor_type().unwrap_or(TensorElementType::Undefined);
            Port { name: outlet.name().to_owned(), shape, element }
        };
        let inputs: Vec<_> = session.inputs().iter().map(port).collect();
        let outputs: Vec<_> = session.outputs().iter().map(port).collect();
        let names = session.metadata().ok().and_then(|m| m.custom("names"));
        let [input] = <[Port; 1]>::try_from(inputs)
            .map_err(|all| Error::Model(format!("{label} has {} inputs; one image was expected", all.len())))?;
        Ok(Self { session, input, outputs, provider, fallback: None, names, halves: Vec::new(), bytes: Vec::new() })
    }

    /// Whether the image goes in as 3 x H x W or H x W x 3, and its size (width, height) where the model fixes it.
    pub fn image(&self) -> Result<(Layout, Option<(usize, usize)>), String> {
        let (layout, h, w) = match self.input.shape[..] {
            [1 | -1, 3, h, w] => (Layout::Nchw, h, w),
            [1 | -1, h, w, 3] => (Layout::Nhwc, h, w),
            _ => return Err(format!("its input is {}, not one RGB image", self.input)),
        };
        use TensorElementType::{Float16, Float32, Uint8};
        if ![Float32, Float16, Uint8].contains(&self.input.element) {
            return Err(format!("its input is {}; float32, float16 or uint8 was expected", self.input));
        }
        let size = (h > 0 && w > 0).then_some((w as usize, h as usize));
        Ok((layout, size))
    }

    /// Runs the network on one image of `shape`. Numbers are in the range of a float network; a network that takes
    /// bytes gets them times 255.
    pub fn run<R>(
        &mut self,
        shape: [usize; 4],
        image: &[f32],
        read: impl FnOnce(&[Output<'_>]) -> R,
    ) -> Result<R, String> {
        let text = |e: ort::Error| e.to_string();
        let results = match self.input.element {
            TensorElementType::Float16 => {
                self.halves.resize(image.len(), f16::ZERO);
                self.halves.convert_from_f32_slice(image);
                let tensor = TensorRef::from_array_view((shape, &self.halves[..])).map_err(text)?;
                self.session.run(ort::inputs![tensor])
            }
            TensorElementType::Uint8 => {
                self.bytes.clear();
                self.bytes.extend(image.iter().map(|v| (v * 255.0 + 0.5) as u8));
                let tensor = TensorRef::from_array_view((shape, &self.bytes[..])).map_err(text)?;
                self.session.run(ort::inputs![tensor])
            }
            _ => {
                let tensor = TensorRef::from_array_view((shape, image)).map_err(text)?;
                self.session.run(ort::inputs![tensor])
            }
        }
        .map_err(text)?;
        let values: Vec<_> = results.iter().collect();
        let outputs: Vec<_> = values.iter().map(|(name, value)| extract(name, value)).collect::<Result<_, _>>()?;
        Ok(read(&outputs))
    }
}

/// Reads a tensor of any number type as `f32`, without a copy where it is that already.
fn extract<'a>(name: &'a str, value: &'a DynValue) -> Result<Output<'a>, String> {
    let text = |e: ort::Error| e.to_string();
    let element = value.dtype().tensor_type().ok_or_else(|| format!("output '{name}' is not a tensor"))?;
    let (shape, data): (_, Cow<'a, [f32]>) = match element {
        TensorElementType::Float32 => {
            let (shape, data) = value.try_extract_tensor::<f32>().map_err(text)?;
            (shape, Cow::Borrowed(data))
        }
        TensorElementType::Float16 => {
            let (shape, data) = value.try_extract_tensor::<f16>().map_err(text)?;
            let mut wide = vec![0.0; data.len()];
            data.convert_to_f32_slice(&mut wide);
            (shape, Cow::Owned(wide))
        }
        TensorElementType::Uint8 => {
            let (shape, data) = value.try_extract_tensor::<u8>().map_err(text)?;
            (shape, Cow::Owned(data.iter().map(|&v| f32::from(v) / 255.0).collect()))
        }
        other => return Err(format!("output '{name}' is {other}; float32, float16 or uint8 was expected")),
    };
    Ok(Output { name, shape: shape.iter().map(|&d| d as usize).collect(), data })
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<_> = self.shape.iter().map(|&d| if d < 0 { "?".into() } else { d.to_string() }).collect();
        write!(f, "'{}' {} [{}]", self.name, self.element, dims.join(","))
    }
}

fn options(runtime: &Runtime, threads: usize) -> ort::Result<SessionBuilder> {
    let builder = OrtSession::builder(&runtime.environment)?
        // Level3 is refused by ONNX Runtime 1.20; All is the same and is not.
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        // Spinning threads take the cores from the rest of the pipeline.
        .with_intra_op_spinning(false)?;
    Ok(builder)
}

/// ONNX Runtime's name for the device's provider, without "ExecutionProvider"; `None` for the CPU, which needs none.
fn provider_name(device: Device) -> Option<&'static str> {
    match device {
        Device::Auto | Device::Cpu => None,
        Device::Cuda => Some("CUDA"),
        Device::TensorRt => Some("Tensorrt"),
        Device::OpenVino => Some("OpenVINO"),
        Device::CoreMl => Some("CoreML"),
    }
}

/// Whether the loaded ONNX Runtime was built with the device's provider; it may still fail to start.
fn offered(device: Device) -> bool {
    match device {
        Device::Cuda => ep::CUDA::is_available(),
        Device::CoreMl => ep::CoreML::is_available(),
        _ => Ok(false),
    }
    .unwrap_or(false)
}

fn with_device(builder: SessionBuilder, device: Device, placements: &Placements) -> Result<SessionBuilder, String> {
    let provider = match device {
        Device::Cuda => ep::CUDA::default().build(),
        Device::TensorRt => ep::TensorRT::default().with_engine_cache(true).build(),
        Device::OpenVino => ep::OpenVINO::default().build(),
        Device::CoreMl => ep::CoreML::default().build(),
        Device::Auto | Device::Cpu => return Ok(builder),
    };
    let text = |e: ort::Error<SessionBuilder>| e.to_string();
    builder
        .with_execution_providers([provider.error_on_failure()])
        .map_err(text)?
        .with_log_level(LogLevel::Verbose)
        .map_err(text)?
        .with_logger(placements.logger())
        .map_err(text)
}

/// Counts the graph's nodes by provider from what ONNX Runtime logs while it loads a model: no call of its interface
/// up to 1.20 tells, and a provider that was registered may still have been given nothing.
#[derive(Clone, Default)]
struct Placements(Arc<Mutex<Vec<(String, usize)>>>);

impl Placements {
    fn logger(&self) -> ort::logging::LoggerFunction {
        let counts = self.0.clone();
        Arc::new(move |_: LogLevel, _: &str, _: &str, _: &str, message: &str| {
            if let Some(found) = parse_placement(message) {
                counts.lock().unwrap_or_else(PoisonError::into_inner).push(found);
            }
        })
    }

    /// The provider with the most nodes; the CPU if none was told.
    fn busiest(&self) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().max_by_key(|(_, nodes)| *nodes).map_or_else(|| "CPU".to_owned(), |(name, _)| name.clone())
    }
}

/// Reads `Node(s) placed on [CUDAExecutionProvider]. Number of nodes: 233`.
fn parse_placement(message: &str) -> Option<(String, usize)> {
    let (_, rest) = message.split_once("placed on [")?;
    let (name, rest) = rest.split_once("ExecutionProvider]")?;
    let nodes = rest.rsplit(": ").next()?.trim().parse().ok()?;
    Some((name.to_owned(), nodes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placements_are_read_from_the_log() {
        let one = "Node(s) placed on [CUDAExecutionProvider]. Number of nodes: 233";
        assert_eq!(parse_placement(one), Some(("CUDA".to_owned(), 233)));
        let all = "All nodes placed on [CPUExecutionProvider]. Number of nodes: 12";
        assert_eq!(parse_placement(all), Some(("CPU".to_owned(), 12)));
        assert_eq!(parse_placement("Node placements"), None);
    }
}
