//! A hub on Debian's mosquitto, by the configuration that is shipped; and hubs whose core is elsewhere.

use crate::hub::{Home, Hub, PATIENCE, eventually, signal_pid};
use bus::client::{CallError, Client, Incoming, Options, connect_once};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};
use tokio::sync::mpsc::Receiver;

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
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
pub fn home_on_mosquitto(port: u16, more: &str) -> Home {
    let home = Home::new(&format!(
        "logLevel: info\ncorebin: {{bin: mosquitto, args: [-c, config/mosquitto.conf], \
         url: \"mqtts://localhost:{port}\", auth: certificate, ready: notify}}\n{more}"
    ));
    shipped(&home, port);
    home
}

/// Installs the example plugin, which counts each second.
pub fn counter(home: &Home) {
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
pub fn hears_the_counter(hub: &Hub) {
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

pub const COUNTS: &str = "autostart: [counter]\nplugins: {counter: {args: ['1']}}\n";

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

#[test]
fn a_home_changes_its_core_and_back_and_everybody_finds_it() {
    let home = home_on_mosquitto(free_port(), COUNTS);
    counter(&home);
    let on_mosquitto = fs::read_to_string(home.path("config/launcher.yaml")).unwrap();
    let mut hub = home.up();
    hears_the_counter(&hub);
    let ca = fs::read(hub.path("certs/caCert.pem")).unwrap();
    // Killed, so that it leaves the address of the bus behind.
    hub.signal_launcher(9);
    hub.ended();
    let config = format!("logLevel: info\ncorebin: mqttcore\n{COUNTS}");
    fs::write(hub.path("config/launcher.yaml"), config).unwrap();
    hub.relaunch();
    hub.pid("counter");
    assert!(hub.ok(&["lu"]).contains("counter"));
    hears_the_counter(&hub);
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0));
    // Tokens that a core without an auth service does not want are in nobody's way, whatever has become of them.
    assert!(hub.path("certs/admin.token").exists());
    fs::remove_file(hub.path("certs/counter.token")).unwrap();
    fs::write(hub.path("certs/counter.token"), "as it was once").unwrap();
    fs::write(hub.path("config/launcher.yaml"), on_mosquitto).unwrap();
    hub.relaunch();
    hub.pid("counter");
    hears_the_counter(&hub);
    assert_eq!(fs::read(hub.path("certs/caCert.pem")).unwrap(), ca);
    hub.down();
}

/// The user of an ordinary account.
const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// Has programs that are linked into a home be copies, so that a change of their owner is not one of those that were built.
fn unlinked(home: &Home) {
    for folder in ["bin", "plugins"] {
        for entry in fs::read_dir(home.path(folder)).unwrap() {
            let place = entry.unwrap().path();
            let copy = place.with_extension("copy");
            fs::copy(&place, &copy).unwrap();
            fs::rename(&copy, &place).unwrap();
        }
    }
}

#[test]
fn the_same_configuration_serves_an_ordinary_user() {
    if !is_root() {
        // Then the other tests are of an ordinary user.
        return;
    }
    let home = home_on_mosquitto(free_port(), COUNTS);
    counter(&home);
    unlinked(&home);
    let owned = Command::new("chown")
        .args(["-R", &format!("{NOBODY}:{NOBODY}")])
        .arg(home.path(""))
        .status();
    assert!(owned.unwrap().success());
    let mut command = Command::new("setpriv");
    command
        .args([
            &format!("--reuid={NOBODY}"),
            &format!("--regid={NOBODY}"),
            "--clear-groups",
        ])
        .arg(home.path("bin/launcher"))
        // As an ordinary user has it, without the folders of servers.
        .env("PATH", "/usr/local/bin:/usr/bin:/bin");
    let hub = home.launch_by(command);
    hub.wait_for_bus();
    hears_the_counter(&hub);
    let broker = hub.info("mosquitto")["PID"].as_i64().unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(
        fs::metadata(format!("/proc/{broker}")).unwrap().uid(),
        NOBODY
    );
    hub.down();
}

/// Logs in with the certificate in `certs`, and listens to `filters`.
async fn login(
    certs: &Path,
    url: &str,
    id: &str,
    filters: &[&str],
) -> (Client, Receiver<Incoming>) {
    let mut options = Options::new(
        id,
        vec![url.parse().unwrap()],
        bus::hub::certificate_only(certs, id),
    );
    for filter in filters {
        options = options.subscribe(*filter);
    }
    connect_once(options, PATIENCE).await.unwrap()
}

#[test]
fn plugins_on_mosquitto_may_do_what_they_need_and_no_more() {
    let home = home_on_mosquitto(free_port(), "autostart: [a, b]\n");
    for id in ["a", "b"] {
        home.plugin(id, "exec sleep 1000");
    }
    let hub = home.up();
    for id in ["a", "b"] {
        hub.pid(id);
    }
    let url = fs::read_to_string(hub.path("run/core.url")).unwrap();
    let (url, certs) = (url.trim(), hub.path("certs"));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (a, mut to_a) = login(
            &certs,
            url,
            "a",
            // The last three are others' business: granted by mosquitto, and empty.
            &[
                "action/a/+/+/#",
                "event/+/+/+/#",
                "action/b/#",
                "rpc/b/#",
                "_INBOX/#",
            ],
        )
        .await;
        let (b, mut to_b) = login(&certs, url, "b", &["action/b/+/+/#", "event/+/+/+/#"]).await;
        for topic in [
            "event/a/x/y/b",
            "event/b/x/y/a",
            "action/b/x/y/b",
            "rpc/launcher/manage/list/admin",
            "other/a",
        ] {
            let refused = a.publish(topic, "1").await;
            assert!(
                matches!(refused, Err(CallError::NotAuthorized)),
                "{topic}: {refused:?}"
            );
        }
        // A request and its answer, between the two; nobody else hears either.
        let asked = tokio::spawn(async move {
            let answer = b.call("action/a/x/y/b", "ping", PATIENCE).await;
            (b, answer)
        });
        let request = loop {
            match to_a.recv().await.unwrap() {
                Incoming::Request(request) => break request,
                Incoming::Connected { .. } | Incoming::Message { .. } => {}
                Incoming::Disconnected { reason } => panic!("{reason}"),
            }
        };
        assert_eq!(request.topic, "action/a/x/y/b");
        a.reply(&request, Ok(b"pong".to_vec())).await.unwrap();
        let (b, answer) = asked.await.unwrap();
        assert_eq!(answer.unwrap(), b"pong");
        // Ask the launcher, too, and what nobody serves.
        let list = b.call("rpc/launcher/manage/list/b", "{}", PATIENCE).await;
        assert!(
            String::from_utf8(list.unwrap())
                .unwrap()
                .contains("mosquitto")
        );
        let nobody = b
            .call("rpc/auth/manageClients/getProfiles/b", "", PATIENCE)
            .await;
        assert!(
            matches!(nobody, Err(CallError::NobodyServes { .. })),
            "{nobody:?}"
        );
        a.publish("event/a/x/y/a", "last").await.unwrap();
        let mut heard = Vec::new();
        loop {
            if let Incoming::Message { topic, payload } = to_b.recv().await.unwrap() {
                heard.push(topic);
                if payload.as_ref() == b"last" {
                    break;
                }
            }
        }
        assert!(
            heard.iter().all(|topic| topic.starts_with("event/")),
            "{heard:?}"
        );
        while let Ok(more) = to_a.try_recv() {
            if let Incoming::Message { topic, .. } = more {
                assert!(topic.starts_with("event/"), "{topic}");
            }
        }
        a.close().await;
        b.close().await;
    });
    hub.down();
}

/// A home whose hub is elsewhere, with the certificates and keys of that one's launcher.
fn elsewhere(certs: &Path, names: &[&str], more: &str) -> Home {
    let home = Home::new(&format!("logLevel: info\n{more}"));
    fs::create_dir(home.path("certs")).unwrap();
    for name in names {
        fs::copy(certs.join(name), home.path("certs").join(name)).unwrap();
    }
    counter(&home);
    home
}

fn launch_to(home: Home, url: &str) -> Hub {
    let mut command = home.launcher();
    command.args(["--server", url]);
    home.launch_by(command)
}

/// A program that is killed when its test ends.
struct Program(std::process::Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_core_of_another_home_gives_the_plugins_their_tokens() {
    let core = Home::new("");
    let mut command = Command::new(core.path("bin/mqttcore"));
    command
        .arg("--home")
        .arg(core.path(""))
        .stdout(Stdio::null());
    let _core = Program(command.spawn().unwrap());
    let url = eventually("the core has left its address", || {
        let url = fs::read_to_string(core.path("run/mqttcore.url")).ok()?;
        Some(format!(
            "mqtts://localhost:{}",
            url.trim().rsplit(':').next()?
        ))
    });
    let certs = core.path("certs");
    // What an operator copies to another machine: no secrets of the hub itself.
    let names = [
        "caCert.pem",
        "launcher.key",
        "launcher.token",
        "admin.key",
        "admin.token",
    ];
    let hub = launch_to(elsewhere(&certs, &names, COUNTS), &url);
    hub.wait_for_bus();
    hub.pid("counter");
    assert!(hub.path("certs/counter.token").exists());
    hears_the_counter(&hub);
    assert!(hub.ok(&["lu"]).contains("counter"));
    hub.ok(&["stop", "counter"]);
    hub.down();

    // By certificates of its CA as well: such a launcher gets its plugins tokens all the same.
    let now = SystemTime::now().into();
    let ca = creds::ca::load_ca(&certs, now).unwrap();
    for (client_id, unit) in [("launcher", "service"), ("admin", "admin")] {
        let subject = creds::ca::ClientSubject { client_id, unit };
        let life = creds::ca::ClientLife {
            life: Duration::from_secs(24 * 3600),
            renew_at: 0.66,
        };
        creds::ca::load_or_create_client(&certs, &ca, subject, life, now).unwrap();
    }
    let names = [
        "caCert.pem",
        "launcher.key",
        "launcherCert.pem",
        "admin.key",
        "adminCert.pem",
    ];
    let hub = launch_to(elsewhere(&certs, &names, COUNTS), &url);
    hub.wait_for_bus();
    hub.pid("counter");
    assert!(hub.path("certs/counter.token").exists());
    hears_the_counter(&hub);
    hub.down();
}

#[test]
fn a_mosquitto_of_another_home_knows_them_by_their_certificates() {
    // That home's launcher has another name, so that each answers for itself.
    let port = free_port();
    let broker = home_on_mosquitto(port, "");
    let mut command = broker.launcher();
    command.args([
        "--clientID",
        "launcher-east",
        "--configFile",
        "launcher.yaml",
    ]);
    let broker = broker.launch_by(command);
    let certs = broker.path("certs");
    eventually(
        &format!("the broker is there\n{}", broker.account()),
        || broker.log("core").contains("launcher-east").then_some(()),
    );
    let now = SystemTime::now().into();
    let ca = creds::ca::load_or_create_ca(&certs, now).unwrap();
    let subject = creds::ca::ClientSubject {
        client_id: "launcher",
        unit: "service",
    };
    let life = creds::ca::ClientLife {
        life: Duration::from_secs(24 * 3600),
        renew_at: 0.66,
    };
    creds::ca::load_or_create_client(&certs, &ca, subject, life, now).unwrap();
    let names = [
        "caCert.pem",
        "caKey.pem",
        "launcher.key",
        "launcherCert.pem",
        "admin.key",
        "adminCert.pem",
    ];
    let url = format!("mqtts://localhost:{port}");
    let hub = launch_to(elsewhere(&certs, &names, COUNTS), &url);
    hub.wait_for_bus();
    hub.pid("counter");
    assert!(!hub.path("certs/counter.token").exists());
    hears_the_counter(&hub);
    assert_eq!(hub.hubcli(&["lu"]).status.code(), Some(1));
    hub.ok(&["stop", "counter"]);
    // Named as it is, too.
    hub.ok(&["--server", &url, "ls"]);

    // Another name than the certificate's, another CA, no certificate: each says what to do.
    let other = hub.hubcli(&["--server", &format!("mqtts://127.0.0.2:{port}"), "ls"]);
    assert_eq!(other.status.code(), Some(3));
    assert!(complaint(&other).contains("hubCert.pem"), "{other:?}");
    fs::rename(hub.path("certs/adminCert.pem"), hub.path("certs/kept")).unwrap();
    let none = hub.hubcli(&["--server", &url, "ls"]);
    assert_eq!(none.status.code(), Some(3), "{none:?}");
    // The launcher of this machine can be asked all the same, by its socket.
    hub.ok(&["ls"]);
    fs::rename(hub.path("certs/kept"), hub.path("certs/adminCert.pem")).unwrap();
    let foreign = Home::new("");
    fs::create_dir(foreign.path("certs")).unwrap();
    let stranger = creds::ca::load_or_create_ca(&foreign.path("certs"), now).unwrap();
    let subject = creds::ca::ClientSubject {
        client_id: "admin",
        unit: "admin",
    };
    creds::ca::load_or_create_client(&foreign.path("certs"), &stranger, subject, life, now)
        .unwrap();
    let told = Command::new(foreign.path("bin/hubcli"))
        .args(["--server", &url, "ls"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(complaint(&told).contains("caCert.pem"), "{told:?}");
    // It trusts the server, but the server does not know its CA.
    fs::remove_file(foreign.path("certs/caCert.pem")).unwrap();
    fs::copy(certs.join("caCert.pem"), foreign.path("certs/caCert.pem")).unwrap();
    let told = Command::new(foreign.path("bin/hubcli"))
        .args(["--server", &url, "ls"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(complaint(&told).contains("adminCert.pem"), "{told:?}");
    hub.down();
    broker.down();
}
