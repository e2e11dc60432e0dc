//! Keeps the picture as it is before a stage changes it, for those who want to compare.

use crate::error::{Error, Result};
use crate::frame::{Frame, reference};
use crate::pipeline::Stage;

/// A stage whose frames keep a reference to what went into it. The pixels are not copied: the stage inside sees that
/// it is not alone with them, and writes elsewhere.
pub struct Tap(Box<dyn Stage>);

impl Tap {
    pub fn new(stage: Box<dyn Stage>) -> Self {
        Self(stage)
    }
}

impl Stage for Tap {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn push(&mut self, mut frame: Frame, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        if frame.before.is_none() {
            let before = reference(&frame.picture)
                .map_err(|e| Error::Stage { stage: self.name().to_owned(), message: format!("no memory: {e}") })?;
            frame.before = Some(before);
        }
        self.0.push(frame, emit)
    }

    fn finish(&mut self, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()> {
        self.0.finish(emit)
    }
}
