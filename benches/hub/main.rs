//! What the hub costs, beside the least program that does the same on this machine in the same run (spec §16).
//!
//! Invariants: hubs are real, in temporary homes, of the programs of this build; ours and baseline take turns, and
//! medians are compared; nothing is asserted on time; nothing is left behind, not even after Ctrl-C.
//!
//! `cargo bench --bench hub [-- --quick]`

mod bare;
mod bring_up;
mod clock;
mod ends;
mod home;
mod list;
mod quiet;
mod report;
mod restart;
mod stamps;
mod stop;

use anyhow::{Result, bail};
use home::{Home, Hub};
use report::{Report, say};
use stamps::Program;
use std::process::ExitCode;

/// How often what is measured.
struct Rounds {
    /// Bring-up and stop of up to 100 plugins.
    hubs: usize,
    /// Bring-up of more.
    large: usize,
    /// Kills; each plugin is killed once at most, as the second start of one in a minute waits.
    kills: usize,
    /// Requests.
    requests: usize,
    /// Whole commands.
    commands: usize,
    /// Seconds of watching an idle hub.
    idle: u64,
}

const FULL: Rounds = Rounds {
    hubs: 9,
    large: 5,
    kills: 80,
    requests: 1000,
    commands: 100,
    idle: 15,
};

const QUICK: Rounds = Rounds {
    hubs: 3,
    large: 1,
    kills: 20,
    requests: 200,
    commands: 20,
    idle: 5,
};

/// Numbers of plugins.
const SIZES: [usize; 4] = [0, 1, 100, 1000];
/// The hub that is measured in all other ways too.
const USUAL: usize = 100;

fn main() -> ExitCode {
    clock::listen_for_interrupts();
    match arguments().and_then(|rounds| run(&rounds)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Rounds> {
    let mut quick = std::env::var_os("BENCH_QUICK").is_some_and(|value| !value.is_empty());
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--quick" => quick = true,
            // cargo's own.
            "--bench" => {}
            other => bail!("unknown argument '{other}'; there is only --quick: fewer rounds"),
        }
    }
    Ok(if quick { QUICK } else { FULL })
}

fn run(rounds: &Rounds) -> Result<()> {
    let program = Program::build()?;
    let mut report = Report::default();
    for size in SIZES {
        let home = Home::new(size, &program)?;
        say(&format!(
            "{size} plugins: first start, credentials are made"
        ));
        let hub = home.launch()?;
        hub.wait_until_up()?;
        hub.stop()?;
        let count = if size > USUAL {
            rounds.large
        } else {
            rounds.hubs
        };
        starts_and_stops(&home, count, &mut report)?;
        if size == USUAL {
            let hub = home.launch()?;
            hub.wait_until_up()?;
            usual_hub(&hub, rounds, &mut report)?;
            hub.stop()?;
        }
    }
    report.print();
    Ok(())
}

/// Bring-up, memory and stop, from the same starts.
fn starts_and_stops(home: &Home, rounds: usize, report: &mut Report) -> Result<()> {
    let mut starts = report::Pairs::default();
    let mut stops = stop::Stops::default();
    let mut memory = Vec::new();
    for round in 0..rounds {
        say(&format!(
            "{} plugins: start {} of {rounds}",
            home.size(),
            round + 1
        ));
        let bare = bare::spawn_all(home)?;
        starts.bare.push(bare.took);
        stops.bare.push(bare.stop()?);
        let hub = home.launch()?;
        starts.ours.push(bring_up::took(&hub)?);
        memory.push(quiet::pss(&hub)?);
        stops.ours.push(hub.stop()?);
    }
    if home.size() > 0 {
        bring_up::report(home.size(), &starts, report);
    }
    quiet::report_memory(home.size(), &memory, report);
    if home.size() == USUAL {
        stop::report(home.size(), &stops, report);
    }
    Ok(())
}

/// All that is measured on a hub that runs.
fn usual_hub(hub: &Hub<'_>, rounds: &Rounds, report: &mut Report) -> Result<()> {
    say(&format!(
        "{} plugins: idle for {} s",
        hub.home.size(),
        rounds.idle
    ));
    quiet::idle(hub, rounds.idle, report)?;
    say(&format!("{} plugins: requests", hub.home.size()));
    list::requests(hub, rounds.requests, report)?;
    list::commands(hub, rounds.commands, report)?;
    say(&format!("{} plugins: kills", hub.home.size()));
    restart::measure(hub, rounds.kills, report)
}
