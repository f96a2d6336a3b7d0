//! A reload of real plugins: by hubcli, by SIGHUP, and of files that are of no use.

use crate::hub::{Home, Hub, eventually};
use std::fs;
use std::path::PathBuf;

const WAITS: &str = "exec sleep 1000";

fn config(autostart: &str, plugins: &str) -> String {
    format!("corebin: mqttcore\nautostart: [{autostart}]\nplugins: {{{plugins}}}\n")
}

fn write(hub: &Hub, text: &str) -> PathBuf {
    let file = hub.path("config/launcher.yaml");
    // As a whole: a reload may be on its way.
    let part = hub.path("config/launcher.yaml.part");
    fs::write(&part, text).unwrap();
    fs::rename(&part, &file).unwrap();
    file
}

fn home() -> Home {
    let home = Home::new(&config(
        "same, changed, dropped",
        "changed: {env: {A: '1'}}",
    ));
    for id in ["same", "changed", "dropped", "new", "hand"] {
        home.plugin(id, WAITS);
    }
    home
}

#[test]
fn a_reload_touches_what_was_changed_and_nothing_else() {
    let hub = home().up();
    let (same, changed) = (hub.pid("same"), hub.pid("changed"));
    hub.pid("dropped");
    hub.ok(&["start", "hand"]);
    let hand = hub.pid("hand");

    // Nothing was changed yet.
    assert_eq!(
        hub.ok(&["reload"]).lines().last(),
        Some("Configuration reloaded")
    );
    assert!(hub.ok(&["reload", "--dry-run"]).contains("Nothing changes"));
    assert_eq!((hub.pid("same"), hub.pid("changed")), (same, changed));

    write(
        &hub,
        &config(
            "same, changed, new",
            "changed: {env: {A: '2'}}, same: {stop: {grace: 1s}}",
        ),
    );
    let plan = hub.ok(&["reload", "--dry-run"]);
    for (action, id) in [
        ("restart", "changed"),
        ("stop", "dropped"),
        ("start", "new"),
        ("update", "same"),
        ("none", "hand"),
    ] {
        let told = plan.lines().any(|line| {
            let mut words = line.split_whitespace();
            (words.next(), words.next()) == (Some(action), Some(id))
        });
        assert!(told, "{action} {id}\n{plan}");
    }
    // A dry run does nothing.
    assert_eq!(hub.pid("changed"), changed);
    assert_eq!(hub.info("dropped")["Phase"], "running");

    assert!(hub.ok(&["reload"]).starts_with(&plan));
    hub.pid("new");
    let dropped = hub.wait_phase("dropped", "stopped");
    assert_eq!(dropped["Enabled"], false);
    assert_eq!(dropped["Wish"], "down");
    eventually("the changed one has a new run", || {
        (hub.pid("changed") != changed).then_some(())
    });
    assert_eq!((hub.pid("same"), hub.pid("hand")), (same, hand));

    // What was set by hand is shown, and forgotten when asked for.
    let info = hub.info("hand");
    assert_eq!(
        (&info["SetByHand"], &info["Autostart"]),
        (&"enabled".into(), &false.into())
    );
    assert!(hub.ok(&["ls"]).contains("yes*"));
    hub.ok(&["enable", "--default", "hand"]);
    let info = hub.info("hand");
    assert_eq!(
        (&info["SetByHand"], &info["Enabled"]),
        (&"".into(), &false.into())
    );
    assert_eq!(hub.pid("hand"), hand);
    hub.ok(&["stop", "new"]);
    hub.ok(&["disable", "--default", "new"]);
    assert_eq!(hub.info("new")["Enabled"], true);
    hub.ok(&["start", "--once", "dropped"]);
    let info = hub.info("dropped");
    assert_eq!(
        (&info["Enabled"], &info["Wish"]),
        (&false.into(), &"up".into())
    );
    hub.down();
}

#[test]
fn a_file_of_no_use_changes_nothing_and_says_why() {
    let hub = home().up();
    let pids = ["same", "changed", "dropped"].map(|id| hub.pid(id));
    let file = hub.path("config/launcher.yaml");
    let good = fs::read_to_string(&file).unwrap();
    let mistakes = [
        (
            "unknown key",
            good.replace("autostart", "autostartt"),
            "did you mean autostart?",
        ),
        (
            "wrong type",
            good.replace("[same, changed, dropped]", "{a: 1}"),
            ":2:",
        ),
        (
            "bad value",
            format!("{good}stop: {{grace: soon}}\n"),
            "stop.grace",
        ),
        (
            "half written",
            good[..good.len() - 12].to_owned(),
            "launcher.yaml:",
        ),
        ("being written", String::new(), "it is empty"),
        ("a reserved id", good.replace("dropped]", "auth]"), "auth"),
        (
            "a circle",
            good.replace(
                "plugins: {",
                "plugins: {same: {requires: [new]}, new: {requires: [same]}, ",
            ),
            "new",
        ),
        (
            "a bad id",
            good.replace("dropped]", "\"a b\"]"),
            "has the character",
        ),
    ];
    for (mistake, text, expected) in mistakes {
        fs::write(&file, text).unwrap();
        let output = hub.hubcli(&["reload"]);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{mistake}: {err}");
        assert!(err.contains(expected), "{mistake}: {err}");
        assert!(err.contains("launcher.yaml:"), "{mistake}: {err}");
    }
    hub.wait_log("launcher", "the configuration is not reloaded: ");
    fs::remove_file(&file).unwrap();
    // Nor is something else in its place a file.
    fs::create_dir(&file).unwrap();
    let output = hub.hubcli(&["reload"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    fs::remove_dir(&file).unwrap();
    let output = hub.hubcli(&["reload"]);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(err.contains("there is no such file"), "{err}");
    assert_eq!(["same", "changed", "dropped"].map(|id| hub.pid(id)), pids);

    // The same by a signal: first a bad file, then a good one.
    fs::write(&file, "autostart: [").unwrap();
    hub.signal_launcher(1);
    eventually("the bad file is in the log", || {
        (hub.log("launcher").matches("not reloaded: ").count() > 9).then_some(())
    });
    fs::write(&file, config("same, new", "changed: {env: {A: '1'}}")).unwrap();
    hub.signal_launcher(1);
    hub.pid("new");
    hub.wait_phase("changed", "stopped");
    assert_eq!(hub.pid("same"), pids[0]);

    // What needs a new launcher is named, and not half done.
    fs::write(
        &file,
        "corebin: {bin: mqttcore, args: [-x]}\nautostart: [same, new]\n",
    )
    .unwrap();
    let plan = hub.ok(&["reload"]);
    assert!(
        plan.contains("corebin") && plan.contains("restarted"),
        "{plan}"
    );
    assert_eq!(hub.pid("same"), pids[0]);
    hub.down();
}

#[test]
fn reloads_at_once_and_signals_in_a_row_end_with_the_last_file() {
    let hub = home().up();
    let same = hub.pid("same");
    for round in 0..4 {
        let before = ["same, changed", "same, new"][round % 2];
        write(&hub, &config(before, ""));
        std::thread::scope(|threads| {
            threads.spawn(|| hub.ok(&["reload"]));
            write(
                &hub,
                &config(
                    "same, hand",
                    &format!("same: {{stop: {{grace: {}s}}}}", round + 2),
                ),
            );
            threads.spawn(|| hub.ok(&["reload"]));
        });
        let left = hub.ok(&["reload", "--dry-run"]);
        assert!(left.contains("Nothing changes"), "{left}");
    }
    hub.pid("hand");
    for id in ["changed", "new"] {
        hub.wait_phase(id, "stopped");
    }

    write(&hub, &config("same, new", ""));
    hub.signal_launcher(1);
    write(&hub, &config("same, changed", ""));
    hub.signal_launcher(1);
    hub.pid("changed");
    for id in ["hand", "new"] {
        hub.wait_phase(id, "stopped");
    }
    assert_eq!(hub.pid("same"), same);
    hub.down();
}

#[test]
fn nothing_is_reloaded_while_the_launcher_ends() {
    let home = Home::new("corebin: mqttcore\nautostart: [deaf]\nstop: {grace: 1h}\n");
    home.plugin(
        "deaf",
        "trap '' TERM; echo set; while :; do sleep 1000; done",
    );
    home.plugin("new", WAITS);
    let mut hub = home.up();
    hub.wait_log("deaf", "set");
    hub.signal_launcher(15);
    hub.wait_phase("deaf", "stopping");
    write(&hub, "corebin: mqttcore\nautostart: [new]\n");
    for args in [&["reload"][..], &["reload", "--dry-run"]] {
        let output = hub.hubcli(args);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains("the launcher is stopping"), "{err}");
    }
    hub.signal_launcher(1);
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0));
    assert_eq!(hub.log("new"), "");
    hub.assert_nothing_lives();
}

#[test]
fn systemd_is_told_of_each_reload_with_its_time() {
    let home = home();
    let at = home.path("systemd.sock");
    let socket = std::os::unix::net::UnixDatagram::bind(&at).unwrap();
    socket.set_read_timeout(Some(crate::hub::PATIENCE)).unwrap();
    let mut command = home.launcher();
    command.env("NOTIFY_SOCKET", &at);
    let hub = home.launch_by(command);
    let next = |what: &str| {
        let mut bytes = [0; 4096];
        loop {
            let length = socket.recv(&mut bytes).unwrap();
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text.lines().any(|line| line == what) {
                return text;
            }
            assert!(!text.contains("RELOADING=1"), "before {what}: {text}");
        }
    };
    let now = || {
        let clock = nix::time::ClockId::CLOCK_MONOTONIC;
        let now = std::time::Duration::from(nix::time::clock_gettime(clock).unwrap());
        now.as_micros()
    };
    next("READY=1");
    // Also of one that comes to nothing.
    for text in [config("same", ""), "autostart: [".to_owned()] {
        write(&hub, &text);
        let before = now();
        hub.signal_launcher(1);
        let told = next("RELOADING=1");
        let usec = told
            .lines()
            .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        let usec: u128 = usec.unwrap().parse().unwrap();
        assert!((before..=now()).contains(&usec), "{usec} after {before}");
        next("READY=1");
    }
    write(&hub, &config("same", ""));
    hub.wait_for_bus();
    hub.down();
}
