//! What a lifecycle says of itself: replies to commands, the original's status text, the cause for people.
//!
//! Invariant: the words come from the same state that decides, never from a second account of it (spec §13).

use super::{
    BlockReason, Bus, Failure, LastFailure, Lifecycle, Phase, ReadyRule, Rest, StopCause,
    StopStage, Then,
};
use crate::ready::ReadyBy;
use crate::{ExitStatus, PluginId, Run};
use std::time::Duration;

/// What a command that takes time waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// A ready run newer than `above`; failures beyond the first `failures` are the reason why not.
    Up {
        /// [`Lifecycle::failures`] when the command came.
        failures: u64,
        /// The run that does not count; [`Run`] zero when any does.
        above: Run,
    },
    /// Nothing of ours lives.
    Down,
}

/// Whether a goal is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Not yet.
    Pending,
    /// It is.
    Reached,
    /// It will not be, without more ado; the text is the error of the reply (HP 1.10).
    Failed(String),
}

impl Lifecycle {
    /// Whether `goal` is reached, for the reply to the command that set it.
    #[must_use]
    pub fn verdict(&self, id: &PluginId, goal: Goal) -> Verdict {
        match goal {
            Goal::Up { failures, above } => self.verdict_up(id, failures, above),
            Goal::Down => match &self.phase {
                Phase::Stopped { .. } | Phase::Foreign { .. } => Verdict::Reached,
                Phase::Blocked { .. }
                | Phase::Preparing { .. }
                | Phase::Backoff { .. }
                | Phase::Spawning { .. }
                | Phase::Proving { .. }
                | Phase::Running { .. }
                | Phase::Stopping { .. }
                | Phase::Killing { .. } => Verdict::Pending,
            },
        }
    }

    fn verdict_up(&self, id: &PluginId, failures: u64, above: Run) -> Verdict {
        if self.failures > failures
            && let Some(last) = &self.last_failure
        {
            return Verdict::Failed(last.failure.reply(id));
        }
        match &self.phase {
            Phase::Running { run, .. } if *run > above => Verdict::Reached,
            // What is on its way will be there soon, most likely.
            Phase::Blocked {
                reason: BlockReason::Awaits { .. },
                ..
            } => Verdict::Pending,
            Phase::Blocked {
                reason:
                    reason @ (BlockReason::Executable(_)
                    | BlockReason::Credentials(_)
                    | BlockReason::Settings(_)
                    | BlockReason::Requires { .. }
                    | BlockReason::Needs(_)
                    | BlockReason::Leftover(_)),
                ..
            } => Verdict::Failed(format!("failed starting '{id}': {}", reason.text())),
            Phase::Stopped { .. } => {
                Verdict::Failed(format!("plugin '{id}' was stopped meanwhile"))
            }
            Phase::Foreign { pid } => Verdict::Failed(already_exists(id, *pid)),
            Phase::Running { .. }
            | Phase::Preparing { .. }
            | Phase::Backoff { .. }
            | Phase::Spawning { .. }
            | Phase::Proving { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. } => Verdict::Pending,
        }
    }

    /// The original's `Status` (HP 1.9), composed once from intent and end (T8).
    #[must_use]
    pub fn status(&self, id: &PluginId) -> String {
        let last = || {
            self.last_failure
                .as_ref()
                .map(|last| last.failure.status(id))
                .unwrap_or_default()
        };
        match &self.phase {
            Phase::Stopped {
                why: Rest::NeverStarted,
            } => String::new(),
            Phase::Stopped {
                why: Rest::Asked(_),
            } => "stopped by user".to_owned(),
            Phase::Stopped {
                why: Rest::Finished,
            }
            | Phase::Backoff { .. } => last(),
            Phase::Blocked { reason, .. } => reason.text().to_owned(),
            Phase::Foreign { pid } => already_exists(id, *pid),
            Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. } => String::new(),
        }
    }

    /// What has to happen before it is as wished, in words for people; empty when nothing has to. `ready` is by what a run
    /// of it counts as ready.
    #[must_use]
    pub fn waits_for(&self, ready: &ReadyBy) -> Vec<String> {
        let one = |text: &str| vec![text.to_owned()];
        match &self.phase {
            Phase::Stopped { .. } | Phase::Running { .. } => Vec::new(),
            Phase::Blocked { reason, .. } => one(reason.text()),
            Phase::Preparing { .. } => one("the look at its executable and credentials"),
            Phase::Spawning { .. } => one("its process to be made"),
            Phase::Proving { rule, .. } => vec![match rule {
                ReadyRule::Lives(_) => ReadyBy::Living.awaited(),
                ReadyRule::Told => ready.awaited(),
                ReadyRule::ToldByBus => match self.bus {
                    Bus::There => ready.awaited(),
                    Bus::Away => "the bus, to see its login there".to_owned(),
                },
            }],
            Phase::Stopping { stage, then, .. } => {
                let end = match stage {
                    StopStage::AwaitsSpawn | StopStage::AwaitsSpawnToKill => {
                        "its process to be made, to be ended at once"
                    }
                    StopStage::Grace { .. } => "its processes to end after the stop signal",
                };
                with_next(end, then)
            }
            Phase::Killing { then, .. } => {
                with_next("its processes to go, which were sent SIGKILL", then)
            }
            Phase::Backoff { .. } => one("the time of its next try"),
            Phase::Foreign { pid } => vec![format!("the copy with pid {pid} to end")],
        }
    }

    /// Why it is as it is, in one line for people; empty when there is nothing to explain.
    #[must_use]
    pub fn cause(&self) -> String {
        let last = || self.last_failure.as_ref().map(LastFailure::in_words);
        match &self.phase {
            Phase::Stopped { why } => match why {
                Rest::NeverStarted => String::new(),
                Rest::Asked(cause) => asked(*cause).to_owned(),
                Rest::Finished => last().unwrap_or_default(),
            },
            // Not what ended a run before this one.
            Phase::Stopping { run, then, .. } | Phase::Killing { run, then, .. } => {
                ending(*run, then)
            }
            Phase::Blocked { reason, .. } => reason.text().to_owned(),
            Phase::Foreign { pid } => {
                format!("a copy that this launcher did not start runs with pid {pid}")
            }
            Phase::Backoff { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. } => last().unwrap_or_default(),
        }
    }
}

fn asked(cause: StopCause) -> &'static str {
    match cause {
        StopCause::ByHand => "stopped by hand",
        StopCause::All => "stopped with all others",
        StopCause::Unlisted => "taken off autostart, and nobody enabled it by hand",
        StopCause::Shutdown => "the launcher stops",
    }
}

/// Why a run is being ended.
fn ending(run: Run, then: &Then) -> String {
    match then {
        Then::Rest(cause) => asked(*cause).to_owned(),
        Then::StartAgain => "is started anew".to_owned(),
        Then::Decide {
            failure, lasted, ..
        } => LastFailure {
            run,
            failure: failure.clone(),
            lasted: *lasted,
        }
        .in_words(),
    }
}

fn with_next(end: &str, then: &Then) -> Vec<String> {
    match then {
        Then::Rest(_) | Then::Decide { .. } => vec![end.to_owned()],
        Then::StartAgain => vec![end.to_owned(), "then it is started again".to_owned()],
    }
}

/// The original's text for a copy that is not ours (HP 1.7).
#[must_use]
pub fn already_exists(id: &PluginId, pid: i32) -> String {
    format!("process for service '{id}' already exists using PID {pid}")
}

impl Failure {
    /// The error text of the reply to a start (HP 1.7, 1.10).
    #[must_use]
    pub fn reply(&self, id: &PluginId) -> String {
        match self {
            Failure::Spawn(text) => format!("failed starting '{id}': {text}"),
            Failure::EarlyExit(status) | Failure::Ended(status) => status.to_string(),
            Failure::NotReady(after) => {
                format!(
                    "failed starting '{id}': not ready after {:.1} s",
                    after.as_secs_f64()
                )
            }
            Failure::Watchdog(_) | Failure::Limit(_) | Failure::DependencyLost(_) => {
                format!("'{id}' {}", self.why_stopped())
            }
        }
    }

    /// The original's `Status` after this failure (HP 1.9).
    #[must_use]
    pub fn status(&self, id: &PluginId) -> String {
        match self {
            Failure::EarlyExit(ExitStatus::Code(0)) | Failure::Ended(ExitStatus::Code(0)) => {
                format!("Plugin '{id}' has stopped with exit code 0: sys='0'")
            }
            Failure::EarlyExit(status) | Failure::Ended(status) => {
                format!("Plugin '{id}' has stopped with: {status}")
            }
            Failure::Watchdog(_) | Failure::Limit(_) | Failure::DependencyLost(_) => {
                format!("Plugin '{id}' {}", self.why_stopped())
            }
            Failure::Spawn(_) | Failure::NotReady(_) => self.reply(id),
        }
    }

    /// The exit status behind it, if a process ended.
    #[must_use]
    pub fn exit(&self) -> Option<ExitStatus> {
        match self {
            Failure::EarlyExit(status) | Failure::Ended(status) => Some(*status),
            Failure::Spawn(_)
            | Failure::NotReady(_)
            | Failure::Watchdog(_)
            | Failure::Limit(_)
            | Failure::DependencyLost(_) => None,
        }
    }

    /// Whether the policy `on-failure` answers it.
    pub(super) fn counts(&self) -> bool {
        match self {
            Failure::EarlyExit(status) | Failure::Ended(status) => status.is_failure(),
            Failure::Spawn(_)
            | Failure::NotReady(_)
            | Failure::Watchdog(_)
            | Failure::Limit(_)
            | Failure::DependencyLost(_) => true,
        }
    }

    /// Why the launcher stopped a run that nobody asked to stop; empty for what ended by itself.
    #[must_use]
    pub fn why_stopped(&self) -> String {
        match self {
            Failure::NotReady(after) => {
                format!("was stopped, not ready after {:.1} s", after.as_secs_f64())
            }
            Failure::Watchdog(Duration::ZERO) => {
                "was stopped by its watchdog: it said itself that it hangs".to_owned()
            }
            Failure::Watchdog(every) => format!(
                "was stopped by its watchdog: no sign of life for {:.1} s",
                every.as_secs_f64()
            ),
            Failure::Limit(text) => format!("was stopped for using too much: {text}"),
            Failure::DependencyLost(on) => {
                format!("was stopped as '{on}', which it requires, went away")
            }
            Failure::Spawn(_) | Failure::EarlyExit(_) | Failure::Ended(_) => String::new(),
        }
    }
}

impl LastFailure {
    /// What happened, in one line for people.
    #[must_use]
    pub fn in_words(&self) -> String {
        let lasted = self.lasted.as_secs_f64();
        match &self.failure {
            Failure::Spawn(text) => format!("could not be started: {text}"),
            Failure::EarlyExit(status) => {
                format!(
                    "{} before it was ready, after {lasted:.1} s",
                    status.in_words()
                )
            }
            Failure::Ended(status) => format!("{} after {lasted:.1} s", status.in_words()),
            Failure::NotReady(after) => {
                format!("was not ready after {:.1} s", after.as_secs_f64())
            }
            Failure::Watchdog(_) | Failure::Limit(_) | Failure::DependencyLost(_) => {
                self.failure.why_stopped()
            }
        }
    }
}
