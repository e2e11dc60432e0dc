//! Cameras, as `krea devices` lists them, and whether this user may open them.

use std::fs::File;

use super::Finding;
use crate::source::cameras;

pub(super) fn look() -> Finding {
    let mut finding = Finding::default();
    let cameras = cameras();
    for camera in &cameras {
        let words = format!("{} {} ({})", camera.index, camera.name, camera.device);
        match File::options().read(true).write(true).open(&camera.device) {
            Ok(_) => finding.ok(words),
            Err(e) => finding.wrong(
                format!("{words}: {e}"),
                "If it is permission: sudo usermod -aG video $USER, then log in again. If it is busy: another program has it",
            ),
        }
    }
    if cameras.is_empty() {
        finding.absent("none", "Connect one; in a container, pass it in: docker run --device /dev/video0");
    }
    finding.fact("cameras", serde_json::to_value(&cameras).unwrap_or_default());
    finding
}
