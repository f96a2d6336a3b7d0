//! What an operator reads when something is not as it should be: each kind on a hub that runs.

use crate::hub::{Home, Hub, eventually};
use serde_json::Value;
use std::net::TcpListener;

const SLEEPER: &str = "exec sleep 1000";

/// What `hubcli why NAME` says once it has all of `parts`.
fn why(hub: &Hub, name: &str, parts: &[&str]) -> String {
    let mut last = String::new();
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("it is explained", || {
            last = hub.ok(&["why", name]);
            parts.iter().all(|part| last.contains(part)).then_some(())
        });
    }));
    assert!(found.is_ok(), "{name}: {parts:?}\n{last}");
    last
}

/// The whole account, for programs.
fn account(hub: &Hub, name: &str) -> Value {
    serde_json::from_str(&hub.ok(&["--json", "why", name])).unwrap()
}

#[test]
fn what_is_waited_for_is_named_to_the_end_of_the_chain() {
    let home = Home::new(
        "corebin: mqttcore\ncreatePluginCred: false\nautostart: [a, b, c]\nplugins:\n  \
         a: {requires: [b]}\n  b: {requires: [c]}\n  c: {needs: [run/device]}\n",
    );
    for id in ["a", "b", "c"] {
        home.plugin(id, SLEEPER);
    }
    home.executable("weather.py", "#!/bin/sh\nexec sleep 1000\n");
    let hub = home.up();
    let device = hub.path("run/device");
    let missing = format!("needs {}, which is not there", device.display());
    why(
        &hub,
        "a",
        &[
            "a: blocked\n",
            "it is not started yet: it requires 'b', which is blocked: requires 'c', which is blocked: ",
            &missing,
            "to do       hubcli why b; when that is ready this one starts by itself\n",
        ],
    );
    why(
        &hub,
        "c",
        &[
            &missing,
            "to do       plug in or mount what is named, then it starts by itself; to try at once: hubcli start c\n",
        ],
    );
    // A file that is no plugin is explained, and nobody's wish.
    let refused = hub.ok(&["why", "weather.py"]);
    assert!(
        refused.contains("it is no plugin: the name has the character '.'")
            && refused.contains("plugins: {weather: {instanceOf: \"weather.py\"}}"),
        "{refused}"
    );
    let all = hub.ok(&["why"]);
    assert!(
        all.contains("a: blocked") && all.contains("c: blocked") && !all.contains("weather"),
        "{all}"
    );
    let all: Vec<Value> = serde_json::from_str(&hub.ok(&["--json", "why"])).unwrap();
    let names: Vec<_> = all
        .iter()
        .map(|one| one["info"]["Name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    std::fs::write(device, "").unwrap();
    hub.wait_phase("a", "running");
    assert_eq!(hub.ok(&["--json", "why"]), "[]\n");
    hub.down();
}

#[test]
fn readiness_that_does_not_come_says_what_was_waited_for() {
    // Held, so that nobody listens there.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let home = Home::new(&format!(
        "corebin: mqttcore\ncreatePluginCred: false\nautostart: [line, door, silent, slow]\n\
         restart: {{firstDelay: 1m}}\nplugins:\n  \
         line: {{ready: {{log: never}}, start: {{timeout: 300ms}}}}\n  \
         door: {{ready: {{connect: \"127.0.0.1:{port}\"}}, start: {{timeout: 300ms}}}}\n  \
         silent: {{ready: notify, start: {{timeout: 300ms}}}}\n  \
         slow: {{ready: {{log: later}}}}\n"
    ));
    for id in ["line", "door", "silent", "slow"] {
        home.plugin(id, SLEEPER);
    }
    let hub = home.up();
    for (id, missed) in [
        ("line", "no line of its output had 'never' in it".to_owned()),
        (
            "door",
            format!("nobody accepted connections at 127.0.0.1:{port}"),
        ),
        (
            "silent",
            "it had not said READY=1 at its NOTIFY_SOCKET".to_owned(),
        ),
    ] {
        why(
            &hub,
            id,
            &[
                &format!("{id}: backoff\n"),
                "it failed once and is tried again in ",
                &missed,
                &format!("raise plugins.{id}.start.timeout"),
                &format!("; then to try at once: hubcli start {id}\n"),
            ],
        );
        assert_eq!(account(&hub, id)["why"]["failure"], "notReady");
    }
    why(
        &hub,
        "slow",
        &[
            "slow: starting\n",
            "waits for   a line with 'later' in its output\n",
        ],
    );
    hub.down();
}

#[test]
fn what_runs_tells_what_it_says_and_uses_and_what_would_follow() {
    let home = Home::new(
        "corebin: mqttcore\ncreatePluginCred: false\nautostart: [talker]\nmonitor: {interval: 200ms}\n\
         plugins: {talker: {ready: notify}}\n",
    );
    home.executable(
        "talker",
        "#!/usr/bin/env python3
import os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b'READY=1\\nSTATUS=polling 3 meters', os.environ['NOTIFY_SOCKET'])
time.sleep(1000)
",
    );
    let hub = home.up();
    why(
        &hub,
        "talker",
        &[
            "why         it runs, run 1\n",
            "says        polling 3 meters\n",
            "% CPU, ",
            " at most, ",
            "policy      couldNotStart, outOfMemory: always, after 1s, then 1s and 2 times longer each, up to 1h\n",
            "policy      dependencyLost: it goes on without the other\n",
        ],
    );
    let policy = account(&hub, "talker")["why"]["policy"].clone();
    assert_eq!(policy.as_array().unwrap().len(), 9, "{policy}");
    for name in ["launcher", "core"] {
        why(&hub, name, &[" descriptors, "]);
        let info = account(&hub, name)["info"].clone();
        assert!(info["RSS"].as_i64().unwrap() > 1 << 20, "{info}");
        assert!(info["CPUTimeMS"].as_i64().unwrap() >= 0, "{info}");
        assert!(info["OpenFDs"].as_i64().unwrap() > 3, "{info}");
    }
    hub.ok(&["stop", "talker"]);
    why(
        &hub,
        "talker",
        &["it was stopped by admin, and is disabled: it does not start with the launcher either"],
    );
    hub.down();
}
