//! How long to wait before the pipes are read again: a wake-up per line costs more than all else (crates-os §5).
//!
//! Invariants: a line after a pause is read at once; no wait is longer than [`LONGEST`]; a pipe that fills up while
//! nobody reads makes the waits shorter, so that the plugin does not wait for us.

use std::time::Duration;

/// Waits never grow beyond this: also the most that a line is late for it.
const LONGEST: Duration = Duration::from_millis(2);

/// The first wait, and the shortest that is worth a system call.
const SHORTEST: Duration = Duration::from_micros(250);

/// Output that comes after so much silence is not a flood.
const CALM: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(crate) struct Pace {
    wait: Duration,
}

impl Pace {
    /// Decides how long to wait after a round of reads. `silence` is how long the wait for output before the round took,
    /// `fill` how full the fullest pipe was, in hundredths.
    pub(crate) fn after_round(&mut self, silence: Duration, fill: usize) -> Duration {
        self.wait = if silence >= CALM {
            Duration::ZERO
        } else if fill > 50 {
            self.wait / 2
        } else if fill < 25 {
            (self.wait * 2).clamp(SHORTEST, LONGEST)
        } else {
            self.wait
        };
        if self.wait < SHORTEST {
            self.wait = Duration::ZERO;
        }
        self.wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_small_lines_is_read_in_portions() {
        let mut pace = Pace::default();
        assert_eq!(pace.after_round(Duration::from_secs(1), 1), Duration::ZERO);
        let waits: Vec<Duration> = (0..5)
            .map(|_| pace.after_round(Duration::ZERO, 5))
            .collect();
        assert!(waits.is_sorted() && waits[0] == SHORTEST && waits[4] == LONGEST);
    }

    #[test]
    fn a_pipe_that_fills_up_or_falls_silent_ends_the_waits() {
        let mut pace = Pace { wait: LONGEST };
        assert_eq!(pace.after_round(Duration::ZERO, 40), LONGEST);
        assert_eq!(pace.after_round(Duration::ZERO, 90), LONGEST / 2);
        for _ in 0..5 {
            pace.after_round(Duration::ZERO, 100);
        }
        assert_eq!(pace.after_round(Duration::ZERO, 100), Duration::ZERO);
        let mut pace = Pace { wait: LONGEST };
        assert_eq!(pace.after_round(CALM, 5), Duration::ZERO);
    }
}
