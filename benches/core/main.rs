//! What `mqttcore` costs, beside mosquitto on this machine in the same run.
//!
//! Invariants: both are real processes of a temporary folder and take turns; the same client sends both the same bytes;
//! medians are compared; nothing is asserted on time; nothing is left behind, not even after Ctrl-C.
//!
//! `cargo bench --bench core [-- --quick] [-- PART...]`; a part is named by its beginning, see [`PARTS`].

mod brokers;
mod client;
#[path = "../common/clock.rs"]
mod clock;
mod crowd;
#[path = "../common/ends.rs"]
mod ends;
mod lives;
mod placing;
#[path = "../common/quick.rs"]
mod quick;
#[path = "../common/report.rs"]
mod report;
mod traffic;
#[path = "../common/usage.rs"]
mod usage;
mod wire;

use anyhow::{Context, Result};
use brokers::Brokers;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use quick::Wanted;
use report::{Report, say};
use std::process::ExitCode;
use traffic::Amounts;

/// How often what is measured.
struct Rounds {
    traffic: Amounts,
    /// Starts and ends of up to 100 clients.
    lives: usize,
    /// Starts and ends of more.
    large: usize,
    /// Seconds of watching idle brokers.
    idle: u64,
}

const FULL: Rounds = Rounds {
    traffic: Amounts {
        rounds: 9,
        calls: 3000,
        messages: 30_000,
    },
    lives: 9,
    large: 5,
    idle: 15,
};

const QUICK: Rounds = Rounds {
    traffic: Amounts {
        rounds: 5,
        calls: 1000,
        messages: 10_000,
    },
    lives: 3,
    large: 1,
    idle: 5,
};

/// Numbers of clients.
const SIZES: [usize; 3] = [0, 100, 1000];
/// Of them, those that are watched when nothing happens.
const IDLE_SIZES: [usize; 2] = [0, 100];

/// What can be measured by itself.
const PARTS: [&str; 3] = ["traffic", "lives", "idle"];

/// What the table does not say itself.
const NOTE: &str = "Medians of turns. Baseline: mosquitto. Payload of 256 bytes, QoS 1 both ways, requests with content \
type, response\ntopic and correlation data. Both check the rights of each message; ours checks a token at each login \
that has no\ncertificate. SIGTERM is counted to the end of the process. With 1 in flight it counts most on \
which processors the kernel puts client and\nbroker, which may differ for the two; the rows with fixed processors compare like \
with like.";

fn main() -> ExitCode {
    clock::listen_for_interrupts();
    match Wanted::read(&PARTS).and_then(|wanted| run(&wanted)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(wanted: &Wanted) -> Result<()> {
    let rounds = if wanted.quick { &QUICK } else { &FULL };
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the descriptor limit")?;
    let brokers = Brokers::new()?;
    let mut report = Report::default();
    if wanted.wants("traffic") {
        traffic::measure(&brokers, rounds.traffic, &mut report)?;
    }
    for size in SIZES.into_iter().filter(|_| wanted.wants("lives")) {
        let count = if size > 100 {
            rounds.large
        } else {
            rounds.lives
        };
        lives::measure(&brokers, size, count, &mut report)?;
    }
    for size in IDLE_SIZES.into_iter().filter(|_| wanted.wants("idle")) {
        lives::idle(&brokers, size, rounds.idle, &mut report)?;
    }
    report.print(NOTE);
    Ok(())
}
