//! Monotonic time as a value.
//!
//! Invariant: a [`MonoTime`] only says how far it is from other ones of the same origin; it never comes from or turns
//! into the wall clock, so a step of the wall clock changes no decision (spec §9).

use std::time::Duration;

/// A moment on the monotonic clock: the time since an origin that is fixed for the life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonoTime(Duration);

impl MonoTime {
    /// The origin itself.
    pub const ORIGIN: MonoTime = MonoTime(Duration::ZERO);

    /// The moment that lies `since_origin` after the origin.
    #[must_use]
    pub const fn from_origin(since_origin: Duration) -> Self {
        MonoTime(since_origin)
    }

    /// How long after the origin this moment is.
    #[must_use]
    pub const fn since_origin(self) -> Duration {
        self.0
    }

    /// This moment and `delay`, saturating at the end of time.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        MonoTime(self.0.saturating_add(delay))
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: MonoTime) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
