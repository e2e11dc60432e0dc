//! Where the frames of a run go: the window, the output, streams beside it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ffmpeg_next::format::Pixel;

use crate::error::{Error, Result};
use crate::pipeline::{Control, Sink};
use crate::settings::Settings;
use crate::sink::preview::{self, Preview, Window};
use crate::sink::{self, Destination, FileSink, Paced, Plan, Tee};
use crate::stream::{Extras, VideoInfo};

/// Opens the preview where one is wanted. Beside an output it is a comfort, and its failure a warning.
pub(super) fn open_window(
    settings: &Settings,
    info: &VideoInfo,
    control: &Control,
) -> Result<Option<(Window, Preview)>> {
    if !settings.preview {
        return Ok(None);
    }
    let alone = settings.output == Destination::Window;
    let snapshots = settings.output.path().map_or_else(|| PathBuf::from("krea"), |p| p.with_extension(""));
    let options = preview::Options {
        name: settings.input.to_string(),
        size: (info.width, info.height),
        alone,
        snapshots,
        control: control.clone(),
    };
    match Window::open(options) {
        Ok(open) => Ok(Some(open)),
        Err(error) if alone => Err(error),
        Err(error) => {
            tracing::warn!("{error}; {} goes on without the preview", settings.output);
            Ok(None)
        }
    }
}

/// For each stream beside the output, the frames that it was too slow for.
pub(super) type Lost = Vec<Arc<AtomicU64>>;

/// The main output, streams beside it, the window before it, and the speed of the input where someone watches.
pub(super) fn join(
    settings: &Settings,
    own_pace: bool,
    main: Option<FileSink>,
    preview: Option<Preview>,
    info: &VideoInfo,
    native: Pixel,
    control: &Control,
) -> Result<(Box<dyn Sink>, Lost)> {
    let mut lost = Vec::new();
    let mut sink: Option<Box<dyn Sink>> = main.map(|s| Box::new(s) as _);
    if let (Some(main), false) = (sink.take_if(|_| !settings.streams.is_empty()), settings.streams.is_empty()) {
        let mut streams = Vec::new();
        for stream in &settings.streams {
            // What was asked of the file's container and codec does not hold for the stream.
            let choices = sink::Choices { threads: settings.choices.threads, ..sink::Choices::default() };
            let plan = Plan::new(stream, native, choices)?;
            let (_, none) = crossbeam_channel::bounded(0);
            let made = FileSink::create(stream.clone(), plan, info.clone(), Extras::default(), none, control.clone())?;
            streams.push((stream.to_string(), made));
        }
        let tee = Tee::new(main, streams)?;
        lost = tee.dropped();
        sink = Some(Box::new(tee));
    }
    let alone = settings.output == Destination::Window;
    let pause = preview.as_ref().filter(|_| alone).map(Preview::pause);
    let sink: Box<dyn Sink> = match (preview, sink) {
        (Some(preview), Some(sink)) => Box::new(preview.before(sink)),
        (Some(preview), None) => Box::new(preview),
        (None, Some(sink)) => sink,
        (None, None) => return Err(Error::Usage("there is no output: name one with -o".to_owned())),
    };
    let watched = alone || [&settings.output].into_iter().chain(&settings.streams).any(|d| d.is_stream());
    // Repainted frames come in blocks.
    let sink = if watched && (!own_pace || settings.generation.is_some()) {
        Box::new(Paced::new(sink, control.clone(), pause))
    } else {
        sink
    };
    Ok((sink, lost))
}
