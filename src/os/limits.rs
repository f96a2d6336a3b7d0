//! How many descriptors we and our children may open.
//!
//! Invariant: what we were started with is noted before it is changed, once for the life of the process.

use crate::sys;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;

/// The soft and hard limit that we inherited.
static INHERITED: OnceLock<(u64, u64)> = OnceLock::new();

/// Raises our soft limit of open files to the hard one: each plugin costs up to four descriptors, and the usual soft
/// limit of 1,024 is for programs that use `select`. Gives the new limit; may be repeated.
///
/// # Errors
/// When the limit cannot be read or set; all goes on with the inherited one.
pub fn raise_open_files() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    INHERITED.get_or_init(|| (soft, hard));
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// How many files we may open now.
///
/// # Errors
/// When the limit cannot be read.
pub fn open_files() -> io::Result<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(soft)
}

/// Most descriptors that no run is begun with.
const MOST_RESERVED: u64 = 32;

/// Whether a descriptor is one of those that are left to control, to reaping and to reading what runs use: at most 32 and at
/// most a quarter of the highest numbers. The system gives the lowest number that is free, so as long as no run is begun
/// with one of these, some are free however many runs there are to begin.
#[must_use]
pub fn is_reserved(descriptor: BorrowedFd<'_>) -> bool {
    let limit = open_files().unwrap_or(u64::MAX);
    let reserved = MOST_RESERVED.min(limit / 4);
    u64::try_from(descriptor.as_raw_fd()).is_ok_and(|number| number >= limit - reserved)
}

/// Gives a child the limit that we were started with, right after its exec.
///
/// Programs that use `select`, or close every number up to the limit, depend on a small soft limit. Doing it before the
/// exec would need `pre_exec`; so a program that asks within its first microseconds may see ours. That is harmless.
pub(crate) fn restore_for_child(pid: i32) {
    if let Some((soft, hard)) = INHERITED.get()
        && soft < hard
        && let Err(error) = sys::set_open_files_of(pid, *soft, *hard)
    {
        // It is gone already, or has more rights than we; neither is a reason not to start it.
        tracing::debug!(pid, %error, "the limit on open files of the child is ours");
    }
}
