//! Carries commands out: what they change lies in other threads, and is reached over flags and channels.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use super::Command;
use crate::pipeline::Control;

/// What a generator lets be changed while it works. An error is a message for the user.
pub trait Steering: Send + Sync {
    fn prompt(&self, text: &str, blend: Option<u32>) -> Result<(), String>;
    fn strength(&self, strength: f64) -> Result<(), String>;
    fn seed(&self, seed: u64) -> Result<(), String>;
    fn reset(&self) -> Result<(), String>;
}

/// What opens a background and puts it behind the persons of the next frame.
pub trait Backgrounds: Send + Sync {
    fn show(&self, what: &str) -> Result<(), String>;
}

/// Where all commands come together. Clones are the same desk.
#[derive(Clone)]
pub struct Desk {
    control: Control,
    steering: Option<Arc<dyn Steering>>,
    backgrounds: Option<Arc<dyn Backgrounds>>,
    /// The last line of progress, as `--progress json` writes it.
    board: Arc<Mutex<Value>>,
    /// The prompt and the background that were asked for last.
    shown: Arc<Mutex<Shown>>,
}

#[derive(Default)]
struct Shown {
    prompt: Option<String>,
    background: Option<String>,
}

impl Desk {
    pub fn new(
        control: Control,
        steering: Option<Arc<dyn Steering>>,
        backgrounds: Option<Arc<dyn Backgrounds>>,
        board: Arc<Mutex<Value>>,
    ) -> Self {
        Self { control, steering, backgrounds, board, shown: Arc::default() }
    }

    /// Tells of the prompt that the run began with.
    pub fn begins_with(&self, prompt: Option<String>) {
        lock(&self.shown).prompt = prompt;
    }

    /// The prompt, as the title shows it.
    pub fn prompt(&self) -> Option<String> {
        lock(&self.shown).prompt.clone()
    }

    pub(super) fn control(&self) -> Control {
        self.control.clone()
    }

    pub(super) fn is_over(&self) -> bool {
        self.control.stopped()
    }

    /// Carries a command out; what comes back is the answer as JSON.
    pub fn obey(&self, command: Result<Command, String>) -> Value {
        match command.and_then(|command| self.carry_out(command)) {
            Ok(Value::Null) => json!({"ok": true}),
            Ok(status) => json!({"ok": true, "status": status}),
            Err(why) => json!({"ok": false, "error": why}),
        }
    }

    fn carry_out(&self, command: Command) -> Result<Value, String> {
        match command {
            Command::Prompt { text, blend } => {
                self.steering()?.prompt(&text, blend)?;
                lock(&self.shown).prompt = Some(text);
            }
            Command::Strength(strength) => self.steering()?.strength(strength)?,
            Command::Seed(seed) => self.steering()?.seed(seed)?,
            Command::Reset => self.steering()?.reset()?,
            Command::Background(what) => {
                let backgrounds = self.backgrounds.as_ref();
                backgrounds.ok_or("there is no --remove-bg in this run, so nothing can be put behind")?.show(&what)?;
                lock(&self.shown).background = Some(what);
            }
            Command::Pause(on) => self.control.pause.store(on, Ordering::Relaxed),
            Command::Quit => self.control.stop.store(true, Ordering::Relaxed),
            Command::Status => return Ok(self.status()),
        }
        Ok(Value::Null)
    }

    fn steering(&self) -> Result<&Arc<dyn Steering>, String> {
        self.steering
            .as_ref()
            .ok_or_else(|| "there is no --prompt in this run, so there is nothing to steer".to_owned())
    }

    fn status(&self) -> Value {
        let mut status = lock(&self.board).clone();
        if status.is_null() {
            status = json!({});
        }
        let shown = lock(&self.shown);
        status["paused"] = self.control.paused().into();
        status["prompt"] = shown.prompt.clone().into();
        status["background"] = shown.background.clone().into();
        status
    }
}

/// Values behind these locks are replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
