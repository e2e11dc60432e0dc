//! The window itself, on the main thread: shows paintings, reads keys, keeps the title.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use minifb::{InputCallback, Key, Scale, ScaleMode, WindowOptions};

use super::painter::Painter;
use super::{Newest, Painting, Preview, View, fullscreen};
use crate::error::{Error, Result};
use crate::frame::Pool;
use crate::pipeline::{Control, Counts};

/// How often the main thread should call [`Window::pump`].
pub const PUMP: Duration = Duration::from_millis(10);

/// The largest size that a window opens with; it can be drawn larger.
const LARGEST: (u32, u32) = (1280, 720);

/// What the window shows and does.
pub struct Window {
    shown: Option<minifb::Window>,
    keys: Receiver<Key>,
    pressed: Sender<Key>,
    view: Arc<View>,
    paintings: Arc<Newest<Painting>>,
    painting: Option<Painting>,
    name: String,
    size: (u32, u32),
    large: bool,
    control: Control,
    /// Closing the window ends the run, for nothing else is made.
    alone: bool,
    title: Title,
}

/// What the title tells, counted over the last second.
struct Title {
    since: Instant,
    frames: u64,
    latency: Counts,
    text: String,
}

/// What the title is made of, counted since the start.
pub struct Told {
    pub frames: u64,
    pub dropped: u64,
    pub latency: Counts,
    /// Whatever else should be known: what is out of order, the prompt.
    pub notes: Vec<String>,
}

/// What the window is opened for.
pub struct Options {
    /// The input, as the title shows it.
    pub name: String,
    /// Width and height of the pictures.
    pub size: (u32, u32),
    /// Nothing but the window is made.
    pub alone: bool,
    /// Folder and beginning of the name of snapshots.
    pub snapshots: PathBuf,
    pub control: Control,
}

impl Window {
    /// Opens the window; must be called on the main thread. The second value is the sink's side.
    pub fn open(options: Options) -> Result<(Self, Preview)> {
        let (w, h) = options.size;
        let scale = (f64::from(LARGEST.0) / f64::from(w)).min(f64::from(LARGEST.1) / f64::from(h)).min(1.0);
        let side = |n: u32| ((f64::from(n) * scale).round() as u32).max(16);
        let size = (side(w), side(h));
        let (pressed, keys) = unbounded();
        let shown = open(&options.name, size, false, &pressed)?;
        let view = Arc::new(View::default());
        view.set_size(size);
        let (shots, paintings) = (Newest::new(), Arc::new(Newest::new()));
        let painter = Painter {
            view: view.clone(),
            shots: shots.receiver.clone(),
            paintings: paintings.clone(),
            snapshots: options.snapshots,
            pool: Pool::new(),
        };
        thread::Builder::new()
            .name("preview".to_owned())
            .spawn(move || painter.run())
            .map_err(|e| Error::Stage { stage: "preview".to_owned(), message: e.to_string() })?;
        let preview = Preview { shots, view: view.clone(), onward: None };
        let window = Self {
            shown: Some(shown),
            keys,
            pressed,
            view,
            paintings,
            painting: None,
            name: options.name,
            size,
            large: false,
            control: options.control,
            alone: options.alone,
            title: Title { since: Instant::now(), frames: 0, latency: Counts::default(), text: String::new() },
        };
        Ok((window, preview))
    }

    pub fn is_open(&self) -> bool {
        self.shown.is_some()
    }

    /// Shows the newest painting and obeys the keys. `told` is asked about once a second.
    pub fn pump(&mut self, told: impl Fn() -> Told) {
        let Some(window) = &mut self.shown else { return };
        if let Ok(new) = self.paintings.receiver.try_recv() {
            self.painting = Some(new);
        }
        let drawn = match &self.painting {
            Some(p) => window.update_with_buffer(&p.pixels, p.width, p.height),
            None => {
                window.update();
                Ok(())
            }
        };
        if drawn.is_err() || !window.is_open() {
            self.close();
            return;
        }
        let (w, h) = window.get_size();
        self.view.set_size((w as u32, h as u32));
        while let Ok(key) = self.keys.try_recv() {
            self.obey(key);
        }
        self.tell(told);
    }

    /// Keeps the last picture until the user has seen enough.
    pub fn linger(&mut self) {
        while self.is_open() && !self.control.stopped() {
            let (frames, latency) = (self.title.frames, self.title.latency.clone());
            self.pump(|| Told { frames, dropped: 0, latency: latency.clone(), notes: Vec::new() });
            thread::sleep(PUMP);
        }
    }

    fn obey(&mut self, key: Key) {
        let toggle = |switch: &AtomicBool| {
            switch.fetch_xor(true, Ordering::Relaxed);
        };
        match key {
            Key::Q | Key::Escape => self.control.stop.store(true, Ordering::Relaxed),
            Key::Space => toggle(&self.view.paused),
            Key::P => toggle(&self.view.split),
            Key::M => toggle(&self.view.mask),
            Key::B => toggle(&self.view.before),
            Key::S => self.view.snapshot.store(true, Ordering::Relaxed),
            Key::F => self.resize(),
            _ => return,
        }
        self.view.changed();
        // The title shows a pause at once.
        self.title.text.clear();
    }

    /// Between the picture's own size and the whole screen; or, where nobody can give that, the largest multiple that
    /// the screen has room for.
    fn resize(&mut self) {
        if !self.large && self.shown.as_ref().is_some_and(fullscreen::toggle) {
            return;
        }
        self.large = !self.large;
        match open(&self.name, self.size, self.large, &self.pressed) {
            Ok(window) => self.shown = Some(window),
            Err(error) => tracing::debug!("the window keeps its size: {error}"),
        }
    }

    fn close(&mut self) {
        self.shown = None;
        self.view.closed.store(true, Ordering::Relaxed);
        if self.alone {
            self.control.stop.store(true, Ordering::Relaxed);
        } else {
            tracing::info!("the preview is closed; the output goes on (q in the window or Ctrl-C ends it)");
        }
    }

    fn tell(&mut self, told: impl Fn() -> Told) {
        let Some(window) = &mut self.shown else { return };
        let passed = self.title.since.elapsed().as_secs_f64();
        if passed < 1.0 && !self.title.text.is_empty() {
            return;
        }
        let Told { frames, dropped, latency, notes } = told();
        let mut text = format!("krea - {}", self.name);
        if passed >= 1.0 {
            text += &format!(" - {:.1} fps", frames.saturating_sub(self.title.frames) as f64 / passed);
            if let Some(ms) = latency.since(&self.title.latency).percentile(0.5) {
                text += &format!(", {ms:.0} ms");
            }
            (self.title.since, self.title.frames, self.title.latency) = (Instant::now(), frames, latency);
        }
        if dropped > 0 {
            text += &format!(", {dropped} dropped");
        }
        for note in notes {
            text += &format!(", {note}");
        }
        if self.view.paused.load(Ordering::Relaxed) {
            text += ", paused";
        }
        window.set_title(&text);
        self.title.text = text;
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.view.closed.store(true, Ordering::Relaxed);
    }
}

/// Hears each key, also one that was let go between two looks at the window.
struct Keys(Sender<Key>);

impl InputCallback for Keys {
    fn add_char(&mut self, _: u32) {}

    fn set_key_state(&mut self, key: Key, down: bool) {
        if down {
            // The window holds the other end for as long as it is open.
            let _ = self.0.send(key);
        }
    }
}

fn open(name: &str, (width, height): (u32, u32), large: bool, pressed: &Sender<Key>) -> Result<minifb::Window> {
    let hint = |why: &str| {
        Error::Device(format!(
            "no window can be opened: {why}; without a screen send the picture on (-o - | ffplay -, -o udp://HOST:PORT) \
             or write a file; over ssh, -X or -Y lends it your own screen"
        ))
    };
    let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty());
    if cfg!(all(unix, not(target_os = "macos"))) && !set("DISPLAY") && !set("WAYLAND_DISPLAY") {
        return Err(hint("neither DISPLAY nor WAYLAND_DISPLAY is set"));
    }
    let options = WindowOptions {
        resize: true,
        scale: if large { Scale::FitScreen } else { Scale::X1 },
        scale_mode: ScaleMode::AspectRatioStretch,
        ..WindowOptions::default()
    };
    let title = format!("krea - {name}");
    let mut window =
        minifb::Window::new(&title, width as usize, height as usize, options).map_err(|e| hint(&e.to_string()))?;
    // The pipeline has the clock; the window must not sleep.
    window.set_target_fps(0);
    window.set_input_callback(Box::new(Keys(pressed.clone())));
    Ok(window)
}
