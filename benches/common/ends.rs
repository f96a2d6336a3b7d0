//! Ending children.

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::Child;

/// Kills and waits for a child that may have ended already.
pub fn end(child: &mut Child) {
    // It fails only when there is nothing left to do.
    let _ = child.kill();
    let _ = child.wait();
}

/// Sends a child a signal; it is not reaped, so its number is its own.
pub fn signal(child: &Child, signal: Signal) -> Result<()> {
    let pid = i32::try_from(child.id())?;
    kill(Pid::from_raw(pid), signal).context("cannot signal a child")
}
