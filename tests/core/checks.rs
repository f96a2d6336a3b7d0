//! The checks of crates-mqtt §8 against the core and, where it applies, against mosquitto.

use crate::broker::{Broker, Mosquitto};
use crate::hub::{PATIENCE, eventually, signal_pid};
use crate::packets::{Packet, Wire, length, text};
use crate::server::{Core, Kind, memory_of, packet};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bus::client::{CallError, Client, Endpoint, Options, Status};

/// How much later another client may be connected because of a silent one.
const MOST_DELAY: Duration = Duration::from_millis(500);

#[test]
fn a_silent_connection_on_any_port_delays_nobody() {
    let core = Core::start();
    let ports = [core.port(), core.ws_port()];
    let mut silent: Vec<Box<dyn std::any::Any>> = Vec::new();
    for port in ports {
        for said in [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n"] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(said).unwrap();
            silent.push(Box::new(stream));
        }
        // TLS, and then nothing; or half a packet, or half a request.
        for said in [&b"\x10"[..], b"GET /mqtt HTTP/1.1\r\nHost: x\r\n"] {
            let mut stream = core.tls(port);
            stream.write_all(said).unwrap();
            silent.push(Box::new(stream));
        }
    }
    for said in [&b""[..], b"\x10\x20\x00"] {
        let mut stream = UnixStream::connect(core.socket()).unwrap();
        stream.write_all(said).unwrap();
        silent.push(Box::new(stream));
    }
    for port in ports {
        let took = best_of_three(|| {
            let mut stream = core.tls(port);
            stream.conn.complete_io(&mut stream.sock).unwrap();
        });
        assert!(took < MOST_DELAY, "{port}: {took:?}");
    }
    let took = best_of_three(|| drop(core.asker("admin")));
    assert!(took < MOST_DELAY, "{took:?}");
    drop(silent);
}

/// The machine may be busy with something else; who is delayed by others is so each time.
fn best_of_three(mut work: impl FnMut()) -> Duration {
    let times = [(); 3].map(|()| {
        let since = Instant::now();
        work();
        since.elapsed()
    });
    times.into_iter().min().unwrap()
}

fn subscribe(wire: &mut Wire, filter: &str) -> u8 {
    let mut body = vec![0, 5, 0];
    body.extend(text(filter.as_bytes()));
    body.push(1);
    wire.send(&packet(0x82, &body));
    let answer = next_but_messages(wire);
    assert_eq!(answer.kind(), 9);
    *answer.body.last().unwrap()
}

fn publish(wire: &mut Wire, topic: &str, payload: &[u8]) {
    let mut body = text(topic.as_bytes());
    body.extend([0, 6, 0]);
    body.extend(payload);
    wire.send(&packet(0x32, &body));
    assert_eq!(next_but_messages(wire).kind(), 4);
}

fn next_but_messages(wire: &mut Wire) -> Packet {
    loop {
        let packet = wire.receive();
        if packet.kind() != 3 {
            return packet;
        }
        wire.acknowledge(&packet);
    }
}

/// A CONNECT that keeps its session for a minute, or continues one.
fn lasting(id: &str, user: &str, password: Option<&str>, clean: bool) -> Vec<u8> {
    let mut body = text(b"MQTT");
    let flags = if password.is_some() { 0xc0 } else { 0 } | u8::from(clean) << 1;
    body.extend([5, flags, 0, 60, 5, 0x11, 0, 0, 0, 60]);
    body.extend(text(id.as_bytes()));
    if let Some(password) = password {
        body.extend(text(user.as_bytes()));
        body.extend(text(password.as_bytes()));
    }
    packet(0x10, &body)
}

fn connect(stream: UnixStream, hello: &[u8]) -> (Wire, Packet) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut wire = Wire { stream };
    wire.send(hello);
    let answer = wire.receive();
    (wire, answer)
}

#[test]
fn who_steals_a_client_id_gets_neither_its_messages_nor_its_place() {
    let core = Core::start();
    core.add(Kind::Service, "owner", "service");
    core.add(Kind::Service, "thief", "service");
    let tokens = ["owner", "thief"].map(|login| core.token(login));
    let id = "owner-hub-1";
    for clean in [true, false] {
        let (mut owner, answer) =
            connect(core.dial(), &lasting(id, "owner", Some(&tokens[0]), true));
        assert_eq!(answer.body[1], 0);
        assert_eq!(subscribe(&mut owner, "rpc/owner/+/+/#"), 1);
        // While the owner is there.
        let (_, answer) = connect(core.dial(), &lasting(id, "thief", Some(&tokens[1]), clean));
        assert_eq!((answer.kind(), answer.body[1]), (2, 0x85));
        owner.send(&[0xc0, 0]);
        assert_eq!(owner.receive().kind(), 13, "the owner is undisturbed");
        // And when it is away, with messages that wait for it.
        drop(owner);
        let (mut sender, _) = connect(
            core.dial(),
            &lasting("thief-1", "thief", Some(&tokens[1]), true),
        );
        publish(&mut sender, "rpc/owner/cap/secret/thief", b"for the owner");
        let (mut thief, answer) =
            connect(core.dial(), &lasting(id, "thief", Some(&tokens[1]), clean));
        assert_eq!((answer.kind(), answer.body[1]), (2, 0x85));
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut thief.stream, &mut rest).unwrap();
        assert!(rest.is_empty(), "{rest:?}");
    }
}

/// Which properties a request and its reply carry through a broker: mosquitto_rr asks, a client of packets answers.
fn properties_matrix(broker: &dyn Broker) {
    let mut server = Wire {
        stream: broker.local(),
    };
    server.send(&broker.hello("svc-1", "svc"));
    assert_eq!(server.receive().body[1], 0);
    assert!(subscribe(&mut server, "rpc/svc/+/+/#") <= 1);
    let asked = broker.ask(&[
        ("content-type", "json; \u{fc}"),
        ("correlation-data", "a b\u{e9}|\u{1F98B}"),
        ("user-property", "b 2"),
        ("user-property", "a 1"),
        ("user-property", "b 2"),
        ("user-property", "b 3"),
        ("user-property", "\u{e9} \u{fc}"),
        ("payload-format-indicator", "1"),
    ]);
    let request = loop {
        let packet = server.receive();
        if packet.kind() == 3 {
            server.acknowledge(&packet);
            break Message::read(&packet);
        }
    };
    assert_eq!(request.topic, "rpc/svc/cap/method/admin");
    assert_eq!(request.payload, b"the question");
    assert_eq!(request.text(0x03), "json; \u{fc}");
    assert_eq!(request.text(0x08), "_INBOX/admin-rr");
    assert_eq!(request.text(0x09), "a b\u{e9}|\u{1F98B}");
    let expected = ["b=2", "a=1", "b=2", "b=3", "\u{e9}=\u{fc}"];
    assert_eq!(request.user_properties(), expected, "order, doubles");
    // The reply has those too, and one without a value and one without a name.
    let mut properties = vec![0x01, 1];
    for (property, value) in [(0x03, "error"), (0x09, request.text(0x09))] {
        properties.push(property);
        properties.extend(text(value.as_bytes()));
    }
    for (name, value) in [("z", ""), ("", "y"), ("z", "1"), ("a", "2"), ("z", "")] {
        properties.push(0x26);
        properties.extend(text(name.as_bytes()));
        properties.extend(text(value.as_bytes()));
    }
    let mut body = text(request.text(0x08).as_bytes());
    body.extend([0, 8]);
    body.extend(length(properties.len()));
    body.extend(properties);
    body.extend(b"the answer");
    server.send(&packet(0x32, &body));
    let output = asked.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = said.trim_end().split('\u{1}').collect();
    assert_eq!(
        lines[..3],
        ["error", "a b\u{e9}|\u{1F98B}", "the answer"],
        "{said:?}"
    );
    let own: Vec<&str> = lines[3]
        .split(' ')
        .filter(|pair| !pair.starts_with("x-mqtt-"))
        .collect();
    assert_eq!(own, ["z:", ":y", "z:1", "a:2", "z:"], "{said:?}");
}

#[test]
fn properties_pass_through_the_core_as_they_were_sent() {
    let core = Core::start();
    core.add(Kind::Service, "svc", "service");
    properties_matrix(&core);
}

#[test]
fn properties_pass_through_mosquitto_as_well() {
    let Some(mosquitto) = Mosquitto::start() else {
        return;
    };
    properties_matrix(&mosquitto);
}

/// A message with its properties in order.
struct Message {
    topic: String,
    properties: Vec<(u8, Vec<u8>, Vec<u8>)>,
    payload: Vec<u8>,
}

impl Message {
    fn read(packet: &Packet) -> Message {
        let body = &packet.body;
        let mut at = 0;
        let take = |at: &mut usize| {
            let size = usize::from(body[*at]) << 8 | usize::from(body[*at + 1]);
            *at += 2 + size;
            body[*at - size..*at].to_vec()
        };
        let topic = String::from_utf8(take(&mut at)).unwrap();
        at += 2;
        let mut size = usize::from(body[at] & 0x7f);
        if body[at] & 0x80 != 0 {
            at += 1;
            size |= usize::from(body[at]) << 7;
        }
        at += 1;
        let end = at + size;
        let mut properties = Vec::new();
        while at < end {
            let property = body[at];
            at += 1;
            let (one, two) = match property {
                0x01 => (vec![body[at]], Vec::new()),
                0x02 => (body[at..at + 4].to_vec(), Vec::new()),
                0x26 => (take(&mut at), take(&mut at)),
                _ => (take(&mut at), Vec::new()),
            };
            at += match property {
                0x01 => 1,
                0x02 => 4,
                _ => 0,
            };
            properties.push((property, one, two));
        }
        Message {
            topic,
            properties,
            payload: body[end..].to_vec(),
        }
    }

    fn text(&self, property: u8) -> &str {
        let found = self.properties.iter().find(|(one, ..)| *one == property);
        std::str::from_utf8(&found.unwrap_or_else(|| panic!("no {property:#x}")).1).unwrap()
    }

    /// Those of the client, `name=value`.
    fn user_properties(&self) -> Vec<String> {
        let all = self.properties.iter().filter(|(one, ..)| *one == 0x26);
        all.map(|(_, name, value)| {
            format!(
                "{}={}",
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value)
            )
        })
        .filter(|pair| !pair.starts_with("x-mqtt-"))
        .collect()
    }
}

/// A client as launcher and plugins have it.
pub fn bus_options(core: &Core, login: &str, endpoint: &str) -> Options {
    let credentials = bus::hub::credentials(&core.path("certs"), login);
    let endpoint: Endpoint = endpoint.parse().unwrap();
    Options::new(login, vec![endpoint], credentials)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_core_that_hangs_is_noticed_and_costs_no_memory() {
    const KEEP_ALIVE: Duration = Duration::from_secs(2);
    let core = Core::start();
    let mut options = bus_options(
        &core,
        "launcher",
        &format!("mqtts://localhost:{}", core.port()),
    );
    options.keep_alive = KEEP_ALIVE;
    let (client, mut incoming) = bus::client::connect_forever(options);
    tokio::spawn(async move { while incoming.recv().await.is_some() {} });
    let mut status = client.status();
    let connected = |status: &Status| matches!(status, Status::Connected { .. });
    tokio::time::timeout(PATIENCE, status.wait_for(connected))
        .await
        .unwrap()
        .unwrap();
    let ask = |client: Client| async move {
        let payload = "x".repeat(1000);
        client
            .call(
                "rpc/auth/profile/getProfile/launcher",
                payload,
                Duration::from_secs(10),
            )
            .await
    };
    ask(client.clone()).await.unwrap();
    let before = memory_of(std::process::id().try_into().unwrap());
    signal_pid(core.pid(), 19);
    let since = Instant::now();
    let mut busy = Vec::new();
    // At full speed: who has an error asks again at once, until the connection is gone.
    for _ in 0..200 {
        let client = client.clone();
        busy.push(tokio::spawn(async move {
            let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
            loop {
                let end = match ask(client.clone()).await {
                    Ok(_) => "reply",
                    Err(CallError::Disconnected(_)) => "disconnected",
                    Err(CallError::NotConnected) => return ends,
                    Err(CallError::Timeout) => "timeout",
                    Err(error) => panic!("{error}"),
                };
                *ends.entry(end).or_default() += 1;
            }
        }));
    }
    tokio::time::timeout(PATIENCE, client.disconnected())
        .await
        .unwrap();
    let noticed = since.elapsed();
    // A task may be late on a busy machine.
    assert!(
        noticed < 2 * KEEP_ALIVE + Duration::from_secs(1),
        "noticed after {noticed:?}"
    );
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for one in busy {
        for (end, count) in one.await.unwrap() {
            *ends.entry(end).or_default() += count;
        }
    }
    assert!(
        ends["disconnected"] >= 200 && !ends.contains_key("reply"),
        "{ends:?}"
    );
    let held = memory_of(std::process::id().try_into().unwrap()).saturating_sub(before);
    assert!(held < 32 * 1024 * 1024, "{held} bytes more are held");
    signal_pid(core.pid(), 18);
    tokio::time::timeout(PATIENCE, status.wait_for(connected))
        .await
        .unwrap()
        .unwrap();
    ask(client.clone()).await.unwrap();
    client.close().await;
}

#[test]
fn a_machine_without_any_network_has_a_core_all_the_same() {
    for up in ["ip link set lo up", "true"] {
        let mut core = Core::prepared("");
        let mut command = Command::new("unshare");
        command.args(["-rn", "sh", "-c", &format!("{up}; exec \"$0\" \"$@\"")]);
        command.arg(core.path("bin/mqttcore"));
        let allowed = Command::new("unshare").args(["-rn", "true"]).output();
        if !allowed.is_ok_and(|output| output.status.success()) {
            let _ = std::io::stderr()
                .write_all(b"left out: a machine without a network: unshare -rn is not allowed\n");
            return;
        }
        core.launch_by(command);
        core.asker("admin")
            .ask("rpc/auth/profile/getProfile", &serde_json::Value::Null);
        let mut hubcli = Command::new(core.path("bin/hubcli"));
        let listed = hubcli.args(["lu"]).stdin(Stdio::null()).output().unwrap();
        assert!(listed.status.success(), "{up}: {listed:?}\n{}", core.log());
        assert!(
            String::from_utf8_lossy(&listed.stdout).contains("launcher"),
            "{listed:?}"
        );
        assert!(!core.log().contains("panicked"), "{}", core.log());
        core.stop();
    }
}

#[test]
fn connections_that_are_never_used_are_closed_after_ten_seconds() {
    // One second here: the ten are the default's.
    let core = Core::with("  limits: {loginSeconds: 1}\n");
    let quiet = core.descriptors();
    let ports = [core.port(), core.ws_port()];
    let mut all: Vec<Box<dyn std::any::Any>> =
        vec![Box::new(UnixStream::connect(core.socket()).unwrap())];
    for port in ports {
        all.push(Box::new(TcpStream::connect(("127.0.0.1", port)).unwrap()));
        let mut tls = core.tls(port);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock).unwrap();
        }
        all.push(Box::new(tls));
    }
    let since = Instant::now();
    eventually("they are taken", || {
        (core.descriptors() >= quiet + all.len()).then_some(())
    });
    eventually("they are closed", || {
        (core.descriptors() <= quiet).then_some(())
    });
    assert!(
        since.elapsed() < Duration::from_secs(8),
        "{:?}",
        since.elapsed()
    );
}
