//! What the outside sees of a plugin.
//!
//! Invariant: plain data, a whole at one moment; whoever shows it asks nobody.

use crate::ports::{FileFacts, Kind, Usage};
use os::cgroup::TreeKind;
use supervision::hand::Setting;
use supervision::lifecycle::{PhaseName, Wish};
use supervision::limits::Limits;
use supervision::{MonoTime, PluginId, Run};

pub use supervision::past::{Fault, LastExit};

/// Everything the outside may know of a plugin; a whole at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Its id.
    pub id: PluginId,
    /// Plugin or core.
    pub kind: Kind,
    /// Its executable; none while there is no such file.
    pub file: Option<FileFacts>,
    /// What it is doing.
    pub phase: PhaseName,
    /// Since when, in Unix milliseconds.
    pub phase_since_mse: i64,
    /// Whether it should be up.
    pub wish: Wish,
    /// Who wished so.
    pub wish_by: String,
    /// Since when, in Unix milliseconds.
    pub wish_since_mse: i64,
    /// Whether it starts with the launcher.
    pub enabled: Setting,
    /// What was set by hand; none = the file decides.
    pub hand: Option<Setting>,
    /// Whether the file lists it in `autostart`.
    pub listed: bool,
    /// Number of the newest run.
    pub run: Run,
    /// The newest main process; 0 = never started.
    pub pid: i32,
    /// Runs since this launcher was started.
    pub start_count: u64,
    /// Unasked restarts since the wish became up.
    pub restarts: u32,
    /// Start of the newest run, in Unix milliseconds; 0 = never.
    pub start_mse: i64,
    /// End of the newest run that is over; 0 = never.
    pub stop_mse: i64,
    /// When it is tried next; 0 = no time is set.
    pub next_start_mse: i64,
    /// The how many-th try in a row that will be; 0 = none is planned.
    pub attempt: u32,
    /// The original's status text (HP 1.9).
    pub status: String,
    /// Why it is as it is, one line.
    pub cause: String,
    /// The plugin that it requires and that is on its way; none when it waits for no such one.
    pub awaits: Option<PluginId>,
    /// How the newest run ended.
    pub last_exit: Option<LastExit>,
    /// The newest unasked end or failed start, also of a launcher before this one.
    pub last_fault: Option<Fault>,
    /// The last lines of the newest run that is over, at most 20, oldest first.
    pub tail: Vec<String>,
    /// What it says of itself by `NOTIFY_SOCKET`; at most some 270 bytes, not escaped; empty when it says nothing.
    pub notified: String,
    /// When the newest run began, by the monotonic clock; none = never.
    pub started: Option<MonoTime>,
    /// What it uses; zeros while nothing lives, none while that is not measured.
    pub usage: Option<Usage>,
    /// What it may use.
    pub limits: Limits,
    /// How the processes of its run are known; `Group` while there is none.
    pub tree: TreeKind,
}

impl View {
    /// Whether a ready or starting process is there (HP 1.9: `Running` is true from exec on).
    #[must_use]
    pub fn running(&self) -> bool {
        match self.phase {
            PhaseName::Starting | PhaseName::Running | PhaseName::Stopping | PhaseName::Killing => {
                true
            }
            PhaseName::Stopped
            | PhaseName::Blocked
            | PhaseName::Preparing
            | PhaseName::Backoff
            | PhaseName::Foreign => false,
        }
    }
}
