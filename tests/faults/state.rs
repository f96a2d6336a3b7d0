//! What is kept on disk damaged in every way between two lives of the launcher, and folders that nothing can be written
//! to: no plugin is lost or doubled, and the file is named (spec §12, §17).

use crate::hub::{Home, Hub, eventually, signal_pid};
use crate::means::{NOBODY, as_user, is_root};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const SLEEPER: &str = "exec sleep 1000";

fn home() -> Home {
    let home = Home::new("logLevel: info\ncreatePluginCred: false\nautostart: [listed]\n");
    home.plugin("listed", SLEEPER);
    home.plugin("added", SLEEPER);
    home
}

type Damage = (&'static str, fn(&Path));

fn bytes(path: &Path, alter: impl FnOnce(&mut Vec<u8>)) {
    let mut content = fs::read(path).unwrap_or_default();
    alter(&mut content);
    fs::write(path, content).unwrap();
}

const DAMAGES: [Damage; 7] = [
    ("cut off", |path| {
        bytes(path, |all| all.truncate(all.len() / 2))
    }),
    ("empty", |path| bytes(path, Vec::clear)),
    ("a bit flipped", |path| {
        bytes(path, |all| {
            let middle = all.len() / 2;
            if let Some(byte) = all.get_mut(middle) {
                *byte ^= 4;
            }
        });
    }),
    ("zeroes", |path| bytes(path, |all| all.resize(4096, 0))),
    ("of a newer launcher", |path| {
        fs::write(path, "{\"v\":99,\"of\":\"a newer launcher\"}\n").unwrap();
    }),
    ("binary", |path| {
        fs::write(
            path,
            (0..20_000_u32)
                .map(|n| (n * 7 % 251) as u8)
                .collect::<Vec<_>>(),
        )
        .unwrap();
    }),
    ("a folder", |path| {
        let _ = fs::remove_file(path);
        fs::create_dir(path).unwrap();
    }),
];

/// Both run, once each.
fn both_run(hub: &Hub, what: &str) {
    for id in ["listed", "added"] {
        hub.pid(id);
    }
    let processes = hub.processes();
    assert_eq!(
        processes.len(),
        2,
        "{what}: {processes:?}\n{}",
        hub.account()
    );
}

/// Damages a file in every way after each of two lives of a launcher: one that ended, and one that was killed.
fn is_borne(file: &str, is_told: bool) {
    let mut hub = home().launch();
    hub.pid("listed");
    hub.ok(&["start", "added"]);
    for killed in [false, true] {
        for (damage, apply) in DAMAGES {
            let what = format!("{file} is {damage}, killed: {killed}");
            if killed {
                hub.signal_launcher(9);
            } else {
                hub.signal_launcher(15);
            }
            hub.ended();
            let path = hub.path(file);
            apply(&path);
            let before = hub.log("launcher").len();
            hub.relaunch_unseen();
            hub.pid("listed");
            if path.is_dir() {
                // It was in the way of everything, and is left to whoever put it there.
                fs::remove_dir(&path).unwrap();
            }
            // What was set by hand may be what was lost.
            hub.ok(&["start", "added"]);
            both_run(&hub, &what);
            let log = hub.log("launcher");
            if is_told && damage != "empty" {
                assert!(
                    log[before..].contains(path.to_str().unwrap()),
                    "{what}: {log}"
                );
            }
        }
    }
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0));
    let left = hub.processes();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_corrupt_journal_costs_no_plugin_and_is_named() {
    is_borne("stores/launcher/journal", true);
}

#[test]
fn corrupt_records_of_live_runs_double_nobody_and_are_named() {
    is_borne("run/private/records", true);
}

#[test]
fn a_corrupt_copy_of_the_last_good_configuration_costs_nothing() {
    is_borne("stores/launcher/last-good.yaml", false);
}

#[test]
fn a_corrupt_word_of_how_the_last_launcher_ended_costs_nothing() {
    is_borne("run/private/intent", false);
}

/// A home that belongs to an ordinary user, for whom permissions hold.
fn of_a_user(home: &Home) {
    if is_root() {
        let owner = format!("{NOBODY}:{NOBODY}");
        let mut all = std::process::Command::new("chown");
        let all = all.args(["-R", &owner]).arg(home.path("")).status();
        assert!(all.unwrap().success());
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn state_that_cannot_be_read_is_named_and_costs_no_plugin() {
    let home = home();
    of_a_user(&home);
    let command = as_user(&home.path("bin/launcher"));
    let mut hub = home.launch_by(command);
    hub.pid("listed");
    hub.ok(&["start", "added"]);
    hub.signal_launcher(9);
    hub.ended();
    let files = ["stores/launcher/journal", "run/private/records"];
    for file in files {
        mode(&hub.path(file), 0o000);
    }
    let command = as_user(&hub.path("bin/launcher"));
    hub.relaunch_by(command);
    hub.pid("listed");
    hub.ok(&["start", "added"]);
    both_run(&hub, "unreadable");
    let log = hub.log("launcher");
    for file in files {
        let path = hub.path(file);
        assert!(log.contains(path.to_str().unwrap()), "{file}: {log}");
    }
    assert!(log.contains("ermission denied"), "{log}");
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0));
}

#[test]
fn a_folder_of_state_that_is_read_only_lets_everything_go_on_and_is_named() {
    let home = home();
    of_a_user(&home);
    let command = as_user(&home.path("bin/launcher"));
    let mut hub = home.launch_by(command);
    hub.pid("listed");
    let (folder, journal) = (
        hub.path("stores/launcher"),
        hub.path("stores/launcher/journal"),
    );
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0));
    mode(&journal, 0o400);
    mode(&folder, 0o500);
    let command = as_user(&hub.path("bin/launcher"));
    hub.relaunch_by(command);
    hub.pid("listed");
    // It is done now, and it is said that it will be forgotten.
    hub.ok(&["start", "added"]);
    hub.pid("added");
    hub.wait_log("launcher", journal.to_str().unwrap());
    mode(&folder, 0o700);
    mode(&journal, 0o600);
    hub.ok(&["enable", "added"]);
    eventually("it is remembered once it can be", || {
        let kept = fs::read_to_string(&journal).unwrap_or_default();
        kept.contains("added").then_some(())
    });
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0));
}

#[test]
fn a_run_folder_that_is_read_only_costs_no_restart_and_is_named() {
    let home = home();
    of_a_user(&home);
    let command = as_user(&home.path("bin/launcher"));
    let mut hub = home.launch_by(command);
    let listed = hub.pid("listed");
    let folder = hub.path("run/private");
    mode(&folder, 0o500);
    signal_pid(listed, 9);
    eventually("it is back", || (hub.pid("listed") != listed).then_some(()));
    hub.ok(&["restart", "listed"]);
    hub.wait_log(
        "launcher",
        &format!("cannot make the fifo {}", folder.display()),
    );
    mode(&folder, 0o700);
    hub.ok(&["restart", "listed"]);
    hub.pid("listed");
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0));
}
