//! What trees of processes use of the machine.
//!
//! Invariants: a figure belongs to one process, named by number and start, so a reused number never inherits one (T28);
//! CPU time of a tree never falls, as what has ended stays counted; nothing here costs more the more a process has open
//! or mapped, where the kernel allows. CPU and memory are a cgroup's account, else sysinfo's (S10); sysinfo tells neither
//! threads nor what ended children used, these are read here.

use crate::cgroup::TreeUsage;
use crate::member::Member;
use crate::table;
use nix::unistd::{SysconfVar, sysconf};
use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::time::{Duration, Instant};
use sysinfo::{Pid, Process, ProcessRefreshKind, ProcessesToUpdate, System};
use thiserror::Error;

/// Below this the clock of CPU times, which ticks each 10 ms, says too little: the figure before is repeated.
const SHORTEST: Duration = Duration::from_millis(100);

/// So many trees are looked up together. The table of a thousand would take a megabyte, which nobody needs between two
/// samples.
const PORTION: usize = 64;

/// Where the kernel does not say how many descriptors are open, more than this are not counted one by one.
const MOST_LISTED: usize = 10_000;

/// Where the kernel does not say how often its clock ticks.
const USUAL_TICKS_PER_SECOND: u64 = 100;

/// Why nothing can be sampled.
#[derive(Debug, Error)]
pub enum UsageError {
    /// The process table is not as expected.
    #[error("cannot read the process table: {0}")]
    Table(String),
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
    /// What the living and those they waited for had used, in milliseconds.
    used_ms: u64,
    /// What was used in all; never falls.
    total_ms: u64,
    percent: u64,
    peak: u64,
}

/// Samples trees, and remembers the sample before.
#[derive(Debug)]
pub struct Sampler<K> {
    last: HashMap<K, Last>,
    ticks_per_second: u64,
}

impl<K: Hash + Eq + Clone> Sampler<K> {
    /// A sampler that remembers nothing yet.
    ///
    /// # Errors
    /// When the kernel does not say how its clock ticks.
    pub fn new() -> Result<Self, UsageError> {
        let said = sysconf(SysconfVar::CLK_TCK);
        let said = said.map_err(|errno| UsageError::Clock(errno.into()))?;
        Ok(Sampler {
            last: HashMap::new(),
            ticks_per_second: positive(said).unwrap_or(USUAL_TICKS_PER_SECOND),
        })
    }

    /// Samples these trees, about 50 µs a process; the answer is in their order. A process that is gone counts nothing.
    ///
    /// # Errors
    /// When the clock or the process table cannot be read.
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
        for portion in trees.chunks(PORTION) {
            let table = look(portion)?;
            for tree in portion {
                let last = before.as_ref().unwrap_or(&self.last).get(&tree.key);
                let (usage, now) = self.measure(tree, &table, last.copied())?;
                self.last.insert(tree.key.clone(), now);
                usages.push((tree.key.clone(), usage));
            }
        }
        Ok(usages)
    }

    fn measure(
        &self,
        tree: &Tree<K>,
        table: &System,
        last: Option<Last>,
    ) -> Result<(Usage, Last), UsageError> {
        let (mut usage, used_ms) = self.add_up(tree, table);
        let peak = last.map_or(0, |last| last.peak);
        usage.peak_rss_bytes = peak.max(usage.peak_rss_bytes).max(usage.rss_bytes);
        let (at, since_boot) = (Instant::now(), since_boot()?);
        let (elapsed, total_ms) = match last {
            Some(last) => (
                at.saturating_duration_since(last.at),
                last.total_ms
                    .saturating_add(used_ms.saturating_sub(last.used_ms)),
            ),
            None => {
                let started = tree.members.first().map_or(0, |main| main.start_ticks);
                let started = Duration::from_millis(self.ms_of(started));
                (since_boot.saturating_sub(started), used_ms)
            }
        };
        usage.cpu_time_ms = total_ms;
        let too_soon = last.filter(|_| elapsed < SHORTEST);
        let now = match too_soon {
            // Counted from the sample before on, next time.
            Some(last) => Last {
                peak: usage.peak_rss_bytes,
                ..last
            },
            None => Last {
                at,
                used_ms,
                total_ms,
                percent: percent(total_ms - last.map_or(0, |last| last.total_ms), elapsed),
                peak: usage.peak_rss_bytes,
            },
        };
        usage.cpu_percent = now.percent;
        Ok((usage, now))
    }

    /// What the tree's processes use now, and the CPU time in milliseconds that they and those they waited for have used.
    fn add_up(&self, tree: &Tree<K>, table: &System) -> (Usage, u64) {
        let mut usage = Usage {
            open_fds: Some(0),
            ..Usage::default()
        };
        let mut used_ms = 0_u64;
        for member in &tree.members {
            // What cannot be read is as good as gone. It is read after the table was: who is the same now was so then.
            let Ok(Some(told)) = table::told(*member) else {
                continue;
            };
            let known = pid_of(*member).and_then(|pid| table.process(pid));
            used_ms = used_ms
                .saturating_add(known.map_or(0, Process::accumulated_cpu_time))
                .saturating_add(self.ms_of(told.waited_for_ticks));
            if told.has_ended {
                continue;
            }
            let rss_bytes = known.map_or(0, Process::memory);
            usage.rss_bytes = usage.rss_bytes.saturating_add(rss_bytes);
            usage.processes += 1;
            usage.threads = usage.threads.saturating_add(told.threads);
            let alone = table::peak_rss(member.pid).unwrap_or(0);
            usage.peak_rss_bytes = usage.peak_rss_bytes.max(alone);
            let fds = table::open_fds(member.pid, MOST_LISTED);
            usage.open_fds = usage.open_fds.zip(fds).map(|(all, some)| all + some);
        }
        if let Some(counted) = &tree.counted {
            used_ms = u64::try_from(counted.cpu_time.as_millis()).unwrap_or(u64::MAX);
            usage.rss_bytes = counted.memory_bytes.unwrap_or(usage.rss_bytes);
            usage.processes = counted.processes;
            usage.threads = counted.tasks.unwrap_or(usage.threads);
        }
        (usage, used_ms)
    }

    fn ms_of(&self, ticks: u64) -> u64 {
        ticks.saturating_mul(1000) / self.ticks_per_second
    }
}

/// What the process table says of the trees whose cgroups do not say it all.
fn look<K>(trees: &[Tree<K>]) -> Result<System, UsageError> {
    let asked = trees.iter().filter(|tree| {
        let counted = tree.counted.as_ref();
        counted.is_none_or(|counted| counted.memory_bytes.is_none())
    });
    let members = asked.flat_map(|tree| &tree.members).copied();
    let pids: Vec<Pid> = members.filter_map(pid_of).collect();
    let mut table = System::new().map_err(|error| UsageError::Table(error.to_string()))?;
    let what = ProcessRefreshKind::nothing()
        .with_cpu()
        .with_memory()
        .without_tasks();
    table.refresh_processes_specifics(ProcessesToUpdate::Some(&pids), true, what);
    Ok(table)
}

fn pid_of(member: Member) -> Option<Pid> {
    usize::try_from(member.pid).ok().map(Pid::from)
}

/// Of one processor.
fn percent(used_ms: u64, elapsed: Duration) -> u64 {
    let percent = u128::from(used_ms) * 100 / elapsed.as_millis().max(1);
    u64::try_from(percent).unwrap_or(u64::MAX)
}

/// What a setting of the system is, when it is said and makes sense.
fn positive(said: Option<libc::c_long>) -> Option<u64> {
    let said = said.and_then(|said| u64::try_from(said).ok());
    said.filter(|said| *said > 0)
}

/// How many clock ticks CPU times have in a second.
#[must_use]
pub fn ticks_per_second() -> u64 {
    let said = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    positive(said).unwrap_or(USUAL_TICKS_PER_SECOND)
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
