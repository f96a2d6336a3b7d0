//! From SIGKILL of a plugin to its successor's first instruction.

use crate::bare::Spawned;
use crate::clock;
use crate::home::Hub;
use crate::report::{Goal, Pairs, Report, Row, quantile};
use crate::stamps::{Stamp, Stamps};
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::time::Duration;

/// So that what one restart leaves to do is not counted for the next.
const PAUSE: Duration = Duration::from_millis(30);

/// Kills one plugin after the other, with default settings: the first restart comes at once.
pub fn measure(
    hub: &Hub<'_>,
    (label, goal): (&str, Goal),
    rounds: usize,
    report: &mut Report,
) -> Result<()> {
    let bare_stamps = Stamps::new(&hub.home.path("bare.stamps"))?;
    let programs = hub.home.programs();
    let mut pairs = Pairs::default();
    for (id, program) in hub.home.ids().iter().zip(&programs).take(rounds) {
        pairs.bare.push(bare_restart(program, &bare_stamps)?);
        clock::rest(PAUSE)?;
        pairs.ours.push(hub_restart(hub, id)?);
        clock::rest(PAUSE)?;
    }
    let mut add = |measure: String, part, goal| {
        report.add(Row {
            measure,
            unit: "ms",
            ours: quantile(&pairs.ours, part),
            bare: Some(quantile(&pairs.bare, part)),
            goal,
        });
    };
    add(
        format!("SIGKILL to the successor's first instruction{label}"),
        0.5,
        goal,
    );
    add("… p95".to_owned(), 0.95, Goal::None);
    Ok(())
}

/// Kill, wait, spawn.
fn bare_restart(program: &Path, stamps: &Stamps) -> Result<f64> {
    let first = Spawned::new(program, stamps)?;
    let pid = first.pid()?;
    next(stamps, |stamp| stamp.pid == pid)?;
    clock::rest(PAUSE)?;
    let begun = clock::now()?;
    drop(first);
    let second = Spawned::new(program, stamps)?;
    let pid = second.pid()?;
    Ok(clock::ms(begun, next(stamps, |stamp| stamp.pid == pid)?))
}

fn hub_restart(hub: &Hub<'_>, id: &str) -> Result<f64> {
    let stamps = hub.home.stamps();
    let all = stamps.read()?;
    let old = all.iter().rfind(|stamp| stamp.id == id);
    let old = old.with_context(|| format!("{id} has not started"))?.pid;
    let begun = clock::now()?;
    kill(Pid::from_raw(old), Signal::SIGKILL).with_context(|| format!("cannot kill {id}"))?;
    let stamp = next(stamps, |stamp| stamp.id == id && stamp.pid != old)?;
    Ok(clock::ms(begun, stamp))
}

/// Waits for a stamp.
fn next(stamps: &Stamps, is_it: impl Fn(&Stamp) -> bool) -> Result<u64> {
    clock::eventually(
        "a plugin is started again",
        Duration::from_millis(3),
        || {
            Ok(stamps
                .read()?
                .iter()
                .find(|stamp| is_it(stamp))
                .map(|stamp| stamp.at))
        },
    )
}
