//! What the hub costs, beside the least program that does the same on this machine in the same run (spec §16).
//!
//! Invariants: hubs are real, in temporary homes, of the programs of this build; ours and baseline take turns, and
//! medians are compared; nothing is asserted on time; nothing is left behind, not even after Ctrl-C.
//!
//! `cargo bench --bench hub [-- --quick] [-- PART...]`; a part is named by its beginning, see [`PARTS`].

mod bare;
mod bring_up;
#[path = "../common/clock.rs"]
mod clock;
mod core_restart;
mod crash;
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
use home::{Home, PLAIN, Settings};
use quick::Wanted;
use quiet::{Bounds, FROM_CGROUPS, FROM_TABLE, NOT_SAMPLING};
use report::{Goal, Report, say};
use stamps::Program;
use std::process::ExitCode;

/// How often what is measured.
struct Rounds {
    /// Bring-up and stop of up to 100 plugins.
    hubs: usize,
    /// Bring-up of more, and restarts with the core.
    large: usize,
    /// Kills; each plugin is killed once at most, as the second start of one in a minute waits.
    kills: usize,
    /// Requests.
    requests: usize,
    /// Whole commands.
    commands: usize,
    /// Seconds of watching an idle hub.
    idle: u64,
    /// Hubs whose plugins end at once, and for how many seconds each.
    crashing: (usize, u64),
}

const FULL: Rounds = Rounds {
    hubs: 9,
    large: 5,
    kills: 80,
    requests: 1000,
    commands: 100,
    idle: 30,
    crashing: (3, 10),
};

const QUICK: Rounds = Rounds {
    hubs: 3,
    large: 1,
    kills: 20,
    requests: 200,
    commands: 20,
    idle: 10,
    crashing: (1, 5),
};

/// What the table does not say itself.
const NOTE: &str = "Medians, unless it says otherwise. Baselines: loops of spawn, of kill and wait; a request answered by a \
client\nwith as many bytes on the same broker; one program that ends at once; for a crash loop, one that spawns anew what \
has\nended. Bring-up is counted from the log's 'core … to=running', rounded down to a millisecond, to the last plugin's \
first\ninstruction.";

/// Numbers of plugins.
const SIZES: [usize; 4] = [0, 1, 100, 1000];
/// The hub that is measured in all other ways too.
const USUAL: usize = 100;

/// What can be measured by itself.
const PARTS: [&str; 13] = [
    "start-0",
    "start-1",
    "start-100",
    "start-1000",
    "idle",
    "list",
    "kill",
    "off-start-100",
    "off-idle",
    "off-kill",
    "unsampled-idle",
    "crash-loop",
    "core-restart",
];

/// A way to set up a hub, and what is asked of it then.
#[derive(Clone, Copy)]
struct Setup {
    settings: Settings<'static>,
    /// Put behind what is measured.
    label: &'static str,
    /// Put before the names of its parts.
    part: &'static str,
    idle: Bounds,
    kill: Goal,
}

/// As it is by default where the launcher may make cgroups.
const IN_CGROUPS: Setup = Setup {
    settings: PLAIN,
    label: " in cgroups",
    part: "",
    idle: FROM_CGROUPS,
    kill: Goal::Times(2.0),
};

/// As it is by default elsewhere.
const BY_GROUP: Setup = Setup {
    settings: PLAIN,
    label: " without cgroups",
    part: "",
    idle: FROM_TABLE,
    kill: Goal::Times(1.5),
};

/// The same where it may.
const OFF: Setup = Setup {
    settings: Settings {
        hub: "cgroups: off",
        ..PLAIN
    },
    part: "off-",
    ..BY_GROUP
};

/// Nothing is measured by the launcher itself.
const UNSAMPLED: Setup = Setup {
    settings: Settings {
        hub: "monitor: {interval: 0s}",
        ..PLAIN
    },
    label: " without sampling",
    part: "unsampled-",
    idle: NOT_SAMPLING,
    kill: Goal::None,
};

fn main() -> ExitCode {
    clock::listen_for_interrupts();
    let all = Wanted::read(&PARTS).and_then(|wanted| Bench::run(&wanted));
    match all {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// One run of the bench.
struct Bench<'a> {
    wanted: &'a Wanted,
    rounds: &'static Rounds,
    program: Program,
    report: Report,
}

impl Bench<'_> {
    fn run(wanted: &Wanted) -> Result<()> {
        let mut bench = Bench {
            wanted,
            rounds: if wanted.quick { &QUICK } else { &FULL },
            program: Program::build()?,
            report: Report::default(),
        };
        if bench.has_cgroups()? {
            bench.hubs(IN_CGROUPS)?;
            bench.hubs(OFF)?;
        } else {
            say("the launcher may make no cgroups here, so nothing is measured in them");
            bench.hubs(BY_GROUP)?;
        }
        bench.hubs(UNSAMPLED)?;
        bench.crash_loops()?;
        if wanted.wants("core-restart") {
            let rounds = bench.rounds.large;
            core_restart::measure(SIZES[3], &bench.program, rounds, &mut bench.report)?;
        }
        bench.report.print(NOTE);
        Ok(())
    }

    fn has_cgroups(&self) -> Result<bool> {
        let home = Home::new(1, &self.program, PLAIN)?;
        let hub = home.launch()?;
        hub.wait_until_started()?;
        let tree = list::tree(&hub)?;
        hub.stop()?;
        Ok(tree == "cgroup")
    }

    /// All of one setup.
    fn hubs(&mut self, setup: Setup) -> Result<()> {
        for size in SIZES {
            if self.wanted.wants(&format!("{}start-{size}", setup.part)) {
                let home = self.home(size, setup.settings)?;
                self.starts_and_stops(&home, setup)?;
            }
        }
        self.usual_hub(setup)
    }

    fn crash_loops(&mut self) -> Result<()> {
        if !self.wanted.wants("crash-loop") {
            return Ok(());
        }
        let crashing = self.rounds.crashing;
        crash::at_once(USUAL, &self.program, crashing, &mut self.report)?;
        crash::by_default(USUAL, &self.program, &mut self.report)
    }

    /// A home whose credentials are made.
    fn home(&self, size: usize, settings: Settings<'_>) -> Result<Home> {
        let home = Home::new(size, &self.program, settings)?;
        say(&format!(
            "{size} plugins: first start, credentials are made"
        ));
        let hub = home.launch()?;
        hub.wait_until_up()?;
        hub.stop()?;
        Ok(home)
    }

    /// Bring-up, memory and stop, from the same starts.
    fn starts_and_stops(&mut self, home: &Home, setup: Setup) -> Result<()> {
        let size = home.size();
        let rounds = if size > USUAL {
            self.rounds.large
        } else {
            self.rounds.hubs
        };
        let mut starts = report::Pairs::default();
        let mut stops = stop::Stops::default();
        let mut memory = Vec::new();
        for round in 0..rounds {
            say(&format!("{size} plugins: start {} of {rounds}", round + 1));
            let bare = bare::spawn_all(home)?;
            starts.bare.push(bare.took);
            stops.bare.push(bare.stop()?);
            let hub = home.launch()?;
            starts.ours.push(bring_up::took(&hub)?);
            memory.push(quiet::pss(&hub)?);
            stops.ours.push(hub.stop()?);
        }
        if size > 0 {
            bring_up::report(size, setup.label, &starts, &mut self.report);
        }
        quiet::report_memory(size, setup.label, &memory, &mut self.report);
        if size == USUAL {
            stop::report(size, setup.label, &stops, &mut self.report);
        }
        Ok(())
    }

    /// All that is measured on a hub that runs.
    fn usual_hub(&mut self, setup: Setup) -> Result<()> {
        let wants = |part: &str| self.wanted.wants(&format!("{}{part}", setup.part));
        let (idle, list, kill) = (wants("idle"), wants("list"), wants("kill"));
        if !(idle || list || kill) {
            return Ok(());
        }
        let home = self.home(USUAL, setup.settings)?;
        let hub = home.launch()?;
        hub.wait_until_up()?;
        let rounds = self.rounds;
        if idle {
            say(&format!("{USUAL} plugins: idle for {} s", rounds.idle));
            let idle = (setup.label, setup.idle);
            quiet::idle(&hub, idle, rounds.idle, &mut self.report)?;
        }
        if list {
            say(&format!("{USUAL} plugins: requests"));
            list::requests(&hub, rounds.requests, &mut self.report)?;
            list::commands(&hub, rounds.commands, &mut self.report)?;
        }
        if kill {
            say(&format!("{USUAL} plugins: kills"));
            let kill = (setup.label, setup.kill);
            restart::measure(&hub, kill, rounds.kills, &mut self.report)?;
        }
        hub.stop()?;
        Ok(())
    }
}
