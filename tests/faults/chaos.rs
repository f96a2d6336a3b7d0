//! SIGKILL of anything at any moment.
//!
//! Invariant: the choices follow from a seed, which a failure shows; when the machine keeps time alike, so does the run.

use crate::chance::Chance;
use crate::hub::{Home, eventually, signal_pid};
use std::fs;
use std::time::Duration;

const ROUNDS: usize = 14;
const IDS: [&str; 4] = ["a", "b", "c", "d"];

#[test]
fn whatever_is_killed_whenever_everything_is_back_once() {
    let seed = Chance::seed("CHAOS_SEED");
    let mut chance = Chance::new(seed);
    let home = Home::new(&format!(
        "corebin: mqttcore\nautostart: [{}]\nrestart: {{delay: 50ms, maxDelay: 200ms}}\nstop: {{grace: 1s}}\n",
        IDS.join(", ")
    ));
    // Who holds the lock holds it by a child as well, which must be gone before there is a next run.
    let script = "exec flock -n -E 77 \"$HIVEOT_HOME/$(basename \"$0\").lock\" sleep 1000";
    for id in IDS.into_iter().chain(["byhand"]) {
        home.plugin(id, script);
    }
    let mut hub = home.up();
    hub.ok(&["start", "byhand"]);
    hub.ok(&["stop", "d"]);
    for round in 0..ROUNDS {
        let victims = hub.processes();
        match chance.below(4) {
            // What bears no mark: the launcher.
            0 => {
                hub.signal_launcher(9);
                hub.ended();
                hub.relaunch_unseen();
            }
            // Ordered, and as it was.
            1 if round % 3 == 0 => {
                hub.signal_launcher(15);
                hub.ended();
                hub.relaunch_unseen();
            }
            _ => {
                for _ in 0..=chance.below(3) {
                    if let Some(victim) = victims.get(chance.below(victims.len())) {
                        signal_pid(*victim, 9);
                    }
                }
            }
        }
        // Not a wait for something: the moment of the next blow is to be any.
        std::thread::sleep(Duration::from_millis(chance.next() % 150));
    }
    hub.wait_for_bus();
    for id in ["a", "b", "c", "byhand", "mqttcore"] {
        hub.pid(id);
    }
    eventually(
        &format!("seed {seed}: all of it is at peace\n{}", hub.account()),
        || {
            let list = hub.list();
            let of = |id: &str| list.iter().find(|info| info["Name"] == id).unwrap().clone();
            let up = ["a", "b", "c", "byhand"]
                .iter()
                .all(|id| of(id)["Phase"] == "running");
            (up && of("d")["Phase"] == "stopped").then_some(())
        },
    );
    for id in IDS.into_iter().chain(["byhand"]) {
        let log = hub.log(id);
        assert!(
            !log.contains("code 77"),
            "seed {seed}: two copies of {id}\n{log}\n{}",
            hub.account()
        );
        assert_eq!(hub.info(id)["Enabled"], id != "d", "seed {seed}");
    }
    let strays: Vec<_> = fs::read_dir(hub.path("stores/launcher"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name != "journal" && name != "last-good.yaml")
        .collect();
    assert!(strays.is_empty(), "seed {seed}: {strays:?}");
    hub.down();
}
