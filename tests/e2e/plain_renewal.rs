//! The certificates of a hub on mosquitto, renewed while it runs; and its CA replaced.

use crate::hub::eventually;
use crate::plain::{COUNTS, counter, free_port, hears_the_counter, home_on_mosquitto};
use creds::ca::{ServerNames, ServerOrigin, load_ca, load_or_create_server};
use serde_json::Value;
use std::fs;
use std::time::SystemTime;

#[test]
fn a_server_certificate_is_renewed_without_loss_of_a_connection() {
    let home = home_on_mosquitto(free_port(), COUNTS);
    counter(&home);
    let hub = home.up();
    hears_the_counter(&hub);
    let broker = hub.pid("mosquitto");
    let certs = hub.path("certs");
    // As if this machine had been called otherwise until now.
    let now = SystemTime::now().into();
    let ca = load_ca(&certs, now).unwrap();
    let before = ServerNames::new("as-it-was-called", &[]);
    let server = load_or_create_server(&certs, &ca, &before, now).unwrap();
    assert!(matches!(server.origin, ServerOrigin::Made { .. }));
    eventually(
        &format!("mosquitto reads it again\n{}", hub.account()),
        || hub.log("core").contains("Reloading config.").then_some(()),
    );
    let shown = fs::read_to_string(certs.join("hubCert.pem")).unwrap();
    assert_ne!(shown, server.cert_pem);
    hears_the_counter(&hub);
    assert_eq!(hub.pid("mosquitto"), broker);
    assert_eq!(hub.log("counter").matches("connected to").count(), 1);
    hub.down();
}

#[test]
fn a_new_ca_restarts_the_core_and_locks_nobody_out() {
    let home = home_on_mosquitto(free_port(), COUNTS);
    counter(&home);
    let hub = home.up();
    let pid = hub.pid("counter");
    let broker = hub.pid("mosquitto");
    hub.ok(&["cca", "--force"]);
    eventually(&format!("mosquitto runs anew\n{}", hub.account()), || {
        let output = hub.hubcli(&["--json", "ls"]);
        let list: Vec<Value> = serde_json::from_slice(&output.stdout).ok()?;
        (list[0]["Phase"] == "running" && list[0]["PID"] != i64::from(broker)).then_some(())
    });
    eventually(&format!("the counter is back\n{}", hub.account()), || {
        let connections = hub.log("counter").matches("\nconnected to").count();
        (connections == 2).then_some(())
    });
    assert_eq!(hub.pid("counter"), pid);
    hears_the_counter(&hub);
    let seen: Value = serde_json::from_str(&hub.ok(&["--json", "vca"])).unwrap();
    assert_eq!(seen["hub"]["state"], "valid", "{seen}");
    hub.down();
}
