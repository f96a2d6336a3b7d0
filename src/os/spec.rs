//! What is to be started.

use crate::cgroup::HardLimits;
#[cfg(doc)]
use crate::fifo;
use crate::marker::Marker;
#[cfg(doc)]
use crate::marker::{HOME_VARIABLE, RUN_VARIABLE};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// Where an output of a child goes.
#[derive(Debug)]
pub enum Output {
    /// Nowhere.
    Null,
    /// Into the FIFO of this path, opened as [`fifo::open_for_child`] does.
    Fifo(PathBuf),
    /// Into this descriptor.
    Fd(OwnedFd),
    /// Where ours of the same number goes.
    Inherit,
}

/// What to start.
#[derive(Debug)]
pub struct SpawnSpec {
    /// The mark of the run; [`crate::Host::marker`] makes one.
    pub marker: Marker,
    /// The executable, absolute.
    pub path: PathBuf,
    /// What it sees as its own name.
    pub argv0: OsString,
    /// Its arguments after that.
    pub args: Vec<OsString>,
    /// Its whole environment; of a name given twice the last counts. [`RUN_VARIABLE`] and [`HOME_VARIABLE`] are set on
    /// top of it from the marker and the host's home.
    pub env: Vec<(OsString, OsString)>,
    /// Its working folder.
    pub cwd: PathBuf,
    /// Its standard output.
    pub stdout: Output,
    /// Its error output; the same FIFO as `stdout` keeps the order of lines.
    pub stderr: Output,
    /// What the kernel holds its whole tree to; see [`crate::Process::refused_limits`].
    pub limits: HardLimits,
}
