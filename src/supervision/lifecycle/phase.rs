//! What a plugin is doing, and why: the phases with their data.
//!
//! Invariant: what a phase needs to go on is in it, so that there is nothing to get out of step with it.

use super::{ReadyRule, StopCause, Ticket};
use crate::policy::FailureClass;
use crate::{ExitStatus, MonoTime, PluginId, Run};
use std::time::Duration;

/// Why nothing runs in phase `stopped`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Rest {
    /// Nobody has wished it up yet.
    NeverStarted,
    /// It was asked to.
    Asked(StopCause),
    /// It ended and its restart policy leaves it at that.
    Finished,
}

/// Why a start that is wished for is not even tried (spec §6, §9). The text names thing, cause and way out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BlockReason {
    /// The executable is missing, still being written or refused.
    Executable(String),
    /// There is no valid credential.
    Credentials(String),
    /// Its settings name something that is not there, such as an environment file.
    Settings(String),
    /// A plugin that it requires is on its way.
    Awaits {
        /// Which.
        on: PluginId,
        /// `requires 'db', which …`.
        text: String,
    },
    /// A plugin that it requires is not ready, and will not be without more ado.
    Requires {
        /// Which.
        on: PluginId,
        /// `requires 'db', which …`.
        text: String,
    },
    /// A device or file that it needs is not there.
    Needs(String),
    /// A process of an earlier run was killed and has not ended: there would be two.
    Leftover(String),
}

impl BlockReason {
    /// The required plugin on its way that is waited for, when that is all.
    #[must_use]
    pub fn awaits(&self) -> Option<&PluginId> {
        match self {
            BlockReason::Awaits { on, .. } => Some(on),
            BlockReason::Executable(_)
            | BlockReason::Credentials(_)
            | BlockReason::Settings(_)
            | BlockReason::Requires { .. }
            | BlockReason::Needs(_)
            | BlockReason::Leftover(_) => None,
        }
    }

    /// The text for people.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            BlockReason::Executable(text)
            | BlockReason::Credentials(text)
            | BlockReason::Settings(text)
            | BlockReason::Awaits { text, .. }
            | BlockReason::Requires { text, .. }
            | BlockReason::Needs(text)
            | BlockReason::Leftover(text) => text,
        }
    }
}

/// Why a run, or the try to begin one, ended without having been asked to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Failure {
    /// exec did not happen; the operating system's text as Go words it, `fork/exec {path}: permission denied`.
    Spawn(String),
    /// It ended before it was ready; code 0 included.
    EarlyExit(ExitStatus),
    /// It ended after it had been ready.
    Ended(ExitStatus),
    /// It was not ready when the start timeout was over, and was stopped.
    NotReady(Duration),
    /// It gave no sign of life for so long, or said itself that it hangs (zero), and was stopped.
    Watchdog(Duration),
    /// It used more than it may, and was stopped; which limit, measured and allowed.
    Limit(String),
    /// A plugin that it requires went away, and it was stopped for that.
    DependencyLost(PluginId),
}

impl Failure {
    /// For which class of the restart policy it counts (spec §9).
    #[must_use]
    pub fn class(&self) -> FailureClass {
        match self {
            Failure::EarlyExit(ExitStatus::OutOfMemory { .. })
            | Failure::Ended(ExitStatus::OutOfMemory { .. }) => FailureClass::OutOfMemory,
            Failure::Spawn(_) => FailureClass::CouldNotStart,
            Failure::EarlyExit(_) => FailureClass::EarlyExit,
            Failure::Ended(_) => FailureClass::Crash,
            Failure::NotReady(_) => FailureClass::NotReady,
            Failure::Watchdog(_) => FailureClass::Watchdog,
            Failure::Limit(_) => FailureClass::Limit,
            Failure::DependencyLost(_) => FailureClass::DependencyLost,
        }
    }
}

/// How long a run may still take until it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Until then.
    Until(MonoTime),
    /// So long from when the bus is back: nobody can tell of its login meanwhile (spec §9).
    Held(Duration),
}

impl Patience {
    /// The same, but at least `by` from `now`.
    #[must_use]
    pub(super) fn extended(self, now: MonoTime, by: Duration) -> Self {
        match self {
            Patience::Until(deadline) => Patience::Until(deadline.max(now.after(by))),
            Patience::Held(left) => Patience::Held(left.max(by)),
        }
    }
}

/// How a ready run is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// At least one sign of life in each.
    pub every: Duration,
    /// The next one is due by then.
    pub due: MonoTime,
}

impl Watch {
    /// A watch that begins now; none when the interval is zero.
    #[must_use]
    pub(super) fn begun(now: MonoTime, every: Option<Duration>) -> Option<Self> {
        let every = every.filter(|every| !every.is_zero())?;
        Some(Watch {
            every,
            due: now.after(every),
        })
    }
}

/// What happens when the tree of the run that is being ended is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// Rest, as somebody asked.
    Rest(StopCause),
    /// Begin a new run at once, as somebody asked.
    StartAgain,
    /// Nobody asked: the restart policy decides.
    Decide {
        /// What ended the run.
        failure: Failure,
        /// How long its main process lived.
        lasted: Duration,
        /// Whether the next try waits.
        pause: Pause,
    },
}

impl Then {
    /// The restart policy decides, and nothing cuts its pause short so far.
    pub(super) fn decide(failure: Failure, lasted: Duration) -> Self {
        Then::Decide {
            failure,
            lasted,
            pause: Pause::ByPolicy,
        }
    }
}

/// Whether the next try waits when a run that nobody asked to end is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// As the restart policy says.
    ByPolicy,
    /// No more: a cause of the failure may have gone while the rest of the tree was still being ended.
    CutShort,
}

/// How far a stop is that began before the process was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopStage {
    /// The spawner has not answered yet; then the stop signal is sent.
    AwaitsSpawn,
    /// As before, but the tree is killed at once then.
    AwaitsSpawnToKill,
    /// The stop signal was sent; at the deadline the tree is killed.
    Grace {
        /// End of the grace period.
        deadline: MonoTime,
    },
}

/// What a plugin is doing (spec §9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Nothing lives and nothing is planned.
    Stopped {
        /// Why.
        why: Rest,
    },
    /// Wished up, but something it needs is missing; tried again at `retry_at` or when the cause goes.
    Blocked {
        /// What is missing.
        reason: BlockReason,
        /// When the check is repeated.
        retry_at: MonoTime,
        /// How many checks in a row were in vain, from 1.
        attempt: u32,
    },
    /// Executable and credentials are being looked at.
    Preparing {
        /// Which look.
        ticket: Ticket,
        /// How many checks in a row were in vain before this one.
        attempt: u32,
    },
    /// The spawner is at work.
    Spawning {
        /// Number of the run that begins.
        run: Run,
        /// How many checks in a row were in vain before; a file that is busy all the time is tried ever slower.
        attempt: u32,
    },
    /// The process is there but not ready yet; together with `Spawning` shown as `starting`.
    Proving {
        /// Number of the run.
        run: Run,
        /// Its main process; for showing, never for signalling (T1).
        pid: i32,
        /// Since exec.
        since: MonoTime,
        /// The rule in force when it began.
        rule: ReadyRule,
        /// When it is ready, or has failed, by the rule.
        patience: Patience,
        /// How it wants to be watched once it is ready.
        watch_every: Option<Duration>,
    },
    /// Ready.
    Running {
        /// Number of the run.
        run: Run,
        /// Its main process; for showing.
        pid: i32,
        /// Since exec.
        since: MonoTime,
        /// Its watchdog, when it has one.
        watch: Option<Watch>,
    },
    /// The stop signal is out, or will be once the process is there.
    Stopping {
        /// Number of the run.
        run: Run,
        /// How far it is.
        stage: StopStage,
        /// What comes after.
        then: Then,
    },
    /// SIGKILL is out, to the whole tree.
    Killing {
        /// Number of the run.
        run: Run,
        /// When it is sent again.
        again_at: MonoTime,
        /// How often it was sent.
        rounds: u32,
        /// What comes after.
        then: Then,
    },
    /// Waits before the next try.
    Backoff {
        /// When it comes.
        until: MonoTime,
        /// The how many-th restart in a row this will be, from 1.
        attempt: u32,
    },
    /// A copy runs that this launcher did not start.
    Foreign {
        /// Its process; for showing.
        pid: i32,
    },
}

/// The names of phases on the wire and in logs (spec §18).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PhaseName {
    /// `stopped`
    Stopped,
    /// `blocked`
    Blocked,
    /// `preparing`
    Preparing,
    /// `starting`
    Starting,
    /// `running`
    Running,
    /// `stopping`
    Stopping,
    /// `killing`
    Killing,
    /// `backoff`
    Backoff,
    /// `foreign`
    Foreign,
}

impl Phase {
    /// The name on the wire.
    #[must_use]
    pub fn name(&self) -> PhaseName {
        match self {
            Phase::Stopped { .. } => PhaseName::Stopped,
            Phase::Blocked { .. } => PhaseName::Blocked,
            Phase::Preparing { .. } => PhaseName::Preparing,
            Phase::Spawning { .. } | Phase::Proving { .. } => PhaseName::Starting,
            Phase::Running { .. } => PhaseName::Running,
            Phase::Stopping { .. } => PhaseName::Stopping,
            Phase::Killing { .. } => PhaseName::Killing,
            Phase::Backoff { .. } => PhaseName::Backoff,
            Phase::Foreign { .. } => PhaseName::Foreign,
        }
    }

    /// The run that lives, or is about to, or is being ended.
    #[must_use]
    pub fn live_run(&self) -> Option<Run> {
        match self {
            Phase::Spawning { run, .. }
            | Phase::Proving { run, .. }
            | Phase::Running { run, .. }
            | Phase::Stopping { run, .. }
            | Phase::Killing { run, .. } => Some(*run),
            Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => None,
        }
    }

    /// When it is tried again by itself, and the how many-th try in a row that will be; none while nothing waits for a
    /// time to come.
    #[must_use]
    pub fn next_try(&self) -> Option<(MonoTime, u32)> {
        match self {
            Phase::Blocked {
                retry_at: at,
                attempt,
                ..
            }
            | Phase::Backoff { until: at, attempt } => Some((*at, *attempt)),
            Phase::Stopped { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Foreign { .. } => None,
        }
    }

    /// The main process that it tells of, ours or a copy of somebody else; for showing, never for signalling (T1).
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        match self {
            Phase::Proving { pid, .. } | Phase::Running { pid, .. } | Phase::Foreign { pid } => {
                Some(*pid)
            }
            Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Backoff { .. } => None,
        }
    }

    /// Why a start that is wished for is not even tried.
    #[must_use]
    pub fn block_reason(&self) -> Option<&BlockReason> {
        match self {
            Phase::Blocked { reason, .. } => Some(reason),
            Phase::Stopped { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => None,
        }
    }
}

impl PhaseName {
    /// Whether nothing of ours lives, nor is about to.
    #[must_use]
    pub fn is_down(self) -> bool {
        match self {
            PhaseName::Stopped | PhaseName::Foreign => true,
            PhaseName::Blocked
            | PhaseName::Preparing
            | PhaseName::Starting
            | PhaseName::Running
            | PhaseName::Stopping
            | PhaseName::Killing
            | PhaseName::Backoff => false,
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PhaseName::Stopped => "stopped",
            PhaseName::Blocked => "blocked",
            PhaseName::Preparing => "preparing",
            PhaseName::Starting => "starting",
            PhaseName::Running => "running",
            PhaseName::Stopping => "stopping",
            PhaseName::Killing => "killing",
            PhaseName::Backoff => "backoff",
            PhaseName::Foreign => "foreign",
        }
    }
}

impl std::fmt::Display for PhaseName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
