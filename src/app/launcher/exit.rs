//! The launcher's exit codes (spec §3).

/// How the launcher ended, as its caller sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Stopped as asked, and nothing is left; or `--check` found nothing wrong.
    Clean = 0,
    /// The start failed.
    StartFailed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The stop left something running.
    LeftRunning = 3,
    /// The configuration is wrong.
    Config = 78,
}

impl ExitCode {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        std::process::ExitCode::from(code.code())
    }
}
