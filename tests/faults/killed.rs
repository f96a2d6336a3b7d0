//! What a launcher that is killed leaves: on disk, and as processes that nobody can end.

use crate::chance::Chance;
use crate::hub::{Home, Hub, signal_pid};
use crate::means::left_out;
use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SLEEPER: &str = "exec sleep 1000";
const IDS: [&str; 3] = ["a", "b", "c"];
const ROUNDS: usize = 5;

/// hubcli, which is not waited for when the launcher does not live to answer.
fn shortly(hub: &Hub, args: &[&str]) -> bool {
    let mut command = Command::new("timeout");
    command.arg("2").arg(hub.path("bin/hubcli")).args(args);
    command
        .stdin(Stdio::null())
        .output()
        .unwrap()
        .status
        .success()
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    let seed = Chance::seed("KILL_SEED");
    let mut chance = Chance::new(seed);
    let home = Home::new("corebin: mqttcore\nautostart: [a]\nstop: {grace: 1s}\n");
    for id in IDS {
        home.plugin(id, SLEEPER);
    }
    let mut hub = home.up();
    hub.pid("a");
    let mut set = BTreeMap::from([("a", true), ("b", false), ("c", false)]);
    let mut runs = BTreeMap::from(IDS.map(|id| (id, 0)));
    for round in 0..ROUNDS {
        let (launcher, after) = (
            hub.launcher_pid(),
            Duration::from_millis(chance.next() % 300),
        );
        let killer = std::thread::spawn(move || {
            // Not a wait for something: the moment is to be any.
            std::thread::sleep(after);
            signal_pid(launcher, 9);
        });
        // What was asked for and not acknowledged may have been done or not.
        let mut open = BTreeMap::new();
        while !killer.is_finished() {
            let id = *chance.of(&IDS);
            let (deed, on) = *chance.of(&[
                ("start", true),
                ("stop", false),
                ("enable", true),
                ("disable", false),
            ]);
            if shortly(&hub, &[deed, id]) {
                set.insert(id, on);
                open.remove(id);
            } else {
                open.insert(id, on);
            }
        }
        killer.join().unwrap();
        hub.ended();
        hub.relaunch();
        for id in IDS {
            let said = format!("seed {seed}, round {round}: {id}\n{}", hub.account());
            let enabled = hub.info(id)["Enabled"].as_bool().unwrap();
            let known = set.insert(id, enabled).unwrap();
            assert!(enabled == known || open.contains_key(id), "{said}");
            let phase = if enabled { "running" } else { "stopped" };
            let run = hub.wait_phase(id, phase)["Run"].as_i64().unwrap();
            let before = runs.insert(id, run).unwrap();
            assert!(
                run > before || (run == before && !enabled),
                "{run} after {before}: {said}"
            );
        }
    }
    hub.down();
}

/// Who has hold of a process so that not even SIGKILL ends it: a stand-in for a disk that does not answer.
struct Holder(Child);

impl Holder {
    /// None where it may not be.
    fn of(pid: i32) -> Option<Holder> {
        let script = "import ctypes, sys, time
ptrace = ctypes.CDLL(None).ptrace
ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
# PTRACE_SEIZE with PTRACE_O_TRACEEXIT: its end waits for us.
if ptrace(0x4206, int(sys.argv[1]), None, 0x40) != 0: sys.exit(1)
print('held', flush=True)
time.sleep(1000)
";
        let mut child = Command::new("python3")
            .args(["-c", script, &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let out = child.stdout.as_mut().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut said).unwrap();
        let holder = Holder(child);
        (said == "held\n").then_some(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_does_not_even_die_keeps_its_own_plugin_waiting_and_no_other() {
    let home = Home::new(
        "logLevel: info\ncorebin: mqttcore\nautostart: [stuck, free]\nstop: {grace: 200ms}\n",
    );
    home.plugin("free", SLEEPER);
    // Where only a parent may take hold of a process, it allows it to all.
    home.executable(
        "stuck",
        "#!/usr/bin/env python3
import ctypes, time
ctypes.CDLL(None).prctl(0x59616d61, ctypes.c_ulong(-1).value, 0, 0, 0)
print('up', flush=True)
time.sleep(1000)
",
    );
    let mut hub = home.up();
    hub.wait_log("stuck", "up");
    let (stuck, free) = (hub.pid("stuck"), hub.pid("free"));
    let Some(holder) = Holder::of(stuck) else {
        hub.down();
        return left_out(
            "a process that SIGKILL does not end",
            "ptrace is not allowed here",
        );
    };
    hub.kill_and_relaunch();
    assert_ne!(hub.pid("free"), free);
    let blocked = hub.wait_phase("stuck", "blocked");
    let cause = blocked["Cause"].as_str().unwrap();
    let wanted =
        format!("process {stuck} (python3) of its run 1, left by a launcher before this one");
    assert!(cause.contains(&wanted), "{cause}");
    let why = hub.ok(&["why", "stuck"]);
    assert!(
        why.contains("starts by itself when that process is gone"),
        "{why}"
    );
    let started = hub.hubcli(&["start", "stuck"]);
    assert_eq!(started.status.code(), Some(1), "{started:?}");
    // The next launcher finds it, too.
    hub.kill_and_relaunch();
    hub.wait_phase("stuck", "blocked");
    hub.pid("free");
    drop(holder);
    let next = hub.pid("stuck");
    assert_ne!(next, stuck);
    assert_eq!(hub.info("stuck")["Run"], 2);
    hub.down();
}
