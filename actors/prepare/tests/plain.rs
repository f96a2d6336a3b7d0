//! Hubs on a broker that has no auth service.

use super::*;
use creds::ca::ClientLife;

const DAY: Duration = Duration::from_secs(24 * 3600);

impl World {
    /// A preparer of this home for a core of ours that knows logins by certificates only.
    fn on_plain_core(&self) -> DiskPreparer {
        let certs = self.certs();
        let config = PrepareConfig {
            plugins: self.dir.path().join("plugins"),
            core: Some(self.dir.path().join("bin/broker")),
            home: self.dir.path().to_owned(),
            credentials: Credentials::Made {
                certs: certs.clone(),
                renew_at: 0.66,
                tokens: false,
                certificates: Some(ClientCertificates {
                    life: DAY,
                    renew_at: 0.5,
                    after_server: true,
                }),
            },
            plain_core: Some(PlainCore {
                certs: certs.clone(),
                hostname: "box".to_owned(),
                host: "hub.local".to_owned(),
                logins: vec![
                    ("launcher".to_owned(), "service"),
                    ("admin".to_owned(), "admin"),
                ],
                life: ClientLife {
                    life: DAY,
                    renew_at: 0.5,
                },
            }),
            own: OwnLogin {
                certs,
                login: "launcher".to_owned(),
                renew_at: 0.66,
            },
            written: Vec::new(),
            stuck: Vec::new(),
        };
        DiskPreparer::new(
            config,
            Arc::new(Holder(self.accounts.clone())),
            self.finder.clone(),
            Arc::new(Nothing),
            Desk::default(),
        )
    }

    fn core(&self) {
        std::fs::create_dir(self.dir.path().join("bin")).unwrap();
        let path = self.dir.path().join("bin/broker");
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

async fn prepared(preparer: &DiskPreparer, id: PluginId, kind: Kind) -> Preparation {
    preparer.prepare(id, kind, plan(), Look::Again).await
}

fn cause(found: Preparation) -> String {
    let Preparation::Blocked(BlockReason::Credentials(text)) = found else {
        panic!("{found:?}");
    };
    text
}

#[tokio::test]
async fn a_core_finds_all_it_reads_and_plugins_their_certificates_without_a_request() {
    let world = World::new();
    world.core();
    let preparer = world.on_plain_core();
    let a = PluginId::new("a").unwrap();
    let early = cause(prepared(&preparer, a.clone(), Kind::Plugin).await);
    assert!(
        early.contains("by which alone this core knows it") && early.contains("caCert.pem"),
        "{early}"
    );
    let core = prepared(&preparer, PluginId::core(), Kind::Core).await;
    assert!(matches!(core, Preparation::Ready { .. }), "{core:?}");
    let read = |file: &str| std::fs::read_to_string(world.certs().join(file)).unwrap();
    let cert = |file: &str| creds::check::Certificate::from_pem(&read(file)).unwrap();
    let server = cert("hubCert.pem");
    for name in ["localhost", "hub.local"] {
        assert!(
            server.dns_names().iter().any(|known| known == name),
            "{name}"
        );
    }
    assert_eq!(cert("launcherCert.pem").unit(), Some("service"));
    assert_eq!(cert("adminCert.pem").unit(), Some("admin"));

    let found = prepared(&preparer, a.clone(), Kind::Plugin).await;
    assert!(matches!(found, Preparation::Ready { .. }), "{found:?}");
    assert_eq!(cert("aCert.pem").common_name(), Some("a"));
    assert!(!world.certs().join("a.token").exists());
    assert_eq!(world.accounts.counts(), (0, 0));

    // Nothing that serves is made anew, not for a core that starts again either.
    let before = ["hubCert.pem", "adminCert.pem", "aCert.pem"].map(read);
    prepared(&preparer, PluginId::core(), Kind::Core).await;
    prepared(&preparer, a, Kind::Plugin).await;
    assert_eq!(
        ["hubCert.pem", "adminCert.pem", "aCert.pem"].map(read),
        before
    );
}

#[tokio::test]
async fn a_core_whose_certificates_cannot_be_made_is_blocked_with_the_way_out() {
    let world = World::new();
    world.core();
    std::fs::write(world.certs().join("caCert.pem"), "rubbish").unwrap();
    let preparer = world.on_plain_core();
    let why = cause(prepared(&preparer, PluginId::core(), Kind::Core).await);
    assert!(
        why.contains("caCert.pem") && why.contains("backup"),
        "{why}"
    );
    let kept = std::fs::read_to_string(world.certs().join("caCert.pem")).unwrap();
    assert_eq!(kept, "rubbish", "a CA is never replaced unasked");
}

#[tokio::test]
async fn at_a_hub_elsewhere_without_an_auth_service_a_certificate_is_enough() {
    let world = World::new();
    world.accounts.absent.store(true, Ordering::SeqCst);
    let why = world.blocked("a").await;
    assert!(
        why.contains("this hub has no auth service") && why.contains("a.token"),
        "{why}"
    );
    creds::ca::load_or_create_ca(&world.certs(), now()).unwrap();
    world.ready("a").await;
    assert!(world.certs().join("aCert.pem").exists());
    assert!(!world.certs().join("a.token").exists());
    // And when it gets one after all.
    world.accounts.absent.store(false, Ordering::SeqCst);
    world.ready("a").await;
    assert!(world.certs().join("a.token").exists());
}
