//! When to try to connect again.
//!
//! Invariants: pure; delays stay within 100 ms … 30 s, or 10 … 200 ms while a core is awaited, ± jitter (spec §7, §8).

use std::time::Duration;
use supervision::backoff::{Jitter, restart_delay};
use supervision::policy::Delays;

/// A connection that lasted this long was good: the next delay is a first one again.
const STABLE_AFTER: Duration = Duration::from_secs(10);

const LAZY: Delays = Delays {
    first: Duration::from_millis(100),
    next: Duration::from_millis(200),
    factor: 2.0,
    longest: Duration::from_secs(30),
    jitter: 0.3,
};

/// For the first start of a core, which is ready within a fraction of a second.
const EAGER: Delays = Delays {
    first: Duration::from_millis(10),
    next: Duration::from_millis(10),
    factor: 1.5,
    longest: Duration::from_millis(200),
    jitter: 0.1,
};

/// How often it failed in a row, and the chance in the delays.
#[derive(Debug)]
pub(super) struct Retry {
    failures: u32,
    is_eager: bool,
    jitter: Jitter,
}

impl Retry {
    pub(super) fn new(seed: u64) -> Self {
        Retry {
            failures: 0,
            is_eager: false,
            jitter: Jitter::seeded(seed),
        }
    }

    /// Attempts in a row that failed, or connections that did not last.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// A connection ended after `lasted`.
    pub(super) fn ended(&mut self, lasted: Duration) {
        if lasted >= STABLE_AFTER {
            self.failures = 0;
        }
    }

    /// Somebody knows that it may work now.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait before the next attempt.
    pub(super) fn next_delay(&mut self, eager: bool) -> Duration {
        // The many short attempts while a core starts say nothing of the connection that then came up and broke: counted
        // on, they would make its successor wait for half a minute.
        if self.is_eager != eager {
            self.is_eager = eager;
            self.failures = 0;
        }
        let delays = if eager { &EAGER } else { &LAZY };
        let delay = restart_delay(delays, self.failures, &mut self.jitter);
        self.failures = self.failures.saturating_add(1);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_within_their_bounds() {
        let mut retry = Retry::new(7);
        let delays: Vec<_> = (0..40).map(|_| retry.next_delay(false)).collect();
        assert!(delays[0] >= Duration::from_millis(70) && delays[0] <= Duration::from_millis(130));
        assert!(delays[20] >= Duration::from_secs(20));
        assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(30)));
        retry.ended(Duration::from_secs(1));
        assert_eq!(retry.failures(), 40);
        retry.ended(STABLE_AFTER);
        assert_eq!(retry.failures(), 0);
        let eager: Vec<_> = (0..40).map(|_| retry.next_delay(true)).collect();
        assert!(eager[0] <= Duration::from_millis(11));
        assert!(
            eager
                .iter()
                .all(|delay| *delay <= Duration::from_millis(200))
        );
        // What broke soon after a core came up is tried again soon, too.
        retry.ended(Duration::from_millis(400));
        assert!(retry.next_delay(false) <= Duration::from_millis(130));
    }
}
