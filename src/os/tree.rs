//! Looking at and signalling the processes of one tree.
//!
//! Invariant: beside the group of an unreaped leader only processes are signalled that are held by a pidfd, opened on
//! the very process that was seen (T1).

use crate::cgroup::Folder;
use crate::pidfd::{Pidfd, PidfdError};
use crate::run::Run;
use crate::{sys, table};
use nix::errno::Errno;
use std::collections::HashSet;
use std::io;
use supervision::exit::signal_name;
use thiserror::Error;

/// Whom a signal reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// Everybody of the tree.
    Tree,
    /// Nobody: the tree is gone.
    NobodyLeft,
}

/// Why a signal did not reach everybody (T45).
#[derive(Debug, Error)]
pub enum SignalError {
    /// Some of the tree run with other rights; the others got it.
    #[error("no permission to send {} to {}; they run as another user", signal_name(*signal), list(pids))]
    NotPermitted {
        /// The signal.
        signal: i32,
        /// Who did not get it, in ascending order.
        pids: Vec<i32>,
    },
    /// There is no such signal.
    #[error("there is no signal {signal}")]
    NoSuchSignal {
        /// The number asked for.
        signal: i32,
    },
    /// A process cannot be held; the others got it.
    #[error("cannot send {} to process {pid}", signal_name(*signal))]
    Hold {
        /// The signal.
        signal: i32,
        /// Who did not get it.
        pid: i32,
        /// Why.
        #[source]
        source: PidfdError,
    },
    /// Anything else the system said.
    #[error("cannot send {} to process {pid}", signal_name(*signal))]
    System {
        /// The signal.
        signal: i32,
        /// Who did not get it.
        pid: i32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn list(pids: &[i32]) -> String {
    let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
    format!("process {}", pids.join(", "))
}

/// A living process as it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) pid: i32,
    pub(crate) start_ticks: u64,
    pub(crate) pgrp: i32,
}

/// Looks whether a process that was seen before still lives.
pub(crate) fn look(pid: i32, start_ticks: u64) -> Option<Seen> {
    let stat = table::stat(pid).ok().flatten()?;
    (stat.start_ticks == start_ticks && !stat.has_ended()).then_some(Seen {
        pid,
        start_ticks,
        pgrp: stat.pgrp,
    })
}

/// Everything alive in a cgroup but `main`; what cannot be read is left out.
pub(crate) fn inhabitants(cgroup: &Folder, main: i32) -> Vec<Seen> {
    let pids = cgroup.pids().unwrap_or_else(|error| {
        tracing::warn!(cgroup = %cgroup.path().display(), %error, "cannot list who is in a cgroup");
        Vec::new()
    });
    let others = pids.into_iter().filter(|pid| *pid != main);
    let seen = others.filter_map(|pid| {
        let stat = table::stat(pid).ok().flatten()?;
        (!stat.has_ended()).then_some(Seen {
            pid,
            start_ticks: stat.start_ticks,
            pgrp: stat.pgrp,
        })
    });
    seen.collect()
}

/// Who lives in the cgroup of a run whose main process has ended: number and start.
pub(crate) fn left_in_cgroup(run: &Run) -> Vec<(i32, u64)> {
    let Some(cgroup) = &run.confines.cgroup else {
        return Vec::new();
    };
    // What cannot be asked now is asked again by its orphans' ends; what is gone is empty.
    if !cgroup.is_populated().unwrap_or(true) {
        return Vec::new();
    }
    let seen = inhabitants(cgroup, run.pid);
    seen.iter().map(|s| (s.pid, s.start_ticks)).collect()
}

/// Whether a process lives; one that cannot be read is taken to.
pub(crate) fn is_alive(pid: i32, start_ticks: u64) -> bool {
    match table::stat(pid) {
        Ok(Some(stat)) => stat.start_ticks == start_ticks && !stat.has_ended(),
        Ok(None) => false,
        Err(_) => true,
    }
}

/// Everything alive below these processes, without them; what cannot be read is left out.
pub(crate) fn descendants(roots: &[i32]) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut visited: HashSet<i32> = roots.iter().copied().collect();
    let mut left: Vec<i32> = roots.to_vec();
    while let Some(parent) = left.pop() {
        let children = match table::children(parent) {
            Ok(children) => children,
            Err(error) => {
                tracing::warn!(pid = parent, %error, "cannot list the children of a process");
                continue;
            }
        };
        for pid in children {
            // The parent is checked, as the number may have changed hands since it was listed.
            if let Ok(Some(stat)) = table::stat(pid)
                && stat.ppid == parent
                && !stat.has_ended()
                && visited.insert(pid)
            {
                left.push(pid);
                seen.push(Seen {
                    pid,
                    start_ticks: stat.start_ticks,
                    pgrp: stat.pgrp,
                });
            }
        }
    }
    seen
}

/// Sends a signal to the group of `leader`, which the caller knows is not reaped, to the leader itself if it has left
/// its group, and to each of `kin` that is not in it. A stopped process could not act on it, so SIGCONT follows; after
/// it, as otherwise the process could run on and be stopped again before it gets the signal.
///
/// # Errors
/// The first reason why somebody living did not get it; all others did.
pub(crate) fn send(
    leader: i32,
    held_leader: &Pidfd,
    kin: &[Seen],
    signal: i32,
) -> Result<Delivered, SignalError> {
    let mut task = Sending {
        signal,
        denied: Vec::new(),
        failed: None,
    };
    let mut holds = Vec::new();
    for one in kin.iter().filter(|one| one.pgrp != leader) {
        match Pidfd::open(one.pid, one.start_ticks) {
            Ok(held) => holds.extend(held),
            Err(source) => task.fail(SignalError::Hold {
                signal,
                pid: one.pid,
                source,
            }),
        }
    }
    let left_group = table::stat(leader)
        .ok()
        .flatten()
        .is_some_and(|stat| stat.pgrp != leader && !stat.has_ended());

    let mut signals = vec![signal];
    if wants_continue(signal) {
        signals.push(libc::SIGCONT);
    }
    for number in signals {
        task.note(leader, sys::signal_group(leader, number));
        if left_group {
            task.note(leader, held_leader.send(number));
        }
        for held in &holds {
            task.note(held.pid(), held.send(number));
        }
    }
    // The group call succeeds when one member got it; who of it may not be signalled is asked one by one.
    for one in kin.iter().filter(|one| one.pgrp == leader) {
        if may_not_signal(one.pid) {
            task.denied.push(one.pid);
        }
    }
    task.finish()
}

struct Sending {
    signal: i32,
    denied: Vec<i32>,
    failed: Option<SignalError>,
}

impl Sending {
    fn note(&mut self, pid: i32, result: io::Result<()>) {
        let signal = self.signal;
        let Err(source) = result else {
            return;
        };
        match source.raw_os_error() {
            // Gone meanwhile.
            Some(libc::ESRCH) => {}
            Some(libc::EPERM) => self.denied.push(pid),
            Some(libc::EINVAL) => self.fail(SignalError::NoSuchSignal { signal }),
            Some(_) | None => self.fail(SignalError::System {
                signal,
                pid,
                source,
            }),
        }
    }

    fn fail(&mut self, error: SignalError) {
        self.failed.get_or_insert(error);
    }

    fn finish(mut self) -> Result<Delivered, SignalError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.denied.is_empty() {
            return Ok(Delivered::Tree);
        }
        self.denied.sort_unstable();
        self.denied.dedup();
        Err(SignalError::NotPermitted {
            signal: self.signal,
            pids: self.denied,
        })
    }
}

/// Whether a signal is of no use to a stopped process until it continues, and does not itself stop or ask.
pub(crate) fn wants_continue(signal: i32) -> bool {
    !matches!(
        signal,
        0 | libc::SIGKILL
            | libc::SIGSTOP
            | libc::SIGCONT
            | libc::SIGTSTP
            | libc::SIGTTIN
            | libc::SIGTTOU
    )
}

/// Asks only, so it does no harm if the number has changed hands.
fn may_not_signal(pid: i32) -> bool {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None) == Err(Errno::EPERM)
}
