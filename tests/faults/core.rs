//! A core that does not come up, and what is kept on disk broken between two lives of the hub.

use crate::hub::{Home, eventually, said_note};
use crate::means::{complaint, is_root};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const SLEEPER: &str = "exec sleep 1000";

/// Puts a script in the place of the core.
fn core(home: &Home, script: &str) {
    let core = home.path("bin/mycore");
    fs::write(
        home.path("bin/mycore.part"),
        format!("#!/bin/sh\n{script}\n"),
    )
    .unwrap();
    fs::set_permissions(
        home.path("bin/mycore.part"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    fs::rename(home.path("bin/mycore.part"), core).unwrap();
}

#[test]
fn a_core_that_hangs_or_ends_is_told_and_tried_again_and_the_plugins_come_with_it() {
    let home = Home::new(
        "logLevel: info\ncorebin: mycore\nautostart: [bound]\nstart: {timeout: 400ms}\n\
         restart: {delay: 100ms, jitter: 0}\nstop: {grace: 200ms}\n",
    );
    home.plugin("bound", SLEEPER);
    // First it hangs, then it fails, then it is a core.
    core(
        &home,
        "n=$(cat \"$HIVEOT_HOME/n\" 2>/dev/null || echo 0); echo $((n+1)) > \"$HIVEOT_HOME/n\"\n\
         [ $n = 0 ] && exec sleep 1000\n\
         [ $n = 1 ] && { echo no port is free >&2; exit 9; }\n\
         exec \"$HIVEOT_HOME/bin/mqttcore\" --home \"$HIVEOT_HOME\"",
    );
    let hub = home.up();
    hub.pid("bound");
    let log = hub.log("launcher");
    assert!(log.contains("not ready"), "{log}");
    assert!(
        log.contains("exit status 9") || log.contains("code 9"),
        "{log}"
    );
    assert!(hub.log("core").contains("no port is free"));
    let info = hub.info("mycore");
    // On a busy machine one more may have been too slow.
    assert!(info["Run"].as_i64().unwrap() >= 3, "{info}");
    hub.down();
}

#[test]
fn broken_state_is_set_aside_and_told_and_no_plugin_is_lost() {
    let home = Home::new("logLevel: info\ncorebin: mqttcore\nautostart: [listed]\n");
    for id in ["listed", "added"] {
        home.plugin(id, SLEEPER);
    }
    let mut hub = home.up();
    hub.pid("listed");
    hub.ok(&["start", "added"]);
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0));
    let journal = hub.path("stores/launcher/journal");
    let good = fs::read(&journal).unwrap();

    // The last record was not written to its end: the others hold.
    let mut torn = good.clone();
    torn.extend(b"{\"half");
    fs::write(&journal, &torn).unwrap();
    hub.relaunch();
    hub.pid("added");
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0));

    for broken in [
        &b"\0\0\0\0\0\0"[..],
        b"not a journal at all\nnor this\n",
        b"{\"v\":9,\"of\":\"a newer launcher\"}\n",
    ] {
        fs::write(&journal, broken).unwrap();
        fs::write(hub.path("run/private/records"), broken).unwrap();
        hub.relaunch();
        hub.pid("listed");
        hub.wait_log("launcher", journal.to_str().unwrap());
        hub.signal_launcher(15);
        assert_eq!(hub.ended().code(), Some(0));
    }
    let kept: Vec<Vec<u8>> = fs::read_dir(hub.path("stores/launcher"))
        .unwrap()
        .flatten()
        .map(|entry| fs::read(entry.path()).unwrap())
        .collect();
    assert!(
        kept.iter()
            .any(|bytes| bytes.starts_with(b"not a journal at all")),
        "what could not be read is not kept"
    );
    for entry in fs::read_dir(hub.path("run/private")).unwrap().flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with("records.damaged-")
        {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    hub.assert_nothing_left();
}

#[test]
fn a_broken_file_of_clients_stops_the_core_with_its_name_and_stays_as_it_is() {
    let home = Home::new(
        "corebin: mqttcore\nautostart: [bound]\nrestart: {delay: 100ms, maxDelay: 200ms}\n",
    );
    home.plugin("bound", SLEEPER);
    let mut hub = home.up();
    hub.pid("bound");
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0));
    let file = hub.path("stores/auth/hub.passwd");
    let good = fs::read(&file).unwrap();
    let broken = &good[..good.len() / 2];
    fs::write(&file, broken).unwrap();
    hub.relaunch_unseen();
    hub.wait_log("core", file.to_str().unwrap());
    hub.wait_log("launcher", "hub.passwd");
    // What is asked of others than the launcher needs the bus.
    let output = hub.hubcli(&["lu"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(complaint(&output).contains("core.log"), "{output:?}");
    let output = hub.hubcli(&["ls"]);
    assert!(output.status.success() && said_note(&output), "{output:?}");
    assert_eq!(fs::read(&file).unwrap(), broken);
    fs::write(&file, &good).unwrap();
    hub.wait_for_bus();
    hub.pid("bound");
    hub.down();
}

#[test]
fn few_descriptors_cost_starts_but_not_the_hub() {
    let ids: Vec<String> = (0..60).map(|n| format!("p{n}")).collect();
    let home = Home::new(&format!(
        "logLevel: info\ncorebin: mqttcore\nautostart: [{}]\n",
        ids.join(", ")
    ));
    for id in &ids {
        home.plugin(id, SLEEPER);
    }
    let mut command = std::process::Command::new("sh");
    // Root could raise the limit again.
    let unprivileged = if is_root() {
        "setpriv --bounding-set=-sys_resource"
    } else {
        "env"
    };
    command
        .args(["-c", &format!("ulimit -n 80 && exec {unprivileged} \"$0\"")])
        .arg(home.path("bin/launcher"));
    let hub = home.launch_by(command);
    hub.wait_for_bus();
    eventually("a start fails for want of descriptors", || {
        hub.list()
            .into_iter()
            .find(|info| info["Cause"].as_str().unwrap().contains("open files"))
    });
    eventually(&format!("some run all the same\n{}", hub.account()), || {
        let list = hub.list();
        let running = list.iter().filter(|info| info["Phase"] == "running");
        (running.count() > 3).then_some(())
    });
    // Room for one makes room for another.
    let up = hub
        .list()
        .into_iter()
        .find(|info| info["Phase"] == "running" && info["Name"] != "mqttcore")
        .unwrap();
    hub.ok(&["stop", up["Name"].as_str().unwrap()]);
    hub.down();
}

#[test]
fn a_file_that_does_not_load_under_live_plugins_is_replaced_by_the_last_good_one() {
    let home = Home::new("logLevel: info\ncorebin: mqttcore\nautostart: [listed]\n");
    home.plugin("listed", SLEEPER);
    let mut hub = home.up();
    hub.pid("listed");
    let good = hub.path("stores/launcher/last-good.yaml");
    eventually("it is kept", || good.exists().then_some(()));
    fs::write(hub.path("config/launcher.yaml"), "autostrat: [listed]\n").unwrap();
    hub.kill_and_relaunch();
    hub.pid("listed");
    hub.wait_log("launcher", "degraded: ");
    hub.wait_log("launcher", "launcher.yaml:1:1: autostrat");
    for all in [&["why", "launcher"][..], &["why"]] {
        let told = hub.ok(all);
        assert!(told.contains("degraded: "), "{told}");
        assert!(
            told.contains("correct the file, then: hubcli reload"),
            "{told}"
        );
    }
    // A bad file changes nothing of it; a good one ends it, and what runs keeps running.
    let listed = hub.pid("listed");
    assert_eq!(hub.hubcli(&["reload"]).status.code(), Some(1));
    assert!(hub.ok(&["why", "launcher"]).contains("degraded: "));
    let again = "logLevel: info\ncorebin: mqttcore\nautostart: [listed]\nstop: {grace: 4s}\n";
    fs::write(hub.path("config/launcher.yaml"), again).unwrap();
    hub.ok(&["reload"]);
    eventually("it is no longer degraded", || {
        (!hub.ok(&["why", "launcher"]).contains("degraded")).then_some(())
    });
    hub.wait_log("launcher", "recovered");
    assert_eq!(hub.pid("listed"), listed);
    eventually("the good one is kept", || {
        fs::read_to_string(&good)
            .is_ok_and(|text| text.contains("grace: 4s"))
            .then_some(())
    });
    fs::write(hub.path("config/launcher.yaml"), "autostrat: [listed]\n").unwrap();
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0));
    // Nothing lives now, so nothing is at stake.
    hub.relaunch_unseen();
    assert_eq!(hub.ended().code(), Some(78));
    hub.assert_nothing_left();
}
