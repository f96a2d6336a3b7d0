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
    fs::write(&file, text).unwrap();
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
        ("a reserved id", good.replace("dropped]", "auth]"), "auth"),
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
    let output = hub.hubcli(&["reload"]);
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(err.contains("there is no such file"), "{err}");
    assert_eq!(["same", "changed", "dropped"].map(|id| hub.pid(id)), pids);

    // The same by a signal: first a bad file, then a good one.
    fs::write(&file, "autostart: [").unwrap();
    hub.signal_launcher(1);
    eventually("the bad file is in the log", || {
        (hub.log("launcher").matches("not reloaded: ").count() > 7).then_some(())
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
