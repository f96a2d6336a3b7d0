//! Finding a hub on the network (HP 1.11, T26, T27), in a network that only the test's processes see.

use crate::hub::{Home, Hub, eventually};
use crate::means::{is_root, left_out};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// One address, no route, and a neighbour.
const NETWORK: &str = "ip link set lo up && ip link add lan type veth peer name peer && ip link set peer up \
    && ip address add 10.9.8.1/24 dev lan && ip link set lan multicast on up";

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
        output.status.success().then_some(())
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
    let core = "mqttserver: {port: 0, wsPort: 0, inMemUDSName: \"\"}\n";
    fs::write(home.path("config/mqttcore.yaml"), core).unwrap();
    let hub = up_in_network(home);
    let url = fs::read_to_string(hub.path("run/mqttcore.url")).unwrap();
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

    // A home whose own core is down is not led elsewhere (T27).
    fs::create_dir_all(friend.path("stores/auth")).unwrap();
    let alone = beside(&hub, &friend.path("bin/hubcli"), &["ls"]);
    assert_eq!(alone.status.code(), Some(3), "{alone:?}");
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
    let core = "mqttserver: {port: 0, wsPort: 0, inMemUDSName: \"\"}\n";
    fs::write(home.path("config/mqttcore.yaml"), core).unwrap();
    let hub = up_in_network(home);
    let east = operator(&hub, &hub.path("certs/caCert.pem"));
    east.plugin("worker", "echo \"at $HIVEOT_SERVER\"; exec sleep 1000");
    fs::write(
        east.path("config/launcher.yaml"),
        "logLevel: info\ncreatePluginCred: false\nautostart: [worker]\n",
    )
    .unwrap();
    for file in ["launcher.token", "launcher.key", "launcher.pub"] {
        fs::copy(hub.path("certs").join(file), east.path("certs").join(file)).unwrap();
    }
    let url = fs::read_to_string(hub.path("run/mqttcore.url")).unwrap();
    let place = url.replace("tcp://", "mqtts://");
    let mut command = inside(&hub);
    command.arg(east.path("bin/launcher"));
    let east = east.launch_by(command);
    eventually(
        &format!("it is connected to {place}\n{}", east.account()),
        || east.log("launcher").contains(&place).then_some(()),
    );
    east.down();
    hub.down();
}
