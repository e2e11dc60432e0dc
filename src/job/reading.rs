//! Where a run's frames come from: an input, or nothing but a prompt.

use std::sync::Arc;

use crossbeam_channel::Receiver;
use ffmpeg::Rational;
use ffmpeg::format::Pixel;
use ffmpeg_next as ffmpeg;

use super::{FirstFrame, backdrop_options};
use crate::error::Result;
use crate::generate::{self, Blank, Outline};
use crate::pipeline::{Control, Source};
use crate::settings::Settings;
use crate::sink::{Choices, Destination, Plan};
use crate::source::{Connection, Damage, Options, Place, Target};
use crate::stream::{CopiedPacket, Extras, VideoInfo};

/// An opened input, the plan of the output that fits it, and what a generation makes of it.
pub(super) struct Reading {
    pub(super) source: Box<dyn Source>,
    pub(super) info: VideoInfo,
    pub(super) plan: Plan,
    pub(super) extras: Extras,
    pub(super) copied: Receiver<CopiedPacket>,
    pub(super) damage: Arc<Damage>,
    pub(super) still: bool,
    /// The pictures come at their own pace.
    pub(super) own_pace: bool,
    pub(super) outline: Option<Outline>,
}

/// Blocks of a video that is made from a prompt, unless it is said: 105 frames, six and a half seconds.
const BLOCKS: u32 = 9;

impl Reading {
    pub(super) fn open(settings: &Settings, control: &Control) -> Result<Self> {
        match (&settings.input, &settings.generation) {
            (Place::Nothing, Some(generation)) => Self::of_text(settings, generation),
            _ => Self::of_input(settings, control),
        }
    }

    fn of_input(settings: &Settings, control: &Control) -> Result<Self> {
        let options = Options {
            format: settings.input_format.clone(),
            threads: settings.threads,
            rate: settings.fps,
            live: settings.seems_live(),
            size: settings.read_size(),
            ..backdrop_options(settings, control)
        };
        let mut connection = Connection::new(settings.input.clone(), options, settings.reconnect_timeout);
        let mut input = connection.open()?;
        let (still, own_pace) = (input.native.still, input.has_own_pace());
        let choices = Choices { live: settings.is_live(own_pace), ..settings.choices.clone() };
        let plan = Plan::new(&settings.output, input.native.format, choices)?;
        let target = Target {
            format: plan.working,
            full_range: plan.full_range,
            size: settings.read_size(),
            // Numbered pictures are read at this rate already.
            fps: settings
                .fps
                .filter(|_| !matches!(settings.input, Place::Pictures { .. }))
                .or(plan.muxer.has_constant_rate().then(|| constant_rate(settings, input.native.frame_rate))),
            start: settings.start,
            duration: settings.duration,
        };
        let extras = input.take_extras();
        let one_picture = wants_one_picture(settings, &plan);
        let (send_copied, copied) = crossbeam_channel::unbounded();
        let (reader, info, damage) = connection.read(input, &target, send_copied)?;
        let source: Box<dyn Source> =
            if one_picture { Box::new(FirstFrame { reader, still, given: false }) } else { reader };
        let every = target.fps.is_some() || still;
        let outline = settings.generation.as_ref().map(|g| Outline::new(g, &info, every, settings.is_live(own_pace)));
        Ok(Self { source, info, plan, extras, copied, damage, still, own_pace, outline })
    }

    fn of_text(settings: &Settings, generation: &generate::Settings) -> Result<Self> {
        let plan = Plan::new(&settings.output, Pixel::YUV420P, settings.choices.clone())?;
        let frames = match (generation.blocks, settings.duration) {
            _ if wants_one_picture(settings, &plan) => 1,
            (Some(blocks), None) => Outline::frames_of(blocks),
            (None, None) => Outline::frames_of(BLOCKS),
            (blocks, Some(seconds)) => {
                let wanted = (seconds * f64::from(generate::RATE)).round().max(1.0) as u64;
                blocks.map_or(wanted, |b| wanted.min(Outline::frames_of(b)))
            }
        };
        let outline = Outline::of_text(generation, plan.working, plan.full_range, Some(frames));
        let source = Box::new(Blank::new(outline.geometry.model, Some(frames))?);
        let (_, copied) = crossbeam_channel::bounded(0);
        Ok(Self {
            source,
            info: outline.output.clone(),
            plan,
            extras: Extras::default(),
            copied,
            damage: Arc::default(),
            still: false,
            own_pace: false,
            outline: Some(outline),
        })
    }
}

fn wants_one_picture(settings: &Settings, plan: &Plan) -> bool {
    matches!(settings.output, Destination::File(_)) && plan.muxer.is_pictures()
}

/// For containers that only count frames.
fn constant_rate(settings: &Settings, native: Rational) -> Rational {
    let models = Rational(generate::RATE, 1);
    match &settings.generation {
        Some(generation) if !generation.keep_fps && f64::from(native) > f64::from(models) => models,
        _ => native,
    }
}
