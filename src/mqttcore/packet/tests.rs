use super::*;
use proptest::prelude::*;

fn text(value: &str, out: &mut Vec<u8>) {
    out.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    out.extend(value.as_bytes());
}

/// A PUBLISH by the book.
fn publish(topic: &str, qos: u8, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text(topic, &mut body);
    if qos > 0 {
        body.extend(7_u16.to_be_bytes());
    }
    put_varint(properties.len(), &mut body);
    body.extend(properties);
    body.extend(payload);
    let mut packet = vec![PUBLISH << 4 | qos << 1];
    put_varint(body.len(), &mut packet);
    packet.extend(body);
    packet
}

fn header(packet: &[u8]) -> Header {
    match Header::parse(packet) {
        Parsed::Done(header) => header,
        Parsed::More | Parsed::Bad => panic!("no header"),
    }
}

fn numbered(stamp: &Stamp, packet: &[u8], number: u64) -> Vec<u8> {
    let Parsed::Done(numbered) = stamp.number(packet, header(packet), number) else {
        panic!("not numbered");
    };
    let mut result = numbered.by;
    assert_eq!(packet.len() - numbered.replaced, numbered.follow);
    result.extend(&packet[numbered.replaced..]);
    result
}

proptest! {
    #[test]
    fn a_number_goes_in_and_out_and_leaves_no_trace(
        topic in "[a-z/]{1,200}",
        qos in 0_u8..3,
        keys in prop::collection::vec(("[a-z]{0,20}", "[a-z]{0,200}"), 0..4),
        payload in prop::collection::vec(any::<u8>(), 0..300),
        number: u64,
    ) {
        let mut properties = vec![0x01, 1];
        for (key, value) in &keys {
            properties.push(USER_PROPERTY);
            text(key, &mut properties);
            text(value, &mut properties);
        }
        let stamp = Stamp::new(number ^ 5);
        let packet = publish(&topic, qos, &properties, &payload);
        let inside = numbered(&stamp, &packet, number);
        prop_assert!(inside.len() - packet.len() <= stamp.overhead());
        prop_assert_eq!(header(&inside).header + header(&inside).body, inside.len());
        let copy = stamp.read(&inside, header(&inside)).unwrap();
        prop_assert_eq!(copy.number, Some(number));
        prop_assert_eq!(copy.qos, qos);
        prop_assert_eq!(copy.packet_id, (qos > 0).then_some(7));
        prop_assert!(!copy.names_subscription);
        prop_assert_eq!(copy.bytes, packet);
    }

    #[test]
    fn nothing_panics_and_a_prefix_is_never_called_bad(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        cut in 0_usize..64,
    ) {
        let stamp = Stamp::new(1);
        if let Parsed::Done(header) = Header::parse(&bytes) {
            let _ = stamp.number(&bytes, header, 1);
            let _ = stamp.read(&bytes, header);
            let _ = packet_size_at(&bytes, header);
        }
        let whole = publish("a/b", 1, &[], b"payload");
        let part = &whole[..cut.min(whole.len())];
        if let Parsed::Done(header) = Header::parse(part) {
            prop_assert_ne!(stamp.number(part, header, 1), Parsed::Bad);
        }
    }
}

#[test]
fn a_forged_number_is_not_taken_for_ours() {
    let stamp = Stamp::new(1);
    let (mut forged, mut kept) = (vec![USER_PROPERTY], vec![USER_PROPERTY]);
    let (name, value) = stamp.property(4);
    text(&name, &mut forged);
    text(&value, &mut forged);
    text(&name, &mut kept);
    text(&value, &mut kept);
    let packet = publish("a", 1, &forged, b"");
    let inside = numbered(&stamp, &packet, 9);
    let copy = stamp.read(&inside, header(&inside)).unwrap();
    assert_eq!(copy.number, Some(9), "ours comes first");
    assert_eq!(copy.bytes, packet);
    let other = Stamp::new(2);
    assert_eq!(other.read(&packet, header(&packet)).unwrap().number, None);
}

#[test]
fn copies_for_named_subscriptions_are_told_apart() {
    let packet = publish("a", 0, &[SUBSCRIPTION_ID, 0x80, 0x01], b"x");
    let copy = Stamp::new(1).read(&packet, header(&packet)).unwrap();
    assert!(copy.names_subscription);
    assert_eq!(copy.bytes, packet);
}

#[test]
fn malformed_publishes_are_left_to_the_library() {
    let stamp = Stamp::new(1);
    // properties longer than the packet; topic longer than the packet; a length of five bytes
    let long = [0x30, 4, 0, 1, b'a', 9];
    assert_eq!(stamp.number(&long, header(&long), 1), Parsed::Bad);
    let topic = [0x30, 3, 0, 9, b'a'];
    assert_eq!(stamp.number(&topic, header(&topic), 1), Parsed::Bad);
    assert_eq!(
        Header::parse(&[0x30, 0x80, 0x80, 0x80, 0x80, 1]),
        Parsed::Bad
    );
    assert_eq!(Header::parse(&[0x30, 0x80]), Parsed::More);
    assert_eq!(Header::parse(&[]), Parsed::More);
}

#[test]
fn the_maximum_packet_size_of_a_connack_is_found() {
    let packet = [0x20, 11, 0, 0, 8, 0x21, 4, 0, 0x27, 0, 0x40, 0, 0];
    assert_eq!(packet_size_at(&packet, header(&packet)), Some(9));
    let none = [0x20, 6, 0, 0, 3, 0x21, 4, 0];
    assert_eq!(packet_size_at(&none, header(&none)), None);
    let short = [0x20, 3, 0, 0, 0];
    assert_eq!(packet_size_at(&short, header(&short)), None);
}

/// A CONNECT of `level` by the book, with or without a will that has these properties.
fn connect(level: u8, will: Option<&[u8]>) -> Vec<u8> {
    let mut body = Vec::new();
    text("MQTT", &mut body);
    body.extend([level, if will.is_some() { 0x06 } else { 0x02 }, 0, 60]);
    if level == 5 {
        body.extend([5, 0x11, 0, 0, 0, 9]);
    }
    text("joe-1", &mut body);
    if let Some(properties) = will {
        if level == 5 {
            put_varint(properties.len(), &mut body);
            body.extend(properties);
        }
        text("event/joe/t/x/joe", &mut body);
        text("gone", &mut body);
    }
    let mut packet = vec![CONNECT << 4];
    put_varint(body.len(), &mut packet);
    packet.extend(body);
    packet
}

#[test]
fn a_will_is_numbered_however_much_of_it_is_there() {
    let stamp = Stamp::new(3);
    let long = [&[USER_PROPERTY, 0, 1, b'a', 0, 120][..], &[b'x'; 120]].concat();
    for properties in [&b""[..], b"\x01\x01", &long] {
        let packet = connect(5, Some(properties));
        let Parsed::Done(numbered) = stamp.number(&packet, header(&packet), 8) else {
            panic!("not numbered");
        };
        // The number stands before the properties that follow unchanged.
        let inside = [&numbered.by[..], &packet[numbered.replaced..]].concat();
        let mut own = Vec::new();
        stamp.put(8, &mut own);
        let own = [&own[..], properties].concat();
        assert_eq!(inside, connect(5, Some(&own)));
        for length in 0..packet.len() {
            if let Parsed::Done(header) = Header::parse(&packet[..length]) {
                match stamp.number(&packet[..length], header, 8) {
                    Parsed::Done(early) => assert_eq!(early, numbered),
                    Parsed::More => assert!(length < numbered.replaced),
                    Parsed::Bad => panic!("refused at {length}"),
                }
            }
        }
    }
}

#[test]
fn what_has_no_will_or_is_older_stays_as_it_is() {
    let stamp = Stamp::new(3);
    for packet in [connect(5, None), connect(4, Some(b"")), connect(4, None)] {
        assert_eq!(stamp.number(&packet, header(&packet), 8), Parsed::Bad);
    }
    // A will that is announced and not there.
    let mut packet = connect(5, None);
    packet[9] |= 4;
    assert_eq!(stamp.number(&packet, header(&packet), 8), Parsed::Bad);
}
