//! Why a plugin is as it is, in words for whoever is called at night (spec §13).
//!
//! Invariants: pure; the words come from the phase and the failure that decide, so that no second account can differ;
//! each text names the thing, the cause and the way out.

use crate::clue::{Clue, clue};
use crate::lifecycle::{
    BlockReason, Failure, LastFailure, Phase, PhaseName, Rest, StopCause, Then, Wish,
};
use crate::ready::ReadyBy;
use crate::{ExitStatus, hand::Setting};
use std::time::Duration;

mod way_out;

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
    /// By what it counts as ready.
    pub ready: &'a ReadyBy,
    /// Why processes that were killed have not ended, a sentence each; empty = not known, or there are none.
    pub undying: &'a [String],
    /// Whether its main process was stopped by a signal (SIGSTOP), and does nothing.
    pub frozen: bool,
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
        hint: way_out::hint(of),
    }
}

fn sentence(of: &Account<'_>) -> String {
    match of.phase {
        Phase::Running { run, pid, .. } if of.frozen => format!(
            "its process {pid} was stopped by a signal, and does nothing until it is told to go on; run {}{}",
            run.0,
            before(of)
        ),
        Phase::Running { run, .. } => format!("it runs, run {}{}", run.0, before(of)),
        Phase::Spawning { .. } => format!("its process is being made{}", before(of)),
        Phase::Proving { pid, .. } if of.frozen => format!(
            "its process {pid} was stopped by a signal before it was ready, and does nothing until it is told to go on{}",
            before(of)
        ),
        Phase::Proving { pid, .. } => format!(
            "its process {pid} is there, but it is not ready yet{}",
            before(of)
        ),
        Phase::Preparing { .. } => format!(
            "its executable and credentials are being looked at{}",
            before(of)
        ),
        Phase::Stopping { then, .. } => {
            format!("{}, and has not ended yet", being_ended(then))
        }
        Phase::Killing { rounds, .. } if *rounds > HANGS_AFTER => format!(
            "it was killed {rounds} times and has not ended: {}",
            hanging(of.undying)
        ),
        Phase::Killing { .. } => "all its processes were killed, and have not ended yet".to_owned(),
        Phase::Backoff { attempt, .. } => format!(
            "it failed {} and is tried again {}: {}",
            times(*attempt),
            soon(of.next_in),
            failure_words(of)
        ),
        Phase::Blocked { reason, .. } => blocked(reason),
        Phase::Foreign { pid } => format!(
            "a copy runs as process {pid} that this launcher did not start, and two are never run"
        ),
        Phase::Stopped { why } => rest(of, why),
    }
}

/// So many rounds of SIGKILL are in vain only where the kernel itself is stuck.
const HANGS_AFTER: u32 = 5;

/// What went before a run that is there, or on its way; empty when all went well.
fn before(of: &Account<'_>) -> String {
    let Some(last) = of.last else {
        return String::new();
    };
    let restarts = match of.restarts {
        0 => String::new(),
        1 => "after a restart that nobody asked for; ".to_owned(),
        more => format!("after {more} restarts that nobody asked for; "),
    };
    if restarts.is_empty() && of.phase.name() == PhaseName::Running {
        // What failed before somebody wished anew has no part in how it is.
        return String::new();
    }
    let before = failure_in_words(of, last);
    format!(", {restarts}before that {before}")
}

/// Why it is being ended.
fn being_ended(then: &Then) -> String {
    match then {
        Then::Rest(_) => "it was asked to stop".to_owned(),
        Then::StartAgain => "it was asked to stop, to be started anew".to_owned(),
        Then::Decide { failure, .. } => {
            let why = failure.why_stopped();
            if why.is_empty() {
                "its main process ended, the rest of its processes was asked to stop".to_owned()
            } else {
                format!("it {why}")
            }
        }
    }
}

/// What hangs.
fn hanging(undying: &[String]) -> String {
    match undying {
        [] => {
            "a process of it hangs in the kernel, often on a dead disk or network drive".to_owned()
        }
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first}; {} more likewise", rest.len()),
    }
}

/// What is missing for a start. A text that says what it needs or requires has no subject.
fn blocked(reason: &BlockReason) -> String {
    match reason {
        BlockReason::Awaits { text, .. }
        | BlockReason::Requires { text, .. }
        | BlockReason::Needs(text) => {
            format!("it is not started yet: it {text}")
        }
        BlockReason::Executable(text)
        | BlockReason::Credentials(text)
        | BlockReason::Leftover(text)
        | BlockReason::Settings(text) => format!("it cannot be started: {text}"),
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
            "nobody has started it, and it is disabled: it does not start with the launcher"
                .to_owned()
        }
        (Rest::Asked(StopCause::ByHand), Setting::Enabled) => {
            format!("it was stopped{by}; it starts again with the launcher")
        }
        (Rest::Asked(StopCause::ByHand), Setting::Disabled) => {
            format!(
                "it was stopped{by}, and is disabled: it does not start with the launcher either"
            )
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
    of.last
        .map_or_else(|| "it ended".to_owned(), |last| failure_in_words(of, last))
}

fn failure_in_words(of: &Account<'_>, last: &LastFailure) -> String {
    let mut words = match &last.failure {
        Failure::Spawn(_) => format!("it {}", last.in_words()),
        Failure::NotReady(after) => format!(
            "run {} was stopped, as after {:.1} s {}",
            last.run.0,
            after.as_secs_f64(),
            of.ready.missed()
        ),
        Failure::EarlyExit(_)
        | Failure::Ended(_)
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
        clue(of.id, status, of.tail)
    }
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
