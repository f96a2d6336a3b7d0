//! The original's messages, byte by byte, against a running hub (HP 4, `tests/fixtures/vectors`).

use crate::hub::{Home, Hub, PATIENCE};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

const CLIENT: &str = "admin-hubhost-20231027122654.123";

fn vectors(file: &str) -> Value {
    let path = format!(
        "{}/tests/fixtures/vectors/{file}",
        env!("CARGO_MANIFEST_DIR")
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn raw(name: &str) -> Vec<u8> {
    let all = vectors("raw-bytes.json");
    let hex = all[name]
        .as_str()
        .unwrap_or_else(|| panic!("no vector {name}"));
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

/// A connection on which packets are written as they are, and read whole.
struct Wire {
    stream: UnixStream,
}

/// A packet: its first byte and what follows its length.
struct Packet {
    first: u8,
    body: Vec<u8>,
}

impl Packet {
    fn kind(&self) -> u8 {
        self.first >> 4
    }
}

fn length(mut bytes: usize) -> Vec<u8> {
    let mut coded = Vec::new();
    loop {
        let byte = u8::try_from(bytes % 128).unwrap();
        bytes /= 128;
        coded.push(if bytes > 0 { byte | 0x80 } else { byte });
        if bytes == 0 {
            return coded;
        }
    }
}

fn text(bytes: &[u8]) -> Vec<u8> {
    let mut coded = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    coded.extend(bytes);
    coded
}

impl Wire {
    /// Connects as the vector `connect-hubcli` does, but with the password of this hub.
    fn connect(hub: &Hub, client: &str, user: &str, password: &[u8]) -> (Wire, Packet) {
        let stream = UnixStream::connect(hub.path("run/mqttcore.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut wire = Wire { stream };
        // Header, flags, keep alive and properties as in the vector.
        let vector = raw("connect-hubcli");
        let mut body = vector[2..2 + 10 + 3].to_vec();
        body.extend(text(client.as_bytes()));
        body.extend(text(user.as_bytes()));
        body.extend(text(password));
        let mut packet = vec![0x10];
        packet.extend(length(body.len()));
        packet.extend(body);
        wire.send(&packet);
        let answer = wire.receive();
        (wire, answer)
    }

    fn admin(hub: &Hub) -> Wire {
        let token = std::fs::read(hub.path("certs/admin.token")).unwrap();
        let (mut wire, answer) = Wire::connect(hub, CLIENT, "admin", &token);
        assert_eq!((answer.kind(), answer.body[1]), (2, 0), "{:?}", answer.body);
        wire.send(&raw("subscribe-inbox"));
        let suback = wire.receive();
        assert_eq!(suback.kind(), 9);
        assert_eq!(suback.body.last(), Some(&1));
        wire
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn receive(&mut self) -> Packet {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).unwrap();
        let first = byte[0];
        let (mut remaining, mut shift) = (0_usize, 0);
        loop {
            self.stream.read_exact(&mut byte).unwrap();
            remaining |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; remaining];
        self.stream.read_exact(&mut body).unwrap();
        Packet { first, body }
    }

    /// Sends a request and gives the reply: its content type, correlation and payload.
    fn ask(&mut self, packet: &[u8]) -> Reply {
        self.send(packet);
        loop {
            let packet = self.receive();
            if packet.kind() == 3 {
                return Reply::read(&packet);
            }
        }
    }
}

#[derive(Debug)]
struct Reply {
    topic: String,
    content_type: String,
    correlation: String,
    payload: Vec<u8>,
}

impl Reply {
    fn read(packet: &Packet) -> Reply {
        let mut at = 0;
        let body = &packet.body;
        let take = |at: &mut usize| {
            let size = usize::from(u16::from_be_bytes([body[*at], body[*at + 1]]));
            let text = body[*at + 2..*at + 2 + size].to_vec();
            *at += 2 + size;
            text
        };
        let topic = String::from_utf8(take(&mut at)).unwrap();
        if packet.first & 0b110 != 0 {
            at += 2;
        }
        let mut size = usize::from(body[at] & 0x7f);
        if body[at] & 0x80 != 0 {
            size |= usize::from(body[at + 1]) << 7;
            at += 1;
        }
        at += 1;
        let end = at + size;
        let (mut content_type, mut correlation) = (String::new(), String::new());
        while at < end {
            let property = body[at];
            at += 1;
            match property {
                0x01 => at += 1,
                0x02 => at += 4,
                0x03 => content_type = String::from_utf8(take(&mut at)).unwrap(),
                0x08 => drop(take(&mut at)),
                0x09 => correlation = String::from_utf8(take(&mut at)).unwrap(),
                0x26 => {
                    take(&mut at);
                    take(&mut at);
                }
                other => panic!("property {other:#x}"),
            }
        }
        Reply {
            topic,
            content_type,
            correlation,
            payload: body[end..].to_vec(),
        }
    }

    fn text(&self) -> String {
        String::from_utf8(self.payload.clone()).unwrap()
    }
}

/// A request like `list-request`, for another method and payload.
fn request(topic: &str, payload: &[u8], packet_id: u16) -> Vec<u8> {
    let mut properties = vec![0x03];
    properties.extend(text(b"json"));
    properties.push(0x08);
    properties.extend(text(format!("_INBOX/{CLIENT}").as_bytes()));
    properties.push(0x09);
    properties.extend(text(b"1698434814123456789"));
    let mut body = text(topic.as_bytes());
    body.extend(packet_id.to_be_bytes());
    body.extend(length(properties.len()));
    body.extend(properties);
    body.extend(payload);
    let mut packet = vec![0x32];
    packet.extend(length(body.len()));
    packet.extend(body);
    packet
}

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
