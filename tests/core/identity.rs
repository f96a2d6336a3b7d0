//! Certificates of a core that runs, when its machine gets other names.

use crate::hub::eventually;
use crate::server::Core;
use std::fs;
use std::io::Write;
use std::process::Command;

/// Runs a command in the namespaces of a process.
fn within(pid: i32, command: &[&str]) -> bool {
    let mut enter = Command::new("nsenter");
    enter.args(["-t", &pid.to_string(), "-n", "-u"]);
    enter.args(command).status().unwrap().success()
}

#[test]
fn a_new_name_or_address_of_the_machine_is_in_the_certificate_at_once() {
    let mut may = Command::new("unshare");
    may.args(["-n", "-u", "ip", "link", "set", "lo", "up"]);
    if !may.output().is_ok_and(|output| output.status.success()) {
        let text = b"left out: names that change: it needs root, unshare and ip\n";
        let _ = std::io::stderr().write_all(text);
        return;
    }
    // A machine without any interface but loopback.
    let mut core = Core::prepared("");
    let mut command = Command::new("unshare");
    let set_up = "ip link set lo up && hostname first && exec \"$0\" \"$@\"";
    command.args(["-n", "-u", "sh", "-c", set_up]);
    command.arg(core.path("bin/mqttcore"));
    core.launch_by(command);
    let names = || {
        let pem = fs::read_to_string(core.path("certs/hubCert.pem")).ok()?;
        let cert = creds::check::Certificate::from_pem(&pem).ok()?;
        let addresses = cert.addresses().iter().map(ToString::to_string);
        let names = cert.dns_names().iter().cloned().chain(addresses);
        Some(names.collect::<Vec<_>>())
    };
    let has = |name: &str| names().filter(|names| names.iter().any(|one| one == name));
    assert_eq!(names().unwrap(), ["localhost", "first", "127.0.0.1", "::1"]);
    assert!(within(core.pid(), &["hostname", "second"]));
    eventually("the new host name is in it", || has("second"));
    let add = ["ip", "address", "add", "10.9.8.7/24", "dev", "lo"];
    assert!(within(core.pid(), &add));
    let names = eventually("the new address is in it", || has("10.9.8.7"));
    assert!(names.contains(&"second".to_owned()));
    core.stop();
}
