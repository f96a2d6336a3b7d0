//! What the drain thread has for all runs.
//!
//! Invariant: one block to read into at a time, whatever the number of runs.

use crate::feed::Pool;
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use std::sync::Arc;

/// So many pipes are made larger at most: the kernel gives an ordinary user 16,384 pages for all his pipes, and new ones
/// get hardly any when those are used up.
const GROWTHS: usize = 32;

/// What the thread has for all runs.
pub(super) struct Tools {
    pub(super) epoll: Epoll,
    pub(super) pool: Arc<Pool>,
    /// What the next read goes to.
    pub(super) block: Vec<u8>,
    /// So many pipes may still be made larger.
    pub(super) growths: usize,
}

impl Tools {
    /// With nothing to watch yet.
    pub(super) fn new(pool: Arc<Pool>) -> nix::Result<Self> {
        Ok(Tools {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            block: pool.take(),
            pool,
            growths: GROWTHS,
        })
    }
}
