//! Disks that are full: for credentials, for logs, for what is remembered.
//!
//! Each is a small file system that only the hub sees; hubcli is run beside it.

use crate::hub::{Home, Hub, eventually};
use crate::means::{beside, complaint, has_private_mounts, left_out, private_mounts};
use serde_json::Value;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

const SLEEPER: &str = "exec sleep 1000";

/// A hub with one of its folders on a disk of its own.
struct Confined {
    hub: Hub,
    folder: &'static str,
}

impl Confined {
    fn up(home: Home, folder: &'static str) -> Option<Confined> {
        if !has_private_mounts() {
            left_out(
                "a full disk",
                "needs mounts of its own (unshare -m, or user namespaces)",
            );
            return None;
        }
        std::fs::create_dir(home.path(folder)).unwrap();
        let mut command = private_mounts();
        let script = "mount -t tmpfs -o size=4m,mode=755 none \"$0\" && exec \"$1\"";
        command
            .args(["sh", "-c", script])
            .arg(home.path(folder))
            .arg(home.path("bin/launcher"));
        let confined = Confined {
            hub: home.launch_by(command),
            folder,
        };
        eventually("the hub answers", || confined.list());
        Some(confined)
    }

    fn hubcli(&self, args: &[&str]) -> Output {
        beside(&self.hub, &self.hub.path("bin/hubcli"), args)
    }

    fn list(&self) -> Option<Vec<Value>> {
        serde_json::from_slice(&self.hubcli(&["--json", "ls"]).stdout).ok()
    }

    fn info(&self, id: &str) -> Option<Value> {
        self.list()?.into_iter().find(|info| info["Name"] == id)
    }

    fn wait_phase(&self, id: &str, phase: &str) -> Value {
        eventually(&format!("{id} is {phase}\n{}", self.hub.account()), || {
            self.info(id).filter(|info| info["Phase"] == phase)
        })
    }

    fn filler(&self) -> String {
        self.hub
            .path(self.folder)
            .join("filler")
            .display()
            .to_string()
    }

    fn fill(&self) {
        let fill = beside(
            &self.hub,
            Path::new("dd"),
            &["if=/dev/zero", "bs=1k", &format!("of={}", self.filler())],
        );
        assert!(complaint(&fill).contains("No space left"), "{fill:?}");
    }

    fn make_room(&self) {
        assert!(
            beside(&self.hub, Path::new("rm"), &[&self.filler()])
                .status
                .success()
        );
    }

    /// A file in the folder, as the hub has it.
    fn read(&self, name: &str) -> String {
        let path = self.hub.path(self.folder).join(name);
        let output = beside(&self.hub, Path::new("cat"), &[path.to_str().unwrap()]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn files(&self) -> Vec<String> {
        let folder = self.hub.path(self.folder);
        let output = beside(
            &self.hub,
            Path::new("ls"),
            &["-A", folder.to_str().unwrap()],
        );
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

/// By time alone they would be tried again when the test is long over.
const PATIENT: &str = "restart: {on: {credential: {firstDelay: 1h, delay: 1h, maxDelay: 1h}, \
                       earlyExit: {firstDelay: 1h, delay: 1h, maxDelay: 1h}}}\n";

#[test]
fn without_room_for_credentials_only_who_has_none_is_blocked_and_room_that_returns_is_a_cause() {
    let home = Home::new(&format!("corebin: mqttcore\nautostart: [old]\n{PATIENT}"));
    home.plugin("old", SLEEPER);
    home.plugin("new", SLEEPER);
    // It has credentials, and cannot live without room all the same.
    let own = "dd if=/dev/zero of=\"$HIVEOT_HOME/certs/own.$HIVEOT_RUN\" bs=64k count=2 2>/dev/null || exit 1";
    home.plugin("writer", &format!("{own}\n{SLEEPER}"));
    let Some(confined) = Confined::up(home, "certs") else {
        return;
    };
    let old = confined.wait_phase("old", "running")["PID"].clone();
    assert!(confined.hubcli(&["start", "writer"]).status.success());
    assert!(confined.hubcli(&["stop", "writer"]).status.success());
    confined.fill();
    assert_eq!(confined.hubcli(&["start", "writer"]).status.code(), Some(1));
    confined.wait_phase("writer", "backoff");
    let started = confined.hubcli(&["start", "new"]);
    assert_eq!(started.status.code(), Some(1));
    let text = complaint(&started);
    let key = confined.hub.path("certs/new.key");
    assert!(
        text.contains(key.to_str().unwrap()) && text.contains("No space left"),
        "{text}"
    );
    let blocked = confined.wait_phase("new", "blocked");
    assert!(
        blocked["Status"]
            .as_str()
            .unwrap()
            .contains("No space left"),
        "{blocked}"
    );
    assert_eq!(confined.info("old").unwrap()["PID"], old);
    for id in ["new", "writer"] {
        let told = format!(
            "room on the disk of {}",
            confined.hub.path("certs").display()
        );
        eventually(&format!("why {id} says what it waits for"), || {
            let why = confined.hubcli(&["why", id]);
            String::from_utf8_lossy(&why.stdout)
                .contains(&told)
                .then_some(())
        });
    }

    confined.make_room();
    confined.wait_phase("new", "running");
    confined.wait_phase("writer", "running");
    let files = confined.files();
    assert!(files.iter().any(|file| file == "new.token"), "{files:?}");
    assert!(
        !files.iter().any(|file| file.starts_with('.')),
        "half a file is left: {files:?}"
    );
    confined.hub.down();
}

/// The number of a whole line of the writer.
fn number(line: &str) -> Option<u64> {
    let digits = line
        .strip_prefix("line ")
        .filter(|digits| digits.len() > PAD)?;
    digits.parse().ok()
}

const PAD: usize = 4000;

#[test]
fn without_room_for_logs_plugins_write_on_and_are_started_and_the_gap_is_told() {
    let home = Home::new("corebin: mqttcore\nautostart: [writer]\nlogs: {maxSize: 0}\n");
    // It counts in a file of its own how far it has come, which says whether it was held up.
    home.plugin(
        "writer",
        "pad=$(printf %04000d 0)\ni=0\nwhile :; do i=$((i+1)); echo line $pad$i; echo $i > \"$HIVEOT_HOME/reached.part\"; mv \"$HIVEOT_HOME/reached.part\" \"$HIVEOT_HOME/reached\"; sleep 0.01; done",
    );
    home.plugin("other", SLEEPER);
    let Some(confined) = Confined::up(home, "logs") else {
        return;
    };
    let reached = || -> u64 {
        eventually("the writer counts", || {
            std::fs::read_to_string(confined.hub.path("reached"))
                .ok()?
                .trim()
                .parse()
                .ok()
        })
    };
    confined.wait_phase("writer", "running");
    confined.fill();
    let before = reached();
    // A page of the log may still have room.
    eventually("the writer goes on", || {
        (reached() > before + 600).then_some(())
    });
    assert!(confined.hubcli(&["start", "other"]).status.success());
    assert_eq!(confined.info("other").unwrap()["Phase"], "running");
    assert_eq!(confined.info("writer").unwrap()["StartCount"], 1);

    confined.make_room();
    let after = reached();
    let written = |log: &str| log.lines().filter_map(number).max();
    eventually("logging goes on", || {
        (written(&confined.read("writer.log")) > Some(after)).then_some(())
    });
    let log = confined.read("writer.log");
    let note = log
        .lines()
        .find(|line| line.starts_with("--- ") && line.contains(" dropped "));
    assert!(
        note.is_some_and(|note| note.contains(" lines (") && note.contains("no space left")),
        "{note:?}"
    );
    let own = |line: &str| line.starts_with("--- ");
    let torn: Vec<&str> = log
        .lines()
        .filter(|line| !own(line) && number(line).is_none())
        .collect();
    assert!(torn.is_empty(), "{torn:?}");
    let numbers: Vec<u64> = log.lines().filter_map(number).collect();
    assert!(numbers.is_sorted());
    confined.hub.down();
}

#[test]
fn without_room_what_is_due_waits_and_is_renewed_when_there_is_some() {
    let home = Home::new("corebin: mqttcore\nautostart: [keeper]\n");
    home.plugin("keeper", SLEEPER);
    let Some(confined) = Confined::up(home, "certs") else {
        return;
    };
    let pid = confined.wait_phase("keeper", "running")["PID"].clone();
    let files = ["keeper.token", "keeperCert.pem"];
    let paths = files.map(|file| confined.hub.path("certs").join(file).display().to_string());
    // What they took is taken at once; on a slow machine they may be back before, and it is done again.
    let said = format!("it is said\n{}", confined.hub.account());
    eventually(&said, || {
        beside(
            &confined.hub,
            Path::new("rm"),
            &["-f", &paths[0], &paths[1]],
        );
        confined.fill();
        std::thread::sleep(Duration::from_millis(600));
        let log = confined.hub.log("launcher");
        (log.contains("it waits for new credentials") && log.contains("No space left"))
            .then_some(())
    });
    confined.make_room();
    for file in files {
        eventually(&format!("{file}\n{}", confined.hub.account()), || {
            (!confined.read(file).is_empty()).then_some(())
        });
    }
    assert_eq!(confined.info("keeper").unwrap()["PID"], pid);
    confined.hub.down();
}

#[test]
fn without_room_to_remember_what_is_set_by_hand_still_works_now_and_is_said() {
    let home = Home::new("corebin: mqttcore\nautostart: [on]\n");
    home.plugin("on", SLEEPER);
    home.plugin("off", SLEEPER);
    let Some(confined) = Confined::up(home, "stores") else {
        return;
    };
    confined.wait_phase("on", "running");
    // It is known to the core, which would have to remember it, too.
    for deed in ["start", "stop"] {
        assert!(confined.hubcli(&[deed, "off"]).status.success());
    }
    confined.fill();
    for (deed, id, phase) in [("stop", "on", "stopped"), ("start", "off", "running")] {
        // Whether it is told as an error is another matter; it is done.
        confined.hubcli(&[deed, id]);
        confined.wait_phase(id, phase);
    }
    // The page it is on may have room for some more.
    let journal = confined.hub.path("stores/launcher/journal");
    eventually("it is said that nothing is remembered", || {
        for deed in ["enable", "disable"] {
            confined.hubcli(&[deed, "on"]);
        }
        confined
            .hub
            .log("launcher")
            .contains(journal.to_str().unwrap())
            .then_some(())
    });
    confined.make_room();
    for (deed, id, phase) in [("start", "on", "running"), ("stop", "off", "stopped")] {
        assert!(confined.hubcli(&[deed, id]).status.success());
        confined.wait_phase(id, phase);
    }
    confined.hub.down();
}

#[test]
fn without_room_in_the_run_folder_plugins_are_started_all_the_same_or_it_is_told() {
    let home = Home::new(
        "logLevel: info\ncreatePluginCred: false\nautostart: [worker]\nrestart: {delay: 100ms, maxDelay: 500ms}\n",
    );
    home.plugin("worker", SLEEPER);
    let Some(confined) = Confined::up(home, "run") else {
        return;
    };
    confined.wait_phase("worker", "running");
    confined.fill();
    for round in 1..4 {
        confined.hubcli(&["restart", "worker"]);
        let info = confined.info("worker").unwrap();
        let cause = info["Cause"].as_str().unwrap();
        assert!(
            info["Phase"] == "running" || cause.contains("no space left"),
            "{round}: {info}"
        );
    }
    confined.make_room();
    confined.hubcli(&["start", "worker"]);
    confined.wait_phase("worker", "running");
    // What is left there vanishes with the file system, which is seen by nobody else.
    let mut hub = confined.hub;
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0));
    assert!(hub.processes().is_empty());
}
