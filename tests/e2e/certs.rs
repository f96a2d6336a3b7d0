//! The certificates of a hub that runs: shown, and its CA replaced (HP 1.22).

use crate::hub::{Home, eventually};
use serde_json::Value;

#[test]
fn a_ca_is_replaced_by_force_and_taken_over_by_the_core() {
    let hub = Home::new("corebin: mqttcore\n").up();
    let seen = || serde_json::from_str::<Value>(&hub.ok(&["--json", "vca"])).unwrap();
    let file = || std::fs::read(hub.path("certs/caCert.pem")).unwrap();
    let ca = file();
    let before = seen();
    assert_eq!(
        before["ca"]["subject"],
        "CN=hiveot,ST=BC,L=HiveOT zone,O=HiveOT,C=CA"
    );
    assert_eq!(before["hub"]["state"], "valid");
    assert!(hub.ok(&["vca"]).starts_with("CA certificate path:  /"));

    let refused = hub.hubcli(&["cca"]);
    assert_eq!(refused.status.code(), Some(1));
    let err = String::from_utf8(refused.stderr).unwrap();
    assert!(err.contains("Use --force to replace\nhint:  "), "{err}");
    assert_eq!(file(), ca, "nothing was touched");

    hub.ok(&["cca", "--force", "--days", "20"]);
    let after = eventually("the core follows by itself", || {
        Some(seen()).filter(|seen| seen["hub"]["state"] != "signed by another CA")
    });
    assert_eq!(
        after["ca"]["subject"],
        "CN=Hub CA,ST=BC,L=HiveOT zone,O=HiveOT,C=CA"
    );
    assert_eq!(after["hub"]["issuer"], after["ca"]["subject"]);
    let shown = hub.hubcli(&["vca"]);
    let err = String::from_utf8(shown.stderr).unwrap();
    assert!(err.contains("caCert.pem: ends soon, "), "{err}");
    // What ends only because the CA does is not to be renewed by itself.
    assert_eq!(err.lines().count(), 1, "{err}");
    hub.ok(&["--server", &hub.tls_url(), "ls"]);
    hub.down();
}
