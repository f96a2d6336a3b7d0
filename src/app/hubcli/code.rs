//! The exit codes (spec §13).
//!
//! Invariant: a code tells a script what kind of end it was, never more than one kind.

/// The exit codes; the original's are nearly always 0 (T25).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// It is done.
    Done = 0,
    /// The launcher says no, or it did not work.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// There is no connection to the hub.
    NoConnection = 3,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        std::process::ExitCode::from(code as u8)
    }
}
