//! What the kernel holds a run to, and what it says the run uses.
//!
//! Invariants: a limit that cannot be set is named with its reason and keeps no run from being started; numbers that a
//! cgroup has no file for are `None`, never zero.

use super::folder::Folder;
use std::fmt;
use std::time::Duration;

/// Limits that the kernel enforces on a whole tree; `None` = none. They need a cgroup and its controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HardLimits {
    /// Bytes of memory, page cache included; who needs more is killed, with the whole tree.
    pub memory_bytes: Option<u64>,
    /// Percent of one processor, 1 and more; beyond it the tree waits.
    pub cpu_percent: Option<u64>,
    /// Processes and threads at a time; beyond it fork fails.
    pub pids: Option<u64>,
}

/// A part of the kernel that limits one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// Time of processors.
    Cpu,
    /// Memory.
    Memory,
    /// Number of processes and threads.
    Pids,
}

impl Controller {
    /// All of them.
    pub const ALL: [Controller; 3] = [Controller::Cpu, Controller::Memory, Controller::Pids];

    /// Its name in the kernel.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Memory => "memory",
            Controller::Pids => "pids",
        }
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A hard limit that is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitRefused {
    /// Whose.
    pub controller: Controller,
    /// Why, and the way out.
    pub reason: String,
}

impl fmt::Display for LimitRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the hard limit of {} is not in force: {}",
            self.controller, self.reason
        )
    }
}

/// Length of the time in which a tree may use its share of the processors: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

impl HardLimits {
    /// Which controllers they need, with the file to set and what it is set to.
    fn settings(&self) -> Vec<(Controller, &'static str, String)> {
        let share = |percent: u64| percent.max(1).saturating_mul(CPU_PERIOD_US / 100);
        let cpu = self
            .cpu_percent
            .map(|percent| format!("{} {CPU_PERIOD_US}", share(percent)))
            .map(|value| (Controller::Cpu, "cpu.max", value));
        let memory = self
            .memory_bytes
            .map(|bytes| (Controller::Memory, "memory.max", bytes.to_string()));
        let pids = self
            .pids
            .map(|count| (Controller::Pids, "pids.max", count.to_string()));
        cpu.into_iter().chain(memory).chain(pids).collect()
    }

    /// Sets them in a cgroup; `has` makes sure that it has a controller, or tells why not.
    pub(super) fn apply(
        &self,
        folder: &Folder,
        has: impl Fn(Controller) -> Result<(), String>,
    ) -> Vec<LimitRefused> {
        let mut refused = Vec::new();
        for (controller, file, value) in self.settings() {
            let set = has(controller).and_then(|()| {
                let set = folder.write(file, &value);
                set.map_err(|error| format!("{file} cannot be set to {value}: {error}"))
            });
            if let Err(reason) = set {
                refused.push(LimitRefused { controller, reason });
            } else if controller == Controller::Memory {
                // One who is killed leaves others that wait for it. Before Linux 4.19 only the biggest is killed.
                let _only_the_biggest = folder.write("memory.oom.group", "1");
            }
        }
        refused
    }

    /// The refusals of all of them.
    pub(crate) fn all_refused(&self, reason: &str) -> Vec<LimitRefused> {
        let refused = |(controller, _, _)| LimitRefused {
            controller,
            reason: reason.to_owned(),
        };
        self.settings().into_iter().map(refused).collect()
    }
}

/// What a tree uses, as its cgroup counts it; what has ended is counted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TreeUsage {
    /// Processor time since the run began, user and system, in steps of a microsecond.
    pub cpu_time: Duration,
    /// Bytes of memory, without page cache that is not in use; `None` without the memory controller.
    pub memory_bytes: Option<u64>,
    /// The most bytes of memory at a time, page cache included; `None` without the controller, or before Linux 5.19.
    pub peak_bytes: Option<u64>,
    /// Living processes, the main one included.
    pub processes: u64,
    /// Processes and threads; `None` without the pids controller.
    pub tasks: Option<u64>,
}

/// What a tree uses, by the files of its cgroup; `None` when it is gone.
pub(crate) fn usage(folder: &Folder) -> Option<TreeUsage> {
    let cpu_us = folder.number_of("cpu.stat", "usage_usec")?;
    let processes = folder.pids().map_or(0, |pids| pids.len());
    let unused = || folder.number_of("memory.stat", "inactive_file");
    let memory = folder.number("memory.current");
    Some(TreeUsage {
        cpu_time: Duration::from_micros(cpu_us),
        memory_bytes: memory.map(|bytes| bytes.saturating_sub(unused().unwrap_or(0))),
        peak_bytes: folder.number("memory.peak"),
        processes: u64::try_from(processes).unwrap_or(u64::MAX),
        tasks: folder.number("pids.current"),
    })
}

/// Bytes used at the most, and allowed, when the kernel killed somebody of the cgroup for lack of memory; 0 = unknown.
pub(crate) fn out_of_memory(folder: &Folder) -> Option<(u64, u64)> {
    let kills = folder.number_of("memory.events", "oom_kill")?;
    let number = |name| folder.number(name).unwrap_or(0);
    (kills > 0).then(|| (number("memory.peak"), number("memory.max")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn cgroup(files: &[(&str, &str)]) -> (tempfile::TempDir, Folder) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let cgroup = Folder::at(folder.path().to_owned());
        (folder, cgroup)
    }

    #[test]
    fn limits_are_written_as_the_kernel_reads_them() {
        let (folder, cgroup) = cgroup(&[
            ("memory.max", ""),
            ("memory.oom.group", ""),
            ("cpu.max", ""),
            ("pids.max", ""),
        ]);
        let limits = HardLimits {
            memory_bytes: Some(64 << 20),
            cpu_percent: Some(150),
            pids: Some(20),
        };
        assert_eq!(limits.apply(&cgroup, |_| Ok(())), []);
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("memory.max"), "67108864");
        assert_eq!(read("memory.oom.group"), "1");
        assert_eq!(read("cpu.max"), "150000 100000");
        assert_eq!(read("pids.max"), "20");
    }

    #[test]
    fn a_limit_without_its_controller_is_named() {
        let (_folder, cgroup) = cgroup(&[("pids.max", "")]);
        let limits = HardLimits {
            memory_bytes: Some(1),
            cpu_percent: None,
            pids: Some(20),
        };
        let has = |controller| match controller {
            Controller::Pids => Ok(()),
            Controller::Cpu | Controller::Memory => Err("it is off".to_owned()),
        };
        let refused: Vec<String> = limits
            .apply(&cgroup, has)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            refused,
            ["the hard limit of memory is not in force: it is off"]
        );
        assert_eq!(limits.all_refused("no").len(), 2);
        let gone = limits.apply(&cgroup, |_| Ok(()));
        assert!(
            gone[0]
                .reason
                .starts_with("memory.max cannot be set to 1: "),
            "{gone:?}"
        );
    }

    #[test]
    fn usage_is_what_the_files_say() {
        let (_folder, bare) = cgroup(&[
            ("cpu.stat", "usage_usec 1500\nuser_usec 1000\n"),
            ("cgroup.procs", "3\n4\n"),
        ]);
        let mut expected = TreeUsage {
            cpu_time: Duration::from_micros(1500),
            processes: 2,
            ..TreeUsage::default()
        };
        assert_eq!(usage(&bare), Some(expected));
        assert_eq!(out_of_memory(&bare), None);
        let (_folder, full) = cgroup(&[
            ("cpu.stat", "usage_usec 1500\n"),
            ("cgroup.procs", "3\n4\n"),
            ("memory.current", "1000\n"),
            ("memory.stat", "anon 600\ninactive_file 300\n"),
            ("memory.peak", "2000\n"),
            ("memory.max", "4096\n"),
            ("memory.events", "oom 1\noom_kill 1\n"),
            ("pids.current", "9\n"),
        ]);
        expected.memory_bytes = Some(700);
        expected.peak_bytes = Some(2000);
        expected.tasks = Some(9);
        assert_eq!(usage(&full), Some(expected));
        assert_eq!(out_of_memory(&full), Some((2000, 4096)));
        let (_folder, gone) = cgroup(&[]);
        assert_eq!(usage(&gone), None);
    }
}
