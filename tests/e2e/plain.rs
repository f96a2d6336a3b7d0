//! A hub on Debian's mosquitto, by the configuration that is shipped; and hubs whose core is elsewhere.

use crate::hub::{Home, Hub, eventually, signal_pid};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Installs what is shipped for mosquitto, but for the port.
fn shipped(home: &Home, port: u16) {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let conf = fs::read_to_string(config.join("mosquitto.conf")).unwrap();
    let here = conf.replace("\nlistener 8883\n", &format!("\nlistener {port}\n"));
    assert_ne!(conf, here);
    fs::write(home.path("config/mosquitto.conf"), here).unwrap();
    fs::copy(
        config.join("mosquitto.acl"),
        home.path("config/mosquitto.acl"),
    )
    .unwrap();
}

/// A home with mosquitto as its core; in the file of the launcher is `more`, too.
fn home_on_mosquitto(port: u16, more: &str) -> Home {
    let home = Home::new(&format!(
        "logLevel: info\ncorebin: {{bin: mosquitto, args: [-c, config/mosquitto.conf], \
         url: \"mqtts://localhost:{port}\", auth: certificate}}\n{more}"
    ));
    shipped(&home, port);
    home
}

/// Installs the example plugin, which counts each second.
fn counter(home: &Home) {
    let program = Path::new(env!("CARGO_BIN_EXE_launcher")).with_file_name("examples/counter");
    let place = home.path("plugins/counter");
    if fs::hard_link(&program, &place).is_err() {
        fs::copy(&program, &place).unwrap();
    }
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Waits for one event of the counter.
fn hears_the_counter(hub: &Hub) {
    eventually("an event of the counter comes", || {
        let output = Command::new("timeout")
            .arg("5")
            .arg(hub.path("bin/hubcli"))
            .args(["--json", "sub", "-n", "1", "counter", "counter", "count"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let heard = String::from_utf8_lossy(&output.stdout).contains("count");
        (output.status.success() && heard).then_some(())
    });
}

const COUNTS: &str = "autostart: [counter]\nplugins: {counter: {args: ['1']}}\n";

#[test]
fn a_hub_lives_on_mosquitto_by_the_shipped_configuration() {
    let home = home_on_mosquitto(free_port(), COUNTS);
    counter(&home);
    let hub = home.up();
    let list = hub.list();
    assert_eq!(list[0]["Name"], "mosquitto", "{list:?}");
    let pid = hub.pid("counter");
    hears_the_counter(&hub);
    let mode = |file: &str| fs::metadata(hub.path(file)).unwrap().permissions().mode() & 0o7777;
    for (file, expected) in [
        ("certs/caKey.pem", 0o400),
        ("certs/hubKey.pem", 0o400),
        ("certs/hubCert.pem", 0o444),
        ("certs/launcherCert.pem", 0o444),
        ("certs/adminCert.pem", 0o444),
        ("certs/admin.key", 0o400),
        ("certs/counterCert.pem", 0o444),
        ("run/core.url", 0o644),
    ] {
        assert_eq!(mode(file), expected, "{file}");
    }
    assert!(!hub.path("certs/counter.token").exists());

    // What a plain broker has not is named, and at once.
    for args in [&["lu"][..], &["addu", "joe"], &["role", "joe", "viewer"]] {
        let output = hub.hubcli(args);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = complaint(&output);
        assert!(
            text.starts_with("ERROR:  this hub has no auth service\nhint:  "),
            "{text}"
        );
    }
    assert!(
        hub.ok(&["pub", "counter", "counter", "reset"])
            .contains("Successfully")
    );

    // The broker is killed: it comes back, and nothing that runs on it ends.
    let before = hub.info("mosquitto");
    let broker = i32::try_from(before["PID"].as_i64().unwrap()).unwrap();
    signal_pid(broker, 9);
    eventually("mosquitto has a new process", || {
        let output = hub.hubcli(&["--json", "ls"]);
        let list: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).ok()?;
        (list[0]["PID"] != before["PID"] && list[0]["Phase"] == "running").then_some(())
    });
    assert_eq!(hub.pid("counter"), pid);
    hears_the_counter(&hub);

    hub.ok(&["stop", "counter"]);
    assert_eq!(hub.info("counter")["Status"], "stopped by user");
    hub.ok(&["start", "counter"]);
    assert_ne!(hub.pid("counter"), pid);
    hub.ok(&["restart", "mosquitto"]);
    hub.wait_phase("counter", "running");

    // A restart of the launcher makes nothing anew.
    let kept = fs::read(hub.path("certs/counterCert.pem")).unwrap();
    let mut hub = hub;
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0), "{}", hub.account());
    hub.assert_nothing_left();
    assert!(!hub.path("run/core.url").exists());
    hub.relaunch();
    hub.pid("counter");
    assert_eq!(fs::read(hub.path("certs/counterCert.pem")).unwrap(), kept);
    hub.down();
}
