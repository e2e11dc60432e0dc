//! From settings to a running stage: which model, which network code, how many copies, on which device.

use std::panic::resume_unwind;
use std::path::Path;

use crate::error::{Error, Result};
use crate::models::Manifest;
use crate::runtime::Device;
use crate::runtime::onnx::{Runtime, Search};

use super::coverage::Network;
use super::find::Places;
use super::live::Live;
use super::refit;
use super::rfdetr::RfDetr;
use super::selfie::{self, Selfie};
use super::session::{Model, Session};
use super::yolo::{self, Yolo};
use super::{MaskStage, ModelChoice, Settings};

/// The name that `auto` and the manual speak of.
const DEFAULT_NAME: &str = "yolov8n-seg";
/// More copies than this gain nothing: the rest of the pipeline is slower.
const MAX_COPIES: usize = 8;

/// A network and what there is to say about it.
pub struct Opened {
    pub network: Box<dyn Network>,
    /// Input width and height; `None` while it follows the frame's shape.
    pub canvas: Option<(usize, usize)>,
    pub provider: String,
    pub fallback: Option<String>,
    /// Cheap enough that one copy keeps up with any pipeline.
    pub light: bool,
}

/// The model that will be used.
#[derive(Clone)]
enum Chosen {
    File(std::path::PathBuf),
    Selfie,
}

impl Chosen {
    fn model(&self) -> Model<'_> {
        match self {
            Self::File(path) => Model::File(path),
            Self::Selfie => Model::Embedded { name: "the embedded selfie model", bytes: selfie::LANDSCAPE },
        }
    }

    /// The file's path, and the network in it for the input size that was asked for or that fits the frames; `None` if it is
    /// made in a way that krea does not know.
    fn changed(&self, settings: &Settings, source: (usize, usize)) -> Option<(&Path, Vec<u8>)> {
        let Self::File(path) = self else { return None };
        let model = std::fs::read(path).ok()?;
        let fixed = refit::fixed_size(&model)?;
        let asked = settings.mask_size.map(|(w, h)| (w as usize, h as usize));
        let size = asked.unwrap_or_else(|| refit::fitting(source, fixed));
        match refit::refit(&model, size) {
            Ok(bytes) => Some((path, bytes)),
            Err(why) => {
                tracing::debug!("{} is not fitted to the frame: {why}", path.display());
                None
            }
        }
    }
}

impl MaskStage {
    /// Loads ONNX Runtime and the model. `frame` is the width and height that the frames will have.
    pub fn open(settings: &Settings, places: &Places, search: &Search, frame: (u32, u32)) -> Result<Self> {
        let runtime = Runtime::load(search)?;
        let (chosen, mut notice) = choose(settings, places)?;
        let model = chosen.model();
        let label = match &chosen {
            Chosen::File(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Chosen::Selfie => model.label(),
        };
        // A light network would only disturb a GPU that has frames to generate.
        let device = match (&chosen, settings.device) {
            (Chosen::Selfie, Device::Auto) => Device::Cpu,
            (_, device) => device,
        };
        let threads = settings.threads.max(1);
        let own_threads = if settings.low_latency { threads } else { 1 };
        let source = (frame.0 as usize, frame.1 as usize);
        let changed = chosen.changed(settings, source);
        let fitted = changed.as_ref().and_then(|(path, bytes)| {
            let model = Model::Changed { path, bytes };
            Some((model, open_changed(&runtime, model, device, own_threads, settings)?))
        });
        let (model, first) = match fitted {
            Some(fitted) => fitted,
            None => (model, open_network(&runtime, model, device, own_threads, settings)?),
        };
        let copies = match first.provider.as_str() {
            _ if settings.low_latency || first.light => 1,
            "CPU" => threads.min(MAX_COPIES),
            _ => 1,
        };
        let (width, height) = first.canvas.unwrap_or_else(|| yolo::minimum_rectangle(source));
        let provider = first.provider.clone();
        if let Some(why) = &first.fallback {
            let told = format!("masks run on the CPU: {why}");
            notice = Some(notice.map_or(told.clone(), |n| format!("{n}; {told}")));
        }
        let mut networks = vec![first.network];
        networks.extend(open_copies(&runtime, model, copies - 1, own_threads, settings)?);
        let version = runtime.library.version.clone();
        let alone = if settings.low_latency { networks.pop() } else { None };
        let mut stage = Self::new(networks, settings);
        if let Some(network) = alone {
            let (chosen, settings) = (chosen.clone(), settings.clone());
            let every = settings.every;
            let is_fitted = matches!(model, Model::Changed { .. });
            let reopen = move || {
                let changed = if is_fitted { chosen.changed(&settings, source) } else { None };
                let model = changed.as_ref().map_or(chosen.model(), |(path, bytes)| Model::Changed { path, bytes });
                Ok(open_network(&runtime, model, device, own_threads, &settings)?.network)
            };
            stage.live = Some(Live::start(network, Box::new(reopen), every, stage.stats())?);
        }
        let times = if copies > 1 { format!(", {copies} at a time") } else { String::new() };
        stage.description = format!("{label}, input {width}x{height}, ONNX Runtime {version} on {provider}{times}");
        stage.notice = notice;
        Ok(stage)
    }
}

fn choose(settings: &Settings, places: &Places) -> Result<(Chosen, Option<String>)> {
    match &settings.model {
        ModelChoice::Selfie => Ok((Chosen::Selfie, None)),
        ModelChoice::Path(path) => Ok((Chosen::File(path.clone()), None)),
        ModelChoice::Auto => Ok(match places.find(DEFAULT_NAME, settings.mask_size) {
            Some(path) => (Chosen::File(path), None),
            None => {
                let why = format!(
                    "no {DEFAULT_NAME}.onnx in {}; using the embedded selfie model, which is made for one person near the camera. For more: krea models pull {DEFAULT_NAME}",
                    places.describe()
                );
                (Chosen::Selfie, Some(why))
            }
        }),
        ModelChoice::Named(name) => match places.find(name, settings.mask_size) {
            Some(path) => Ok((Chosen::File(path), None)),
            None => Err(Error::Model(missing(name, places))),
        },
    }
}

/// What to do about a model that is not here.
fn missing(name: &str, places: &Places) -> String {
    let remedy = Manifest::built_in().model(name).map_or(String::new(), |model| model.remedy() + ". ");
    format!(
        "no model called '{name}' in {}. {remedy}{name}.onnx may also lie in the folder that KREA_MODELS_DIR names; --mask-model selfie needs no file",
        places.describe()
    )
}

/// Loads a model that krea has changed; `None` if it does not work, for whatever reason: then it runs as it is.
fn open_changed(
    runtime: &Runtime,
    model: Model<'_>,
    device: Device,
    threads: usize,
    settings: &Settings,
) -> Option<Opened> {
    let opened = open_network(runtime, model, device, threads, settings);
    let tried = opened.and_then(|mut o| o.network.try_out().map(|()| o).map_err(Error::Model));
    tried.inspect_err(|why| tracing::debug!("{} is not fitted to the frame: {why}", model.label())).ok()
}

/// Loads a model some more times, all at once: one after the other, they would keep a machine with many cores waiting.
fn open_copies(
    runtime: &Runtime,
    model: Model<'_>,
    copies: usize,
    threads: usize,
    settings: &Settings,
) -> Result<Vec<Box<dyn Network>>> {
    let open = || open_network(runtime, model, Device::Cpu, threads, settings).map(|opened| opened.network);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..copies).map(|_| scope.spawn(open)).collect();
        running.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    })
}

/// Loads a model and tells by its inputs and outputs what kind of network it is.
pub(super) fn open_network(
    runtime: &Runtime,
    model: Model<'_>,
    device: Device,
    threads: usize,
    settings: &Settings,
) -> Result<Opened> {
    let session = Session::open(runtime, model, device, threads)?;
    let (provider, fallback) = (session.provider.clone(), session.fallback.clone());
    let size = settings.mask_size.map(|(w, h)| (w as usize, h as usize));
    let wrong = |why: String| Error::Model(format!("{}: {why}", model.label()));
    let (network, canvas, light): (Box<dyn Network>, _, _) = if Yolo::fits(&session) {
        let yolo = Yolo::new(session, size, settings.confidence, settings.choice()).map_err(wrong)?;
        let canvas = yolo.canvas();
        (Box::new(yolo), canvas, false)
    } else if RfDetr::fits(&session) {
        let rfdetr = RfDetr::new(session, size, settings.confidence, settings.choice()).map_err(wrong)?;
        let canvas = Some(rfdetr.canvas());
        (Box::new(rfdetr), canvas, false)
    } else if Selfie::fits(&session) {
        let selfie = Selfie::new(session, size, settings.choice()).map_err(wrong)?;
        let canvas = Some(selfie.canvas());
        (Box::new(selfie), canvas, true)
    } else {
        let list =
            |ports: &[super::session::Port]| ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(wrong(format!(
            "this is not a network that krea can use. Expected: YOLO segmentation (output0 [1,4+classes+32,n] and output1 [1,32,h,w]), RF-DETR segmentation (dets [1,q,4], labels [1,q,91] and masks [1,q,h,w]) or one map of probabilities [1,1,h,w]. Found: {} -> {}",
            session.input,
            list(&session.outputs)
        )));
    };
    Ok(Opened { network, canvas, provider, fallback, light })
}
