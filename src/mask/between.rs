//! Frames of a file that have no run of the network of their own: they wait for the next mask, and theirs lies between
//! that one and the one before.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::frame::{Format, Frame, Mask};

use super::cadence::Every;
use super::coverage::{Coverage, Thumbnail};
use super::matte::Outcome;
use super::{Look, MaskStage};

/// Frames that wait, by the masked frame that they follow.
pub(super) struct Between {
    /// Of so many frames one is masked.
    every: u32,
    count: u32,
    groups: VecDeque<Vec<Frame>>,
    /// The last frame that was masked.
    last: Option<Masked>,
    mixed: Coverage,
}

struct Masked {
    coverage: Coverage,
    look: Look,
    thumbnail: Thumbnail,
}

impl Between {
    pub(super) fn new(every: Every) -> Self {
        let every = match every {
            Every::Auto => 1,
            Every::Fixed(n) => n,
        };
        Self { every, count: 0, groups: VecDeque::new(), last: None, mixed: Coverage::default() }
    }

    /// Keeps the frame, unless it is to be masked itself.
    pub(super) fn takes(&mut self, frame: Frame) -> Option<Frame> {
        if self.every == 1 {
            return Some(frame);
        }
        let turn = self.count;
        self.count = (self.count + 1) % self.every;
        match self.groups.back_mut() {
            Some(group) if turn > 0 => {
                group.push(frame);
                None
            }
            _ => {
                self.groups.push_back(Vec::new());
                Some(frame)
            }
        }
    }
}

impl MaskStage {
    /// Emits the frames that wait between the last masked frame and this one, of which the matte now holds the mask.
    pub(super) fn emit_between(
        &mut self,
        look: Look,
        thumbnail: Thumbnail,
        emit: &mut dyn FnMut(Frame) -> Result<()>,
    ) -> Result<()> {
        if self.between.every == 1 {
            return Ok(());
        }
        if let Some(last) = self.between.last.take() {
            let group = self.between.groups.pop_front().unwrap_or_default();
            // From a cut on they belong to the frame that comes, before it to the one that was.
            let mut cut = None;
            let mut before = &last.thumbnail;
            let seen: Vec<Thumbnail> = group.iter().map(thumbnail_of).chain([thumbnail.clone()]).collect();
            for (i, now) in seen.iter().enumerate() {
                if cut.is_none() && now.is_cut(before) {
                    cut = Some(i);
                }
                before = now;
            }
            let steps = group.len() as f32 + 1.0;
            for (i, frame) in group.into_iter().enumerate() {
                let weight = cut.map_or((i + 1) as f32 / steps, |cut| if i < cut { 0.0 } else { 1.0 });
                let frame = self.dress_between(frame, &last, look, weight);
                emit(frame)?;
            }
        }
        self.between.last = Some(Masked { coverage: self.matte.coverage().clone(), look, thumbnail });
        Ok(())
    }

    /// Emits the frames after the last masked one.
    pub(super) fn emit_last(&mut self, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        let Some(last) = self.between.last.take() else { return Ok(()) };
        for frame in self.between.groups.pop_front().unwrap_or_default() {
            let frame = self.dress_between(frame, &last, last.look, 0.0);
            emit(frame)?;
        }
        Ok(())
    }

    /// Gives a frame a mask between that of `last` and that of the matte, which shall look like `next`.
    fn dress_between(&mut self, mut frame: Frame, last: &Masked, next: Look, weight: f32) -> Frame {
        self.stats.followed.fetch_add(1, Ordering::Relaxed);
        let (Look::By(a, _), Look::By(b, _)) = (last.look, next) else {
            return self.dress(frame, if weight < 0.5 { last.look.followed() } else { next.followed() });
        };
        let (width, height) = (frame.picture.width() as usize, frame.picture.height() as usize);
        let mut alpha = self.pool.get(width * height);
        let gain = a.gain() + weight * (b.gain() - a.gain());
        if gain > 0.0 {
            let Self { upsampler, matte, between, .. } = self;
            let coverage = match (a, b) {
                (Outcome::Empty, _) => matte.coverage(),
                (_, Outcome::Empty) => &last.coverage,
                _ => between.mixed.mix(&last.coverage, matte.coverage(), weight),
            };
            upsampler.enlarge(coverage, gain, width, height, &mut alpha);
            self.edge.apply(&mut alpha, width);
        } else {
            alpha.fill(0);
        }
        frame.mask = Some(Mask { width, height, alpha });
        frame
    }
}

impl Coverage {
    /// Becomes what lies between two grids; of different ones the nearer.
    fn mix(&mut self, a: &Self, b: &Self, weight: f32) -> &Self {
        let alike = (a.width, a.height, a.curve, a.view) == (b.width, b.height, b.curve, b.view);
        self.clone_from(if alike || weight < 0.5 { a } else { b });
        if alike {
            self.values.iter_mut().zip(&b.values).for_each(|(v, b)| *v += weight * (b - *v));
        }
        self
    }
}

fn thumbnail_of(frame: &Frame) -> Thumbnail {
    Format::of(frame.picture.format()).map_or_else(Thumbnail::blank, |format| Thumbnail::of(&frame.picture, format))
}
