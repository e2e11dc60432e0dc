//! `krea devices`: the cameras and GPUs of this machine.

use std::io::Write;

use clap::Args;

use crate::error::{Error, Exit, Result};
use crate::runtime::gpu;
use crate::source::{Camera, Format, cameras};

/// List the cameras of this machine, with their formats, and its GPUs
#[derive(Args)]
pub(super) struct DevicesArgs {
    /// As one JSON object: of each camera its index, device, name, id and formats (fourcc, and sizes with their fps), or
    /// the error why it cannot be asked; of each GPU its name and memory
    #[arg(long)]
    json: bool,
}

impl DevicesArgs {
    pub(super) fn run(&self) -> Result<Exit> {
        let cameras: Vec<(Camera, Result<Vec<Format>>)> =
            cameras().into_iter().map(|camera| (camera.clone(), camera.formats())).collect();
        let gpus = gpu::gpus();
        let text = if self.json { json(&cameras, &gpus) } else { text(&cameras, &gpus) };
        match std::io::stdout().lock().write_all(text.as_bytes()) {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Error::Closed),
            Err(e) => Err(Error::Output(format!("standard output: {e}"))),
            Ok(()) => Ok(Exit::Done),
        }
    }
}

fn json(cameras: &[(Camera, Result<Vec<Format>>)], gpus: &[gpu::Gpu]) -> String {
    let camera = |(camera, formats): &(Camera, Result<Vec<Format>>)| {
        let mut told = serde_json::to_value(camera).unwrap_or_default();
        told["formats"] = serde_json::to_value(formats.as_deref().unwrap_or_default()).unwrap_or_default();
        told["error"] = formats.as_ref().err().map(ToString::to_string).into();
        told
    };
    let cameras: Vec<_> = cameras.iter().map(camera).collect();
    serde_json::json!({ "cameras": cameras, "gpus": gpus }).to_string() + "\n"
}

fn text(cameras: &[(Camera, Result<Vec<Format>>)], gpus: &[gpu::Gpu]) -> String {
    let mut text = String::from("Cameras:\n");
    for (camera, formats) in cameras {
        text += &format!("  {:<3} {} ({})\n", camera.index, camera.name, camera.device);
        match formats {
            Ok(formats) if formats.is_empty() => text += "        it tells no formats\n",
            Ok(formats) => formats.iter().for_each(|f| text += &format!("        {}\n", line(f))),
            Err(error) => text += &format!("        its formats cannot be asked for: {error}\n"),
        }
    }
    text += if cameras.is_empty() { "  none\nGPUs:\n" } else { "GPUs:\n" };
    for gpu in gpus {
        let memory = gpu.memory_mib.map_or(String::new(), |m| format!(", {m} MiB"));
        text += &format!("  {}{memory}\n", gpu.name);
    }
    text + if gpus.is_empty() { "  none that NVIDIA's driver knows\n" } else { "" }
}

/// `YUYV  640x480 at 30 15, 1280x720 at 10`
fn line(format: &Format) -> String {
    let rate = |r: &ffmpeg_next::Rational| ((f64::from(*r) * 100.0).round() / 100.0).to_string();
    let size = |size: &crate::source::Size| {
        let rates: Vec<String> = size.fps.iter().map(rate).collect();
        let at = if rates.is_empty() { "" } else { " at " };
        format!("{}x{}{at}{}", size.width, size.height, rates.join(" "))
    };
    let sizes: Vec<String> = format.sizes.iter().map(size).collect();
    format!("{}  {}", format.fourcc, if sizes.is_empty() { "it tells no sizes".to_owned() } else { sizes.join(", ") })
}
