//! Opens the model and joins the stages of a generation.

use std::path::Path;
use std::sync::Arc;

use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};
use serde_json::{Value, json};

use super::geometry::{Geometry, Part};
use super::outline::Outline;
use super::settings::{Autoencoder, Precision, Preset, Settings};
use super::speed::Speed;
use super::stage::{GenerateStage, Options, Stats};
use super::steering::Steering;
use super::wan::{Memory, Wan};
use super::{Compat, FitStage, Generator, PasteStage};
use crate::error::{Error, Result};
use crate::models::{Bundle, Library, Offer, Transfer, bytes_in_words};
use crate::pipeline::{Control, Stage};
use crate::runtime::Device;

/// A generation that is ready to run.
pub struct Opened {
    pub stages: Vec<Box<dyn Stage>>,
    /// Model, device and precisions, in words.
    pub description: String,
    pub stats: Arc<Stats>,
    pub steering: Steering,
    pub speed: Speed,
}

/// Finds the model's files, and fetches them if somebody agrees to it.
pub(crate) fn find(settings: &Settings, live: bool, progress: &mut Transfer) -> Result<Bundle> {
    let library = Library::of_this_machine();
    let model = match &settings.model {
        Some(model) => model.clone(),
        None => usual(&library)?,
    };
    let offer = Offer::here(settings.offline);
    if let Some(asked) = settings.autoencoder {
        return library.bundle(&model, asked == Autoencoder::Tae, offer, progress);
    }
    // What the preset prefers is no more than a wish: what is here already will do.
    let tiny = settings.preset(live).autoencoder() == Autoencoder::Tae;
    for choice in [tiny, !tiny] {
        if let Ok(bundle) = library.bundle(&model, choice, Offer::Refuse, progress) {
            return Ok(bundle);
        }
    }
    library.bundle(&model, tiny, offer, progress)
}

/// The larger of the models that are here; else the one that most machines can run.
fn usual(library: &Library) -> Result<String> {
    const KNOWN: [&str; 2] = ["krea-14b", "self-forcing-1.3b"];
    for name in KNOWN {
        if library.locate(library.model(name)?)?.is_some() {
            return Ok(name.to_owned());
        }
    }
    Ok(KNOWN[1].to_owned())
}

/// libtorch and the plugin, and what is going to be asked of them.
pub(crate) struct Prepared {
    wan: Wan,
    models: Value,
    session: Value,
    pub(crate) memory: Memory,
    /// The text encoder leaves the device because there is no room for it.
    pub(crate) text_on_cpu: bool,
    pub(crate) bundle: Bundle,
    pub(crate) speed: Speed,
}

impl Prepared {
    /// Makes the plan, without loading anything.
    pub(crate) fn new(settings: &Settings, outline: &Outline, bundle: Bundle) -> Result<Self> {
        let device = device(settings.device);
        let wan = Wan::open(device != "cpu")?;
        if let (Device::Cuda | Device::TensorRt, Some(why)) = (settings.device, wan.without_cuda()) {
            return Err(Error::Device(format!("--device {}: {why}", settings.device)));
        }
        let session = session_request(settings, outline);
        let mut models = models_request(settings, outline, &bundle, device);
        let mut memory = wan.plan(&models)?;
        let text_on_cpu = !memory.fits();
        if text_on_cpu {
            models["text_on_cpu"] = true.into();
            memory = wan.plan(&models)?;
        }
        if !memory.fits() {
            return Err(too_large(&wan, &models, &memory, &bundle.name));
        }
        let speed = Speed::new(settings, outline, &bundle);
        Ok(Self { wan, models, session, memory, text_on_cpu, bundle, speed })
    }

    /// Loads the model, and gives it its first prompt and picture.
    pub(crate) fn open(self, settings: &Settings, outline: &Outline, show: bool, control: Control) -> Result<Opened> {
        let geometry = outline.geometry;
        let mut generator = self.wan.session(&self.models, &self.session, geometry.model, control.clone())?;
        let description = format!("{} on {}", self.bundle.name, generator.describe()?);
        generator.prompt(settings.timeline.first(), 1)?;
        if let Some(path) = &settings.start_image {
            let picture = start_picture(path, geometry.model, settings)?;
            generator.start_from(&picture, picture.width(), picture.height())?;
        }
        let options = Options {
            timeline: settings.timeline.clone(),
            start: settings.start,
            blend: settings.blend,
            text_only: outline.text_only,
            reset_on_cut: settings.reset_on_cut.unwrap_or(!outline.live),
            live: outline.live,
        };
        let steering = Steering::default();
        let stage = GenerateStage::new(Box::new(generator), options, steering.clone(), control);
        let stats = stage.stats();
        let mut stages: Vec<Box<dyn Stage>> = Vec::new();
        if !outline.text_only {
            stages.push(Box::new(FitStage::new(geometry, outline.rate, outline.keeps, show, outline.live)));
        }
        stages.push(Box::new(stage));
        stages.push(Box::new(PasteStage::new(geometry, settings.region, outline.output.clone())));
        Ok(Opened { stages, description, stats, steering, speed: self.speed })
    }
}

/// Says how much is missing, and which flags would make it fit.
fn too_large(wan: &Wan, models: &Value, memory: &Memory, name: &str) -> Error {
    let (live, draft) = (Some(Preset::Live.size()), Some(Preset::Draft.size()));
    let tries = [(false, live), (false, draft), (true, None), (true, live), (true, draft)];
    let pixels = |fit: &Value| fit["width"].as_u64().unwrap_or(0) * fit["height"].as_u64().unwrap_or(0);
    let fits = |(fp8, size): &(bool, Option<(u32, u32)>)| {
        let mut request = models.clone();
        if let Some((w, h)) = size {
            (request["fit"]["width"], request["fit"]["height"]) = ((*w).into(), (*h).into());
        }
        if *fp8 {
            request["fp8"] = true.into();
        }
        pixels(&request["fit"]) <= pixels(&models["fit"]) && wan.plan(&request).is_ok_and(|plan| plan.fits())
    };
    let remedy = match tries.into_iter().find(fits) {
        Some((fp8, size)) => {
            let size = size.map(|(w, h)| format!(" --gen-size {w}x{h}")).unwrap_or_default();
            format!("it fits with{size}{}", if fp8 { " --precision fp8" } else { "" })
        }
        None => "a smaller model or a device with more memory is needed".to_owned(),
    };
    let parts: Vec<_> = memory.parts.iter().filter(|(_, b)| **b > 0).collect();
    let parts: Vec<_> = parts.iter().map(|(part, bytes)| format!("{part} {}", bytes_in_words(**bytes))).collect();
    Error::Device(format!(
        "{name} does not fit: {} are needed ({}) and {} are free; {remedy}",
        bytes_in_words(memory.total),
        parts.join(", "),
        bytes_in_words(memory.free.unwrap_or(0))
    ))
}

/// As the plugin calls it. Networks for masks have more devices than the generator.
fn device(wanted: Device) -> &'static str {
    match wanted {
        Device::Auto => "auto",
        Device::Cuda | Device::TensorRt => "cuda",
        Device::Cpu | Device::OpenVino | Device::CoreMl => "cpu",
    }
}

fn models_request(settings: &Settings, outline: &Outline, bundle: &Bundle, device: &str) -> Value {
    let mut files = json!({ "dit": bundle.dit, "text": bundle.text, "tokenizer": bundle.tokenizer });
    for (name, path) in [("vae", &bundle.vae), ("taehv", &bundle.taehv)] {
        if let Some(path) = path {
            files[name] = json!(path);
        }
    }
    let (width, height) = outline.geometry.model;
    let fit = json!({ "width": width, "height": height, "window": settings.window, "input": !outline.text_only });
    json!({
        "files": files,
        "device": device,
        "precision": settings.precision.name(),
        "fp8": settings.precision == Precision::Fp8,
        "threads": settings.threads,
        "heads": bundle.heads,
        "text_len": bundle.text_len,
        "fit": fit,
    })
}

fn session_request(settings: &Settings, outline: &Outline) -> Value {
    let (width, height) = outline.geometry.model;
    let mut request = json!({
        "width": width,
        "height": height,
        "window": settings.window,
        "steps": settings.steps.unwrap_or(settings.preset(outline.live).steps()),
        "shift": settings.shift,
        "strength": settings.strength,
        "seed": settings.seed,
    });
    if settings.compat == Some(Compat::Krea) {
        request["compat_krea"] = true.into();
        request["reference_noise"] = match (outline.text_only, outline.output.frames) {
            (true, Some(frames)) => json!({ "text": 1 + frames.saturating_sub(9).div_ceil(12) }),
            // The reference draws the noise of a file at once, for which its length must be known.
            (false, Some(frames)) if !outline.live => {
                let latents = 1 + frames.saturating_sub(1) / 4;
                json!({ "video": [latents.div_ceil(3), latents] })
            }
            _ => json!("live"),
        };
    }
    request
}

/// A picture file, upright, cut or padded to the model's shape.
fn start_picture(path: &Path, model: (u32, u32), settings: &Settings) -> Result<RgbImage> {
    let wrong = |e: String| Error::Input(format!("{}: is no picture to start from: {e}", path.display()));
    let reader =
        ImageReader::open(path).and_then(ImageReader::with_guessed_format).map_err(|e| wrong(e.to_string()))?;
    let mut decoder = reader.into_decoder().map_err(|e| wrong(e.to_string()))?;
    let orientation = decoder.orientation().map_err(|e| wrong(e.to_string()))?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(|e| wrong(e.to_string()))?;
    picture.apply_orientation(orientation);
    let Geometry { seen, painted, .. } = Geometry::new((picture.width(), picture.height()), model, settings.fit());
    let Part { left, top, width, height } = seen;
    let part = picture.crop_imm(left, top, width, height).resize_exact(
        painted.width,
        painted.height,
        image::imageops::FilterType::CatmullRom,
    );
    let mut canvas = RgbImage::new(model.0, model.1);
    image::imageops::overlay(&mut canvas, &part.to_rgb8(), painted.left.into(), painted.top.into());
    Ok(canvas)
}
