//! Hubs whose core is not ours, and certificates that nobody can renew.

use super::*;
use crate::ports::CoreDeed;
use creds::ca::{ClientLife, ServerNames, load_ca, load_or_create_server, replace_ca};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn config(world: &World, life: Duration) -> PrepareConfig {
    let certs = world.certs();
    PrepareConfig {
        plugins: world.dir.path().join("plugins"),
        core: None,
        home: world.dir.path().to_owned(),
        credentials: Credentials::Made {
            certs: certs.clone(),
            renew_at: 0.66,
            tokens: true,
            certificates: Some(ClientCertificates {
                life,
                renew_at: 0.5,
                after_server: false,
            }),
        },
        plain_core: None,
        own: OwnLogin {
            certs,
            login: "launcher".to_owned(),
            renew_at: 0.66,
        },
        written: Vec::new(),
        stuck: Vec::new(),
    }
}

fn preparer_with(world: &World, config: PrepareConfig) -> DiskPreparer {
    DiskPreparer::new(
        config,
        Arc::new(Holder(world.accounts.clone())),
        world.finder.clone(),
        Arc::new(Nothing),
        Desk::default(),
    )
}

async fn prepared(preparer: &DiskPreparer) -> Preparation {
    let id = PluginId::new("a").unwrap();
    preparer
        .prepare(id, Kind::Plugin, plan(), Look::Again)
        .await
}

#[tokio::test]
async fn a_certificate_serves_where_no_auth_service_answers() {
    let world = World::new();
    let preparer = preparer_with(&world, config(&world, 10 * DAY));
    // As a broker does that forbids the question, or says nothing.
    *world.accounts.failure.lock().unwrap() = Some("context deadline exceeded".to_owned());
    let found = prepared(&preparer).await;
    let Preparation::Blocked(BlockReason::Credentials(text)) = found else {
        panic!("{found:?}");
    };
    assert!(text.contains("context deadline exceeded"), "{text}");
    let now = UnixTime::from(SystemTime::now());
    creds::ca::load_or_create_ca(&world.certs(), now).unwrap();
    let found = prepared(&preparer).await;
    assert!(matches!(found, Preparation::Ready { .. }), "{found:?}");
    assert!(!world.certs().join("a.token").exists());
    // Nothing is due soon, so nobody is woken.
    let whose = Whose::Plugin(PluginId::new("a").unwrap());
    let kept = preparer.renew(whose.clone()).await;
    assert_eq!(kept, Outcome::InOrder(Some(DAY)));
    // With an auth service after all there is a token at the next look.
    *world.accounts.failure.lock().unwrap() = None;
    preparer.renew(whose).await;
    assert!(world.certs().join("a.token").exists());
    // A core of our own has one, so that it must answer.
    let own = PrepareConfig {
        core: Some(world.dir.path().join("bin/mqttcore")),
        ..config(&world, 10 * DAY)
    };
    *world.accounts.failure.lock().unwrap() = Some("no".to_owned());
    let found = prepared(&preparer_with(&world, own)).await;
    assert!(matches!(found, Preparation::Blocked(_)), "{found:?}");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_renewed_serves_to_its_end() {
    let world = World::new();
    let now = UnixTime::from(SystemTime::now());
    creds::ca::load_or_create_ca(&world.certs(), now).unwrap();
    // It begins five minutes early, so that it is due when it is made.
    let mut short = config(&world, Duration::from_secs(200));
    short.credentials = Credentials::Made {
        certs: world.certs(),
        renew_at: 0.66,
        tokens: false,
        certificates: Some(ClientCertificates {
            life: Duration::from_secs(200),
            renew_at: 0.5,
            after_server: false,
        }),
    };
    let first = preparer_with(&world, short.clone());
    assert!(matches!(prepared(&first).await, Preparation::Ready { .. }));
    let cert = || std::fs::read_to_string(world.certs().join("aCert.pem")).unwrap();
    let made = cert();
    std::fs::remove_file(world.certs().join("caKey.pem")).unwrap();
    let next = preparer_with(&world, short);
    let found = prepared(&next).await;
    assert!(matches!(found, Preparation::Ready { .. }), "{found:?}");
    assert_eq!(cert(), made);
}

#[tokio::test]
async fn a_plain_core_is_told_of_its_new_certificates_once() {
    let world = World::new();
    let (certs, now) = (world.certs(), UnixTime::from(SystemTime::now()));
    let plain = PrepareConfig {
        core: Some(world.dir.path().join("plugins/a")),
        plain_core: Some(PlainCore {
            certs: certs.clone(),
            hostname: "box".to_owned(),
            host: "localhost".to_owned(),
            logins: vec![("launcher".to_owned(), "service")],
            life: ClientLife {
                life: 10 * DAY,
                renew_at: 0.5,
            },
        }),
        ..config(&world, 10 * DAY)
    };
    let preparer = preparer_with(&world, plain);
    let look = async || {
        let kept = preparer.renew(Whose::Launcher).await;
        assert_eq!(kept, Outcome::InOrder(Some(DAY)));
        (preparer.core_deed(), preparer.core_deed())
    };
    // Before it starts there is nothing to keep up; its start makes everything.
    assert_eq!(look().await, (None, None));
    let start = async || {
        preparer
            .prepare(PluginId::core(), Kind::Core, plan(), Look::Again)
            .await
    };
    assert!(matches!(start().await, Preparation::Ready { .. }));
    assert_eq!(look().await, (None, None));
    let ca = load_ca(&certs, now).unwrap();
    load_or_create_server(&certs, &ca, &ServerNames::new("other", &[]), now).unwrap();
    assert_eq!(look().await, (Some(CoreDeed::Reread), None));
    let server = || std::fs::read_to_string(certs.join("hubCert.pem")).unwrap();
    let shown = server();
    replace_ca(&certs, "Hub CA", 100 * DAY, now).unwrap();
    assert_eq!(look().await, (Some(CoreDeed::Restart), None));
    assert_eq!(
        server(),
        shown,
        "until it starts again it knows the CA before"
    );
    assert!(matches!(start().await, Preparation::Ready { .. }));
    assert_ne!(server(), shown);
    assert_eq!(look().await, (None, None));
}
