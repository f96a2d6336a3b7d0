//! What happens to a plugin, and what is to be done about it.
//!
//! Invariant: what says something of a run or a look carries its number, so that what comes late is known as such.

use super::{BlockReason, Failure};
use crate::{ExitStatus, PluginId, Run};
use std::time::Duration;

/// Who or what asked for a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopCause {
    /// A person, for this plugin.
    ByHand,
    /// `stopAll`.
    All,
    /// A reload: the file does not list it any more (spec §4).
    Unlisted,
    /// The launcher itself stops.
    Shutdown,
}

/// What the spawner met.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SpawnFailure {
    /// There is no such file; waits for it.
    Missing(String),
    /// The file is still being written; tried again.
    Busy(String),
    /// Anything else, in Go's words.
    Failed(String),
}

/// Numbers the preparations, so that the result of one that was given up is told from the present one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(pub u64);

/// What happened to a plugin, or what somebody wants of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Command: be up. Clears the row of failures and tries at once.
    Start,
    /// Command: be down.
    Stop(StopCause),
    /// Command: be up with a new run.
    Restart,
    /// Command: be down, without grace; the launcher was asked to stop twice.
    KillNow,
    /// Fact: executable and credentials are in order.
    Prepared(Ticket),
    /// Fact: they are not.
    PrepareFailed(Ticket, BlockReason),
    /// Fact: the process is there.
    Spawned {
        /// Of which run.
        run: Run,
        /// Its main process.
        pid: i32,
    },
    /// Fact: it could not be made.
    SpawnFailed {
        /// Of which run.
        run: Run,
        /// Why.
        failure: SpawnFailure,
    },
    /// Fact: it is ready, for [`ReadyRule::Told`](super::ReadyRule) and `ToldByBus`.
    Ready {
        /// Of which run.
        run: Run,
    },
    /// Fact: it gave a sign of life (`WATCHDOG=1`); counts once it is ready.
    Alive {
        /// Of which run.
        run: Run,
    },
    /// Fact: it needs more time (`EXTEND_TIMEOUT_USEC`): start deadline, grace and watchdog end no sooner than so long
    /// from now.
    Extend {
        /// Of which run.
        run: Run,
        /// How long.
        by: Duration,
    },
    /// Fact: it wants to be watched with another interval (`WATCHDOG_USEC`); zero = not any more.
    WatchdogSet {
        /// Of which run.
        run: Run,
        /// At least one sign of life in each.
        every: Duration,
    },
    /// Fact: it says itself that it hangs (`WATCHDOG=trigger`).
    WatchdogTripped {
        /// Of which run.
        run: Run,
    },
    /// Fact: it used more than it may, and is to be started anew for it (spec §10).
    LimitExceeded {
        /// Of which run.
        run: Run,
        /// Which limit, how much was measured and allowed: `memory 70 MiB, limit 64 MiB`.
        text: String,
    },
    /// Fact: the bus cannot be asked at the moment, so that nobody can tell of a login there.
    BusLost,
    /// Fact: it can be asked again.
    BusBack,
    /// Fact: a plugin that this one requires is no longer ready.
    DependencyLost {
        /// Which.
        on: PluginId,
    },
    /// Fact: the main process ended, others of its tree live on.
    MainEnded {
        /// Of which run.
        run: Run,
        /// How it ended.
        status: ExitStatus,
    },
    /// Fact: the whole tree is gone and reaped.
    TreeEnded {
        /// Of which run.
        run: Run,
        /// How the main process ended.
        status: ExitStatus,
    },
    /// Fact: a cause of waiting may be gone (file changed, core back, credential there).
    CauseGone,
    /// Fact: what its processes are made by (arguments, environment, binary) is another. A run that lives is replaced when
    /// it is to be up, a wait is cut short; the row of failures is over, as they were those of another program.
    Outdated,
    /// Fact: a copy that is not ours runs.
    ForeignFound {
        /// Its process.
        pid: i32,
    },
    /// Fact: that copy is gone.
    ForeignGone {
        /// Its process.
        pid: i32,
    },
    /// The deadline has come.
    Tick,
}

/// What the caller is to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Look at executable and credentials; answer with `Prepared`, `PrepareFailed` or `ForeignFound`.
    Prepare(Ticket),
    /// Make the process; answer with `Spawned` or `SpawnFailed`, and tell of its end only after that.
    Spawn(Run),
    /// Send SIGCONT and the stop signal to the tree.
    SignalTree(Run),
    /// Send SIGKILL to the tree.
    KillTree(Run),
    /// Tell the world that a run began.
    ReportStarted {
        /// The run.
        run: Run,
        /// Its main process.
        pid: i32,
    },
    /// Tell the world that the run is over, tree and all.
    ReportEnded {
        /// The run.
        run: Run,
        /// How the main process ended.
        status: ExitStatus,
        /// What ended it, `None` when it was asked to.
        failure: Option<Failure>,
    },
}

/// Why a command is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Denial {
    /// A copy runs that is not ours (spec §12: never two copies).
    Foreign {
        /// Its process.
        pid: i32,
    },
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// A command that is being followed.
    Accepted,
    /// A command whose aim is reached, or under way already.
    Already,
    /// A command that is not followed.
    Denied(Denial),
    /// A fact that was taken in, or a tick.
    Noted,
    /// A fact about something that is no longer so.
    Stale,
}

/// Result of [`Lifecycle::step`](super::Lifecycle::step).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What became of the event.
    pub answer: Answer,
    /// What is to be done, in order.
    pub effects: Vec<Effect>,
}
