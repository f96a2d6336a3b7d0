//! What the launcher tells on the bus (spec §8), as a subscriber sees it.

use crate::hub::{Home, Hub, eventually, signal_pid};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// `hubcli --json events -f` and what it prints; ends with its test.
struct Watcher {
    child: Child,
    lines: Receiver<Value>,
}

impl Watcher {
    fn of(hub: &Hub) -> Watcher {
        let mut child = Command::new(hub.path("bin/hubcli"))
            .args(["--json", "events", "-f"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (told, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap();
                if told.send(value).is_err() {
                    return;
                }
            }
        });
        Watcher { child, lines }
    }

    /// What comes until an event is as wanted, that one included.
    fn until(&self, what: &str, wanted: impl Fn(&str, &Value) -> bool) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            let line = self
                .lines
                .recv_timeout(crate::hub::PATIENCE)
                .unwrap_or_else(|_| panic!("in vain: {what}; {seen:#?}"));
            let found = wanted(line["event"].as_str().unwrap(), &line["value"]);
            seen.push(line);
            if found {
                return seen;
            }
        }
    }

    /// Until a plugin goes to a phase.
    fn until_phase(&self, id: &str, to: &str) -> Vec<Value> {
        self.until(&format!("{id} goes to {to}"), |event, value| {
            event == "plugin" && value["id"] == id && value["to"] == to
        })
    }

    /// Ends by Ctrl-C, which is no failure.
    fn interrupt(mut self) {
        signal_pid(i32::try_from(self.child.id()).unwrap(), 2);
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an event that ended a list says.
fn last(events: &[Value]) -> &Value {
    &events.last().unwrap()["value"]
}

#[test]
fn every_cause_has_its_event() {
    let home = Home::new(
        "corebin: mqttcore\nrestart: {firstDelay: 1h}\nplugins:\n  mute: {ready: notify, start: {timeout: 300ms}}\n\
         \x20 lost: {envFile: none.env}\n  deaf: {stop: {grace: 100ms}}\n",
    );
    home.plugin("steady", "exec sleep 1000");
    home.plugin("early", "echo before; echo out of luck >&2; exit 3");
    home.plugin("mute", "exec sleep 1000");
    home.plugin("lost", "exec sleep 1000");
    home.plugin("deaf", "trap '' TERM; echo set; while :; do sleep 1; done");
    let hub = home.up();
    let watcher = Watcher::of(&hub);
    // How all are comes first, the last of them by name being this one; from then on nothing is missed.
    watcher.until("the present state", |event, value| {
        event == "state" && value["Name"] == "steady"
    });

    hub.ok(&["start", "steady"]);
    let started = watcher.until_phase("steady", "running");
    let began = started
        .iter()
        .find(|event| event["value"]["to"] == "preparing")
        .unwrap();
    assert_eq!(began["value"]["cause"], "start asked for by 'admin'");
    assert_eq!(last(&started)["pid"], hub.pid("steady"));
    hub.ok(&["stop", "steady"]);
    let stopped = watcher.until_phase("steady", "stopped");
    assert_eq!(last(&stopped)["cause"], "stopped by hand");
    assert_eq!(last(&stopped)["signal"], "SIGTERM");

    hub.hubcli(&["start", "early"]);
    let ended = watcher.until_phase("early", "backoff");
    let ended = last(&ended);
    assert_eq!(ended["exitCode"], 3);
    assert_eq!(ended["tail"][1], "out of luck");
    assert!(
        ended["restartInMS"].as_i64().unwrap() > 3_000_000,
        "{ended}"
    );

    hub.hubcli(&["start", "mute"]);
    let late = watcher.until_phase("mute", "backoff");
    assert!(
        last(&late)["cause"].as_str().unwrap().contains("not ready"),
        "{late:#?}"
    );
    hub.hubcli(&["start", "lost"]);
    let blocked = watcher.until_phase("lost", "blocked");
    assert!(last(&blocked)["restartInMS"].as_i64().unwrap() > 0);

    hub.ok(&["start", "deaf"]);
    hub.wait_log("deaf", "set");
    hub.ok(&["stop", "deaf"]);
    watcher.until_phase("deaf", "killing");
    let killed = watcher.until_phase("deaf", "stopped");
    assert_eq!(last(&killed)["signal"], "SIGKILL");

    hub.ok(&["start", "steady"]);
    signal_pid(hub.pid("steady"), 9);
    let crashed = watcher.until_phase("steady", "backoff");
    assert_eq!(last(&crashed)["signal"], "SIGKILL");
    watcher.interrupt();

    let shown = hub.ok(&["events", "steady"]);
    assert!(
        shown.contains("steady") && shown.contains("is backoff"),
        "{shown}"
    );
    assert_eq!(hub.hubcli(&["events", "nobody"]).status.code(), Some(1));
    hub.down();
}

#[test]
fn no_number_is_missing_when_the_core_is_killed_while_events_flow() {
    let home = Home::new(
        "corebin: mqttcore\nrestart: {firstDelay: 20ms, delay: 20ms, maxDelay: 20ms}\nautostart: [flapper]\n",
    );
    home.plugin("flapper", "exit 1");
    let hub = home.up();
    let first = Watcher::of(&hub);
    let seen = first.until_phase("flapper", "backoff");
    let (boot, mut newest) = position(last(&seen));
    for _ in 0..3 {
        let core = hub.pid("mqttcore");
        signal_pid(core, 9);
        eventually("another core runs", || {
            let list: Vec<Value> =
                serde_json::from_slice(&hub.hubcli(&["--json", "ls"]).stdout).ok()?;
            let found = list.into_iter().find(|info| info["Name"] == "mqttcore")?;
            (found["PID"] != core && found["Phase"] == "running").then_some(())
        });
        std::thread::sleep(Duration::from_millis(20));
    }
    // What happened without a bus is told when it is there again, before what happens then; who listens in between
    // sees numbers without gaps.
    let again = Watcher::of(&hub);
    let seen = again.until("many events", |event, value| {
        event == "plugin" && value["seq"].as_i64().unwrap() > newest + 100
    });
    let mut before = None;
    for event in seen.iter().filter(|event| event["event"] != "state") {
        let (its, seq) = position(&event["value"]);
        assert_eq!(its, boot);
        if let Some(before) = before {
            assert_eq!(seq, before + 1, "{event}");
        }
        before = Some(seq);
        newest = seq;
    }
    assert!(newest > 0);
    // Who listened all the while was told each time how all are, and goes on.
    let seen = first.until("an event after all that", |event, value| {
        event == "plugin" && value["seq"].as_i64().unwrap() >= newest
    });
    let all_shown =
        |event: &&Value| event["event"] == "state" && event["value"]["Name"] == "flapper";
    assert!(seen.iter().filter(all_shown).count() >= 1, "{seen:#?}");
    first.interrupt();
    drop(again);
    hub.down();
}

fn position(event: &Value) -> (String, i64) {
    (
        event["boot"].as_str().unwrap().to_owned(),
        event["seq"].as_i64().unwrap(),
    )
}
