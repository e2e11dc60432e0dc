//! Gathers frames into blocks, lets the generator repaint them, and gives each its own time back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ffmpeg::format::Pixel;
use ffmpeg_next as ffmpeg;

use super::fit::{pack, unpack};
use super::steering::Steering;
use super::timeline::Timeline;
use super::watch::{Glance, is_lost};
use super::{Block, Change, Generator, RATE};
use crate::error::{Error, Result};
use crate::frame::{Frame, PicturePool};
use crate::pipeline::{Control, Stage};

/// How blocks are made.
pub struct Options {
    pub timeline: Timeline,
    /// Seconds of the source at which its first frame lies.
    pub start: f64,
    /// Blocks over which a changed prompt is blended in, unless it says otherwise.
    pub blend: u32,
    /// Frames carry no picture: the prompt alone decides.
    pub text_only: bool,
    /// A new scene begins a new video.
    pub reset_on_cut: bool,
    /// All frames that have come since the last block share the next one, so that it stays at the present.
    pub live: bool,
}

/// Counts for progress and reports.
#[derive(Debug, Default)]
pub struct Stats {
    pub blocks: AtomicU64,
    /// New beginnings: at a cut, or because someone asked.
    pub resets: AtomicU64,
    /// Blocks that were lost (not a number, or nothing to see) and made again.
    pub lost: AtomicU64,
    /// Frames that passed as they came because their block was lost twice.
    pub passed: AtomicU64,
    /// Frames that live blocks have left out.
    pub skipped: AtomicU64,
    /// Nanoseconds inside the generator.
    pub nanoseconds: AtomicU64,
    /// Nanoseconds between two blocks, in which the generator had nothing to do.
    pub idle_nanoseconds: AtomicU64,
}

impl Stats {
    fn add(counter: &AtomicU64, n: usize) {
        counter.fetch_add(n as u64, Ordering::Relaxed);
    }
}

/// The stage that owns the generator.
pub struct GenerateStage {
    generator: Box<dyn Generator>,
    options: Options,
    steering: Steering,
    control: Control,
    stats: Arc<Stats>,
    /// Frames of the block to come, with what they look like.
    waiting: VecDeque<(Frame, Glance)>,
    /// Frames that are queued before this stage.
    backlog: usize,
    /// The entry of the timeline that holds; `None` once someone has set a prompt by hand.
    entry: Option<usize>,
    steered: bool,
    /// The last block was lost, and this one is its second try.
    again: bool,
    last: Option<Glance>,
    /// When the last block was done.
    ended: Option<Instant>,
    packed: Vec<u8>,
    made: Vec<u8>,
    pool: Option<PicturePool>,
}

impl GenerateStage {
    /// The generator must have its first prompt.
    pub fn new(generator: Box<dyn Generator>, options: Options, steering: Steering, control: Control) -> Self {
        let entry = options.timeline.at(options.start).map(|(index, _)| index);
        Self {
            generator,
            options,
            steering,
            control,
            stats: Arc::default(),
            waiting: VecDeque::new(),
            backlog: 0,
            entry,
            steered: false,
            again: false,
            last: None,
            ended: None,
            packed: Vec::new(),
            made: Vec::new(),
            pool: None,
        }
    }

    pub fn stats(&self) -> Arc<Stats> {
        self.stats.clone()
    }

    /// Makes blocks while there are frames enough; with `all` also of a rest.
    fn work(&mut self, all: bool, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        loop {
            if self.control.abandoned() {
                self.waiting.clear();
                return Ok(());
            }
            let have = self.waiting.len();
            if have == 0 || (have < self.generator.frames_needed()? && !all) {
                return Ok(());
            }
            self.steer()?;
            // A new beginning takes fewer frames.
            let needed = self.generator.frames_needed()?;
            if self.options.live && have > needed {
                self.thin(needed);
            }
            let frames: Vec<_> = self.waiting.drain(..needed.min(self.waiting.len())).collect();
            self.block(frames, needed, emit)?;
        }
    }

    /// Leaves out so many of the waiting frames that one block takes them all, evenly.
    fn thin(&mut self, needed: usize) {
        let have = self.waiting.len();
        let frames: Vec<_> = self.waiting.drain(..).collect();
        let mut wanted = spread(have, needed).into_iter().peekable();
        for (i, frame) in frames.into_iter().enumerate() {
            if wanted.next_if_eq(&i).is_some() {
                self.waiting.push_back(frame);
            }
        }
        Stats::add(&self.stats.skipped, have - needed);
    }

    /// Carries out what was asked for since the last block.
    fn steer(&mut self) -> Result<()> {
        let wishes = self.steering.take();
        if let Some(timeline) = wishes.timeline {
            self.options.timeline = timeline;
            (self.entry, self.steered) = (None, false);
        }
        if wishes.change != Change::default() {
            self.generator.change(&wishes.change)?;
        }
        if wishes.reset {
            self.reset()?;
        }
        if let Some((text, blend)) = wishes.prompt {
            self.steered = true;
            tracing::info!("prompt: {text}");
            return self.generator.prompt(&text, blend.unwrap_or(self.options.blend).max(1));
        }
        self.follow_timeline()
    }

    fn follow_timeline(&mut self) -> Result<()> {
        let Some((first, _)) = self.waiting.front() else { return Ok(()) };
        // The middle of the block decides, so that a change comes neither early nor late in the mean.
        let middle = self.waiting.get(self.waiting.len().min(12) / 2).map_or(first, |(frame, _)| frame);
        let now = self.options.start + middle.time.seconds();
        let Some((index, entry)) = self.options.timeline.at(now) else { return Ok(()) };
        if self.steered || self.entry == Some(index) {
            return Ok(());
        }
        self.entry = Some(index);
        let blocks = entry.fade.map_or(self.options.blend, |fade| (fade * f64::from(RATE) / 12.0).round() as u32);
        tracing::info!("prompt at {now:.1} s: {}", entry.prompt);
        self.generator.prompt(&entry.prompt, blocks.max(1))
    }

    fn reset(&mut self) -> Result<()> {
        Stats::add(&self.stats.resets, 1);
        self.generator.reset()
    }

    /// Repaints at most a block of frames. What is lost is tried once more with nothing remembered.
    fn block(
        &mut self,
        frames: Vec<(Frame, Glance)>,
        needed: usize,
        emit: &mut dyn FnMut(Frame) -> Result<()>,
    ) -> Result<()> {
        self.packed.clear();
        if !self.options.text_only {
            for i in 0..needed {
                // A block that is not full is filled up with its last frame.
                pack(&frames[i.min(frames.len() - 1)].0.picture, &mut self.packed);
            }
        }
        let (width, height) = self.generator.size();
        let bytes = width as usize * height as usize * 3;
        self.made.resize(needed * bytes, 0);
        let input = (!self.options.text_only).then_some(&self.packed[..]);
        let start = Instant::now();
        if let Some(ended) = self.ended {
            Stats::add(&self.stats.idle_nanoseconds, (start - ended).as_nanos() as usize);
        }
        let block = self.generator.next(input, &mut self.made)?;
        self.ended = Some(Instant::now());
        Stats::add(&self.stats.nanoseconds, start.elapsed().as_nanos() as usize);
        let Some(block) = block else { return Ok(()) };
        Stats::add(&self.stats.blocks, 1);

        if self.is_lost(&block, &frames, bytes) {
            if !self.again {
                self.again = true;
                Stats::add(&self.stats.lost, 1);
                tracing::warn!("the model has lost the picture; it begins anew");
                self.generator.reset()?;
                frames.into_iter().rev().for_each(|frame| self.waiting.push_front(frame));
                return Ok(());
            }
            Stats::add(&self.stats.passed, frames.len());
            self.generator.reset()?;
            // With nothing that could pass, what was made is all there is.
            if !self.options.text_only {
                self.again = false;
                return frames.into_iter().try_for_each(|(frame, _)| emit(frame));
            }
        }
        self.again = false;
        // Where fewer come back, it is the first ones that are missing.
        let missing = needed - block.frames.min(needed);
        for (i, (mut frame, _)) in frames.into_iter().enumerate().skip(missing) {
            let packed = &self.made[(i - missing) * bytes..][..bytes];
            let mut picture = pooled(&mut self.pool, (width, height)).map_err(no_memory)?;
            unpack(packed, &mut picture);
            frame.picture = picture;
            emit(frame)?;
        }
        Ok(())
    }

    fn is_lost(&self, block: &Block, frames: &[(Frame, Glance)], bytes: usize) -> bool {
        if !block.finite {
            return true;
        }
        let (width, height) = self.generator.size();
        let last = block.frames.min(frames.len()).saturating_sub(1);
        let made = Glance::of(&self.made[last * bytes..], width as usize * 3, width as usize, height as usize);
        let from = (!self.options.text_only).then(|| &frames[last].1);
        is_lost(&made, from)
    }
}

impl Stage for GenerateStage {
    fn name(&self) -> &'static str {
        "generate"
    }

    fn room(&self) -> usize {
        if self.options.live { 24 } else { 12 }
    }

    fn burst(&self) -> usize {
        12
    }

    fn is_costly(&self) -> bool {
        true
    }

    fn backlog(&mut self, frames: usize) {
        self.backlog = frames;
    }

    fn push(&mut self, frame: Frame, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        let picture = &frame.picture;
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let glance = Glance::of(picture.data(0), picture.stride(0), width, height);
        let cut = !self.options.text_only && self.last.as_ref().is_some_and(|last| glance.is_cut(last));
        self.last = Some(glance.clone());
        if cut && self.options.reset_on_cut {
            // The old scene's frames are finished by themselves.
            self.work(true, emit)?;
            self.reset()?;
        }
        if self.options.live && self.steering.is_turning() {
            // What was seen before the change is not worth waiting for.
            Stats::add(&self.stats.skipped, self.waiting.len());
            self.waiting.clear();
        }
        self.waiting.push_back((frame, glance));
        if self.options.live && self.backlog > 0 {
            return Ok(());
        }
        self.work(false, emit)
    }

    fn finish(&mut self, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        self.work(true, emit)
    }
}

fn pooled(pool: &mut Option<PicturePool>, (width, height): (u32, u32)) -> Result<ffmpeg::frame::Video, ffmpeg::Error> {
    match pool {
        Some(pool) => pool.get(),
        empty => empty.insert(PicturePool::new(Pixel::RGB24, width, height)?).get(),
    }
}

fn no_memory(error: ffmpeg::Error) -> Error {
    Error::Stage { stage: "generate".to_owned(), message: format!("no memory for a picture: {error}") }
}

/// `count` indices below `have`, evenly spread, the first and the last among them.
fn spread(have: usize, count: usize) -> Vec<usize> {
    match count {
        0 => Vec::new(),
        1 => vec![have - 1],
        _ => {
            (0..count).map(|i| (i as f64 * (have - 1) as f64 / (count - 1) as f64).round_ties_even() as usize).collect()
        }
    }
}
