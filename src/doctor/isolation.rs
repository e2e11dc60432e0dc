//! A check in a process of its own, with a deadline.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::{Check, Finding};

/// Starts `krea doctor --check NAME` and reads what it has found.
pub(super) fn run(check: &Check, deadline: Duration) -> Finding {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(e) => return failed(check, &format!("krea does not find itself: {e}")),
    };
    let mut command = Command::new(program);
    command.args(["doctor", "--check", check.name]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // With whatever it starts, so that nothing is left behind.
    command.process_group(0);
    match command.spawn() {
        Ok(child) => wait(check, child, deadline),
        Err(e) => failed(check, &format!("the check cannot be started: {e}")),
    }
}

fn wait(check: &Check, mut child: Child, deadline: Duration) -> Finding {
    let (send, receive) = mpsc::channel();
    let output = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let read = output.map(|mut output| output.read_to_end(&mut text));
        // Nobody listens any more after the deadline.
        let _ = send.send((read.is_some(), text));
    });
    let text = receive.recv_timeout(deadline).map(|(_, text)| String::from_utf8_lossy(&text).into_owned()).ok();
    if text.is_none()
        && let Ok(group) = libc::pid_t::try_from(child.id())
    {
        // SAFETY: sends a signal; the group is the child's own, which has not been waited for yet.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
    let status = child.wait();
    let _ = reader.join();
    match (text, status) {
        (None, _) => {
            let why = format!("has not answered in {} s", deadline.as_secs_f64());
            told(check, &why, "Something that it asks hangs; --deadline 300 waits longer")
        }
        (Some(text), Ok(status)) => found(&text).unwrap_or_else(|| failed(check, &ended(status))),
        (Some(_), Err(e)) => failed(check, &e.to_string()),
    }
}

/// The last line that is a finding: libraries may print what they like before.
fn found(text: &str) -> Option<Finding> {
    text.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

fn ended(status: ExitStatus) -> String {
    match status.signal() {
        Some(signal) => format!("looking at it has crashed (signal {signal})"),
        None => format!("looking at it has failed ({status})"),
    }
}

pub(super) fn failed(check: &Check, why: &str) -> Finding {
    told(check, why, check.after_crash)
}

fn told(check: &Check, why: &str, remedy: &str) -> Finding {
    let mut finding = Finding::default();
    match check.needed {
        true => finding.blocked(why, remedy),
        false => finding.wrong(why, remedy),
    }
    finding
}

/// For the process that carries a check out: it does not outlive the one that asked.
pub fn die_with_parent() {
    #[cfg(target_os = "linux")]
    // SAFETY: sets a number of this process.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
}
