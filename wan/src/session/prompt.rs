//! The prompt of a session and its way to the next one.

use std::collections::VecDeque;

use tch::Tensor;

use super::Compat;
use crate::{Error, Result};

/// The embedding in force and those of the blocks to come, all of one shape, fp32.
#[derive(Debug, Default)]
pub(super) struct Prompt {
    current: Option<Tensor>,
    upcoming: VecDeque<Tensor>,
}

impl Prompt {
    /// Goes to `target` over `steps` blocks, from wherever the prompt is now.
    pub(super) fn change(&mut self, target: Tensor, steps: usize, compat: Compat) -> Result<()> {
        self.upcoming.clear();
        let Some(current) = &self.current else {
            self.current = Some(target);
            return Ok(());
        };
        for weight in compat.blend_weights(steps) {
            self.upcoming.push_back(current.f_lerp(&target, weight)?);
        }
        Ok(())
    }

    /// The embedding of the block before.
    pub(super) fn current(&self) -> Result<&Tensor> {
        self.current.as_ref().ok_or_else(|| Error::parameter("the session has no prompt yet"))
    }

    /// The embedding of the block to come, and whether it is another one.
    pub(super) fn upcoming(&self) -> Result<(Tensor, bool)> {
        match self.upcoming.front() {
            Some(next) => Ok((next.shallow_clone(), true)),
            None => Ok((self.current()?.shallow_clone(), false)),
        }
    }

    /// A block has been made.
    pub(super) fn advance(&mut self) {
        if let Some(next) = self.upcoming.pop_front() {
            self.current = Some(next);
        }
    }

    /// Goes to the end of a change at once.
    pub(super) fn settle(&mut self) {
        if let Some(last) = self.upcoming.pop_back() {
            self.current = Some(last);
            self.upcoming.clear();
        }
    }
}
