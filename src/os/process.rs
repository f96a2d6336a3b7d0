//! One run: its main process and everything that came from it.
//!
//! Invariants: dropping a [`Process`] ends nothing, its tree is watched and reaped all the same; after
//! [`Process::tree_ended`] nothing is signalled any more, whatever is called.

use crate::book::Settled;
use crate::cgroup::{self, Folder, LimitRefused, TreeKind, TreeUsage, still_populated};
use crate::marker::Marker;
use crate::member::Member;
use crate::pidfd;
use crate::run::{Run, Stage};
use crate::sender::Sender;
use crate::shared::Shared;
use crate::sys;
use crate::table::{self, Marks};
use crate::tree::{Delivered, SignalError};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use supervision::ExitStatus;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How long until a doubtful process is looked at again.
const DOUBT_PAUSE: Duration = Duration::from_millis(2);
/// The first pause between looks at a tree without its main process; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest such pause. The ends of orphans are told by SIGCHLD; looking is for what that may miss.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The longest while it is being killed, when it may fork what has to be killed again.
const LONGEST_KILL_PAUSE: Duration = Duration::from_millis(100);

/// A tree that lives so long after SIGKILL is named.
const DOOMED_FOR: Duration = Duration::from_secs(2);

/// One run that lives, or lived.
#[derive(Debug)]
pub struct Process {
    run: Arc<Run>,
    shared: Arc<Shared>,
}

impl Process {
    pub(crate) fn new(run: Arc<Run>, shared: Arc<Shared>) -> Process {
        Process { run, shared }
    }

    /// The main process; for showing and sampling, never for signalling (T1).
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.run.pid
    }

    /// The main process with its start, for the record of live processes (spec §12).
    #[must_use]
    pub fn main(&self) -> Member {
        Member {
            pid: self.run.pid,
            start_ticks: self.run.start_ticks,
        }
    }

    /// The mark of this run.
    #[must_use]
    pub fn marker(&self) -> &Marker {
        &self.run.marker
    }

    /// How its processes are known.
    #[must_use]
    pub fn tree(&self) -> TreeKind {
        match self.run.confines.cgroup {
            Some(_) => TreeKind::Cgroup,
            None => TreeKind::Group,
        }
    }

    /// The folder of its cgroup, for the record of live processes (spec §12).
    #[must_use]
    pub fn cgroup(&self) -> Option<&Path> {
        self.run.confines.cgroup.as_ref().map(Folder::path)
    }

    /// Those of the hard limits it was started with that are not in force, with the reasons.
    #[must_use]
    pub fn refused_limits(&self) -> &[LimitRefused] {
        &self.run.confines.refused
    }

    /// What the tree uses, as its cgroup counts it; `None` without a cgroup, and when it is gone. Reads some six small
    /// files.
    #[must_use]
    pub fn usage(&self) -> Option<TreeUsage> {
        let cgroup = self.run.confines.cgroup.as_ref()?;
        (!self.tree_is_gone()).then(|| cgroup::usage(cgroup))?
    }

    /// Completes when the main process has ended; others of its tree may live. When none does, the tree is gone by then.
    ///
    /// # Cancel safety
    /// Cancel safe; may be awaited by several.
    pub async fn main_ended(&self) -> ExitStatus {
        self.wait(|stage| match stage {
            Stage::Running => None,
            Stage::MainEnded(status) | Stage::Gone(status) => Some(status),
        })
        .await
    }

    /// Completes when nothing of the tree lives and all of it is reaped; tells how the main process ended.
    ///
    /// # Cancel safety
    /// Cancel safe; may be awaited by several.
    pub async fn tree_ended(&self) -> ExitStatus {
        self.wait(|stage| match stage {
            Stage::Running | Stage::MainEnded(_) => None,
            Stage::Gone(status) => Some(status),
        })
        .await
    }

    async fn wait(&self, reached: impl Fn(Stage) -> Option<ExitStatus>) -> ExitStatus {
        let mut stages = self.run.stage.subscribe();
        loop {
            let stage = *stages.borrow_and_update();
            if let Some(status) = reached(stage) {
                return status;
            }
            // The sender is ours as well, so this never fails.
            if stages.changed().await.is_err() {
                return ExitStatus::Unknown;
            }
        }
    }

    /// Whether nothing of the tree lives and all of it is reaped; cheap.
    #[must_use]
    pub fn tree_is_gone(&self) -> bool {
        match *self.run.stage.borrow() {
            Stage::Running | Stage::MainEnded(_) => false,
            Stage::Gone(_) => true,
        }
    }

    /// Sends a signal, and SIGCONT after it, to the whole tree: the group and whatever left it.
    ///
    /// # Errors
    /// When somebody of the tree did not get it. That all are gone is no error (T45).
    pub fn signal(&self, signal: i32) -> Result<Delivered, SignalError> {
        self.shared.book().signal(&self.run, signal)
    }

    /// Sends SIGKILL to the whole tree, and to whatever of it shows itself until it is gone. May be repeated.
    ///
    /// # Errors
    /// As [`Process::signal`].
    pub fn kill(&self) -> Result<Delivered, SignalError> {
        // Before it is killed, as its end is judged by it.
        let first = !self.tree_is_gone() && !self.run.doomed.swap(true, Ordering::Relaxed);
        let result = self.shared.book().kill(&self.run);
        if first {
            let naming = name_undying(Arc::clone(&self.shared), Arc::clone(&self.run));
            self.shared.runtime.spawn(naming);
        }
        // A tree without its main process is looked at more often from now on.
        self.shared.wake();
        result
    }

    /// The living processes of the tree, the main one first, then by number; empty when it is gone.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let mut members = Vec::new();
        match *self.run.stage.borrow() {
            Stage::Running => members.push(self.main()),
            Stage::MainEnded(_) => {}
            Stage::Gone(_) => return members,
        }
        let kin = self.shared.book().kin_of(&self.run);
        members.extend(kin.iter().map(|seen| Member {
            pid: seen.pid,
            start_ticks: seen.start_ticks,
        }));
        members
    }

    /// Whether a message came from this tree. Of a sender that is gone when it is asked that is known only where the run
    /// has a cgroup of its own and the kernel keeps who he was (Linux 6.17); otherwise he is not believed.
    #[must_use]
    pub fn sent(&self, sender: &Sender) -> bool {
        let gone = match *self.run.stage.borrow() {
            Stage::Running | Stage::MainEnded(_) => false,
            Stage::Gone(_) => true,
        };
        !gone && (self.is_inhabitant(sender) || self.is_kin(sender))
    }

    /// Whether he is in the cgroup of this run, or was when he ended.
    fn is_inhabitant(&self, sender: &Sender) -> bool {
        let Some(cgroup) = &self.run.confines.cgroup else {
            return false;
        };
        let own = std::fs::metadata(cgroup.path()).map(|folder| folder.ino());
        own.is_ok_and(|own| sender.cgroup() == Some(own))
    }

    fn is_kin(&self, sender: &Sender) -> bool {
        // The main process is not reaped, so its number is its own, and its group's.
        let Some(stat) = sender.stat() else {
            return false;
        };
        if sender.pid() == self.run.pid || stat.pgrp == self.run.pid {
            return true;
        }
        let marked = match table::marks(sender.pid()) {
            Ok(Marks::Run { marker, .. }) => marker == self.run.marker,
            Ok(Marks::None | Marks::Empty | Marks::Hidden) | Err(_) => false,
        };
        let kin = marked
            || self
                .members()
                .iter()
                .any(|member| member.pid == sender.pid());
        kin && sender.is_there()
    }

    /// The numbers of [`Process::members`]; for showing and sampling.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        self.members().iter().map(|member| member.pid).collect()
    }
}

/// Watches a run to its end; one task per run, which costs nothing while the main process lives.
pub(crate) async fn watch(shared: Arc<Shared>, run: Arc<Run>) {
    pidfd::ended_held(Arc::clone(&run.pidfd)).await;
    let status = cause_of(&run, sys::how_it_ended(run.pid));
    let mut wakes = shared.wakes();
    let mut pause = FIRST_PAUSE;
    let mut events = None;
    loop {
        wakes.mark_unchanged();
        let settled = shared.book().settle(&run);
        match settled {
            Settled::Gone => {
                run.stage.send_replace(Stage::Gone(status));
                return;
            }
            Settled::Doubtful => tokio::time::sleep(DOUBT_PAUSE).await,
            Settled::Alive { killing } => {
                run.stage.send_if_modified(|stage| {
                    let first = *stage == Stage::Running;
                    *stage = Stage::MainEnded(status);
                    first
                });
                let longest = if killing {
                    LONGEST_KILL_PAUSE
                } else {
                    LONGEST_PAUSE
                };
                pause = pause.min(longest);
                let events = events.get_or_insert_with(|| events_of(&run));
                // Each is reason enough to look again.
                let _woken_or_late = tokio::time::timeout(pause, async {
                    tokio::select! {
                        _ = wakes.changed() => {}
                        () = deserted(events.as_ref()) => {}
                    }
                })
                .await;
                pause = pause.saturating_mul(2).min(longest);
            }
        }
    }
}

/// Tells a kill by the kernel for lack of memory from any other. The kernel counts those of the whole tree, so one that we
/// have killed ourselves ended by that, whatever became of a child of it before.
fn cause_of(run: &Run, status: ExitStatus) -> ExitStatus {
    let killed = matches!(status, ExitStatus::Signal { number, .. } if number == libc::SIGKILL)
        && !run.doomed.load(Ordering::Relaxed);
    let cgroup = run.confines.cgroup.as_ref().filter(|_| killed);
    match cgroup.and_then(cgroup::out_of_memory) {
        Some((used_bytes, limit_bytes)) => ExitStatus::OutOfMemory {
            used_bytes,
            limit_bytes,
        },
        None => status,
    }
}

/// What tells that the last one of a cgroup is gone; `None` without one, and when it cannot be watched: then it is looked at.
fn events_of(run: &Run) -> Option<AsyncFd<File>> {
    let cgroup = run.confines.cgroup.as_ref()?;
    let watched = cgroup.events().and_then(sys::watch_priority);
    watched
        .inspect_err(|error| tracing::debug!(pid = run.pid, %error, "its cgroup cannot be watched"))
        .ok()
}

/// Completes when the last one leaves a cgroup in which somebody lives; else never.
async fn deserted(events: Option<&AsyncFd<File>>) {
    let Some(events) = events.filter(|events| still_populated(events.get_ref())) else {
        return std::future::pending().await;
    };
    loop {
        match events.ready(Interest::PRIORITY).await {
            Ok(mut told) => told.clear_ready(),
            // The runtime is shutting down.
            Err(_) => return std::future::pending().await,
        }
        // Reading it makes it tell anew.
        if !still_populated(events.get_ref()) {
            return;
        }
    }
}

/// Names what of a tree still lives some time after it was killed, once.
async fn name_undying(shared: Arc<Shared>, run: Arc<Run>) {
    let mut stages = run.stage.subscribe();
    let gone = stages.wait_for(|stage| matches!(stage, Stage::Gone(_)));
    if tokio::time::timeout(DOOMED_FOR, gone).await.is_ok() {
        return;
    }
    let kin = shared.book().kin_of(&run);
    let others = kin.iter().map(|seen| seen.pid);
    for pid in [run.pid].into_iter().chain(others) {
        if let Some(text) = table::undying(pid) {
            tracing::warn!(marker = %run.marker, "{text}; nothing else waits for it");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pidfd::Pidfd;
    use crate::run::Confines;
    use std::sync::atomic::AtomicBool;
    use supervision::PluginId;
    use tokio::sync::watch;

    #[test]
    fn who_was_killed_by_us_was_not_killed_for_lack_of_memory() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name, text| std::fs::write(folder.path().join(name), text).unwrap();
        file("memory.events", "oom 1\noom_kill 1\n");
        file("memory.peak", "70\n");
        file("memory.max", "64\n");
        let pid = i32::try_from(std::process::id()).unwrap();
        let run = |doomed| Run {
            marker: Marker::new(&PluginId::core(), supervision::Run(1), 1),
            pid,
            start_ticks: 0,
            pidfd: Arc::new(Pidfd::of_child(pid).unwrap()),
            fifo: None,
            confines: Confines {
                cgroup: Some(Folder::at(folder.path().to_owned())),
                ..Confines::default()
            },
            doomed: AtomicBool::new(doomed),
            stage: watch::Sender::new(Stage::Running),
        };
        let killed = ExitStatus::Signal {
            number: libc::SIGKILL,
            core_dumped: false,
        };
        let for_memory = ExitStatus::OutOfMemory {
            used_bytes: 70,
            limit_bytes: 64,
        };
        assert_eq!(cause_of(&run(false), killed), for_memory);
        assert_eq!(cause_of(&run(true), killed), killed);
        let code = ExitStatus::Code(137);
        assert_eq!(cause_of(&run(false), code), code);
    }
}
