//! Just enough of MQTT 5 for a client that costs next to nothing, so that brokers are measured and not clients.

use anyhow::{Context, Result, bail};

const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const CORRELATION: u8 = 0x09;
const RECEIVE_MAXIMUM: u8 = 0x21;

/// How many unacknowledged messages a client takes.
pub const IN_FLIGHT: u16 = 1024;

/// What a client sends, with QoS 1.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    /// Where to.
    pub topic: &'a str,
    /// Where an answer is to go.
    pub response_topic: Option<&'a str>,
    /// By which a reply is known.
    pub correlation: &'a [u8],
    /// The rest.
    pub payload: &'a [u8],
}

/// What a client receives.
pub enum Packet {
    /// The login's reason code.
    ConnAck(u8),
    /// A subscription's reason code.
    SubAck(u8),
    /// An acknowledged message.
    PubAck,
    /// A message.
    Publish {
        /// Its packet id, when it is to be acknowledged.
        id: Option<u16>,
        /// Where an answer is to go.
        response_topic: Option<String>,
        /// By which a reply is known.
        correlation: Vec<u8>,
    },
}

/// A login that keeps nothing and is silent for up to ten minutes.
pub fn connect(out: &mut Vec<u8>, mqtt_id: &str, login: &str, password: Option<&str>) {
    const CLEAN_START: u8 = 0x02;
    const USER_NAME: u8 = 0x80;
    const PASSWORD: u8 = 0x40;
    const KEEP_ALIVE: u16 = 600;
    let mut body = Vec::new();
    text(&mut body, b"MQTT");
    body.push(5);
    let with_password = if password.is_some() { PASSWORD } else { 0 };
    body.push(CLEAN_START | USER_NAME | with_password);
    body.extend(KEEP_ALIVE.to_be_bytes());
    body.extend([3, RECEIVE_MAXIMUM]);
    body.extend(IN_FLIGHT.to_be_bytes());
    text(&mut body, mqtt_id.as_bytes());
    text(&mut body, login.as_bytes());
    if let Some(password) = password {
        text(&mut body, password.as_bytes());
    }
    packet(out, 0x10, &body);
}

/// A subscription with QoS 1.
pub fn subscribe(out: &mut Vec<u8>, id: u16, filter: &str) {
    let mut body = id.to_be_bytes().to_vec();
    body.push(0);
    text(&mut body, filter.as_bytes());
    body.push(1);
    packet(out, 0x82, &body);
}

/// A message.
pub fn publish(out: &mut Vec<u8>, id: u16, message: Message<'_>) {
    let mut properties = vec![CONTENT_TYPE];
    text(&mut properties, b"json");
    if let Some(topic) = message.response_topic {
        properties.push(RESPONSE_TOPIC);
        text(&mut properties, topic.as_bytes());
    }
    properties.push(CORRELATION);
    text(&mut properties, message.correlation);
    let mut body = Vec::with_capacity(512);
    text(&mut body, message.topic.as_bytes());
    body.extend(id.to_be_bytes());
    number(&mut body, properties.len());
    body.append(&mut properties);
    body.extend(message.payload);
    packet(out, 0x32, &body);
}

/// An acknowledgement.
pub fn acknowledge(out: &mut Vec<u8>, id: u16) {
    packet(out, 0x40, &id.to_be_bytes());
}

fn packet(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.push(first);
    number(out, body.len());
    out.extend(body);
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend(u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    out.extend(text);
}

fn number(out: &mut Vec<u8>, mut value: usize) {
    while value > 127 {
        out.push(u8::try_from(value & 127).unwrap_or(0) | 128);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

/// Takes the first packet off `bytes`; none = it is not all there.
pub fn take(bytes: &mut &[u8]) -> Result<Option<Packet>> {
    let mut rest = Reader(bytes);
    let Some(first) = rest.byte() else {
        return Ok(None);
    };
    let Some(length) = rest.number() else {
        return Ok(None);
    };
    let Some(body) = rest.bytes(length) else {
        return Ok(None);
    };
    *bytes = rest.0;
    read(first, body).context("malformed packet").map(Some)
}

fn read(first: u8, body: &[u8]) -> Result<Packet> {
    let mut body = Reader(body);
    let short = "it is too short";
    match first >> 4 {
        2 => Ok(Packet::ConnAck(*body.0.get(1).context(short)?)),
        4 => {
            if let Some(code) = body.0.get(2).filter(|code| **code >= 0x80) {
                bail!("a message was refused with {code:#x}");
            }
            Ok(Packet::PubAck)
        }
        9 => Ok(Packet::SubAck(*body.0.last().context(short)?)),
        3 => message(first, &mut body).context(short),
        14 => bail!("the broker says goodbye: {:?}", body.0),
        other => bail!("packet of type {other}"),
    }
}

fn message(first: u8, body: &mut Reader<'_>) -> Option<Packet> {
    body.text()?;
    let id = if first & 0x06 == 0 {
        None
    } else {
        Some(body.short()?)
    };
    let length = body.number()?;
    let mut properties = Reader(body.bytes(length)?);
    let mut response_topic = None;
    let mut correlation = Vec::new();
    while let Some(kind) = properties.byte() {
        match kind {
            CONTENT_TYPE => drop(properties.text()?),
            RESPONSE_TOPIC => response_topic = str::from_utf8(properties.text()?).ok(),
            CORRELATION => correlation = properties.text()?.to_vec(),
            // A user property.
            0x26 => {
                properties.text()?;
                properties.text()?;
            }
            _ => return None,
        }
    }
    Some(Packet::Publish {
        id,
        response_topic: response_topic.map(str::to_owned),
        correlation,
    })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1)?.first().copied()
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes(2)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.short()?;
        self.bytes(length.into())
    }

    fn number(&mut self) -> Option<usize> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value |= usize::from(byte & 127) << shift;
            if byte < 128 {
                break;
            }
        }
        Some(value)
    }
}
