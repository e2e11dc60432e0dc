//! Standard output as something that FFmpeg can write to and that a stop does not leave hanging: whoever reads it may
//! have fallen asleep.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::pipeline::Control;

/// How long a reader may take nothing once someone has asked to stop. Before that it may take as long as it likes.
const PATIENCE: Duration = Duration::from_secs(3);

/// What fits into a pipe that has room at all (PIPE_BUF is no less on any system), so that writing it never waits.
const PIECE: usize = 4096;

pub(super) struct Stdout {
    control: Control,
}

impl Stdout {
    pub(super) fn new(control: Control) -> Self {
        Self { control }
    }

    /// Waits until there is room. An error after a stop that nobody answers to.
    fn wait(&self) -> io::Result<()> {
        let mut stopped: Option<Instant> = None;
        loop {
            let mut room = libc::pollfd { fd: libc::STDOUT_FILENO, events: libc::POLLOUT, revents: 0 };
            // SAFETY: one pollfd on the stack. A reader that has gone counts as room; the write then says so.
            if unsafe { libc::poll(&mut room, 1, 50) } > 0 {
                return Ok(());
            }
            let waited = self.control.stopped().then(|| stopped.get_or_insert_with(Instant::now).elapsed());
            if self.control.abandoned() || waited.is_some_and(|w| w > PATIENCE) {
                return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
            }
        }
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait()?;
        let piece = &bytes[..bytes.len().min(PIECE)];
        // SAFETY: the buffer is readable for its whole length. `std::io::stdout` would look for ends of lines in it.
        let written = unsafe { libc::write(libc::STDOUT_FILENO, piece.as_ptr().cast(), piece.len()) };
        usize::try_from(written).map_err(|_| io::Error::last_os_error())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
