//! A websocket as a browser opens one (RFC 6455), frame by frame.

use crate::hub::eventually;
use crate::server::{Core, Kind, Tls, connect_packet, packet};
use std::io::{Read, Write};

/// The answer to the example's key (RFC 6455 §1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Sends what a browser sends, and gives the head of the answer.
fn open(core: &Core, path: &str, protocols: &str) -> (Tls, String) {
    let port = core.ws_port();
    let mut stream = core.tls(port);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: keep-alive, Upgrade\r\nPragma: no-cache\r\n\
         Cache-Control: no-cache\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nUpgrade: websocket\r\n\
         Origin: https://localhost:8443\r\nSec-WebSocket-Version: 13\r\nAccept-Encoding: gzip, deflate, br\r\n\
         Accept-Language: en\r\nCookie: a=b; c=d\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n{protocols}\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.push(byte[0]);
    }
    (stream, String::from_utf8(head).unwrap())
}

/// Writes one frame, masked as a browser must.
fn frame(stream: &mut Tls, first: u8, payload: &[u8]) {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | u8::try_from(short).unwrap()),
        long => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(long).unwrap().to_be_bytes());
        }
    }
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    bytes.extend(mask);
    bytes.extend(
        payload
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    stream.write_all(&bytes).unwrap();
    stream.flush().unwrap();
}

/// Reads one frame: its first byte and its payload.
fn read(stream: &mut Tls) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[1] & 0x80, 0, "a server does not mask");
    let size = match head[1] {
        126 => {
            let mut size = [0; 2];
            stream.read_exact(&mut size).unwrap();
            usize::from(u16::from_be_bytes(size))
        }
        short => usize::from(short),
    };
    let mut payload = vec![0; size];
    stream.read_exact(&mut payload).unwrap();
    (head[0], payload)
}

#[test]
fn a_browser_connects_and_is_told_the_end() {
    let core = Core::start();
    core.add(Kind::User, "vera", "viewer");
    drop(open(&core, "/", ""));
    let quiet = core.descriptors();
    for path in ["/", "/mqtt", "/any/path?with=query"] {
        let (mut page, head) = open(&core, path, "Sec-WebSocket-Protocol: mqtt\r\n");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let lines: Vec<String> = head.lines().map(str::to_ascii_lowercase).collect();
        assert!(head.contains(ACCEPT), "{head}");
        assert!(
            lines.contains(&"sec-websocket-protocol: mqtt".to_owned()),
            "{head}"
        );
        // Nothing is agreed that is not spoken.
        assert!(
            !lines
                .iter()
                .any(|line| line.starts_with("sec-websocket-extensions")),
            "{head}"
        );

        // A packet in three frames with a ping between them.
        let hello = connect_packet("vera-page", "vera", core.token("vera").as_bytes());
        let (one, rest) = hello.split_at(1);
        let (two, three) = rest.split_at(40);
        frame(&mut page, 0x02, one);
        frame(&mut page, 0x00, two);
        frame(&mut page, 0x89, b"are you there");
        frame(&mut page, 0x80, three);
        assert_eq!(read(&mut page), (0x8a, b"are you there".to_vec()));
        let (first, connack) = read(&mut page);
        assert_eq!(
            (first, connack[0], connack[3]),
            (0x82, 0x20, 0),
            "{connack:?}"
        );
        // Two packets in one frame, and an empty one.
        let mut both = packet(0x82, b"\x00\x01\x00\x00\x0devent/+/+/+/#\x01");
        both.extend([0xc0, 0]);
        frame(&mut page, 0x82, b"");
        frame(&mut page, 0x82, &both);
        let mut heard = Vec::new();
        while !heard.ends_with(&[0xd0, 0]) {
            let (first, part) = read(&mut page);
            assert_eq!(first, 0x82);
            heard.extend(part);
        }
        assert!(heard.starts_with(&[0x90, 4, 0, 1, 0, 1]), "{heard:?}");
        // The page is closed.
        frame(&mut page, 0x88, &[0x03, 0xe9]);
        let (first, reason) = read(&mut page);
        assert_eq!((first, reason), (0x88, vec![0x03, 0xe9]));
    }
    eventually("all of them are gone", || {
        (core.descriptors() <= quiet).then_some(())
    });
}

#[test]
fn who_speaks_otherwise_is_refused_or_ended() {
    let core = Core::start();
    for protocols in ["", "Sec-WebSocket-Protocol: chat, mqttv3.1\r\n"] {
        let (mut page, head) = open(&core, "/mqtt", protocols);
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        let mut rest = Vec::new();
        let _ = page.read_to_end(&mut rest);
        assert!(String::from_utf8_lossy(&rest).contains("mqtt"), "{rest:?}");
    }
    let hello = connect_packet("admin-page", "admin", core.token("admin").as_bytes());
    // A text; a frame that is not masked; one with a reserved bit; one that says it is 2^63 bytes long.
    let wrong: [&[u8]; 4] = [
        &[0x81, 0x81, 0, 0, 0, 0, b'x'],
        &[0x82, 2, 0xc0, 0],
        &[0xc2, 0x82, 0, 0, 0, 0, 0xc0, 0],
        &[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
    ];
    for bytes in wrong {
        let (mut page, head) = open(&core, "/mqtt", "Sec-WebSocket-Protocol: mqtt\r\n");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        frame(&mut page, 0x82, &hello);
        assert_eq!(read(&mut page).1[3], 0);
        page.write_all(bytes).unwrap();
        page.flush().unwrap();
        // It may be told why before it ends.
        let mut rest = Vec::new();
        let _ = page.read_to_end(&mut rest);
        assert!(rest.len() < 200, "{rest:?}");
    }
    core.asker("admin");
}
