use std::os::unix::fs::PermissionsExt;
use std::time::{Instant, SystemTime};

use bus::client::{Endpoint, Incoming};
use bus::wire::ClientProfile;
use creds::token::Claims;
use creds::{KeyPair, UnixTime};
use mqtt5::packet::publish::PublishPacket;
use mqtt5::packet::subscribe::SubscribePacket;
use mqtt5::{Packet, QoS, WillMessage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::testing::{Client, Home, connect_packet};

mod identity;
mod kept;
mod methods;
mod slow;

const REFUSED: u8 = 0x86;
const BAD_ID: u8 = 0x85;
const DENIED: u8 = 0x87;

const ADD_SERVICE: &str = "rpc/auth/manageClients/addService";
const ADD_USER: &str = "rpc/auth/manageClients/addUser";

/// Adds a service with a new key and gives its token.
async fn add_service(admin: &mut Client, id: &str) -> String {
    let key = KeyPair::generate().unwrap().public_text();
    let args = format!(r#"{{"serviceID":"{id}","displayName":"plugin","pubKey":"{key}"}}"#);
    let reply = admin.ask(ADD_SERVICE, &args).await;
    reply["token"].as_str().unwrap().to_owned()
}

/// Adds a user with a password.
async fn add_user(admin: &mut Client, id: &str, role: &str) {
    let args = format!(r#"{{"userID":"{id}","password":"secret-{id}","role":"{role}"}}"#);
    admin.ask(ADD_USER, &args).await;
}

async fn user(core: &Core, id: &str) -> Client {
    Client::connect(core, id, &format!("{id}-h"), &format!("secret-{id}"))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_fresh_home_gets_everything_a_launcher_waits_for() {
    let home = Home::new();
    let core = home.start().await;
    let mode = |name: &str| {
        std::fs::metadata(home.cert(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    for id in ["launcher", "admin"] {
        assert_eq!(mode(&format!("{id}.key")), 0o400);
        assert_eq!(mode(&format!("{id}.pub")), 0o444);
        assert_eq!(mode(&format!("{id}.token")), 0o400);
    }
    let run = &home.settings.folders.run;
    assert_eq!(
        std::fs::read_to_string(run.join("mqttcore.url")).unwrap(),
        core.url()
    );
    assert!(core.url().starts_with("tcp://") && core.url().ends_with(&core.port().to_string()));
    let mut launcher = home.client(&core, "launcher").await;
    let reply = launcher.ask("rpc/auth/manageClients/getProfiles", "").await;
    let profiles: Vec<ClientProfile> = serde_json::from_value(reply["profiles"].clone()).unwrap();
    let ids: Vec<&str> = profiles.iter().map(|p| p.client_id.as_str()).collect();
    assert_eq!(ids, ["admin", "auth", "launcher"]);
    let key = std::fs::read_to_string(home.cert("launcher.pub")).unwrap();
    assert_eq!(profiles[2].pub_key, key);
    core.stop().await;
    assert_eq!(
        std::fs::read_dir(run).unwrap().count(),
        0,
        "nothing is left"
    );
}

#[tokio::test]
async fn tokens_let_in_whom_they_name_while_they_are_good() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    let good = add_service(&mut admin, "certs").await;
    assert!(
        Client::connect(&core, "certs", "certs", &good)
            .await
            .is_ok()
    );
    let login = |login: &'static str, token: String| {
        let core = &core;
        async move { Client::connect(core, login, login, &token).await.err() }
    };
    assert_eq!(
        login("admin", good.clone()).await,
        Some(REFUSED),
        "of another"
    );
    assert_eq!(login("certs", String::new()).await, Some(REFUSED), "none");
    assert_eq!(
        login("certs", "x".to_owned()).await,
        Some(REFUSED),
        "no token"
    );
    let hub = creds::keys::load(&home.cert("hubKey.pem")).unwrap();
    let key = core
        .hub()
        .auth
        .store
        .now()
        .get("certs")
        .unwrap()
        .profile
        .pub_key
        .clone();
    let sign = |with: &KeyPair, sub: &str, age: i64| {
        let now = UnixTime(UnixTime::from(SystemTime::now()).0 - age);
        let day = std::time::Duration::from_secs(86_400);
        let claims = Claims::new("certs", "service", "service", sub, hub.public(), now, day);
        creds::token::sign(with, &claims)
            .unwrap()
            .expose()
            .to_owned()
    };
    assert_eq!(login("certs", sign(&hub, &key, 0)).await, None);
    assert_eq!(
        login("certs", sign(&hub, &key, 90_000)).await,
        Some(REFUSED),
        "expired"
    );
    let other = KeyPair::generate().unwrap();
    assert_eq!(
        login("certs", sign(&other, &key, 0)).await,
        Some(REFUSED),
        "forged"
    );
    let sub = other.public_text();
    assert_eq!(
        login("certs", sign(&hub, &sub, 0)).await,
        Some(REFUSED),
        "of a former key"
    );
    admin
        .ask(
            "rpc/auth/manageClients/removeClient",
            r#"{"clientID":"certs"}"#,
        )
        .await;
    assert_eq!(login("certs", good).await, Some(REFUSED), "removed");
    core.stop().await;
}

#[tokio::test]
async fn the_golden_launcher_token_is_accepted_for_the_launcher_only() {
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/vectors/");
    let read = |name: &str| std::fs::read_to_string(format!("{vectors}{name}")).unwrap();
    let home = Home::new();
    home.settings.folders.create().unwrap();
    for name in ["hubKey.pem", "launcher.key"] {
        atomic::write(&home.cert(name), read(name).as_bytes(), 0o400).unwrap();
    }
    let credentials: serde_json::Value = serde_json::from_str(&read("credentials.json")).unwrap();
    let token = credentials["launcher.token"].as_str().unwrap();
    let core = home.start().await;
    assert!(
        Client::connect(&core, "launcher", "launcher-x", token)
            .await
            .is_ok()
    );
    assert_eq!(
        Client::connect(&core, "admin", "admin-x", token)
            .await
            .err(),
        Some(REFUSED)
    );
    core.stop().await;
}

#[tokio::test]
async fn passwords_and_client_certificates_let_in_too() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    add_user(&mut admin, "joe", "viewer").await;
    let mut joe = user(&core, "joe").await;
    assert_eq!(joe.subscribe("event/+/+/+/#").await, 1);
    assert_eq!(
        Client::connect(&core, "joe", "joe", "secret-jim")
            .await
            .err(),
        Some(REFUSED)
    );
    let text = joe
        .fail("rpc/auth/profile/newToken", r#"{"password":"wrong"}"#)
        .await;
    assert_eq!(text, "invalid login as 'joe'");
    let key = KeyPair::generate().unwrap();
    let args = format!(r#"{{"newPubKey":"{}"}}"#, key.public_text());
    joe.ask("rpc/auth/profile/updatePubKey", &args).await;
    let reply = joe
        .ask("rpc/auth/profile/newToken", r#"{"password":"secret-joe"}"#)
        .await;
    let token = reply["Token"].as_str().unwrap();
    assert!(Client::connect(&core, "joe", "joe-2", token).await.is_ok());
    let own = Some(client_certificate(&home, "joe"));
    let stream = home.tls(&core, own.clone()).await.unwrap();
    assert!(Client::over(stream, "joe", "joe-3", "").await.is_ok());
    let stream = home.tls(&core, own).await.unwrap();
    assert_eq!(
        Client::over(stream, "admin", "admin-3", "").await.err(),
        Some(REFUSED),
        "a certificate names one login"
    );
    let stream = home.tls(&core, None).await.unwrap();
    assert_eq!(
        Client::over(stream, "joe", "joe-4", "").await.err(),
        Some(REFUSED)
    );
    core.stop().await;
}

/// A certificate of the hub's CA and its key.
fn client_certificate(home: &Home, login: &str) -> (String, String) {
    certificate_for(home, login, std::time::Duration::from_secs(365 * 86_400))
}

/// A client certificate that is good for so long, and its key.
fn certificate_for(home: &Home, login: &str, life: std::time::Duration) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let now = UnixTime::from(SystemTime::now());
    let ca = creds::ca::load_ca(&home.settings.folders.certs, now).unwrap();
    let subject = creds::ca::ClientSubject {
        client_id: login,
        unit: "user",
    };
    let issuer = ca.issuer().unwrap();
    let cert = issuer.client(subject, key.public(), life, now).unwrap();
    (cert, key.to_pem().expose().to_owned())
}

#[tokio::test]
async fn keys_and_certificates_may_lie_elsewhere() {
    let mut home = Home::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let at = |name: &str| Some(elsewhere.path().join(name));
    home.settings.config.files = crate::config::KeyFiles {
        ca_cert: at("ca.pem"),
        ca_key: at("ca.key"),
        server_cert: at("server.pem"),
        server_key: at("server.key"),
        admin_key: at("boss.key"),
        admin_token: at("boss.token"),
        // Relative: in the certs folder, as in the original.
        launcher_key: Some("l.key".into()),
        launcher_token: Some("l.token".into()),
    };
    let core = home.start().await;
    let names = |folder: &Path| {
        let files = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        names(elsewhere.path()),
        [
            "boss.key",
            "boss.pub",
            "boss.token",
            "ca.key",
            "ca.pem",
            "server.key",
            "server.pem"
        ]
    );
    assert_eq!(
        names(&home.settings.folders.certs),
        ["caCert.pem", "hubKey.pem", "l.key", "l.pub", "l.token"],
        "clients find the CA"
    );
    let token = std::fs::read_to_string(elsewhere.path().join("boss.token")).unwrap();
    let stream = home.tls(&core, None).await.unwrap();
    let login = Client::over(stream, "admin", "admin-1", &token).await;
    assert!(login.is_ok());
    core.stop().await;
    let before = std::fs::read(elsewhere.path().join("ca.pem")).unwrap();
    home.start().await.stop().await;
    assert_eq!(
        std::fs::read(elsewhere.path().join("ca.pem")).unwrap(),
        before
    );
    // Another CA than the clients of this home know.
    home.settings.config.files.ca_cert = at("other.pem");
    home.settings.config.files.ca_key = at("other.key");
    let error = crate::chain(&Core::start(home.settings.clone()).await.err().unwrap());
    for part in ["certs/caCert.pem", "other.pem", "caCertFile"] {
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_server_certificate_of_another_ca_is_used_and_never_replaced() {
    let mut home = Home::new();
    home.start().await.stop().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let made = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let pem = made.self_signed(&key).unwrap().pem();
    let (cert_file, key_file) = (
        elsewhere.path().join("server.pem"),
        elsewhere.path().join("server.key"),
    );
    std::fs::write(&cert_file, &pem).unwrap();
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    home.settings.config.files.server_cert = Some(cert_file.clone());
    home.settings.config.files.server_key = Some(key_file.clone());
    let core = home.start().await;
    assert!(home.tls(&core, None).await.is_err(), "not of the hub's CA");
    std::fs::remove_file(home.cert("caCert.pem")).unwrap();
    let ca = std::fs::read(&cert_file).unwrap();
    std::fs::write(home.cert("caCert.pem"), ca).unwrap();
    let stream = home.tls(&core, None).await.unwrap();
    let login = Client::over(stream, "admin", "admin-1", &home.token("admin")).await;
    assert!(login.is_ok());
    core.stop().await;
    assert_eq!(std::fs::read_to_string(&cert_file).unwrap(), pem);
    // A key that is not its own.
    std::fs::remove_file(home.cert("caCert.pem")).unwrap();
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    std::fs::write(&key_file, other.serialize_pem()).unwrap();
    let error = crate::chain(&Core::start(home.settings.clone()).await.err().unwrap());
    assert!(error.contains("no use for TLS"), "{error}");
    std::fs::write(&key_file, "x").unwrap();
    let error = crate::chain(&Core::start(home.settings.clone()).await.err().unwrap());
    assert!(error.contains("server.key is no use for TLS"), "{error}");
    assert_eq!(std::fs::read_to_string(&cert_file).unwrap(), pem);
}

#[tokio::test]
async fn websockets_carry_the_same_as_tls() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message as Frame;
    let mut home = Home::new();
    home.settings.config.ws_port = Some(0);
    let core = home.start().await;
    let url = core.ws_url().unwrap();
    assert!(
        url.starts_with("wss://") && url.ends_with(&core.ws_port().unwrap().to_string()),
        "{url}"
    );
    let mut admin = home.client(&core, "admin").await;
    add_user(&mut admin, "joe", "viewer").await;
    let page = Some("https://localhost:8443");
    let stream = home.web(&core, None, page).await;
    let mut joe = Client::over(stream, "joe", "joe-page", "secret-joe")
        .await
        .unwrap();
    assert_eq!(joe.subscribe("event/+/+/+/#").await, 1);
    assert_eq!(joe.subscribe("rpc/#").await, DENIED);
    // Also what does not fit into one read or write.
    let long = "x".repeat(300_000);
    assert_eq!(admin.publish("event/admin/t/n/admin", "no").await, DENIED);
    let token = home.token("launcher");
    let stream = home.web(&core, None, None).await;
    let mut launcher = Client::over(stream, "launcher", "launcher-1", &token)
        .await
        .unwrap();
    assert_eq!(
        launcher.publish("event/launcher/t/n/launcher", &long).await,
        0
    );
    loop {
        let message = joe.message().await;
        if message.topic == "event/launcher/t/n/launcher" {
            assert_eq!(message.payload, long);
            break;
        }
    }
    let stream = home.web(&core, None, page).await;
    let refused = Client::over(stream, "joe", "joe-2", "wrong").await;
    assert_eq!(refused.err(), Some(REFUSED));
    // The end is told in the words of a websocket, too.
    let mut frames = home.web_frames(&core, None, page).await;
    let mut packet = connect_packet("joe-4");
    packet.username = Some("joe".to_owned());
    packet.password = Some(b"secret-joe".to_vec());
    let mut bytes = bytes::BytesMut::new();
    let disconnect = mqtt5::packet::disconnect::DisconnectPacket::normal();
    for packet in [
        Packet::Connect(Box::new(packet)),
        Packet::Disconnect(disconnect),
    ] {
        mqtt5::transport::packet_io::encode_packet_to_buffer(&packet, &mut bytes).unwrap();
    }
    frames.send(Frame::Binary(bytes.freeze())).await.unwrap();
    assert!(matches!(frames.next().await, Some(Ok(Frame::Binary(_)))));
    assert!(matches!(frames.next().await, Some(Ok(Frame::Close(_)))));
    // A certificate is enough, unless the page of somebody else makes the browser show it.
    let own = client_certificate(&home, "joe");
    for (origin, expected) in [
        (None, None),
        (page, None),
        (Some("https://evil.org"), Some(REFUSED)),
        (Some("null"), Some(REFUSED)),
    ] {
        let stream = home.web(&core, Some(own.clone()), origin).await;
        let login = Client::over(stream, "joe", "joe-3", "").await;
        assert_eq!(login.err(), expected, "{origin:?}");
    }
    core.stop().await;
    while joe.receive().await.is_some() {}
}

#[tokio::test]
async fn who_is_silent_in_the_middle_of_a_websocket_is_closed_too() {
    let mut home = Home::new();
    home.settings.config.ws_port = Some(0);
    home.settings.config.limits.login = std::time::Duration::from_millis(500);
    let core = home.start().await;
    let address = ("127.0.0.1", core.ws_port().unwrap());
    let mut silent = tokio::net::TcpStream::connect(address).await.unwrap();
    // The beginning of a ClientHello, and that of an upgrade.
    let mut half_tls = tokio::net::TcpStream::connect(address).await.unwrap();
    half_tls.write_all(&[0x16, 3, 1, 2, 0, 1]).await.unwrap();
    let mut half_upgrade = home.tls_on(address.1, None).await.unwrap();
    let half = b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\n";
    half_upgrade.write_all(half).await.unwrap();
    let mut upgraded = home.web(&core, None, None).await;
    let mut known = home.client(&core, "admin").await;
    assert_eq!(core.hub().connections.count(), 5);
    assert_eq!(half_tls.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert_eq!(half_upgrade.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert_eq!(upgraded.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert!(known.messages().await.is_empty(), "who has logged in stays");
    core.stop().await;
}

#[tokio::test]
async fn loopback_is_open_only_where_configured() {
    let mut home = Home::new();
    let core = home.start().await;
    assert_eq!((core.ws_port(), core.loopback_port()), (None, None));
    core.stop().await;
    home.settings.config.loopback_port = Some(0);
    let core = home.start().await;
    let port = core.loopback_port().unwrap();
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
    let login = Client::over(Box::new(stream.unwrap()), "admin", "admin-2", "").await;
    assert_eq!(login.err(), Some(REFUSED), "a login is needed there too");
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await;
    let stream = Box::new(stream.unwrap());
    let login = Client::over(stream, "admin", "admin-2", &home.token("admin")).await;
    assert!(login.is_ok());
    core.stop().await;
}

#[tokio::test]
async fn a_websocket_port_in_use_stops_the_start_unless_nobody_asked_for_it() {
    let taken = tokio::net::TcpListener::bind("[::]:0").await.unwrap();
    let taken = taken.local_addr().map(|address| (taken, address.port()));
    let (_taken, port) = taken.unwrap();
    let mut home = Home::new();
    home.settings.config.ws_port = Some(port);
    let error = Core::start(home.settings.clone()).await.err().unwrap();
    let text = crate::chain(&error);
    for part in [&port.to_string(), "mqttserver.wsPort", "in use"] {
        assert!(text.contains(part), "{text}");
    }
    home.settings.config.ws_port_may_be_taken = true;
    let core = home.start().await;
    assert_eq!(core.ws_port(), None);
    core.stop().await;
}

#[tokio::test]
async fn guessing_is_slow_and_harms_nobody_who_was_here_before() {
    const SLOW: u8 = 0x9f;
    let mut home = Home::new();
    let limits = &mut home.settings.config.limits;
    limits.free_guesses = 2;
    limits.address_free_guesses = 2;
    limits.guess_delay = std::time::Duration::from_secs(20);
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    add_user(&mut admin, "joe", "viewer").await;
    add_user(&mut admin, "jim", "viewer").await;
    drop(user(&core, "joe").await);
    let login = |login: &'static str, password: &'static str| {
        let core = &core;
        async move { Client::connect(core, login, login, password).await.err() }
    };
    for _ in 0..3 {
        assert_eq!(login("jim", "wrong").await, Some(REFUSED));
    }
    assert_eq!(login("jim", "secret-jim").await, Some(SLOW), "too early");
    assert_eq!(login("nobody", "x").await, Some(SLOW), "the same address");
    let mut joe = user(&core, "joe").await;
    let token = home.token("launcher");
    assert!(
        Client::connect(&core, "launcher", "launcher", &token)
            .await
            .is_ok(),
        "tokens are not guessed"
    );
    for _ in 0..3 {
        assert_eq!(login("joe", "wrong").await, Some(REFUSED));
    }
    assert_eq!(login("joe", "secret-joe").await, Some(SLOW));
    for expected in [
        "invalid login",
        "invalid login",
        "invalid login",
        "too many wrong passwords",
    ] {
        let args = r#"{"password":"wrong"}"#;
        let text = joe.fail("rpc/auth/profile/newToken", args).await;
        assert!(text.starts_with(expected), "{text}");
    }
    core.stop().await;
}

#[tokio::test]
async fn limits_hold_on_the_wire() {
    const TOO_MUCH: u8 = 0x97;
    let mut home = Home::new();
    let limits = &mut home.settings.config.limits;
    limits.not_logged_in = 3;
    limits.connections = 1;
    limits.connect_bytes = 4096;
    limits.packet_bytes = 64 * 1024;
    limits.subscriptions = 2;
    limits.filter_bytes = 64;
    limits.retained_messages = 1;
    limits.retained_bytes = 100;
    let core = home.start().await;
    let mut strangers = Vec::new();
    for _ in 0..3 {
        strangers.push(Client::raw(&core).await);
    }
    let mut service = home.client(&core, "launcher").await;
    assert_eq!(strangers[0].read(&mut [0; 8]).await.unwrap_or(0), 0);
    let second = Client::connect(&core, "launcher", "launcher-2", &home.token("launcher")).await;
    assert_eq!(second.err(), Some(TOO_MUCH));
    assert_eq!(service.subscribe("event/+/+/+/#").await, 1);
    assert_eq!(service.subscribe("event/+/+/x/#").await, 1);
    assert_eq!(service.subscribe("event/+/+/y/#").await, TOO_MUCH);
    let long = format!("event/+/+/{}/#", "x".repeat(64));
    assert_eq!(service.subscribe(&long).await, DENIED);
    let mut flood = Client::raw(&core).await;
    // A CONNECT of 60,000 bytes, most of which come.
    flood.write_all(&[0x10, 0xe0, 0xd4, 0x03]).await.unwrap();
    let flood = async {
        let _ = flood.write_all(&[0; 50_000]).await;
        flood.read(&mut [0; 8]).await.unwrap_or(0)
    };
    let closed = tokio::time::timeout(std::time::Duration::from_secs(8), flood).await;
    assert_eq!(closed, Ok(0), "before the time for logins is over");
    let mut retain = async |topic: &str, bytes: usize| {
        let packet = PublishPacket::new(topic, vec![b'x'; bytes], QoS::AtLeastOnce);
        service.publish_packet(packet.with_retain(true)).await
    };
    let topic = "event/launcher/t/n/launcher";
    assert_eq!(retain(topic, 101).await, TOO_MUCH);
    assert_eq!(retain(topic, 10_000).await, TOO_MUCH);
    assert_eq!(retain(topic, 100).await, 0);
    assert_eq!(retain("event/launcher/t/m/launcher", 1).await, TOO_MUCH);
    assert_eq!(retain(topic, 99).await, 0, "in place of the first");
    let long = PublishPacket::new(topic, vec![], QoS::AtLeastOnce)
        .with_user_property("long".to_owned(), "x".repeat(5000));
    assert_eq!(
        service.publish_packet(long.clone().with_retain(true)).await,
        DENIED
    );
    assert_eq!(service.publish_packet(long).await, 0, "it is not kept");
    let packet = PublishPacket::new(topic, vec![b'x'; 65 * 1024], QoS::AtMostOnce);
    let _ = service.send(Packet::Publish(packet)).await;
    while service.receive().await.is_some() {}
    assert!(
        home.client(&core, "admin")
            .await
            .messages()
            .await
            .is_empty()
    );
    core.stop().await;
}

#[tokio::test]
async fn client_ids_belong_to_logins_and_a_second_one_of_the_same_takes_over() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    let token = home.token("launcher");
    for id in ["admin-1", "launcherx", "other", "launcher-"] {
        let refused = Client::connect(&core, "launcher", id, &token).await.err();
        assert_eq!(refused, Some(BAD_ID), "{id}");
    }
    add_user(&mut admin, "a", "viewer").await;
    add_user(&mut admin, "a-b", "viewer").await;
    let mut first = Client::connect(&core, "a", "a-b-1", "secret-a")
        .await
        .unwrap();
    let thief = Client::connect(&core, "a-b", "a-b-1", "secret-a-b")
        .await
        .err();
    assert_eq!(thief, Some(BAD_ID));
    assert!(
        first.messages().await.is_empty(),
        "the owner is undisturbed"
    );
    let mut second = Client::connect(&core, "a", "a-b-1", "secret-a")
        .await
        .unwrap();
    assert!(
        matches!(first.receive().await, Some(Packet::Disconnect(d)) if d.reason_code as u8 == 0x8e)
    );
    assert!(first.receive().await.is_none());
    assert!(second.messages().await.is_empty());
    core.stop().await;
}

#[tokio::test]
async fn rights_hold_on_the_wire() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    add_user(&mut admin, "viewer1", "viewer").await;
    let mut viewer = user(&core, "viewer1").await;
    for (topic, code) in [
        ("rpc/launcher/manage/list/viewer1", DENIED),
        ("rpc/launcher/manage/list/admin", DENIED),
        ("event/viewer1/x/y/viewer1", DENIED),
        ("_INBOX/whoever", 0),
    ] {
        assert_eq!(viewer.publish(topic, "x").await, code, "{topic}");
    }
    for (filter, code) in [
        ("event/+/+/+/#", 1),
        ("$share/g/event/+/+/+/#", 1),
        ("_INBOX/viewer1-h", 1),
        ("_INBOX/viewer1-h/#", 1),
        ("_INBOX/viewer1", DENIED),
        ("_INBOX/+", DENIED),
        ("#", DENIED),
        ("event/#", DENIED),
        ("rpc/viewer1/+/+/#", DENIED),
        ("$share/g/#", DENIED),
    ] {
        assert_eq!(viewer.subscribe(filter).await, code, "{filter}");
    }
    let mut launcher = home.client(&core, "launcher").await;
    assert_eq!(launcher.subscribe("rpc/launcher/manage/+/#").await, 1);
    assert_eq!(
        admin.publish("rpc/launcher/manage/list/admin", "{}").await,
        0
    );
    assert_eq!(
        launcher.message().await.topic,
        "rpc/launcher/manage/list/admin"
    );
    assert!(
        launcher.messages().await.is_empty(),
        "nothing that was denied"
    );
    core.stop().await;
}

#[tokio::test]
async fn a_will_needs_the_right_to_publish() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    add_user(&mut admin, "viewer1", "viewer").await;
    let mut watcher = home.client(&core, "launcher").await;
    watcher.subscribe("rpc/launcher/+/+/#").await;
    watcher.subscribe("event/+/+/+/#").await;
    let service = add_service(&mut admin, "svc").await;
    for (login, password, topic) in [
        (
            "viewer1",
            "secret-viewer1",
            "rpc/launcher/manage/stopAllPlugins/viewer1",
        ),
        ("svc", service.as_str(), "event/svc/x/gone/svc"),
    ] {
        let mut packet = connect_packet(&format!("{login}-w"));
        packet.username = Some(login.to_owned());
        packet.password = Some(password.as_bytes().to_vec());
        packet.will = Some(WillMessage::new(topic, b"bye".to_vec()).with_qos(QoS::AtLeastOnce));
        let stream = Box::new(Client::raw(&core).await);
        drop(Client::with(stream, packet).await.unwrap());
    }
    loop {
        let message = watcher.message().await;
        assert!(message.topic.starts_with("event/"), "{message:?}");
        if message.topic == "event/svc/x/gone/svc" {
            break;
        }
    }
    core.stop().await;
}

#[tokio::test]
async fn overlapping_filters_get_one_copy() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    let token = add_service(&mut admin, "svc").await;
    let mut service = Client::connect(&core, "svc", "svc-1", &token)
        .await
        .unwrap();
    for filter in [
        "event/svc/+/+/#",
        "event/+/+/+/#",
        "event/svc/a/b/svc",
        "event/+/a/#",
    ] {
        assert_eq!(service.subscribe(filter).await, 1);
    }
    // More than the window of unacknowledged messages: the withheld copies are acknowledged.
    for n in 0..200 {
        assert_eq!(
            service.publish("event/svc/a/b/svc", &n.to_string()).await,
            0
        );
    }
    for n in 0..200 {
        assert_eq!(service.message().await.payload, n.to_string());
    }
    let mut second = Client::connect(&core, "svc", "svc-2", &token)
        .await
        .unwrap();
    second.subscribe("_INBOX/svc-2/#").await;
    second.subscribe("_INBOX/svc-2").await;
    second.ask("rpc/auth/profile/getProfile", "").await;
    assert!(second.messages().await.is_empty(), "one reply");
    core.stop().await;
}

#[tokio::test]
async fn silent_clients_are_closed_and_delay_nobody() {
    let mut home = Home::new();
    home.settings.config.limits.login = std::time::Duration::from_millis(300);
    let core = home.start().await;
    let mut silent = Client::raw(&core).await;
    let mut half = Client::raw(&core).await;
    half.write_all(&[0x10]).await.unwrap();
    let mut network = tokio::net::TcpStream::connect(("127.0.0.1", core.port()))
        .await
        .unwrap();
    let mut known = home.client(&core, "admin").await;
    assert_eq!(core.hub().connections.count(), 4);
    for stream in [&mut silent, &mut half] {
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
    }
    assert_eq!(network.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert!(known.messages().await.is_empty(), "who has logged in stays");
    core.stop().await;
}

#[tokio::test]
async fn many_strangers_do_not_keep_others_out() {
    let home = Home::new();
    let core = home.start().await;
    let mut strangers = Vec::new();
    for _ in 0..200 {
        strangers.push(Client::raw(&core).await);
    }
    let mut admin = home.client(&core, "admin").await;
    assert!(admin.messages().await.is_empty());
    core.stop().await;
}

#[tokio::test]
async fn rights_that_change_hold_for_open_connections() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    let token = add_service(&mut admin, "svc").await;
    let mut service = Client::connect(&core, "svc", "svc", &token).await.unwrap();
    add_user(&mut admin, "joe", "viewer").await;
    let mut joe = user(&core, "joe").await;
    joe.subscribe("event/+/+/+/#").await;
    joe.subscribe("_INBOX/joe-h").await;
    assert_eq!(joe.publish("rpc/svc/cap/x/joe", "").await, DENIED);
    let grant = r#"{"capability":"cap","roles":["viewer","","nonsense"]}"#;
    service
        .ask("rpc/auth/profile/setServicePermissions", grant)
        .await;
    assert_eq!(joe.publish("rpc/svc/cap/x/joe", "").await, 0);
    service.publish("event/svc/a/b/svc", "1").await;
    assert_eq!(joe.message().await.topic, "event/svc/a/b/svc");
    let role = r#"{"clientID":"joe","role":""}"#;
    admin.ask("rpc/auth/manageClients/updateRole", role).await;
    service.publish("event/svc/a/b/svc", "2").await;
    service.publish("_INBOX/joe-h", "mark").await;
    assert_eq!(
        joe.message().await.payload,
        "mark",
        "the event did not come"
    );
    assert_eq!(joe.publish("rpc/svc/cap/x/joe", "").await, DENIED);
    assert_eq!(joe.subscribe("event/+/+/+/#").await, DENIED);
    assert_eq!(
        joe.publish("rpc/auth/profile/getProfile/joe", "").await,
        DENIED
    );
    admin
        .ask(
            "rpc/auth/manageClients/removeClient",
            r#"{"clientID":"joe"}"#,
        )
        .await;
    assert!(
        matches!(joe.receive().await, Some(Packet::Disconnect(d)) if d.reason_code as u8 == 0x98)
    );
    assert!(joe.receive().await.is_none());
    core.stop().await;
}

#[tokio::test]
async fn connections_end_when_that_by_which_they_logged_in_is_replaced() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    add_user(&mut admin, "joe", "viewer").await;
    add_user(&mut admin, "ann", "viewer").await;
    let mut ann = user(&core, "ann").await;
    let mut other = user(&core, "joe").await;
    let mut joe = Client::connect(&core, "joe", "joe-2", "secret-joe")
        .await
        .unwrap();
    let gone = |packet: Option<Packet>| matches!(packet, Some(Packet::Disconnect(d)) if d.reason_code as u8 == 0x98);

    // Who changes its own password stays; whoever else came in by the old one does not.
    let new = r#"{"newPassword":"secret-2"}"#;
    let reply = joe.request("rpc/auth/profile/updatePassword", new).await;
    assert_eq!(reply, ("json".to_owned(), String::new()));
    assert!(gone(other.receive().await));
    assert_eq!(joe.subscribe("event/+/+/+/#").await, 1);
    let again = Client::connect(&core, "joe", "joe-3", "secret-joe").await;
    assert_eq!(again.err(), Some(REFUSED));
    let by_admin = r#"{"clientID":"joe","password":"secret-3"}"#;
    admin
        .request("rpc/auth/manageClients/updateClientPassword", by_admin)
        .await;
    assert!(gone(joe.receive().await));

    // A key that is replaced ends those with a token for the old one; the same key again ends nobody.
    let key = KeyPair::generate().unwrap().public_text();
    let args = format!(r#"{{"serviceID":"svc","displayName":"plugin","pubKey":"{key}"}}"#);
    let token = admin.ask(ADD_SERVICE, &args).await["token"].clone();
    let token = token.as_str().unwrap();
    let mut service = Client::connect(&core, "svc", "svc", token).await.unwrap();
    admin.ask(ADD_SERVICE, &args).await;
    assert_eq!(service.publish("event/svc/a/b/svc", "1").await, 0);
    add_service(&mut admin, "svc").await;
    assert!(gone(service.receive().await));
    assert_eq!(
        ann.subscribe("event/+/+/+/#").await,
        1,
        "is no one's concern"
    );
    core.stop().await;
}

#[tokio::test]
async fn roles_are_known_words_and_the_hubs_own_accounts_keep_theirs() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    add_user(&mut admin, "joe", "viewer").await;
    let unknown =
        "unknown role 'boss'; there are viewer, operator, manager, admin, device and service";
    let reserved = "client ID 'admin' is reserved";
    for (method, args, text) in [
        ("addUser", r#"{"userID":"x","role":"boss"}"#, unknown),
        ("updateRole", r#"{"clientID":"joe","role":"boss"}"#, unknown),
        (
            "updateClient",
            r#"{"clientID":"joe","profile":{"clientID":"joe","role":"boss"}}"#,
            unknown,
        ),
        (
            "updateRole",
            r#"{"clientID":"admin","role":"viewer"}"#,
            reserved,
        ),
        ("removeClient", r#"{"clientID":"admin"}"#, reserved),
        (
            "updateClient",
            r#"{"clientID":"admin","profile":{"clientID":"admin","role":"viewer"}}"#,
            reserved,
        ),
    ] {
        let found = admin
            .fail(&format!("rpc/auth/manageClients/{method}"), args)
            .await;
        assert_eq!(found, text, "{method} {args}");
    }
    let args = r#"{"clientID":"admin","profile":{"clientID":"admin","displayName":"Boss","role":"admin"}}"#;
    admin
        .request("rpc/auth/manageClients/updateClient", args)
        .await;
    let args = r#"{"clientID":"joe","profile":{"clientID":"joe","role":"operator","tokenValidityDays":7}}"#;
    admin
        .request("rpc/auth/manageClients/updateClient", args)
        .await;
    let profiles = admin.ask("rpc/auth/manageClients/getProfiles", "").await;
    assert_eq!(profiles["profiles"][0]["displayName"], "Boss");
    let joe = &profiles["profiles"][2];
    assert_eq!(
        (&joe["clientID"], &joe["role"], &joe["tokenValidityDays"]),
        (&"joe".into(), &"operator".into(), &7.into())
    );
    core.stop().await;
}

/// Its `setrole` and `password`, which no core of the original understands (T33).
#[tokio::test]
async fn what_the_originals_hubcli_asks_amiss_is_done() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    add_user(&mut admin, "joe", "viewer").await;
    let manage = "rpc/auth/manageClients";
    let reply = admin
        .ask(&format!("{manage}/getProfiles"), r#"{"clientID":"joe"}"#)
        .await;
    assert_eq!(reply["profile"]["role"], "viewer");
    let done = ("json".to_owned(), String::new());
    for profile in [
        r#"{"role":"operator"}"#,
        r#"{"clientID":"joe","role":"manager"}"#,
    ] {
        let args = format!(r#"{{"clientID":"joe","profile":{profile}}}"#);
        let reply = admin
            .request(&format!("{manage}/updateClient"), &args)
            .await;
        assert_eq!(reply, done, "{profile}");
    }
    let args = r#"{"clientID":"joe","password":"secret-new"}"#;
    let reply = admin
        .request(&format!("{manage}/updatePassword"), args)
        .await;
    assert_eq!(reply, done);
    let mut joe = Client::connect(&core, "joe", "joe", "secret-new")
        .await
        .unwrap();
    let own = joe.ask("rpc/auth/profile/getProfile", "").await;
    assert_eq!(own["profile"]["role"], "manager");
    core.stop().await;
}

#[tokio::test]
async fn only_what_is_subscribed_is_remembered() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    admin.subscribe("event/+/+/+/#").await;
    admin.subscribe("event/#").await;
    let connection = core.hub().connections.of_mqtt_id("admin-1").unwrap();
    assert_eq!(connection.filters(), ["event/+/+/+/#"]);
    admin.unsubscribe("event/+/+/+/#").await;
    assert!(connection.filters().is_empty());
    core.stop().await;
}

#[tokio::test]
async fn what_the_library_keeps_for_ever_is_bounded() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    let long = format!("event/+/+/+/{}", "x".repeat(2000));
    assert_eq!(admin.subscribe(&long).await, DENIED);
    let filter = |n: usize| format!("$share/g{n}/event/+/+/+/#");
    lock_shared(&core).extend((0..4095).map(filter));
    assert_eq!(admin.subscribe(&filter(5000)).await, 1);
    assert_eq!(admin.subscribe(&filter(5001)).await, DENIED);
    assert_eq!(admin.subscribe(&filter(7)).await, 1);
    // Connections leave nothing behind.
    for n in 0..64 {
        let id = format!("launcher-{n}");
        let client = Client::connect(&core, "launcher", &id, &home.token("launcher")).await;
        drop(client.unwrap());
    }
    let begun = Instant::now();
    while core.hub().router.session_slot_count() > 2 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(20));
        tokio::task::yield_now().await;
    }
    core.stop().await;
}

fn lock_shared(core: &Core) -> std::sync::MutexGuard<'_, std::collections::HashSet<String>> {
    core.hub().shared.lock().unwrap()
}

#[tokio::test]
async fn auth_answers_in_the_originals_words() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    add_service(&mut admin, "svc").await;
    let manage = "rpc/auth/manageClients";
    for (method, args, text) in [
        (
            "addService",
            "",
            "failed unmarshal request: unexpected end of JSON input",
        ),
        ("addService", "{}", "missing service ID"),
        ("addService", "null", "missing service ID"),
        ("addDevice", "{}", "AddDevice: missing device ID"),
        ("addUser", "{}", "missing user ID"),
        (
            "addUser",
            r#"{"userID":"x","password":"1234"}"#,
            "password too short (4 chars)",
        ),
        (
            "addService",
            r#"{"serviceID":"admin"}"#,
            "client ID 'admin' is reserved",
        ),
        (
            "getClientProfile",
            r#"{"clientID":"x"}"#,
            "clientID 'x' does not exist",
        ),
        ("updateRole", r#"{"clientID":"x"}"#, "Client 'x' not found"),
        (
            "updateClientPassword",
            r#"{"clientID":"x","password":"12345"}"#,
            "Client 'x' not found",
        ),
        (
            "updateClient",
            r#"{"clientID":"svc","profile":{"clientID":"y"}}"#,
            "clientID 'svc' mismatch in profile as 'y'",
        ),
        (
            "setPassword",
            "{}",
            "method 'setPassword' not part of capability 'manageClients'",
        ),
    ] {
        let found = admin.fail(&format!("{manage}/{method}"), args).await;
        assert_eq!(found, text, "{method} {args}");
    }
    let found = admin.fail("rpc/auth/roles/x", "").await;
    assert_eq!(found, "unknown action 'x' for client 'admin'");
    let found = admin
        .fail(
            "rpc/auth/profile/setServicePermissions",
            r#"{"capability":"x"}"#,
        )
        .await;
    assert_eq!(found, "Client 'admin' must be a service, not a 'user'");
    assert_eq!(
        admin.request("rpc/auth/roles/createRole", "").await,
        ("json".to_owned(), String::new())
    );
    let count = admin.ask("rpc/auth/manageClients/getCount", "").await;
    assert_eq!(count["n"], 4);
    for id in ["a/b", "+", "#", ".x"] {
        let args = format!(r#"{{"serviceID":"{id}"}}"#);
        let text = admin.fail(ADD_SERVICE, &args).await;
        assert!(text.starts_with("invalid client ID"), "{text}");
    }
    // Go's keys come in any case; without a key there is no token.
    let reply = admin
        .ask(ADD_SERVICE, r#"{"SERVICEID":"s2","unknown":null}"#)
        .await;
    assert_eq!(reply, serde_json::json!({"token": ""}));
    core.stop().await;
}

#[tokio::test]
async fn replies_go_nowhere_but_to_inboxes_and_requests_without_one_are_carried_out() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    admin.subscribe("event/+/+/+/#").await;
    for (id, topic) in [("s1", None), ("s2", Some("event/auth/x/y/auth"))] {
        let args = format!(r#"{{"serviceID":"{id}"}}"#);
        let address = format!("{ADD_SERVICE}/admin");
        let mut packet = PublishPacket::new(address, args.into_bytes(), QoS::AtLeastOnce);
        if let Some(topic) = topic {
            packet = packet.with_response_topic(topic.to_owned());
        }
        assert_eq!(admin.publish_packet(packet).await, 0);
    }
    let profiles = admin.ask("rpc/auth/manageClients/getProfiles", "").await;
    let text = profiles.to_string();
    assert!(text.contains("\"s1\"") && text.contains("\"s2\""), "{text}");
    assert!(
        admin
            .messages()
            .await
            .iter()
            .all(|topic| !topic.contains("/x/y/"))
    );
    core.stop().await;
}

#[tokio::test]
async fn logins_are_told() {
    let home = Home::new();
    let core = home.start().await;
    let mut launcher = home.client(&core, "launcher").await;
    launcher.subscribe("event/auth/clients/connected/#").await;
    let _admin = home.client(&core, "admin").await;
    loop {
        let message = launcher.message().await;
        assert_eq!(message.topic, "event/auth/clients/connected/auth");
        if message.payload == r#""admin""# {
            break;
        }
    }
    core.stop().await;
}

#[tokio::test]
async fn clients_and_keys_survive_a_restart() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    let token = add_service(&mut admin, "certs").await;
    let files = ["caCert.pem", "hubKey.pem", "hubCert.pem", "admin.key"];
    let read = || files.map(|name| std::fs::read(home.cert(name)).unwrap());
    let before = read();
    core.stop().await;
    // No goodbye.
    drop(home.start().await);
    let core = home.start().await;
    assert_eq!(read(), before);
    assert!(
        Client::connect(&core, "certs", "certs-2", &token)
            .await
            .is_ok()
    );
    core.stop().await;
}

#[tokio::test]
async fn what_stands_in_the_way_of_a_start_is_named_and_left_alone() {
    let mut home = Home::new();
    let core = home.start().await;
    let error = |home: &Home| {
        let settings = home.settings.clone();
        async move { crate::chain(&Core::start(settings).await.err().unwrap()) }
    };
    let text = error(&home).await;
    let expected = format!("another core (pid {}) runs on", std::process::id());
    assert!(text.contains(&expected), "{text}");
    assert!(
        home.client(&core, "admin")
            .await
            .messages()
            .await
            .is_empty(),
        "it goes on"
    );
    assert!(core.socket().exists());
    let taken = core.port();
    let mut other = Home::new();
    other.settings.config.port = taken;
    let text = error(&other).await;
    assert!(
        text.contains(&taken.to_string()) && text.contains("in use"),
        "{text}"
    );
    core.stop().await;

    home.settings.config.port = 0;
    std::fs::remove_file(home.cert("caKey.pem")).unwrap();
    drop(home.start().await);
    let ca = std::fs::read(home.cert("caCert.pem")).unwrap();
    std::fs::remove_file(home.cert("hubCert.pem")).unwrap();
    let text = error(&home).await;
    assert!(
        text.contains("hubCert.pem") && text.contains("caKey.pem"),
        "{text}"
    );
    assert_eq!(std::fs::read(home.cert("caCert.pem")).unwrap(), ca, "T35");
}

#[tokio::test]
async fn a_name_in_use_does_not_keep_a_second_hub_from_starting() {
    let mut homes = [Home::new(), Home::new()];
    let name = format!("/test-{}-{}", std::process::id(), line!());
    for home in &mut homes {
        home.settings.config.abstract_socket = Some(name.clone());
    }
    let first = homes[0].start().await;
    let second = homes[1].start().await;
    let address = {
        use std::os::linux::net::SocketAddrExt;
        std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap()
    };
    let stream = std::os::unix::net::UnixStream::connect_addr(&address).unwrap();
    stream.set_nonblocking(true).unwrap();
    let stream = Box::new(tokio::net::UnixStream::from_std(stream).unwrap());
    let token = homes[0].token("admin");
    assert!(Client::over(stream, "admin", "admin", &token).await.is_ok());
    assert!(
        homes[1]
            .client(&second, "admin")
            .await
            .messages()
            .await
            .is_empty()
    );
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn the_end_is_told_to_those_who_listen_and_is_no_matter_to_the_others() {
    let home = Home::new();
    let core = home.start().await;
    let mut listening = home.client(&core, "admin").await;
    let mut admin = home.client(&core, "launcher").await;
    // This one never reads: its socket is full, and its part of the library stands still.
    let mut stalled = Client::connect(&core, "launcher", "launcher-s", &home.token("launcher"))
        .await
        .unwrap();
    let filters = SubscribePacket::new(1).add_filter("event/+/+/+/#", QoS::AtMostOnce);
    stalled.send(Packet::Subscribe(filters)).await;
    let payload = "x".repeat(100_000);
    for _ in 0..20 {
        admin.publish("event/launcher/x/y/launcher", &payload).await;
    }
    let begun = Instant::now();
    core.stop().await;
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        matches!(listening.receive().await, Some(Packet::Disconnect(d)) if d.reason_code as u8 == 0x8b)
    );
    assert!(listening.receive().await.is_none());
}

#[tokio::test]
async fn hostile_bytes_harm_nobody() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    let token = home.token("launcher");
    let mut connect = bytes::BytesMut::new();
    let mut packet = connect_packet("launcher-f");
    packet.username = Some("launcher".to_owned());
    packet.password = Some(token.into_bytes());
    mqtt5::transport::packet_io::encode_packet_to_buffer(
        &Packet::Connect(Box::new(packet)),
        &mut connect,
    )
    .unwrap();
    let publish = b"\x32\x1a\x00\x14event/launcher/a/b/l\x00\x01\x00x";
    let mut seed = 7_u64;
    let mut random = move |below: usize| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % below
    };
    for round in 0..300 {
        let mut bytes = connect.to_vec();
        if round % 10 == 0 {
            let at = random(bytes.len());
            bytes[at] = u8::try_from(random(256)).unwrap();
        }
        let from = bytes.len();
        bytes.extend(
            publish
                .iter()
                .chain(b"\x82\x05\x00\x02\x00\x00\x00\xc0\x00"),
        );
        for _ in 0..random(4) {
            let at = from + random(bytes.len() - from);
            bytes[at] = u8::try_from(random(256)).unwrap();
        }
        let mut stream = Client::raw(&core).await;
        // The core may have closed it at any byte.
        let _ = stream.write_all(&bytes).await;
        if round % 2 == 0 {
            let _ = stream.shutdown().await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
    }
    for announced in [
        &b"\x30\xff\xff\xff\x7f"[..],
        b"\x3f\x00",
        b"\x00\x00",
        b"\xff\xff\xff\xff\xff",
    ] {
        let mut stream = Client::raw(&core).await;
        stream.write_all(&connect).await.unwrap();
        let _ = stream.write_all(announced).await;
        let mut rest = Vec::new();
        // Refused, not waited for.
        let _ = stream.read_to_end(&mut rest).await;
    }
    assert!(admin.messages().await.is_empty(), "others are served");
    core.stop().await;
}

/// The client that launcher and hubcli use.
async fn bus_client(
    home: &Home,
    login: &str,
    endpoint: Endpoint,
    filter: Option<&str>,
) -> (bus::client::Client, tokio::sync::mpsc::Receiver<Incoming>) {
    use std::os::unix::fs::MetadataExt;
    let token = home.token(login);
    let ca = std::fs::read(home.cert("caCert.pem")).unwrap();
    let owner_uid = std::fs::metadata(&home.settings.folders.certs)
        .unwrap()
        .uid();
    let credentials = move || {
        Ok(bus::client::Credentials {
            proofs: vec![bus::client::Proof::Token(bus::client::Token::new(&token))],
            ca_pem: Some(ca.clone()),
            ca_file: "caCert.pem".into(),
            owner_uid,
        })
    };
    let mut options = bus::client::Options::new(login, vec![endpoint], Arc::new(credentials));
    if let Some(filter) = filter {
        options = options.subscribe(filter);
    }
    let patience = std::time::Duration::from_secs(20);
    bus::client::connect_once(options, patience).await.unwrap()
}

#[tokio::test]
async fn launcher_and_hubcli_talk_over_it_and_hear_its_end() {
    let home = Home::new();
    let core = home.start().await;
    let local: Endpoint = format!("unix://{}", core.socket().display())
        .parse()
        .unwrap();
    let network: Endpoint = format!("tcp://localhost:{}", core.port()).parse().unwrap();
    let manage = bus::topics::rpc_filter("launcher", "manage");
    let (launcher, mut requests) = bus_client(&home, "launcher", local, Some(&manage)).await;
    let (admin, _reports) = bus_client(&home, "admin", network, None).await;
    let serving = tokio::spawn(async move {
        let mut served = 0;
        while let Some(incoming) = requests.recv().await {
            match incoming {
                Incoming::Request(request) => {
                    let result = match request.topic.as_str() {
                        "rpc/launcher/manage/list/admin" => Ok(request.payload.to_vec()),
                        other => Err(format!("no {other}")),
                    };
                    launcher.reply(&request, result).await.unwrap();
                    served += 1;
                }
                Incoming::Disconnected { .. } => break,
                Incoming::Connected { .. } | Incoming::Message { .. } => {}
            }
        }
        served
    });
    let limit = std::time::Duration::from_secs(20);
    // Larger than any buffer on the way.
    let large = "x".repeat(3_000_000);
    for payload in ["{}", &large] {
        let topic = "rpc/launcher/manage/list/admin";
        let reply = admin.call(topic, payload.to_owned(), limit).await.unwrap();
        assert!(reply == payload.as_bytes());
    }
    let failed = admin
        .call("rpc/launcher/manage/x/admin", "", limit)
        .await
        .unwrap_err();
    assert!(
        failed
            .to_string()
            .contains("no rpc/launcher/manage/x/admin"),
        "{failed}"
    );
    let forged = admin.call("rpc/launcher/manage/list/joe", "", limit).await;
    assert!(forged.is_err());
    let args = r#"{"serviceID":"certs"}"#;
    let reply = admin
        .call("rpc/auth/manageClients/addService/admin", args, limit)
        .await
        .unwrap();
    assert_eq!(reply, br#"{"token":""}"#);
    core.stop().await;
    assert_eq!(serving.await.unwrap(), 3);
    admin.disconnected().await;
}
