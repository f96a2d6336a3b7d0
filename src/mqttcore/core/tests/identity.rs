//! Certificates and tokens of a core that runs for years.

use super::*;
use creds::ca;
use creds::check::Certificate;
use std::time::Duration;

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

    let year = Duration::from_secs(365 * 86_400);
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

/// What a core of this home was started with at `start`.
fn identity(home: &Home, start: UnixTime) -> crate::identity::Identity {
    home.settings.folders.create().unwrap();
    let places = crate::credentials::Places {
        certs: home.settings.folders.certs.clone(),
        files: crate::config::KeyFiles::default(),
        host: None,
        tokens: Vec::new(),
    };
    let ca = ca::load_or_create_ca_at(&places.ca(), start).unwrap();
    let names = crate::credentials::server_names(None);
    let presence =
        crate::credentials::presence(&places.server(), &places.files, ca, &names, start).unwrap();
    crate::identity::Identity::new(places, presence).unwrap()
}

#[test]
fn a_clock_that_starts_in_1970_and_is_set_later_locks_nobody_out() {
    let home = Home::new();
    let first = UnixTime(100);
    let identity = identity(&home, first);
    let made = cert(&home, "hubCert.pem");
    let pause = identity.look(first);
    assert_eq!(pause, Duration::from_secs(1), "it will be set any moment");
    assert_eq!(cert(&home, "hubCert.pem"), made, "new dates are no better");
    // Some years after the earliest moment there can be, when that certificate is over.
    let set = UnixTime::EARLIEST_PLAUSIBLE.after(Duration::from_secs(5 * 365 * 86_400));
    let pause = identity.look(set);
    assert_eq!(pause, Duration::from_secs(30));
    let valid = cert(&home, "hubCert.pem").validity(set);
    assert_eq!(valid, creds::check::Validity::Valid);
    let ca = cert(&home, "caCert.pem").validity(set);
    assert_eq!(ca, creds::check::Validity::Valid);
}

#[test]
fn what_cannot_be_renewed_is_not_tried_for_ever() {
    let home = Home::new();
    let certs = &home.settings.folders.certs;
    home.settings.folders.create().unwrap();
    let minute = Duration::from_secs(60);
    ca::replace_ca(certs, "Hub CA", minute, now()).unwrap();
    let identity = identity(&home, now());
    let made = cert(&home, "hubCert.pem");
    assert_eq!(made.not_after(), cert(&home, "caCert.pem").not_after());
    let late = now().after(Duration::from_secs(50));
    assert_eq!(identity.look(late), Duration::from_secs(30));
    assert_eq!(
        cert(&home, "hubCert.pem"),
        made,
        "a new one would end with the CA, too"
    );
    // Over: what was in force stays, and it is looked at again, soon at first.
    let over = late.after(minute);
    assert_eq!(identity.look(over), Duration::from_secs(1));
    assert_eq!(identity.look(over), Duration::from_secs(30));
    assert_eq!(cert(&home, "hubCert.pem"), made);
}

#[test]
fn no_key_is_made_or_changed_while_the_core_runs() {
    let home = Home::new();
    let identity = identity(&home, now());
    let key = std::fs::read_to_string(home.cert("hubKey.pem")).unwrap();
    let before = cert(&home, "hubCert.pem");
    std::fs::remove_file(home.cert("hubKey.pem")).unwrap();
    assert_eq!(identity.look(now()), Duration::from_secs(1));
    assert!(!home.cert("hubKey.pem").exists());
    let other = KeyPair::generate().unwrap();
    put(&home, "hubKey.pem", other.to_pem().expose());
    assert_eq!(identity.look(now()), Duration::from_secs(1));
    put(&home, "hubKey.pem", &key);
    assert_eq!(identity.look(now()), Duration::from_secs(30));
    assert_eq!(cert(&home, "hubCert.pem"), before);
    // A CA in the middle of being replaced.
    std::fs::remove_file(home.cert("caCert.pem")).unwrap();
    assert_eq!(identity.look(now()), Duration::from_secs(1));
    assert!(!home.cert("caCert.pem").exists());
    // A CA whose key is elsewhere only verifies, and is no trouble as long as nothing is to be signed.
    let home = Home::new();
    let identity = super::identity::identity(&home, now());
    std::fs::remove_file(home.cert("caKey.pem")).unwrap();
    assert_eq!(identity.look(now()), Duration::from_secs(30));
}
