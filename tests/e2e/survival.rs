//! kill -9 of the core and of the launcher, and what is remembered.

use crate::hub::{Home, eventually, is_alive, signal_pid};
use std::fs;

#[test]
fn the_core_comes_back_and_plugins_keep_their_pids() {
    let home = Home::new("corebin: mqttcore\nautostart: [keeper]\n");
    home.plugin("keeper", "exec sleep 1000");
    let hub = home.up();
    let keeper = hub.pid("keeper");
    let core = hub.pid("mqttcore");
    signal_pid(core, 9);
    eventually("a new core", || {
        let output = hub.hubcli(&["--json", "ls"]);
        let list: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).ok()?;
        let info = list.into_iter().find(|info| info["Name"] == "mqttcore")?;
        (info["PID"] != core && info["Phase"] == "running").then_some(())
    });
    assert_eq!(hub.pid("keeper"), keeper);
    hub.ok(&["restart", "keeper"]);
    assert_ne!(hub.pid("keeper"), keeper);
    hub.down();
}

#[test]
fn a_successor_ends_what_a_killed_launcher_left_and_never_doubles_it() {
    let home = Home::new("corebin: mqttcore\nautostart: [single]\n");
    // A second copy would find the lock taken, and say so.
    home.plugin(
        "single",
        "mkdir \"$HIVEOT_HOME/lock\" 2>/dev/null || { echo DOUBLED >> \"$HIVEOT_HOME/doubled\"; exit 1; }\n\
         trap 'rmdir \"$HIVEOT_HOME/lock\"; exit 0' TERM\n\
         while :; do sleep 0.1; done",
    );
    let mut hub = home.up();
    let (single, core) = (hub.pid("single"), hub.pid("mqttcore"));
    hub.kill_and_relaunch();
    eventually("a new copy", || {
        let info = hub.info("single");
        (info["Phase"] == "running" && info["PID"] != single).then_some(())
    });
    assert!(!is_alive(single) && !is_alive(core));
    assert_eq!(hub.info("single")["Run"], 2);
    assert!(!hub.path("doubled").exists());
    hub.down();
}

#[test]
fn what_was_set_by_hand_survives_the_launcher() {
    let home = Home::new("corebin: mqttcore\nautostart: [listed]\n");
    for id in ["listed", "other", "third"] {
        home.plugin(id, "exec sleep 1000");
    }
    let mut hub = home.up();
    hub.pid("listed");
    hub.ok(&["stop", "listed"]);
    hub.ok(&["start", "other"]);
    hub.ok(&["enable", "third"]);
    assert_eq!(hub.info("third")["Phase"], "stopped");
    hub.kill_and_relaunch();
    hub.pid("other");
    hub.pid("third");
    assert_eq!(hub.info("listed")["Phase"], "stopped");
    assert_eq!(hub.info("listed")["Enabled"], false);
    hub.ok(&["stop", "all"]);
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0));
    hub.relaunch();
    // Stopping all was a wish, not a setting (spec §9).
    hub.pid("other");
    hub.down();
}

#[test]
fn numbers_causes_and_restarts_survive_the_kill_of_the_launcher() {
    let home = Home::new(
        "corebin: mqttcore\nautostart: [steady]\nplugins:\n  once: {restart: {policy: never}}\n",
    );
    home.plugin("steady", "exec sleep 1000");
    home.plugin("once", "echo my last words; exit 3");
    let mut hub = home.up();
    assert_eq!(hub.hubcli(&["start", "once"]).status.code(), Some(1));
    hub.ok(&["disable", "once"]);
    signal_pid(hub.pid("steady"), 9);
    eventually("it is restarted", || {
        let info = hub.info("steady");
        (info["Phase"] == "running" && info["Restarts"] == 1).then_some(())
    });
    eventually("all is in the journal", || {
        let text = fs::read_to_string(hub.path("stores/launcher/journal")).ok()?;
        let parts = ["my last words", "\"restarts\":1", "\"signal\":9"];
        parts.iter().all(|part| text.contains(part)).then_some(())
    });
    hub.kill_and_relaunch();
    hub.pid("steady");
    let once = hub.info("once");
    assert_eq!(
        (&once["Phase"], &once["Run"]),
        (&"stopped".into(), &1.into())
    );
    assert_eq!(once["ExitCode"], 3);
    let cause = once["Cause"].as_str().unwrap();
    assert!(
        cause.contains("exited with code 3 before it was ready"),
        "{once}"
    );
    let steady = hub.info("steady");
    assert_eq!(
        (&steady["Run"], &steady["Restarts"]),
        (&3.into(), &1.into())
    );
    assert_eq!(
        (&steady["StartCount"], &steady["Signal"]),
        (&1.into(), &"SIGKILL".into())
    );
    hub.down();
}

#[test]
fn a_second_launcher_is_refused_with_the_pid_of_the_first() {
    let hub = Home::new("corebin: mqttcore\n").up();
    let second = std::process::Command::new(hub.path("bin/launcher"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains(&hub.launcher_pid().to_string()), "{text}");
    hub.down();
}

#[test]
fn a_second_signal_kills_what_does_not_want_to_end() {
    let home =
        Home::new("logLevel: info\ncorebin: mqttcore\nautostart: [deaf]\nstop: {grace: 1h}\n");
    home.plugin("deaf", "trap '' TERM; while :; do sleep 1000; done");
    let mut hub = home.up();
    let deaf = hub.pid("deaf");
    hub.signal_launcher(15);
    hub.wait_log("launcher", "asked to stop");
    assert!(is_alive(deaf));
    hub.signal_launcher(2);
    assert_eq!(hub.ended().code(), Some(0));
    assert!(!is_alive(deaf));
    hub.assert_nothing_lives();
}

#[test]
fn without_a_core_plugins_run_when_they_need_no_credentials_and_are_blocked_when_they_do() {
    let home = Home::new("createPluginCred: false\nautostart: [free]\n");
    home.plugin("free", "echo up; exec sleep 1000");
    let mut hub = home.launch();
    hub.wait_log("free", "up");
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0));
    hub.assert_nothing_left();
    drop(hub);

    let home = Home::new("logLevel: info\nautostart: [bound]\n");
    home.plugin("bound", "echo up; exec sleep 1000");
    let mut hub = home.launch();
    hub.wait_log("launcher", "to=blocked");
    assert_eq!(hub.log("bound"), "");
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0));
}
