//! Certificates and tokens of a core that runs for years.

use super::*;
use crate::auth::{Auth, Tokens};
use crate::credentials::{Credentials, Places};
use crate::identity::Identity;
use crate::service;
use creds::ca;
use creds::check::Certificate;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// Waits, awake, until something is so.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn cert(home: &Home, name: &str) -> Certificate {
    Certificate::from_pem(&std::fs::read_to_string(home.cert(name)).unwrap()).unwrap()
}

fn put(home: &Home, name: &str, text: &str) {
    let part = home.cert(".part");
    std::fs::write(&part, text).unwrap();
    std::fs::rename(&part, home.cert(name)).unwrap();
}

fn now() -> UnixTime {
    UnixTime::from(SystemTime::now())
}

#[tokio::test]
async fn a_new_ca_is_followed_without_locking_anybody_out() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    add_user(&mut admin, "joe", "viewer").await;
    let old = client_certificate(&home, "joe");
    let stream = home.tls(&core, Some(old.clone())).await.unwrap();
    let mut before = Client::over(stream, "joe", "joe-1", "").await.unwrap();
    let hub_key = std::fs::read(home.cert("hubKey.pem")).unwrap();

    let year = Duration::from_secs(365 * DAY);
    ca::replace_ca(&home.settings.folders.certs, "Hub CA", year, now()).unwrap();
    let ca = cert(&home, "caCert.pem");
    until("a server certificate of the new CA", || {
        cert(&home, "hubCert.pem").is_signed_by(&ca)
    })
    .await;
    // The file is there a moment before new connections are shown it; they verify it by the new CA.
    let end = Instant::now() + Duration::from_secs(20);
    let stream = loop {
        match home.tls(&core, Some(old.clone())).await {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
    };
    assert!(Client::over(stream, "joe", "joe-2", "").await.is_ok());
    let new = client_certificate(&home, "joe");
    let stream = home.tls(&core, Some(new)).await.unwrap();
    assert!(Client::over(stream, "joe", "joe-3", "").await.is_ok());
    assert_eq!(before.subscribe("event/+/+/+/#").await, 1, "undisturbed");
    assert_eq!(std::fs::read(home.cert("hubKey.pem")).unwrap(), hub_key);
    core.stop().await;
}

#[tokio::test]
async fn what_is_due_is_renewed_while_the_core_runs() {
    let home = Home::new();
    let core = home.start().await;
    // A certificate of the hub's own key and CA, that ends within the minute.
    let pem = |name: &str| std::fs::read_to_string(home.cert(name)).unwrap();
    let ca_key = rcgen::KeyPair::from_pem(&pem("caKey.pem")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&pem("caCert.pem"), ca_key).unwrap();
    let hub_key = rcgen::KeyPair::from_pem(&pem("hubKey.pem")).unwrap();
    let made = cert(&home, "hubCert.pem");
    let mut names = made.dns_names().to_vec();
    names.extend(made.addresses().iter().map(ToString::to_string));
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.not_before = (SystemTime::now() - Duration::from_secs(600)).into();
    params.not_after = (SystemTime::now() + Duration::from_secs(50)).into();
    let short = params.signed_by(&hub_key, &issuer).unwrap().pem();
    put(&home, "hubCert.pem", &short);
    let soon = now().after(Duration::from_secs(3600));
    until("another server certificate", || {
        cert(&home, "hubCert.pem").not_after() > soon
    })
    .await;
    assert!(home.tls(&core, None).await.is_ok());

    // Tokens that are gone, cut short or of another key.
    let token = home.token("launcher");
    for bad in [None, Some(&token[..token.len() / 2]), Some("")] {
        match bad {
            None => std::fs::remove_file(home.cert("launcher.token")).unwrap(),
            Some(text) => put(&home, "launcher.token", text),
        }
        // Any change of a certificate has it look at once.
        put(&home, "hubCert.pem", &short);
        until("another token", || {
            let text = std::fs::read_to_string(home.cert("launcher.token"));
            text.is_ok_and(|text| text.len() >= token.len())
        })
        .await;
        let renewed = home.token("launcher");
        let login = Client::connect(&core, "launcher", "launcher-9", &renewed).await;
        assert!(login.is_ok());
    }
    core.stop().await;
}

#[tokio::test]
async fn a_certificate_ends_for_the_next_login_and_not_for_open_connections() {
    let home = Home::new();
    let core = home.start().await;
    let mut admin = home.client(&core, "admin").await;
    add_user(&mut admin, "joe", "viewer").await;
    let short = certificate_for(&home, "joe", Duration::from_secs(2));
    let stream = home.tls(&core, Some(short.clone())).await.unwrap();
    let mut open = Client::over(stream, "joe", "joe-1", "").await.unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    let is_refused = async || {
        let Ok(mut stream) = home.tls(&core, Some(short.clone())).await else {
            return true;
        };
        // In TLS 1.3 a client learns of it by its first read; else the core waits for what the client says.
        let read = tokio::time::timeout(Duration::from_millis(200), stream.read_u8());
        read.await.is_ok()
    };
    while !is_refused().await {
        assert!(Instant::now() < end, "an expired certificate is taken");
    }
    assert_eq!(open.subscribe("event/+/+/+/#").await, 1, "stays");
    core.stop().await;
}

#[tokio::test]
async fn a_server_certificate_of_another_ca_is_shown_anew_when_its_file_changes() {
    let mut home = Home::new();
    home.start().await.stop().await;
    let made = || {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    };
    let (cert, key) = made();
    put(&home, "given.pem", &cert);
    put(&home, "given.key", &key);
    home.settings.config.files.server_cert = Some("given.pem".into());
    home.settings.config.files.server_key = Some("given.key".into());
    let core = home.start().await;
    let (cert, key) = made();
    put(&home, "given.key", &key);
    put(&home, "given.pem", &cert);
    let end = Instant::now() + Duration::from_secs(20);
    while home.tls_by(core.port(), &cert, None).await.is_err() {
        assert!(Instant::now() < end, "the new one is not shown");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        std::fs::read_to_string(home.cert("given.pem")).unwrap(),
        cert
    );
    core.stop().await;
}

/// What a core of this home was started with at `start`.
struct Kept {
    identity: Identity,
    auth: Auth,
    begun: Instant,
}

impl Kept {
    fn new(home: &Home, start: UnixTime) -> Kept {
        home.settings.folders.create().unwrap();
        let mut places = Places {
            certs: home.settings.folders.certs.clone(),
            files: home.settings.config.files.clone(),
            host: None,
            tokens: Vec::new(),
        };
        let credentials = Credentials::prepare(&mut places, start).unwrap();
        let store = crate::store::open(&home.cert("hub.passwd")).unwrap();
        let grants = crate::grants::open(&places.certs, &store.now());
        let tokens = Tokens::new(credentials.hub_key(), home.settings.config.validity);
        let guesses = crate::guesses::Guesses::new(&home.settings.config.limits);
        let auth = Auth::new(store, grants, tokens, guesses);
        service::register_own(&auth, credentials.profiles(&auth.tokens.validity));
        let begun = Instant::now();
        let clocks = (start, begun);
        Kept {
            identity: Identity::new(places, credentials.into_presence(), clocks).unwrap(),
            auth,
            begun,
        }
    }

    /// Looks; gives in how many seconds it is to be looked again.
    fn look(&self, now: UnixTime) -> u64 {
        let next = self.identity.look(&self.auth, now, self.begun);
        assert!(next.at > now);
        next.at.since(now).as_secs()
    }
}

const DAY: u64 = 86_400;

#[test]
fn a_clock_that_starts_in_1970_and_is_set_later_locks_nobody_out() {
    let home = Home::new();
    let first = UnixTime(100);
    let kept = Kept::new(&home, first);
    let made = cert(&home, "hubCert.pem");
    assert_eq!(kept.look(first), DAY, "who sets the clock tells it");
    assert_eq!(cert(&home, "hubCert.pem"), made);
    // Some years after the earliest moment there can be.
    let set = UnixTime::EARLIEST_PLAUSIBLE.after(Duration::from_secs(5 * 365 * DAY));
    for name in ["hubCert.pem", "caCert.pem"] {
        for now in [first, set] {
            let validity = cert(&home, name).validity(now);
            assert_eq!(validity, creds::check::Validity::Valid, "{name} {now:?}");
        }
    }
    let token = home.token("launcher");
    let minute = Duration::from_secs(60);
    let (at, later) = (set.after(minute), kept.begun + minute);
    let by = kept.identity.clock_was_set(at, later);
    assert_eq!(by, Some(at.since(first.after(minute))));
    assert_eq!(kept.identity.clock_was_set(at, later), None);
    assert_eq!(kept.look(at), DAY);
    assert!(cert(&home, "hubCert.pem").not_before() > UnixTime::EARLIEST_PLAUSIBLE);
    assert_ne!(home.token("launcher"), token);
    let token = home.token("launcher");
    assert_eq!(kept.look(at), DAY);
    assert_eq!(home.token("launcher"), token, "once is enough");
}

#[test]
fn what_cannot_be_renewed_is_not_tried_for_ever() {
    let home = Home::new();
    let certs = &home.settings.folders.certs;
    home.settings.folders.create().unwrap();
    let minute = Duration::from_secs(60);
    ca::replace_ca(certs, "Hub CA", minute, now()).unwrap();
    let kept = Kept::new(&home, now());
    let made = cert(&home, "hubCert.pem");
    assert_eq!(made.not_after(), cert(&home, "caCert.pem").not_after());
    let end = made.not_after();
    let late = UnixTime(end.0 - 10);
    assert_eq!(kept.look(late), 11, "until its end");
    assert_eq!(
        cert(&home, "hubCert.pem"),
        made,
        "a new one would end with the CA, too"
    );
    // Over: what was in force stays, and it is looked at again, soon at first.
    let over = late.after(minute);
    let pauses = std::iter::repeat_with(|| kept.look(over));
    let pauses: Vec<u64> = pauses.take(14).collect();
    let expected = [
        1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600,
    ];
    assert_eq!(pauses, expected);
    assert_eq!(cert(&home, "hubCert.pem"), made);
    // A new CA is the way out.
    ca::replace_ca(certs, "Hub CA", minute * 60, over).unwrap();
    kept.look(over);
    assert!(cert(&home, "hubCert.pem").not_after() > over);
}

#[test]
fn no_key_is_made_or_changed_while_the_core_runs() {
    let home = Home::new();
    let kept = Kept::new(&home, now());
    let key = std::fs::read_to_string(home.cert("hubKey.pem")).unwrap();
    let before = cert(&home, "hubCert.pem");
    std::fs::remove_file(home.cert("hubKey.pem")).unwrap();
    assert_eq!(kept.look(now()), 1);
    assert!(!home.cert("hubKey.pem").exists());
    let other = KeyPair::generate().unwrap();
    put(&home, "hubKey.pem", other.to_pem().expose());
    assert_eq!(kept.look(now()), 1);
    put(&home, "hubKey.pem", &key);
    assert_eq!(kept.look(now()), DAY);
    assert_eq!(cert(&home, "hubCert.pem"), before);
    // A CA in the middle of being replaced.
    let ca = std::fs::read_to_string(home.cert("caCert.pem")).unwrap();
    std::fs::remove_file(home.cert("caCert.pem")).unwrap();
    assert_eq!(kept.look(now()), 1);
    assert!(!home.cert("caCert.pem").exists());
    put(&home, "caCert.pem", &ca);
    assert_eq!(kept.look(now()), DAY);
    // A CA whose key is elsewhere only verifies, and is no trouble as long as nothing is to be signed.
    std::fs::remove_file(home.cert("caKey.pem")).unwrap();
    assert_eq!(kept.look(now()), DAY);
    // Another CA without its key cannot be followed.
    let other = tempfile::tempdir().unwrap();
    let life = Duration::from_secs(3600);
    let other = ca::replace_ca(other.path(), "Hub CA", life, now()).unwrap();
    put(&home, "caCert.pem", &other.cert_pem);
    assert_eq!(kept.look(now()), 1);
    assert_eq!(cert(&home, "hubCert.pem"), before);
}

#[test]
fn the_ca_before_is_trusted_for_a_day_by_a_clock_nobody_sets() {
    let home = Home::new();
    let kept = Kept::new(&home, now());
    let certs = &home.settings.folders.certs;
    let life = Duration::from_secs(3600);
    let start = now();
    for _ in 0..6 {
        ca::replace_ca(certs, "Hub CA", life, start).unwrap();
        let next = kept.identity.look(&kept.auth, start, kept.begun);
        assert_eq!(next.or, Some(kept.begun + Duration::from_secs(DAY)));
    }
    // The wall clock may say what it likes.
    let far = UnixTime(start.0 + 1000);
    let next = kept.identity.look(&kept.auth, far, kept.begun);
    assert!(next.or.is_some());
    let over = kept.begun + Duration::from_secs(DAY);
    let next = kept.identity.look(&kept.auth, far, over);
    assert_eq!(next.or, None);
}

#[test]
fn a_ca_elsewhere_is_followed_by_its_copy() {
    let mut home = Home::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let at = |name: &str| Some(elsewhere.path().join(name));
    home.settings.config.files.ca_cert = at("caCert.pem");
    home.settings.config.files.ca_key = at("caKey.pem");
    let kept = Kept::new(&home, now());
    let life = Duration::from_secs(3600);
    let new = ca::replace_ca(elsewhere.path(), "Hub CA", life, now()).unwrap();
    kept.look(now());
    assert_eq!(cert(&home, "caCert.pem"), new.cert);
    assert!(cert(&home, "hubCert.pem").is_signed_by(&new.cert));
    let watched = kept.identity.places.watched();
    assert_eq!(watched.len(), 2);
    assert_eq!(watched[elsewhere.path()], ["caCert.pem", "caKey.pem"]);
}
