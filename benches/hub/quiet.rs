//! What a hub costs that has nothing to do: memory, processor time, wake-ups.

use crate::clock;
use crate::home::Hub;
use crate::report::{Goal, Report, Row, median};
use crate::usage::{self, Threads};
use anyhow::Result;
use std::time::Duration;

/// Mebibytes of the launcher (proportional set size), once everything is quiet.
pub fn pss(hub: &Hub<'_>) -> Result<f64> {
    hub.wait_until_up()?;
    usage::pss(hub.pid()?)
}

/// Against fixed bounds.
pub fn report_memory(size: usize, label: &str, memory: &[f64], report: &mut Report) {
    let goal = match size {
        0 => Goal::Most(6.0),
        100 => Goal::Most(8.0),
        1000 => Goal::Most(20.0),
        _ => Goal::None,
    };
    report.add(Row {
        measure: format!("PSS of the launcher with {size}{label}"),
        unit: "MiB",
        ours: median(memory),
        bare: None,
        goal,
    });
}

/// Threads that helped with the start end when they had nothing to do for 10 s, and are no part of what is idle.
const HELPERS: Duration = Duration::from_secs(12);

/// What an idle launcher may use at most (spec §16).
#[derive(Clone, Copy)]
pub struct Bounds {
    /// Percent of one processor.
    pub processor: Goal,
    /// A second.
    pub wake_ups: Goal,
}

/// It samples every 5 s, from cgroups.
pub const FROM_CGROUPS: Bounds = Bounds {
    processor: Goal::Most(0.1),
    wake_ups: Goal::Most(2.0),
};

/// It samples every 5 s, from the table of processes.
pub const FROM_TABLE: Bounds = Bounds {
    processor: Goal::Most(0.25),
    wake_ups: Goal::Most(2.0),
};

/// It does not sample: what is left is the bus's keep-alive, once in half a minute or more.
pub const NOT_SAMPLING: Bounds = Bounds {
    processor: Goal::None,
    wake_ups: Goal::Most(0.2),
};

/// Processor time and wake-ups of launcher and core.
pub fn idle(
    hub: &Hub<'_>,
    (label, bounds): (&str, Bounds),
    seconds: u64,
    report: &mut Report,
) -> Result<()> {
    clock::rest(HELPERS)?;
    let parts = [("launcher", hub.pid()?), ("core", hub.core_pid()?)];
    let size = hub.home.size();
    let before: Vec<Threads> = parts
        .iter()
        .map(|(_, pid)| Threads::of(*pid))
        .collect::<Result<_>>()?;
    let begun = clock::now()?;
    clock::rest(Duration::from_secs(seconds))?;
    let time = clock::ms(begun, clock::now()?) / 1000.0;
    for ((name, pid), before) in parts.iter().zip(before) {
        let used = Threads::of(*pid)?.since(&before);
        let is_ours = *name == "launcher";
        report.add(Row {
            measure: format!("idle with {size}{label}: {name}, of one processor"),
            unit: "%",
            ours: used.processor / time * 100.0,
            bare: None,
            goal: if is_ours {
                bounds.processor
            } else {
                Goal::None
            },
        });
        report.add(Row {
            measure: format!("idle with {size}{label}: {name}, wake-ups"),
            unit: "/s",
            ours: used.sleeps / time,
            bare: None,
            goal: if is_ours { bounds.wake_ups } else { Goal::None },
        });
    }
    Ok(())
}
