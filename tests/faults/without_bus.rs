//! A core that is dead, hangs, is slow or lets nobody in, and what is left of control then (spec §7, §13).

use crate::hub::{Home, Hub, eventually, is_alive, said_note, signal_pid};
use crate::means::{NOBODY, is_root, left_out};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SLEEPER: &str = "exec sleep 1000";
const STOP: i32 = 19;
const CONT: i32 = 18;

/// One line to the launcher's socket, and its answer.
pub fn ask(hub: &Hub, line: &str) -> Value {
    let mut stream = UnixStream::connect(hub.path("run/launcher.sock")).unwrap();
    stream.write_all(line.as_bytes()).unwrap();
    stream.write_all(b"\n").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap()
}

/// hubcli does it without the bus, within a few seconds, and says so.
pub fn locally(hub: &Hub, args: &[&str]) -> String {
    let since = Instant::now();
    let output = hub.hubcli(args);
    assert!(
        output.status.success() && said_note(&output),
        "{args:?}: {output:?}\n{}",
        hub.account()
    );
    assert!(since.elapsed() < Duration::from_secs(10));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn without_a_core_everything_can_be_seen_and_steered_and_the_core_started_again() {
    let home = Home::new("corebin: mqttcore\ncreatePluginCred: false\nautostart: [worker]\n");
    home.plugin("worker", SLEEPER);
    let hub = home.up();
    let worker = hub.pid("worker");
    let text = hub.ok(&["stop", "mqttcore"]);
    assert!(text.starts_with("Service 'mqttcore' stopped\n"), "{text}");
    assert!(is_alive(worker));
    let list: Vec<Value> = serde_json::from_str(&locally(&hub, &["--json", "ls"])).unwrap();
    assert_eq!(list.len(), 2);
    let why = locally(&hub, &["why", "launcher"]);
    for part in [
        "there is no bus: ",
        "waits for   the bus; ",
        "to do       hubcli why core tells what the core does, logs/core.log what it says; plugins are kept up meanwhile",
    ] {
        assert!(why.contains(part), "{part}: {why}");
    }
    let list = locally(&hub, &["ls"]);
    assert!(list.contains("\n! launcher: no bus: "), "{list}");
    // How all are can be seen; what happens cannot.
    let output = hub.hubcli(&["events", "-f"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let (seen, said) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(seen.contains("is running"), "{seen}");
    assert!(
        said.contains("what happens is told over the bus alone"),
        "{said}"
    );
    assert!(locally(&hub, &["events", "worker"]).contains("is running"));
    let why = locally(&hub, &["why", "core"]);
    assert!(why.contains("it was stopped by admin"), "{why}");
    let why = locally(&hub, &["why"]);
    assert!(why.starts_with("launcher: running\n"), "{why}");
    locally(&hub, &["restart", "worker"]);
    let now = hub.pid("worker");
    assert_ne!(now, worker);
    let info: Value = serde_json::from_str(&locally(&hub, &["--json", "stop", "worker"])).unwrap();
    assert_eq!(info["Phase"], "stopped");
    // An error is one, here as well.
    let output = hub.hubcli(&["--json", "start", "nobody"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines[0]["note"].as_str().unwrap().contains("launcher.sock"));
    assert!(lines[1]["error"].as_str().unwrap().contains("not found"));
    locally(&hub, &["start", "worker"]);
    locally(&hub, &["start", "mqttcore"]);
    hub.wait_for_bus();
    hub.ok(&["ls"]);
    hub.down();
}

#[test]
fn a_core_that_hangs_leaves_control_and_is_spoken_to_again_when_it_goes_on() {
    let home = Home::new("corebin: mqttcore\nautostart: [worker]\n");
    home.plugin("worker", SLEEPER);
    let hub = home.up();
    let (core, worker) = (hub.pid("mqttcore"), hub.pid("worker"));
    signal_pid(core, STOP);
    locally(&hub, &["ls"]);
    let why = locally(&hub, &["why", "core"]);
    assert!(
        why.contains("was stopped by a signal") && why.contains(&format!("kill -CONT {core}")),
        "{why}"
    );
    // Supervision does not need it, and says what is the matter.
    signal_pid(worker, 9);
    let again = eventually("the worker is back", || {
        let list: Vec<Value> = serde_json::from_str(&locally(&hub, &["--json", "ls"])).unwrap();
        let worker = list.into_iter().find(|info| info["Name"] == "worker")?;
        (worker["Phase"] == "running" && worker["Restarts"] == 1).then_some(worker)
    });
    assert_eq!(again["Run"], 2);
    signal_pid(core, CONT);
    hub.wait_for_bus();
    assert_eq!(hub.pid("mqttcore"), core);
    hub.down();
}

/// Puts other content in the place of a file that nobody may write.
fn replace(path: &std::path::Path, content: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn a_login_that_is_refused_leaves_control_to_who_may_use_the_socket() {
    let home = Home::new("corebin: mqttcore\nautostart: [worker]\n");
    home.plugin("worker", SLEEPER);
    let hub = home.up();
    let token = hub.path("certs/admin.token");
    let good = fs::read(&token).unwrap();
    // The core may write a new one meanwhile, as it looks after this file.
    eventually("it is done over the socket", || {
        replace(&token, b"not a token");
        let output = hub.hubcli(&["ls"]);
        assert!(output.status.success(), "{output:?}");
        said_note(&output).then_some(())
    });
    // Who names the bus gets the bus.
    eventually("it is refused", || {
        replace(&token, b"not a token");
        let output = hub.hubcli(&["--server", &hub.tls_url(), "ls"]);
        assert!(!said_note(&output));
        (output.status.code() == Some(3)).then_some(())
    });
    replace(&token, &good);
    hub.wait_for_bus();
    hub.down();
}

#[test]
fn the_socket_speaks_lines_and_what_is_none_is_said() {
    let home = Home::new("corebin: mqttcore\n");
    home.plugin("worker", SLEEPER);
    let mut hub = home.up();
    let socket = hub.path("run/launcher.sock");
    let mode = fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let started = ask(&hub, r#"{"method":"startPlugin","args":{"name":"worker"}}"#);
    assert_eq!(started["result"]["info"]["Phase"], "running", "{started}");
    let got = ask(&hub, r#"{"method":"getPlugin","args":{"name":"worker"}}"#);
    let by = got["result"]["why"]["wishBy"].as_str().unwrap();
    assert!(by.ends_with(" (local)"), "{got}");
    for (line, part) in [
        ("nonsense", "a request is one line"),
        (r#"{"method":"fly"}"#, "method 'fly'"),
        (
            r#"{"method":"startPlugin","args":{"name":"x"}}"#,
            "not found",
        ),
    ] {
        let answer = ask(&hub, line);
        assert!(answer["error"].as_str().unwrap().contains(part), "{answer}");
    }
    // Several on one connection, in order, the last without its end.
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream
        .write_all(b"{\"method\":\"stopAll\"}\n{\"method\":\"fly\"}\n{\"method\":\"list\"}")
        .unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let answers: Vec<&str> = answers.lines().collect();
    assert_eq!(answers[0], r#"{"result":{}}"#);
    assert!(answers[1].starts_with(r#"{"error":"method"#), "{answers:?}");
    assert!(
        answers[2].starts_with(r#"{"result":{"info":["#),
        "{answers:?}"
    );
    assert_eq!(answers.len(), 3);
    // A line without end is not kept.
    let mut stream = UnixStream::connect(&socket).unwrap();
    let endless = vec![b'x'; 300 * 1024];
    let _ = stream.write_all(&endless);
    let mut answer = String::new();
    let _ = BufReader::new(stream).read_line(&mut answer);
    assert!(
        answer.is_empty() || answer.contains("bytes is no request"),
        "{answer}"
    );
    // More than there are places for.
    let held: Vec<_> = (0..32)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    eventually("the next one hears that it is busy", || {
        let answer = ask(&hub, r#"{"method":"list"}"#);
        (answer["error"] == "busy").then_some(())
    });
    drop(held);
    // What a killed launcher left is replaced.
    hub.kill_and_relaunch();
    assert!(ask(&hub, r#"{"method":"list"}"#)["result"].is_object());
    hub.down();
}

#[test]
fn others_are_not_heard_on_the_socket() {
    if !is_root() {
        left_out(
            "another user at the socket",
            "only root can be another user",
        );
        return;
    }
    let home = Home::new("corebin: mqttcore\n");
    let hub = home.up();
    let socket = hub.path("run/launcher.sock");
    let script = "
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
try:
    s.sendall(b'{\"method\":\"list\"}\\n')
except BrokenPipeError:
    pass # it was refused before it had asked
print(s.makefile().readline(), flush=True)
";
    let say = || {
        // The system's, which everybody may run.
        let mut other = Command::new("/usr/bin/python3");
        other
            .args(["-c", script])
            .arg(&socket)
            .uid(NOBODY)
            .gid(NOBODY)
            .stdin(Stdio::null());
        other.output().unwrap()
    };
    // Closed is the file, not the way to it.
    for folder in [hub.path(""), hub.path("run")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let refused = String::from_utf8(say().stderr).unwrap();
    assert!(refused.contains("PermissionError"), "{refused}");
    // Even when somebody opened it.
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let output = say();
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("may not steer this launcher"),
        "{text}{error}"
    );
    // Both sides know it.
    hub.wait_log("launcher", "may not steer this launcher");
    hub.down();
}

#[test]
fn who_does_not_find_a_new_core_is_started_with_it_and_nobody_else_is() {
    let home = Home::new(
        "corebin: mqttcore\ncreatePluginCred: false\nautostart: [lost, finds]\nplugins: {lost: {onCoreRestart: restart}}\n",
    );
    home.plugin("lost", SLEEPER);
    home.plugin("finds", SLEEPER);
    let hub = home.up();
    let (lost, finds) = (hub.pid("lost"), hub.pid("finds"));
    assert!(hub.ok(&["why"]).starts_with("All is as it should be"));
    signal_pid(hub.pid("mqttcore"), 9);
    eventually("it is started again", || {
        (hub.pid("lost") != lost).then_some(())
    });
    hub.wait_for_bus();
    assert_eq!(hub.pid("finds"), finds);
    let again = hub.pid("lost");
    hub.ok(&["ls"]);
    assert_eq!(hub.pid("lost"), again, "once is enough");
    hub.down();
}

#[test]
fn a_plugin_that_fails_is_explained() {
    let home = Home::new("corebin: mqttcore\ncreatePluginCred: false\nautostart: [taken, gone]\n");
    home.plugin(
        "taken",
        "echo 'listen tcp :502: bind: address already in use' >&2; exit 1",
    );
    let hub = home.up();
    let why = eventually("it waits for its next try, with its last lines", || {
        let why = hub.ok(&["why", "taken"]);
        (why.contains("in a row") && why.contains("| listen tcp")).then_some(why)
    });
    assert!(why.contains("port 502 is in use"), "{why}");
    assert!(why.contains("ss -ltnp 'sport = :502'"), "{why}");
    assert!(why.contains("hubcli start taken"), "{why}");
    // What is blocked is looked at now and then.
    eventually("both are named", || {
        let all = hub.ok(&["why"]);
        (all.contains("taken: ") && all.contains("gone: blocked")).then_some(())
    });
    let output = hub.hubcli(&["why", "takn"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean 'taken'?"));
    hub.down();
}
