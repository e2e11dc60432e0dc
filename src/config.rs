//! Values for the flags of `krea run` from the environment and from files.
//!
//! A flag wins over its variable `KREA_*`, that over `krea.toml` in the current folder, that over the user's
//! `config.toml`, that over what is built in. A value becomes the flag itself, put before those that were typed, so the
//! same parser checks it. What conflicts with something of more weight gives way to it.

mod file;
pub mod flags;

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command};

use crate::error::{Error, Result};
use flags::{Flag, Flags};

/// The command whose flags can be set.
const COMMAND: &str = "run";
/// The file in the current folder.
const FOLDER_FILE: &str = "krea.toml";
/// May destroy files, so a file that happens to lie in a folder cannot ask for it.
const NOT_IN_FOLDER_FILE: [&str; 2] = ["overwrite", "stats"];

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Environment(String),
    File { path: PathBuf, line: usize },
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Environment(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
        }
    }
}

/// A flag with a value, and who has said so.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The flag's long name.
    pub name: String,
    pub value: serde_json::Value,
    pub origin: Origin,
    /// As it would be typed; nothing for a switch that is off.
    words: Vec<OsString>,
}

/// The files that are looked for.
#[derive(Clone, Debug)]
pub struct Places {
    pub folder: PathBuf,
    pub user: Option<PathBuf>,
}

impl Places {
    /// `var` gives the value of an environment variable.
    pub fn from_lookup(var: impl Fn(&str) -> Option<OsString>) -> Self {
        let folder = |name: &str| var(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let config = folder("XDG_CONFIG_HOME").or_else(|| folder("HOME").map(|home| home.join(".config")));
        Self { folder: FOLDER_FILE.into(), user: config.map(|c| c.join("krea/config.toml")) }
    }
}

/// What the environment and the files say, the weightiest first.
#[derive(Clone, Debug, Default)]
pub struct Config {
    levels: Vec<Vec<Setting>>,
    /// The files that were there.
    pub files: Vec<PathBuf>,
}

impl Config {
    pub fn read(flags: &Flags, places: &Places, var: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let mut config = Self::default();
        config.levels.push(flags.in_environment(var)?);
        for path in std::iter::once(&places.folder).chain(&places.user) {
            let settings = match std::fs::read_to_string(path) {
                Ok(text) => file::parse(&text, path, flags)?,
                Err(e) if is_absent(&e) => continue,
                Err(e) => return Err(Error::Usage(format!("{}: {e}", path.display()))),
            };
            let forbidden = |s: &&Setting| NOT_IN_FOLDER_FILE.contains(&s.name.as_str());
            if let Some(setting) = settings.iter().find(forbidden).filter(|_| *path == places.folder) {
                return Err(Error::Usage(format!(
                    "{}: {} cannot be set by a file in the current folder, for it may destroy files. Type --{1}, or set it in {}",
                    setting.origin,
                    setting.name,
                    places.user.as_deref().unwrap_or(Path::new("your own config.toml")).display()
                )));
            }
            config.files.push(path.clone());
            config.levels.push(settings);
        }
        Ok(config)
    }

    /// The settings that count beside the flags that were `typed` (their long names, or the names of positions).
    pub fn beside(&self, typed: HashSet<String>, flags: &Flags) -> Vec<Setting> {
        let (mut said, mut active, mut used) = (typed.clone(), typed, Vec::new());
        for level in &self.levels {
            let fits =
                |s: &&Setting| !said.contains(&s.name) && flags.conflicts(&s.name).all(|other| !active.contains(other));
            let new: Vec<Setting> = level.iter().filter(fits).cloned().collect();
            said.extend(new.iter().map(|s| s.name.clone()));
            active.extend(new.iter().filter(|s| !s.words.is_empty()).map(|s| s.name.clone()));
            used.extend(new);
        }
        used
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// Why a command line is refused.
pub enum Refused {
    /// By clap, whose message it is; help and version are this too.
    Typed(clap::Error),
    /// By what a variable or a file says.
    Set(Error),
}

/// What has become of a command line.
pub struct Parsed {
    pub matches: ArgMatches,
    /// What was added to it, and which files were read; nothing for commands other than `run`.
    pub settings: Vec<Setting>,
    pub files: Vec<PathBuf>,
}

/// Parses the command line together with the environment and the files.
pub fn parse(command: &Command, words: Vec<OsString>) -> Result<Parsed, Refused> {
    let plain = |words| match command.clone().try_get_matches_from(words) {
        Ok(matches) => Ok(Parsed { matches, settings: Vec::new(), files: Vec::new() }),
        Err(error) => Err(Refused::Typed(error)),
    };
    // What is required may be set; whether it is, is asked at the end.
    let typed = command.clone().mut_subcommand(COMMAND, |run| alone(run, false));
    let matches = match typed.try_get_matches_from(&words) {
        Ok(matches) if matches.subcommand_name() == Some(COMMAND) => matches,
        _ => return plain(words),
    };
    let flags = Flags::of(command);
    let config = read(&flags).map_err(Refused::Set)?;
    let present = matches.subcommand_matches(COMMAND).map(|m| flags.typed(m)).unwrap_or_default();
    let settings = meaningful(command, &words, config.beside(present, &flags));
    let full = command.clone().mut_subcommand(COMMAND, |run| alone(run, true));
    match full.try_get_matches_from(joined(&words, &settings)) {
        Ok(matches) => Ok(Parsed { matches, settings, files: config.files }),
        Err(error) => Err(blamed(&error, &settings).map_or(Refused::Typed(error), Refused::Set)),
    }
}

/// Leaves out what only means something beside a flag that nobody has given: `strength = 0.5` is no request to repaint.
fn meaningful(command: &Command, words: &[OsString], mut settings: Vec<Setting>) -> Vec<Setting> {
    let lenient = command.clone().mut_subcommand(COMMAND, |run| alone(run, false));
    let lacking = |words| match lenient.clone().try_get_matches_from(words) {
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => named(&error, ContextKind::InvalidArg),
        _ => Vec::new(),
    };
    loop {
        let lacks = lacking(joined(words, &settings));
        // What a setting lacks by itself is what it requires.
        let start = [command.get_name().into(), COMMAND.into()];
        let idle = |s: &Setting| {
            !lacks.is_empty() && lacking(joined(&start, std::slice::from_ref(s))).iter().any(|l| lacks.contains(l))
        };
        let before = settings.len();
        settings.retain(|setting| !idle(setting));
        if settings.len() == before {
            return settings;
        }
    }
}

/// What would be set if `krea run` were typed without a flag, checked.
pub fn without_flags(command: &Command) -> Result<(Flags, Vec<Setting>)> {
    let flags = Flags::of(command);
    let settings = read(&flags)?.beside(HashSet::new(), &flags);
    let words = joined(&[command.get_name().into(), COMMAND.into()], &settings);
    let lenient = command.clone().mut_subcommand(COMMAND, |run| alone(run, false));
    match lenient.try_get_matches_from(words) {
        Ok(_) => Ok((flags, settings)),
        // That is asked when something is typed.
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => Ok((flags, settings)),
        Err(error) => Err(blamed(&error, &settings).unwrap_or_else(|| Error::Usage(message(&error)))),
    }
}

fn read(flags: &Flags) -> Result<Config> {
    let var = |name: &str| std::env::var_os(name);
    Config::read(flags, &Places::from_lookup(var), var)
}

/// The command with nothing set from elsewhere, and with or without what it requires.
fn alone(run: Command, required: bool) -> Command {
    run.mut_args(|arg| {
        let arg = arg.env(clap::builder::Resettable::Reset);
        if required { arg } else { arg.required(false).required_unless_present(clap::builder::Resettable::Reset) }
    })
}

/// The settings, right behind the name of the command.
fn joined(words: &[OsString], settings: &[Setting]) -> Vec<OsString> {
    let at = words.iter().position(|w| w == COMMAND).map_or(words.len(), |at| at + 1);
    let added = settings.iter().flat_map(|s| s.words.clone());
    words[..at].iter().cloned().chain(added).chain(words[at..].iter().cloned()).collect()
}

/// The error in terms of where the value stands, if it was not typed.
fn blamed(error: &clap::Error, settings: &[Setting]) -> Option<Error> {
    let named = [ContextKind::InvalidArg, ContextKind::PriorArg].map(|kind| named(error, kind)).concat();
    // clap writes an argument as `--name <VALUE>` or `--name[=VALUE]`.
    let long = |text: &str| text.split([' ', '=', '[']).next().map(str::to_owned);
    let guilty: Vec<&Setting> =
        settings.iter().filter(|s| named.iter().any(|n| long(n) == Some(format!("--{}", s.name)))).collect();
    let places: Vec<String> = guilty.iter().map(|s| format!("{}: {}", s.origin, s.name)).collect();
    (!guilty.is_empty()).then(|| Error::Usage(format!("{}: {}", places.join(", "), message(error))))
}

/// The arguments that an error is about.
fn named(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

/// What clap says, in one line, without its advice.
fn message(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.split("\n\n").next().unwrap_or_default();
    text.trim_start_matches("error: ").split('\n').map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Tells what was set from where. A file in the current folder is named always: it may have come with the folder.
pub fn tell(settings: &[Setting], files: &[PathBuf]) {
    for path in files {
        let from = |s: &&Setting| matches!(&s.origin, Origin::File { path: file, .. } if file == path);
        let names: Vec<&str> = settings.iter().filter(from).map(|s| s.name.as_str()).collect();
        let names = if names.is_empty() { "nothing that counts here".to_owned() } else { names.join(", ") };
        match path.as_os_str() == FOLDER_FILE {
            true => tracing::info!("{} sets {names}", path.display()),
            false => tracing::debug!("{} sets {names}", path.display()),
        }
    }
    for setting in settings {
        if let Origin::Environment(name) = &setting.origin {
            tracing::debug!("{name} sets {}", setting.name);
        }
    }
}

/// A value as a flag of this kind, with its origin.
fn setting(flag: &Flag, given: flags::Given, origin: Origin) -> Result<Setting> {
    match flag.words(&given) {
        Ok(words) => Ok(Setting { name: flag.name.clone(), value: given.shown(), origin, words }),
        Err(why) => Err(Error::Usage(format!("{origin}: {}: {why}", flag.name))),
    }
}

#[cfg(test)]
mod tests;
