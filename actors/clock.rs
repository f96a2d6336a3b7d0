//! The clocks: one for decisions, one for records.
//!
//! Invariant: no decision comes from the wall clock.

use std::time::{Duration, SystemTime};
use supervision::MonoTime;

/// The clocks: a monotonic one for decisions, the wall clock for records.
#[derive(Debug, Clone)]
pub struct Clock {
    origin: tokio::time::Instant,
}

impl Default for Clock {
    fn default() -> Self {
        Clock {
            origin: tokio::time::Instant::now(),
        }
    }
}

impl Clock {
    /// Now, for decisions.
    #[must_use]
    pub fn now(&self) -> MonoTime {
        MonoTime::from_origin(self.origin.elapsed())
    }

    /// The runtime's instant of a moment, for timers.
    #[must_use]
    pub fn instant(&self, at: MonoTime) -> tokio::time::Instant {
        // A deadline too far for the platform's clock is one that never comes; a year is as good.
        let year = Duration::from_secs(365 * 24 * 3600);
        let at = self.origin.checked_add(at.since_origin());
        at.unwrap_or_else(|| tokio::time::Instant::now() + year)
    }

    /// Now, for records: Unix milliseconds; 0 when the clock stands before 1970.
    #[must_use]
    pub fn wall_mse(&self) -> i64 {
        unix_millis(SystemTime::now())
    }
}

/// Unix milliseconds; 0 for times before 1970.
#[must_use]
pub fn unix_millis(at: SystemTime) -> i64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
}
