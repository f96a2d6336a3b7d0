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

/// How full the pipes were that were read in one round, in hundredths.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Fill {
    pipes: usize,
    sum: usize,
    fullest: usize,
}

impl Fill {
    /// One more pipe was read.
    pub(crate) fn add(&mut self, fill: usize) {
        self.pipes += 1;
        self.sum += fill;
        self.fullest = self.fullest.max(fill);
    }

    /// No pipe was read.
    pub(crate) fn is_none(self) -> bool {
        self.pipes == 0
    }

    fn mean(self) -> usize {
        self.sum.checked_div(self.pipes).unwrap_or(0)
    }
}

impl Pace {
    /// Decides how long to wait after a round of reads. `silence` is how long the wait for output before the round took.
    pub(crate) fn after_round(&mut self, silence: Duration, fill: Fill) -> Duration {
        self.wait = if silence >= CALM {
            Duration::ZERO
        } else if fill.fullest > 50 && fill.mean() < 25 {
            // A plugin or two wait for us, but many have hardly begun: short waits serve both.
            SHORTEST
        } else if fill.fullest > 50 {
            self.wait / 2
        } else if fill.fullest < 25 {
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

    fn fill(pipes: &[usize]) -> Fill {
        let mut fill = Fill::default();
        for pipe in pipes {
            fill.add(*pipe);
        }
        fill
    }

    #[test]
    fn a_flood_of_small_lines_is_read_in_portions() {
        let mut pace = Pace::default();
        assert_eq!(
            pace.after_round(Duration::from_secs(1), fill(&[1])),
            Duration::ZERO
        );
        let waits: Vec<Duration> = (0..5)
            .map(|_| pace.after_round(Duration::ZERO, fill(&[5])))
            .collect();
        assert!(waits.is_sorted() && waits[0] == SHORTEST && waits[4] == LONGEST);
    }

    #[test]
    fn a_pipe_that_fills_up_or_falls_silent_ends_the_waits() {
        let mut pace = Pace { wait: LONGEST };
        assert_eq!(pace.after_round(Duration::ZERO, fill(&[40])), LONGEST);
        assert_eq!(pace.after_round(Duration::ZERO, fill(&[90])), LONGEST / 2);
        for _ in 0..5 {
            pace.after_round(Duration::ZERO, fill(&[100]));
        }
        assert_eq!(
            pace.after_round(Duration::ZERO, fill(&[100])),
            Duration::ZERO
        );
        let mut pace = Pace { wait: LONGEST };
        assert_eq!(pace.after_round(CALM, fill(&[5])), Duration::ZERO);
    }

    #[test]
    fn one_full_pipe_among_many_makes_the_waits_short() {
        let mut pace = Pace { wait: LONGEST };
        let round = fill(&[100, 1, 2, 1, 0, 1]);
        assert_eq!(pace.after_round(Duration::ZERO, round), SHORTEST);
        let round = fill(&[100, 100, 2]);
        assert_eq!(pace.after_round(Duration::ZERO, round), Duration::ZERO);
    }
}
