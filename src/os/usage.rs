//! What trees of processes use of the machine.
//!
//! Invariants: a figure belongs to one process, named by number and start, so a reused number never inherits one (T28);
//! CPU time of a tree never falls, as what has ended stays counted; nothing here costs more the more a process has open
//! or mapped, where the kernel allows.

use crate::cgroup::TreeUsage;
use crate::process::Member;
use crate::table;
use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Below this the clock of CPU times, which ticks each 10 ms, says too little: the figure before is repeated.
const SHORTEST: Duration = Duration::from_millis(100);

/// Where the kernel does not say how many descriptors are open, more than this are not counted one by one.
const MOST_LISTED: usize = 10_000;

/// Why nothing can be sampled.
#[derive(Debug, Error)]
pub enum UsageError {
    /// The clocks cannot be read.
    #[error("cannot read the clocks")]
    Clock(#[source] io::Error),
}

/// What one tree uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Percent of one processor, rounded down, since the sample before, in a tree's first sample since it began; may
    /// exceed 100.
    pub cpu_percent: u64,
    /// Resident bytes; pages that several share are counted in each.
    pub rss_bytes: u64,
    /// The highest resident bytes: of the samples, and of each process alone by the kernel's account.
    pub peak_rss_bytes: u64,
    /// CPU time in milliseconds, user and system, with that of members that have ended, as far as it was seen or their
    /// parents waited for them.
    pub cpu_time_ms: u64,
    /// How many processes live, the main one included.
    pub processes: u64,
    /// How many threads they have.
    pub threads: u64,
    /// How many descriptors they have open; none = it cannot be told of some.
    pub open_fds: Option<u64>,
}

/// A tree to be measured.
#[derive(Debug, Clone)]
pub struct Tree<K> {
    /// What names it, from sample to sample.
    pub key: K,
    /// Its processes, the main one first.
    pub members: Vec<Member>,
    /// What its cgroup counts, which goes before the process table; none where it has none.
    pub counted: Option<TreeUsage>,
}

/// What becomes of trees that a sample does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// They are remembered.
    Keep,
    /// They are not any more.
    Forget,
}

/// What is remembered of a tree.
#[derive(Debug, Clone, Copy)]
struct Last {
    at: Instant,
    /// What the living and those they waited for had used.
    ticks: u64,
    /// What was used in all, in ticks; never falls.
    total: u64,
    percent: u64,
    peak: u64,
}

/// Samples trees, and remembers the sample before.
#[derive(Debug)]
pub struct Sampler<K> {
    last: HashMap<K, Last>,
    ticks_per_second: u64,
    page_bytes: u64,
}

impl<K: Hash + Eq + Clone> Sampler<K> {
    /// A sampler that remembers nothing yet.
    ///
    /// # Errors
    /// When the kernel does not say how its clock ticks.
    pub fn new() -> Result<Self, UsageError> {
        use nix::unistd::{SysconfVar, sysconf};
        let ask = |what, usual| {
            let said = sysconf(what).map_err(|errno| UsageError::Clock(errno.into()))?;
            let said = said.and_then(|said| u64::try_from(said).ok());
            Ok(said.filter(|said| *said > 0).unwrap_or(usual))
        };
        Ok(Sampler {
            last: HashMap::new(),
            ticks_per_second: ask(SysconfVar::CLK_TCK, 100)?,
            page_bytes: ask(SysconfVar::PAGE_SIZE, 4096)?,
        })
    }

    /// Samples these trees, about 30 µs a process; the answer is in their order. A process that is gone counts nothing.
    ///
    /// # Errors
    /// When the clock cannot be read.
    pub fn sample(
        &mut self,
        trees: Vec<Tree<K>>,
        others: Others,
    ) -> Result<Vec<(K, Usage)>, UsageError> {
        let before = match others {
            Others::Keep => None,
            Others::Forget => Some(std::mem::take(&mut self.last)),
        };
        let mut usages = Vec::with_capacity(trees.len());
        for Tree {
            key,
            members,
            counted,
        } in trees
        {
            let last = before.as_ref().unwrap_or(&self.last).get(&key).copied();
            let (usage, now) = self.measure(&members, counted.as_ref(), last)?;
            self.last.insert(key.clone(), now);
            usages.push((key, usage));
        }
        Ok(usages)
    }

    fn measure(
        &self,
        members: &[Member],
        counted: Option<&TreeUsage>,
        last: Option<Last>,
    ) -> Result<(Usage, Last), UsageError> {
        let mut usage = Usage {
            open_fds: Some(0),
            ..Usage::default()
        };
        let (mut ticks, mut alone) = (0_u64, 0);
        for member in members {
            // What cannot be read is as good as gone.
            let Ok(Some(used)) = table::used(*member) else {
                continue;
            };
            ticks = ticks.saturating_add(used.cpu_ticks);
            if used.has_ended {
                continue;
            }
            let rss = used.rss_pages.saturating_mul(self.page_bytes);
            usage.rss_bytes = usage.rss_bytes.saturating_add(rss);
            usage.processes += 1;
            usage.threads = usage.threads.saturating_add(used.threads);
            alone = table::peak_rss(member.pid).unwrap_or(0).max(alone);
            let fds = table::open_fds(member.pid, MOST_LISTED);
            usage.open_fds = usage.open_fds.zip(fds).map(|(all, some)| all + some);
        }
        if let Some(counted) = counted {
            // In ticks as the others, so that a tree may lose its cgroup's account between two samples.
            ticks = self.ticks_of(counted.cpu_time);
            usage.rss_bytes = counted.memory_bytes.unwrap_or(usage.rss_bytes);
            usage.processes = counted.processes;
            usage.threads = counted.tasks.unwrap_or(usage.threads);
        }
        let (at, since_boot) = (Instant::now(), since_boot()?);
        let (elapsed, total) = match last {
            Some(last) => (
                at.saturating_duration_since(last.at),
                last.total.saturating_add(ticks.saturating_sub(last.ticks)),
            ),
            None => {
                let started = members.first().map_or(0, |main| main.start_ticks);
                let started = started.saturating_mul(1000) / self.ticks_per_second;
                let lived = since_boot.saturating_sub(Duration::from_millis(started));
                (lived, ticks)
            }
        };
        let peak = last.map_or(0, |last| last.peak).max(alone);
        usage.peak_rss_bytes = peak.max(usage.rss_bytes);
        usage.cpu_time_ms = total.saturating_mul(1000) / self.ticks_per_second;
        let too_soon = last.filter(|_| elapsed < SHORTEST);
        let now = match too_soon {
            // Counted from the sample before on, next time.
            Some(last) => Last {
                peak: usage.peak_rss_bytes,
                ..last
            },
            None => Last {
                at,
                ticks,
                total,
                percent: self.percent(total - last.map_or(0, |last| last.total), elapsed),
                peak: usage.peak_rss_bytes,
            },
        };
        usage.cpu_percent = now.percent;
        Ok((usage, now))
    }

    fn ticks_of(&self, time: Duration) -> u64 {
        let ticks = time.as_millis() * u128::from(self.ticks_per_second) / 1000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// Of one processor.
    fn percent(&self, ticks: u64, elapsed: Duration) -> u64 {
        let used_ms = u128::from(ticks) * 1000 / u128::from(self.ticks_per_second);
        let percent = used_ms * 100 / elapsed.as_millis().max(1);
        u64::try_from(percent).unwrap_or(u64::MAX)
    }
}

/// How many clock ticks CPU times have in a second.
#[must_use]
pub fn ticks_per_second() -> u64 {
    let said = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    let said = said
        .ok()
        .flatten()
        .and_then(|said| u64::try_from(said).ok());
    said.filter(|said| *said > 0).unwrap_or(100)
}

/// This process itself; none when the process table cannot be read.
#[must_use]
pub fn own() -> Option<Member> {
    let pid = i32::try_from(std::process::id()).ok()?;
    let start_ticks = table::stat(pid).ok()??.start_ticks;
    Some(Member { pid, start_ticks })
}

/// The time since boot on the clock that start times are of, sleep included.
fn since_boot() -> Result<Duration, UsageError> {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .map(Duration::from)
        .map_err(|errno| UsageError::Clock(errno.into()))
}

#[cfg(test)]
mod tests;
