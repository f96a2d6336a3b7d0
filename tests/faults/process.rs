//! The launcher as a process: usage, exit codes, and what it inherits from whoever starts it.

use crate::hub::{Home, Hub};
use crate::means::complaint;
use crate::packets::{Wire, request};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

#[test]
fn usage_and_configuration_are_judged_by_text_and_exit_code() {
    let home = Home::new("corebin: mqttcore\nautostart: [absent]\n");
    let file = home.path("config/launcher.yaml");
    let said = |args: &[&str]| {
        let output = home.say(args);
        let out = String::from_utf8(output.stdout.clone()).unwrap();
        (output.status.code().unwrap(), out, complaint(&output))
    };
    let (code, out, _) = said(&["--check"]);
    assert_eq!(
        (
            code,
            out.ends_with(&format!("{}: no problems\n", file.display()))
        ),
        (0, true),
        "{out}"
    );
    for wrong in [&["--bogus"][..], &["-bogus=1"], &["--home"], &["-x"]] {
        let (code, _, err) = said(wrong);
        assert_eq!(code, 2, "{wrong:?}");
        assert!(
            err.starts_with("error: ") && err.contains("--help"),
            "{err}"
        );
    }
    for shown in ["--help", "-h", "-help", "--version"] {
        let (code, out, err) = said(&[shown]);
        assert_eq!((code, err.as_str()), (0, ""), "{shown}");
        assert!(!out.is_empty());
    }
    for check in [
        &["--configFile", "nope.yaml"][..],
        &["-check", "-configFile=nope.yaml"],
    ] {
        let (code, _, err) = said(check);
        assert_eq!(code, 78);
        let named = home.path("config/nope.yaml");
        assert!(
            err.contains(named.to_str().unwrap()) && err.contains("there is no such file"),
            "{err}"
        );
    }

    fs::write(&file, "corebin: nocore\nautostat: []\n").unwrap();
    let (code, out, err) = said(&["--check"]);
    assert_eq!((code, out.as_str()), (78, ""));
    assert!(
        err.contains("launcher.yaml:2:1: autostat: ") && err.contains("did you mean autostart?"),
        "{err}"
    );
    fs::write(&file, "corebin: nocore\n").unwrap();
    let text = format!(
        "findCore. core in config not found. Path={}",
        home.path("bin/nocore").display()
    );
    let (code, _, err) = said(&["--check"]);
    assert_eq!((code, err.contains(&text)), (78, true), "{err}");
    let (code, _, err) = said(&[]);
    assert_eq!((code, err.contains(&text)), (1, true), "{err}");
    assert!(home.path("logs").exists());

    fs::write(&file, b"corebin: \xff\n").unwrap();
    assert_eq!(said(&[]).0, 78);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let (code, _, err) = said(&[]);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains(file.to_str().unwrap()), "{err}");
}

#[test]
fn the_spellings_of_the_original_are_taken() {
    let home = Home::new("- this file is not read\n");
    let config = home.path("other");
    fs::create_dir(&config).unwrap();
    fs::write(
        config.join("mine.yaml"),
        "corebin: mqttcore\nautostart: [told]\n",
    )
    .unwrap();
    fs::copy(
        home.path("config/mqttcore.yaml"),
        config.join("mqttcore.yaml"),
    )
    .unwrap();
    home.plugin("told", "echo level $LOGLEVEL; exec sleep 1000");
    let mut command = home.launcher();
    command.arg("-home").arg(home.path("")).args([
        "-config=other",
        "-configFile",
        "mine.yaml",
        "-loglevel",
        "debug",
        "surplus",
    ]);
    let hub = home.launch_by(command);
    hub.wait_log("told", "level debug");
    hub.wait_log("launcher", "'surplus' is no option and is ignored");
    hub.wait_log("launcher", "DEBUG");
    end(hub);
}

fn end(mut hub: Hub) {
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0), "{}", hub.account());
    hub.assert_nothing_left();
}

/// A line of `/proc/PID/status`: a set of signals as bits.
fn signals(pid: i32, which: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(which))
        .unwrap();
    u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
}

/// The threads that start processes.
fn spawners(launcher: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{launcher}/task"))
        .unwrap()
        .flatten();
    threads
        .filter(|thread| {
            fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm == "spawner\n")
        })
        .map(|thread| thread.file_name().to_str().unwrap().parse().unwrap())
        .collect()
}

/// Signals 32 and 33, which the C library keeps to itself: nobody may set them, and a process it spawns ignores them.
const THE_C_LIBRARYS: u64 = bit(32) | bit(33);

const fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

#[test]
fn what_was_ignored_or_blocked_on_entry_works_all_the_same_and_plugins_begin_afresh() {
    for wrapper in [
        &["nohup"][..],
        &["env", "--ignore-signal=HUP,INT,TERM,PIPE,CHLD,USR1"],
        &["env", "--block-signal=HUP,INT,TERM,CHLD,USR2"],
    ] {
        let home = Home::new("logLevel: info\ncorebin: mqttcore\nautostart: [fresh]\n");
        // A shell would set some of them itself.
        std::os::unix::fs::symlink("/bin/sleep", home.path("plugins/fresh")).unwrap();
        fs::write(home.path("config/launcher.yaml"), "logLevel: info\ncorebin: mqttcore\nautostart: [fresh]\nplugins: {fresh: {args: ['1000']}}\n").unwrap();
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(home.path("bin/launcher"));
        let hub = home.launch_by(command);
        hub.wait_for_bus();
        for id in ["fresh", "mqttcore"] {
            let pid = hub.pid(id);
            assert_eq!(signals(pid, "SigBlk"), 0, "{wrapper:?}: {id}");
            if id == "fresh" {
                assert_eq!(
                    signals(pid, "SigIgn") & !THE_C_LIBRARYS,
                    0,
                    "{wrapper:?}: {id}"
                );
            }
        }
        let launcher = hub.launcher_pid();
        let caught = signals(launcher, "SigCgt");
        for signal in [1, 2, 15] {
            assert_ne!(caught & bit(signal), 0, "{wrapper:?}: {signal}");
        }
        assert_eq!(signals(launcher, "SigBlk"), 0, "{wrapper:?}");
        let spawners = spawners(launcher);
        assert!(!spawners.is_empty());
        for spawner in spawners {
            // One that is handled where the launcher's descriptors are not would be lost.
            let blocked = signals(spawner, "SigBlk");
            for signal in [1, 2, 15, 17] {
                assert_ne!(blocked & bit(signal), 0, "{wrapper:?}: {signal}");
            }
        }
        hub.signal_launcher(1);
        hub.wait_log("launcher", "SIGHUP");
        hub.down();
    }
}

#[test]
fn a_symlink_is_an_instance_with_its_own_configuration_login_and_log() {
    let home = Home::new("- this file is not read\n");
    std::os::unix::fs::symlink("launcher", home.path("bin/launcher-east")).unwrap();
    fs::write(
        home.path("config/launcher-east.yaml"),
        "createPluginCred: false\nautostart: [p]\n",
    )
    .unwrap();
    home.plugin("p", "echo up; exec sleep 1000");
    let hub = {
        let command = Command::new(home.path("bin/launcher-east"));
        home.launch_by(command)
    };
    hub.wait_log("p", "up");
    hub.wait_log("launcher-east", "certs/launcher-east.token");
    assert!(!hub.path("logs/launcher.log").exists());
    end(hub);

    // With a core of its own, which knows no such login yet.
    let home = Home::new("- this file is not read\n");
    std::os::unix::fs::symlink("launcher", home.path("bin/launcher-east")).unwrap();
    let config =
        "corebin: mqttcore\nautostart: [p]\nstart: {timeout: 300ms}\nrestart: {firstDelay: 1h}\n";
    fs::write(home.path("config/launcher-east.yaml"), config).unwrap();
    home.plugin("p", "exec sleep 1000");
    let command = Command::new(home.path("bin/launcher-east"));
    let hub = home.launch_by(command);
    hub.wait_log("launcher-east", "the core is not ready after 300ms");
    hub.wait_log("launcher-east", "certs/launcher-east.token: no such file");
    let log = hub.log("launcher-east");
    assert!(!log.contains(": ;"), "{log}");
    end(hub);

    // Called by another name, it is what the name says.
    let home = Home::new("- this file is not read\n");
    fs::write(
        home.path("config/launcher-west.yaml"),
        "createPluginCred: false\n",
    )
    .unwrap();
    let mut command = home.launcher();
    command.arg0("/somewhere/launcher-west");
    let hub = home.launch_by(command);
    hub.wait_log("launcher-west", "certs/launcher-west.token");
    end(hub);
}

/// Every file and folder of a home that others could read or write though they should not.
fn open_to_others(home: &Path) -> Vec<String> {
    let mut open = Vec::new();
    let mut check = |path: &Path, most: u32| {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
        if mode & !most != 0 {
            open.push(format!("{mode:o} {}", path.display()));
        }
    };
    for (folder, most) in [
        ("certs", 0o711),
        ("logs", 0o755),
        ("stores", 0o755),
        ("run", 0o755),
        ("run/private", 0o700),
    ] {
        check(&home.join(folder), most);
    }
    for (folder, most) in [
        ("certs", 0o444),
        ("stores/auth", 0o600),
        ("stores/launcher", 0o600),
        ("run/private", 0o600),
        ("logs", 0o644),
    ] {
        for entry in fs::read_dir(home.join(folder)).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let private =
                name.ends_with(".key") || name.ends_with(".token") || name.ends_with("Key.pem");
            check(&entry.path(), if private { 0o400 } else { most });
        }
    }
    open
}

#[test]
fn modes_are_right_whatever_the_umask_is() {
    for umask in ["0", "077"] {
        let home = Home::new("corebin: mqttcore\nautostart: [p]\n");
        home.plugin("p", "umask; exec sleep 1000");
        let mut command = Command::new("sh");
        command
            .args(["-c", "umask $1 && exec \"$0\""])
            .arg(home.path("bin/launcher"))
            .arg(umask);
        let hub = home.launch_by(command);
        hub.wait_for_bus();
        hub.pid("p");
        let open = open_to_others(&hub.path(""));
        assert!(open.is_empty(), "umask {umask}: {open:#?}");
        let mode = |path: &str| fs::metadata(hub.path(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("certs/p.token"), 0o400);
        assert_eq!(mode("certs/p.pub"), 0o444);
        assert_eq!(mode("certs/caCert.pem"), 0o444);
        assert_eq!(mode("certs"), 0o711);
        assert_eq!(mode("run/mqttcore.sock"), 0o666, "umask {umask}");
        hub.down();
    }
}

#[test]
fn hubcli_says_by_its_exit_code_and_on_which_stream_how_it_went() {
    let home = Home::new("corebin: mqttcore\n");
    home.plugin("bad", "exit 4");
    let hub = home.up();
    let said = |args: &[&str]| {
        let output = hub.hubcli(args);
        let out = String::from_utf8(output.stdout.clone()).unwrap();
        (output.status.code().unwrap(), out, complaint(&output))
    };
    let home = hub.path("").to_str().unwrap().to_owned();
    for args in [
        &["ls"][..],
        &["--home", &home, "ls"],
        &[
            "-home",
            &home,
            "--login",
            "admin",
            "--nowrap",
            "--loginfo",
            "ls",
        ],
        &["--json", "ls"],
    ] {
        let (code, out, _) = said(args);
        assert_eq!(code, 0, "{args:?}");
        assert!(out.contains("mqttcore") && !out.contains('\u{1b}'), "{out}");
    }
    for args in [
        &["start", "bad"][..],
        &["--json", "start", "bad"],
        &["stop", "nope"],
        &["enable", "nope"],
    ] {
        let (code, _, err) = said(args);
        assert_eq!(code, 1, "{args:?}");
        if args[0] == "--json" {
            let error: serde_json::Value = serde_json::from_str(&err).unwrap();
            assert_eq!(error["error"], "exit status 4");
        } else {
            assert!(
                err.starts_with("ERROR:  ") && err.contains("\nhint:  "),
                "{err}"
            );
        }
    }
    for args in [
        &["fly"][..],
        &["start"],
        &["start", "a", "b"],
        &["--bogus", "ls"],
        &["--server", "http://x", "ls"],
        &["--login", "a/b", "ls"],
    ] {
        let (code, out, err) = said(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(!err.is_empty());
    }
    for (args, named) in [
        (&["--login", "nobody", "ls"][..], "certs/nobody.token"),
        (&["--server", "mqtts://localhost:1", "ls"], "localhost:1"),
        (&["--home", "/nonexistent", "ls"], "/nonexistent"),
    ] {
        let (code, _, err) = said(args);
        assert_eq!(code, 3, "{args:?}: {err}");
        assert!(err.contains(named) && err.contains("\nhint:  "), "{err}");
    }
    hub.down();
}

#[test]
fn a_second_launcher_serves_the_bus_of_the_first_under_its_own_id() {
    let home = Home::new("corebin: mqttcore\n");
    home.plugin("west", "exec sleep 1000");
    let hub = home.up();
    // What an administrator does for another machine: an account, its token, the CA.
    let east = Home::new("- this file is not read\n");
    let certs = east.path("certs");
    fs::create_dir(&certs).unwrap();
    let (pair, _) = creds::keys::load_or_create(&certs, "launcher-east").unwrap();
    let account = serde_json::json!({"serviceID": "launcher-east", "displayName": "east", "pubKey": pair.public_text()});
    let mut wire = Wire::admin(&hub);
    let reply = wire.ask(&request(
        "rpc/auth/manageClients/addService/admin",
        account.to_string().as_bytes(),
        5,
    ));
    assert_eq!(reply.content_type, "json", "{}", reply.text());
    let reply: serde_json::Value = serde_json::from_slice(&reply.payload).unwrap();
    let token = reply["token"].as_str().unwrap();
    fs::write(certs.join("launcher-east.token"), token).unwrap();
    fs::copy(hub.path("certs/caCert.pem"), certs.join("caCert.pem")).unwrap();
    std::os::unix::fs::symlink("launcher", east.path("bin/launcher-east")).unwrap();
    fs::write(
        east.path("config/launcher-east.yaml"),
        "autostart: [lamp]\n",
    )
    .unwrap();
    east.plugin("lamp", "echo $HIVEOT_SERVER; exec sleep 1000");
    let mut command = Command::new(east.path("bin/launcher-east"));
    command.args(["--server", &hub.tls_url()]);
    let east = east.launch_by(command);
    east.wait_log("lamp", &hub.tls_url());
    assert!(east.path("certs/lamp.token").exists());

    // Each answers under its own id, for its own plugins.
    for (id, plugin, node) in [
        ("launcher-east", "lamp", "launcher-east"),
        ("launcher", "west", "launcher"),
    ] {
        let topic = format!("rpc/{id}/manage/list/admin");
        let reply = crate::hub::eventually(&format!("{id} answers"), || {
            let reply = wire.ask(&request(&topic, b"{}", 6));
            (reply.content_type == "json").then_some(reply)
        });
        let list: serde_json::Value = serde_json::from_slice(&reply.payload).unwrap();
        let infos = list["info"].as_array().unwrap();
        let info = infos.iter().find(|info| info["Name"] == plugin).unwrap();
        assert_eq!(info["Node"], node);
        assert!(
            !infos
                .iter()
                .any(|info| info["Name"] != plugin && info["Name"] != "mqttcore"),
            "{infos:?}"
        );
    }
    end(east);
    hub.down();
}
