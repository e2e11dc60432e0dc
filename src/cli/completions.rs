//! `krea completions` and `krea man`: both are made from the command line's own description.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
pub(super) use crate::console::print;
use crate::error::{Error, Exit, Result};

/// Print the completion script for a shell
#[derive(Args)]
#[command(after_help = "\
Examples:
  krea completions bash > ~/.local/share/bash-completion/completions/krea
  krea completions zsh > ~/.zfunc/_krea")]
pub(super) struct CompletionsArgs {
    shell: Shell,
}

/// Print the man page
#[derive(Args)]
#[command(after_help = "\
Examples:
  krea man | man -l -
  krea man --dir /usr/local/share/man/man1")]
pub(super) struct ManArgs {
    /// Write one page a command into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl CompletionsArgs {
    pub(super) fn run(self) -> Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "krea", &mut script);
        print(&script)
    }
}

impl ManArgs {
    pub(super) fn run(self) -> Result<Exit> {
        if let Some(dir) = self.dir {
            let failed = |e| Error::Output(format!("{}: cannot be written: {e}", dir.display()));
            clap_mangen::generate_to(Cli::command(), &dir).map_err(failed)?;
            return Ok(Exit::Done);
        }
        let mut page = Vec::new();
        let written = clap_mangen::Man::new(Cli::command()).render(&mut page);
        written.map_err(|e| Error::Output(e.to_string()))?;
        print(&page)
    }
}
