//! A child between its start and its entry into the book of runs.
//!
//! Invariant: until it is in the book nobody else reaps it, so its number is its own; one that never comes there is ended,
//! with its cgroup, on whatever thread it is dropped.

use crate::cgroup::Folder;
use crate::pidfd::{Pidfd, PidfdError};
use crate::run::{Confines, Run, Stage};
use crate::spawn_error::SpawnError;
use crate::spec::SpawnSpec;
use crate::sys::{self, Keep};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::watch;

/// A child that is not in the book yet. Its number is pinned, as only the book reaps; dropped, it is ended.
#[derive(Debug)]
pub(crate) struct Newborn {
    /// 0 = it was taken.
    pid: i32,
    start_ticks: io::Result<u64>,
    fifo: Option<(u64, u64)>,
    confines: Confines,
}

impl Newborn {
    /// A child that was started a moment ago; `fifo` is device and inode of its output.
    pub(crate) fn new(
        pid: i32,
        start_ticks: io::Result<u64>,
        fifo: Option<(u64, u64)>,
        confines: Confines,
    ) -> Newborn {
        Newborn {
            pid,
            start_ticks,
            fifo,
            confines,
        }
    }

    /// Takes hold of it.
    ///
    /// # Errors
    /// When it cannot be held; then it is ended.
    pub(crate) fn hold(mut self, spec: &SpawnSpec) -> Result<Run, SpawnError> {
        let pid = self.pid;
        let ticks = std::mem::replace(&mut self.start_ticks, Ok(0));
        let identified = ticks.map_err(|source| PidfdError::Identify { pid, source });
        let held = identified.and_then(|ticks| Ok((ticks, Pidfd::of_child(pid)?)));
        let (start_ticks, pidfd) =
            held.map_err(|source| SpawnError::unwatched(&spec.path, source))?;
        self.pid = 0;
        Ok(Run {
            marker: spec.marker.clone(),
            pid,
            start_ticks,
            pidfd: Arc::new(pidfd),
            fifo: self.fifo,
            confines: std::mem::take(&mut self.confines),
            doomed: AtomicBool::new(false),
            stage: watch::Sender::new(Stage::Running),
        })
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        let pid = self.pid;
        if pid == 0 {
            return;
        }
        let cgroup = self.confines.cgroup.take();
        // It takes a moment, in which nothing else must wait.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || end_unwatched(pid, cgroup))),
            Err(_) => end_unwatched(pid, cgroup),
        }
    }
}

/// Ends a child that is not in the book. It has hardly begun, so this takes a moment only.
fn end_unwatched(pid: i32, cgroup: Option<Folder>) {
    for _ in 0..100 {
        if let Some(cgroup) = &cgroup
            && let Err(error) = cgroup.kill()
        {
            tracing::debug!(pid, %error, "its cgroup cannot be killed");
        }
        let killed = sys::signal_group(pid, libc::SIGKILL);
        match sys::child_ended(pid, Keep::Nothing) {
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
            Ok(Some(_)) | Err(_) => {
                // Where somebody is still ending it is removed by the next launcher.
                let _removed = cgroup.map(|cgroup| cgroup.remove());
                return;
            }
        }
        if killed.is_err() {
            return;
        }
    }
    tracing::warn!(pid, "a process that cannot be watched does not end");
}
