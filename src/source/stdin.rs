//! Standard input as something that FFmpeg can read from and that a stop can interrupt.

use std::io::{self, Read};

use crate::pipeline::Control;

pub(super) struct Stdin {
    control: Control,
}

impl Stdin {
    pub(super) fn new(control: Control) -> Self {
        Self { control }
    }
}

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.control.stopped() {
                return Ok(0);
            }
            let mut ready = libc::pollfd { fd: libc::STDIN_FILENO, events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd on the stack.
            if unsafe { libc::poll(&mut ready, 1, 100) } > 0 {
                // SAFETY: the buffer is writable for its whole length. `std::io::stdin` would read ahead and hide
                // that data from `poll`.
                let n = unsafe { libc::read(libc::STDIN_FILENO, buffer.as_mut_ptr().cast(), buffer.len()) };
                match usize::try_from(n) {
                    Ok(n) => return Ok(n),
                    Err(_) => {
                        let error = io::Error::last_os_error();
                        if error.kind() != io::ErrorKind::Interrupted {
                            return Err(error);
                        }
                    }
                }
            }
        }
    }
}
