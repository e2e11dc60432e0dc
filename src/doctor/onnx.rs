//! ONNX Runtime: where it is, what it is built for, and where the embedded model really computes.

use std::path::Path;
use std::time::Instant;

use ort::ep::{self, ExecutionProvider};

use super::{Finding, halves};
use crate::error::Error;
use crate::mask::selfie::LANDSCAPE;
use crate::mask::session::{Model, Session};
use crate::runtime::Device;
use crate::runtime::onnx::{Runtime, Search};

pub(super) fn look() -> Finding {
    let mut finding = Finding::default();
    let runtime = match Runtime::load(&Search::of_this_machine()) {
        Ok(runtime) => runtime,
        Err(error) => {
            let (text, remedy) = halves(&error.to_string());
            finding.blocked(text, remedy);
            return finding;
        }
    };
    let (version, path) = (&runtime.library.version, runtime.library.path.display().to_string());
    let built_for: Vec<Device> = [Device::Cuda, Device::TensorRt, Device::OpenVino, Device::CoreMl]
        .into_iter()
        .filter(|device| is_built_in(*device))
        .collect();
    let names: Vec<&str> = std::iter::once("cpu").chain(built_for.iter().map(|d| d.name())).collect();
    finding.ok(format!("{version}, built for {}: {path}", names.join(", ")));
    finding.fact("version", version.as_str());
    finding.fact("path", path);
    finding.fact("built_for", names);
    match tried(&runtime, Device::Cpu) {
        Ok(trial) => finding.ok(format!("--device cpu: the embedded model ran, {}", trial.words())),
        Err(error) => finding.blocked(
            format!("--device cpu: the embedded model does not run: {error}"),
            "Install it again: pip install --force-reinstall onnxruntime",
        ),
    }
    for device in &built_for {
        match tried(&runtime, *device) {
            Ok(trial) => finding.ok(format!("--device {device}: the embedded model ran, {}", trial.words())),
            Err(error) => {
                let text = error.to_string();
                let remedy = remedy(*device);
                // What a build brings for other machines' devices is no fault of this one.
                match nvidia() && matches!(device, Device::Cuda | Device::TensorRt) {
                    true => finding.wrong(text, remedy),
                    false => finding.absent(text, remedy),
                }
            }
        }
    }
    if nvidia() && !built_for.contains(&Device::Cuda) {
        finding.wrong(
            "there is an NVIDIA GPU, but this ONNX Runtime is built without CUDA: masks run on the CPU",
            "pip install onnxruntime-gpu",
        );
    }
    if let Ok(trial) = tried(&runtime, Device::Auto) {
        finding.ok(format!("--device auto takes {}", trial.provider));
        finding.fact("auto", trial.provider);
    }
    finding
}

fn remedy(device: Device) -> &'static str {
    match device {
        Device::Cuda => "Install NVIDIA's driver, and: pip install 'onnxruntime-gpu[cuda,cudnn]'",
        Device::TensorRt => "pip install tensorrt, or leave it: --device cuda and cpu do without",
        _ => "Install the runtime of this device, or leave it: --device cpu does without",
    }
}

fn is_built_in(device: Device) -> bool {
    match device {
        Device::Cuda => ep::CUDA::is_available(),
        Device::TensorRt => ep::TensorRT::is_available(),
        Device::OpenVino => ep::OpenVINO::is_available(),
        Device::CoreMl => ep::CoreML::is_available(),
        Device::Auto | Device::Cpu => return true,
    }
    .unwrap_or(false)
}

/// Whether NVIDIA's kernel module is there.
pub(super) fn nvidia() -> bool {
    ["/proc/driver/nvidia/version", "/dev/nvidiactl"].iter().any(|path| Path::new(path).exists())
}

struct Trial {
    provider: String,
    load: f64,
    run: f64,
}

impl Trial {
    fn words(&self) -> String {
        format!("on {}: {:.0} ms to load, {:.1} ms a picture", self.provider, self.load, self.run)
    }
}

/// Loads the embedded model and runs it, the second time by the clock.
fn tried(runtime: &Runtime, device: Device) -> Result<Trial, Error> {
    let begun = Instant::now();
    let model = Model::Embedded { name: "the embedded model", bytes: LANDSCAPE };
    let mut session = Session::open(runtime, model, device, 1)?;
    let load = begun.elapsed().as_secs_f64() * 1e3;
    let broken = |why: String| Error::Device(format!("--device {device}: {why}"));
    let (layout, size) = session.image().map_err(broken)?;
    let (width, height) = size.unwrap_or((256, 144));
    let picture = vec![0.5; 3 * width * height];
    let mut run = 0.0;
    for _ in 0..2 {
        let begun = Instant::now();
        session.run(layout.shape((width, height)), &picture, |_| ()).map_err(broken)?;
        run = begun.elapsed().as_secs_f64() * 1e3;
    }
    Ok(Trial { provider: session.provider, load, run })
}
