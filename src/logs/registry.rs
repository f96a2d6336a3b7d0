//! The feeds in use, by name.
//!
//! Invariant: a feed is joined and forgotten under one lock, so that no two of a name are in use.

use crate::feed::Feed;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use supervision::policy::LogPolicy;

/// The feeds in use, by name.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    feeds: Mutex<HashMap<String, Arc<Feed>>>,
}

impl Registry {
    /// The feed of this name, with one more user.
    pub(crate) fn join(
        &self,
        name: &str,
        policy: LogPolicy,
        make: impl FnOnce() -> Feed,
    ) -> Arc<Feed> {
        let mut feeds = self.lock();
        let feed = feeds
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(make()));
        // Under the lock, so that it is not forgotten in between.
        feed.join(policy);
        feed.clone()
    }

    /// Forgets a feed, unless somebody has begun to use it.
    pub(crate) fn forget(&self, feed: &Arc<Feed>) {
        let mut feeds = self.lock();
        if feed.is_over() {
            feeds.remove(feed.name());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Feed>>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
