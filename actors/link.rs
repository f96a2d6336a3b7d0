//! How the connection to the bus is, for those who need it.
//!
//! Invariant: the generation grows with each connection, so what was asked of one is never taken for an answer of the
//! next.

/// The connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It is there; the how many-th it is, from 1.
    Up {
        /// The how many-th.
        generation: u64,
    },
    /// It is not.
    Down {
        /// How many there were.
        generation: u64,
        /// Since when, in Unix milliseconds; 0 = there never was one.
        since_mse: i64,
        /// Why there is none; for people.
        reason: String,
        /// How it is tried again; nobody is woken up by its change.
        retry: Retry,
        /// Whether people were told; as long as a core of our own is awaited there is nothing to tell.
        told: bool,
    },
}

/// How a connection is tried again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retry {
    /// So many attempts failed in a row; 0 = none yet, or the first is under way.
    pub failures: u32,
    /// When the next one is, in Unix milliseconds; 0 = one is under way.
    pub next_mse: i64,
    /// What people can do about the last one's failure; empty = that it failed says it all.
    pub way_out: String,
}

impl Default for Link {
    fn default() -> Self {
        Link::Down {
            generation: 0,
            since_mse: 0,
            reason: "no connection to the bus yet".to_owned(),
            retry: Retry::default(),
            told: true,
        }
    }
}

impl Link {
    /// Whether the bus can be spoken to.
    #[must_use]
    pub fn is_up(&self) -> bool {
        match self {
            Link::Up { .. } => true,
            Link::Down { .. } => false,
        }
    }

    fn generation(&self) -> u64 {
        match self {
            Link::Up { generation } | Link::Down { generation, .. } => *generation,
        }
    }

    pub(super) fn rise(&mut self) {
        *self = Link::Up {
            generation: self.generation().saturating_add(1),
        };
    }

    pub(super) fn fall(&mut self, why: &str, now_mse: i64) {
        let (told, since_mse, retry) = match self {
            Link::Up { .. } => (false, now_mse, Retry::default()),
            Link::Down {
                reason,
                told,
                since_mse,
                retry,
                ..
            } => (*told && reason == why, *since_mse, std::mem::take(retry)),
        };
        *self = Link::Down {
            generation: self.generation(),
            since_mse,
            reason: why.to_owned(),
            retry,
            told,
        };
    }

    /// It will be tried again like this; without effect while it is there.
    pub(super) fn retries(&mut self, how: Retry) {
        match self {
            Link::Up { .. } => {}
            Link::Down { retry, .. } => *retry = how,
        }
    }

    /// Whether there was a connection before.
    pub(super) fn has_been_up(&self) -> bool {
        self.generation() > 0
    }

    /// The reason that nobody was told yet; from now on it counts as told.
    pub(super) fn tell(&mut self) -> Option<String> {
        match self {
            Link::Down { reason, told, .. } if !*told => {
                *told = true;
                Some(reason.clone())
            }
            Link::Up { .. } | Link::Down { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_told_once() {
        let mut link = Link::default();
        assert_eq!(link.tell(), None, "nothing was tried yet");
        link.fall("no token", 5);
        link.fall("no token", 5);
        assert!(!link.has_been_up());
        assert_eq!(link.tell().as_deref(), Some("no token"));
        link.fall("no token", 5);
        assert_eq!(link.tell(), None);
        link.rise();
        assert_eq!(link.tell(), None);
        link.fall("no token", 5);
        assert!(link.has_been_up());
        assert_eq!(link.tell().as_deref(), Some("no token"));
    }

    #[test]
    fn since_when_and_how_it_is_tried_again_is_known() {
        let mut link = Link::default();
        link.rise();
        link.retries(Retry {
            failures: 9,
            ..Retry::default()
        });
        assert!(link.is_up());
        link.fall("closed", 70);
        let how = Retry {
            failures: 2,
            next_mse: 95,
            way_out: "wait".to_owned(),
        };
        link.retries(how.clone());
        link.fall("nobody listens", 90);
        match link {
            Link::Down {
                since_mse,
                retry,
                reason,
                ..
            } => {
                assert_eq!((since_mse, retry), (70, how));
                assert_eq!(reason, "nobody listens");
            }
            Link::Up { .. } => panic!("it fell"),
        }
    }
}
