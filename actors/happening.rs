//! What the bus is told of, as plain data.
//!
//! Invariant: bounded: nothing in here grows with what a plugin says or how long the bus is away.

use std::path::PathBuf;
use std::time::Duration;
use supervision::lifecycle::PhaseName;
pub use supervision::limits::{LimitAction, Resource as LimitKind};
use supervision::{ExitStatus, PluginId, Run};

/// What the bus is told of (spec §8). Of one plugin, in the order in which it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A run began.
    Started {
        /// Whose.
        id: PluginId,
    },
    /// A run is over, tree and all.
    Stopped {
        /// Whose.
        id: PluginId,
    },
    /// A plugin, or the core, is in another phase. Told by its actor alone.
    Plugin(Box<PhaseChange>),
    /// A plugin used more than it may, as often in a row as makes it count (spec §10).
    Limit(Box<LimitExceeded>),
    /// Of the launcher itself.
    Launcher {
        /// What it did, or what became of it.
        what: LauncherNews,
        /// In one line, for people.
        text: String,
    },
}

/// A change of phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseChange {
    /// When, Unix ms: it may be told later, when the last lines are in.
    pub time_mse: i64,
    /// Whose.
    pub id: PluginId,
    /// The newest run; [`Run`] zero when there was none yet.
    pub run: Run,
    /// The main process of that run; 0 when there was no run yet, -1 when it is not known (yet).
    pub pid: i32,
    /// What it did.
    pub from: PhaseName,
    /// What it does.
    pub to: PhaseName,
    /// Why, in one line; empty when there is nothing to explain.
    pub cause: String,
    /// How the run ended that this change is the end of; none when it is not the end of one.
    pub status: Option<ExitStatus>,
    /// In how long it is tried again; none when no time is set.
    pub restart_in: Option<Duration>,
    /// What a run that failed said last, oldest first; at most [`TOLD_LINES`] lines of at most [`TOLD_LINE`] bytes.
    pub tail: Vec<String>,
}

/// So many of a failed run's last lines are told at most.
pub const TOLD_LINES: usize = 5;

/// So many bytes of each of them.
pub const TOLD_LINE: usize = 512;

/// A limit that was exceeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitExceeded {
    /// Whose.
    pub id: PluginId,
    /// The run that did.
    pub run: Run,
    /// Which.
    pub what: LimitKind,
    /// Bytes, or percent of one processor.
    pub measured: u64,
    /// In the same unit.
    pub limit: u64,
    /// In how many samples in a row.
    pub strikes: u32,
    /// What is done about it.
    pub action: LimitAction,
    /// Where what was found is kept; none when nothing is.
    pub evidence: Option<PathBuf>,
}

/// What the launcher tells of itself (spec §18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LauncherNews {
    /// It began.
    Started,
    /// It ends.
    Stopping,
    /// Its configuration was read anew and is in force.
    Reloaded,
    /// It does its work with less than it should have; the text says what is missing.
    Degraded,
    /// It is no longer degraded.
    Recovered,
    /// Events were dropped. Told by the spool alone.
    Dropped,
}

impl LauncherNews {
    /// The word on the wire (spec §18).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            LauncherNews::Started => "started",
            LauncherNews::Stopping => "stopping",
            LauncherNews::Reloaded => "reloaded",
            LauncherNews::Degraded => "degraded",
            LauncherNews::Recovered => "recovered",
            LauncherNews::Dropped => "dropped",
        }
    }
}
