//! When a plugin counts as ready, and what becomes of one that does not say so, or falls silent later.

use crate::hub::{Home, Hub, eventually, signal_pid};
use crate::plain::counter;

const CORE: &str = "corebin: mqttcore\n";

/// A plugin that says what its script says, to the socket that it was given, as systemd's services do.
fn speaker(home: &Home, id: &str, script: &str) {
    let text = format!(
        "#!/usr/bin/env python3
import os, socket, time
def say(text):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.sendto(text.encode(), os.environ['NOTIFY_SOCKET'])
{script}
time.sleep(1000)
"
    );
    home.executable(id, &text);
}

/// Waits until a plugin has been started again, with what its log says of the end of its first run.
fn ended_once(hub: &Hub, id: &str, cause: &str) {
    hub.wait_log(id, cause);
    eventually("a second run", || {
        (hub.info(id)["Run"].as_i64()? >= 2).then_some(())
    });
}

#[test]
fn who_falls_silent_is_stopped_by_its_watchdog_and_started_again() {
    let home = Home::new(&format!(
        "{CORE}autostart: [silent, alive]\nplugins:\n  silent: {{ready: notify, watchdog: 1s}}\n  \
         alive: {{ready: notify, watchdog: 1s}}\n"
    ));
    speaker(&home, "silent", "say('READY=1\\nSTATUS=all is well')");
    let feeds =
        "say('READY=1')\nfor _ in range(10000):\n    say('WATCHDOG=1')\n    time.sleep(0.2)";
    speaker(&home, "alive", feeds);
    let hub = home.up();
    hub.wait_phase("alive", "running");
    ended_once(
        &hub,
        "silent",
        "was stopped by its watchdog: no sign of life for 1.0 s",
    );
    assert_eq!(hub.info("alive")["Restarts"], 0);
    let why = hub.ok(&["why", "silent"]);
    assert!(why.contains("watchdog"), "{why}");
    hub.down();
}

#[test]
fn who_is_not_ready_in_time_is_stopped_and_who_asks_for_more_gets_it() {
    let home = Home::new(&format!(
        "{CORE}autostart: [late, asks]\nplugins:\n  late: {{ready: notify, start: {{timeout: 500ms}}}}\n  \
         asks: {{ready: notify, start: {{timeout: 6s}}}}\n"
    ));
    speaker(&home, "late", "");
    let asks = "say('EXTEND_TIMEOUT_USEC=60000000')\ntime.sleep(7)\nsay('READY=1')";
    speaker(&home, "asks", asks);
    let hub = home.up();
    ended_once(&hub, "late", "was stopped, not ready after 0.5 s");
    hub.wait_phase("asks", "running");
    assert_eq!(hub.info("asks")["Run"], 1);
    hub.down();
}

#[test]
fn a_line_a_connection_or_the_login_at_the_bus_make_ready() {
    let home = Home::new(&format!(
        "{CORE}autostart: [line, door, counter, mute]\nplugins:\n  line: {{ready: {{log: \"^is o.en$\"}}}}\n  \
         door: {{ready: {{connect: run/door.sock}}}}\n  counter: {{ready: bus}}\n  \
         mute: {{ready: {{log: never}}, start: {{timeout: 500ms}}}}\n"
    ));
    home.plugin("line", "sleep 0.2; echo is open; exec sleep 1000");
    home.plugin("mute", "exec sleep 1000");
    home.executable(
        "door",
        "#!/usr/bin/env python3
import os, socket, time
if os.path.exists('run/door.sock'): os.remove('run/door.sock')
s = socket.socket(socket.AF_UNIX)
s.bind('run/door.sock')
s.listen()
time.sleep(1000)
",
    );
    counter(&home);
    let hub = home.up();
    for id in ["line", "door", "counter"] {
        hub.wait_phase(id, "running");
        assert_eq!(hub.info(id)["Run"], 1, "{id}");
    }
    ended_once(&hub, "mute", "was stopped, not ready after 0.5 s");
    hub.down();
}

#[test]
fn a_plugin_that_a_reload_makes_ready_by_the_bus_is_heard_there() {
    let home = Home::new(&format!("{CORE}autostart: [waits]\n"));
    home.plugin("waits", "exec sleep 1000");
    counter(&home);
    let hub = home.up();
    hub.wait_phase("waits", "running");
    let by_bus =
        "plugins:\n  counter: {ready: bus}\n  waits: {ready: bus, start: {timeout: 500ms}}\n";
    let text = format!("{CORE}autostart: [waits, counter]\n{by_bus}");
    std::fs::write(hub.path("config/launcher.yaml"), text).unwrap();
    hub.ok(&["reload"]);
    hub.wait_phase("counter", "running");
    assert_eq!(hub.info("counter")["Run"], 1);
    // Who never logs in is not ready by being alive any more.
    hub.wait_log("waits", "was stopped, not ready after 0.5 s");
    // A connection after that asks for the same again.
    signal_pid(hub.pid("mqttcore"), 9);
    eventually("the counter is seen to log in at the next core", || {
        let restarted = hub.hubcli(&["restart", "counter"]);
        let info: Vec<serde_json::Value> =
            serde_json::from_slice(&hub.hubcli(&["--json", "ls"]).stdout).ok()?;
        let info = info.into_iter().find(|info| info["Name"] == "counter")?;
        (restarted.status.success() && info["Phase"] == "running").then_some(())
    });
    hub.down();
}
