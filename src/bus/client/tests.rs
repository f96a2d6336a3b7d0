use super::stub::{Message, PATIENCE, Packet, Peer, Stub, parse_whole};
use super::*;
use crate::rpc::BUSY;
use crate::vectors::raw;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Receiver;

const SHORT: Duration = Duration::from_millis(50);

fn credentials() -> CredentialSource {
    let owner_uid = nix::unistd::getuid().as_raw();
    Arc::new(move || {
        Ok(Credentials {
            proofs: vec![Proof::Token(Token::new("TOKEN\n"))],
            ca_pem: None,
            ca_file: "caCert.pem".into(),
            owner_uid,
        })
    })
}

fn options(stub: &Stub, login: &str) -> Options {
    Options::new(
        login,
        vec![Endpoint::Unix(stub.path.clone())],
        credentials(),
    )
}

async fn next(incoming: &mut Receiver<Incoming>) -> Incoming {
    tokio::time::timeout(PATIENCE, incoming.recv())
        .await
        .expect("nothing comes")
        .expect("ended")
}

async fn next_request(incoming: &mut Receiver<Incoming>) -> IncomingRequest {
    loop {
        if let Incoming::Request(request) = next(incoming).await {
            return request;
        }
    }
}

/// Both sides of a connection of the login `admin`.
async fn connected(stub: &Stub) -> (Client, Receiver<Incoming>, Peer, String) {
    let (client, (peer, id, _)) = tokio::join!(
        connect_once(options(stub, "admin"), PATIENCE),
        stub.welcome(1)
    );
    let (client, incoming) = client.unwrap();
    (client, incoming, peer, id)
}

/// The reply to `request`.
fn reply_to(request: &Message, payload: &str) -> Message {
    Message {
        topic: request.response_topic.clone().unwrap(),
        correlation: request.correlation.clone(),
        content_type: Some(JSON.to_owned()),
        payload: payload.as_bytes().to_vec(),
        ..Message::default()
    }
}

#[tokio::test]
async fn the_login_is_that_of_the_original() {
    let stub = Stub::new();
    let options = options(&stub, "admin").subscribe("rpc/launcher/manage/+/#");
    let server = async {
        let mut peer = stub.accept().await;
        let connect = peer.read().await;
        peer.send(&raw("connack-ok")).await;
        let inbox = peer.read().await;
        let Packet::Subscribe { id: first, .. } = inbox else {
            panic!("{inbox:?}")
        };
        let rpc = peer.read().await;
        let Packet::Subscribe { id: second, .. } = rpc else {
            panic!("{rpc:?}")
        };
        // In another order than asked.
        peer.grant(second, 1).await;
        peer.grant(first, 1).await;
        (peer, connect, inbox, rpc)
    };
    let (client, (_peer, connect, inbox, rpc)) =
        tokio::join!(connect_once(options, PATIENCE), server);
    let (_client, mut incoming) = client.unwrap();

    let Packet::Connect {
        client_id,
        flags,
        keep_alive,
        problem_info,
        username,
        password,
    } = connect
    else {
        panic!("{connect:?}")
    };
    let Packet::Connect {
        flags: theirs,
        keep_alive: theirs_alive,
        problem_info: theirs_problem_info,
        client_id: theirs_id,
        ..
    } = parse_whole(&raw("connect-hubcli"))
    else {
        panic!()
    };
    assert_eq!((flags, keep_alive), (theirs, theirs_alive));
    // Else the original's core sends acknowledgements that end the connection.
    assert_eq!((problem_info, theirs_problem_info), (Some(0), Some(0)));
    assert_eq!((username.as_str(), password.as_str()), ("admin", "TOKEN"));
    let stamp = |id: &str| {
        id.split('-')
            .rfind(|part| part.contains('.'))
            .unwrap()
            .len()
    };
    assert!(client_id.starts_with("admin-"), "{client_id}");
    assert_eq!(stamp(&client_id), stamp(&theirs_id));

    // Same options for the subscriptions, one filter each.
    let theirs = parse_whole(&raw("subscribe-launcher-rpc"));
    let Packet::Subscribe {
        filter: theirs_filter,
        options: theirs,
        ..
    } = theirs
    else {
        panic!()
    };
    let Packet::Subscribe {
        filter, options, ..
    } = rpc
    else {
        panic!()
    };
    assert_eq!((filter, options), (theirs_filter, theirs));
    let Packet::Subscribe {
        filter, options, ..
    } = inbox
    else {
        panic!()
    };
    assert_eq!((filter, options), (format!("_INBOX/{client_id}"), theirs));

    let Incoming::Connected {
        endpoint,
        mqtt_client_id,
    } = next(&mut incoming).await
    else {
        panic!()
    };
    assert_eq!(
        (endpoint, mqtt_client_id),
        (Endpoint::Unix(stub.path.clone()), client_id)
    );
}

#[tokio::test]
async fn calls_get_their_own_replies() {
    let stub = Stub::new();
    let (client, _incoming, mut peer, id) = connected(&stub).await;
    let topic = "rpc/launcher/manage/list/admin";
    let server = async {
        let (one, two) = (peer.read_publish().await, peer.read_publish().await);
        for (request, name) in [(&one, "a"), (&two, "b")] {
            assert_eq!(
                (request.topic.as_str(), request.qos, request.retain),
                (topic, 1, false)
            );
            assert_eq!(request.content_type.as_deref(), Some("json"));
            assert_eq!(request.response_topic, Some(format!("_INBOX/{id}")));
            assert_eq!(request.payload, name.as_bytes());
        }
        assert_ne!(one.correlation, two.correlation);
        // A stranger's, then both in the other order; the acknowledgement of the second after its reply.
        peer.publish(&Message {
            correlation: Some(b"1".to_vec()),
            ..reply_to(&one, "forged")
        })
        .await;
        peer.publish(&Message {
            correlation: None,
            ..reply_to(&one, "forged")
        })
        .await;
        peer.ack(one.id).await;
        peer.publish(&reply_to(&two, "to b")).await;
        peer.ack(two.id).await;
        peer.publish(&reply_to(&one, "to a")).await;
        // A reply that comes twice is dropped.
        peer.publish(&reply_to(&one, "to a again")).await;
        peer
    };
    let (a, b, mut peer) = tokio::join!(
        client.call(topic, "a", PATIENCE),
        client.call(topic, "b", PATIENCE),
        server
    );
    assert_eq!((a, b), (Ok(b"to a".to_vec()), Ok(b"to b".to_vec())));

    let server = async {
        let request = peer.read_publish().await;
        peer.ack(request.id).await;
        let mut error = reply_to(&request, "plugin 'nope' not found");
        error.content_type = Some("error".to_owned());
        peer.publish(&error).await;
    };
    let (result, ()) = tokio::join!(client.call(topic, "", PATIENCE), server);
    assert_eq!(
        result,
        Err(CallError::Remote("plugin 'nope' not found".to_owned()))
    );
}

#[tokio::test]
async fn what_the_core_does_not_allow_fails_at_once() {
    let stub = Stub::new();
    let (client, _incoming, mut peer, _) = connected(&stub).await;
    let server = async {
        let request = peer.read_publish().await;
        let mut refusal = raw("puback-packet2-not-authorized");
        refusal[2..4].copy_from_slice(&request.id.to_be_bytes());
        peer.send(&refusal).await;
    };
    let (result, ()) = tokio::join!(client.call("rpc/x/y/z/admin", "", PATIENCE), server);
    let error = result.unwrap_err();
    assert_eq!(error, CallError::NotAuthorized);
    assert_eq!(
        error.to_string(),
        "error publishing: The PUBLISH is not authorized."
    );
}

#[tokio::test]
async fn a_late_reply_harms_nobody() {
    let stub = Stub::new();
    let (client, _incoming, mut peer, _) = connected(&stub).await;
    assert_eq!(
        client.call("rpc/x/y/z/admin", "", SHORT).await,
        Err(CallError::Timeout)
    );
    let late = peer.read_publish().await;
    peer.ack(late.id).await;
    peer.publish(&reply_to(&late, "late")).await;
    let server = async {
        let request = peer.read_publish().await;
        peer.ack(request.id).await;
        peer.publish(&reply_to(&request, "in time")).await;
    };
    let (result, ()) = tokio::join!(client.call("rpc/x/y/z/admin", "", PATIENCE), server);
    assert_eq!(result, Ok(b"in time".to_vec()));
}

#[tokio::test]
async fn the_end_of_the_connection_ends_every_call() {
    let stub = Stub::new();
    let (client, mut incoming, mut peer, _) = connected(&stub).await;
    let begun = Instant::now();
    let server = async {
        // One is acknowledged, one is not, many have not even left.
        let request = peer.read_publish().await;
        peer.ack(request.id).await;
        drop(peer);
    };
    let calls = async {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..300 {
            let client = client.clone();
            calls.spawn(async move { client.call("rpc/x/y/z/admin", "", PATIENCE).await });
        }
        calls.join_all().await
    };
    let (results, ()) = tokio::join!(calls, server);
    for result in results {
        assert!(
            matches!(
                result,
                Err(CallError::Disconnected(_) | CallError::NotConnected)
            ),
            "{result:?}"
        );
    }
    assert!(begun.elapsed() < PATIENCE, "calls waited for their timeout");
    loop {
        if let Incoming::Disconnected { reason } = next(&mut incoming).await {
            assert!(!reason.is_empty());
            break;
        }
    }
    client.disconnected().await;
    assert_eq!(
        client.publish("event/a/b/c/a", "").await,
        Err(CallError::NotConnected)
    );
}

#[tokio::test]
async fn a_request_from_the_vectors_is_answered_as_in_the_vectors() {
    let stub = Stub::new();
    let (client, mut incoming, mut peer, _) = connected(&stub).await;
    peer.send(&raw("list-request")).await;
    let request = next_request(&mut incoming).await;
    assert_eq!(request.topic, "rpc/launcher/manage/list/admin");
    assert_eq!(request.payload, r#"{"onlyRunning":false}"#);
    assert_eq!(peer.read().await, Packet::PubAck { id: 2 });

    let Packet::Publish(mut expected) = parse_whole(&raw("error-reply-unknown-plugin")) else {
        panic!()
    };
    let error = String::from_utf8(expected.payload.clone()).unwrap();
    let server = async {
        let reply = peer.read_publish().await;
        peer.ack(reply.id).await;
        reply
    };
    let (sent, reply) = tokio::join!(client.reply(&request, Err(error)), server);
    assert_eq!(sent, Ok(()));
    // What the requester sent along comes first, as in a Go responder.
    let sent_along =
        [("test", "test"), ("test2", "test2")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    expected.user_properties.splice(0..0, sent_along);
    expected.id = reply.id;
    assert_eq!(reply, expected);

    let server = async {
        let reply = peer.read_publish().await;
        peer.ack(reply.id).await;
        reply
    };
    let (sent, reply) = tokio::join!(
        client.reply(&request, Ok(br#"{"info":[]}"#.to_vec())),
        server
    );
    assert_eq!(sent, Ok(()));
    assert_eq!(reply.content_type.as_deref(), Some("json"));
    assert_eq!(reply.payload, br#"{"info":[]}"#);
    assert_eq!(
        reply.correlation.as_deref(),
        Some(b"1698434814123456789".as_slice())
    );
}

#[tokio::test]
async fn nobody_is_answered_outside_of_an_inbox() {
    let stub = Stub::new();
    let (client, mut incoming, mut peer, _) = connected(&stub).await;
    let topic = "rpc/launcher/manage/list/admin";
    for response_topic in [
        None,
        Some("rpc/auth/manageClients/removeClient/launcher"),
        Some("_INBOX/"),
        Some("_INBOXES/a"),
    ] {
        peer.publish(&Message {
            topic: topic.to_owned(),
            response_topic: response_topic.map(str::to_owned),
            ..Message::default()
        })
        .await;
        let request = next_request(&mut incoming).await;
        assert!(!request.wants_reply(), "{response_topic:?}");
        assert_eq!(client.reply(&request, Ok(b"secret".to_vec())).await, Ok(()));
    }
    // The next that leaves is the end, no reply before it.
    let (read, ()) = tokio::join!(peer.read(), client.close());
    assert_eq!(read, Packet::Disconnect);
}

#[tokio::test]
async fn too_many_requests_are_answered_busy() {
    let stub = Stub::new();
    let mut options = options(&stub, "launcher").subscribe("rpc/launcher/manage/+/#");
    options.queue = 2;
    let (client, (mut peer, _, _)) = tokio::join!(connect_once(options, PATIENCE), stub.welcome(2));
    let (_client, mut incoming) = client.unwrap();
    let request = |n: u16| Message {
        topic: "rpc/launcher/manage/list/admin".to_owned(),
        id: n,
        qos: 1,
        response_topic: Some("_INBOX/admin-x".to_owned()),
        correlation: Some(n.to_string().into_bytes()),
        ..Message::default()
    };
    for n in 1..=10 {
        peer.publish(&request(n)).await;
    }
    // Nobody receives: two and the room of Connected and Disconnected at most are kept.
    let busy = peer.read_publish().await;
    assert_eq!(busy.payload, BUSY.as_bytes());
    assert_eq!(busy.content_type.as_deref(), Some("error"));
    assert_eq!(busy.topic, "_INBOX/admin-x");
    let mut kept = 0;
    while let Ok(received) = incoming.try_recv() {
        kept += u16::from(matches!(received, Incoming::Request(_)));
    }
    assert!((1..=3).contains(&kept), "{kept}");
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let stub = Stub::new();
    let server = async {
        let mut peer = stub.accept().await;
        peer.read().await;
        peer.send(&raw("connack-bad-credentials")).await;
    };
    let (result, ()) = tokio::join!(connect_once(options(&stub, "admin"), PATIENCE), server);
    let error = result.unwrap_err();
    assert!(
        matches!(
            &error,
            ConnectError::Login {
                refusal: Refusal::BadCredentials,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.hint().contains("token"), "{}", error.hint());

    let refused = options(&stub, "viewer1").subscribe("rpc/launcher/manage/+/#");
    let server = async {
        let (mut peer, _, _) = stub.welcome(1).await;
        let Packet::Subscribe { id, .. } = peer.read().await else {
            panic!()
        };
        peer.grant(id, 0x87).await;
        peer
    };
    let (result, _peer) = tokio::join!(connect_once(refused, PATIENCE), server);
    let text = result.unwrap_err().to_string();
    assert!(
        text.contains("rpc/launcher/manage/+/#") && text.contains("0x87"),
        "{text}"
    );

    let mut silent = options(&stub, "admin");
    silent.attempt_timeout = SHORT;
    let error = connect_once(silent, PATIENCE).await.unwrap_err();
    assert!(matches!(error, ConnectError::Timeout { .. }), "{error:?}");
}

#[tokio::test]
async fn all_places_that_were_tried_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let places = vec![
        Endpoint::Unix(folder.path().join("a.sock")),
        Endpoint::Abstract(format!("{}", folder.path().join("b").display())),
    ];
    let options = Options::new("admin", places.clone(), credentials());
    let error = connect_once(options.clone(), PATIENCE).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(
        text,
        format!("no hub listens at {} or {}", places[0], places[1])
    );
    assert!(error.hint().contains("launcher"));

    let none = Options {
        endpoints: Arc::new(Vec::new),
        ..options.clone()
    };
    let error = connect_once(none, PATIENCE).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoEndpoint));

    let unread = Options {
        credentials: Arc::new(|| Err("cannot read admin.token: permission denied".to_owned())),
        ..options
    };
    let error = connect_once(unread, PATIENCE).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read admin.token: permission denied"
    );
}

#[tokio::test]
async fn another_hub_does_not_hide_that_the_own_core_is_down() {
    let folder = tempfile::tempdir().unwrap();
    let own = Endpoint::Unix(folder.path().join("own.sock"));
    let (other, shared) = Stub::named();
    let options = Options::new("admin", vec![own.clone(), shared.clone()], credentials());
    let server = async {
        let mut peer = other.accept().await;
        peer.read().await;
        peer.send(&raw("connack-bad-credentials")).await;
    };
    let (result, ()) = tokio::join!(connect_once(options.clone(), PATIENCE), server);
    let error = result.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "no hub listens at {own}; {shared} refused the login of 'admin': bad credentials (0x86) \
             (any hub of this machine may have that name)"
        )
    );
    assert!(
        error
            .hint()
            .starts_with("the core of this home does not run"),
        "{}",
        error.hint()
    );

    // Hanging, it does not hide it either.
    let error = connect_once(options, SHORT).await.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("no hub listens at {own}; {shared} did not answer")),
        "{error}"
    );
}

#[tokio::test]
async fn it_comes_back_with_all_subscriptions_and_a_new_id() {
    let stub = Stub::new();
    let filter = "rpc/launcher/manage/+/#";
    let (client, mut incoming) = connect_forever(options(&stub, "launcher").subscribe(filter));
    let mut ids = Vec::new();
    for _ in 0..3 {
        let (peer, id, filters) = stub.welcome(2).await;
        assert_eq!(filters, [format!("_INBOX/{id}"), filter.to_owned()]);
        assert!(!ids.contains(&id));
        let Incoming::Connected { mqtt_client_id, .. } = next(&mut incoming).await else {
            panic!()
        };
        assert_eq!(mqtt_client_id, id);
        ids.push(id);
        drop(peer);
        let Incoming::Disconnected { .. } = next(&mut incoming).await else {
            panic!()
        };
        client.nudge();
    }
    let (mut peer, _, _) = stub.welcome(2).await;
    let server = async {
        let event = peer.read_publish().await;
        peer.ack(event.id).await;
        let end = peer.read().await;
        (event, end)
    };
    let work = async {
        let Incoming::Connected { .. } = next(&mut incoming).await else {
            panic!()
        };
        client
            .publish("event/launcher/manage/started/launcher", "\"certs\"")
            .await
            .unwrap();
        client.close().await;
    };
    let ((event, end), ()) = tokio::join!(server, work);
    assert_eq!(
        event,
        Message {
            topic: "event/launcher/manage/started/launcher".to_owned(),
            id: event.id,
            qos: 1,
            payload: b"\"certs\"".to_vec(),
            ..Message::default()
        }
    );
    assert_eq!(end, Packet::Disconnect);
    assert!(matches!(*client.status().borrow(), Status::Closed));
}

/// A half-open connection of TCP looks like that: what is sent is taken, and nothing ever comes back.
#[tokio::test]
async fn a_hub_that_falls_silent_is_left_however_much_is_sent_to_it() {
    let stub = Stub::new();
    let mut options = options(&stub, "launcher");
    options.keep_alive = Duration::from_secs(1);
    let (client, mut incoming) = connect_forever(options);
    let (mut peer, _, _) = stub.welcome(1).await;
    let Incoming::Connected { .. } = next(&mut incoming).await else {
        panic!()
    };
    let deaf = async {
        loop {
            if peer.read().await == Packet::Closed {
                return;
            }
        }
    };
    let busy = async {
        loop {
            let sent = client
                .publish("event/launcher/manage/plugin/launcher", "")
                .await;
            if sent.is_err() {
                return;
            }
            tokio::time::sleep(SHORT).await;
        }
    };
    let both = async { tokio::join!(deaf, busy) };
    tokio::time::timeout(PATIENCE, both).await.unwrap();
    let Incoming::Disconnected { reason } = next(&mut incoming).await else {
        panic!()
    };
    assert_eq!(reason, "the hub does not answer any more");
    // It calls anew by itself.
    stub.welcome(1).await;
}

#[tokio::test]
async fn reasons_are_told_once_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("late.sock");
    let options = Options::new("launcher", vec![Endpoint::Unix(path)], credentials());
    let (client, mut incoming) = connect_forever(options);
    client.set_eager(true);
    let Incoming::Disconnected { reason } = next(&mut incoming).await else {
        panic!()
    };
    assert!(reason.contains("late.sock"), "{reason}");
    let mut status = client.status();
    let tried =
        |status: &Status| matches!(status, Status::Connecting { failures, .. } if *failures > 3);
    tokio::time::timeout(PATIENCE, status.wait_for(tried))
        .await
        .unwrap()
        .unwrap();
    assert!(incoming.try_recv().is_err(), "the same reason again");
    assert!(!client.is_connected());
    // Without anybody to receive, it ends.
    drop(incoming);
    let ended = |status: &Status| matches!(status, Status::Closed);
    tokio::time::timeout(PATIENCE, status.wait_for(ended))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn what_comes_before_the_last_grant_is_kept() {
    let stub = Stub::new();
    let wanted = options(&stub, "launcher")
        .subscribe("rpc/launcher/manage/+/#")
        .subscribe("rpc/launcher/read/+/#");
    let server = async {
        let (mut peer, _, _) = stub.welcome(2).await;
        peer.send(&raw("list-request")).await;
        loop {
            if let Packet::Subscribe { id, .. } = peer.read().await {
                peer.grant(id, 1).await;
                return peer;
            }
        }
    };
    let (client, _peer) = tokio::join!(connect_once(wanted, PATIENCE), server);
    let (_client, mut incoming) = client.unwrap();
    let Incoming::Connected { .. } = next(&mut incoming).await else {
        panic!()
    };
    let request = next_request(&mut incoming).await;
    assert_eq!(request.topic, "rpc/launcher/manage/list/admin");
}

#[tokio::test]
async fn what_cannot_be_sent_costs_no_connection() {
    let stub = Stub::new();
    let (client, _incoming, mut peer, _) = connected(&stub).await;
    let long = vec![b'x'; MAX_PACKET as usize];
    for result in [
        client.publish("event/a/+/c/a", "").await,
        client.publish("", "").await,
        client.publish("event/a/b/c/a", long).await,
    ] {
        assert!(
            matches!(result, Err(CallError::Invalid { .. })),
            "{result:?}"
        );
    }
    let server = async {
        let event = peer.read_publish().await;
        peer.ack(event.id).await;
    };
    let (result, ()) = tokio::join!(client.publish("event/a/b/c/a", ""), server);
    assert_eq!(result, Ok(()));
}

#[tokio::test]
async fn what_the_hub_never_takes_is_told_from_what_it_may_take_later() {
    let stub = Stub::new();
    let (client, _incoming, mut peer, _) = connected(&stub).await;
    for (code, is_final) in [
        (0x87, true),
        (0x90, true),
        (0x99, true),
        (0x80, false),
        (0x97, false),
    ] {
        let server = async {
            let event = peer.read_publish().await;
            let [high, low] = event.id.to_be_bytes();
            peer.send(&[0x40, 4, high, low, code, 0]).await;
        };
        let (result, ()) = tokio::join!(client.publish("event/a/b/c/a", ""), server);
        let error = result.unwrap_err();
        assert_eq!(error.is_final(), is_final, "{code:#x}: {error:?}");
    }
    drop(peer);
    client.disconnected().await;
    let lost = client.publish("event/a/b/c/a", "").await.unwrap_err();
    assert!(!lost.is_final(), "{lost:?}");
}

mod tls {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::{self, ServerConfig};

    fn ca() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    /// Accepts one TLS connection; the client may not like what it sees.
    async fn serve(ca: &CertifiedIssuer<'static, KeyPair>) -> (u16, tokio::task::JoinHandle<()>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let leaf = params.signed_by(&key, ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                key.serialize_der().try_into().unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut connect = [0; 8];
                if stream.read_exact(&mut connect).await.is_ok() {
                    stream
                        .write_all(&raw("connack-bad-credentials"))
                        .await
                        .unwrap();
                    let _ = stream.flush().await;
                    let _ = stream.read(&mut connect).await;
                }
            }
        });
        (port, task)
    }

    async fn error(host: &str, port: u16, ca_pem: Option<String>) -> ConnectError {
        let source: CredentialSource = Arc::new(move || {
            Ok(Credentials {
                proofs: vec![Proof::Token(Token::new("TOKEN"))],
                ca_pem: ca_pem.clone().map(String::into_bytes),
                ca_file: "caCert.pem".into(),
                owner_uid: 0,
            })
        });
        let endpoint = Endpoint::Tls {
            host: host.to_owned(),
            port,
        };
        let options = Options::new("admin", vec![endpoint], source);
        connect_once(options, PATIENCE).await.unwrap_err()
    }

    #[tokio::test]
    async fn only_the_hubs_ca_is_believed() {
        let (ours, foreign) = (ca(), ca());
        let (port, task) = serve(&ours).await;
        let login = error("127.0.0.1", port, Some(ours.pem())).await;
        assert!(matches!(login, ConnectError::Login { .. }), "{login:?}");
        task.await.unwrap();

        let (port, task) = serve(&foreign).await;
        let stranger = error("127.0.0.1", port, Some(ours.pem())).await;
        assert!(
            matches!(stranger, ConnectError::ForeignCa { .. }),
            "{stranger:?}"
        );
        task.await.unwrap();

        let (port, task) = serve(&ours).await;
        let name = error("localhost", port, Some(ours.pem())).await;
        assert!(matches!(name, ConnectError::WrongName { .. }), "{name:?}");
        task.abort();
        // Nothing is dialled in vain when there is nothing to prove it by.
        let none = error("127.0.0.1", port, None).await;
        assert!(matches!(none, ConnectError::NoCa { .. }));
        let bad = error("127.0.0.1", port, Some("not pem".to_owned())).await;
        assert!(matches!(bad, ConnectError::BadCa { .. }));
    }

    /// Takes `times` connections of who has a certificate of `ca`; each gets a CONNACK that refuses its password.
    async fn serve_with_certificates(
        ca: &CertifiedIssuer<'static, KeyPair>,
        clients: &CertifiedIssuer<'static, KeyPair>,
        times: usize,
    ) -> (u16, tokio::task::JoinHandle<()>) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        use tokio_rustls::rustls::server::WebPkiClientVerifier;
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let leaf = params.signed_by(&key, ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(clients.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![leaf.der().clone()],
                key.serialize_der().try_into().unwrap(),
            )
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            for _ in 0..times {
                let (stream, _) = listener.accept().await.unwrap();
                let accepted = TlsAcceptor::from(Arc::new(config.clone()))
                    .accept(stream)
                    .await;
                let Ok(mut stream) = accepted else {
                    continue;
                };
                let mut connect = [0; 8];
                stream.read_exact(&mut connect).await.unwrap();
                let refusal = raw("connack-bad-credentials");
                stream.write_all(&refusal).await.unwrap();
                let _ = stream.flush().await;
                let _ = stream.read(&mut connect).await;
            }
        });
        (port, task)
    }

    fn certificate_of(ca: &CertifiedIssuer<'static, KeyPair>, days: i64) -> Proof {
        use std::time::SystemTime;
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let day = Duration::from_secs(24 * 3600);
        let now = SystemTime::now();
        params.not_before = (now - 10 * day).into();
        params.not_after = if days < 0 {
            (now - day).into()
        } else {
            (now + day).into()
        };
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, ca).unwrap();
        Proof::Certificate(ClientCertificate::new(
            "certs/adminCert.pem".into(),
            leaf.pem().into_bytes(),
            key.serialize_pem().into_bytes(),
        ))
    }

    async fn error_with(port: u16, ca: String, proofs: Vec<Proof>) -> ConnectError {
        let source: CredentialSource = Arc::new(move || {
            Ok(Credentials {
                proofs: proofs.clone(),
                ca_pem: Some(ca.clone().into_bytes()),
                ca_file: "caCert.pem".into(),
                owner_uid: 0,
            })
        });
        let host = "127.0.0.1".to_owned();
        let options = Options::new("admin", vec![Endpoint::Tls { host, port }], source);
        connect_once(options, PATIENCE).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_certificate_serves_where_a_token_is_not_wanted() {
        let ours = ca();
        let token = || Proof::Token(Token::new("TOKEN"));
        let (port, task) = serve_with_certificates(&ours, &ours, 3).await;
        let alone = error_with(port, ours.pem(), vec![token()]).await;
        assert!(
            matches!(alone, ConnectError::CertificateWanted { .. }),
            "{alone:?}"
        );
        // As far as CONNACK, with the second proof.
        let both = vec![token(), certificate_of(&ours, 1)];
        let both = error_with(port, ours.pem(), both).await;
        assert!(matches!(both, ConnectError::Login { .. }), "{both:?}");
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_certificate_that_is_refused_is_named() {
        let (ours, foreign) = (ca(), ca());
        let (port, task) = serve_with_certificates(&ours, &ours, 2).await;
        for (proof, why) in [
            (certificate_of(&foreign, 1), "of a CA that is not known"),
            (certificate_of(&ours, -1), "has expired"),
        ] {
            let error = error_with(port, ours.pem(), vec![proof]).await;
            let text = error.to_string();
            assert!(
                text.contains(why) && text.contains("certs/adminCert.pem"),
                "{text}"
            );
            assert!(error.hint().contains("new one"), "{}", error.hint());
        }
        task.await.unwrap();
        let broken = Proof::Certificate(ClientCertificate::new(
            "certs/adminCert.pem".into(),
            b"x".to_vec(),
            b"secret".to_vec(),
        ));
        assert!(!format!("{broken:?}").contains("secret"));
        let error = error_with(port, ours.pem(), vec![broken.clone()]).await;
        assert!(
            matches!(error, ConnectError::BadCertificate { .. }),
            "{error:?}"
        );
        // Nor is it shown where there is no TLS.
        let source: CredentialSource = Arc::new(move || {
            Ok(Credentials {
                proofs: vec![broken.clone()],
                ca_pem: None,
                ca_file: "caCert.pem".into(),
                owner_uid: 0,
            })
        });
        let places = vec![Endpoint::Unix("/nonexistent.sock".into())];
        let error = connect_once(Options::new("admin", places, source), PATIENCE).await;
        let error = error.unwrap_err();
        assert!(
            matches!(error, ConnectError::NeedsToken { .. }),
            "{error:?}"
        );
    }
}
