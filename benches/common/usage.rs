//! What a process uses.

use anyhow::{Context, Result};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;

/// Mebibytes of a process (proportional set size).
pub fn pss(pid: i32) -> Result<f64> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let kib: f64 = field(&text, "Pss:").context("there is no Pss")?;
    Ok(kib / 1024.0)
}

/// What a process has used in a time.
pub struct Used {
    /// Seconds of processor time.
    pub processor: f64,
    /// How often a thread slept, and so was woken.
    pub sleeps: f64,
}

/// What each thread of a process has used so far: processor time, sleeps.
pub struct Threads(HashMap<OsString, (f64, f64)>);

impl Threads {
    /// Looks at all of a process.
    pub fn of(pid: i32) -> Result<Threads> {
        let mut threads = HashMap::new();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            let thread = thread?;
            let folder = thread.path();
            // It may end at any time.
            let Ok(times) = fs::read_to_string(folder.join("schedstat")) else {
                continue;
            };
            let Ok(status) = fs::read_to_string(folder.join("status")) else {
                continue;
            };
            let ns: f64 = times.split(' ').next().unwrap_or_default().parse()?;
            let sleeps = field(&status, "voluntary_ctxt_switches:").context("no switches")?;
            threads.insert(thread.file_name(), (ns / 1e9, sleeps));
        }
        Ok(Threads(threads))
    }

    /// What was used since an earlier look; of threads that have ended meanwhile nothing is known.
    pub fn since(&self, earlier: &Threads) -> Used {
        let mut used = Used {
            processor: 0.0,
            sleeps: 0.0,
        };
        for (thread, (processor, sleeps)) in &self.0 {
            let before = earlier.0.get(thread).copied().unwrap_or_default();
            used.processor += processor - before.0;
            used.sleeps += sleeps - before.1;
        }
        used
    }
}

/// A number of a `/proc` file.
fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
