//! Source, stages and sink, each on a named thread, joined by bounded channels.

use crate::error::Result;
use crate::frame::Frame;

/// One step of the pipeline. May hold frames back and emit many at once.
pub trait Stage: Send {
    /// The thread's name, and how messages call the stage.
    fn name(&self) -> &'static str;
    fn push(&mut self, frame: Frame, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()>;
    /// Called once at the end of input, and on a stop.
    fn finish(&mut self, emit: &mut dyn FnMut(Frame) -> Result<()>) -> Result<()>;
}
