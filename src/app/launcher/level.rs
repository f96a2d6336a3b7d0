//! Log levels by the names of the original (HP 1.3).
//!
//! Invariant: the text is kept as it was written, since plugins get it as `LOGLEVEL`.

use std::fmt;
use tracing::level_filters::LevelFilter;

/// A log level as it was written; `warning` by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLevel(String);

impl Default for LogLevel {
    fn default() -> Self {
        LogLevel("warning".to_owned())
    }
}

impl LogLevel {
    /// Takes any text, as the original does for command line and environment: what it does not know means info.
    #[must_use]
    pub fn lenient(text: String) -> Self {
        LogLevel(text)
    }

    /// Takes only what names a level: `debug`, `info`, `error` and what begins with `warn`.
    #[must_use]
    pub fn strict(text: &str) -> Option<Self> {
        let known = matches!(text, "debug" | "info" | "error" | "warn" | "warning");
        known.then(|| LogLevel(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is logged: exactly `debug`, exactly `error`, what begins with `warn`, and anything else is info.
    #[must_use]
    pub fn filter(&self) -> LevelFilter {
        match self.0.as_str() {
            "debug" => LevelFilter::DEBUG,
            "error" => LevelFilter::ERROR,
            warn if warn.starts_with("warn") => LevelFilter::WARN,
            _ => LevelFilter::INFO,
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_original() {
        for (text, filter) in [
            ("debug", LevelFilter::DEBUG),
            ("warn", LevelFilter::WARN),
            ("warning", LevelFilter::WARN),
            ("error", LevelFilter::ERROR),
            ("info", LevelFilter::INFO),
            ("Debug", LevelFilter::INFO),
            ("trace", LevelFilter::INFO),
        ] {
            assert_eq!(
                LogLevel::lenient(text.to_owned()).filter(),
                filter,
                "{text}"
            );
        }
        assert_eq!(LogLevel::default().filter(), LevelFilter::WARN);
        assert_eq!(LogLevel::strict("warnings"), None);
    }
}
