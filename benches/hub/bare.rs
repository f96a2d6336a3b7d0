//! The least programs that do the same: loops of spawn, kill and wait.
//!
//! Invariant: what was spawned is killed and waited for, however a measure ends.

use crate::clock;
use crate::ends::{end, signal};
use crate::home::Home;
use crate::stamps::{self, Stamps};
use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::Signal;
use nix::sys::time::TimeValLike;
use nix::sys::wait::waitpid;
use nix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

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

    /// Likewise, of one that ends at once.
    fn ending(program: &Path, stamps: &Stamps) -> Result<Spawned> {
        let mut command = Command::new(program);
        let command = command.arg("end").env(stamps::VARIABLE, stamps.file());
        let child = command.spawn();
        let child = child.with_context(|| format!("cannot spawn {}", program.display()))?;
        Ok(Spawned(child))
    }

    /// There is nothing left to end.
    fn was_waited_for(self) {
        std::mem::forget(self);
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

/// What a loop did that spawns anew what has ended.
pub struct Crashing {
    /// How many it spawned.
    pub starts: f64,
    /// For so long.
    pub seconds: f64,
    /// Its own seconds of processor time, that of the spawned left out.
    pub processor: f64,
    /// That of the spawned.
    pub children: f64,
}

/// Seconds of processor time of this thread.
fn processor() -> Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("cannot read the clock")?;
    Ok(Duration::from(time).as_secs_f64())
}

/// Seconds of processor time of all that was waited for.
fn of_children() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let time = usage.user_time() + usage.system_time();
    let micros = Duration::from_micros(u64::try_from(time.num_microseconds())?);
    Ok(micros.as_secs_f64())
}

/// Keeps all plugins of a home running, which end at once.
pub fn crash_loop(home: &Home, seconds: u64) -> Result<Crashing> {
    let stamps = Stamps::new(&home.path("bare.stamps"))?;
    let programs = home.programs();
    let spawn = |program: &PathBuf| -> Result<Spawned> { Spawned::ending(program, &stamps) };
    let mut at_pid = HashMap::new();
    let (begun, used) = (clock::now()?, (processor()?, of_children()?));
    let until = begun + seconds * 1_000_000_000;
    let mut starts = 0_u32;
    for (at, program) in programs.iter().enumerate() {
        let child = spawn(program)?;
        at_pid.insert(child.pid()?, (at, child));
        starts += 1;
    }
    while clock::now()? < until {
        // Nobody else has children here meanwhile.
        let ended = waitpid(None, None)?.pid().context("nobody ended")?;
        let (at, child) = at_pid.remove(&ended.as_raw()).context("a stranger ended")?;
        child.was_waited_for();
        let child = spawn(&programs[at])?;
        at_pid.insert(child.pid()?, (at, child));
        starts += 1;
    }
    Ok(Crashing {
        starts: f64::from(starts),
        seconds: clock::ms(begun, clock::now()?) / 1000.0,
        processor: processor()? - used.0,
        children: of_children()? - used.1,
    })
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
