//! What an operator can do about the state of a plugin, with the command.
//!
//! Invariants: what is said to be typed can be typed as it stands; where nothing is to be done nothing is said.

use super::{Account, HANGS_AFTER, clue_of};
use crate::ExitStatus;
use crate::lifecycle::{BlockReason, Failure, LastFailure, Phase, Rest, Wish};
use crate::ready::setting;
use std::time::Duration;

/// What would change it; empty when nothing is to be changed.
pub(super) fn hint(of: &Account<'_>) -> String {
    let id = of.id;
    match of.phase {
        Phase::Stopped {
            why: Rest::Finished,
        } => with_start(of, format!("hubcli start {id}")),
        Phase::Stopped { .. } => format!("hubcli start {id}"),
        Phase::Backoff { .. } => with_start(of, format!("to try at once: hubcli start {id}")),
        Phase::Blocked { reason, .. } => blocked(of, reason),
        Phase::Foreign { pid } => match of.wish {
            Wish::Up => format!(
                "ps -fp {pid} shows it; end it (kill {pid}), and this launcher starts its own by itself"
            ),
            Wish::Down => format!("ps -fp {pid} shows it; to end it: kill {pid}"),
        },
        Phase::Killing { rounds, .. } if *rounds > HANGS_AFTER => {
            "dmesg shows what the kernel says of it; mend the disk or drive, or restart the machine"
                .to_owned()
        }
        Phase::Running { pid, .. } | Phase::Proving { pid, .. } if of.frozen => {
            format!("to let it go on: kill -CONT {pid}; to have a new one: hubcli restart {id}")
        }
        Phase::Preparing { .. }
        | Phase::Spawning { .. }
        | Phase::Proving { .. }
        | Phase::Running { .. }
        | Phase::Stopping { .. }
        | Phase::Killing { .. } => String::new(),
    }
}

fn blocked(of: &Account<'_>, reason: &BlockReason) -> String {
    let id = of.id;
    let by_itself = "then it starts by itself";
    match reason {
        BlockReason::Awaits { on, .. } | BlockReason::Requires { on, .. } => {
            format!("hubcli why {on}; when that is ready this one starts by itself")
        }
        BlockReason::Needs(_) => {
            format!(
                "plug in or mount what is named, {by_itself}; to try at once: hubcli start {id}"
            )
        }
        BlockReason::Leftover(_) => {
            "look which disk, network drive or device does not answer, or start the machine anew; it starts by itself \
             when that process is gone"
                .to_owned()
        }
        BlockReason::Executable(_) | BlockReason::Credentials(_) | BlockReason::Settings(_) => {
            format!("mend what is named, {by_itself}; to try at once: hubcli start {id}")
        }
    }
}

/// What can be done about the newest failure, then how it is tried again.
fn with_start(of: &Account<'_>, start: String) -> String {
    match of.last.and_then(|last| way_out(of, last)) {
        Some(way_out) => format!("{way_out}; then {start}"),
        None => start,
    }
}

fn way_out(of: &Account<'_>, last: &LastFailure) -> Option<String> {
    if let Some(found) = clue_of(of) {
        return Some(found.way_out);
    }
    let id = of.id;
    match &last.failure {
        // Its words have the way out.
        Failure::Spawn(_) => None,
        Failure::EarlyExit(ExitStatus::Code(0)) => Some(format!(
            "it must stay in the foreground: if it goes to the background or only does one thing, change {}, or set {}",
            setting(id, "args"),
            setting(id, "restart.policy")
        )),
        Failure::EarlyExit(_) | Failure::Ended(_) => Some(format!("logs/{id}.log may tell more")),
        Failure::NotReady(_) => Some(of.ready.way_out(id)),
        Failure::Watchdog(Duration::ZERO) => Some(format!("logs/{id}.log may tell why it hangs")),
        Failure::Watchdog(_) => Some(format!(
            "logs/{id}.log may tell where it hangs; if it is only slow, raise {}",
            setting(id, "watchdog")
        )),
        Failure::Limit(_) => Some(format!(
            "logs/{id}.limit-{}.txt shows what it did; if it needs that much, raise {}",
            last.run.0,
            setting(id, "limits")
        )),
        Failure::DependencyLost(on) => Some(format!("hubcli why {on}")),
    }
}
