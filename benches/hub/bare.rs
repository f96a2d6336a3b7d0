//! The least programs that do the same: loops of spawn, kill and wait.
//!
//! Invariant: what was spawned is killed and waited for, however a measure ends.

use crate::clock;
use crate::ends::{end, signal};
use crate::home::Home;
use crate::stamps::{self, Stamps};
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use std::path::Path;
use std::process::{Child, Command};

/// A process that is ended with this.
pub struct Spawned(Child);

impl Spawned {
    /// Spawns a plugin (posix_spawn).
    pub fn new(program: &Path, stamps: &Stamps) -> Result<Spawned> {
        let child = Command::new(program)
            .env(stamps::VARIABLE, stamps.file())
            .spawn();
        let child = child.with_context(|| format!("cannot spawn {}", program.display()))?;
        Ok(Spawned(child))
    }

    /// Its pid.
    pub fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.0.id())?)
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// Processes that were spawned in a loop.
pub struct Bare {
    spawned: Vec<Spawned>,
    /// Milliseconds from the first spawn to the last one's first instruction.
    pub took: f64,
}

/// Spawns all plugins of a home.
pub fn spawn_all(home: &Home) -> Result<Bare> {
    let stamps = Stamps::new(&home.path("bare.stamps"))?;
    let programs = home.programs();
    let mut spawned = Vec::with_capacity(programs.len());
    let begun = clock::now()?;
    for program in &programs {
        spawned.push(Spawned::new(program, &stamps)?);
    }
    let stamps = stamps.wait_for(programs.len())?;
    let took = clock::ms(begun, stamps::last(&stamps));
    Ok(Bare { spawned, took })
}

impl Bare {
    /// Milliseconds to terminate and wait for all.
    pub fn stop(mut self) -> Result<f64> {
        let begun = clock::now()?;
        for child in &self.spawned {
            signal(&child.0, Signal::SIGTERM)?;
        }
        for child in &mut self.spawned {
            child.0.wait()?;
        }
        Ok(clock::ms(begun, clock::now()?))
    }
}
