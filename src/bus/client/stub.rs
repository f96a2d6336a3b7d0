//! The least of an MQTT 5 broker for the client's tests: a socket, and packets that the test reads and writes itself.
//!
//! Invariant: it shares no code with the client's library, so that neither hides the other's mistake.

use super::Endpoint;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// Longest that a test waits for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Stub {
    listener: UnixListener,
    pub(super) path: PathBuf,
    _folder: TempDir,
}

pub(super) struct Peer {
    stream: UnixStream,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) id: u16,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) content_type: Option<String>,
    pub(super) response_topic: Option<String>,
    pub(super) correlation: Option<Vec<u8>>,
    pub(super) payload_format: Option<u8>,
    pub(super) user_properties: Vec<(String, String)>,
    pub(super) payload: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packet {
    Connect {
        flags: u8,
        keep_alive: u16,
        /// Request Problem Information, where it is sent.
        problem_info: Option<u8>,
        client_id: String,
        username: String,
        password: String,
    },
    Subscribe {
        id: u16,
        filter: String,
        options: u8,
    },
    Publish(Message),
    PubAck {
        id: u16,
    },
    /// Sent when there was nothing else to send for a keep-alive.
    Ping,
    Disconnect,
    Closed,
}

impl Stub {
    pub(super) fn new() -> Stub {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.sock");
        Stub {
            listener: UnixListener::bind(&path).unwrap(),
            path,
            _folder: folder,
        }
    }

    /// One that has a name in the abstract name space.
    pub(super) fn named() -> (Stub, Endpoint) {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().display().to_string();
        let stub = Stub {
            listener: UnixListener::bind(format!("\0{name}")).unwrap(),
            path: PathBuf::new(),
            _folder: folder,
        };
        (stub, Endpoint::Abstract(name))
    }

    pub(super) async fn accept(&self) -> Peer {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept());
        Peer {
            stream: accepted.await.expect("nobody connects").unwrap().0,
        }
    }

    /// Accepts, lets in and grants `filters` subscriptions; gives the client id and the filters.
    pub(super) async fn welcome(&self, filters: usize) -> (Peer, String, Vec<String>) {
        let mut peer = self.accept().await;
        let Packet::Connect { client_id, .. } = peer.read().await else {
            panic!("no CONNECT");
        };
        peer.send(&crate::vectors::raw("connack-ok")).await;
        let mut granted = Vec::new();
        for _ in 0..filters {
            let Packet::Subscribe { id, filter, .. } = peer.read().await else {
                panic!("no SUBSCRIBE");
            };
            peer.grant(id, 1).await;
            granted.push(filter);
        }
        (peer, client_id, granted)
    }
}

impl Peer {
    pub(super) async fn send(&mut self, packet: &[u8]) {
        self.stream.write_all(packet).await.unwrap();
    }

    pub(super) async fn grant(&mut self, id: u16, code: u8) {
        let [high, low] = id.to_be_bytes();
        self.send(&[0x90, 4, high, low, 0, code]).await;
    }

    /// Acknowledges a publication in the short form.
    pub(super) async fn ack(&mut self, id: u16) {
        let [high, low] = id.to_be_bytes();
        self.send(&[0x40, 2, high, low]).await;
    }

    pub(super) async fn publish(&mut self, message: &Message) {
        self.send(&write(message)).await;
    }

    pub(super) async fn read(&mut self) -> Packet {
        tokio::time::timeout(PATIENCE, self.read_packet())
            .await
            .expect("nothing comes")
    }

    /// The next publication; acknowledgements before it are passed over.
    pub(super) async fn read_publish(&mut self) -> Message {
        loop {
            match self.read().await {
                Packet::Publish(message) => return message,
                Packet::PubAck { .. } => {}
                other @ (Packet::Connect { .. }
                | Packet::Subscribe { .. }
                | Packet::Ping
                | Packet::Disconnect
                | Packet::Closed) => panic!("{other:?} instead of PUBLISH"),
            }
        }
    }

    async fn read_packet(&mut self) -> Packet {
        let Ok(first) = self.stream.read_u8().await else {
            return Packet::Closed;
        };
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let byte = self.stream.read_u8().await.unwrap();
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.unwrap();
        parse(first, &body)
    }
}

/// Parses a whole packet, as in the vectors.
pub(super) fn parse_whole(packet: &[u8]) -> Packet {
    let mut body = Reader(&packet[1..]);
    body.length();
    parse(packet[0], body.0)
}

fn parse(first: u8, body: &[u8]) -> Packet {
    let mut body = Reader(body);
    match first >> 4 {
        1 => {
            assert_eq!((body.text().as_str(), body.byte()), ("MQTT", 5));
            let (flags, keep_alive) = (body.byte(), body.number());
            let problem_info = body.properties(&mut Message::default());
            Packet::Connect {
                flags,
                keep_alive,
                problem_info,
                client_id: body.text(),
                username: body.text(),
                password: body.text(),
            }
        }
        3 => {
            let topic = body.text();
            let qos = (first >> 1) & 3;
            let id = if qos == 0 { 0 } else { body.number() };
            let mut message = Message {
                topic,
                id,
                qos,
                retain: first & 1 == 1,
                ..Message::default()
            };
            body.properties(&mut message);
            message.payload = body.0.to_vec();
            Packet::Publish(message)
        }
        4 => Packet::PubAck { id: body.number() },
        8 => {
            let id = body.number();
            body.properties(&mut Message::default());
            let packet = Packet::Subscribe {
                id,
                filter: body.text(),
                options: body.byte(),
            };
            assert!(body.0.is_empty(), "more than one filter");
            packet
        }
        12 => Packet::Ping,
        14 => Packet::Disconnect,
        other => panic!("packet type {other}"),
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> u8 {
        let byte = self.0[0];
        self.0 = &self.0[1..];
        byte
    }

    fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn bytes(&mut self) -> Vec<u8> {
        let length = usize::from(self.number());
        let (bytes, rest) = self.0.split_at(length);
        self.0 = rest;
        bytes.to_vec()
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.bytes()).unwrap()
    }

    fn length(&mut self) -> usize {
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let byte = self.byte();
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return length;
            }
        }
    }

    /// Reads what is of a message `into` it, and gives Request Problem Information.
    fn properties(&mut self, into: &mut Message) -> Option<u8> {
        let mut problem_info = None;
        let length = self.length();
        let end = self.0.len() - length;
        while self.0.len() > end {
            match self.byte() {
                0x01 => into.payload_format = Some(self.byte()),
                0x03 => into.content_type = Some(self.text()),
                0x08 => into.response_topic = Some(self.text()),
                0x09 => into.correlation = Some(self.bytes()),
                0x26 => into.user_properties.push((self.text(), self.text())),
                0x17 => problem_info = Some(self.byte()),
                0x21 => drop(self.number()),
                0x27 => drop((self.number(), self.number())),
                other => panic!("property {other:#x}"),
            }
        }
        problem_info
    }
}

fn write(message: &Message) -> Vec<u8> {
    fn put(into: &mut Vec<u8>, bytes: &[u8]) {
        into.extend(u16::try_from(bytes.len()).unwrap().to_be_bytes());
        into.extend(bytes);
    }
    fn length(mut value: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let byte = u8::try_from(value & 0x7f).unwrap();
            value >>= 7;
            bytes.push(if value == 0 { byte } else { byte | 0x80 });
            if value == 0 {
                return bytes;
            }
        }
    }
    let mut properties = Vec::new();
    let texts = [
        (0x03, &message.content_type),
        (0x08, &message.response_topic),
    ];
    for (code, text) in texts {
        if let Some(text) = text {
            properties.push(code);
            put(&mut properties, text.as_bytes());
        }
    }
    if let Some(correlation) = &message.correlation {
        properties.push(0x09);
        put(&mut properties, correlation);
    }
    for (name, value) in &message.user_properties {
        properties.push(0x26);
        put(&mut properties, name.as_bytes());
        put(&mut properties, value.as_bytes());
    }
    let mut body = Vec::new();
    put(&mut body, message.topic.as_bytes());
    if message.qos > 0 {
        body.extend(message.id.to_be_bytes());
    }
    body.extend(length(properties.len()));
    body.extend(properties);
    body.extend(&message.payload);
    let mut packet = vec![0x30 | (message.qos << 1)];
    packet.extend(length(body.len()));
    packet.extend(body);
    packet
}
