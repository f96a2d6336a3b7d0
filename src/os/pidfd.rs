//! A hold on one process that a reused number cannot fool.
//!
//! Invariant: a [`Pidfd`] was opened on the process that started at the tick asked for; checked before and after opening.

use crate::sys::OwnsDescriptor;
use crate::{sys, table};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// How often a process is looked at when the runtime cannot watch it (no descriptor left).
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Why a process cannot be held.
#[derive(Debug, Error)]
pub enum PidfdError {
    /// No descriptor or no memory, or the kernel is older than Linux 5.3.
    #[error("cannot open a descriptor on process {pid}")]
    Open {
        /// Its number.
        pid: i32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The process table cannot be read.
    #[error("cannot identify process {pid}")]
    Identify {
        /// Its number.
        pid: i32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A process, held by descriptor.
#[derive(Debug)]
pub struct Pidfd {
    fd: OwnedFd,
    pid: i32,
}

impl Pidfd {
    /// Holds the process `pid` that started at `start_ticks` (field 22 of its `stat`); `None` when it is gone or its
    /// number belongs to another one by now (T1).
    ///
    /// # Errors
    /// When it is there but cannot be held.
    pub fn open(pid: i32, start_ticks: u64) -> Result<Option<Pidfd>, PidfdError> {
        if !is_same(pid, start_ticks)? {
            return Ok(None);
        }
        let fd = match sys::pidfd_open(pid) {
            Ok(fd) => fd,
            Err(source) if source.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            Err(source) => return Err(PidfdError::Open { pid, source }),
        };
        // Between the first look and the opening the number may have changed hands.
        Ok(is_same(pid, start_ticks)?.then_some(Pidfd { fd, pid }))
    }

    /// Holds our own child, which is not reaped and therefore still has its number.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(crate) fn of_child(pid: i32) -> Result<Pidfd, PidfdError> {
        match sys::pidfd_open(pid) {
            Ok(fd) => Ok(Pidfd { fd, pid }),
            Err(source) => Err(PidfdError::Open { pid, source }),
        }
    }

    /// The number, for showing only.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// `ESRCH` when it is gone, `EPERM` when it may not be signalled (T45), `EINVAL` when there is no such signal.
    pub fn send(&self, signal: i32) -> io::Result<()> {
        sys::pidfd_send_signal(self.fd.as_fd(), signal)
    }

    /// Whether it has ended; a zombie has.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let mut fds = [nix::poll::PollFd::new(
            self.fd.as_fd(),
            nix::poll::PollFlags::POLLIN,
        )];
        nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Waits until it has ended; a zombie has. Any process can be waited for, not only a child.
    ///
    /// # Cancel safety
    /// Cancel safe; may be awaited by several.
    pub async fn ended(&self) {
        // A duplicate, as one descriptor can be registered with the runtime only once.
        if let Ok(fd) = self.fd.try_clone()
            && until_readable(fd).await
        {
            return;
        }
        while !self.has_ended() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// Completes when the process that has this number now is gone, whoever's it is; at once when there is none. A process
/// that cannot be held is looked at now and then.
///
/// # Cancel safety
/// Cancel safe.
pub async fn ended(pid: i32) {
    let Ok(Some(stat)) = table::stat(pid) else {
        return;
    };
    match Pidfd::open(pid, stat.start_ticks) {
        Ok(Some(held)) => held.ended().await,
        Ok(None) => {}
        Err(_) => {
            while is_same(pid, stat.start_ticks).unwrap_or(true) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    }
}

/// As [`Pidfd::ended`], for the one who waits as long as the process lives: without a descriptor of its own.
pub(crate) async fn ended_held(held: Arc<Pidfd>) {
    if !until_readable(Arc::clone(&held)).await {
        held.ended().await;
    }
}

/// Waits until the descriptor is readable; `false` when the runtime cannot watch it.
async fn until_readable(fd: impl OwnsDescriptor) -> bool {
    match sys::watch_readable(fd) {
        Ok(watched) => watched.readable().await.is_ok(),
        Err(_) => false,
    }
}

impl OwnsDescriptor for Arc<Pidfd> {}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Pidfd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn is_same(pid: i32, start_ticks: u64) -> Result<bool, PidfdError> {
    match table::stat(pid) {
        Ok(stat) => Ok(stat.is_some_and(|stat| stat.start_ticks == start_ticks)),
        Err(source) => Err(PidfdError::Identify { pid, source }),
    }
}
