//! The command line: one file a command; flags only, no logic.

mod completions;
mod devices;
mod generation;
mod models;
mod run;

use clap::{Parser, Subcommand};

pub use run::RunArgs;

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
}

const EXAMPLES: &str = "\
Examples:
  krea run talk.mp4 --remove-bg -o talk-green.mp4
  krea run me.jpg --remove-bg --bg transparent -o me.png
  krea models pull yolov8n-seg
  krea completions bash > ~/.local/share/bash-completion/completions/krea

Exit codes:
  0 done, also when the reader of the output went away    5 device or memory
  1 failed                                                6 output: disk, permission, exists
  2 usage                                                 7 some files of a batch failed
  3 input unreadable                                      130, 143 stopped by a signal after
  4 model missing or damaged                              a clean end

No telemetry, no update check: krea talks to nobody but the inputs, outputs and models that you name.";

#[derive(Subcommand)]
enum Command {
    Run(Box<RunArgs>),
    Devices(devices::DevicesArgs),
    Models(models::ModelsArgs),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
}

impl Cli {
    /// Carries the command out.
    pub fn run(self) -> Result<Exit> {
        match self.command {
            Command::Run(args) => crate::job::run(args.settings()?),
            Command::Devices(args) => args.run(),
            Command::Models(args) => args.run(),
            Command::Completions(args) => args.run(),
            Command::Man(args) => args.run(),
        }
    }
}
