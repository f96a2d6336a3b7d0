//! What is fixed of one run, and how far it is.
//!
//! Invariant: the stages come in their order, each at most once; the last one is never left.

use crate::cgroup::{Folder, LimitRefused};
use crate::marker::Marker;
use crate::pidfd::Pidfd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use supervision::ExitStatus;
use tokio::sync::watch;

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The main process lives.
    Running,
    /// The main process ended, others of the tree live.
    MainEnded(ExitStatus),
    /// Nothing of the tree lives, all is reaped.
    Gone(ExitStatus),
}

/// What holds the processes of a run together.
#[derive(Debug, Default)]
pub(crate) struct Confines {
    /// Its cgroup; `None` = the process group is all there is.
    pub(crate) cgroup: Option<Folder>,
    /// The hard limits that are not in force.
    pub(crate) refused: Vec<LimitRefused>,
    /// Why it has no cgroup although others have.
    pub(crate) without: Option<String>,
}

/// One run; what does not change.
#[derive(Debug)]
pub(crate) struct Run {
    /// Its mark.
    pub(crate) marker: Marker,
    /// The main process, leader of the group of the same number.
    pub(crate) pid: i32,
    /// When it started, in clock ticks since boot.
    pub(crate) start_ticks: u64,
    /// The main process.
    pub(crate) pidfd: Arc<Pidfd>,
    /// Device and inode of the FIFO that is its output.
    pub(crate) fifo: Option<(u64, u64)>,
    /// Its cgroup and limits.
    pub(crate) confines: Confines,
    /// Whether we have killed it; then somebody looks after its not ending.
    pub(crate) doomed: AtomicBool,
    /// How far it is.
    pub(crate) stage: watch::Sender<Stage>,
}
