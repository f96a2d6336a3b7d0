//! From the moment the core is ready to the last plugin's first instruction, credentials on disk.

use crate::clock;
use crate::home::Hub;
use crate::report::{Goal, Pairs, Report, Row, median};
use crate::stamps;
use anyhow::Result;

/// Milliseconds it took.
pub fn took(hub: &Hub<'_>) -> Result<f64> {
    let stamps = hub.wait_until_started()?;
    Ok(clock::ms(hub.core_ready()?, stamps::last(&stamps)))
}

/// Against a loop of spawn.
pub fn report(size: usize, label: &str, starts: &Pairs, report: &mut Report) {
    report.add(Row {
        measure: format!("bring-up of {size}{label}"),
        unit: "ms",
        ours: median(&starts.ours),
        bare: Some(median(&starts.bare)),
        // One alone is below what the log's milliseconds can tell.
        goal: if size > 1 {
            Goal::Times(1.5)
        } else {
            Goal::None
        },
    });
}
