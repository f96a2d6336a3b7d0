//! How often a message arrives: once for overlapping filters (HP 1.13), and again for each new subscription when it is kept.

use crate::broker::{Broker, Mosquitto};
use crate::packets::{Packet, Wire, length, text};
use crate::server::{Core, Kind, packet};

/// A client of packets that keeps the messages it got.
struct Peer {
    wire: Wire,
    heard: Vec<String>,
}

impl Peer {
    fn new(broker: &dyn Broker, hello: &[u8]) -> Peer {
        let mut wire = Wire {
            stream: broker.local(),
        };
        wire.send(hello);
        assert_eq!(wire.receive().body[1], 0);
        Peer {
            wire,
            heard: Vec::new(),
        }
    }

    /// The next packet that is no message.
    fn answer(&mut self) -> Packet {
        loop {
            let packet = self.wire.receive();
            if packet.kind() != 3 {
                return packet;
            }
            self.wire.acknowledge(&packet);
            let topic = usize::from(packet.body[1]);
            self.heard
                .push(String::from_utf8(packet.body[2..2 + topic].to_vec()).unwrap());
        }
    }

    fn subscribe(&mut self, filters: &[&str]) {
        let mut body = vec![0, 5, 0];
        for filter in filters {
            body.extend(text(filter.as_bytes()));
            body.push(1);
        }
        self.wire.send(&packet(0x82, &body));
        let answer = self.answer();
        assert!(
            answer.body[3..].iter().all(|code| *code <= 1),
            "{:?}",
            answer.body
        );
    }

    fn publish(&mut self, topic: &str, retain: bool) {
        let mut body = text(topic.as_bytes());
        body.extend([0, 6, 0]);
        body.extend(b"1");
        self.wire.send(&packet(0x32 | u8::from(retain), &body));
        let answer = self.answer();
        assert_eq!(
            (
                answer.kind(),
                answer.body.get(2).copied().unwrap_or(0) & 0x80
            ),
            (4, 0)
        );
    }

    /// What it got since the last time.
    fn take(&mut self) -> Vec<String> {
        self.wire.send(&[0xc0, 0]);
        assert_eq!(self.answer().kind(), 13);
        std::mem::take(&mut self.heard)
    }
}

const TOPIC: &str = "event/lamp/t/x/lamp";

fn kept_messages_come_with_each_subscription(broker: &dyn Broker) {
    let mut lamp = Peer::new(broker, &broker.hello("lamp-1", "lamp"));
    let mut vera = Peer::new(broker, &broker.hello("vera-1", "vera"));
    vera.subscribe(&["event/lamp/+/+/#"]);
    lamp.publish(TOPIC, true);
    assert_eq!(vera.take(), [TOPIC]);
    // The same filter again, and another one that lets it through.
    vera.subscribe(&["event/lamp/+/+/#"]);
    assert_eq!(vera.take(), [TOPIC]);
    vera.subscribe(&["event/+/t/x/#"]);
    assert_eq!(vera.take(), [TOPIC]);
}

#[test]
fn kept_messages_come_with_each_subscription_to_the_core() {
    let core = Core::start();
    core.add(Kind::Device, "lamp", "device");
    core.add(Kind::User, "vera", "viewer");
    kept_messages_come_with_each_subscription(&core);
    // Not when it is new: then it comes once, however many filters there are.
    let mut lamp = Peer::new(&core, &core.hello("lamp-2", "lamp"));
    let mut vera = Peer::new(&core, &core.hello("vera-2", "vera"));
    vera.subscribe(&["event/lamp/+/+/#", "event/+/t/+/#"]);
    vera.take();
    lamp.publish(TOPIC, true);
    assert_eq!(vera.take(), [TOPIC]);
}

#[test]
fn kept_messages_come_with_each_subscription_to_mosquitto() {
    if let Some(mosquitto) = Mosquitto::start() {
        kept_messages_come_with_each_subscription(&mosquitto);
    }
}

#[test]
fn a_will_comes_once_for_overlapping_filters() {
    let core = Core::start();
    core.add(Kind::Device, "lamp", "device");
    core.add(Kind::User, "vera", "viewer");
    let mut vera = Peer::new(&core, &core.hello("vera-1", "vera"));
    vera.subscribe(&["event/lamp/+/+/#", "event/+/t/+/#", TOPIC]);
    let token = core.token("lamp");
    for properties in [&b""[..], b"\x03\x00\x04json\x26\x00\x01a\x00\x01b"] {
        let mut hello = text(b"MQTT");
        hello.extend([5, 0b1100_1110, 0, 60, 0]);
        hello.extend(text(b"lamp-1"));
        hello.extend(length(properties.len()));
        hello.extend(properties);
        hello.extend(text(TOPIC.as_bytes()));
        hello.extend(text(b"gone"));
        hello.extend(text(b"lamp"));
        hello.extend(text(token.as_bytes()));
        let lamp = Peer::new(&core, &packet(0x10, &hello));
        drop(lamp);
        // The next that comes after it.
        let mut heard = Vec::new();
        crate::hub::eventually("the will", || {
            heard.extend(vera.take());
            (!heard.is_empty()).then_some(())
        });
        let mut other = Peer::new(&core, &core.hello("lamp-2", "lamp"));
        other.publish("event/lamp/t/y/lamp", false);
        crate::hub::eventually("the message after the will", || {
            heard.extend(vera.take());
            heard
                .contains(&"event/lamp/t/y/lamp".to_owned())
                .then_some(())
        });
        assert_eq!(heard, [TOPIC, "event/lamp/t/y/lamp"]);
    }
}
