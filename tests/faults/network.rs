//! Finding a hub on the network (HP 1.11, T26, T27), in a network that only the test's processes see.

use crate::hub::{Home, Hub, eventually};
use crate::means::{is_root, left_out};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// One address, no route, and a neighbour.
const NETWORK: &str = "ip link set lo up && ip link add lan type veth peer name peer && ip link set peer up \
    && ip address add 10.9.8.1/24 dev lan && ip link set lan multicast on up";

/// Another address.
const MOVE: &str = "ip address add 10.9.9.1/24 dev lan && ip address del 10.9.8.1/24 dev lan";

/// A core that is announced.
const CORE: &str = "mqttserver: {port: 0, wsPort: 0, inMemUDSName: \"\"}\n";

/// Prints what comes and goes on the network as another maker's library sees it.
const WATCHER: &str = r#"
import json, sys, zeroconf
KIND = "_hiveot._tcp.local."
class Listener(zeroconf.ServiceListener):
    def add_service(self, zc, kind, name):
        info = zc.get_service_info(kind, name, 10000)
        text = sorted(f"{k.decode()}={v.decode()}" for k, v in info.properties.items())
        said = [name, info.server, info.port, info.parsed_addresses(), text]
        print("came", json.dumps(said), flush=True)
    def remove_service(self, zc, kind, name):
        print("went", name, flush=True)
    def update_service(self, zc, kind, name):
        pass
zeroconf.ServiceBrowser(zeroconf.Zeroconf(), KIND, Listener())
sys.stdin.read()
"#;

fn private_network() -> Command {
    let mut command = Command::new("unshare");
    command.arg(if is_root() { "-n" } else { "-rn" });
    command
}

fn has_private_networks() -> bool {
    private_network()
        .args(["sh", "-c", NETWORK])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// The hub of a home in a network of its own.
fn up_in_network(home: Home) -> Hub {
    let launcher = home.path("bin/launcher");
    let mut command = private_network();
    let script = format!("{NETWORK} && exec '{}'", launcher.display());
    command.args(["sh", "-c", &script]);
    let hub = home.launch_by(command);
    eventually("the hub is up", || {
        let output = beside(&hub, &hub.path("bin/hubcli"), &["--json", "ls"]);
        // Without a note that it is the launcher's own socket that answers.
        (output.status.success() && output.stderr.is_empty()).then_some(())
    });
    hub
}

/// What runs the command that follows in the hub's network.
fn inside(hub: &Hub) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["-t", &hub.launcher_pid().to_string(), "-n"]);
    if !is_root() {
        command.args(["-U", "--preserve-credentials"]);
    }
    command
}

/// Runs a program in the hub's network.
fn beside(hub: &Hub, program: &Path, args: &[&str]) -> Output {
    inside(hub)
        .arg(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A home without a core, with what an operator has been given of a hub.
fn operator(of: &Hub, ca: &Path) -> Home {
    let home = Home::empty();
    fs::create_dir(home.path("certs")).unwrap();
    fs::copy(ca, home.path("certs/caCert.pem")).unwrap();
    for file in ["admin.token", "admin.key"] {
        fs::copy(of.path("certs").join(file), home.path("certs").join(file)).unwrap();
    }
    home
}

/// Where the core says it is; that comes a moment after its socket serves.
fn url_of(hub: &Hub) -> String {
    let file = hub.path("run/mqttcore.url");
    eventually("the core says where it is", || {
        fs::read_to_string(&file).ok()
    })
}

/// The hub in the network is not that of the home, and is not looked for.
fn assert_is_alone(hub: &Hub, home: &Home) {
    let alone = beside(hub, &home.path("bin/hubcli"), &["ls"]);
    assert_eq!(alone.status.code(), Some(3), "{alone:?}");
    let told = String::from_utf8(alone.stderr).unwrap();
    assert!(told.contains("no hub listens at"), "{told}");
    assert!(!told.contains("network"), "{told}");
}

/// Ends with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A core of another home that is announced in the hub's network.
fn rogue_core(of: &Hub) -> (Running, Home) {
    let home = Home::empty();
    fs::write(home.path("config/mqttcore.yaml"), CORE).unwrap();
    let mut command = inside(of);
    command.arg(home.path("bin/mqttcore")).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let running = Running(command.spawn().unwrap());
    eventually("the other core is up", || {
        home.path("run/mqttcore.url").exists().then_some(())
    });
    (running, home)
}

#[test]
fn a_hub_is_found_on_the_network_and_trusted_only_by_its_ca() {
    if !has_private_networks() {
        left_out(
            "a hub on the network",
            "no private network can be made (unshare, ip)",
        );
        return;
    }
    let home = Home::new("corebin: mqttcore\n");
    fs::write(home.path("config/mqttcore.yaml"), CORE).unwrap();
    let hub = up_in_network(home);
    let url = url_of(&hub);
    assert!(url.starts_with("tcp://10.9.8.1:"), "without a route: {url}");

    let friend = operator(&hub, &hub.path("certs/caCert.pem"));
    let place = url.replace("tcp://", "mqtts://");
    let found = eventually("the hub is found", || {
        let output = beside(&hub, &friend.path("bin/hubcli"), &["ls"]);
        output.status.success().then_some(output)
    });
    let told = String::from_utf8(found.stderr).unwrap();
    let expected = format!("using the hub at {place}, found on the network\n");
    assert_eq!(told, expected);
    assert!(
        String::from_utf8(found.stdout)
            .unwrap()
            .contains("mqttcore")
    );

    // Another core on the network, of another CA, cannot get in the way, whoever answers first.
    let rogue = rogue_core(&hub);
    for _ in 0..4 {
        let output = beside(&hub, &friend.path("bin/hubcli"), &["ls"]);
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(told, expected);
    }
    drop(rogue);

    // A hub of another CA gets to know nothing: its core sees no login.
    let elsewhere = friend.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let now = creds::UnixTime::from(std::time::SystemTime::now());
    creds::ca::replace_ca(&elsewhere, "Hub CA", Duration::from_secs(86_400), now).unwrap();
    let stranger = operator(&hub, &elsewhere.join("caCert.pem"));
    let refused = beside(&hub, &stranger.path("bin/hubcli"), &["ls"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("was not signed by this hub's CA"), "{told}");

    // It is found where the machine is now, with a certificate for that.
    let moved = inside(&hub).args(["sh", "-c", MOVE]).status();
    assert!(moved.unwrap().success());
    let expected = expected.replace("10.9.8.1", "10.9.9.1");
    eventually("the hub is found at its new address", || {
        let output = beside(&hub, &friend.path("bin/hubcli"), &["ls"]);
        (output.stderr == expected.as_bytes()).then_some(())
    });

    // A home whose own core is down is not led elsewhere (T27), be it that one is configured or that one was there.
    let file = friend.path("config/launcher.yaml");
    fs::write(&file, "corebin: mqttcore\n").unwrap();
    assert_is_alone(&hub, &friend);
    fs::remove_file(&file).unwrap();
    fs::create_dir_all(friend.path("stores/auth")).unwrap();
    assert_is_alone(&hub, &friend);
    hub.down();
}

#[test]
fn a_launcher_without_a_core_works_for_a_hub_that_it_finds() {
    if !has_private_networks() {
        left_out(
            "a launcher finds a hub",
            "no private network can be made (unshare, ip)",
        );
        return;
    }
    let home = Home::new("corebin: mqttcore\nautostart: []\n");
    fs::write(home.path("config/mqttcore.yaml"), CORE).unwrap();
    let hub = up_in_network(home);
    let east = operator(&hub, &hub.path("certs/caCert.pem"));
    east.plugin(
        "worker",
        "echo \"at ${HIVEOT_SERVER-nowhere}\"; exec sleep 0.2",
    );
    fs::write(
        east.path("config/launcher.yaml"),
        "logLevel: info\ncreatePluginCred: false\nautostart: [worker]\nrestart: {delay: 200ms, maxDelay: 500ms}\n",
    )
    .unwrap();
    for file in ["launcher.token", "launcher.key", "launcher.pub"] {
        fs::copy(hub.path("certs").join(file), east.path("certs").join(file)).unwrap();
    }
    let url = url_of(&hub);
    let place = url.replace("tcp://", "mqtts://");
    let mut command = inside(&hub);
    command.arg(east.path("bin/launcher"));
    let east = east.launch_by(command);
    eventually(
        &format!("it is connected to {place}\n{}", east.account()),
        || east.log("launcher").contains(&place).then_some(()),
    );
    eventually("the plugin is told where the hub is", || {
        let told = east.log("worker");
        told.contains(&format!("at {place}\n")).then_some(())
    });
    let told = east.log("worker");
    assert!(
        !told.contains("at unix:"),
        "there is no such socket: {told}"
    );
    east.down();
    hub.down();
}

#[test]
fn the_record_is_as_other_libraries_expect_it_and_is_taken_back() {
    let python = Command::new("python3")
        .args(["-c", "import zeroconf"])
        .stderr(Stdio::null())
        .status();
    if !has_private_networks() || !python.is_ok_and(|status| status.success()) {
        left_out(
            "the record as others see it",
            "no private network can be made, or python's zeroconf is missing",
        );
        return;
    }
    let home = Home::new("corebin: mqttcore\nautostart: []\n");
    fs::write(home.path("config/mqttcore.yaml"), CORE).unwrap();
    let hub = up_in_network(home);
    let url = url_of(&hub);
    let port = url.rsplit(':').next().unwrap();
    let mut command = inside(&hub);
    command
        .args(["python3", "-c", WATCHER])
        .stdin(Stdio::piped());
    command.stdout(Stdio::piped());
    let mut watcher = Running(command.spawn().unwrap());
    let lines = watcher.0.stdout.take().unwrap();
    let mut lines = BufReader::new(lines).lines();
    let hostname = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let came = lines.next().unwrap().unwrap();
    let expected = format!(
        "came [\"mqttcore._hiveot._tcp.local.\", \"{hostname}.local.\", {port}, [\"10.9.8.1\"], [\"core=mqtt\", \"rawurl={url}\"]]"
    );
    assert_eq!(came, expected);
    hub.down();
    let went = lines.next().unwrap().unwrap();
    assert_eq!(went, "went mqttcore._hiveot._tcp.local.");
}
