//! Taking hold of a process that a spawner thread has just started.
//!
//! Invariants:
//! - it is done on the runtime, as the threads have no use for our descriptors (see [`crate::spawn`]);
//! - a process is in the book before anybody hears of it; one that cannot be held, or that nobody asks for any more, is
//!   killed and reaped, also when the runtime is gone.

use crate::cgroup::Folder;
use crate::host::Shared;
use crate::limits;
use crate::pidfd::{Pidfd, PidfdError};
use crate::process;
use crate::run::{Confines, Run, Stage};
use crate::spawn::{Job, SpawnSpec};
use crate::spawn_error::SpawnError;
use crate::sys::{self, Keep};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
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

    fn hold(mut self, spec: &SpawnSpec) -> Result<Run, SpawnError> {
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

/// What became of a job.
pub(crate) struct Birth {
    pub(crate) job: Job,
    pub(crate) result: Result<Newborn, SpawnError>,
}

impl Birth {
    /// Enters it into the book, has it watched, and tells who asked.
    fn attend(self, shared: &Arc<Shared>) {
        let Birth { job, result } = self;
        let held = result.and_then(|newborn| newborn.hold(&job.spec));
        let started = match held {
            Ok(run) => {
                let run = Arc::new(run);
                if let Some(reason) = &run.confines.without {
                    tracing::warn!(marker = %run.marker, "{reason}; it is known by its process group");
                }
                shared.book().enter(Arc::clone(&run));
                limits::restore_for_child(run.pid);
                let watching = process::watch(Arc::clone(shared), Arc::clone(&run));
                shared.runtime.spawn(watching);
                Ok(Started {
                    run: Some(run),
                    shared: Arc::clone(shared),
                })
            }
            Err(error) => {
                shared.book().forget(&job.spec.marker);
                Err(error)
            }
        };
        // Refused or not, what nobody takes is killed when it is dropped.
        let _refused = job.reply.send(started);
    }
}

/// A run that was started; dropped before anybody took it, it is killed.
pub(crate) struct Started {
    run: Option<Arc<Run>>,
    shared: Arc<Shared>,
}

impl Started {
    /// The run; it is not killed any more when this is dropped.
    pub(crate) fn take(mut self) -> Option<Arc<Run>> {
        self.run.take()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(run) = self.run.take()
            && let Err(error) = self.shared.book().kill(&run)
        {
            tracing::warn!(pid = run.pid, %error, "a process that nobody waits for cannot be killed");
        }
    }
}

/// Attends to all births as long as the host is there. `bell` rings when a thread has laid one down.
pub(crate) async fn attend(bell: AsyncFd<OwnedFd>, shared: Weak<Shared>) {
    loop {
        match bell.readable().await {
            Ok(mut rung) => rung.clear_ready(),
            // The runtime is shutting down.
            Err(_) => return,
        }
        // Before the births are taken: a ring too many does no harm, one too few would.
        let _ = nix::unistd::read(bell.get_ref(), &mut [0; 8]);
        let Some(shared) = shared.upgrade() else {
            return;
        };
        for birth in shared.spawners.births() {
            birth.attend(&shared);
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
