//! Messages on standard error: krea's own, and those of FFmpeg and ONNX Runtime.
//!
//! Standard output is for data alone.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use clap::ColorChoice;
use indicatif::ProgressBar;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::error::{Error, Exit, Result};

/// How much is told.
#[derive(Clone, Debug)]
pub struct Messages {
    pub quiet: bool,
    pub verbose: u8,
    /// A level or a filter; wins over `quiet` and `verbose`.
    pub filter: Option<String>,
    pub color: ColorChoice,
}

/// The terminal that messages and the progress bar share.
#[derive(Clone, Default)]
pub struct Console {
    bar: Arc<Mutex<Option<ProgressBar>>>,
}

impl Console {
    /// Starts logging. A process has one console; a second one in the same process keeps the first one's settings.
    pub fn start(messages: &Messages) -> Result<Self> {
        let console = Self::default();
        // Fails only when a test runs several jobs in one process.
        let _ = tracing::subscriber::set_global_default(console.subscriber(messages)?);
        crate::ffmpeg_log::route();
        Ok(console)
    }

    fn subscriber(&self, messages: &Messages) -> Result<impl Subscriber + Send + Sync + 'static> {
        let level = match (messages.quiet, messages.verbose) {
            (true, _) => "error",
            (_, 0) => "info",
            (_, 1) => "debug",
            _ => "trace",
        };
        // What libraries say about themselves is of interest only to those who look for a fault.
        let libraries = if messages.verbose > 1 { "debug" } else { "error" };
        let filter = match messages.filter.as_deref() {
            None => format!("{libraries},krea={level},ffmpeg={}", if messages.verbose > 0 { level } else { "warn" }),
            Some(word) if word.parse::<Level>().is_ok() || word == "off" => {
                format!("{libraries},krea={word},ffmpeg={word}")
            }
            Some(filter) => filter.to_owned(),
        };
        let filter = EnvFilter::try_new(&filter).map_err(|e| {
            Error::Usage(format!("--log-level {}: {e}", messages.filter.as_deref().unwrap_or_default()))
        })?;
        Ok(tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(wants_color(messages.color))
            .with_writer(self.clone())
            .event_format(Line)
            .finish())
    }

    /// From now on messages appear above this bar.
    pub fn attach(&self, bar: ProgressBar) {
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    }

    fn print(&self, bytes: &[u8]) -> io::Result<()> {
        let bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        let write = || io::stderr().lock().write_all(bytes);
        match &*bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

/// Writes to stdout; that the reader has gone is a normal end.
pub fn print(text: &[u8]) -> Result<Exit> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(Exit::Done),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Error::Closed),
        Err(e) => Err(Error::Output(format!("standard output: {e}"))),
    }
}

/// Prints the error that ends the program.
pub fn complain(error: &Error) {
    // Nothing is left to be done when even stderr is closed.
    let _ = writeln!(io::stderr().lock(), "krea: error: {error}");
}

/// What is told before a console is started.
pub fn before(messages: &Messages, tell: impl FnOnce()) -> Result<()> {
    tracing::subscriber::with_default(Console::default().subscriber(messages)?, tell);
    Ok(())
}

/// `--color`, then the conventions NO_COLOR, CLICOLOR_FORCE and TERM=dumb.
fn wants_color(choice: ColorChoice) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|v| !v.is_empty() && v != "0");
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto if set("NO_COLOR") => false,
        ColorChoice::Auto if set("CLICOLOR_FORCE") => true,
        ColorChoice::Auto => io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb"),
    }
}

impl<'a> MakeWriter<'a> for Console {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.print(bytes).map(|()| bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `krea: warning: text`, one event a line.
struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let (word, color) = match *event.metadata().level() {
            Level::ERROR => ("error: ", "\x1b[31m"),
            Level::WARN => ("warning: ", "\x1b[33m"),
            Level::INFO => ("", ""),
            Level::DEBUG => ("debug: ", "\x1b[2m"),
            Level::TRACE => ("trace: ", "\x1b[2m"),
        };
        let target = event.metadata().target().split("::").next().unwrap_or("krea");
        write!(out, "{target}: ")?;
        if out.has_ansi_escapes() && !word.is_empty() {
            write!(out, "{color}{word}\x1b[0m")?;
        } else {
            write!(out, "{word}")?;
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        writeln!(out, "{}", text.0)
    }
}

/// Gathers an event's message and fields.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        use fmt::Write;
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
