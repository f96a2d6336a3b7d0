//! What a launcher that was killed has left behind (spec §12): ended before anything is started, so that there are never
//! two copies.

use crate::memory::{LiveRun, LiveRuns};
use crate::words::in_words;
use os::Member;
use os::sweep::{Evidence, Leftover, Record, Sweep};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

/// Ends what a launcher of this home left running, first with `signal`, after `grace` with SIGKILL; then forgets its
/// records and removes its FIFOs. Gives how many processes there were. To be called before the first start, with the lock
/// of the home held. `home` is spelled as for [`os::HostConfig`].
///
/// # Errors
/// Names what still lives and what to do; then nothing may be started.
pub async fn end_leftovers(
    home: &Path,
    private: &Path,
    live: &LiveRuns,
    signal: i32,
    grace: Duration,
) -> Result<usize, String> {
    let recorded = live.all();
    let fifos = recorded.iter().flat_map(|run| run.fifos.iter().cloned());
    let sweep = Sweep::new(home, recorded.iter().map(record_of).collect()).holding(fifos.collect());
    let looking = sweep.clone();
    let found = tokio::task::spawn_blocking(move || looking.find())
        .await
        .map_err(|gone| format!("looking for what a killed launcher left failed: {gone}"))?
        .map_err(|error| in_words(&error))?;
    for leftover in &found {
        report(leftover, &recorded);
    }
    if !found.is_empty() {
        let killed = sweep
            .end(&found, signal, grace)
            .await
            .map_err(|error| in_words(&error))?;
        tracing::info!(
            "{} processes of a launcher before this one ended, {killed} of them by SIGKILL",
            found.len()
        );
    }
    for run in &recorded {
        live.ended(&run.marker);
    }
    let private = private.to_owned();
    let tidying = tokio::task::spawn_blocking(move || remove_fifos(&private));
    // A FIFO that stays is in nobody's way.
    let _ = tidying.await;
    Ok(found.len())
}

fn record_of(run: &LiveRun) -> Record {
    Record {
        member: Member {
            pid: run.pid,
            start_ticks: run.start_ticks,
        },
        boot_id: run.boot_id.clone(),
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
        Evidence::HoldsFifo | Evidence::Related => "a plugin".to_owned(),
    };
    tracing::warn!(
        pid = member.pid,
        "{comm} of {whose} was left by a launcher before this one; it is ended"
    );
}

fn remove_fifos(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_fifo()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
