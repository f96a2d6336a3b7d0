//! From the moment a core that was killed is ready again to the last plugin's first instruction, for plugins that are
//! restarted with it.

use crate::bring_up;
use crate::clock;
use crate::home::{Home, PLAIN, Settings};
use crate::report::{Goal, Pairs, Report, Row, median, say};
use crate::stamps::{self, Program};
use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashSet;
use std::time::Duration;

const SETTINGS: Settings<'static> = Settings {
    plugin: "onCoreRestart: restart",
    ..PLAIN
};

/// Against the bring-up of the same hub.
pub fn measure(size: usize, program: &Program, rounds: usize, report: &mut Report) -> Result<()> {
    let home = Home::new(size, program, SETTINGS)?;
    say(&format!(
        "{size} plugins: first start, credentials are made"
    ));
    let hub = home.launch()?;
    hub.wait_until_up()?;
    hub.stop()?;
    let mut pairs = Pairs::default();
    for round in 0..rounds {
        say(&format!(
            "{size} plugins: core killed, {} of {rounds}",
            round + 1
        ));
        let hub = home.launch()?;
        pairs.bare.push(bring_up::took(&hub)?);
        hub.wait_until_up()?;
        let before: HashSet<i32> = pids(&home)?;
        let logged = hub.logged()?;
        kill(Pid::from_raw(hub.core_pid()?), Signal::SIGKILL)?;
        let ready = hub.core_ready_after(logged)?;
        let all = clock::eventually("all are restarted", Duration::from_millis(10), || {
            let stamps = home.stamps().read()?;
            let new = stamps.iter().filter(|stamp| !before.contains(&stamp.pid));
            let ids: HashSet<&str> = new.map(|stamp| stamp.id.as_str()).collect();
            Ok((ids.len() == size).then(|| stamps::last(&stamps)))
        })?;
        pairs.ours.push(clock::ms(ready, all));
        hub.stop_without_stamps()?;
    }
    report.add(Row {
        measure: format!("core killed, {size} restarted with it; baseline their bring-up"),
        unit: "ms",
        ours: median(&pairs.ours),
        bare: Some(median(&pairs.bare)),
        goal: Goal::Times(1.5),
    });
    Ok(())
}

fn pids(home: &Home) -> Result<HashSet<i32>> {
    Ok(home
        .stamps()
        .read()?
        .iter()
        .map(|stamp| stamp.pid)
        .collect())
}
