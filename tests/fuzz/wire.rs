//! What comes over the wire: topics, filters, packets, payloads, addresses.

use crate::{Corpus, run, texts_of, vectors};
use bus::client::Endpoint;
use bus::discovery::{self, Record};
use bus::golang;
use bus::rpc::{Method, Reply, Request};
use bus::topics;
use bus::wire::{AddServiceArgs, ClientProfile, ServicePermissionsArgs};
use mqttcore::packet::{CONNECT, Header, PUBLISH, Parsed, Stamp, packet_size_at};
use mqttcore::roles::{Asker, Permissions, Role, fits_login};

const TOPICS: [&str; 14] = [
    "rpc/launcher/manage/list/admin",
    "event/sensor/thing/$td/sensor",
    "action/a/b/c",
    "_INBOX/admin-hub-1",
    "event/+/+/+/#",
    "rpc/auth/profile/+/#",
    "$share/group/event/a/+/#",
    "$SYS/#",
    "#",
    "+/#",
    "/",
    "",
    "a//b",
    "config/\u{e9}/\u{10ffff}/x/y\n+/+/#\na/b",
];

/// The rule of MQTT 5 §4.7, letter by letter.
fn lets_through(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) => true,
        ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => lets_through(filter, topic),
        ([same, filter @ ..], [level, topic @ ..]) if same == level => lets_through(filter, topic),
        _ => false,
    }
}

fn levels(text: &str) -> Vec<&str> {
    text.split('/').collect()
}

#[test]
fn topics_and_filters() {
    let words = [
        "/", "+", "#", "$share/", "event", "rpc", "_INBOX", "\n", "\0", "//", "admin",
    ];
    // Of three lines, two are filters and one is a topic.
    let seeds = TOPICS.iter().flat_map(|first| {
        ["event/+/+/+/#\n#", "a/b/c\n+/b/#"].map(|rest| format!("{first}\n{rest}"))
    });
    run("topics", 1, &Corpus::of(seeds, &words), |input| {
        let text = String::from_utf8_lossy(input);
        let mut lines = text.split('\n');
        let (one, two) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
        let three = lines.next().unwrap_or("");
        for line in [one, two, three] {
            match topics::Topic::parse(line) {
                Ok(topic) => {
                    assert_eq!(topic.to_string(), line);
                    assert!(topics::is_topic(line));
                }
                Err(error) => assert!(error.to_string().len() < 512, "{error}"),
            }
            assert!(!topics::is_topic(line) || topics::is_filter(line));
            if let Some(inner) = topics::without_share(line) {
                assert!(line.ends_with(inner));
            }
        }
        if topics::is_filter(one) && topics::is_filter(two) && topics::is_topic(three) {
            let wild = three.starts_with('$') && one.starts_with(['+', '#']);
            let expected = !wild && lets_through(&levels(one), &levels(three));
            assert_eq!(topics::matches(one, three), expected, "{one} {three}");
            if topics::contains(one, two) && topics::matches(two, three) {
                assert!(expected, "{one} contains {two}, which lets {three} through");
            }
        }
    });
}

#[test]
fn rights() {
    let words = [
        "/",
        "+",
        "#",
        "$share/g/",
        "event",
        "action",
        "config",
        "rpc",
        "joe",
        "_INBOX",
        "joe-1",
    ];
    let seeds = TOPICS.map(|topic| topic.replace("admin", "joe"));
    let permissions = Permissions::default();
    run("rights", 2, &Corpus::of(seeds, &words), |input| {
        let text = String::from_utf8_lossy(input);
        for role in Role::ALL {
            let joe = Asker {
                login: "joe",
                mqtt_id: "joe-1",
                role,
            };
            if joe.may_publish(&text, &permissions) {
                let levels = levels(&text);
                assert!(
                    levels[0] == "_INBOX" || (levels.len() == 5 && levels[4] == "joe"),
                    "{text}"
                );
            }
            if joe.may_subscribe(&text) && topics::is_filter(&text) {
                let filter = topics::without_share(&text).unwrap();
                for secret in [
                    "_INBOX/admin-1",
                    "_INBOX/joe",
                    "rpc/auth/profile/x/admin",
                    "$SYS/x/y/z",
                ] {
                    assert!(
                        !topics::matches(filter, secret),
                        "{text} lets {secret} through"
                    );
                }
                let others = "action/lamp/t/n/admin";
                assert!(
                    !topics::matches(filter, others),
                    "{text} lets {others} through"
                );
            }
        }
        if fits_login(&text, "joe") {
            assert!(
                text.starts_with("joe") || text.starts_with("auto-"),
                "{text}"
            );
        }
    });
}

#[test]
fn endpoints() {
    let seeds = [
        "tcp://hub:8883",
        "mqtts://[::1]:1",
        "unix:///run/x.sock",
        "unix://@/MqttInMemUDSProd",
        "@/x",
        "127.0.0.1:8883",
        "[fe80::1%eth0]:8883",
    ];
    let words = [
        "://", "@", "[", "]", ":", "unix", "mqtts", "tcp", "65536", "<nil>", "%",
    ];
    run("endpoints", 1, &Corpus::of(seeds, &words), |input| {
        let text = String::from_utf8_lossy(input);
        match text.parse::<Endpoint>() {
            Ok(endpoint) => assert_eq!(endpoint.to_string().parse::<Endpoint>().unwrap(), endpoint),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}

/// What strangers on the network say of themselves: host, port, and the entries of the text, line by line.
#[test]
fn records_of_dns_sd() {
    let seeds = [
        "hub.local.\n8883\nrawurl=tcp://192.168.1.2:8883\ncore=mqtt",
        "hub.local.\n4222\nrawurl=nats://192.168.1.2:4222\ncore=nats",
        "hub\n0\ncore=mqtt\nrawurl",
        "..\n65535\nrawurl=unix:///run/x.sock",
        "\n1\nrawurl=@/MqttInMemUDSProd\nrawurl=tcp://[fe80::1%eth0]:1",
        "a b\n1\nrawurl=tcp://<nil>:8883",
        "h\n9\ncore=\u{1b}[31m\u{202e}\nrawurl=tcp://a:1=b",
    ];
    let words = [
        "rawurl", "core", "=", "\n", "tcp://", "mqtt", "[", "]", "@", ":", "%", ".", "\u{1b}", "\r",
    ];
    run("records", 1, &Corpus::of(seeds, &words), |input| {
        let mut lines = input.split(|byte| *byte == b'\n');
        let host = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
        let port = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
        let text = lines.map(|line| {
            let mut parts = line.splitn(2, |byte| *byte == b'=');
            let name = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
            (name, parts.next().map(<[u8]>::to_vec))
        });
        let addresses = match input.first() {
            Some(&first @ 0..64) => vec![[first, 0, 0, 1].into(), [u16::from(first); 8].into()],
            Some(_) | None => Vec::new(),
        };
        let record = Record {
            addresses,
            host,
            port: port.parse().unwrap_or_default(),
            text: text.collect(),
        };
        match discovery::place(&record) {
            Ok(place) => {
                let said = place.to_string();
                assert!(matches!(place, Endpoint::Tls { .. }), "{said}");
                assert_eq!(said.parse::<Endpoint>().unwrap(), place);
                assert!(!said.contains(char::is_control), "{said:?}");
            }
            Err(error) => {
                let said = error.to_string();
                assert!(
                    said.len() < 1024 && !said.contains(char::is_control),
                    "{said:?}"
                );
            }
        }
    });
}

fn packets() -> Vec<Vec<u8>> {
    let all = vectors("raw-bytes.json");
    texts_of(&all)
        .iter()
        .filter(|hex| hex.len() % 2 == 0 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map(|hex| {
            (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect()
        })
        .collect()
}

#[test]
fn packets_of_mqtt() {
    let mut seeds = packets();
    assert!(seeds.len() > 3, "the vectors have packets");
    let stamp = Stamp::new(7);
    let (name, value) = stamp.property(9);
    // One that pretends to be numbered.
    let mut forged = vec![0x32, 50, 0, 1, b'a', 0, 1, 42, 0x26];
    for text in [&name, &value] {
        forged.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        forged.extend(text.as_bytes());
    }
    forged.extend(b"xxxx");
    seeds.push(forged);
    // One with a will.
    seeds.push(b"\x10\x2d\x00\x04MQTT\x05\x06\x00\x3c\x05\x11\x00\x00\x00\x3c\x00\x03abc\x02\x01\x01\x00\x05event\x00\x04gone".to_vec());
    seeds.push(
        b"\x20\x13\x00\x00\x10\x27\x00\x40\x00\x00\x21\x00\x64\x2a\x01\x25\x01\x24\x01\x28\x01"
            .to_vec(),
    );
    let words = ["\u{26}", "\0", "\u{b}\u{1}", "\u{7f}", "\u{32}"];
    run("packets", 1, &Corpus::of(seeds, &words), |input| {
        let Parsed::Done(header) = Header::parse(input) else {
            return;
        };
        if let Some(at) = packet_size_at(input, header) {
            assert!(at + 4 <= input.len());
        }
        if ![PUBLISH, CONNECT].contains(&header.kind()) {
            return;
        }
        let numbered = match stamp.number(input, header, 9) {
            Parsed::Done(numbered) => numbered,
            Parsed::More => {
                assert!(
                    input.len() < header.header + header.body,
                    "all of it is there"
                );
                return;
            }
            Parsed::Bad => return,
        };
        let whole = header.header + header.body;
        assert_eq!(numbered.replaced + numbered.follow, whole);
        assert!(numbered.by.len() <= numbered.replaced + stamp.overhead());
        let Some(rest) = input.get(numbered.replaced..whole) else {
            return;
        };
        let mut packet = numbered.by;
        packet.extend(rest);
        let Parsed::Done(longer) = Header::parse(&packet) else {
            panic!("the header is gone");
        };
        assert_eq!(longer.header + longer.body, packet.len());
        if header.kind() == CONNECT {
            return;
        }
        // What it was comes out again, but for a length that was written longer than need be.
        if let Some(copy) = stamp.read(&packet, longer) {
            assert!(copy.number.is_some());
            assert!(copy.bytes.len() <= whole);
            assert!(copy.bytes.ends_with(rest));
            let Parsed::Done(again) = Header::parse(&copy.bytes) else {
                panic!("the header is gone");
            };
            assert_eq!(again.header + again.body, copy.bytes.len());
        }
    });
}

#[test]
fn requests_and_replies() {
    let mut seeds: Vec<String> = [
        "list.json",
        "start-errors.json",
        "start-stop-all.json",
        "auth-events.json",
    ]
    .iter()
    .flat_map(|file| texts_of(&vectors(file)))
    .filter(|text| text.starts_with(['{', '[', '"']))
    .collect();
    assert!(seeds.len() > 3, "the vectors have payloads");
    seeds.extend(
        [
            "{\"onlyRunning\":true}",
            "{\"name\":\"lamp\"}",
            "{\"INFO\":[{\"Name\":\"x\",\"CPU\":1,\"Limits\":{\"a\":{}}}],\"info\":null}",
            "{\"profiles\":[{\"clientID\":\"a\",\"role\":\"viewer\"}]}",
            "{\"capability\":\"c\",\"roles\":[\"viewer\",null]}",
            "\u{2028}<>&",
            "[[[[[[[[[[[[[[[[[[",
            "{\"name\":\"\\ud800\\udc00\\ud800\"}",
            "{\"name\":1e400}",
            "null",
            "",
        ]
        .map(str::to_owned),
    );
    let words = [
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        "null",
        "true",
        "1e999",
        "-0",
        "12.5",
        "\\u0000",
        "\\ud83d",
        "\"name\":",
        "\"NAME\":",
        "\"info\":",
        "9223372036854775808",
        "\u{2028}",
    ];
    run("requests", 2, &Corpus::of(seeds, &words), |input| {
        for method in Method::ALL {
            match Request::decode("manage", method.name(), input) {
                Ok(request) => {
                    let again = Request::decode("manage", method.name(), &request.payload());
                    assert_eq!(again.unwrap(), request);
                }
                Err(error) => assert!(error.to_string().len() < 4096, "{error}"),
            }
            if let Ok(reply) = Reply::decode(method, input) {
                assert_eq!(Reply::decode(method, &reply.payload()).unwrap(), reply);
            }
        }
        again::<ClientProfile>(input);
        again::<AddServiceArgs>(input);
        again::<ServicePermissionsArgs>(input);
        let text = String::from_utf8_lossy(input);
        assert!(bus::rpc::cut_error(&text).len() <= bus::rpc::MAX_ERROR);
        assert!(
            Request::decode(&text, &text, b"")
                .unwrap_err()
                .to_string()
                .len()
                < 4096
        );
    });
}

fn again<T: golang::GoValue + Default + PartialEq + std::fmt::Debug + serde::Serialize>(
    input: &[u8],
) {
    if let Ok(value) = golang::decode::<T>(input) {
        let written = golang::encode(&value);
        assert_eq!(golang::decode::<T>(&written).unwrap(), value);
    }
}
