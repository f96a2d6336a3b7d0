//! The daemon's own parts: command line, exit codes, own log.

pub mod cli;
pub mod exit;
pub mod level;

pub use cli::Settings;
pub use exit::ExitCode;
pub use level::LogLevel;
