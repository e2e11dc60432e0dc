//! The command line: one file a command; flags only, no logic.

mod completions;
mod config;
mod devices;
mod doctor;
mod generation;
mod models;
mod run;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use run::RunArgs;

use crate::config::{self as values, Parsed, Refused};
use crate::console;
use crate::error::{Exit, Result};

/// Restyle video while it plays: find the people, put them on another background
#[derive(Parser)]
#[command(name = "krea", version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "No telemetry, no update check: krea talks to nobody but the inputs, outputs and models that you name."
)]
#[command(after_long_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// What was not typed.
    #[arg(skip)]
    set: (Vec<values::Setting>, Vec<std::path::PathBuf>),
}

const EXAMPLES: &str = "\
Examples:
  krea run talk.mp4 --remove-bg -o talk-green.mp4
  krea run me.jpg --remove-bg --bg transparent -o me.png
  krea models pull yolov8n-seg
  krea doctor
  krea completions bash > ~/.local/share/bash-completion/completions/krea

Exit codes:
  0 done, also when the reader of the output went away    5 device or memory
  1 failed                                                6 output: disk, permission, exists
  2 usage                                                 7 some files of a batch failed
  3 input unreadable                                      130, 143 stopped by a signal after
  4 model missing or damaged                              a clean end

Options of `krea run` can also be set by environment variables (KREA_CRF=20) and by files; see
`krea config --help`.

No telemetry, no update check: krea talks to nobody but the inputs, outputs and models that you name.";

#[derive(Subcommand)]
enum Command {
    Run(Box<RunArgs>),
    Devices(devices::DevicesArgs),
    Models(models::ModelsArgs),
    Config(config::ConfigArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
}

impl Cli {
    /// Parses what was typed, with what the environment and files add to it. As with `Parser::parse`, a wrong command
    /// line ends the program with clap's message, and so do help and version with theirs.
    pub fn from_args() -> Result<Self> {
        match values::parse(&Self::command(), std::env::args_os().collect()) {
            Ok(Parsed { matches, settings, files }) => match Self::from_arg_matches(&matches) {
                Ok(cli) => Ok(Self { set: (settings, files), ..cli }),
                Err(error) => error.exit(),
            },
            Err(Refused::Typed(error)) => error.exit(),
            Err(Refused::Set(error)) => Err(error),
        }
    }

    /// Carries the command out.
    pub fn run(self) -> Result<Exit> {
        match self.command {
            Command::Run(args) => {
                let settings = args.settings()?;
                console::before(&settings.messages, || values::tell(&self.set.0, &self.set.1))?;
                crate::job::run(settings)
            }
            Command::Devices(args) => args.run(),
            Command::Models(args) => args.run(),
            Command::Config(args) => args.run(),
            Command::Doctor(args) => args.run(),
            Command::Completions(args) => args.run(),
            Command::Man(args) => args.run(),
        }
    }
}
