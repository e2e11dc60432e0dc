//! What can be set: every flag of `krea run`, whatever there is by the time.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;

use super::{COMMAND, Origin, Setting, setting};
use crate::error::{Error, Result};

/// How a flag takes values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Switch,
    /// With the value true or false, or without.
    Truth,
    /// As often as it is typed.
    Count,
    One,
    /// With a value or without.
    Maybe,
    Many,
}

/// A flag that can be set.
#[derive(Clone, Debug)]
pub struct Flag {
    /// Its long name, which is its key in files.
    pub name: String,
    /// `KREA_` and the name in capitals, or what the flag says itself.
    pub variable: String,
    /// What holds if nobody says anything.
    pub built_in: Vec<String>,
    kind: Kind,
}

/// All of them, and which exclude each other.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub list: Vec<Flag>,
    /// From the names that clap uses inside to those that are typed.
    names: BTreeMap<String, String>,
    conflicts: BTreeMap<String, BTreeSet<String>>,
}

/// A value before it is known what the flag makes of it.
pub(super) enum Given {
    Bool(bool),
    One(OsString),
    Many(Vec<OsString>),
}

impl Given {
    pub(super) fn shown(&self) -> Value {
        // A number is shown as one.
        let text = |word: &OsString| {
            let word = word.to_string_lossy();
            serde_json::from_str(&word).ok().filter(Value::is_number).unwrap_or_else(|| word.as_ref().into())
        };
        match self {
            Self::Bool(on) => (*on).into(),
            Self::One(word) => text(word),
            Self::Many(words) => words.iter().map(text).collect(),
        }
    }
}

impl Flags {
    /// Reads them from the description of the command line.
    pub fn of(command: &Command) -> Self {
        let Some(run) = command.find_subcommand(COMMAND) else { return Self::default() };
        let mut flags = Self::default();
        for arg in run.get_arguments() {
            let id = arg.get_id().to_string();
            let name = arg.get_long().map_or_else(|| id.clone(), str::to_owned);
            if let Some(flag) = Flag::of(arg) {
                flags.list.push(flag);
            }
            flags.names.insert(id, name);
        }
        for arg in run.get_arguments() {
            for other in run.get_arg_conflicts_with(arg) {
                let pair = [arg, other].map(|a| flags.names[a.get_id().as_str()].clone());
                flags.conflicts.entry(pair[0].clone()).or_default().insert(pair[1].clone());
                flags.conflicts.entry(pair[1].clone()).or_default().insert(pair[0].clone());
            }
        }
        flags
    }

    pub(super) fn conflicts(&self, name: &str) -> impl Iterator<Item = &String> {
        self.conflicts.get(name).into_iter().flatten()
    }

    /// The names of what was typed.
    pub(super) fn typed(&self, matches: &ArgMatches) -> HashSet<String> {
        let typed = |id: &&String| matches.value_source(id) == Some(ValueSource::CommandLine);
        self.names.keys().filter(typed).map(|id| self.names[id].clone()).collect()
    }

    /// The flag of this name; else the error names the nearest, and where the word stands.
    pub(super) fn find(&self, name: &str, origin: &Origin) -> Result<&Flag> {
        if let Some(flag) = self.list.iter().find(|f| f.name == name) {
            return Ok(flag);
        }
        let likeness = |f: &&Flag| strsim::normalized_damerau_levenshtein(name, &f.name);
        let near = self.list.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|f| likeness(f) > 0.6);
        let near = near.map_or(String::new(), |f| format!(", did you mean {}?", f.name));
        Err(Error::Usage(format!("{origin}: '{name}' is no option of krea {COMMAND}{near}")))
    }

    pub(super) fn in_environment(&self, var: impl Fn(&str) -> Option<OsString>) -> Result<Vec<Setting>> {
        let mut settings = Vec::new();
        for flag in &self.list {
            let Some(value) = var(&flag.variable).filter(|v| !v.is_empty()) else { continue };
            let origin = Origin::Environment(flag.variable.clone());
            let given = match (flag.kind, truth(&value)) {
                (Kind::Switch | Kind::Truth | Kind::Maybe, Some(on)) => Given::Bool(on),
                (Kind::Switch | Kind::Truth, None) if value == "1" || value == "0" => Given::Bool(value == "1"),
                _ => Given::One(value),
            };
            settings.push(setting(flag, given, origin)?);
        }
        Ok(settings)
    }
}

/// What people write for on and off. Not 0 and 1, which may be values: cameras have such names.
fn truth(value: &OsStr) -> Option<bool> {
    let value = value.to_str()?.to_ascii_lowercase();
    match value.as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

impl Flag {
    /// `None` for what has no long name, and for help.
    fn of(arg: &Arg) -> Option<Self> {
        let name = arg.get_long()?.to_owned();
        let optional = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
        let kind = match arg.get_action() {
            ArgAction::SetTrue | ArgAction::SetFalse => Kind::Switch,
            ArgAction::Count => Kind::Count,
            ArgAction::Append => Kind::Many,
            ArgAction::Set if arg.get_value_parser().type_id() == TypeId::of::<bool>() => Kind::Truth,
            ArgAction::Set if optional => Kind::Maybe,
            ArgAction::Set => Kind::One,
            _ => return None,
        };
        let derived = || format!("KREA_{}", name.to_ascii_uppercase().replace('-', "_"));
        let variable = arg.get_env().map_or_else(derived, |v| v.to_string_lossy().into_owned());
        let built_in = arg.get_default_values().iter().map(|v| v.to_string_lossy().into_owned()).collect();
        let built_in = if kind == Kind::Switch { vec!["false".to_owned()] } else { built_in };
        Some(Self { name, variable, built_in, kind })
    }

    /// As it would be typed.
    pub(super) fn words(&self, given: &Given) -> Result<Vec<OsString>, String> {
        let bare = || OsString::from(format!("--{}", self.name));
        let with = |value: &OsString| {
            let mut word = OsString::from(format!("--{}=", self.name));
            word.push(value);
            word
        };
        match (self.kind, given) {
            (Kind::Switch | Kind::Maybe, Given::Bool(on)) => Ok(if *on { vec![bare()] } else { Vec::new() }),
            (Kind::Truth, Given::Bool(on)) => Ok(vec![with(&on.to_string().into())]),
            (Kind::Switch | Kind::Truth, _) => Err("true or false is expected".to_owned()),
            (Kind::Count, Given::One(word)) => match word.to_str().and_then(|w| w.parse::<u8>().ok()) {
                Some(times) => Ok(vec![bare(); times.into()]),
                None => Err("a small number is expected".to_owned()),
            },
            (Kind::Count, _) => Err("a small number is expected".to_owned()),
            (Kind::Many, Given::Many(words)) => Ok(words.iter().map(with).collect()),
            (Kind::One | Kind::Maybe | Kind::Many, Given::One(word)) => Ok(vec![with(word)]),
            (_, Given::Bool(_)) => Err("a value is expected, not true or false".to_owned()),
            (_, Given::Many(_)) => Err("one value is expected, not a list".to_owned()),
        }
    }
}
