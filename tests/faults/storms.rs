//! Much at once, and children that turn against their group, the launcher or everybody (spec §17).
//!
//! What could reach foreign processes is done in a process namespace of the test's own.

use crate::hub::{Home, Hub, eventually, is_alive, processes_of, signal_pid};
use crate::means::{explained, in_own_processes, left_out};
use crate::without_bus::ask;
use serde_json::Value;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SLEEPER: &str = "exec sleep 1000";
const KILL: i32 = 9;

/// As long as an answer may take that other machines would wait 10 s for.
const AT_ONCE: Duration = Duration::from_secs(8);

fn list(hub: &Hub) -> Vec<Value> {
    let since = Instant::now();
    let answer = ask(hub, r#"{"method":"list"}"#);
    assert!(since.elapsed() < AT_ONCE, "{:?}", since.elapsed());
    answer["result"]["info"].as_array().unwrap().clone()
}

fn all_run(list: &[Value], run: i64) -> bool {
    list.iter()
        .all(|info| info["Phase"] == "running" && info["Run"] == run)
}

#[test]
fn two_hundred_crashes_at_once_are_answered_by_two_hundred_restarts() {
    let ids: Vec<String> = (0..200).map(|n| format!("p{n}")).collect();
    let plugins: String = ids
        .iter()
        .map(|id| format!("  {id}: {{instanceOf: sleeper}}\n"))
        .collect();
    let home = Home::new(&format!(
        "logLevel: info\ncreatePluginCred: false\nautostart: [{}]\nplugins:\n{plugins}",
        ids.join(", ")
    ));
    home.plugin("sleeper", SLEEPER);
    let hub = home.launch();
    let mine = |list: Vec<Value>| -> Vec<Value> {
        list.into_iter()
            .filter(|info| info["Name"] != "sleeper")
            .collect()
    };
    eventually("the socket is there", || {
        hub.path("run/launcher.sock").exists().then_some(())
    });
    let before = eventually("all run", || {
        let list = mine(list(&hub));
        (list.len() == ids.len() && all_run(&list, 1)).then_some(list)
    });
    for info in &before {
        signal_pid(i32::try_from(info["PID"].as_i64().unwrap()).unwrap(), KILL);
    }
    let after = eventually("all run again", || {
        let list = mine(list(&hub));
        all_run(&list, 2).then_some(list)
    });
    assert_eq!(after.len(), ids.len());
    assert!(after.iter().all(|info| info["Restarts"] == 1));
    let sleeps = hub.processes().len();
    assert_eq!(sleeps, ids.len(), "nobody runs twice, nobody is left");
    hub.down();
}

/// Makes zombies, tells how many it could make, and waits.
const ZOMBIES: &str = r#"#!/usr/bin/python3 -SE
import os, time
told = os.environ["HIVEOT_HOME"] + "/zombies"
if not os.path.exists(told):
    made = 0
    try:
        while made < 10000:
            if os.fork() == 0:
                os._exit(0)
            made += 1
    except OSError:
        pass
    with open(told + ".part", "w") as file:
        file.write(str(made))
    os.rename(told + ".part", told)
time.sleep(1000)
"#;

/// The zombies whose parent is this process.
fn zombies_of(parent: i32) -> usize {
    let mut count = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some((_, rest)) = stat.rsplit_once(") ") {
            let mut fields = rest.split(' ');
            let is_zombie = fields.next() == Some("Z");
            let is_child = fields.next() == Some(parent.to_string().as_str());
            count += usize::from(is_zombie && is_child);
        }
    }
    count
}

#[test]
fn ten_thousand_zombies_of_a_plugin_cost_only_their_places() {
    const NAME: &str = "storms::ten_thousand_zombies_of_a_plugin_cost_only_their_places";
    if !in_own_processes(NAME, "10,000 zombies") {
        return;
    }
    let home = Home::new(
        "logLevel: info\ncreatePluginCred: false\nautostart: [careless, other]\n\
         monitor: {interval: 1s}\nstart: {timeout: 5s}\n",
    );
    home.executable("careless", ZOMBIES);
    home.plugin("other", SLEEPER);
    let hub = home.launch();
    let made: usize = eventually("they are made", || {
        fs::read_to_string(hub.path("zombies")).ok()?.parse().ok()
    });
    if made < 10_000 {
        left_out(
            "10,000 zombies",
            &format!("the machine let only {made} be made"),
        );
    }
    let careless = hub.pid("careless");
    assert!(zombies_of(careless) >= made);
    // Everything else goes on as if they were not there.
    list(&hub);
    let other = hub.pid("other");
    signal_pid(other, KILL);
    eventually("the other one is back", || {
        (hub.pid("other") != other).then_some(())
    });
    hub.ok(&["restart", "other"]);
    // Without their parent they are the launcher's, who takes none of them for a run of its own.
    signal_pid(careless, KILL);
    eventually("it is back", || {
        (hub.pid("careless") != careless).then_some(())
    });
    eventually("all are reaped", || {
        (zombies_of(hub.launcher_pid()) == 0).then_some(())
    });
    hub.down();
}

#[test]
fn children_that_signal_their_group_or_the_launcher_hit_only_themselves() {
    let home = Home::new(
        "logLevel: info\ncreatePluginCred: false\nautostart: [group, parent, other]\n\
         restart: {firstDelay: 1h}\n",
    );
    // What a shell script in a hurry does to end its own children.
    home.plugin(
        "group",
        "trap '' TERM; sleep 1000 & sleep 0.3; kill -KILL 0; sleep 1000",
    );
    // The launcher is the parent of all: what ends a program that was not prepared for it.
    home.plugin(
        "parent",
        "for signal in HUP USR1 USR2 PIPE CHLD URG WINCH STOP; do kill -$signal $PPID; done; \
         sleep 0.2; kill -CONT $PPID; echo all sent; exec sleep 1000",
    );
    home.plugin("other", SLEEPER);
    let hub = home.launch();
    let (parent, other) = (hub.pid("parent"), hub.pid("other"));
    hub.wait_log("parent", "all sent");
    explained(&hub, "group", &["SIGKILL", "hubcli start group"]);
    hub.wait_log("launcher", "SIGHUP: the configuration is read anew");
    hub.ok(&["restart", "group"]);
    assert_eq!(hub.pid("parent"), parent);
    assert_eq!(hub.pid("other"), other);
    hub.down();
}

#[test]
fn a_child_that_kills_the_launcher_or_everybody_costs_no_state() {
    const NAME: &str = "storms::a_child_that_kills_the_launcher_or_everybody_costs_no_state";
    if !in_own_processes(NAME, "a plugin that kills everybody") {
        return;
    }
    let home = Home::new("logLevel: info\ncreatePluginCred: false\nautostart: [steady]\n");
    home.plugin("steady", SLEEPER);
    for (id, whom) in [("patricide", "$PPID"), ("everybody", "-1")] {
        let once = format!(
            "[ -e \"$HIVEOT_HOME/{id}\" ] || {{ : > \"$HIVEOT_HOME/{id}\"; kill -KILL {whom}; }}; {SLEEPER}"
        );
        home.plugin(id, &once);
    }
    let mut hub = home.launch();
    hub.pid("steady");
    for (id, runs) in [("patricide", 2), ("everybody", 3)] {
        // Who kills the launcher at its start may come before what was set by hand with that is on disk.
        assert!(hub.hubcli(&["enable", id]).status.success());
        // The answer does not come any more.
        let _ = hub.hubcli(&["start", id]);
        assert!(!hub.ended().success());
        hub.relaunch_unseen();
        let steady = hub.wait_phase("steady", "running");
        assert_eq!(steady["Run"], runs, "{steady}");
        hub.pid(id);
    }
    let homes: Vec<i32> = processes_of(&hub.path(""));
    assert!(
        homes.len() <= 3,
        "{homes:?} are more than the three that are to run"
    );
    hub.down();
}

/// Starts a process of nobody's that has this number; the number must be free.
fn stranger(pid: i32) -> Option<std::process::Child> {
    for _ in 0..50 {
        let last = (pid - 1).to_string();
        if fs::write("/proc/sys/kernel/ns_last_pid", last).is_err() {
            return None;
        }
        let mut command = Command::new("/bin/sleep");
        let mut child = command
            .arg("1000")
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        if child.id() == u32::try_from(pid).unwrap() {
            return Some(child);
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    None
}

/// Ends a process that has become a child of the test's, and waits until its number is free.
fn end_orphan(pid: i32) {
    signal_pid(pid, KILL);
    let pid = nix::unistd::Pid::from_raw(pid);
    eventually("it can be waited for", || {
        nix::sys::wait::waitpid(pid, None).ok()
    });
}

#[test]
fn a_pid_that_is_used_again_is_nobody_the_launcher_knows() {
    const NAME: &str = "storms::a_pid_that_is_used_again_is_nobody_the_launcher_knows";
    if !in_own_processes(NAME, "numbers of processes that are used again") {
        return;
    }
    let home = Home::new(
        "logLevel: info\ncreatePluginCred: false\nautostart: [worker, brief]\n\
         plugins: {brief: {restart: {policy: never}}}\n",
    );
    home.plugin("worker", SLEEPER);
    home.plugin("brief", "sleep 0.5; exit 3");
    let mut hub = home.launch();

    // Of a run that is over while the launcher lives.
    let worker = hub.pid("worker");
    let brief = eventually("it has run", || {
        let list = list(&hub);
        let brief = list.into_iter().find(|info| info["Name"] == "brief")?;
        (brief["Phase"] == "stopped" && brief["Run"] == 1).then_some(brief)
    });
    let log = hub.log("brief");
    let number = log
        .split("pid ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let number: i32 = number
        .unwrap_or_else(|| panic!("{log}\n{brief}"))
        .parse()
        .unwrap();
    let Some(mut first) = stranger(number) else {
        left_out(
            "numbers of processes that are used again",
            "ns_last_pid cannot be written",
        );
        hub.down();
        return;
    };
    hub.ok(&["stop", "brief"]);
    hub.ok(&["restart", "brief"]);
    assert!(is_alive(number), "a stranger was signalled");

    // Of a run that ends while there is no launcher.
    signal_pid(hub.launcher_pid(), KILL);
    hub.ended();
    end_orphan(worker);
    let mut second = stranger(worker).unwrap();
    hub.relaunch_unseen();
    let again = hub.pid("worker");
    assert_ne!(again, worker);
    assert_eq!(hub.info("worker")["Run"], 2);
    assert!(is_alive(worker), "a stranger was ended as a leftover");
    hub.ok(&["stop", "worker"]);
    hub.down();
    for child in [&mut first, &mut second] {
        assert!(child.try_wait().unwrap().is_none(), "a stranger was ended");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
