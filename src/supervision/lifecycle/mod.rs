//! The life of one plugin (or of the core), as a pure state machine.
//!
//! [`Lifecycle::step`] takes what happened and says what to do; [`Lifecycle::next_deadline`] says when to call it with
//! [`Event::Tick`] at the latest. Everything else (processes, files, clocks) is done by whoever calls.
//!
//! Invariants:
//! - the wish (should it be up?) is kept apart from the phase (what is it doing?), spec §1 and §9;
//! - each phase carries its own data; there is no flag beside it;
//! - at most one run lives: [`Effect::Spawn`] is only asked for when the tree of the run before is gone (T3, T4);
//! - a fact about a run that is not the present one changes nothing;
//! - with the wish up and no fault left, the phase reaches `running`; with the wish down, `stopped`.

mod step;
#[cfg(test)]
mod tests;
mod words;

pub use words::{Goal, Verdict, already_exists};

use crate::backoff::Jitter;
use crate::policy::{RestartPolicy, StopPolicy};
use crate::{ExitStatus, MonoTime, Run};
use std::time::Duration;

/// How long a process must live after exec to count as started (HP 1.7: the original's early-exit check).
pub const LIVES_AFTER: Duration = Duration::from_millis(100);

/// How long after SIGKILL it is sent again, to processes that were forked meanwhile.
pub const KILL_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Whether the plugin should be up now (spec §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wish {
    /// It should run.
    Up,
    /// It should not.
    Down,
}

/// When a started process counts as ready (spec §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadyRule {
    /// It still lives this long after exec.
    Lives(Duration),
    /// [`Event::Ready`] says so, before the start timeout is over.
    Told,
}

/// The rules a lifecycle follows; may be replaced at any time by [`Lifecycle::set_rules`].
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// When and how fast to start again.
    pub restart: RestartPolicy,
    /// How to stop.
    pub stop: StopPolicy,
    /// A start that is not ready by then has failed.
    pub start_timeout: Duration,
    /// What ready means.
    pub ready: ReadyRule,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            restart: RestartPolicy::default(),
            stop: StopPolicy::default(),
            start_timeout: Duration::from_secs(30),
            ready: ReadyRule::Lives(LIVES_AFTER),
        }
    }
}

/// Who or what asked for a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopCause {
    /// A person, for this plugin.
    ByHand,
    /// `stopAll`.
    All,
    /// The launcher itself stops.
    Shutdown,
}

/// Why nothing runs in phase `stopped`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Rest {
    /// Nobody has wished it up yet.
    NeverStarted,
    /// It was asked to.
    Asked(StopCause),
    /// It ended and its restart policy leaves it at that; the wish is still up.
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
}

impl BlockReason {
    /// The text for people.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            BlockReason::Executable(text)
            | BlockReason::Credentials(text)
            | BlockReason::Settings(text) => text,
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
    },
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
    },
    /// The process is there but not ready yet; together with `Spawning` shown as `starting`.
    Proving {
        /// Number of the run.
        run: Run,
        /// Its main process; for showing, never for signalling (T1).
        pid: i32,
        /// Since exec.
        since: MonoTime,
        /// When it is ready, or has failed, by the [`ReadyRule`].
        deadline: MonoTime,
    },
    /// Ready.
    Running {
        /// Number of the run.
        run: Run,
        /// Its main process; for showing.
        pid: i32,
        /// Since exec.
        since: MonoTime,
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
    /// Fact: it is ready, for [`ReadyRule::Told`].
    Ready {
        /// Of which run.
        run: Run,
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
    /// Make the process; answer with `Spawned` or `SpawnFailed`.
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
        /// How the main process ended; none when exec never happened.
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

/// Result of [`Lifecycle::step`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What became of the event.
    pub answer: Answer,
    /// What is to be done, in order.
    pub effects: Vec<Effect>,
}

/// The last unasked end or failed start, for causes and replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    /// The run that ended; the number it would have had when exec failed.
    pub run: Run,
    /// What happened.
    pub failure: Failure,
    /// How long the main process lived.
    pub lasted: Duration,
}

/// One plugin's life: wish, phase, and what backoff and replies need to remember.
#[derive(Debug, Clone, PartialEq)]
pub struct Lifecycle {
    rules: Rules,
    wish: Wish,
    phase: Phase,
    /// The newest run, or zero.
    run: Run,
    /// Failed starts and short runs in a row.
    row: u32,
    /// Unasked restarts since the wish became up.
    restarts: u32,
    /// Failures ever, so that a reply can tell those after its request.
    failures: u64,
    last_failure: Option<LastFailure>,
    ticket: Ticket,
    jitter: Jitter,
}

impl Lifecycle {
    /// A plugin that nobody wished up yet; `last_run` is the number of its newest run ever, `seed` that of its jitter.
    #[must_use]
    pub fn new(rules: Rules, last_run: Run, seed: u64) -> Self {
        Lifecycle {
            rules,
            wish: Wish::Down,
            phase: Phase::Stopped {
                why: Rest::NeverStarted,
            },
            run: last_run,
            row: 0,
            restarts: 0,
            failures: 0,
            last_failure: None,
            ticket: Ticket::default(),
            jitter: Jitter::seeded(seed),
        }
    }

    /// Replaces the rules; takes effect with the next event.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Whether it should be up.
    #[must_use]
    pub fn wish(&self) -> Wish {
        self.wish
    }

    /// What it is doing.
    #[must_use]
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// The number of the newest run, zero when there was none.
    #[must_use]
    pub fn run(&self) -> Run {
        self.run
    }

    /// Unasked restarts since the wish became up (spec §18).
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Failures since this launcher was started; only grows.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// The newest unasked end or failed start.
    #[must_use]
    pub fn last_failure(&self) -> Option<&LastFailure> {
        self.last_failure.as_ref()
    }

    /// When [`Event::Tick`] is due at the latest; none while only an event can change anything.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonoTime> {
        match &self.phase {
            Phase::Blocked { retry_at, .. } => Some(*retry_at),
            Phase::Proving { deadline, .. } => Some(*deadline),
            Phase::Stopping {
                stage: StopStage::Grace { deadline },
                ..
            } => Some(*deadline),
            Phase::Killing { again_at, .. } => Some(*again_at),
            Phase::Backoff { until, .. } => Some(*until),
            Phase::Stopped { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Running { .. }
            | Phase::Stopping {
                stage: StopStage::AwaitsSpawn | StopStage::AwaitsSpawnToKill,
                ..
            }
            | Phase::Foreign { .. } => None,
        }
    }
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
            Phase::Spawning { run }
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
}

impl PhaseName {
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
