//! One pipe of a run.
//!
//! Invariant: the kernel tells only of new output (edge-triggered), so a pipe that nobody holds any more does not keep the
//! thread busy, is heard again when somebody opens it, and one that is left unread for a while costs nothing. What may
//! still be in a pipe is therefore known here, as `ready`.

use super::tools::Tools;
use crate::feed::BLOCK;
use crate::mirror::LineMirror;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use std::os::fd::OwnedFd;

/// A pipe whose plugin writes a lot gets this size; four times the usual one, so that it holds what comes while we wait
/// for more (crates-os §5).
const GROWN: i32 = 256 * 1024;

/// One pipe.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) read_end: OwnedFd,
    pub(crate) mirror: Option<LineMirror>,
    /// It may have output: told of, and not found empty since.
    pub(super) ready: bool,
    /// The kernel does not tell of output just now.
    muted: bool,
    pub(super) skip: Skip,
    capacity: usize,
}

/// Where in a dropped line a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Skip {
    /// Not within one.
    Between,
    /// Within one, of which so many bytes were dropped.
    Within(usize),
}

impl Stream {
    pub(crate) fn new(read_end: OwnedFd, mirror: Option<LineMirror>) -> Self {
        Stream {
            read_end,
            mirror,
            ready: false,
            muted: false,
            skip: Skip::Between,
            capacity: BLOCK,
        }
    }

    /// How full the pipe was, in hundredths, when `bytes` were read of it; one that is rather full is made larger.
    pub(super) fn fill(&mut self, bytes: usize, tools: &mut Tools) -> usize {
        let fill = bytes * 100 / self.capacity;
        if fill > 50 {
            self.grow(tools);
        }
        fill
    }

    /// Has the kernel tell of output, what is there already included; `mark` is what it says then. Ends with the read end.
    pub(super) fn watch(&self, mark: u64, tools: &Tools) {
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, mark);
        if let Err(errno) = tools.epoll.add(&self.read_end, event) {
            tracing::error!(%errno, "cannot watch the output of a plugin");
        }
    }

    /// Has the kernel be silent about a pipe that is left unread, or tell again: else every write would wake the thread.
    pub(super) fn mute(&mut self, muted: bool, mark: u64, tools: &Tools) {
        if self.muted == muted {
            return;
        }
        let flags = if muted {
            EpollFlags::empty()
        } else {
            EpollFlags::EPOLLIN | EpollFlags::EPOLLET
        };
        let mut event = EpollEvent::new(flags, mark);
        if tools.epoll.modify(&self.read_end, &mut event).is_ok() {
            self.muted = muted;
        }
    }

    /// Makes the pipe larger, once, if it may be.
    fn grow(&mut self, tools: &mut Tools) {
        if self.capacity > BLOCK || tools.growths == 0 {
            return;
        }
        self.capacity = GROWN as usize;
        if fcntl(&self.read_end, FcntlArg::F_SETPIPE_SZ(GROWN)).is_ok() {
            tools.growths -= 1;
        }
    }
}
