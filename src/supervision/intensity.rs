//! How often an actor may be started anew before it is given up.
//!
//! Actor restarts are bugs, plugin restarts are policy (see [`crate::backoff`]); the two are never mixed.
//!
//! Invariant: no more moments are remembered than the window may hold.

use crate::MonoTime;
use std::collections::VecDeque;
use std::time::Duration;

/// So many restarts within [`WINDOW`] are borne (architecture §1).
pub const MOST: usize = 5;

/// The span in which restarts are counted.
pub const WINDOW: Duration = Duration::from_secs(10);

/// What to do with an actor that crashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Judgement {
    /// Start it anew.
    StartAnew,
    /// It crashed more than [`MOST`] times within [`WINDOW`]: leave it.
    GiveUp,
}

/// The newest crashes of one actor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Intensity {
    crashes: VecDeque<MonoTime>,
}

impl Intensity {
    /// Counts a crash at `now` and judges.
    pub fn crashed(&mut self, now: MonoTime) -> Judgement {
        self.crashes.retain(|at| now.since(*at) < WINDOW);
        self.crashes.push_back(now);
        if self.crashes.len() > MOST {
            self.crashes.pop_front();
            Judgement::GiveUp
        } else {
            Judgement::StartAnew
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_origin(Duration::from_millis(ms))
    }

    #[test]
    fn the_sixth_crash_within_the_window_is_one_too_many() {
        let mut intensity = Intensity::default();
        for n in 0..5 {
            assert_eq!(intensity.crashed(at(n * 1_999)), Judgement::StartAnew);
        }
        assert_eq!(intensity.crashed(at(9_999)), Judgement::GiveUp);
    }

    #[test]
    fn slow_crashes_are_borne_for_ever() {
        let mut intensity = Intensity::default();
        for n in 0..10_000 {
            assert_eq!(intensity.crashed(at(n * 2_000)), Judgement::StartAnew);
        }
    }
}
