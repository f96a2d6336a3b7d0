//! Packets as the original's clients send them, and as they are, on the core's socket (HP 4).
//!
//! Invariant: what is sent is made from the vectors in `tests/fixtures/vectors`, changed only where a test says so.

use crate::hub::{Hub, PATIENCE};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// The client id of the vectors.
pub const CLIENT: &str = "admin-hubhost-20231027122654.123";

fn vectors(file: &str) -> Value {
    let path = format!(
        "{}/tests/fixtures/vectors/{file}",
        env!("CARGO_MANIFEST_DIR")
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub fn raw(name: &str) -> Vec<u8> {
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
pub struct Wire {
    pub stream: UnixStream,
}

/// A packet: its first byte and what follows its length.
pub struct Packet {
    pub first: u8,
    pub body: Vec<u8>,
}

impl Packet {
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }
}

pub fn length(mut bytes: usize) -> Vec<u8> {
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

pub fn text(bytes: &[u8]) -> Vec<u8> {
    let mut coded = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    coded.extend(bytes);
    coded
}

impl Wire {
    /// Connects as the vector `connect-hubcli` does, but with the password of this hub.
    pub fn connect(hub: &Hub, client: &str, user: &str, password: &[u8]) -> (Wire, Packet) {
        let stream = UnixStream::connect(hub.path("run/mqttcore.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Wire::log_in(stream, client, user, password)
    }

    /// The same on an open connection.
    pub fn log_in(stream: UnixStream, client: &str, user: &str, password: &[u8]) -> (Wire, Packet) {
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

    pub fn admin(hub: &Hub) -> Wire {
        let token = std::fs::read(hub.path("certs/admin.token")).unwrap();
        let stream = UnixStream::connect(hub.path("run/mqttcore.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Wire::log_in_as_admin(stream, &token)
    }

    /// Logs in and subscribes to the inbox as the original's hubcli does.
    pub fn log_in_as_admin(stream: UnixStream, token: &[u8]) -> Wire {
        let (mut wire, answer) = Wire::log_in(stream, CLIENT, "admin", token);
        assert_eq!((answer.kind(), answer.body[1]), (2, 0), "{:?}", answer.body);
        wire.send(&raw("subscribe-inbox"));
        let suback = wire.receive();
        assert_eq!(suback.kind(), 9);
        assert_eq!(suback.body.last(), Some(&1));
        wire
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn receive(&mut self) -> Packet {
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

    /// Acknowledges a publication of QoS 1: the core waits for that after some.
    pub fn acknowledge(&mut self, publication: &Packet) {
        if publication.first & 0b110 == 0b010 {
            let topic = usize::from(publication.body[0]) << 8 | usize::from(publication.body[1]);
            let id = &publication.body[2 + topic..][..2];
            self.send(&[0x40, 2, id[0], id[1]]);
        }
    }

    /// Sends a request and gives the reply: its content type, correlation and payload.
    pub fn ask(&mut self, packet: &[u8]) -> Reply {
        self.send(packet);
        loop {
            let packet = self.receive();
            if packet.kind() == 3 {
                self.acknowledge(&packet);
                return Reply::read(&packet);
            }
        }
    }
}

#[derive(Debug)]
pub struct Reply {
    pub topic: String,
    pub content_type: String,
    pub correlation: String,
    pub payload: Vec<u8>,
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

    pub fn text(&self) -> String {
        String::from_utf8(self.payload.clone()).unwrap()
    }
}

/// A request like `list-request`, for another method and payload.
pub fn request(topic: &str, payload: &[u8], packet_id: u16) -> Vec<u8> {
    request_from(CLIENT, topic, payload, packet_id)
}

/// The same of another client, by its MQTT client id.
pub fn request_from(client: &str, topic: &str, payload: &[u8], packet_id: u16) -> Vec<u8> {
    let mut properties = vec![0x03];
    properties.extend(text(b"json"));
    properties.push(0x08);
    properties.extend(text(format!("_INBOX/{client}").as_bytes()));
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
