//! The golden vectors of the original, replayed against this crate's types (HP 4).

use crate::golang::{decode, encode};
use crate::rpc::{Method, Reply, Request, not_found};
use crate::topics::{self, MessageKind, Topic};
use crate::wire::*;
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A file of the fixtures.
pub(crate) fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/vectors")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn vector(name: &str, vector: &str) -> Value {
    let all: Vec<Value> = serde_json::from_str(&file(name)).unwrap();
    all.into_iter()
        .find(|one| one["vector"] == vector)
        .unwrap_or_else(|| panic!("{name} has no {vector}"))
}

/// A packet of `raw-bytes.json`.
pub(crate) fn raw(name: &str) -> Vec<u8> {
    let all: Value = serde_json::from_str(&file("raw-bytes.json")).unwrap();
    let hex = all[name].as_str().unwrap_or_else(|| panic!("no {name}"));
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// A request of the vectors, decoded by topic and payload as the bridge does.
fn request(of: &Value) -> Result<Request, String> {
    let topic = Topic::parse(text(&of["topic"])).unwrap();
    assert_eq!(topic.kind, MessageKind::Rpc);
    assert_eq!(
        (topic.agent.as_str(), topic.thing.as_str()),
        (LAUNCHER, MANAGE)
    );
    Request::decode(&topic.thing, &topic.name, text(&of["payload"]).as_bytes())
        .map_err(|error| error.to_string())
}

#[test]
fn requests_are_understood_and_written_alike() {
    let named = |name: &str| NameArgs {
        name: name.to_owned(),
    };
    for (file, name, expected) in [
        (
            "list.json",
            "list-request",
            Request::List(ListArgs::default()),
        ),
        (
            "start-errors.json",
            "startPlugin-request",
            Request::StartPlugin(StartArgs {
                name: "certs".to_owned(),
                once: false,
            }),
        ),
        (
            "start-stop-all.json",
            "startAllPlugins-request",
            Request::StartAllPlugins,
        ),
        (
            "start-stop-all.json",
            "stopPlugin-request",
            Request::StopPlugin(named("certs")),
        ),
        (
            "start-stop-all.json",
            "stopAllPlugins-request-from-hubcli",
            Request::StopAllPlugins(StopAllArgs::default()),
        ),
        (
            "start-stop-all.json",
            "stopAllPlugins-request-with-core",
            Request::StopAllPlugins(StopAllArgs {
                including_core: true,
            }),
        ),
    ] {
        let vector = vector(file, name);
        assert_eq!(request(&vector), Ok(expected.clone()), "{name}");
        let payload = String::from_utf8(expected.payload()).unwrap();
        assert_eq!(payload, text(&vector["payload"]), "{name}");
    }
}

#[test]
fn replies_begin_with_the_bytes_of_the_original() {
    for (file, name, method) in [
        ("list.json", "list-reply", Method::List),
        ("list.json", "list-reply-none-running", Method::List),
        (
            "start-errors.json",
            "startPlugin-reply",
            Method::StartPlugin,
        ),
        (
            "start-stop-all.json",
            "stopPlugin-reply",
            Method::StopPlugin,
        ),
        (
            "start-stop-all.json",
            "startAllPlugins-reply",
            Method::StartAllPlugins,
        ),
        (
            "start-stop-all.json",
            "stopAllPlugins-reply",
            Method::StopAllPlugins,
        ),
    ] {
        let vector = vector(file, name);
        let payload = text(&vector["payload"]);
        let reply = Reply::decode(method, payload.as_bytes()).unwrap();
        let written = String::from_utf8(reply.payload()).unwrap();
        assert_eq!(without_our_fields(&written), payload, "{name}");
        assert!(!written.contains("null"), "{written}");
    }
}

/// Cuts what follows the original's 13 fields out of every `PluginInfo`.
fn without_our_fields(json: &str) -> String {
    let mut rest = json;
    let mut kept = String::new();
    while let Some(start) = rest.find(",\"Phase\"") {
        kept.push_str(&rest[..start]);
        let tail = &rest[start..];
        let end = tail.find("\"Autostart\":false").unwrap() + "\"Autostart\":false".len();
        rest = &tail[end..];
    }
    kept.push_str(rest);
    kept
}

#[test]
fn an_older_launcher_leaves_our_fields_unknown() {
    let payload = vector("list.json", "list-reply")["payload"].clone();
    let reply: ListReply = decode(text(&payload).as_bytes()).unwrap();
    let core = &reply.info[1];
    assert_eq!(
        (core.name.as_str(), core.pid, core.running),
        ("mqttcore", 4242, true)
    );
    assert_eq!(core.start_time_mse, 1_698_434_810_000);
    assert_eq!((core.phase.as_str(), core.restarts), ("", UNKNOWN));
}

#[test]
fn errors_have_the_texts_of_the_original() {
    let error = |name| {
        let vector = vector("start-errors.json", name);
        (
            request(&vector["request"]).unwrap_err(),
            text(&vector["reply"]["payload"]).to_owned(),
        )
    };
    for name in ["error-reply-unknown-method", "error-reply-empty-args"] {
        let (ours, theirs) = error(name);
        assert_eq!(ours, theirs);
    }
    let unknown = vector("start-errors.json", "error-reply-unknown-plugin");
    assert_eq!(not_found("nope"), text(&unknown["payload"]));
}

#[test]
fn what_is_asked_of_auth_is_written_alike() {
    let add = AddServiceArgs {
        service_id: "certs".to_owned(),
        display_name: "plugin".to_owned(),
        pub_key: "<certs.pub content>".to_owned(),
    };
    // The vector's placeholder holds characters that Go would escape, so the meaning is compared, and the bytes without.
    let vector_of = |name| vector("auth-events.json", name);
    let payload = vector_of("addService-request")["payload"].clone();
    assert_eq!(
        decode::<AddServiceArgs>(text(&payload).as_bytes()),
        Ok(add.clone())
    );
    let key = AddServiceArgs {
        pub_key: "AAAA==".to_owned(),
        ..add
    };
    assert_eq!(
        String::from_utf8(encode(&key)).unwrap(),
        text(&payload).replace("<certs.pub content>", "AAAA==")
    );

    let payload = vector_of("addService-reply")["payload"].clone();
    assert_eq!(
        decode::<TokenReply>(text(&payload).as_bytes())
            .unwrap()
            .token,
        "<jwt>"
    );

    let roles = [
        "viewer", "operator", "manager", "admin", "device", "service",
    ];
    let permissions = ServicePermissionsArgs {
        capability: "store".to_owned(),
        roles: roles.map(str::to_owned).to_vec(),
    };
    let payload = vector_of("setServicePermissions-request")["payload"].clone();
    assert_eq!(
        String::from_utf8(encode(&permissions)).unwrap(),
        text(&payload)
    );

    let payload = vector_of("getProfiles-reply-example")["payload"].clone();
    let profiles: ProfilesReply = decode(text(&payload).as_bytes()).unwrap();
    let profile = &profiles.profiles[0];
    assert_eq!(
        (profile.client_id.as_str(), profile.token_validity_days),
        ("launcher", 365)
    );
    let mut plain = profiles.clone();
    plain.profiles[0].pub_key = "AAAA==".to_owned();
    assert_eq!(
        String::from_utf8(encode(&plain)).unwrap(),
        text(&payload).replace("<base64 spki>", "AAAA==")
    );
}

#[test]
fn events_and_thing_description_are_written_alike() {
    let vector_of = |name| vector("auth-events.json", name);
    let td = vector_of("event-td-RECOMMENDED");
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_698_434_810_456);
    // The time's zone is the machine's: taken from the text itself.
    let shown = td_time(time);
    let expected = text(&td["payload"]).replace("2023-10-27T12:26:50.456-0700", &shown);
    let mut expected: Value = serde_json::from_str(&expected).unwrap();
    let mut ours: Value = serde_json::from_slice(&encode(&launcher_td(time, time, []))).unwrap();
    // Ours has properties and further events beside.
    ours.as_object_mut().unwrap().remove("properties").unwrap();
    let events = ours["events"].take();
    let told = expected["events"].take();
    assert_eq!(ours, expected);
    for (name, event) in told.as_object().unwrap() {
        assert_eq!(encode(&events[name]), encode(event), "{name}");
    }
    for (name, event) in [
        ("event-td-RECOMMENDED", TD_EVENT),
        ("event-started-RECOMMENDED", "started"),
        ("event-stopped-RECOMMENDED", "stopped"),
    ] {
        let topic = Topic::new(MessageKind::Event, LAUNCHER, MANAGE, event, LAUNCHER).unwrap();
        assert_eq!(topic.to_string(), text(&vector_of(name)["topic"]));
    }
    assert_eq!(encode("certs"), br#""certs""#);
}

#[test]
fn filters_are_those_of_the_vectors() {
    let inbox = vector("connect-subscribe.json", "subscribe-inbox");
    assert_eq!(
        topics::inbox("admin-hubhost-20231027122654.123"),
        text(&inbox["filters"][0]["filter"])
    );
    let rpc = vector("connect-subscribe.json", "subscribe-launcher-rpc");
    assert_eq!(
        topics::rpc_filter(LAUNCHER, MANAGE),
        text(&rpc["filters"][0]["filter"])
    );
}
