//! Just enough of MQTT 5's packet format for what the broker library cannot do (crates-mqtt §10): numbering messages
//! on their way in, and knowing the copies of one message on their way out.
//!
//! Invariants: pure; no input panics; what is not understood is passed on unchanged for the library to refuse.

/// The first four bits of a packet.
pub const CONNECT: u8 = 1;
/// See [`CONNECT`].
pub const CONNACK: u8 = 2;
/// See [`CONNECT`].
pub const PUBLISH: u8 = 3;
/// See [`CONNECT`].
pub const PUBACK: u8 = 4;
/// See [`CONNECT`].
pub const PUBREC: u8 = 5;
/// See [`CONNECT`].
pub const PUBREL: u8 = 6;
/// See [`CONNECT`].
pub const PUBCOMP: u8 = 7;
/// See [`CONNECT`].
pub const SUBSCRIBE: u8 = 8;
/// See [`CONNECT`].
pub const DISCONNECT: u8 = 14;

const USER_PROPERTY: u8 = 0x26;
const SUBSCRIPTION_ID: u8 = 0x0b;
const DIGITS: usize = 16;

/// What could be read of something that may not be complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed<T> {
    /// Here it is.
    Done(T),
    /// More bytes are needed.
    More,
    /// It is not MQTT.
    Bad,
}

/// The beginning of a packet (MQTT 5 §2.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Type and flags.
    pub first: u8,
    /// Bytes before the body.
    pub header: usize,
    /// Bytes of the body.
    pub body: usize,
}

impl Header {
    /// Reads it from the beginning of `bytes`.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Parsed<Header> {
        let Some((&first, rest)) = bytes.split_first() else {
            return Parsed::More;
        };
        match varint(rest) {
            Parsed::Done((body, length)) => Parsed::Done(Header {
                first,
                header: 1 + length,
                body,
            }),
            Parsed::More => Parsed::More,
            Parsed::Bad => Parsed::Bad,
        }
    }

    /// The packet's type.
    #[must_use]
    pub const fn kind(self) -> u8 {
        self.first >> 4
    }

    /// Quality of service of a PUBLISH; 3 is malformed.
    #[must_use]
    pub const fn qos(self) -> u8 {
        (self.first >> 1) & 3
    }

    /// Whether a PUBLISH is kept, or was (MQTT 5 §3.3.1.3).
    #[must_use]
    pub const fn is_retained(self) -> bool {
        self.first & 1 == 1
    }
}

/// The beginning of a PUBACK, PUBREC, PUBREL or PUBCOMP (MQTT 5 §3.4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    /// Which packet it answers.
    pub packet_id: u16,
    /// Whether its reason code says that it failed.
    pub is_error: bool,
}

impl Reply {
    /// Reads it from the beginning of `bytes`, whose header is `header`.
    #[must_use]
    pub fn parse(bytes: &[u8], header: Header) -> Parsed<Reply> {
        let body = bytes.get(header.header..).unwrap_or_default();
        match (header.body, body) {
            (0 | 1, _) => Parsed::Bad,
            (2, &[high, low, ..]) => Parsed::Done(Reply {
                packet_id: u16::from_be_bytes([high, low]),
                is_error: false,
            }),
            (3.., &[high, low, reason, ..]) => Parsed::Done(Reply {
                packet_id: u16::from_be_bytes([high, low]),
                is_error: reason >= 0x80,
            }),
            (2.., _) => Parsed::More,
        }
    }
}

/// A number of one to four bytes (MQTT 5 §1.5.5) and its length.
fn varint(bytes: &[u8]) -> Parsed<(usize, usize)> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Parsed::Done((value, at + 1));
        }
    }
    if bytes.len() < 4 {
        Parsed::More
    } else {
        Parsed::Bad
    }
}

fn put_varint(mut value: usize, out: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// How many bytes [`put_varint`] writes.
const fn varint_length(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

fn put_text(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(text);
}

fn be16(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at..at + 2)? {
        [high, low] => Some(usize::from(*high) << 8 | usize::from(*low)),
        _ => None,
    }
}

/// Where the properties of a message lie in the body of its PUBLISH, or of the CONNECT whose will it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Layout {
    packet_id: Option<u16>,
    /// Where the length of the properties is written.
    length_at: usize,
    properties_at: usize,
    properties: usize,
}

/// What to say when a body that is to have `total` bytes lacks one before `needed`.
const fn missing<T>(needed: usize, total: usize) -> Parsed<T> {
    if needed > total {
        Parsed::Bad
    } else {
        Parsed::More
    }
}

impl Layout {
    /// From the beginning of a PUBLISH's body of `total` bytes.
    fn parse(body: &[u8], qos: u8, total: usize) -> Parsed<Layout> {
        let Some(topic) = be16(body, 0) else {
            return missing(2, total);
        };
        let id_at = 2 + topic;
        let length_at = id_at + if qos > 0 { 2 } else { 0 };
        let packet_id = if qos > 0 {
            be16(body, id_at).and_then(|id| u16::try_from(id).ok())
        } else {
            None
        };
        Layout::at(body, length_at, packet_id, total)
    }

    /// From the beginning of a CONNECT's body of `total` bytes (MQTT 5 §3.1). Bad = it has no will with properties.
    fn of_will(body: &[u8], total: usize) -> Parsed<Layout> {
        const WILL: u8 = 4;
        let Some(name) = be16(body, 0) else {
            return missing(2, total);
        };
        // Name, version, flags, keep-alive.
        let properties_at = 2 + name + 4;
        let Some(&[version, flags]) = body.get(2 + name..2 + name + 2) else {
            return missing(properties_at, total);
        };
        if version != 5 || flags & WILL == 0 {
            return Parsed::Bad;
        }
        let own = match Layout::at(body, properties_at, None, total) {
            Parsed::Done(own) => own,
            Parsed::More => return Parsed::More,
            Parsed::Bad => return Parsed::Bad,
        };
        let id_at = own.properties_at + own.properties;
        let Some(id) = be16(body, id_at) else {
            return missing(id_at + 2, total);
        };
        Layout::at(body, id_at + 2 + id, None, total)
    }

    /// Where the length of the properties is known to be.
    fn at(body: &[u8], length_at: usize, packet_id: Option<u16>, total: usize) -> Parsed<Layout> {
        let Some(rest) = body.get(length_at..) else {
            return missing(length_at + 1, total);
        };
        match varint(rest) {
            Parsed::Done((properties, length)) => {
                let properties_at = length_at + length;
                if properties_at + properties > total {
                    return Parsed::Bad;
                }
                Parsed::Done(Layout {
                    packet_id,
                    length_at,
                    properties_at,
                    properties,
                })
            }
            Parsed::More => missing(length_at + rest.len() + 1, total),
            Parsed::Bad => Parsed::Bad,
        }
    }
}

/// The bytes a property takes, its identifier included (MQTT 5 §2.2.2). None = malformed.
fn property_length(bytes: &[u8]) -> Option<usize> {
    let text = |at: usize| be16(bytes, at).map(|length| at + 2 + length);
    let length = match bytes.first()? {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => 2,
        0x13 | 0x21 | 0x22 | 0x23 => 3,
        0x02 | 0x11 | 0x18 | 0x27 => 5,
        &SUBSCRIPTION_ID => match varint(bytes.get(1..)?) {
            Parsed::Done((_, length)) => 1 + length,
            Parsed::More | Parsed::Bad => return None,
        },
        0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => text(1)?,
        &USER_PROPERTY => text(text(1)?)?,
        _ => return None,
    };
    (length <= bytes.len()).then_some(length)
}

/// The name of the property that carries a message's number through the library. It is random for each run of the
/// core and never leaves it, so nobody outside can make, guess or suppress a number.
#[derive(Debug, Clone)]
pub struct Stamp {
    name: String,
}

/// What a numbered packet looks like to the way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// How many bytes of the original are replaced.
    pub replaced: usize,
    /// By what.
    pub by: Vec<u8>,
    /// Bytes of the packet that follow unchanged.
    pub follow: usize,
    /// The packet's id; none with QoS 0.
    pub packet_id: Option<u16>,
    /// Bytes of the properties, without the number.
    pub properties: usize,
}

/// What is known of an outgoing PUBLISH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The message's number; none when it has none.
    pub number: Option<u64>,
    /// With which quality of service this copy goes out.
    pub qos: u8,
    /// The packet's id; none with QoS 0.
    pub packet_id: Option<u16>,
    /// Whether it names the subscription it is for.
    pub names_subscription: bool,
    /// The packet without its number.
    pub bytes: Vec<u8>,
}

impl Stamp {
    /// A stamp with that secret.
    #[must_use]
    pub fn new(secret: u64) -> Self {
        Stamp {
            name: format!("n{secret:016x}"),
        }
    }

    /// The property's name and value for message `number`, for messages made inside the core.
    #[must_use]
    pub fn property(&self, number: u64) -> (String, String) {
        (self.name.clone(), format!("{number:016x}"))
    }

    /// Bytes by which a numbered packet is longer at most.
    #[must_use]
    pub fn overhead(&self) -> usize {
        // The lengths of the packet and of its properties may each need one byte more.
        self.property_length() + 2
    }

    fn property_length(&self) -> usize {
        1 + 2 + self.name.len() + 2 + DIGITS
    }

    fn put(&self, number: u64, out: &mut Vec<u8>) {
        out.push(USER_PROPERTY);
        put_text(self.name.as_bytes(), out);
        let digits: [u8; DIGITS] = std::array::from_fn(|at| {
            let nibble = (number >> (4 * (DIGITS - 1 - at))) & 0xf;
            b"0123456789abcdef"[usize::try_from(nibble).unwrap_or(0)]
        });
        put_text(&digits, out);
    }

    /// Numbers the PUBLISH that `bytes` begin with, or the will of the CONNECT, as soon as its properties are there.
    ///
    /// `Bad` means that there is nothing to number, or that it cannot be, and that it is to be passed on as it is.
    #[must_use]
    pub fn number(&self, bytes: &[u8], header: Header, number: u64) -> Parsed<Numbered> {
        let body = bytes.get(header.header..).unwrap_or_default();
        let body = body.get(..header.body).unwrap_or(body);
        let layout = match header.kind() {
            CONNECT => Layout::of_will(body, header.body),
            _ => Layout::parse(body, header.qos(), header.body),
        };
        let layout = match layout {
            Parsed::Done(layout) => layout,
            Parsed::More => return Parsed::More,
            Parsed::Bad => return Parsed::Bad,
        };
        let Some(before) = body.get(..layout.length_at) else {
            return Parsed::Bad;
        };
        let properties = layout.properties + self.property_length();
        let tail = before.len() + varint_length(properties) + self.property_length();
        let follow = header.body - layout.properties_at;
        let mut by = Vec::with_capacity(tail + 5);
        by.push(header.first);
        put_varint(tail + follow, &mut by);
        by.extend_from_slice(before);
        put_varint(properties, &mut by);
        self.put(number, &mut by);
        Parsed::Done(Numbered {
            replaced: header.header + layout.properties_at,
            by,
            follow,
            packet_id: layout.packet_id,
            properties: layout.properties,
        })
    }

    /// Reads a whole outgoing PUBLISH and takes its number away. None when it is malformed.
    #[must_use]
    pub fn read(&self, packet: &[u8], header: Header) -> Option<Copy> {
        let body = packet.get(header.header..)?;
        let Parsed::Done(layout) = Layout::parse(body, header.qos(), header.body) else {
            return None;
        };
        let end = layout.properties_at + layout.properties;
        let mut copy = Copy {
            number: None,
            qos: header.qos(),
            packet_id: layout.packet_id,
            names_subscription: false,
            bytes: Vec::new(),
        };
        let mut own = None;
        let mut at = layout.properties_at;
        while at < end {
            let length = property_length(body.get(at..end)?)?;
            let property = body.get(at..at + length)?;
            if property.first() == Some(&SUBSCRIPTION_ID) {
                copy.names_subscription = true;
            } else if own.is_none()
                && let Some(number) = self.parse(property)
            {
                copy.number = Some(number);
                own = Some((at, at + length));
            }
            at += length;
        }
        copy.bytes = match own {
            None => packet.to_vec(),
            Some((from, to)) => without(body, header.first, layout, from, to)?,
        };
        Some(copy)
    }

    fn parse(&self, property: &[u8]) -> Option<u64> {
        let digits = property
            .strip_prefix(&[USER_PROPERTY])?
            .get(2..)?
            .strip_prefix(self.name.as_bytes())?
            .get(2..)?;
        if property.len() != self.property_length() {
            return None;
        }
        u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }
}

/// The packet without the bytes `from..to` of its properties.
fn without(body: &[u8], first: u8, layout: Layout, from: usize, to: usize) -> Option<Vec<u8>> {
    let properties = layout.properties - (to - from);
    let before = body.get(..layout.length_at)?;
    let kept = [body.get(layout.properties_at..from)?, body.get(to..)?];
    let length = before.len() + varint_length(properties) + kept[0].len() + kept[1].len();
    let mut packet = Vec::with_capacity(length + 5);
    packet.push(first);
    put_varint(length, &mut packet);
    packet.extend_from_slice(before);
    put_varint(properties, &mut packet);
    packet.extend_from_slice(kept[0]);
    packet.extend_from_slice(kept[1]);
    Some(packet)
}

/// Where a CONNACK's maximum packet size lies, to be made smaller by the numbers the core adds. None = it has none.
#[must_use]
pub fn packet_size_at(packet: &[u8], header: Header) -> Option<usize> {
    const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    let length_at = header.header + 2;
    let Parsed::Done((properties, length)) = varint(packet.get(length_at..)?) else {
        return None;
    };
    let mut at = length_at + length;
    let end = at + properties;
    while at < end {
        if packet.get(at) == Some(&MAXIMUM_PACKET_SIZE) {
            return (at + 5 <= end && end <= packet.len()).then_some(at + 1);
        }
        at += property_length(packet.get(at..end)?)?;
    }
    None
}

#[cfg(test)]
mod tests;
