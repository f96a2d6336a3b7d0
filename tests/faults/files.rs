//! Programs that cannot be executed, and a plugins folder that is not there.

use crate::hub::{Home, Hub, eventually, signal_pid};
use crate::means::complaint;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

const SLEEPER: &str = "exec sleep 1000";

/// A file that is no plugin yet: how it fares, and what its error must name.
struct Bad {
    id: &'static str,
    phase: &'static str,
    cause: &'static str,
    way_out: &'static str,
}

const BADS: [Bad; 6] = [
    Bad {
        id: "noexec",
        phase: "blocked",
        cause: "/plugins/noexec is not executable",
        way_out: "chmod +x",
    },
    Bad {
        id: "wrong",
        phase: "backoff",
        cause: "fork/exec {}/plugins/wrong: exec format error",
        way_out: "first line names its interpreter",
    },
    Bad {
        id: "lost",
        phase: "backoff",
        cause: "its interpreter /nonexistent/python is missing",
        way_out: "install it or correct the script's first line",
    },
    Bad {
        id: "windows",
        phase: "backoff",
        cause: "its first line ends in a carriage return",
        way_out: "correct the script's first line",
    },
    Bad {
        id: "busy",
        phase: "blocked",
        cause: "fork/exec {}/plugins/busy: text file busy",
        way_out: "it is still being written",
    },
    Bad {
        id: "absent",
        phase: "blocked",
        cause: "no such file in plugins",
        way_out: "hubcli",
    },
];

fn says(hub: &Hub, bad: &Bad) {
    let cause = bad
        .cause
        .replace("{}", hub.path("").to_str().unwrap().trim_end_matches('/'));
    let info = hub.wait_phase(bad.id, bad.phase);
    for field in ["Status", "Cause"] {
        let text = info[field].as_str().unwrap();
        assert!(text.contains(&cause), "{}: {field}: {text}", bad.id);
    }
    assert_eq!(info["Running"], false);
    assert_eq!(info["StartCount"], 0, "{info}");
    let started = hub.hubcli(&["start", bad.id]);
    assert_eq!(started.status.code(), Some(1));
    let text = complaint(&started);
    assert!(
        text.starts_with(&format!("ERROR:  failed starting '{}': ", bad.id)),
        "{text}"
    );
    for part in [cause.as_str(), bad.way_out, "\nhint:  "] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(!text.contains("core.log"), "{text}");
}

#[test]
fn what_cannot_be_executed_is_told_with_cause_and_way_out_and_runs_once_mended() {
    let home = Home::new(
        "corebin: mqttcore\nautostart: [noexec, wrong, lost, windows, busy, absent, fine]\n\
         restart: {firstDelay: 1h, delay: 1h}\n",
    );
    home.plugin("fine", SLEEPER);
    home.plugin("noexec", SLEEPER);
    let noexec = home.path("plugins/noexec");
    fs::set_permissions(&noexec, fs::Permissions::from_mode(0o644)).unwrap();
    home.executable("wrong", "this is no program\n");
    home.executable("lost", "#!/nonexistent/python\n");
    home.executable("windows", "#!/bin/sh\r\nexec sleep 1000\r\n");
    home.plugin("busy", SLEEPER);
    let busy = fs::File::options()
        .append(true)
        .open(home.path("plugins/busy"))
        .unwrap();
    let hub = home.up();
    let fine = hub.pid("fine");
    for bad in &BADS {
        says(&hub, bad);
    }
    let table = hub.ok(&["ls"]);
    let row = |id: &str| {
        table
            .lines()
            .find(|line| line.starts_with(&format!("{id} ")))
            .unwrap()
    };
    assert!(
        row("wrong").contains("exec format error") && row("busy").contains("still being written"),
        "{table}"
    );
    assert_eq!(
        hub.info("busy")["Restarts"],
        0,
        "a file that is being written is no failure"
    );

    // What blocks is looked at again by itself; what failed waits for its delay, or is started by hand.
    drop(busy);
    fs::set_permissions(&noexec, fs::Permissions::from_mode(0o755)).unwrap();
    hub.home.plugin("absent", SLEEPER);
    for id in ["wrong", "lost", "windows"] {
        hub.home.plugin(id, SLEEPER);
        hub.ok(&["start", id]);
    }
    for bad in &BADS {
        hub.pid(bad.id);
    }
    assert_eq!(hub.pid("fine"), fine);
    hub.down();
}

#[test]
fn a_plugins_folder_that_is_missing_or_vanishes_costs_no_plugin() {
    let home = Home::new("logLevel: info\ncorebin: mqttcore\nrestart: {maxDelay: 1s}\n");
    fs::remove_dir(home.path("plugins")).unwrap();
    let hub = home.up();
    let is_listed = |id: &str| hub.list().iter().any(|info| info["Name"] == id);
    for id in ["steady", "crashing"] {
        hub.home.plugin(id, SLEEPER);
        eventually("it is found", || is_listed(id).then_some(()));
        hub.ok(&["start", id]);
    }
    let steady = hub.pid("steady");

    let (plugins, away) = (hub.path("plugins"), hub.path("plugins.away"));
    fs::rename(&plugins, &away).unwrap();
    hub.wait_log("launcher", "cannot read the plugins folder");
    let log = hub.log("launcher");
    assert!(
        log.contains(plugins.to_str().unwrap()) && log.contains("create it"),
        "{log}"
    );
    assert_eq!(hub.pid("steady"), steady);
    signal_pid(hub.pid("crashing"), 9);
    let info = hub.wait_phase("crashing", "blocked");
    let crashing = hub.path("plugins/crashing");
    assert!(
        info["Cause"]
            .as_str()
            .unwrap()
            .contains(crashing.to_str().unwrap()),
        "{info}"
    );

    fs::rename(&away, &plugins).unwrap();
    hub.wait_log("launcher", "the plugins folder can be read again");
    hub.pid("crashing");
    hub.home.plugin("late", SLEEPER);
    eventually("the folder is watched again", || {
        is_listed("late").then_some(())
    });

    // Another folder in its place: what was installed there is gone, what runs is not.
    fs::rename(&plugins, &away).unwrap();
    fs::create_dir(&plugins).unwrap();
    hub.home.plugin("newcomer", SLEEPER);
    eventually("the new folder is looked at", || {
        (is_listed("newcomer") && !is_listed("late")).then_some(())
    });
    assert_eq!(hub.pid("steady"), steady);
    hub.down();
}

#[test]
fn names_that_cannot_be_ids_are_shown_with_a_way_out_and_harm_nobody() {
    let odd = [
        "bad.name",
        "with space",
        "admin",
        "launcher",
        "new\nline",
        "esc\u{1b}[31m",
        "-rf",
        "_",
        "a/b",
    ];
    let home = Home::new(
        "corebin: mqttcore\nautostart: [good]\nplugins: {good: {instanceOf: bad.name}}\n",
    );
    for name in odd.iter().filter(|name| !name.contains('/')) {
        home.plugin(name, SLEEPER);
    }
    let bytes = std::ffi::OsStr::from_bytes(b"not\xffutf8");
    fs::copy(home.path("plugins/_"), home.path("plugins").join(bytes)).unwrap();
    home.plugin(".hidden", SLEEPER);
    fs::create_dir(home.path("plugins/folder")).unwrap();
    fs::write(home.path("plugins/empty"), "").unwrap();
    fs::set_permissions(
        home.path("plugins/empty"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    std::os::unix::fs::symlink("nowhere", home.path("plugins/dangling")).unwrap();
    let hub = home.up();
    hub.pid("good");
    let list = hub.list();
    let of = |name: &str| list.iter().find(|info| info["Name"] == name);
    for name in [
        "with space",
        "admin",
        "launcher",
        "new\nline",
        "esc\u{1b}[31m",
    ] {
        let info = of(name).unwrap_or_else(|| panic!("no {name:?} in {list:#?}"));
        assert_eq!(info["Phase"], "blocked", "{info}");
        assert!(
            info["Cause"].as_str().unwrap().contains("instanceOf"),
            "{info}"
        );
        let output = hub.hubcli(&["start", name]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
    for name in [".hidden", "folder", "empty", "dangling"] {
        assert!(of(name).is_none(), "{name}");
    }
    assert!(
        list.iter()
            .any(|info| info["Name"].as_str().unwrap().starts_with("not")),
        "{list:#?}"
    );
    let table = hub.ok(&["ls"]);
    assert!(!table.contains('\u{1b}'), "{table}");
    // Odd, but allowed: also for programs that would take it for an option.
    hub.ok(&["start", "--", "-rf"]);
    hub.ok(&["start", "_"]);
    hub.down();
}
