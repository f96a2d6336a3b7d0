//! What a lifecycle says of itself: replies to commands, the original's status text, the cause for people.
//!
//! Invariant: the words come from the same state that decides, never from a second account of it (spec §13).

use super::{Failure, LastFailure, Lifecycle, Phase, Rest, StopCause};
use crate::{ExitStatus, PluginId, Run};

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
            Phase::Blocked { reason, .. } => {
                Verdict::Failed(format!("failed starting '{id}': {}", reason.text()))
            }
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

    /// Why it is as it is, in one line for people; empty when there is nothing to explain.
    #[must_use]
    pub fn cause(&self) -> String {
        let last = || self.last_failure.as_ref().map(LastFailure::in_words);
        match &self.phase {
            Phase::Stopped { why } => match why {
                Rest::NeverStarted => String::new(),
                Rest::Asked(StopCause::ByHand) => "stopped by hand".to_owned(),
                Rest::Asked(StopCause::All) => "stopped with all others".to_owned(),
                Rest::Asked(StopCause::Shutdown) => "the launcher stops".to_owned(),
                Rest::Finished => last().unwrap_or_default(),
            },
            Phase::Blocked { reason, .. } => reason.text().to_owned(),
            Phase::Foreign { pid } => {
                format!("a copy that this launcher did not start runs with pid {pid}")
            }
            Phase::Backoff { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. } => last().unwrap_or_default(),
        }
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
            Failure::Spawn(_) | Failure::NotReady(_) => self.reply(id),
        }
    }

    /// The exit status behind it, if a process ended.
    #[must_use]
    pub fn exit(&self) -> Option<ExitStatus> {
        match self {
            Failure::EarlyExit(status) | Failure::Ended(status) => Some(*status),
            Failure::Spawn(_) | Failure::NotReady(_) => None,
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
        }
    }
}
