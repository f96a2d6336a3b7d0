use std::net::IpAddr;

use super::*;
use crate::files::{HUB_CERT, HUB_KEY};
use crate::testing::{mode, names, under_shell};

const NOW: UnixTime = UnixTime(1_800_000_000);
const DAYS: Duration = Duration::from_secs(DAY);

fn later(days: u32) -> UnixTime {
    NOW.after(DAYS * days)
}

fn here() -> ServerNames {
    ServerNames::new("hubhost", &["192.168.1.10".parse::<IpAddr>().unwrap()])
}

fn content(folder: &Path) -> Vec<(String, Vec<u8>)> {
    names(folder)
        .into_iter()
        .map(|name| {
            let bytes = std::fs::read(folder.join(&name)).unwrap();
            (name, bytes)
        })
        .collect()
}

#[test]
fn the_first_start_makes_everything_the_second_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path();
    let ca = load_or_create_ca(certs, NOW).unwrap();
    assert_eq!(ca.origin, CaOrigin::Created);
    assert_eq!(ca.cert.common_name(), Some("hiveot"));
    assert!(ca.cert.is_ca() && ca.cert.is_signed_by(&ca.cert));
    assert_eq!(ca.cert.not_before(), UnixTime(NOW.0 - 300));
    assert_eq!(ca.cert.not_after(), later(3650));
    let name = "CN=hiveot,ST=BC,L=HiveOT zone,O=HiveOT,C=CA";
    assert_eq!((ca.cert.subject(), ca.cert.issuer()), (name, name));
    assert_eq!(ca.cert.version(), 3);
    let server = load_or_create_server(certs, &ca, &here(), NOW).unwrap();
    assert_eq!(server.origin, ServerOrigin::Made { why: "is missing" });
    assert_eq!(server.cert.common_name(), Some("nats-hubhost"));
    assert_eq!(server.cert.dns_names(), ["localhost", "hubhost"]);
    let addresses: Vec<String> = server
        .cert
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(addresses, ["127.0.0.1", "::1", "192.168.1.10"]);
    assert_eq!(server.cert.not_after(), later(365));
    assert!(server.cert.is_signed_by(&ca.cert) && server.cert.is_of_key(server.key.public()));
    assert!(!server.cert.is_ca());
    assert_eq!(names(certs), [CA_CERT, CA_KEY, HUB_CERT, HUB_KEY]);
    for (name, bits) in [
        (CA_CERT, 0o444),
        (CA_KEY, 0o400),
        (HUB_CERT, 0o444),
        (HUB_KEY, 0o400),
    ] {
        assert_eq!(mode(&certs.join(name)), bits, "{name}");
    }

    let before = content(certs);
    let ca = load_or_create_ca(certs, later(1)).unwrap();
    assert_eq!(ca.origin, CaOrigin::Found);
    assert_eq!(
        load_or_create_server(certs, &ca, &here(), later(1))
            .unwrap()
            .origin,
        ServerOrigin::Found
    );
    assert_eq!(content(certs), before);
}

#[test]
fn modes_under_umask_0() {
    if let Some(folder) = under_shell("ca::tests::modes_under_umask_0", "umask 0") {
        let ca = load_or_create_ca(&folder, NOW).unwrap();
        load_or_create_server(&folder, &ca, &here(), NOW).unwrap();
        for (name, bits) in [
            (CA_CERT, 0o444),
            (CA_KEY, 0o400),
            (HUB_CERT, 0o444),
            (HUB_KEY, 0o400),
        ] {
            assert_eq!(mode(&folder.join(name)), bits, "{name}");
        }
    }
}

#[test]
fn a_full_disk_makes_no_half_ca() {
    let Some(folder) = under_shell(
        "ca::tests::a_full_disk_makes_no_half_ca",
        "trap '' XFSZ; ulimit -f 0",
    ) else {
        return;
    };
    assert!(matches!(
        load_or_create_ca(&folder, NOW),
        Err(CaError::File(AtomicError::Write { .. }))
    ));
    assert!(names(&folder).is_empty());
}

#[test]
fn serial_numbers_differ() {
    let key = KeyPair::generate().unwrap();
    let one = issue::self_signed(&key, "x", DAYS, NOW).unwrap();
    let other = issue::self_signed(&key, "x", DAYS, NOW).unwrap();
    assert_ne!(one, other);
}

/// T35: the original makes a new CA then, and voids every certificate.
#[test]
fn a_lost_ca_key_never_leads_to_another_ca() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path();
    let ca = load_or_create_ca(certs, NOW).unwrap();
    load_or_create_server(certs, &ca, &here(), NOW).unwrap();
    std::fs::remove_file(certs.join(CA_KEY)).unwrap();
    let before = content(certs);

    let ca = load_or_create_ca(certs, NOW).unwrap();
    assert!(matches!(
        &ca.signing,
        Signing::Impossible(CaError::KeyMissing { .. })
    ));
    assert!(ca.issuer().is_none());
    assert_eq!(
        load_or_create_server(certs, &ca, &here(), NOW)
            .unwrap()
            .origin,
        ServerOrigin::Found
    );
    // Due, or without a new name, it goes on as long as it can.
    for (names, now) in [
        (here(), later(300)),
        (ServerNames::new("renamed", &[]), NOW),
    ] {
        let kept = load_or_create_server(certs, &ca, &names, now).unwrap();
        assert!(matches!(kept.origin, ServerOrigin::KeptInNeed { .. }));
    }
    let error = load_or_create_server(certs, &ca, &here(), later(366))
        .unwrap_err()
        .to_string();
    for part in ["hubCert.pem is expired", "caKey.pem", "hubcli cca --force"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(content(certs), before);

    // With the hub's key lost too there is nothing to go on with, and no key is made that would hide it.
    std::fs::remove_file(certs.join(HUB_KEY)).unwrap();
    assert!(load_or_create_server(certs, &ca, &here(), NOW).is_err());
    assert_eq!(names(certs), [CA_CERT, HUB_CERT]);
}

#[test]
fn a_foreign_or_broken_ca_key_signs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path();
    load_or_create_ca(certs, NOW).unwrap();
    let other = KeyPair::generate().unwrap();
    atomic::write(
        &certs.join(CA_KEY),
        other.to_pem().expose().as_bytes(),
        0o400,
    )
    .unwrap();
    let ca = load_or_create_ca(certs, NOW).unwrap();
    assert!(matches!(
        &ca.signing,
        Signing::Impossible(CaError::KeyMismatch { .. })
    ));
    for (text, fault) in [
        ("", KeyFault::Empty),
        ("-----BEGIN PRIVATE KEY-----\nMIGH", KeyFault::Damaged),
    ] {
        atomic::write(&certs.join(CA_KEY), text.as_bytes(), 0o400).unwrap();
        let ca = load_or_create_ca(certs, NOW).unwrap();
        assert!(
            matches!(&ca.signing, Signing::Impossible(CaError::KeyContent { fault: found, .. }) if *found == fault),
            "{:?}",
            ca.signing
        );
    }
}

#[test]
fn a_ca_certificate_that_does_not_serve_is_an_error_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path();
    let ca = load_or_create_ca(certs, NOW).unwrap();
    let server = load_or_create_server(certs, &ca, &here(), NOW).unwrap();
    let error = load_or_create_ca(certs, later(3651)).unwrap_err();
    assert!(matches!(error, CaError::Expired { .. }));
    assert!(
        load_or_create_ca(certs, UnixTime(0)).is_ok(),
        "a clock that is not set yet"
    );
    for (text, wanted) in [
        ("", "holds no PEM block"),
        (&ca.cert_pem[..200], "half-written"),
        (&server.cert_pem, "not the certificate of a CA"),
    ] {
        atomic::write(&certs.join(CA_CERT), text.as_bytes(), 0o444).unwrap();
        let before = content(certs);
        let error = load_or_create_ca(certs, NOW).unwrap_err().to_string();
        assert!(
            error.contains(wanted) && error.contains("hubcli cca --force"),
            "{error}"
        );
        assert_eq!(content(certs), before);
    }
}

/// So ends a first start that was killed between key and certificate.
#[test]
fn a_key_without_certificate_gets_one_and_what_it_signed_stays_valid() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path();
    let ca = load_or_create_ca(certs, NOW).unwrap();
    let server = load_or_create_server(certs, &ca, &here(), NOW).unwrap();
    std::fs::remove_file(certs.join(CA_CERT)).unwrap();
    let again = load_or_create_ca(certs, later(1)).unwrap();
    assert_eq!(again.origin, CaOrigin::CertRemade);
    assert!(again.issuer().is_some());
    assert!(server.cert.is_signed_by(&again.cert));
    assert_eq!(
        load_or_create_server(certs, &again, &here(), NOW)
            .unwrap()
            .origin,
        ServerOrigin::Found
    );

    std::fs::remove_file(certs.join(CA_CERT)).unwrap();
    atomic::write(&certs.join(CA_KEY), b"", 0o400).unwrap();
    assert!(matches!(
        load_or_create_ca(certs, NOW),
        Err(CaError::KeyContent { .. })
    ));
    assert_eq!(names(certs), [CA_KEY, HUB_CERT, HUB_KEY]);
}

#[test]
fn the_server_certificate_is_renewed_for_every_reason_and_the_key_never() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path();
    let ca = load_or_create_ca(certs, NOW).unwrap();
    let key = *load_or_create_server(certs, &ca, &here(), NOW)
        .unwrap()
        .key
        .public();
    let renewed = |ca: &Ca, names: &ServerNames, now| {
        let server = load_or_create_server(certs, ca, names, now).unwrap();
        assert_eq!(*server.key.public(), key);
        assert!(server.cert.is_signed_by(&ca.cert));
        server.origin
    };
    assert_eq!(renewed(&ca, &here(), later(240)), ServerOrigin::Found);
    assert_eq!(
        renewed(&ca, &here(), later(245)),
        ServerOrigin::Made {
            why: "is near its end"
        }
    );
    assert_eq!(
        renewed(&ca, &here(), later(900)),
        ServerOrigin::Made { why: "is expired" }
    );
    let moved = ServerNames::new("hubhost", &["10.0.0.7".parse().unwrap()]);
    assert_eq!(
        renewed(&ca, &moved, later(900)),
        ServerOrigin::Made {
            why: "lacks a name of this machine"
        }
    );
    // Fewer names are no reason.
    assert_eq!(
        renewed(&ca, &ServerNames::new("", &[]), later(900)),
        ServerOrigin::Found
    );
    atomic::write(&certs.join(HUB_CERT), b"x", 0o444).unwrap();
    assert_eq!(
        renewed(&ca, &moved, later(900)),
        ServerOrigin::Made { why: "is damaged" }
    );
    let new_ca = replace_ca(certs, "Hub CA", DAYS * 1825, later(900)).unwrap();
    assert_eq!(new_ca.cert.common_name(), Some("Hub CA"));
    assert_eq!(
        renewed(&new_ca, &moved, later(900)),
        ServerOrigin::Made {
            why: "is signed by another CA"
        }
    );
}

#[test]
fn a_clock_that_was_never_set_spoils_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path();
    for unset in [UnixTime(0), UnixTime(400)] {
        let ca = replace_ca(certs, "Hub CA", DAYS * 3650, unset).unwrap();
        let server = load_or_create_server(certs, &ca, &here(), unset).unwrap();
        let again = load_or_create_server(certs, &ca, &here(), unset).unwrap();
        assert_eq!(again.origin, ServerOrigin::Found);
        // Those who have the right time already take them, too.
        let set = UnixTime::EARLIEST_PLAUSIBLE.after(DAYS * 1200);
        for cert in [&ca.cert, &server.cert] {
            assert_eq!(cert.validity(unset), Validity::Valid);
            assert_eq!(cert.validity(set), Validity::Valid);
            assert!(cert.not_before() >= UnixTime(0));
        }
        let renewed = load_or_create_server(certs, &ca, &here(), set).unwrap();
        let why = "was made before the clock was set";
        assert_eq!(renewed.origin, ServerOrigin::Made { why });
        assert_eq!(renewed.cert.not_after(), set.after(SERVER_LIFE));
        assert_eq!(renewed.cert.not_before(), set.before(EARLY));
        let again = load_or_create_server(certs, &ca, &here(), set).unwrap();
        assert_eq!(again.origin, ServerOrigin::Found);
        // The battery is still missing at the next start.
        let again = load_or_create_server(certs, &ca, &here(), unset).unwrap();
        assert_eq!(again.origin, ServerOrigin::Found);
    }
}

#[test]
fn a_server_certificate_of_a_clock_that_was_fast_is_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path();
    let ca = load_or_create_ca(certs, NOW).unwrap();
    let ahead = NOW.after(DAYS * 300);
    load_or_create_server(certs, &ca, &here(), ahead).unwrap();
    let server = load_or_create_server(certs, &ca, &here(), NOW).unwrap();
    let why = "is not valid yet";
    assert_eq!(server.origin, ServerOrigin::Made { why });
    assert_eq!(server.cert.validity(NOW), Validity::Valid);
    // Nothing better can be made before the CA's own time.
    let early = NOW.before(DAYS * 10);
    let server = load_or_create_server(certs, &ca, &here(), early).unwrap();
    assert_eq!(server.origin, ServerOrigin::Found);
    assert_eq!(server.due(&ca, early), server.cert.not_before());
}

#[test]
fn a_renewal_that_would_not_help_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path();
    let second = Duration::from_secs(1);
    let ca = replace_ca(certs, "Hub CA", second * 30, NOW).unwrap();
    let server = load_or_create_server(certs, &ca, &here(), NOW).unwrap();
    let end = server.cert.not_after();
    assert_eq!(end, NOW.after(second * 30));
    assert_eq!(server.due(&ca, NOW), end.after(second));
    // Its last third, to which it was born: no loop of renewals until the end.
    for now in [NOW, NOW.after(second * 29)] {
        let server = load_or_create_server(certs, &ca, &here(), now).unwrap();
        assert_eq!(server.origin, ServerOrigin::Found);
    }
    let ca = replace_ca(certs, "Hub CA", DAYS * 3650, NOW).unwrap();
    let server = load_or_create_server(certs, &ca, &here(), NOW).unwrap();
    let due = server.due(&ca, NOW);
    assert!(due > NOW.after(DAYS * 240) && due < NOW.after(DAYS * 245));
    let server = load_or_create_server(certs, &ca, &here(), due).unwrap();
    let why = "is near its end";
    assert_eq!(server.origin, ServerOrigin::Made { why });
}

#[test]
fn no_certificate_outlives_its_ca() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path();
    let ca = replace_ca(certs, "Hub CA", DAYS * 30, NOW).unwrap();
    let server = load_or_create_server(certs, &ca, &here(), NOW).unwrap();
    assert_eq!(server.cert.not_after(), ca.cert.not_after());
}

#[test]
fn a_client_certificate_names_client_and_role() {
    let folder = tempfile::tempdir().unwrap();
    let ca = load_or_create_ca(folder.path(), NOW).unwrap();
    let key = KeyPair::generate().unwrap();
    let subject = ClientSubject {
        client_id: "zwavejs",
        unit: "service",
    };
    let pem = ca
        .issuer()
        .unwrap()
        .client(subject, key.public(), DAYS * 365, NOW)
        .unwrap();
    let cert = Certificate::from_pem(&pem).unwrap();
    assert_eq!(cert.common_name(), Some("zwavejs"));
    assert_eq!(cert.unit(), Some("service"));
    assert!(cert.is_of_key(key.public()) && cert.is_signed_by(&ca.cert) && !cert.is_ca());
    assert_eq!(cert.public_key().as_ref(), Some(key.public()));
    assert_eq!(cert.not_before(), ca.cert.not_before());
}

#[test]
fn a_strange_host_name_stops_no_hub() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path();
    let ca = load_or_create_ca(certs, NOW).unwrap();
    for name in ["", "localhost", "böse", "a b", "*", "my_host.lan"] {
        let server = load_or_create_server(certs, &ca, &ServerNames::new(name, &[]), NOW).unwrap();
        assert!(
            server.cert.dns_names().contains(&"localhost".to_owned()),
            "{name}"
        );
    }
}

/// A user's own CA may have another kind of key.
#[test]
fn an_ed25519_ca_signs_too() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let cert = params.self_signed(&key).unwrap();
    atomic::write(&certs.join(CA_CERT), cert.pem().as_bytes(), 0o444).unwrap();
    atomic::write(&certs.join(CA_KEY), key.serialize_pem().as_bytes(), 0o400).unwrap();
    let ca = load_or_create_ca(certs, NOW).unwrap();
    let server = load_or_create_server(certs, &ca, &here(), NOW).unwrap();
    assert!(server.cert.is_signed_by(&ca.cert));
}

#[test]
fn a_login_gets_a_certificate_once_and_another_when_it_does_not_serve() {
    let folder = tempfile::tempdir().unwrap();
    let certs = folder.path();
    let now = UnixTime(1_800_000_000);
    let ca = load_or_create_ca(certs, now).unwrap();
    let day = Duration::from_secs(DAY);
    let plan = ClientLife {
        life: 100 * day,
        renew_at: 0.66,
    };
    let subject = ClientSubject {
        client_id: "admin",
        unit: "admin",
    };
    let see = |ca: &Ca, now| load_or_create_client(certs, ca, subject, plan, now);
    let text = || std::fs::read_to_string(certs.join("adminCert.pem")).unwrap();
    let (origin, until) = see(&ca, now).unwrap();
    assert_eq!(origin, ClientOrigin::Made);
    assert!(until > now.after(65 * day) && until < now.after(67 * day));
    let first = text();
    assert_eq!(see(&ca, now).unwrap(), (ClientOrigin::Found, until));
    assert_eq!(text(), first);
    // Due, of another role, of another CA.
    assert_eq!(see(&ca, until).unwrap().0, ClientOrigin::Made);
    let second = text();
    assert_ne!(second, first);
    let service = ClientSubject {
        unit: "service",
        ..subject
    };
    let (origin, _) = load_or_create_client(certs, &ca, service, plan, until).unwrap();
    assert_eq!(origin, ClientOrigin::Made);
    let other = replace_ca(certs, "Hub CA", CA_LIFE, now).unwrap();
    let (origin, _) = load_or_create_client(certs, &other, service, plan, until).unwrap();
    assert_eq!(origin, ClientOrigin::Made);
    let third = text();
    // Without the CA's key one that is due serves to its end, and then the file is named.
    std::fs::remove_file(certs.join("caKey.pem")).unwrap();
    let bare = load_ca(certs, until).unwrap();
    let due = until.after(90 * day);
    let (origin, end) = load_or_create_client(certs, &bare, service, plan, due).unwrap();
    assert_eq!(origin, ClientOrigin::KeptInNeed);
    let error = load_or_create_client(certs, &bare, service, plan, end.after(day)).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("adminCert.pem is expired") && error.contains("caKey.pem"),
        "{error}"
    );
    assert_eq!(text(), third);
}
