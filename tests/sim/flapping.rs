//! A hundred plugins that end and are started anew for an hour of virtual time: nothing may grow by it.
//!
//! Invariants: what is measured is a process of its own, so that no other test is in it; that the measure would see a
//! growth is shown by one that remembers 64 bytes of each run.

use super::{Launcher, keep_quiet, plan, runtime};
use crate::world::World;
use actors::ports::Plans;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;
use supervision::PluginId;
use supervision::policy::RestartPolicy;

const PLUGINS: usize = 100;

/// Each run ends by itself within this time.
const LIVES: Duration = Duration::from_secs(15);

/// By now all has found its size.
const WARM: Duration = Duration::from_secs(600);

const HOUR: Duration = Duration::from_secs(3600);

/// With a growth on purpose it is seen earlier.
const QUARTER: Duration = Duration::from_secs(1500);

/// Growth that is borne, in KiB: what is measured is pages. Some 8 bytes for each run.
const BORNE_KIB: u64 = 256;

/// Tells the process that is measured to remember so many bytes of each run.
const LEAK: &str = "FLAPPING_LEAK";

async fn flap(leak: usize) -> (u64, u64, u64) {
    let ids: Vec<PluginId> = (0..PLUGINS)
        .map(|n| PluginId::new(&format!("f{n:02}")).unwrap())
        .collect();
    let world = World::flapping(1, ids.clone(), LIVES, leak);
    let mut plan = plan();
    plan.rules.restart = RestartPolicy {
        delay: Duration::from_millis(200),
        max_delay: Duration::from_secs(1),
        ..RestartPolicy::default()
    };
    let plans = Plans {
        default: plan.clone(),
        core: plan,
        by_id: BTreeMap::new(),
        autostart: ids.clone(),
        sampling: Duration::from_secs(5),
    };
    let launcher = Launcher::start_with(1, world, plans).await;
    tokio::time::sleep(WARM).await;
    let warm = rss_kib();
    let end = if leak > 0 { QUARTER } else { HOUR };
    tokio::time::sleep(end - WARM).await;
    let late = rss_kib();
    let runs = ids.iter().map(|id| launcher.seat(id).view().run.0).sum();
    let complaints = launcher.end().await.complaints();
    assert_eq!(complaints, Vec::<String>::new());
    (runs, warm, late)
}

fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse().unwrap()
}

#[ignore = "is run by the test below, in a process of its own"]
#[test]
fn an_hour() {
    keep_quiet();
    let leak = super::number(LEAK).unwrap_or(0);
    let (runs, warm, late) = runtime().block_on(flap(usize::try_from(leak).unwrap()));
    println!("flapped {runs} {warm} {late}");
}

/// Runs the hour in a process of its own: how many runs there were, and by how many KiB it grew.
fn measured(leak: usize) -> (u64, u64) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "flapping::an_hour", "--ignored", "--nocapture"])
        .env(LEAK, leak.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    let (_, told) = text.split_once("flapped ").unwrap();
    let told = told.lines().next().unwrap();
    let numbers: Vec<u64> = told.split(' ').map(|word| word.parse().unwrap()).collect();
    (numbers[0], numbers[2].saturating_sub(numbers[1]))
}

#[test]
fn a_hundred_that_flap_for_an_hour_leave_no_growth() {
    let (runs, grown) = measured(0);
    println!("{runs} runs, {grown} KiB between minute 10 and 60");
    assert!(runs > 25_000, "only {runs} runs: that was no flapping");
    assert!(grown < BORNE_KIB, "{runs} runs, and {grown} KiB more");
    let (_, grown) = measured(64);
    assert!(
        grown > 2 * BORNE_KIB,
        "64 bytes a run are not seen: {grown} KiB"
    );
}
