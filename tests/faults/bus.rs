//! Clients of the bus that are silent, doubled, forged or untrusted.

use crate::hub::{Home, PATIENCE};
use crate::means::{NOBODY, complaint, is_root, left_out};
use crate::packets::{CLIENT, Wire, length, raw, request, text};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SLEEPER: &str = "exec sleep 1000";

/// The beginning of a TLS record that announces 512 bytes and never brings them.
const HALF_A_HELLO: [u8; 9] = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc];

#[test]
fn clients_that_say_nothing_or_stop_in_the_middle_delay_nobody() {
    let home = Home::new("corebin: mqttcore\n");
    home.plugin("quick", SLEEPER);
    let hub = home.up();
    let mut silent: Vec<Box<dyn Write>> = Vec::new();
    let connect = raw("connect-hubcli");
    for number in 0..40 {
        let mut tls = TcpStream::connect(("127.0.0.1", hub.port())).unwrap();
        let mut socket = UnixStream::connect(hub.path("run/mqttcore.sock")).unwrap();
        if number % 2 == 0 {
            tls.write_all(&HALF_A_HELLO).unwrap();
            socket.write_all(&connect[..connect.len() / 2]).unwrap();
        }
        silent.push(Box::new(tls));
        silent.push(Box::new(socket));
    }
    // Far below the ten seconds after which the core closes them.
    let since = Instant::now();
    hub.ok(&["start", "quick"]);
    hub.ok(&["--server", &hub.tls_url(), "ls"]);
    hub.ok(&["restart", "quick"]);
    let took = since.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    // Nor do they delay the end.
    let since = Instant::now();
    hub.down();
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
    drop(silent);
}

#[test]
fn of_two_clients_with_one_id_the_later_stays_and_no_other_login_takes_it() {
    let home = Home::new("corebin: mqttcore\nautostart: [admin-hubhost]\n");
    // Its login is the beginning of the id of another's client.
    home.plugin("admin-hubhost", SLEEPER);
    let hub = home.up();
    hub.pid("admin-hubhost");
    let mut first = Wire::admin(&hub);
    let token = fs::read(hub.path("certs/admin-hubhost.token")).unwrap();
    let (_thief, answer) = Wire::connect(&hub, CLIENT, "admin-hubhost", &token);
    assert_eq!((answer.kind(), answer.body[1]), (2, 0x85));
    let reply = first.ask(&raw("list-request"));
    assert_eq!(reply.content_type, "json");

    let mut second = Wire::admin(&hub);
    // Whatever the core says to the first one, it ends.
    let mut rest = Vec::new();
    first.stream.read_to_end(&mut rest).unwrap();
    if let Some(packet) = rest.first() {
        assert_eq!(
            (packet >> 4, rest[2]),
            (14, 0x8e),
            "a DISCONNECT: session taken over"
        );
    }
    let reply = second.ask(&raw("list-request"));
    assert_eq!(reply.content_type, "json");
    hub.down();
}

/// A publication without properties.
fn bare(topic: &str, payload: &[u8], packet_id: u16) -> Vec<u8> {
    let mut body = text(topic.as_bytes());
    body.extend(packet_id.to_be_bytes());
    body.push(0);
    body.extend(payload);
    let mut packet = vec![0x32];
    packet.extend(length(body.len()));
    packet.extend(body);
    packet
}

/// Publishes and tells the reason of the acknowledgement.
fn acknowledged(wire: &mut Wire, packet: &[u8]) -> u8 {
    wire.send(packet);
    let ack = wire.receive();
    assert_eq!(ack.kind(), 4, "{:?}", ack.body);
    ack.body.get(2).copied().unwrap_or(0)
}

#[test]
fn forged_and_unanswerable_requests_change_only_what_their_sender_may() {
    let home = Home::new("corebin: mqttcore\nautostart: [victim, rogue]\n");
    home.plugin("victim", SLEEPER);
    home.plugin("rogue", SLEEPER);
    let hub = home.up();
    let (victim, rogue) = (hub.pid("victim"), hub.pid("rogue"));
    let name = b"{\"name\":\"victim\"}";

    // A plugin in the name of others, and without a sender; in its own name a service may ask anything (HP 1.14).
    let token = fs::read(hub.path("certs/rogue.token")).unwrap();
    let (mut wire, answer) = Wire::connect(&hub, "rogue-1", "rogue", &token);
    assert_eq!((answer.kind(), answer.body[1]), (2, 0));
    for topic in [
        "rpc/launcher/manage/stopPlugin/admin",
        "rpc/launcher/manage/stopPlugin/launcher",
        "rpc/launcher/manage/stopPlugin",
        "rpc/launcher/manage/stopPlugin/admin/rogue",
        "event/launcher/manage/stopped/launcher",
    ] {
        let reason = acknowledged(&mut wire, &bare(topic, name, 5));
        assert_eq!(reason, 0x87, "{topic}");
    }
    assert_eq!(hub.pid("victim"), victim);

    // The admin without a place for the reply: it is done, and nothing is said to anybody.
    let mut wire = Wire::admin(&hub);
    for topic in [
        "rpc/launcher/manage/stopPlugin",
        "rpc/launcher/manage/stopPlugin/",
        "rpc/launcher/manage/stopPlugin/admin/x",
    ] {
        assert_eq!(
            acknowledged(&mut wire, &bare(topic, name, 6)),
            0x87,
            "{topic}"
        );
    }
    assert_eq!(hub.pid("victim"), victim);
    assert_eq!(
        acknowledged(
            &mut wire,
            &bare("rpc/launcher/manage/stopPlugin/admin", name, 7)
        ),
        0
    );
    hub.wait_phase("victim", "stopped");
    assert_eq!(
        acknowledged(
            &mut wire,
            &bare("rpc/launcher/manage/startPlugin/admin", b"\xff", 8)
        ),
        0
    );
    assert_eq!(
        acknowledged(&mut wire, &bare("rpc/launcher/manage/fly/admin", b"", 9)),
        0
    );

    // A place that is nobody's inbox gets no reply either: nobody borrows the launcher's rights (T38).
    let mut elsewhere = request("rpc/launcher/manage/startPlugin/admin", name, 10);
    let (from, to) = (
        format!("_INBOX/{CLIENT}"),
        format!("event/x/{}", "y".repeat(CLIENT.len() - 1)),
    );
    assert_eq!(from.len(), to.len());
    let at = elsewhere
        .windows(from.len())
        .position(|window| window == from.as_bytes())
        .unwrap();
    elsewhere[at..at + to.len()].copy_from_slice(to.as_bytes());
    assert_eq!(acknowledged(&mut wire, &elsewhere), 0);
    hub.pid("victim");
    // The next packet of all is the reply to the next request.
    let reply = wire.ask(&raw("list-request"));
    assert_eq!(reply.correlation, "1698434814123456789");
    assert_eq!(hub.pid("rogue"), rogue);
    assert!(
        !hub.log("launcher").contains("no bus: the hub"),
        "{}",
        hub.account()
    );
    hub.down();
}

/// Listens where the core's socket would be, as another user, and tells whatever it is sent.
const LISTENER: &str = "
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(8)
print('ready', flush=True)
while True:
    c, _ = s.accept()
    print('got', len(c.recv(100)), flush=True)
";

#[test]
fn a_socket_of_another_user_gets_no_secret_and_does_not_stop_the_hub() {
    if !is_root() {
        left_out("a socket of another user", "only root can be another user");
        return;
    }
    let home = Home::new("logLevel: info\ncorebin: mqttcore\nautostart: [mine]\n");
    home.plugin("mine", SLEEPER);
    let mut hub = home.up();
    // It is the listening process that counts, not whose the file is.
    let socket = hub.path("run/mqttcore.sock");
    std::os::unix::fs::chown(&socket, Some(NOBODY), Some(NOBODY)).unwrap();
    hub.ok(&["ls"]);
    hub.signal_launcher(15);
    assert_eq!(hub.ended().code(), Some(0));

    let folder = hub.path("run");
    std::os::unix::fs::chown(&folder, Some(NOBODY), None).unwrap();
    let mut listener = Command::new("python3");
    listener
        .args(["-c", LISTENER])
        .arg(&socket)
        .uid(NOBODY)
        .gid(NOBODY)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut listener = Guard(listener.spawn().unwrap());
    let mut told = BufReader::new(listener.0.stdout.take().unwrap());
    let mut line = String::new();
    told.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let output = hub.hubcli(&["ls"]);
    assert_eq!(output.status.code(), Some(3));
    let said = complaint(&output);
    assert!(
        said.contains(&format!("runs as user {NOBODY}, and is not trusted")),
        "{said}"
    );
    assert!(
        said.contains(socket.to_str().unwrap()) && said.contains("stop that program"),
        "{said}"
    );
    line.clear();
    told.read_line(&mut line).unwrap();
    assert_eq!(line, "got 0\n", "no token reached it");

    // What somebody listens on is not taken away; who it is, is told, and the hub comes up once it is gone.
    std::os::unix::fs::chown(&folder, Some(0), None).unwrap();
    hub.relaunch_unseen();
    hub.wait_log("core", &listener.0.id().to_string());
    let log = hub.log("core");
    assert!(log.contains(socket.to_str().unwrap()), "{log}");
    drop(listener);
    hub.wait_for_bus();
    hub.pid("mine");
    hub.down();
}

struct Guard(std::process::Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_launcher_that_is_gone_is_told_apart_from_a_hub_that_is() {
    let home = Home::new("corebin: mqttcore\n");
    let mut hub = home.up();
    hub.signal_launcher(9);
    hub.ended();
    // The core lives on, and lets in; nobody answers. This is what the original's clients wait.
    let output = hub.hubcli(&["ls"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = complaint(&output);
    assert!(
        said.contains("the launcher does not answer: does it run?"),
        "{said}"
    );
    hub.relaunch();
    hub.down();
}

/// The resident memory of a process, in bytes.
fn memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn subscribe(filter: &str) -> Vec<u8> {
    let mut body = vec![0, 77, 0];
    body.extend(text(filter.as_bytes()));
    body.push(1);
    let mut packet = vec![0x82];
    packet.extend(length(body.len()));
    packet.extend(body);
    packet
}

#[test]
fn a_subscriber_that_does_not_read_and_packets_without_end_cost_nobody_else() {
    let home = Home::new("corebin: mqttcore\nautostart: [sensor]\n");
    home.plugin("sensor", SLEEPER);
    let hub = home.up();
    hub.pid("sensor");
    let mut deaf = Wire::admin(&hub);
    deaf.send(&subscribe("event/sensor/+/+/#"));
    assert_eq!(deaf.receive().kind(), 9);
    let token = fs::read(hub.path("certs/sensor.token")).unwrap();
    let (mut sensor, answer) = Wire::connect(&hub, "sensor-1", "sensor", &token);
    assert_eq!((answer.kind(), answer.body[1]), (2, 0));
    let large = vec![b'x'; 200 * 1024];
    for number in 0..800_u16 {
        let packet = bare("event/sensor/thing/value/sensor", &large, number + 1);
        acknowledged(&mut sensor, &packet);
    }
    let since = Instant::now();
    hub.ok(&["ls"]);
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
    let core = hub.pid("mqttcore");
    let used = memory(core);
    assert!(
        used < 100 * 1024 * 1024,
        "the core holds {used} bytes of the 160 million nobody reads"
    );

    // A packet that says it is 200 MiB long, and one whose length has no end.
    for header in [
        &[0x32, 0x80, 0x80, 0x80, 0x64][..],
        &[0x32, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] {
        let mut wire = Wire::admin(&hub);
        wire.send(header);
        let mut rest = Vec::new();
        wire.stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty() || rest[0] >> 4 == 14, "{rest:?}");
    }
    // The same before a login.
    let mut stranger = UnixStream::connect(hub.path("run/mqttcore.sock")).unwrap();
    stranger.set_read_timeout(Some(PATIENCE)).unwrap();
    stranger.write_all(&[0x10, 0xff, 0xff, 0xff, 0x7f]).unwrap();
    assert_eq!(stranger.read_to_end(&mut Vec::new()).unwrap(), 0);
    hub.ok(&["restart", "sensor"]);
    assert_eq!(hub.pid("mqttcore"), core);
    hub.down();
}
