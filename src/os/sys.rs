//! The system calls that neither std nor nix offers in the form we need. The other `unsafe` of the crate is where it starts
//! processes (`exec`, `clone`), reads who says what (`told`, `sender`), and lets go of memory (`memory`).
//!
//! Invariant: each function is safe to call with any argument; a bad one gives an error from the kernel.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use supervision::ExitStatus;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Opens a pidfd on the process with this number, close-on-exec.
///
/// # Errors
/// `ESRCH` when there is none; `EMFILE`, `ENFILE`, `ENOMEM` when there is no room.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal to exactly the process that the pidfd was opened on; 0 only asks whether it could be.
///
/// # Errors
/// `ESRCH` when it has been reaped, `EPERM` when it may not be signalled, `EINVAL` when there is no such signal.
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is borrowed, so open; a null siginfo is allowed and means "as kill would".
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            no_info,
            0,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sends a signal to the group led by `leader`. The caller has to know that `leader` is not reaped.
///
/// # Errors
/// `ESRCH`, `EPERM` when no member may be signalled, `EINVAL`.
pub(crate) fn signal_group(leader: i32, signal: i32) -> io::Result<()> {
    if leader <= 1 {
        // kill(-1) is "everybody", kill(0) "our own group".
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: the call takes two integers and touches no memory of ours.
    let done = unsafe { libc::kill(-leader, signal) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// What becomes of a child that has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// It stays a zombie and its number stays pinned.
    Zombie,
    /// It is reaped.
    Nothing,
}

/// How a child of any of our threads ended, by its number, which is pinned as long as it is not reaped; `None` when it
/// has not ended. Never blocks.
///
/// # Errors
/// `ECHILD` when it is not our child (any more).
pub(crate) fn child_ended(pid: i32, keep: Keep) -> io::Result<Option<ExitStatus>> {
    let number = libc::id_t::try_from(pid).map_err(io::Error::other)?;
    let mut flags = libc::WEXITED | libc::WNOHANG;
    if keep == Keep::Zombie {
        flags |= libc::WNOWAIT;
    }
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is valid for a write of one siginfo_t, and all-zero is a valid siginfo_t.
    let done = unsafe { libc::waitid(libc::P_PID, number, info.as_mut_ptr(), flags) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed above and perhaps written by the kernel since; both are valid values.
    let info = unsafe { info.assume_init() };
    // SAFETY: waitid fills the fields of SIGCHLD, or leaves the zeroes when no child has ended.
    let (ended, status) = unsafe { (info.si_pid(), info.si_status()) };
    if ended == 0 {
        return Ok(None);
    }
    Ok(Some(if info.si_code == libc::CLD_EXITED {
        ExitStatus::Code(status)
    } else {
        ExitStatus::Signal {
            number: status,
            core_dumped: info.si_code == libc::CLD_DUMPED,
        }
    }))
}

/// How a child has ended that is left a zombie.
pub(crate) fn how_it_ended(pid: i32) -> ExitStatus {
    match child_ended(pid, Keep::Zombie) {
        Ok(Some(status)) => status,
        Ok(None) | Err(_) => ExitStatus::Unknown,
    }
}

/// Sets close-on-exec on every open descriptor from `first` on in one call (Linux 5.11).
///
/// # Errors
/// `ENOSYS`, `EINVAL` or `EPERM` where the kernel or its filter does not know it.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: the call only sets flags in our descriptor table; no descriptor is closed by it.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Gives the calling thread a descriptor table of its own, with only `kept` and what is below 3 in it; the other threads
/// keep theirs as it is. Gives this thread's copy of `kept`, which has the same number.
///
/// # Errors
/// `EPERM` where a filter refuses; then the thread shares the table as before.
pub(crate) fn own_descriptors(kept: RawFd) -> io::Result<OwnedFd> {
    let number = u32::try_from(kept).map_err(io::Error::other)?;
    // SAFETY: the call takes an integer; from here on this thread's descriptors are copies of the others'.
    if unsafe { libc::unshare(libc::CLONE_FILES) } != 0 {
        return Err(io::Error::last_os_error());
    }
    for (first, last) in [(3, number.saturating_sub(1)), (number.max(2) + 1, u32::MAX)] {
        if first <= last {
            // SAFETY: the table is this thread's alone by now, and nothing that it owns is in it yet. Where the kernel
            // does not know the call (before Linux 5.9) the copies stay, which costs time only.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
    // SAFETY: this thread's copy, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(kept) })
}

/// What has one open descriptor, always the same, until it is dropped.
pub(crate) trait OwnsDescriptor: AsRawFd {}
impl OwnsDescriptor for OwnedFd {}
impl OwnsDescriptor for File {}

/// Has the runtime tell when a descriptor is readable. To be called within a runtime.
///
/// # Errors
/// When there is no room for one more.
pub(crate) fn watch_readable<T: OwnsDescriptor>(fd: T) -> io::Result<AsyncFd<T>> {
    watch(fd, Interest::READABLE)
}

/// Has the runtime tell when something urgent happens to a file. To be called within a runtime.
///
/// # Errors
/// When there is no room for one more, or the file tells of nothing.
pub(crate) fn watch_priority(file: File) -> io::Result<AsyncFd<File>> {
    watch(file, Interest::PRIORITY)
}

fn watch<T: OwnsDescriptor>(fd: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: an `OwnsDescriptor` keeps one and the same descriptor open as long as it lives, and the AsyncFd owns it.
    let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
    watched.map_err(io::Error::from)
}

/// Has all threads share one heap, where the C library is one that would give each its own.
pub(crate) fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number in the allocator, which is allowed at any time; it fails without effect.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives back what the heap has free, where the C library is one that would keep it.
pub(crate) fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the allocator takes its own lock and gives back only pages on which nothing is allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Takes pages out of our memory; they come back from their file when they are needed.
///
/// # Errors
/// `EINVAL` when they cannot be let go, as they are locked; `ENOMEM` when there are none.
///
/// # Safety
/// They must be of mappings that show a file, cannot be written to and have no page of their own: of any other the content
/// would be lost.
pub(crate) unsafe fn forget_pages(pages: Range<usize>) -> io::Result<()> {
    let first = std::ptr::with_exposed_provenance_mut(pages.start);
    // SAFETY: as the caller promises; the mapping stays, so whoever reads or executes these pages finds the same as before.
    let done = unsafe { libc::madvise(first, pages.len(), libc::MADV_DONTNEED) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Duplicates a descriptor, close-on-exec.
///
/// # Errors
/// `EBADF` when it is not open, `EMFILE` when there is no room.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: makes a new descriptor; on a closed one it fails without effect.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Sets close-on-exec on one descriptor, if it is open.
pub(crate) fn set_close_on_exec(fd: RawFd) {
    // SAFETY: sets a flag in our descriptor table; on a closed descriptor it fails without effect.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
}

/// What a process does with a signal that it does not handle itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// What the kernel does by default.
    Default,
    /// Nothing.
    Ignored,
    /// A function of the program's own is called.
    Handled,
}

/// The highest signal number.
pub(crate) fn last_signal() -> i32 {
    libc::SIGRTMAX()
}

/// What happens on a signal now; `None` for numbers the kernel or the C library keeps to itself.
pub(crate) fn disposition(signal: i32) -> Option<Disposition> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null new action only asks; `action` is valid for a write of one sigaction.
    let done = unsafe { libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) };
    if done != 0 {
        return None;
    }
    // SAFETY: written by the kernel, as the call succeeded.
    let action = unsafe { action.assume_init() };
    Some(match action.sa_sigaction {
        libc::SIG_DFL => Disposition::Default,
        libc::SIG_IGN => Disposition::Ignored,
        _ => Disposition::Handled,
    })
}

/// Sets a signal to its default or to being ignored, without flags and with an empty mask.
///
/// # Errors
/// `EINVAL` for numbers the kernel or the C library keeps to itself.
pub(crate) fn set_ignored(signal: i32, ignored: bool) -> io::Result<()> {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all-zero is a valid sigaction: default action, empty mask, no flags. Only the action is set further; it
    // is one of the two values that are no function.
    let action = unsafe {
        (*action.as_mut_ptr()).sa_sigaction = if ignored {
            libc::SIG_IGN
        } else {
            libc::SIG_DFL
        };
        action.assume_init()
    };
    // SAFETY: `action` is valid for the call; no handler of ours is installed by it.
    let done = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sets how many descriptors another process of ours may open; `soft` of at most `hard`.
///
/// # Errors
/// `ESRCH` when it is gone, `EPERM` when it has got other rights.
pub(crate) fn set_open_files_of(pid: i32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: soft as libc::rlim_t,
        rlim_max: hard as libc::rlim_t,
    };
    // SAFETY: `limit` is valid for a read of one rlimit; a null old limit means it is not wanted.
    let done = unsafe {
        libc::prlimit(
            pid,
            libc::RLIMIT_NOFILE,
            &raw const limit,
            std::ptr::null_mut(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
