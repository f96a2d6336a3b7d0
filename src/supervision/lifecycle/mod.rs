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

mod commands;
mod enter;
mod event;
mod facts;
mod phase;
mod signs;
mod step;
#[cfg(test)]
mod tests;
mod words;

pub use event::{Answer, Denial, Effect, Event, SpawnFailure, Step, StopCause, Ticket};
pub use phase::{
    BlockReason, Failure, Patience, Pause, Phase, PhaseName, Rest, StopStage, Then, Watch,
};
pub use words::{Goal, Verdict, already_exists};

use crate::backoff::Jitter;
use crate::policy::{RestartPolicy, StopPolicy};
use crate::{MonoTime, Run};
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
    /// As `Told`, by way of the bus: while that is away the start timeout stands still (spec §9).
    ToldByBus,
}

/// Whether the bus can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bus {
    There,
    Away,
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
    /// A ready run that gives no sign of life for so long has failed; none = it is not watched.
    pub watchdog: Option<Duration>,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            restart: RestartPolicy::default(),
            stop: StopPolicy::default(),
            start_timeout: Duration::from_secs(30),
            ready: ReadyRule::Lives(LIVES_AFTER),
            watchdog: None,
        }
    }
}

/// The last unasked end or failed start, for causes and replies; also of a run that is still being ended, when a command
/// overtook the decision on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    /// The run that ended; when exec failed, the number that was meant for it.
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
    /// Why it rested last, or would if it rested now.
    rest: Rest,
    /// The newest run, or zero. A try that failed uses its number up, so that no fact can be taken for a later one's.
    run: Run,
    /// Failed starts and short runs in a row.
    row: u32,
    /// Unasked restarts since the wish became up.
    restarts: u32,
    /// Failures ever, so that a reply can tell those after its request.
    failures: u64,
    last_failure: Option<LastFailure>,
    ticket: Ticket,
    bus: Bus,
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
            rest: Rest::NeverStarted,
            run: last_run,
            row: 0,
            restarts: 0,
            failures: 0,
            last_failure: None,
            ticket: Ticket::default(),
            bus: Bus::There,
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

    /// The number of the newest run or try, zero when there was none.
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
            Phase::Proving {
                patience: Patience::Until(deadline),
                ..
            } => Some(*deadline),
            Phase::Running {
                watch: Some(watch), ..
            } => Some(watch.due),
            Phase::Stopping {
                stage: StopStage::Grace { deadline },
                ..
            } => Some(*deadline),
            Phase::Killing { again_at, .. } => Some(*again_at),
            Phase::Backoff { until, .. } => Some(*until),
            Phase::Stopped { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Proving {
                patience: Patience::Held(_),
                ..
            }
            | Phase::Running { watch: None, .. }
            | Phase::Stopping {
                stage: StopStage::AwaitsSpawn | StopStage::AwaitsSpawnToKill,
                ..
            }
            | Phase::Foreign { .. } => None,
        }
    }
}
