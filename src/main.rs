//! The `krea` command: parse, dispatch, turn an error into an exit code.

use std::process::ExitCode;

use krea::cli::Cli;
use krea::console;
use krea::error::Exit;

fn main() -> ExitCode {
    // From 1.29 on ONNX Runtime reports to its maker unless this is set before the library is initialised.
    // SAFETY: the first statement of the program; no other thread runs that could read the environment.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    match Cli::from_args().and_then(Cli::run) {
        Ok(exit) => exit.into(),
        Err(error) => {
            if error.exit() != Exit::Done {
                console::complain(&error);
            }
            error.exit().into()
        }
    }
}
