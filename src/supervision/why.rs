//! Why a plugin is as it is, in words for whoever is called at night (spec §13).
//!
//! Invariants: pure; the words come from the phase and the failure that decide, so that no second account can differ;
//! each text names the thing, the cause and the way out.

use crate::clue::{Clue, clue};
use crate::lifecycle::{BlockReason, Failure, LastFailure, Phase, Rest, StopCause, Wish};
use crate::{ExitStatus, hand::Setting};
use std::time::Duration;

/// What is known of a plugin at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Account<'a> {
    /// By which commands name it.
    pub id: &'a str,
    /// What it is doing.
    pub phase: &'a Phase,
    /// Whether it should be up.
    pub wish: Wish,
    /// Who wished so; empty = the configuration.
    pub wish_by: &'a str,
    /// Whether it starts with the launcher.
    pub enabled: Setting,
    /// Its newest failure.
    pub last: Option<&'a LastFailure>,
    /// The last lines of the newest run that is over, oldest first.
    pub tail: &'a [String],
    /// Unasked restarts since the wish became up.
    pub restarts: u32,
    /// Until the next try; none when no time is set.
    pub next_in: Option<Duration>,
}

/// The account of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// One or two sentences, without a full stop at the end.
    pub text: String,
    /// What would change it, with the command; empty when nothing is to be changed.
    pub hint: String,
}

/// Tells it.
#[must_use]
pub fn tell(of: &Account<'_>) -> Told {
    Told {
        text: sentence(of),
        hint: hint(of),
    }
}

fn sentence(of: &Account<'_>) -> String {
    match of.phase {
        Phase::Running { run, .. } if of.restarts > 0 => {
            let before = failure_words(of);
            format!(
                "it runs, run {}, after {} restarts; {before}",
                run.0, of.restarts
            )
        }
        Phase::Running { run, .. } => format!("it runs, run {}", run.0),
        Phase::Spawning { .. } => "its process is being made".to_owned(),
        Phase::Proving { pid, .. } => format!("its process {pid} is there, it is not ready yet"),
        Phase::Preparing { .. } => "its executable and credentials are being looked at".to_owned(),
        Phase::Stopping { .. } => "it was asked to stop and has not ended yet".to_owned(),
        Phase::Killing { rounds, .. } if *rounds > 5 => format!(
            "it was killed {rounds} times and has not ended: a process of it hangs in the kernel, often on a dead disk or network drive"
        ),
        Phase::Killing { .. } => "it was killed and has not ended yet".to_owned(),
        Phase::Backoff { attempt, .. } => format!(
            "it failed {} and is tried again {}: {}",
            times(*attempt),
            soon(of.next_in),
            failure_words(of)
        ),
        Phase::Blocked { reason, .. } => format!("it cannot be started: {}", reason.text()),
        Phase::Foreign { pid } => format!(
            "a copy runs as process {pid} that this launcher did not start, and two are never run"
        ),
        Phase::Stopped { why } => rest(of, why),
    }
}

fn rest(of: &Account<'_>, why: &Rest) -> String {
    let by = match of.wish_by {
        "" => String::new(),
        who => format!(" by {who}"),
    };
    match (why, of.enabled) {
        (Rest::NeverStarted, Setting::Enabled) => "nobody has started it yet".to_owned(),
        (Rest::NeverStarted, Setting::Disabled) => {
            "it is disabled, and nobody has started it".to_owned()
        }
        (Rest::Asked(StopCause::ByHand), Setting::Enabled) => {
            format!("it was stopped{by}; it starts again with the launcher")
        }
        (Rest::Asked(StopCause::ByHand), Setting::Disabled) => {
            format!("it was stopped{by}, and is disabled")
        }
        (Rest::Asked(StopCause::All), _) => format!("it was stopped with all others{by}"),
        (Rest::Asked(StopCause::Unlisted), _) => {
            format!("it was taken off autostart, and stopped by a reload{by}")
        }
        (Rest::Asked(StopCause::Shutdown), _) => "the launcher stops".to_owned(),
        (Rest::Finished, _) => format!(
            "it ended, and its restart policy leaves it at that: {}",
            failure_words(of)
        ),
    }
}

/// The newest failure with what its last lines tell.
fn failure_words(of: &Account<'_>) -> String {
    let Some(last) = of.last else {
        return "it ended".to_owned();
    };
    let mut words = match &last.failure {
        Failure::Spawn(_) => last.in_words(),
        Failure::EarlyExit(_)
        | Failure::Ended(_)
        | Failure::NotReady(_)
        | Failure::Watchdog(_)
        | Failure::Limit(_)
        | Failure::DependencyLost(_) => format!("run {} {}", last.run.0, last.in_words()),
    };
    if let Some(found) = clue_of(of) {
        words.push_str(": ");
        words.push_str(&found.what);
    }
    words
}

/// What the last lines tell, when they are those of the failure.
fn clue_of(of: &Account<'_>) -> Option<Clue> {
    let last = of.last?;
    let status = last.failure.exit();
    if status == Some(ExitStatus::Code(0)) {
        return None;
    }
    let says_enough = match &last.failure {
        // Their own words name cause and way out; what was written before has nothing to do with it.
        Failure::Limit(_) | Failure::DependencyLost(_) | Failure::Spawn(_) => true,
        Failure::EarlyExit(_) | Failure::Ended(_) | Failure::NotReady(_) | Failure::Watchdog(_) => {
            false
        }
    };
    if says_enough {
        None
    } else {
        clue(status, of.tail)
    }
}

fn hint(of: &Account<'_>) -> String {
    let id = of.id;
    match of.phase {
        Phase::Stopped { .. } => format!("hubcli start {id}"),
        Phase::Backoff { .. } => match way_out(of) {
            Some(way_out) => format!("{way_out}; then, to try at once: hubcli start {id}"),
            None => format!("to try at once: hubcli start {id}"),
        },
        Phase::Blocked { reason, .. } => match reason {
            // That starts by itself, and this one after it.
            BlockReason::Awaits(_) => String::new(),
            BlockReason::Requires(_) => {
                "hubcli why, for what it requires; when that is ready it starts by itself"
                    .to_owned()
            }
            BlockReason::Needs(_) => {
                format!(
                    "plug in or mount what is named and it starts by itself; at once: hubcli start {id}"
                )
            }
            BlockReason::Executable(_) | BlockReason::Credentials(_) | BlockReason::Settings(_) => {
                format!("mend what is named and it starts by itself; at once: hubcli start {id}")
            }
        },
        Phase::Foreign { pid } => {
            format!("end that copy (kill {pid}), then: hubcli start {id}")
        }
        Phase::Preparing { .. }
        | Phase::Spawning { .. }
        | Phase::Proving { .. }
        | Phase::Running { .. }
        | Phase::Stopping { .. }
        | Phase::Killing { .. } => String::new(),
    }
}

fn way_out(of: &Account<'_>) -> Option<String> {
    clue_of(of).map(|found| found.way_out)
}

fn times(attempt: u32) -> String {
    match attempt {
        0 | 1 => "once".to_owned(),
        2 => "twice in a row".to_owned(),
        more => format!("{more} times in a row"),
    }
}

/// When, in words: `now`, `in 8 s`, `in 12 min`.
fn soon(next_in: Option<Duration>) -> String {
    let Some(next) = next_in else {
        return "by itself".to_owned();
    };
    match next.as_millis().div_ceil(1000) {
        0 => "now".to_owned(),
        seconds @ 1..=99 => format!("in {seconds} s"),
        seconds => format!("in {} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests;
