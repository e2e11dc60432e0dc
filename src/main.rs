//! The `krea` command: parse, dispatch, turn an error into an exit code.

use std::process::ExitCode;

use clap::Parser;

use krea::cli::Cli;
use krea::console;
use krea::error::Exit;

fn main() -> ExitCode {
    match Cli::parse().run() {
        Ok(exit) => exit.into(),
        Err(error) => {
            if error.exit() != Exit::Done {
                console::complain(&error);
            }
            error.exit().into()
        }
    }
}
