//! The original's messages, byte by byte, against a running hub (HP 4, `tests/fixtures/vectors`).

use crate::hub::{Home, Hub};
use crate::packets::{CLIENT, Wire, raw, request};
use serde_json::Value;

fn hub_with_plugins() -> Hub {
    let home = Home::new("corebin: mqttcore\n");
    home.plugin("certs", "exec sleep 1000");
    home.plugin("false", "exit 1");
    home.up()
}

#[test]
fn the_list_request_of_the_original_is_answered() {
    let hub = hub_with_plugins();
    let mut wire = Wire::admin(&hub);
    let reply = wire.ask(&raw("list-request"));
    assert_eq!(reply.topic, format!("_INBOX/{CLIENT}"));
    assert_eq!(reply.content_type, "json");
    assert_eq!(reply.correlation, "1698434814123456789");
    let value: Value = serde_json::from_slice(&reply.payload).unwrap();
    let names: Vec<&str> = value["info"]
        .as_array()
        .unwrap()
        .iter()
        .map(|info| info["Name"].as_str().unwrap())
        .collect();
    // The core sorts as `core` (HP 1.9).
    assert_eq!(names, ["certs", "mqttcore", "false"]);
    let originals = [
        "CPU",
        "RSS",
        "ModifiedTime",
        "Name",
        "Path",
        "PID",
        "Running",
        "Size",
        "Status",
        "StartCount",
        "StartTimeMSE",
        "StopTimeMSE",
        "Uptime",
    ];
    let text = reply.text();
    let places: Vec<usize> = originals
        .iter()
        .map(|key| text.find(&format!("\"{key}\":")).unwrap())
        .collect();
    assert!(
        places.is_sorted(),
        "the original's fields come first, in its order"
    );
    assert!(!text.contains("null"));
    wire.send(&raw("disconnect-normal-short-form"));
    hub.down();
}

#[test]
fn errors_have_the_texts_of_the_original() {
    let hub = hub_with_plugins();
    let mut wire = Wire::admin(&hub);
    let long = vec![b'x'; 300 * 1024];
    let cases: [(&str, &[u8], &str); 9] = [
        (
            "startPlugin",
            b"{\"name\":\"nope\"}",
            "plugin 'nope' not found",
        ),
        (
            "restart",
            b"{}",
            "method 'restart' not part of capability 'manage'",
        ),
        (
            "startPlugin",
            b"",
            "failed unmarshal request: unexpected end of JSON input",
        ),
        (
            "list",
            b"",
            "failed unmarshal request: unexpected end of JSON input",
        ),
        ("startPlugin", b"{\"name\":\"false\"}", "exit status 1"),
        ("startPlugin", b"null", "plugin '' not found"),
        // What MQTT cannot carry in a property must not cost the launcher its connection.
        (
            "getPlugin",
            b"{\"name\":\"a\\u0000b\"}",
            "plugin 'a\0b' not found",
        ),
        ("startPlugin", b"\xff\xfe", "failed unmarshal request: "),
        ("stopPlugin", &long, "failed unmarshal request: "),
    ];
    for (number, (method, payload, error)) in cases.iter().enumerate() {
        let id = u16::try_from(number).unwrap() + 10;
        let topic = format!("rpc/launcher/manage/{method}/admin");
        let reply = wire.ask(&request(&topic, payload, id));
        assert_eq!(reply.content_type, "error", "{method} {}", reply.text());
        let answer = reply.text();
        if error.ends_with(' ') {
            assert!(
                answer.starts_with(error) && answer.len() <= 1024,
                "{answer}"
            );
        } else {
            assert_eq!(&answer, error, "{method}");
        }
    }
    // Null arguments of stopAll crashed the original (T12).
    for payload in [&b"null"[..], b"", b"{}"] {
        let reply = wire.ask(&request(
            "rpc/launcher/manage/stopAllPlugins/admin",
            payload,
            99,
        ));
        assert_eq!(
            (reply.content_type.as_str(), reply.text().as_str()),
            ("json", "")
        );
    }
    hub.down();
}

#[test]
fn start_and_stop_answer_as_the_original() {
    let hub = hub_with_plugins();
    let mut wire = Wire::admin(&hub);
    let started = wire.ask(&request(
        "rpc/launcher/manage/startPlugin/admin",
        b"{\"name\":\"certs\"}",
        5,
    ));
    let info: Value = serde_json::from_slice(&started.payload).unwrap();
    assert_eq!(info["info"]["Running"], true);
    assert_eq!(info["info"]["StartCount"], 1);
    let stopped = wire.ask(&request(
        "rpc/launcher/manage/stopPlugin/admin",
        b"{\"name\":\"certs\"}",
        6,
    ));
    let info: Value = serde_json::from_slice(&stopped.payload).unwrap();
    assert_eq!(info["info"]["Running"], false);
    assert_eq!(info["info"]["Status"], "stopped by user");
    assert!(info["info"]["StopTimeMSE"].as_i64().unwrap() > 0);
    hub.down();
}

#[test]
fn wrong_logins_and_forged_senders_are_refused() {
    let hub = hub_with_plugins();
    let (_wire, answer) = Wire::connect(&hub, CLIENT, "admin", b"TOKEN");
    assert_eq!((answer.kind(), answer.body[1]), (2, 0x86));
    let token = std::fs::read(hub.path("certs/admin.token")).unwrap();
    let (_wire, answer) = Wire::connect(&hub, "somebody-else", "admin", &token);
    assert_eq!((answer.kind(), answer.body[1]), (2, 0x85));
    let mut wire = Wire::admin(&hub);
    wire.send(&request("rpc/launcher/manage/list/launcher", b"{}", 7));
    let ack = wire.receive();
    assert_eq!(ack.kind(), 4);
    assert_eq!(ack.body[..3], [0, 7, 0x87]);
    hub.down();
}
