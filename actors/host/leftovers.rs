//! What a launcher that was killed has left behind (spec §12): ended before anything is started, so that there are never
//! two copies.
//!
//! Invariant: a run is known by any one of its record, its mark and its FIFO. The record may be missing, as it is written
//! a moment after the start.

use crate::memory::{LiveRun, LiveRuns};
use crate::words::in_words;
use os::sweep::{Ended, Evidence, Leftover, Record, Sweep};
use os::{Marker, Member};
use std::fs::DirEntry;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Ends what a launcher of this home left running, first with `signal`, after `grace` with SIGKILL; then forgets its
/// records and removes its FIFOs. Gives the marks that were found, in the order of the processes' numbers; one mark may be
/// there several times. To be called before the first start, with the lock of the home held. `home` is spelled as for
/// [`os::HostConfig`].
///
/// # Errors
/// Names what still lives and what to do; then nothing may be started.
pub async fn end_leftovers(
    home: &Path,
    private: &Path,
    live: &LiveRuns,
    signal: i32,
    grace: Duration,
) -> Result<Vec<Marker>, String> {
    let recorded = live.all();
    let sweep = Sweep::new(home, recorded.iter().map(record_of).collect());
    let folder = private.to_owned();
    let looking = tokio::task::spawn_blocking(move || {
        let sweep = sweep.holding(fifos_in(&folder));
        sweep.find().map(|found| (sweep, found))
    });
    let (sweep, found) = looking
        .await
        .map_err(|gone| format!("looking for what a killed launcher left failed: {gone}"))?
        .map_err(|error| in_words(&error))?;
    for leftover in &found {
        report(leftover, &recorded);
    }
    if !found.is_empty() {
        let Ended { killed, stuck } = sweep
            .end(&found, signal, grace)
            .await
            .map_err(|error| in_words(&error))?;
        tracing::info!(
            "{} processes of a launcher before this one ended, {killed} of them by SIGKILL",
            found.len()
        );
        if !stuck.is_empty() {
            return Err(still_there(&stuck));
        }
    } else {
        let _done = tokio::task::spawn_blocking(move || sweep.tidy()).await;
    }
    for run in &recorded {
        live.ended(&run.marker);
    }
    let private = private.to_owned();
    let tidying = tokio::task::spawn_blocking(move || {
        for fifo in fifos_in(&private) {
            let _ = std::fs::remove_file(fifo);
        }
    });
    // A FIFO that stays is in nobody's way.
    let _ = tidying.await;
    Ok(found.into_iter().filter_map(mark_of).collect())
}

fn still_there(stuck: &[Leftover]) -> String {
    let names = stuck
        .iter()
        .map(|one| format!("{} ({})", one.member.pid, one.comm));
    format!(
        "these processes of a launcher before this one are in uninterruptible sleep, and would be there twice: {}; look \
         what disk or device does not answer, or start the machine anew",
        names.collect::<Vec<_>>().join(", ")
    )
}

/// How many processes of a launcher before this one still live; nothing is changed. Blocks.
///
/// # Errors
/// When the process table cannot be read.
pub fn count_leftovers(home: &Path, private: &Path) -> Result<usize, String> {
    let recorded = LiveRuns::peek(private);
    let sweep = Sweep::new(home, recorded.iter().map(record_of).collect());
    let found = sweep.holding(fifos_in(private)).find();
    found
        .map(|found| found.len())
        .map_err(|error| in_words(&error))
}

fn mark_of(leftover: Leftover) -> Option<Marker> {
    match leftover.evidence {
        Evidence::Marked(marker) => Some(marker),
        Evidence::Recorded | Evidence::InCgroup | Evidence::HoldsFifo | Evidence::Related => None,
    }
}

fn record_of(run: &LiveRun) -> Record {
    Record {
        member: Member {
            pid: run.pid,
            start_ticks: run.start_ticks,
        },
        boot_id: run.boot_id.clone(),
        cgroup: run.cgroup.clone(),
    }
}

fn report(leftover: &Leftover, recorded: &[LiveRun]) {
    let Leftover {
        member,
        comm,
        evidence,
    } = leftover;
    let whose = match evidence {
        Evidence::Marked(marker) => format!("{} run {}", marker.id(), marker.run()),
        Evidence::Recorded => recorded
            .iter()
            .find(|run| run.pid == member.pid)
            .map_or_else(String::new, |run| format!("{} run {}", run.id, run.run)),
        Evidence::InCgroup | Evidence::HoldsFifo | Evidence::Related => "a plugin".to_owned(),
    };
    tracing::warn!(
        pid = member.pid,
        "{comm} of {whose} was left by a launcher before this one; it is ended"
    );
}

/// All FIFOs of a folder; none when it cannot be read.
fn fifos_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let is_fifo = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_fifo());
    let fifos = entries.flatten().filter(is_fifo);
    fifos.map(|entry| entry.path()).collect()
}
