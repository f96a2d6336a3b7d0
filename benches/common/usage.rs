//! What a process uses.

use anyhow::{Context, Result};
use std::fs;

/// Mebibytes of a process (proportional set size).
pub fn pss(pid: i32) -> Result<f64> {
    let file = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let kib: f64 = field(&text, "Pss:").context("there is no Pss")?;
    Ok(kib / 1024.0)
}

/// What all threads of a process have used so far.
pub struct Used {
    /// Seconds of processor time.
    pub processor: f64,
    /// How often one slept, and so was woken.
    pub sleeps: f64,
}

/// Of all threads, those that have ended left out.
pub fn used(pid: i32) -> Result<Used> {
    let mut used = Used {
        processor: 0.0,
        sleeps: 0.0,
    };
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let folder = thread?.path();
        let times = fs::read_to_string(folder.join("schedstat"))?;
        let ns: f64 = times.split(' ').next().unwrap_or_default().parse()?;
        used.processor += ns / 1e9;
        let status = fs::read_to_string(folder.join("status"))?;
        used.sleeps += field(&status, "voluntary_ctxt_switches:").context("no switches")?;
    }
    Ok(used)
}

/// A number of a `/proc` file.
fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
