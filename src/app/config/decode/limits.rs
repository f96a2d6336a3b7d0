//! The blocks `limits` and `monitor` (spec §4, §10).
//!
//! Invariant: as for all blocks, keys that are not there stay as they were; zero takes away what was set for all.

use super::keys::{OF_LIMITS, OF_MONITOR, OfLimits, OfMonitor};
use super::reader::{At, Reader, text_of};
use crate::app::config::values;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::time::Duration;
use supervision::limits::{LimitAction, Limits};

/// Below it no program lives.
const MIN_MEMORY: u64 = 64 << 10;
const MAX_MEMORY: u64 = 1 << 50;

/// Of a thousand processors.
const MAX_CPU: u64 = 100_000;

/// The most that Linux has.
const MAX_PIDS: u32 = 1 << 22;

/// The clock of processes ticks each 10 ms, so less would measure nothing.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

const ACTIONS: [(&str, LimitAction); 2] = [
    ("restart", LimitAction::Restart),
    ("event", LimitAction::Event),
];

impl Reader {
    pub fn limits(&mut self, at: &At<'_>, into: &mut Limits) {
        for (key, at) in self.fields(at, &OF_LIMITS) {
            match key {
                OfLimits::Memory => {
                    let size = text_of(at.node).and_then(values::size);
                    let fits = |size: &u64| *size == 0 || (MIN_MEMORY..=MAX_MEMORY).contains(size);
                    match size.filter(fits) {
                        Some(size) => into.memory_bytes = NonZeroU64::new(size),
                        None => self.wrong_value(
                            &at,
                            "a size like 512KiB, 200MiB or 1GiB, from 64KiB to 1048576GiB, or 0 for no limit",
                        ),
                    }
                }
                OfLimits::Cpu => {
                    let percent = text_of(at.node).and_then(values::percent);
                    match percent.filter(|percent| *percent <= MAX_CPU) {
                        Some(percent) => into.cpu_percent = NonZeroU64::new(percent),
                        None => self.wrong_value(
                            &at,
                            "percent of one processor like 90% or 150%, up to 100000%, or 0 for no limit",
                        ),
                    }
                }
                OfLimits::Strikes => {
                    into.strikes = self.whole(&at, 1..=1000).unwrap_or(into.strikes);
                }
                OfLimits::Action => {
                    into.action = self.word(&at, &ACTIONS).unwrap_or(into.action);
                }
                OfLimits::Hard => self.switch(&at, &mut into.hard),
                OfLimits::Pids => {
                    if let Some(pids) = self.whole(&at, 0..=MAX_PIDS) {
                        into.pids = NonZeroU64::new(pids.into());
                    }
                }
            }
        }
    }

    pub fn monitor(&mut self, at: &At<'_>, interval: &mut Duration) {
        for (key, at) in self.fields(at, &OF_MONITOR) {
            match key {
                OfMonitor::Interval => {
                    let text = text_of(at.node);
                    let read = match text {
                        Some("0") => Some(Duration::ZERO),
                        Some(_) | None => text.and_then(values::duration),
                    };
                    match read.filter(|read| read.is_zero() || INTERVAL.contains(read)) {
                        Some(read) => *interval = read,
                        None => self.wrong_value(
                            &at,
                            "a duration like 500ms, 5s or 1m, from 100ms to 1h, or 0 for no sampling",
                        ),
                    }
                }
            }
        }
    }
}
