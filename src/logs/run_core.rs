//! What the drain thread and those who opened a log know of a run.
//!
//! Invariant: what is noted of output is noted as it comes, whatever becomes of it.

use crate::awaited::Awaited;
use crate::feed::Feed;
use crate::tail::Tail;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use supervision::{PluginId, Run};

/// What threads and callers know of a run.
#[derive(Debug)]
pub(crate) struct RunCore {
    /// Its number within the plane.
    pub(crate) key: u64,
    pub(crate) id: PluginId,
    pub(crate) run: Run,
    /// The way to its file, if it has one.
    pub(crate) feed: Option<Arc<Feed>>,
    noted: Mutex<Noted>,
}

/// What is noted of output as it comes.
#[derive(Debug)]
struct Noted {
    tail: Tail,
    awaited: Option<Awaited>,
}

impl RunCore {
    /// Of a run with so many streams.
    pub(crate) fn new(
        key: u64,
        (id, run): (PluginId, Run),
        feed: Option<Arc<Feed>>,
        streams: usize,
        awaited: Option<Awaited>,
    ) -> Self {
        let tail = Tail::new(streams);
        RunCore {
            key,
            id,
            run,
            feed,
            noted: Mutex::new(Noted { tail, awaited }),
        }
    }

    /// Keeps the last lines of what a stream says, and tells who waits for one of them.
    pub(crate) fn note(&self, stream: usize, bytes: &[u8]) {
        let mut noted = self.lock();
        noted.tail.push(stream, bytes);
        if let Some(awaited) = noted.awaited.take() {
            noted.awaited = awaited.look(stream, bytes);
        }
    }

    /// The last lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lock().tail.lines()
    }

    /// The run says nothing more.
    pub(crate) fn leave(&self) {
        if let Some(feed) = &self.feed {
            feed.leave();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
