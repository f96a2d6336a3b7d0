//! Users and their passwords, from hubcli to the core and back (HP 1.20, 1.22).

use crate::hub::{Home, Hub};
use serde_json::Value;

/// Whether `id` may log in with `password` and see the plugins; a token's file may hold a password as well.
fn sees(hub: &Hub, id: &str, password: &str) -> Option<i32> {
    let token = hub.path(format!("certs/{id}.token"));
    std::fs::write(&token, password).unwrap();
    // Who names the bus is let in by it or not at all.
    let code = hub
        .hubcli(&["--server", &hub.tls_url(), "--login", id, "ls"])
        .status
        .code();
    std::fs::remove_file(token).unwrap();
    code
}

#[test]
fn a_user_comes_changes_and_goes() {
    let hub = Home::new("corebin: mqttcore\n").up();
    let out = hub.ok(&["addu", "joe", "viewer", "--name", "Joe"]);
    let password = out
        .strip_prefix("User joe added successfully. Temp password: ")
        .unwrap()
        .trim_end();
    assert_eq!(sees(&hub, "joe", password), Some(0));
    assert_eq!(sees(&hub, "joe", "wrong"), Some(3));
    let list = hub.ok(&["lu"]);
    assert!(list.starts_with("Users\nLogin ID "), "{list}");
    assert!(
        list.contains("\njoe                  Joe                       viewer          20"),
        "{list}"
    );
    assert!(!list.contains(password), "it is shown once");
    assert_eq!(hub.hubcli(&["addu", "joe"]).status.code(), Some(1));

    let changed = hub.hubcli_with(&["password", "joe"], "chosen by joe\n");
    assert!(changed.status.success(), "{changed:?}");
    assert_eq!(changed.stdout, b"User joe password has been updated\n");
    assert_eq!(sees(&hub, "joe", password), Some(3));
    assert_eq!(sees(&hub, "joe", "chosen by joe"), Some(0));
    for (args, code) in [
        (&["password", "joe", "seen by all"][..], 2),
        (&["password", "nobody", "--generate"], 1),
        (&["password", "joe"], 2),
        (&["role", "joe", "boss"], 2),
        (&["rmu", "nobody"], 1),
        (&["rmu", "launcher"], 1),
    ] {
        assert_eq!(hub.hubcli(args).status.code(), Some(code), "{args:?}");
    }

    let out = hub.ok(&["role", "joe", "none"]);
    assert_eq!(out, "User joe role has been updated to none\n");
    assert_eq!(sees(&hub, "joe", "chosen by joe"), Some(1));
    let list: Value = serde_json::from_str(&hub.ok(&["--json", "lu"])).unwrap();
    let ids: Vec<&str> = list["profiles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|profile| profile["clientID"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["admin", "auth", "joe", "launcher"]);
    assert_eq!(hub.ok(&["rmu", "joe"]), "Client joe removed\n");
    assert_eq!(sees(&hub, "joe", "chosen by joe"), Some(3));
    hub.down();
}
