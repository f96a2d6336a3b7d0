//! A bus that is dead, hangs, is slow, refuses the login or is at the other end of a dead line: supervision goes on,
//! hubcli stays of use, the reason is on the screen meanwhile, and all is back by itself (spec §7, §8).

use crate::certs::{now, replace};
use crate::hub::{Home, Hub, eventually, said_note, signal_pid};
use crate::means::explained;
use crate::renewal::token_of;
use crate::without_bus::locally;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SLEEPER: &str = "exec sleep 1000";
const KILL: i32 = 9;
const CONT: i32 = 18;
const STOP: i32 = 19;

fn home() -> Home {
    let home = Home::new(
        "logLevel: info\ncorebin: mqttcore\ncreatePluginCred: false\nautostart: [worker]\n\
         restart: {delay: 100ms, maxDelay: 1s}\n",
    );
    home.plugin("worker", SLEEPER);
    home
}

/// A plugin that is killed is back, and may be stopped and started.
fn supervision_goes_on(hub: &Hub) {
    let before = hub.pid("worker");
    signal_pid(before, KILL);
    eventually("the worker is back", || {
        (hub.pid("worker") != before).then_some(())
    });
    locally(hub, &["stop", "worker"]);
    locally(hub, &["start", "worker"]);
    hub.pid("worker");
}

fn over_the_bus(hub: &Hub) {
    hub.wait_for_bus();
    explained(hub, "launcher", &["it is connected to the bus"]);
}

/// Puts an executable in the place of another one.
fn install(hub: &Hub, name: &str, content: &[u8]) {
    let part = hub.path(format!("bin/.{name}.part"));
    fs::write(&part, content).unwrap();
    fs::set_permissions(&part, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(part, hub.path("bin").join(name)).unwrap();
}

#[test]
fn a_dead_core_is_told_with_its_cause_and_started_again_once_mended() {
    let hub = home().up();
    let good = fs::read(hub.path("bin/mqttcore")).unwrap();
    install(
        &hub,
        "mqttcore",
        b"#!/bin/sh\necho 'bind: address already in use :8883' >&2; exit 9\n",
    );
    signal_pid(hub.pid("mqttcore"), KILL);
    let why = explained(
        &hub,
        "core",
        &["exited with code 9", "port 8883 is in use", "ss -ltnp"],
    );
    assert!(why.contains("hubcli start core"), "{why}");
    explained(&hub, "launcher", &["there is no bus: ", "hubcli why core"]);
    let all = locally(&hub, &["why"]);
    assert!(
        all.contains("launcher: ") && all.contains("core: "),
        "{all}"
    );
    let table = locally(&hub, &["ls"]);
    assert!(table.contains("code 9"), "{table}");
    supervision_goes_on(&hub);
    // Nobody has to say that it was mended.
    install(&hub, "mqttcore", &good);
    over_the_bus(&hub);
    hub.down();
}

#[test]
fn a_core_that_is_killed_again_and_again_is_back_each_time() {
    let hub = home().up();
    let worker = hub.pid("worker");
    for _ in 0..5 {
        signal_pid(hub.pid("mqttcore"), KILL);
        over_the_bus(&hub);
    }
    assert_eq!(hub.pid("worker"), worker);
    let core = hub.info("mqttcore");
    assert!(core["Restarts"].as_i64().unwrap() >= 5, "{core}");
    hub.down();
}

#[test]
fn a_core_that_hangs_is_the_reason_on_the_screen_and_spoken_to_again() {
    let hub = home().up();
    let core = hub.pid("mqttcore");
    signal_pid(core, STOP);
    let said = hub.hubcli(&["ls"]);
    let note = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        said_note(&said) && note.contains("the hub did not answer"),
        "{note}"
    );
    supervision_goes_on(&hub);
    // The launcher's own connection is silent: it is noticed by that.
    explained(&hub, "launcher", &["there is no bus: ", "hubcli why core"]);
    signal_pid(core, CONT);
    over_the_bus(&hub);
    assert_eq!(hub.pid("mqttcore"), core);
    hub.down();
}

#[test]
fn a_slow_core_delays_only_what_goes_over_it() {
    let hub = home().up();
    let core = hub.pid("mqttcore");
    let slow = Arc::new(AtomicBool::new(true));
    let slowing = std::thread::spawn({
        let slow = slow.clone();
        move || {
            while slow.load(Ordering::Relaxed) {
                signal_pid(core, STOP);
                std::thread::sleep(Duration::from_millis(190));
                signal_pid(core, CONT);
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    });
    for _ in 0..3 {
        let before = hub.pid("worker");
        signal_pid(before, KILL);
        eventually("the worker is back", || {
            (hub.pid("worker") != before).then_some(())
        });
        hub.ok(&["restart", "worker"]);
        hub.ok(&["why", "worker"]);
    }
    slow.store(false, Ordering::Relaxed);
    slowing.join().unwrap();
    over_the_bus(&hub);
    assert_eq!(hub.pid("mqttcore"), core);
    hub.down();
}

/// A line to a hub, which may be cut, or go dead without anybody being told.
struct Line {
    port: u16,
    dead: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Line {
    fn to(port: u16) -> Line {
        let listener = TcpListener::bind(("localhost", 0)).unwrap();
        let line = Line {
            port: listener.local_addr().unwrap().port(),
            dead: Arc::default(),
            open: Arc::default(),
        };
        let (dead, open) = (line.dead.clone(), line.open.clone());
        // Ends with the test's process.
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                // One that is set up while the line is dead is never answered.
                let Ok(far) = TcpStream::connect(("localhost", port)) else {
                    continue;
                };
                open.lock().unwrap().push(near.try_clone().unwrap());
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let dead = dead.clone();
                    std::thread::spawn(move || carry(from, to, &dead));
                }
            }
        });
        line
    }

    /// Both ends are told.
    fn cut(&self) {
        for near in self.open.lock().unwrap().drain(..) {
            let _ = near.shutdown(Shutdown::Both);
        }
    }

    fn break_down(&self) {
        self.dead.store(true, Ordering::Relaxed);
    }

    /// For those who call anew; what was connected before stays dead.
    fn mend(&self) {
        self.dead.store(false, Ordering::Relaxed);
    }
}

/// Carries bytes one way; what once came while the line was dead never arrives, nor anything after it, nor the end.
fn carry(mut from: TcpStream, mut to: TcpStream, dead: &AtomicBool) {
    let mut buffer = [0; 4096];
    let mut lost = false;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        lost |= dead.load(Ordering::Relaxed);
        if !lost && to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    if !lost {
        let _ = to.shutdown(Shutdown::Write);
    }
}

/// A hub, and a launcher elsewhere that is connected to it over a line.
fn apart() -> (Hub, Line, Hub) {
    let hub = Home::new("corebin: mqttcore\n").up();
    let line = Line::to(hub.port());
    let away = Home::new(
        "logLevel: info\ncreatePluginCred: false\nautostart: [worker]\n\
         restart: {delay: 100ms, maxDelay: 1s}\n",
    );
    away.plugin("worker", SLEEPER);
    fs::create_dir(away.path("certs")).unwrap();
    for file in [
        "caCert.pem",
        "launcher.key",
        "launcher.pub",
        "launcher.token",
    ] {
        fs::copy(hub.path("certs").join(file), away.path("certs").join(file)).unwrap();
    }
    let mut command = away.launcher();
    command.args(["--server", &format!("mqtts://localhost:{}", line.port)]);
    let away = away.launch_by(command);
    explained(&away, "launcher", &["it is connected to the bus"]);
    (hub, line, away)
}

#[test]
fn a_half_open_connection_is_noticed_told_and_replaced() {
    let (hub, line, away) = apart();
    line.break_down();
    supervision_goes_on(&away);
    explained(&away, "launcher", &["there is no bus: ", "tried again"]);
    supervision_goes_on(&away);
    line.mend();
    explained(&away, "launcher", &["it is connected to the bus"]);
    supervision_goes_on(&away);
    away.signal_launcher(15);
    let mut away = away;
    assert_eq!(away.ended().code(), Some(0));
    hub.down();
}

#[test]
fn a_core_that_refuses_the_launchers_login_is_told_with_file_and_way_out() {
    let (hub, line, mut away) = apart();
    let token = away.path("certs/launcher.token");
    let good = fs::read_to_string(&token).unwrap();
    // It was valid, and is no more.
    let day = Duration::from_secs(24 * 3600);
    let ended = token_of(&hub, "launcher", now().before(day * 2), day);
    replace(&token, &ended);
    line.cut();
    let file = token.display().to_string();
    explained(
        &away,
        "launcher",
        &["there is no bus: ", &file, "expired at", "copy"],
    );
    supervision_goes_on(&away);
    replace(&token, &good);
    explained(&away, "launcher", &["it is connected to the bus"]);
    away.signal_launcher(15);
    assert_eq!(away.ended().code(), Some(0));
    hub.down();
}
