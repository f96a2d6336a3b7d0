//! What a plugin may use, and when it has used too much (spec §10).
//!
//! Invariants: only samples in a row count, and only those of one run, so a [`Judge`] is made for each run; a row is
//! reported once, and again only after a sample that was within the limit; a resource without a limit is never judged.

use std::fmt;
use std::num::NonZeroU64;

/// What a plugin, the core or any of them may use: block `limits` (spec §4, §10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Resident bytes of its tree; none = no limit.
    pub memory_bytes: Option<NonZeroU64>,
    /// Percent of one processor that its tree uses; may be above 100; none = no limit.
    pub cpu_percent: Option<NonZeroU64>,
    /// So many samples in a row must be above a limit; at least 1.
    pub strikes: u32,
    /// What is done then.
    pub action: LimitAction,
    /// Whether the kernel holds the tree to `memory_bytes` and `cpu_percent`, too.
    pub hard: bool,
    /// Processes and threads of its tree that the kernel allows; none = no limit.
    pub pids: Option<NonZeroU64>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            memory_bytes: None,
            cpu_percent: None,
            strikes: 3,
            action: LimitAction::Restart,
            hard: false,
            pids: None,
        }
    }
}

impl Limits {
    /// Whether it limits nothing.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.memory_bytes.is_none() && self.cpu_percent.is_none() && self.pids.is_none()
    }

    /// What the kernel itself holds a run to, from its begin on.
    #[must_use]
    pub fn held(&self) -> Held {
        let hard = |limit: Option<NonZeroU64>| limit.filter(|_| self.hard);
        Held {
            memory_bytes: hard(self.memory_bytes),
            cpu_percent: hard(self.cpu_percent),
            pids: self.pids,
        }
    }

    fn of(&self, what: Resource) -> Option<NonZeroU64> {
        match what {
            Resource::Memory => self.memory_bytes,
            Resource::Cpu => self.cpu_percent,
        }
    }
}

/// The part of [`Limits`] that the kernel enforces; none = no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Held {
    /// Bytes of memory of the tree.
    pub memory_bytes: Option<NonZeroU64>,
    /// Percent of one processor.
    pub cpu_percent: Option<NonZeroU64>,
    /// Processes and threads of the tree.
    pub pids: Option<NonZeroU64>,
}

/// What is done when a limit is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LimitAction {
    /// It is told.
    Event,
    /// It is told, and the plugin is restarted with grace.
    Restart,
}

impl LimitAction {
    /// The word of configuration and wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            LimitAction::Event => "event",
            LimitAction::Restart => "restart",
        }
    }
}

/// What is measured against a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Resident bytes.
    Memory,
    /// Percent of one processor.
    Cpu,
}

impl Resource {
    /// The word of configuration and wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Resource::Memory => "memory",
            Resource::Cpu => "cpu",
        }
    }
}

/// What one sample says of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sample {
    /// Resident bytes.
    pub memory_bytes: u64,
    /// Percent of one processor since the sample before.
    pub cpu_percent: u64,
}

impl Sample {
    fn of(&self, what: Resource) -> u64 {
        match what {
            Resource::Memory => self.memory_bytes,
            Resource::Cpu => self.cpu_percent,
        }
    }
}

/// A limit was exceeded in as many samples in a row as it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Exceeded {
    /// What there was too much of.
    pub what: Resource,
    /// The newest sample: bytes of memory, or percent of one processor.
    pub measured: u64,
    /// The limit, in the same unit; less than `measured`.
    pub limit: u64,
    /// How many samples in a row were above it.
    pub strikes: u32,
    /// What is to be done.
    pub action: LimitAction,
}

impl fmt::Display for Exceeded {
    /// `memory 70 MiB, limit 64 MiB` or `cpu 95 %, limit 90 %`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what.as_str();
        match self.what {
            Resource::Memory => {
                let (measured, limit) = (Bytes(self.measured), Bytes(self.limit));
                write!(f, "{what} {measured}, limit {limit}")
            }
            Resource::Cpu => write!(f, "{what} {} %, limit {} %", self.measured, self.limit),
        }
    }
}

/// Bytes for people: `70 MiB`, below ten units `1.5 MiB`; rounded down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let Some((unit, worth)) = units.into_iter().find(|(_, worth)| self.0 >= *worth) else {
            return write!(f, "{} B", self.0);
        };
        let (whole, rest) = (self.0 / worth, self.0 % worth);
        match rest * 10 / worth {
            tenths @ 1.. if whole < 10 => write!(f, "{whole}.{tenths} {unit}"),
            _ => write!(f, "{whole} {unit}"),
        }
    }
}

/// How far a row of samples above one limit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Row {
    /// So many, and not reported.
    Growing(u32),
    /// It was long enough, and was reported.
    Reported,
}

/// Judges the samples of one run; a new run gets a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Judge {
    memory: Row,
    cpu: Row,
}

impl Default for Judge {
    fn default() -> Self {
        Judge {
            memory: Row::Growing(0),
            cpu: Row::Growing(0),
        }
    }
}

impl Judge {
    /// Counts a sample, and says which limits are exceeded by it for the `strikes`-th time in a row: memory before CPU,
    /// each at most once. The limits may change between samples.
    pub fn judge(&mut self, limits: &Limits, sample: Sample) -> Vec<Exceeded> {
        let rows = [
            (Resource::Memory, &mut self.memory),
            (Resource::Cpu, &mut self.cpu),
        ];
        rows.into_iter()
            .filter_map(|(what, row)| row.count(what, limits, sample))
            .collect()
    }
}

impl Row {
    fn count(&mut self, what: Resource, limits: &Limits, sample: Sample) -> Option<Exceeded> {
        let measured = sample.of(what);
        let limit = limits.of(what).map(NonZeroU64::get);
        let Some(limit) = limit.filter(|limit| measured > *limit) else {
            *self = Row::Growing(0);
            return None;
        };
        match *self {
            Row::Reported => None,
            Row::Growing(before) => {
                let strikes = before.saturating_add(1);
                if strikes < limits.strikes {
                    *self = Row::Growing(strikes);
                    return None;
                }
                *self = Row::Reported;
                Some(Exceeded {
                    what,
                    measured,
                    limit,
                    strikes,
                    action: limits.action,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limits(memory: u64, cpu: u64, strikes: u32) -> Limits {
        Limits {
            memory_bytes: NonZeroU64::new(memory),
            cpu_percent: NonZeroU64::new(cpu),
            strikes,
            ..Limits::default()
        }
    }

    fn sample(memory_bytes: u64, cpu_percent: u64) -> Sample {
        Sample {
            memory_bytes,
            cpu_percent,
        }
    }

    #[test]
    fn a_row_is_reported_once_and_again_after_a_good_sample() {
        let limits = limits(100, 0, 3);
        let mut judge = Judge::default();
        let mut judged = |bytes| judge.judge(&limits, sample(bytes, 1_000));
        assert_eq!(judged(101), []);
        assert_eq!(judged(101), []);
        assert_eq!(judged(100), [], "what is at the limit is within it");
        assert_eq!(judged(200), []);
        assert_eq!(judged(101), []);
        let exceeded = Exceeded {
            what: Resource::Memory,
            measured: 102,
            limit: 100,
            strikes: 3,
            action: LimitAction::Restart,
        };
        assert_eq!(judged(102), [exceeded]);
        assert_eq!(judged(500), []);
        assert_eq!(judged(500), []);
        assert_eq!(judged(500), []);
        assert_eq!(judged(0), []);
        assert_eq!(judged(101), []);
        assert_eq!(judged(101), []);
        assert_eq!(judged(102), [exceeded]);
    }

    #[test]
    fn memory_and_cpu_have_rows_of_their_own() {
        let limits = limits(100, 90, 2);
        let mut judge = Judge::default();
        assert!(judge.judge(&limits, sample(101, 0)).is_empty());
        let what = |judged: Vec<Exceeded>| judged.iter().map(|e| e.what).collect::<Vec<_>>();
        assert_eq!(
            what(judge.judge(&limits, sample(101, 91))),
            [Resource::Memory]
        );
        assert_eq!(what(judge.judge(&limits, sample(0, 91))), [Resource::Cpu]);
        let mut judge = Judge::default();
        judge.judge(&limits, sample(101, 91));
        let both = what(judge.judge(&limits, sample(101, 91)));
        assert_eq!(both, [Resource::Memory, Resource::Cpu]);
    }

    #[test]
    fn fewer_strikes_hold_at_once() {
        let mut judge = Judge::default();
        judge.judge(&limits(1, 0, 100), sample(2, 0));
        judge.judge(&limits(1, 0, 100), sample(2, 0));
        assert_eq!(judge.judge(&limits(1, 0, 2), sample(2, 0))[0].strikes, 3);
    }

    #[test]
    fn people_read_what_there_was_too_much_of() {
        let exceeded = |what, measured, limit| {
            let exceeded = Exceeded {
                what,
                measured,
                limit,
                strikes: 3,
                action: LimitAction::Event,
            };
            exceeded.to_string()
        };
        let (memory, cpu) = (Resource::Memory, Resource::Cpu);
        let text = exceeded(memory, 70 << 20, 64 << 20);
        assert_eq!(text, "memory 70 MiB, limit 64 MiB");
        let text = exceeded(memory, (3 << 30) / 2, (1 << 20) - 1);
        assert_eq!(text, "memory 1.5 GiB, limit 1023 KiB");
        assert_eq!(exceeded(cpu, 195, 90), "cpu 195 %, limit 90 %");
        assert_eq!(Bytes(1023).to_string(), "1023 B");
        assert_eq!(Bytes(u64::MAX).to_string(), "17179869183 GiB");
    }

    proptest! {
        /// Against the definition: reported where the last `strikes` samples are above, and no longer row was reported.
        #[test]
        fn a_report_comes_with_the_strikes_th_sample_of_each_row(
            measured in prop::collection::vec(0_u64..4, 0..60),
            limit in 0_u64..4,
            strikes in 1_u32..5,
        ) {
            let limits = limits(limit, limit, strikes);
            let mut judge = Judge::default();
            let mut in_a_row = 0;
            for measured in measured {
                in_a_row = if limit > 0 && measured > limit { in_a_row + 1 } else { 0 };
                let judged = judge.judge(&limits, sample(measured, measured));
                let wanted = if in_a_row == strikes { 2 } else { 0 };
                prop_assert_eq!(judged.len(), wanted);
                for exceeded in judged {
                    prop_assert_eq!(exceeded.strikes, strikes);
                    prop_assert_eq!((exceeded.measured, exceeded.limit), (measured, limit));
                }
            }
        }

        /// Without limits nothing is ever reported.
        #[test]
        fn nothing_is_judged_without_a_limit(samples in prop::collection::vec(any::<(u64, u64)>(), 0..20)) {
            let mut judge = Judge::default();
            for (memory, cpu) in samples {
                prop_assert!(judge.judge(&Limits::default(), sample(memory, cpu)).is_empty());
            }
        }
    }
}
