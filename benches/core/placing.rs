//! Which processors client and brokers may run on.
//!
//! Invariants: who was held somewhere may run everywhere again when that is dropped; where there is nothing to choose from,
//! or no `taskset`, nobody is held.

use anyhow::{Context, Result, bail};
use std::fs;
use std::io;
use std::process::{Command, Stdio};

/// The processors this process may use.
pub struct Processors {
    /// All, as `taskset -c` takes them.
    all: String,
    /// The first of them.
    pub first: String,
    /// The last, another than the first.
    pub last: String,
}

impl Processors {
    /// None when there is only one, or nobody can be held anywhere.
    pub fn find() -> Result<Option<Processors>> {
        let status = fs::read_to_string("/proc/self/status")?;
        let all = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .context("the kernel does not say which processors may be used")?
            .trim();
        let numbers = || all.split([',', '-']);
        let (Some(first), Some(last)) = (numbers().next(), numbers().next_back()) else {
            return Ok(None);
        };
        let taskset = Command::new("taskset")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        match taskset {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("cannot run taskset"),
            Ok(_) => {}
        }
        Ok((first != last).then(|| Processors {
            all: all.to_owned(),
            first: first.to_owned(),
            last: last.to_owned(),
        }))
    }
}

/// A process that may run on one processor only.
pub struct Held<'a> {
    processors: &'a Processors,
    pid: i32,
}

impl<'a> Held<'a> {
    /// Holds all threads of a process there.
    pub fn on(processors: &'a Processors, pid: i32, place: &str) -> Result<Held<'a>> {
        let held = Held { processors, pid };
        allow(pid, place)?;
        Ok(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // It may have ended.
        let _ = allow(self.pid, &self.processors.all);
    }
}

fn allow(pid: i32, places: &str) -> Result<()> {
    let status = Command::new("taskset")
        .args(["-a", "-p", "-c", places, &pid.to_string()])
        .stdout(Stdio::null())
        .status()
        .context("cannot run taskset")?;
    if !status.success() {
        bail!("taskset cannot hold {pid} on {places}: {status}");
    }
    Ok(())
}
