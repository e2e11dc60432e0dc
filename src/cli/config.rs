//! `krea config`: what is set where.

use clap::{Args, CommandFactory, Subcommand};
use serde_json::json;

use super::Cli;
use super::completions::print;
use crate::config::flags::Flag;
use crate::config::{self, Origin, Places, Setting};
use crate::error::{Error, Exit, Result};

/// Show what is set by the environment and by files
#[derive(Args)]
#[command(after_help = "`krea config --help` says how files look.")]
#[command(after_long_help = "\
A flag of `krea run` wins over its environment variable, that over ./krea.toml, that over the
user's config.toml ($XDG_CONFIG_HOME/krea, or ~/.config/krea), that over what is built in. Keys are
the long names of flags, variables are KREA_ and the name in capitals (KREA_REMOVE_BG=true):
  [run]
  remove-bg = true
  bg = \"blur=20\"
  crf = 20
  output = [\"out.mkv\", \"udp://127.0.0.1:5000\"]
What conflicts with something of more weight gives way to it. overwrite and stats, which may destroy
files, are refused in ./krea.toml; what it sets is told at each run.

Examples:
  krea config
  krea config show --json | jq '.run[] | select(.origin.kind != \"built-in\")'
  $EDITOR \"$(krea config path | tail -n 1)\"")]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Each option of `krea run`, its value, and where that comes from
    Show {
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// The files that are looked for, the one with more weight first
    Path,
}

impl ConfigArgs {
    pub(super) fn run(self) -> Result<Exit> {
        match self.command.unwrap_or(What::Show { json: false }) {
            What::Path => print(paths().as_bytes()),
            What::Show { json } => {
                let (flags, settings) = config::without_flags(&Cli::command())?;
                let rows = flags.list.iter().map(|f| (f, settings.iter().find(|s| s.name == f.name)));
                let text = if json { as_json(rows)? } else { as_table(rows) };
                print(text.as_bytes())
            }
        }
    }
}

fn paths() -> String {
    let places = Places::from_lookup(|name| std::env::var_os(name));
    let folder = std::path::absolute(&places.folder).unwrap_or(places.folder);
    std::iter::once(folder).chain(places.user).map(|p| format!("{}\n", p.display())).collect()
}

fn as_table<'a>(rows: impl Iterator<Item = (&'a Flag, Option<&'a Setting>)>) -> String {
    let cells: Vec<[String; 3]> = rows
        .map(|(flag, setting)| match setting {
            Some(setting) => [flag.name.clone(), shown(&setting.value), setting.origin.to_string()],
            None if flag.built_in.is_empty() => [flag.name.clone(), "-".to_owned(), "built in".to_owned()],
            None => [flag.name.clone(), flag.built_in.join(", "), "built in".to_owned()],
        })
        .collect();
    let width = |column: usize| cells.iter().map(|c| c[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    cells.iter().map(|[name, value, origin]| format!("{name:first$}  {value:second$}  {origin}\n")).collect()
}

fn shown(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text_of(text),
        serde_json::Value::Array(list) => list.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// What is printed ends up in reports of bugs: addresses go without their passwords and stream keys.
fn text_of(text: &str) -> String {
    if text.contains("://") { crate::address::without_secrets(text) } else { text.to_owned() }
}

fn without_secrets(value: &serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::String(text) => text_of(text).into(),
        serde_json::Value::Array(list) => list.iter().map(without_secrets).collect(),
        other => other.clone(),
    }
}

fn as_json<'a>(rows: impl Iterator<Item = (&'a Flag, Option<&'a Setting>)>) -> Result<String> {
    let row = |(flag, setting): (&Flag, Option<&Setting>)| match setting {
        None => json!({
            "name": flag.name, "variable": flag.variable, "origin": { "kind": "built-in" },
            "value": match flag.built_in.as_slice() { [] => None, [one] => Some(json!(one)), many => Some(json!(many)) },
        }),
        Some(setting) => json!({
            "name": flag.name, "variable": flag.variable, "value": without_secrets(&setting.value),
            "origin": match &setting.origin {
                Origin::Environment(name) => json!({ "kind": "environment", "name": name }),
                Origin::File { path, line } => json!({ "kind": "file", "path": path, "line": line }),
            },
        }),
    };
    let text = serde_json::to_string_pretty(&json!({ "version": 1, "run": rows.map(row).collect::<Vec<_>>() }));
    Ok(text.map_err(|e| Error::Output(e.to_string()))? + "\n")
}
