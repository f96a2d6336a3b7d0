//! What the hub costs, beside the least program that does the same on this machine in the same run (spec §16).
//!
//! Invariants: hubs are real, in temporary homes, of the programs of this build; ours and baseline take turns, and
//! medians are compared; nothing is asserted on time; nothing is left behind, not even after Ctrl-C.
//!
//! `cargo bench --bench hub [-- --quick]`

mod bare;
mod bring_up;
#[path = "../common/clock.rs"]
mod clock;
#[path = "../common/ends.rs"]
mod ends;
mod home;
mod list;
#[path = "../common/quick.rs"]
mod quick;
mod quiet;
#[path = "../common/report.rs"]
mod report;
mod restart;
mod stamps;
mod stop;
#[path = "../common/usage.rs"]
mod usage;

use anyhow::Result;
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

/// What the table does not say itself.
const NOTE: &str = "Medians, unless it says otherwise. Baselines: loops of spawn, of kill and wait; a request answered by a \
client\nwith as many bytes on the same broker; one program that ends at once. Bring-up is counted from the log's\n\
'core … to=running', rounded down to a millisecond, to the last plugin's first instruction.";

/// Numbers of plugins.
const SIZES: [usize; 4] = [0, 1, 100, 1000];
/// The hub that is measured in all other ways too.
const USUAL: usize = 100;

fn main() -> ExitCode {
    clock::listen_for_interrupts();
    match quick::is_wanted().and_then(|quick| run(if quick { &QUICK } else { &FULL })) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
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
    report.print(NOTE);
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
