//! What a launcher that was killed has left behind (spec §12): ended before anything is started, so that there are never
//! two copies; what does not end keeps its own plugin from being started, and no other.
//!
//! Invariant: a run is known by any one of its record, its mark and its FIFO. The record may be missing, as it is written
//! a moment after the start.

use crate::memory::{LiveRun, LiveRuns};
use crate::prepare::Stuck;
use crate::words::in_words;
use os::sweep::{Evidence, Leftover, Record, Sweep};
use os::{Marker, Member};
use std::fs::DirEntry;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use supervision::{PluginId, Run};

/// What became of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Left {
    /// The marks that were found, in the order of the processes' numbers; one mark may be there several times.
    pub marks: Vec<Marker>,
    /// Those that were killed and have not ended, as far as it is known whose they are.
    pub stuck: Vec<Stuck>,
}

/// Ends what a launcher of this home left running, first with `signal`, after `grace` with SIGKILL; then forgets its
/// records, but for those of what does not end, and removes its FIFOs. To be called before the first start, with the lock
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
) -> Result<Left, String> {
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
    let mut stuck = Vec::new();
    if !found.is_empty() {
        let ended = sweep
            .end(&found, signal, grace)
            .await
            .map_err(|error| in_words(&error))?;
        tracing::info!(
            "{} processes of a launcher before this one ended, {} of them by SIGKILL",
            found.len() - ended.stuck.len().min(found.len()),
            ended.killed.saturating_sub(ended.stuck.len())
        );
        stuck = ended
            .stuck
            .iter()
            .filter_map(|one| name_stuck(one, &recorded))
            .collect();
    } else {
        let _done = tokio::task::spawn_blocking(move || sweep.tidy()).await;
    }
    // What does not end is to be known to the next launcher, too.
    let stays = |run: &LiveRun| {
        stuck
            .iter()
            .any(|one| (&one.id, one.run) == (&run.id, run.run))
    };
    for run in recorded.iter().filter(|run| !stays(run)) {
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
    let marks = found.into_iter().filter_map(mark_of).collect();
    Ok(Left { marks, stuck })
}

/// Says that a process does not end, and whose it is; none when nobody can tell: then no plugin waits for it.
fn name_stuck(one: &Leftover, recorded: &[LiveRun]) -> Option<Stuck> {
    let (pid, comm) = (one.member.pid, &one.comm);
    let way_out =
        "look which disk, network drive or device does not answer, or start the machine anew";
    let Some((id, run)) = whose(one, recorded) else {
        tracing::error!(
            "process {pid} ({comm}) of a launcher before this one was killed and does not end; {way_out}"
        );
        return None;
    };
    tracing::error!(
        "process {pid} ({comm}) of {id} run {run} under a launcher before this one was killed and does not end; {id} is \
         not started beside it; {way_out}"
    );
    Some(Stuck {
        id,
        run,
        member: one.member,
        comm: comm.clone(),
    })
}

/// The run that a leftover is of, by its mark, its record, or that of its group's leader.
fn whose(leftover: &Leftover, recorded: &[LiveRun]) -> Option<(PluginId, Run)> {
    if let Evidence::Marked(marker) = &leftover.evidence {
        return Some((marker.id().clone(), marker.run()));
    }
    let pid = leftover.member.pid;
    let leader = os::table::stat(pid).ok().flatten().map(|stat| stat.pgrp);
    let of = |wanted: i32| recorded.iter().find(move |run| run.pid == wanted);
    let run = of(pid).or_else(|| of(leader?))?;
    Some((run.id.clone(), run.run))
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
