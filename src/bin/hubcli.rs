//! The operator's command line; everything is in the library.

use launcher::app::hubcli;
use std::process::ExitCode;

fn main() -> ExitCode {
    hubcli::run().into()
}
