//! Ten thousand sequences of packets that are changed, reordered, cut off or merely odd (crates-mqtt §8, check 2).
//!
//! Invariant: sequence `n` of a seed is the same each time: `MUTATION_SEED` and `MUTATION_ROUNDS` bring a run back.

use crate::chance::Chance;
use crate::hub::eventually;
use crate::packets::{Wire, length, request, text};
use crate::server::{Core, Kind, Tls, connect_packet, packet, push};
use std::io::Read;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const ROUNDS: usize = 10_000;
/// Every so many sequences one goes over TLS, and one over the websocket.
const TLS_EACH: usize = 40;
/// Side by side, so that the core has more than one to care for.
const THREADS: usize = 4;

/// What the core may hold in memory afterwards, in bytes.
const MOST_MEMORY: u64 = 24 * 1024 * 1024;
/// A client that behaves waits no longer for a reply, meanwhile, on a machine that has other things to do too.
const MOST_WAIT: Duration = Duration::from_secs(2);
/// A connection whose client has said its last is closed by then.
const MOST_CLOSING: Duration = Duration::from_secs(5);

/// Who sends: a service may do most, an operator less.
const LOGINS: [&str; 2] = ["rogue", "joe"];

struct Sender {
    login: &'static str,
    id: String,
    token: String,
}

/// A topic, a filter, or what looks like one.
fn topic(chance: &mut Chance, sender: &Sender) -> Vec<u8> {
    let own = sender.login;
    let id = &sender.id;
    match chance.below(24) {
        0..=5 => format!("event/{own}/thing/value/{own}").into_bytes(),
        6 => format!("action/lamp/thing/on/{own}").into_bytes(),
        7 => format!("rpc/auth/profile/getProfile/{own}").into_bytes(),
        8 => format!("rpc/auth/manageClients/getProfiles/{own}").into_bytes(),
        9 | 10 => format!("_INBOX/{id}").into_bytes(),
        11 => b"event/+/+/+/#".to_vec(),
        12 => format!("event/{own}/+/+/#").into_bytes(),
        13 => format!("$share/group/rpc/{own}/+/+/#").into_bytes(),
        14 => b"$share//#".to_vec(),
        15 => b"#".to_vec(),
        16 => b"$SYS/broker/uptime".to_vec(),
        17 => Vec::new(),
        18 => b"event/a#/+b/c/d".to_vec(),
        19 => vec![b'/'; chance.below(2000)],
        20 => b"event/\0/x/y/z".to_vec(),
        21 => vec![0xc3, 0x28, 0xed, 0xa0, 0x80],
        22 => "event/\u{ffff}/\u{1}/\u{feff}/x".as_bytes().to_vec(),
        _ => (0..chance.below(300)).map(|_| chance.byte()).collect(),
    }
}

/// Properties, right or not for where they stand.
fn properties(chance: &mut Chance, sender: &Sender) -> Vec<u8> {
    let mut all = Vec::new();
    let most = *chance.of(&[0, 0, 0, 1, 2, 3, 40]);
    for _ in 0..chance.below(most + 1) {
        let property = *chance.of(&[
            0x01, 0x02, 0x03, 0x08, 0x09, 0x0b, 0x11, 0x12, 0x13, 0x15, 0x16, 0x17, 0x18, 0x19,
            0x1a, 0x1c, 0x1f, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x00,
            0x7f,
        ]);
        all.push(property);
        match property {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => all.push(chance.byte() & 3),
            0x13 | 0x21 | 0x22 | 0x23 => all.extend([chance.byte() & 1, chance.byte()]),
            0x02 | 0x11 | 0x18 | 0x27 => all.extend([0, 0, chance.byte() & 1, chance.byte()]),
            0x0b => all.extend(length(chance.below(300))),
            0x26 => {
                let (name, value) = (topic(chance, sender), topic(chance, sender));
                all.extend(text(&name));
                all.extend(text(&value));
            }
            _ => all.extend(text(&topic(chance, sender))),
        }
    }
    let mut coded = length(all.len());
    coded.extend(all);
    coded
}

/// One packet, mostly well formed by itself.
fn any_packet(chance: &mut Chance, sender: &Sender) -> Vec<u8> {
    let id = [0, chance.byte() & 7];
    let mut body = Vec::new();
    let kind = *chance.of(&[
        3, 3, 3, 3, 8, 8, 10, 4, 5, 6, 7, 12, 14, 15, 1, 2, 9, 11, 13, 0,
    ]);
    let mut flags = match kind {
        6 | 8 | 10 => 2,
        3 => *chance.of(&[0, 1, 2, 2, 2, 3, 4, 5, 10, 12]),
        _ => 0,
    };
    if chance.once_in(40) {
        flags = chance.byte() & 15;
    }
    match kind {
        3 => {
            body.extend(text(&topic(chance, sender)));
            if flags & 6 != 0 {
                body.extend(id);
            }
            body.extend(properties(chance, sender));
            let size = *chance.of(&[0, 1, 10, 100, 5_000]);
            body.extend((0..size).map(|_| b'x'));
        }
        8 => {
            body.extend(id);
            body.extend(properties(chance, sender));
            for _ in 0..chance.below(*chance.clone().of(&[2, 3, 60])) {
                body.extend(text(&topic(chance, sender)));
                let options = *chance.of(&[0, 1, 2, 3, 4, 8, 0x15, 0x2d, 0x30, 0xff]);
                body.push(options);
            }
        }
        10 => {
            body.extend(id);
            body.extend(properties(chance, sender));
            for _ in 0..chance.below(4) {
                body.extend(text(&topic(chance, sender)));
            }
        }
        4..=7 => {
            body.extend(id);
            if chance.once_in(2) {
                body.push(*chance.of(&[0, 0x10, 0x87, 0x92, 0xff]));
                body.extend(properties(chance, sender));
            }
        }
        14 | 15 if chance.once_in(2) => {
            body.push(*chance.of(&[0, 4, 0x18, 0x19, 0x81, 0xff]));
            body.extend(properties(chance, sender));
        }
        1 => return connect(chance, sender),
        12..=15 => {}
        _ => body.extend((0..chance.below(20)).map(|_| chance.byte())),
    }
    packet(kind << 4 | flags, &body)
}

/// A CONNECT with a will, or whatever else it may have.
fn connect(chance: &mut Chance, sender: &Sender) -> Vec<u8> {
    let plain = connect_packet(&sender.id, sender.login, sender.token.as_bytes());
    if chance.once_in(2) {
        return plain;
    }
    let mut body = text(
        chance
            .of(&["MQTT", "MQTT", "MQTT", "MQIsdp", ""])
            .as_bytes(),
    );
    body.push(*chance.of(&[5, 5, 5, 5, 4, 3, 6, 0]));
    let flags = *chance.of(&[
        0xc2, 0xc6, 0xce, 0xd6, 0xe6, 0xee, 0x02, 0xc0, 0x82, 0xc3, 0xde,
    ]);
    body.push(flags);
    body.extend([0, *chance.of(&[60, 1, 0, 255])]);
    body.extend(properties(chance, sender));
    body.extend(text(sender.id.as_bytes()));
    if flags & 4 != 0 {
        body.extend(properties(chance, sender));
        body.extend(text(&topic(chance, sender)));
        body.extend(text(b"gone"));
    }
    body.extend(text(sender.login.as_bytes()));
    body.extend(text(sender.token.as_bytes()));
    packet(0x10, &body)
}

/// Puts another length into a packet's header.
fn misstate(chance: &mut Chance, packet: &mut Vec<u8>) {
    let header = 1 + packet
        .iter()
        .skip(1)
        .take_while(|byte| **byte & 0x80 != 0)
        .count();
    let lengths: [&[u8]; 7] = [
        &[0],
        &[1],
        &[0x7f],
        &[0x80, 1],
        &[0xff, 0xff, 0xff, 0x7f],
        &[0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x80, 0x80, 0x80, 0],
    ];
    let by = chance.of(&lengths);
    let header = header.min(packet.len() - 1);
    drop(packet.splice(1..=header, by.iter().copied()));
}

/// The pieces of a sequence, as they are written.
fn sequence(chance: &mut Chance, sender: &Sender, logs_in: bool) -> Vec<Vec<u8>> {
    let mut packets: Vec<Vec<u8>> = (0..=chance.below(8))
        .map(|_| any_packet(chance, sender))
        .collect();
    for packet in &mut packets {
        match chance.below(8) {
            0 => chance.mutate(packet),
            1 => misstate(chance, packet),
            // The body is changed and its length is right: this gets deepest.
            2 | 3 if packet.len() > 2 && packet[1] & 0x80 == 0 => {
                let mut body = packet.split_off(2);
                chance.mutate(&mut body);
                *packet = crate::server::packet(packet[0], &body);
            }
            _ => {}
        }
    }
    if chance.once_in(4) {
        chance.shuffle(&mut packets);
    }
    if chance.once_in(6) {
        let again = chance.of(&packets).clone();
        packets.push(again);
    }
    let hello = match (logs_in, chance.below(4)) {
        (true, _) => Some(connect_packet(
            &sender.id,
            sender.login,
            sender.token.as_bytes(),
        )),
        (false, 0) => None,
        (false, 1) => Some(connect_packet(&sender.id, sender.login, b"not.my.token")),
        (false, 2) => {
            let mut hello = connect(chance, sender);
            misstate(chance, &mut hello);
            Some(hello)
        }
        (false, _) => {
            let mut hello = connect(chance, sender);
            chance.mutate(&mut hello);
            Some(hello)
        }
    };
    let mut pieces: Vec<Vec<u8>> = hello.into_iter().collect();
    match chance.below(4) {
        // Each packet by itself, all at once, or cut somewhere.
        0 => pieces.extend(packets),
        1 | 2 => pieces.push(packets.concat()),
        _ => {
            let mut all = packets.concat();
            let rest = all.split_off(chance.below(all.len()));
            pieces.extend([all, rest]);
        }
    }
    if chance.once_in(8)
        && let Some(last) = pieces.last_mut()
    {
        last.truncate(last.len() / 2);
    }
    pieces
}

/// A message of a websocket, whole or in two frames; now and then a frame of another kind or a wrong one.
fn framed(chance: &mut Chance, piece: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut frame = |first: u8, part: &[u8]| {
        out.push(first);
        match part.len() {
            short @ 0..126 => out.push(0x80 | u8::try_from(short).unwrap()),
            long => {
                out.push(0x80 | 126);
                out.extend(u16::try_from(long).unwrap_or(u16::MAX).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        out.extend(mask);
        out.extend(
            part.iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
    };
    let (start, rest) = piece.split_at(piece.len() / 2);
    match chance.below(4) {
        0 => {
            frame(0x02, start);
            frame(0x80, rest);
        }
        1 => {
            frame(0x02, start);
            frame(0x89, b"ping");
            frame(0x80, rest);
        }
        _ => frame(0x82, piece),
    }
    if chance.once_in(5) {
        frame(
            *chance.of(&[0x81, 0x88, 0x8a, 0x83, 0xf2, 0x00, 0x08]),
            b"\xff\xfe",
        );
    }
    if chance.once_in(5) {
        chance.mutate(&mut out);
    }
    out
}

/// Reads until the core closes the connection, and judges what it said; whether the client was let in.
fn read_to_the_end(stream: &mut impl Read, what: &str) -> bool {
    let since = Instant::now();
    let (mut all, mut some) = (Vec::new(), [0; 16 * 1024]);
    // An end without a goodbye is an end, too.
    while let Ok(read @ 1..) = stream.read(&mut some) {
        all.extend(&some[..read]);
    }
    let took = since.elapsed();
    assert!(took < MOST_CLOSING, "{what} is closed after {took:?}");
    let was_let_in = all.starts_with(&[0x20])
        && said(&all)
            .next()
            .is_some_and(|(_, body)| body.get(1) == Some(&0));
    for (first, body) in said(&all) {
        let kind = first >> 4;
        assert!(
            [2, 3, 4, 5, 6, 7, 9, 11, 13, 14].contains(&kind),
            "{what}: {first:#x} {body:?}"
        );
        assert!(was_let_in || kind != 3, "{what}: a message for a stranger");
        // By this the core numbers messages; it is its secret.
        let numbered = body.windows(20).any(|part| {
            part.starts_with(&[0x26, 0, 17, b'n']) && part[4..].iter().all(u8::is_ascii_hexdigit)
        });
        assert!(!numbered, "{what}: a number leaves the core: {body:?}");
    }
    was_let_in
}

/// The packets of a stream: first byte and body. What follows the last whole one was cut off by the end.
fn said(all: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = all;
    std::iter::from_fn(move || {
        let (mut body, mut shift, mut at) = (0, 0, 1);
        loop {
            let byte = *rest.get(at)?;
            body |= usize::from(byte & 0x7f) << shift;
            (shift, at) = (shift + 7, at + 1);
            if byte & 0x80 == 0 {
                break;
            }
        }
        let packet = (rest[0], rest.get(at..at + body)?);
        rest = &rest[at + body..];
        Some(packet)
    })
}

/// Sends sequence `number` of `seed`; whether the client was seen to be let in.
fn send(core: &Core, seed: u64, number: usize) -> bool {
    let mut chance = Chance::new(seed.wrapping_add(u64::try_from(number).unwrap() << 20));
    let login = *chance.of(&LOGINS);
    // Some take over from each other.
    let id = match chance.below(8) {
        0 => format!("{login}-same"),
        _ => format!("{login}-{number}"),
    };
    let sender = Sender {
        login,
        id,
        token: core.token(login),
    };
    let logs_in = !chance.once_in(3);
    let pieces = sequence(&mut chance, &sender, logs_in);
    let what = format!("sequence {number}");
    match number % TLS_EACH {
        1 => {
            let mut stream = core.tls(core.port());
            let _ = pieces.iter().all(|piece| push(&mut stream, piece));
            finish_tls(&mut chance, stream, &what, false)
        }
        2 => {
            let mut stream = core.tls(core.ws_port());
            let hello = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Protocol: mqtt\r\n\r\n";
            let mut hello = hello.as_bytes().to_vec();
            if chance.once_in(8) {
                chance.mutate(&mut hello);
            }
            let opened = push(&mut stream, &hello);
            let _ = opened
                && pieces.iter().all(|piece| {
                    let frames = framed(&mut chance, piece);
                    push(&mut stream, &frames)
                });
            finish_tls(&mut chance, stream, &what, true)
        }
        _ => {
            let mut stream = core.dial();
            let _ = pieces.iter().all(|piece| push(&mut stream, piece));
            finish(&mut chance, stream, &what)
        }
    }
}

fn finish(chance: &mut Chance, mut stream: UnixStream, what: &str) -> bool {
    match chance.below(4) {
        // The core has all of it and sees the end.
        0 | 1 => {
            let _ = stream.shutdown(Shutdown::Write);
            read_to_the_end(&mut stream, what)
        }
        // It reads a little and goes.
        2 => {
            stream
                .set_read_timeout(Some(Duration::from_millis(2)))
                .unwrap();
            let _ = stream.read(&mut [0; 64]);
            false
        }
        _ => false,
    }
}

fn finish_tls(chance: &mut Chance, mut stream: Tls, what: &str, is_framed: bool) -> bool {
    if chance.once_in(2) {
        return false;
    }
    stream.conn.send_close_notify();
    let _ = stream.conn.write_tls(&mut stream.sock);
    let _ = stream.sock.shutdown(Shutdown::Write);
    if is_framed {
        let since = Instant::now();
        while matches!(stream.read(&mut [0; 1024]), Ok(1..)) {}
        assert!(since.elapsed() < MOST_CLOSING, "{what} is closed late");
        return false;
    }
    read_to_the_end(&mut stream, what)
}

/// Asks all the time; how often it was answered, and the longest wait.
fn behave(core: &Core, done: &AtomicBool) -> (usize, Duration) {
    let mut wire = Wire::log_in_as_admin(core.dial(), core.token("admin").as_bytes());
    let (mut answered, mut longest) = (0, Duration::ZERO);
    while !done.load(Ordering::Relaxed) {
        let since = Instant::now();
        let reply = wire.ask(&request("rpc/auth/profile/getProfile/admin", b"", 9));
        assert!(
            reply.text().contains("\"role\":\"admin\""),
            "{}",
            reply.text()
        );
        longest = longest.max(since.elapsed());
        answered += 1;
        std::thread::sleep(Duration::from_millis(5));
    }
    (answered, longest)
}

#[test]
fn ten_thousand_mutated_sequences_harm_nobody() {
    let seed = Chance::seed("MUTATION_SEED");
    let rounds = std::env::var("MUTATION_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let rounds: usize = rounds.unwrap_or(ROUNDS);
    // Wrong passwords are refused at once rather than after a while, so that the sequences take no longer.
    let core = Core::with("  limits: {guessDelaySeconds: 30}\n");
    core.add(Kind::Service, "rogue", "service");
    core.add(Kind::User, "joe", "operator");
    // The first connection of a kind may open what stays open.
    for number in 0..3 {
        let _ = send(&core, 0, number);
    }
    drop(core.admin());
    let quiet = descriptors_when_quiet(&core);
    let (pid, before) = (core.pid(), core.memory());
    let (next, let_in, done) = (
        AtomicUsize::new(0),
        AtomicUsize::new(0),
        AtomicBool::new(false),
    );
    let since = Instant::now();
    let (answered, longest) = std::thread::scope(|scope| {
        let good = scope.spawn(|| behave(&core, &done));
        let senders: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= rounds {
                            break;
                        }
                        let_in.fetch_add(usize::from(send(&core, seed, number)), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let ended: Vec<_> = senders
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok), "a sender has failed");
        good.join().unwrap()
    });
    let took = since.elapsed();
    let log = core.log();
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(core.pid(), pid);
    let left = eventually("the descriptors are back", || {
        let now = core.descriptors();
        (now <= quiet).then_some(now)
    });
    let memory = core.memory();
    println!(
        "{rounds} sequences in {took:?}, {let_in:?} seen let in; {answered} replies, the slowest after {longest:?}; memory {before} -> {memory}; \
         descriptors {quiet} -> {left}"
    );
    // What is refused by the first packet proves nothing about the others.
    assert!(let_in.into_inner() > rounds / 5, "hardly anybody is let in");
    assert!(
        memory < MOST_MEMORY,
        "{memory} bytes are held, {before} before"
    );
    assert!(
        answered > 10 && longest < MOST_WAIT,
        "{answered} replies, the slowest after {longest:?}"
    );
    core.asker("admin")
        .ask("rpc/auth/profile/getProfile", &serde_json::Value::Null);
}

/// Descriptors once they do not change any more.
fn descriptors_when_quiet(core: &Core) -> usize {
    let mut last = (core.descriptors(), Instant::now());
    eventually("the core is quiet", || {
        let now = core.descriptors();
        if now != last.0 {
            last = (now, Instant::now());
        }
        (last.1.elapsed() > Duration::from_millis(1500)).then_some(now)
    })
}
