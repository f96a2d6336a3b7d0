//! Start, crash, backoff, and stop of children of every temper.

use crate::hub::{Home, eventually, is_alive, signal_pid};
use std::fs;

const CORE: &str = "corebin: mqttcore\n";

fn read_pid(path: &std::path::Path) -> i32 {
    eventually(&format!("a pid in {}", path.display()), || {
        fs::read_to_string(path).ok()?.trim().parse().ok()
    })
}

#[test]
fn a_hub_starts_its_plugins_in_order_and_ends_all_of_them() {
    let home = Home::new(&format!("{CORE}autostart: [one, two, three]\n"));
    for id in ["three", "one", "two"] {
        home.plugin(id, "echo hello from $0; exec sleep 1000");
    }
    let hub = home.up();
    let starts: Vec<i64> = ["one", "two", "three"]
        .iter()
        .map(|id| {
            hub.wait_phase(id, "running")["StartTimeMSE"]
                .as_i64()
                .unwrap()
        })
        .collect();
    assert!(starts.is_sorted(), "{starts:?}");
    let core = hub.info("mqttcore");
    assert_eq!(core["Phase"], "running");
    assert!(core["StartTimeMSE"].as_i64().unwrap() <= starts[0]);
    hub.wait_log("one", "hello from");
    let log = hub.log("one");
    assert!(
        log.starts_with("--- ") && log.contains(" one run 1 started, pid "),
        "{log}"
    );
    for suffix in ["key", "pub", "token"] {
        assert!(hub.path(format!("certs/one.{suffix}")).exists(), "{suffix}");
    }
    // That there is no core before it was started is no fault.
    let log = hub.log("launcher");
    assert!(!log.contains("no bus"), "{log}");
    hub.down();
}

#[test]
fn a_plugin_that_crashes_is_back_at_once_and_then_slower() {
    let home = Home::new(&format!(
        "{CORE}autostart: [flaky]\nrestart: {{delay: 300ms, jitter: 0}}\n"
    ));
    home.plugin("flaky", "echo run; exec sleep 1000");
    let hub = home.up();
    for _ in 0..2 {
        let pid = hub.pid("flaky");
        signal_pid(pid, 9);
        eventually("a new run", || {
            let info = hub.info("flaky");
            (info["Phase"] == "running" && info["PID"] != pid).then_some(())
        });
    }
    let info = hub.info("flaky");
    assert_eq!(info["Restarts"], 2);
    assert_eq!(info["StartCount"], 3);
    assert_eq!(info["Signal"], "SIGKILL");
    hub.wait_log("flaky", "flaky run 2 ended: ended by SIGKILL, after ");
    hub.down();
}

#[test]
fn a_plugin_that_fails_is_told_of_with_its_exit_and_its_last_lines() {
    let home = Home::new(&format!("{CORE}restart: {{firstDelay: 1h, delay: 1h}}\n"));
    home.plugin("bad", "echo I cannot find my sensor >&2; exit 3");
    let hub = home.up();
    let output = hub.hubcli(&["start", "bad"]);
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("ERROR:  exit status 3"), "{err}");
    assert!(err.contains("I cannot find my sensor"), "{err}");
    let info = hub.wait_phase("bad", "backoff");
    assert_eq!(
        info["Status"],
        "Plugin 'bad' has stopped with: exit status 3"
    );
    assert_eq!(info["Enabled"], true);
    hub.down();
}

#[test]
fn stop_ends_children_that_ignore_it_are_stopped_or_have_left_their_group() {
    let home = Home::new(&format!("{CORE}stop: {{grace: 300ms}}\n"));
    home.plugin("willing", "exec sleep 1000");
    home.plugin("stubborn", "trap '' TERM; while :; do sleep 1000; done");
    home.plugin("frozen", "exec sleep 1000");
    home.plugin(
        "forker",
        "setsid sh -c 'sleep 1000 </dev/null >/dev/null 2>&1 & echo $! > \"$HIVEOT_HOME/grandchild\"' \n exec sleep 1000",
    );
    let hub = home.up();
    let all = ["willing", "stubborn", "frozen", "forker"];
    for id in all {
        hub.ok(&["start", id]);
    }
    let grandchild = read_pid(&hub.path("grandchild"));
    assert!(is_alive(grandchild));
    signal_pid(hub.pid("frozen"), 19);
    let pids: Vec<i32> = all.iter().map(|id| hub.pid(id)).collect();
    for id in all {
        let text = hub.ok(&["stop", id]);
        assert!(text.contains(&format!("Service '{id}' stopped")), "{text}");
        let info = hub.info(id);
        assert_eq!(
            (&info["Phase"], &info["Status"]),
            (&"stopped".into(), &"stopped by user".into())
        );
    }
    for pid in pids {
        assert!(!is_alive(pid));
    }
    assert!(!is_alive(grandchild), "the grandchild was left");
    hub.down();
}

#[test]
fn what_a_main_process_leaves_behind_is_ended_before_the_next_run() {
    let home = Home::new(&format!(
        "{CORE}autostart: [leaver]\nrestart: {{delay: 1h}}\nstop: {{grace: 300ms}}\n"
    ));
    // The second run finds no trace of the child of the first.
    home.plugin(
        "leaver",
        "n=$(cat \"$HIVEOT_HOME/n\" 2>/dev/null || echo 0); echo $((n+1)) > \"$HIVEOT_HOME/n\"\n\
         if [ $n = 0 ]; then setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $! > \"$HIVEOT_HOME/left\"; sleep 0.3; exit 1; fi\n\
         exec sleep 1000",
    );
    let hub = home.up();
    let left = read_pid(&hub.path("left"));
    eventually("the second run", || {
        let info = hub.info("leaver");
        (info["Run"] == 2 && info["Phase"] == "running").then_some(())
    });
    assert!(!is_alive(left));
    hub.down();
}

#[test]
fn a_plugin_added_later_is_found_and_one_that_is_removed_vanishes() {
    let home = Home::new(CORE);
    let hub = home.up();
    hub.home.plugin("late", "exec sleep 1000");
    eventually("late is listed", || {
        hub.list()
            .iter()
            .any(|info| info["Name"] == "late")
            .then_some(())
    });
    hub.ok(&["start", "late"]);
    hub.ok(&["stop", "late"]);
    fs::remove_file(hub.path("plugins/late")).unwrap();
    eventually("late is gone", || {
        (!hub.list().iter().any(|info| info["Name"] == "late")).then_some(())
    });
    hub.down();
}

#[test]
fn a_plugin_is_started_right_after_it_was_installed() {
    let hub = Home::new(CORE).up();
    for name in ["first", "second", "third"] {
        hub.home.plugin(name, "exec sleep 1000");
        hub.ok(&["start", name]);
    }
    assert_eq!(hub.hubcli(&["start", "fourth"]).status.code(), Some(1));
    hub.down();
}
