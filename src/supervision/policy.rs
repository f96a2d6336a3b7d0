//! What the operator may set for a plugin, as typed values with the defaults of spec §4.
//!
//! Invariant: values are within the ranges their constructors in the configuration reader checked; nothing here reads
//! text.

use std::time::Duration;

/// Which ends of a run are answered with a new one (spec §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestartMode {
    /// Any end that was not asked for.
    Always,
    /// Only a non-zero code or a signal.
    OnFailure,
    /// None.
    Never,
}

/// When and how fast a plugin is started again: block `restart` (spec §4, §9).
#[derive(Debug, Clone, PartialEq)]
pub struct RestartPolicy {
    /// Which ends are answered.
    pub mode: RestartMode,
    /// Delay before the first restart.
    pub first_delay: Duration,
    /// Delay before the second restart in a row.
    pub delay: Duration,
    /// By how much each further delay grows; at least 1.
    pub factor: f64,
    /// No delay is longer.
    pub max_delay: Duration,
    /// Part of the delay by which it is varied to both sides; 0 to 1.
    pub jitter: f64,
    /// A run at least this long ends the row: the next restart is a first one again.
    pub stable_after: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        RestartPolicy {
            mode: RestartMode::Always,
            first_delay: Duration::ZERO,
            delay: Duration::from_secs(1),
            factor: 2.0,
            max_delay: Duration::from_secs(3600),
            jitter: 0.1,
            stable_after: Duration::from_secs(60),
        }
    }
}

/// How a plugin is asked to stop: block `stop` (spec §4, §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopPolicy {
    /// The signal's number; SIGTERM by default.
    pub signal: i32,
    /// From the signal to SIGKILL.
    pub grace: Duration,
}

impl Default for StopPolicy {
    fn default() -> Self {
        StopPolicy {
            signal: 15,
            grace: Duration::from_secs(5),
        }
    }
}

/// Limits of a start: block `start` (spec §4, §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartPolicy {
    /// A start that is not ready by then has failed.
    pub timeout: Duration,
    /// How many starts may be in exec at once; 0 = twice the processors.
    pub parallel: usize,
}

impl Default for StartPolicy {
    fn default() -> Self {
        StartPolicy {
            timeout: Duration::from_secs(30),
            parallel: 0,
        }
    }
}

/// Size and number of a plugin's log files: block `logs` (spec §4, §11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPolicy {
    /// A file that would grow beyond this many bytes is rotated; 0 = never.
    pub max_size_bytes: u64,
    /// How many rotated files `.1 … .N` are kept.
    pub keep: u32,
}

impl Default for LogPolicy {
    fn default() -> Self {
        LogPolicy {
            max_size_bytes: 10 * 1024 * 1024,
            keep: 5,
        }
    }
}
