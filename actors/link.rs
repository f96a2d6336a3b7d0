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
        /// Whether people were told; as long as a core of our own is awaited there is nothing to tell.
        told: bool,
    },
}

impl Default for Link {
    fn default() -> Self {
        Link::Down {
            generation: 0,
            reason: "no connection to the bus yet".to_owned(),
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

    pub(super) fn fall(&mut self, why: &str) {
        let told = match self {
            Link::Up { .. } => false,
            Link::Down { reason, told, .. } => *told && reason == why,
        };
        *self = Link::Down {
            generation: self.generation(),
            reason: why.to_owned(),
            told,
        };
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
        link.fall("no token");
        link.fall("no token");
        assert!(!link.has_been_up());
        assert_eq!(link.tell().as_deref(), Some("no token"));
        link.fall("no token");
        assert_eq!(link.tell(), None);
        link.rise();
        assert_eq!(link.tell(), None);
        link.fall("no token");
        assert!(link.has_been_up());
        assert_eq!(link.tell().as_deref(), Some("no token"));
    }
}
