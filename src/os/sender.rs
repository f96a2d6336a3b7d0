//! Who sent a message, told also of those who are gone when it is read.
//!
//! Invariant: what is found out by a sender's number counts only when the number was still his afterwards.

use crate::{sys, table};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The kernel's name for a pidfd that comes with a message (Linux 6.5); not in the library yet.
pub(crate) const SCM_PIDFD: libc::c_int = 0x04;
/// By which it is asked for.
const SO_PASSPIDFD: libc::c_int = 76;

/// What a pidfd tells (`PIDFD_GET_INFO`, Linux 6.13): its first version.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

/// Asks for the number of the cgroup.
const INFO_CGROUP: u64 = 1 << 2;
/// Asks of one that is gone (Linux 6.15).
const INFO_EXIT: u64 = 1 << 3;

/// The number of the call, as most machines make it of direction, size of [`Info`], kind and number; others refuse it.
const PIDFD_GET_INFO: u32 = 3 << 30 | (size_of::<Info>() as u32) << 16 | 0xff << 8 | 11;

/// The sender of a message.
#[derive(Debug)]
pub struct Sender {
    pid: i32,
    pidfd: Option<OwnedFd>,
}

impl Sender {
    pub(crate) fn new(pid: i32, pidfd: Option<OwnedFd>) -> Self {
        Sender { pid, pidfd }
    }

    /// His number; another process may have it by now.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The cgroup he is in, or was when he ended, by its inode; none where the kernel does not say.
    #[must_use]
    pub fn cgroup(&self) -> Option<u64> {
        let pidfd = self.pidfd.as_ref()?.as_raw_fd();
        let mut info = Info {
            mask: INFO_CGROUP | INFO_EXIT,
            ..Info::default()
        };
        // SAFETY: the descriptor is open, and what it points to is as large as the number of the call says.
        let told = unsafe { libc::ioctl(pidfd, PIDFD_GET_INFO as libc::Ioctl, &raw mut info) };
        (told == 0 && info.mask & INFO_CGROUP != 0 && info.cgroup != 0).then_some(info.cgroup)
    }

    /// What the process table says of him; none when he is gone.
    #[must_use]
    pub fn stat(&self) -> Option<table::Stat> {
        let stat = table::stat(self.pid).ok().flatten()?;
        self.is_there().then_some(stat)
    }

    /// Whether his number is still his, ended or not; without a pidfd it is taken to be.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let Some(pidfd) = &self.pidfd else {
            return true;
        };
        match sys::pidfd_send_signal(pidfd.as_fd(), 0) {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(libc::EPERM),
        }
    }
}

/// Has the kernel send a pidfd with each message; older ones do not.
pub(crate) fn ask_for_pidfds(socket: BorrowedFd<'_>) {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or_default();
    // SAFETY: the value is of the length that is given with it.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSPIDFD,
            (&raw const on).cast(),
            length,
        )
    };
    if set != 0 {
        let error = io::Error::last_os_error();
        tracing::debug!(%error, "of a sender that is gone it will not be told who he was");
    }
}
