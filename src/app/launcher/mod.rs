//! The daemon's own parts: command line, exit codes, own log.

mod bus_url;
pub mod check;
pub mod cli;
pub mod exit;
mod in_force;
pub mod level;
mod local;
mod logging;
mod reload;
mod run;
mod systemd;
mod wiring;

pub use cli::Settings;
pub use exit::ExitCode;
pub use level::LogLevel;
pub use run::run;

#[cfg(test)]
mod unit_file_tests;
