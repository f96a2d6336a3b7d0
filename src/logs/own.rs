//! The launcher's own log, `logs/launcher.log`.
//!
//! Invariant: who logs never waits, not even for a disk that hangs.

use crate::feed::Feed;
use std::io;
use std::sync::Arc;

/// The launcher's own log: what is written to it goes through queue and write thread like a plugin's output, so a write
/// never waits; without room it is dropped, counted and told. One write should be one or more whole lines, as with
/// tracing's `fmt` layer, whose writer may be `move || log.clone()`. Clones are the same log.
#[derive(Debug, Clone)]
pub struct OwnLog {
    user: Arc<OwnUser>,
}

impl OwnLog {
    /// The log that `feed`, of which it is a user, leads to.
    pub(crate) fn new(feed: Arc<Feed>) -> Self {
        OwnLog {
            user: Arc::new(OwnUser { feed }),
        }
    }
}

#[derive(Debug)]
struct OwnUser {
    feed: Arc<Feed>,
}

impl Drop for OwnUser {
    fn drop(&mut self) {
        self.feed.leave();
    }
}

impl io::Write for OwnLog {
    /// Takes all of `bytes`, or drops and counts them; never an error.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.user.feed.add(|entry| entry.offer(bytes));
        Ok(bytes.len())
    }

    /// Does nothing: what was written is with the write thread already.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
