//! Clients that do not read, acknowledge or release: they are cut, and the others hardly notice.

use super::*;
use crate::backlog::WINDOW;

const KIB: usize = 1024;
const EVENT: &str = "event/svc/thing/name/svc";
const QUOTA: u8 = 0x97;

fn home() -> Home {
    let mut home = Home::new();
    let limits = &mut home.settings.config.limits;
    limits.queued_bytes = 512 * KIB;
    limits.all_queued_bytes = 1024 * KIB;
    home
}

async fn service(core: &Core, admin: &mut Client) -> Client {
    let token = add_service(admin, "svc").await;
    Client::connect(core, "svc", "svc", &token).await.unwrap()
}

/// A viewer who listens to all events, with that quality of service.
async fn viewer(core: &Core, admin: &mut Client, id: &str, qos: QoS) -> Client {
    viewer_of(core, admin, id, qos, "+").await
}

/// The same for events of one thing.
async fn viewer_of(core: &Core, admin: &mut Client, id: &str, qos: QoS, thing: &str) -> Client {
    add_user(admin, id, "viewer").await;
    let mut viewer = user(core, id).await;
    let packet = SubscribePacket::new(1).add_filter(format!("event/+/{thing}/+/#"), qos);
    viewer.send(Packet::Subscribe(packet)).await;
    assert!(matches!(viewer.receive().await, Some(Packet::SubAck(_))));
    viewer
}

fn used(core: &Core) -> usize {
    core.hub().connections.room.used()
}

async fn until(mut condition: impl FnMut() -> bool) {
    let limit = Instant::now() + std::time::Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < limit);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn is_connected(core: &Core, login: &str) -> bool {
    !core.hub().connections.of_login(login).is_empty()
}

#[tokio::test]
async fn who_does_not_read_is_cut_and_the_others_get_everything() {
    let home = home();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    let mut service = service(&core, &mut admin).await;
    for (id, qos) in [("deaf0", QoS::AtMostOnce), ("deaf1", QoS::AtLeastOnce)] {
        let deaf = viewer(&core, &mut admin, id, qos).await;
        let mut good = viewer(&core, &mut admin, &format!("good-{id}"), QoS::AtLeastOnce).await;
        let reader = tokio::spawn(async move {
            for n in 0..100 {
                let payload = good.message().await.payload;
                assert!(payload.starts_with(&format!("{n} ")), "{n}");
            }
        });
        let began = Instant::now();
        let mut most = 0;
        for n in 0..100 {
            let payload = format!("{n} {}", "x".repeat(32 * KIB));
            assert_eq!(service.publish(EVENT, &payload).await, 0);
            most = most.max(used(&core));
        }
        assert!(began.elapsed().as_secs() < 8, "{:?}", began.elapsed());
        assert!(most <= 1024 * KIB, "{most}");
        reader.await.unwrap();
        until(|| !is_connected(&core, id)).await;
        drop(deaf);
        until(|| used(&core) == 0).await;
    }
    core.stop().await;
}

#[tokio::test]
async fn small_messages_count_too() {
    let mut home = home();
    home.settings.config.limits.queued_messages = 500;
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    let mut service = service(&core, &mut admin).await;
    let mut mute = viewer(&core, &mut admin, "mute", QoS::AtLeastOnce).await;
    for _ in 0..1000 {
        assert_eq!(service.publish(EVENT, "x").await, 0);
    }
    // It reads what it may leave unacknowledged, and then why there is no more.
    for _ in 0..WINDOW {
        assert!(matches!(mute.receive().await, Some(Packet::Publish(_))));
    }
    match mute.receive().await {
        Some(Packet::Disconnect(packet)) => assert_eq!(packet.reason_code as u8, QUOTA),
        other => panic!("{other:?}"),
    }
    assert!(mute.receive().await.is_none());
    core.stop().await;
}

#[tokio::test]
async fn who_reads_slowly_gets_everything() {
    let home = home();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    let mut service = service(&core, &mut admin).await;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut slow = viewer(&core, &mut admin, &format!("slow{}", qos as u8), qos).await;
        let reader = tokio::spawn(async move {
            for n in 0..60 {
                let payload = slow.message().await.payload;
                assert!(payload.starts_with(&format!("{n} ")), "{n}");
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
        for n in 0..60 {
            let payload = format!("{n} {}", "x".repeat(60 * KIB));
            assert_eq!(service.publish(EVENT, &payload).await, 0);
        }
        reader.await.unwrap();
    }
    core.stop().await;
}

#[tokio::test]
async fn all_together_have_a_limit_and_who_has_most_goes() {
    let home = home();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    let mut service = service(&core, &mut admin).await;
    let mut deaf = Vec::new();
    for n in 0..6 {
        let (id, qos) = (format!("deaf{n}"), QoS::AtLeastOnce);
        deaf.push(viewer_of(&core, &mut admin, &id, qos, &format!("t{n}")).await);
    }
    // Each has room for these, but all of them only for half; what the sockets hold is taken.
    for _ in 0..16 {
        for n in 0..6 {
            let topic = format!("event/svc/t{n}/name/svc");
            let payload = "x".repeat(30 * KIB);
            assert_eq!(service.publish(&topic, &payload).await, 0);
            assert!(used(&core) <= 1024 * KIB, "{}", used(&core));
        }
    }
    until(|| core.hub().connections.count() < 8).await;
    assert!(is_connected(&core, "admin") && is_connected(&core, "svc"));
    drop(deaf);
    core.stop().await;
}

#[tokio::test]
async fn what_is_not_released_and_long_wills_are_refused() {
    let home = home();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    let mut service = service(&core, &mut admin).await;
    let publish = |id: u16, topic: &str| {
        let packet = PublishPacket::new(topic, vec![b'x'; 100 * KIB], QoS::ExactlyOnce);
        Packet::Publish(packet.with_packet_id(id))
    };
    // What is refused is not kept.
    for id in 1..20 {
        service.send(publish(id, "event/other/t/n/svc")).await;
        assert!(matches!(service.receive().await, Some(Packet::PubRec(_))));
        assert_eq!(used(&core), 0);
    }
    for id in 1..20 {
        service.send(publish(id, EVENT)).await;
        match service.receive().await {
            Some(Packet::PubRec(_)) => assert!(id < 10, "{id}"),
            Some(Packet::Disconnect(packet)) => {
                assert_eq!(packet.reason_code as u8, QUOTA);
                break;
            }
            other => panic!("{other:?}"),
        }
        assert!(id < 19);
    }

    for (length, expected) in [(4000, None), (5000, Some(QUOTA))] {
        let mut packet = connect_packet("admin-w");
        packet.username = Some("admin".to_owned());
        packet.password = Some(home.token("admin").into_bytes());
        packet.will = Some(WillMessage::new("action/a/t/n/admin", vec![b'x'; length]));
        let stream = Box::new(Client::raw(&core).await);
        assert_eq!(Client::with(stream, packet).await.err(), expected);
    }
    core.stop().await;
}
