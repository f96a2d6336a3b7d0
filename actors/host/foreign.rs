//! Processes that others started: finding them, and waiting for their end.

use crate::prepare::{FindForeign, Sought};
use os::foreign::{Candidate, find};
use os::pidfd::Pidfd;
use os::table;
use std::path::PathBuf;
use std::time::Duration;

/// How often a process is looked at that cannot be held.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks for copies in this machine's process table.
#[derive(Debug, Clone)]
pub struct ForeignFinder {
    /// The home of the hub, spelled as for [`os::HostConfig`]; what carries its mark is ours.
    pub home: PathBuf,
}

impl FindForeign for ForeignFinder {
    fn find(&self, sought: &[Sought]) -> Vec<Option<i32>> {
        let candidates: Vec<Candidate> = sought
            .iter()
            .map(|sought| Candidate {
                id: sought.id.clone(),
                path: sought.path.clone(),
            })
            .collect();
        let found = find(&self.home, &candidates).unwrap_or_else(|error| {
            tracing::warn!("cannot look for plugins that others started: {error}");
            Default::default()
        });
        sought
            .iter()
            .map(|sought| found.get(&sought.id).copied())
            .collect()
    }
}

/// Completes when the process that has this number now is gone.
pub(super) async fn ended(pid: i32) {
    let Ok(Some(stat)) = table::stat(pid) else {
        return;
    };
    loop {
        match Pidfd::open(pid, stat.start_ticks) {
            Ok(Some(held)) => return held.ended().await,
            Ok(None) => return,
            // No descriptor is left, or the kernel is too old: it can only be looked at.
            Err(error) => tracing::debug!("{error}; it is looked at every second"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
