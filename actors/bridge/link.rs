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
        /// Why there is none; for people.
        reason: String,
    },
}

impl Default for Link {
    fn default() -> Self {
        Link::Down {
            generation: 0,
            reason: "no connection to the bus yet".to_owned(),
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

    /// Whether this is news.
    pub(super) fn fall(&mut self, why: &str) -> bool {
        let news = match self {
            Link::Up { .. } => true,
            Link::Down { reason, .. } => reason != why,
        };
        *self = Link::Down {
            generation: self.generation(),
            reason: why.to_owned(),
        };
        news
    }
}
