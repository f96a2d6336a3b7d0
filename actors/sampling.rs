//! What is measured of trees of processes, and what is found out about those that use too much; as plain data.
//!
//! Invariant: bounded: nothing in here grows with how long or how often is measured.

use std::collections::VecDeque;
use std::time::Duration;
use supervision::limits::{Exceeded, Judge};
use supervision::{PluginId, Run};

/// What a tree of processes uses, as last sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Percent of one processor since the sample before; may exceed 100.
    pub cpu_percent: u64,
    /// Resident bytes.
    pub rss_bytes: u64,
    /// The highest `rss_bytes` of this run, also between samples where the kernel keeps it.
    pub peak_rss_bytes: u64,
    /// CPU time of the run, also of what has ended; never falls.
    pub cpu_time_ms: u64,
    /// Processes beside the main one.
    pub children: u64,
    /// Threads of all its processes.
    pub threads: u64,
    /// Open descriptors of all its processes; none = the kernel does not say.
    pub open_fds: Option<u64>,
}

impl Usage {
    /// What no process uses.
    pub const NOTHING: Usage = Usage {
        cpu_percent: 0,
        rss_bytes: 0,
        peak_rss_bytes: 0,
        cpu_time_ms: 0,
        children: 0,
        threads: 0,
        open_fds: Some(0),
    };
}

/// What a measurement is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// The launcher, and all runs that have no interval of their own, at the end of theirs: these count against limits. What
    /// is not named is forgotten.
    Regular,
    /// Those that have this interval of their own, at its end: likewise.
    Apart(Duration),
    /// Runs that were not measured yet, soon after they began: to be shown.
    First,
}

/// What one measurement gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Measured {
    /// Of each run that was asked for and is not over.
    pub runs: Vec<(PluginId, Run, Usage)>,
    /// Of the launcher itself, without its plugins; none = not measured.
    pub own: Option<Usage>,
}

/// A sample with the time it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampled {
    /// Unix milliseconds.
    pub time_mse: i64,
    /// What was used.
    pub usage: Usage,
}

/// What the evidence is to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The limits that were exceeded by the newest sample; at least one.
    pub exceeded: Vec<Exceeded>,
    /// The newest samples, oldest first.
    pub samples: Vec<Sampled>,
}

/// So many samples are kept for the evidence.
const SAMPLES: usize = 12;

/// What is counted of the run that lives.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    pub(crate) judge: Judge,
    /// The newest regular samples, at most [`SAMPLES`], oldest first; none while there are no limits.
    pub(crate) samples: VecDeque<Sampled>,
}

impl Watched {
    /// Keeps a sample, instead of the oldest when there are as many as are kept.
    pub(crate) fn note(&mut self, sample: Sampled) {
        if self.samples.len() >= SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }
}
