//! The launcher: brings a hub to life and keeps it alive.

use std::process::ExitCode;

fn main() -> ExitCode {
    launcher::app::launcher::run(std::env::args_os(), |name| std::env::var_os(name)).into()
}
