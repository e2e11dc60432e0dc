//! `krea devices`: the cameras and GPUs of this machine.

use std::io::Write;

use clap::Args;

use crate::error::{Error, Exit, Result};
use crate::runtime::gpu;
use crate::source::cameras;

/// List the cameras and GPUs of this machine
#[derive(Args)]
pub(super) struct DevicesArgs {
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

impl DevicesArgs {
    pub(super) fn run(&self) -> Result<Exit> {
        let (cameras, gpus) = (cameras(), gpu::gpus());
        let text = if self.json {
            serde_json::json!({ "cameras": cameras, "gpus": gpus }).to_string() + "\n"
        } else {
            let mut text = String::from("Cameras:\n");
            for camera in &cameras {
                text += &format!("  {:<3} {} ({})\n", camera.index, camera.name, camera.device);
            }
            text += if cameras.is_empty() { "  none\nGPUs:\n" } else { "GPUs:\n" };
            for gpu in &gpus {
                let memory = gpu.memory_mib.map_or(String::new(), |m| format!(", {m} MiB"));
                text += &format!("  {}{memory}\n", gpu.name);
            }
            text + if gpus.is_empty() { "  none that NVIDIA's driver knows\n" } else { "" }
        };
        match std::io::stdout().lock().write_all(text.as_bytes()) {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Err(Error::Closed),
            Err(e) => Err(Error::Output(format!("standard output: {e}"))),
            Ok(()) => Ok(Exit::Done),
        }
    }
}
