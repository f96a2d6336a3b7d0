use proptest::prelude::*;

use super::*;
use crate::testing::{mode, names, under_shell, vector};

/// A seed as a NATS core writes it; of no account.
const NATS_SEED: &str = "SUAMK2FG4MI6UE3ACF3FK3OIQBCEIEZV7NSWFFEW63UXMRLFM2XLAXK4GY";

fn credentials() -> serde_json::Value {
    serde_json::from_str(&vector("credentials.json")).unwrap()
}

#[test]
fn the_golden_keys_are_read_and_written_as_the_hub_does() {
    let text = vector("launcher.key");
    let pair = KeyPair::from_pem(&text).unwrap();
    let expected = credentials();
    assert_eq!(pair.public_text(), expected["launcher.pub"]);
    assert_eq!(pair.public_text().len(), 124);
    assert_eq!(pair.to_pem().expose(), text);
    let hub = KeyPair::from_pem(&vector("hubKey.pem")).unwrap();
    assert_eq!(hub.public_text(), expected["jwt iss (hub public key)"]);
    assert_eq!(
        PublicKey::from_text(&format!("{hub}\n", hub = hub.public_text())).unwrap(),
        *hub.public()
    );
}

#[test]
fn a_key_shows_its_public_half_only() {
    let pair = KeyPair::generate().unwrap();
    let shown = format!("{pair:?} {:?}", pair.to_pem());
    assert!(shown.contains(&pair.public_text()));
    assert!(!shown.contains("PRIVATE"));
    let body = pair.to_pem().expose().lines().nth(1).unwrap().to_owned();
    assert!(!shown.contains(&body));
}

#[test]
fn texts_that_are_no_key_are_told_apart() {
    let good = vector("launcher.key");
    let ed25519 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519)
        .unwrap()
        .serialize_pem();
    let old = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\n";
    for (text, fault) in [
        (" \n".to_owned(), KeyFault::Empty),
        (NATS_SEED.to_owned(), KeyFault::NatsSeed),
        (good[..100].to_owned(), KeyFault::Damaged),
        (good.replace("MIGH", "M!GH"), KeyFault::Damaged),
        ("hello".to_owned(), KeyFault::NoKey),
        (
            old.to_owned(),
            KeyFault::OldForm {
                label: "EC PRIVATE KEY",
            },
        ),
        (good.replace("MIGHAgEA", "MIGHAgEB"), KeyFault::NotP256),
        (ed25519, KeyFault::NotP256),
    ] {
        assert_eq!(KeyPair::from_pem(&text).unwrap_err(), fault, "{text}");
    }
    for bad in ["", "x", &"A".repeat(124), NATS_SEED] {
        assert!(PublicKey::from_text(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_first_start_creates_the_next_ones_find() {
    let folder = tempfile::tempdir().unwrap();
    let (made, origin) = load_or_create(folder.path(), "state").unwrap();
    assert_eq!(origin, KeyOrigin::Created);
    let (found, origin) = load_or_create(folder.path(), "state").unwrap();
    assert_eq!(origin, KeyOrigin::Found);
    assert_eq!(made.public(), found.public());
    assert_eq!(names(folder.path()), ["state.key", "state.pub"]);
    let public = std::fs::read_to_string(folder.path().join("state.pub")).unwrap();
    assert_eq!(public, found.public_text());
}

/// T15: the original makes a new pair then, and cannot write the key.
#[test]
fn a_missing_or_wrong_pub_follows_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let (pair, _) = load_or_create(folder.path(), "x").unwrap();
    let public = folder.path().join("x.pub");
    for spoil in ["", "other", "missing"] {
        std::fs::remove_file(&public).unwrap();
        if spoil != "missing" {
            std::fs::write(&public, spoil).unwrap();
        }
        let (again, origin) = load_or_create(folder.path(), "x").unwrap();
        assert_eq!(origin, KeyOrigin::PublicRewritten, "{spoil:?}");
        assert_eq!(again.public(), pair.public());
        assert_eq!(
            std::fs::read_to_string(&public).unwrap(),
            pair.public_text()
        );
        assert_eq!(mode(&public), PUBLIC_MODE);
    }
}

#[test]
fn an_unusable_key_is_kept_and_named_without_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.key");
    for text in ["", NATS_SEED, &vector("launcher.key")[..90]] {
        atomic::write(&path, text.as_bytes(), PRIVATE_MODE).unwrap();
        let error = load_or_create(folder.path(), "x").unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("x.key"), "{shown}");
        assert!(
            !shown.contains("MIGH") && !shown.contains("SUAM"),
            "{shown}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert_eq!(names(folder.path()), ["x.key"]);
    }
    atomic::write(&path, &[b'A'; 70_000], PRIVATE_MODE).unwrap();
    let error = load_or_create(folder.path(), "x").unwrap_err();
    assert!(matches!(error, KeyError::File(AtomicError::TooBig { .. })));
    assert!(matches!(
        load_or_create(folder.path(), "../x"),
        Err(KeyError::Id(_))
    ));
}

#[test]
fn all_that_create_at_once_end_with_one_pair() {
    let folder = tempfile::tempdir().unwrap();
    let keys: Vec<PublicKey> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| *load_or_create(folder.path(), "x").unwrap().0.public()))
            .collect();
        makers
            .into_iter()
            .map(|maker| maker.join().unwrap())
            .collect()
    });
    assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(
        load(&folder.path().join("x.key")).unwrap().public(),
        &keys[0]
    );
    assert_eq!(names(folder.path()), ["x.key", "x.pub"]);
}

fn modes_are_exact(folder: &Path) {
    load_or_create(folder, "x").unwrap();
    assert_eq!(mode(&folder.join("x.key")), 0o400);
    assert_eq!(mode(&folder.join("x.pub")), 0o444);
}

#[test]
fn modes_under_umask_0() {
    if let Some(folder) = under_shell("keys::tests::modes_under_umask_0", "umask 0") {
        modes_are_exact(&folder);
    }
}

#[test]
fn modes_under_umask_077() {
    if let Some(folder) = under_shell("keys::tests::modes_under_umask_077", "umask 077") {
        modes_are_exact(&folder);
    }
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let name = "keys::tests::a_full_disk_leaves_nothing_behind";
    let Some(folder) = under_shell(name, "trap '' XFSZ; ulimit -f 0") else {
        return;
    };
    let error = load_or_create(&folder, "x").unwrap_err();
    assert!(
        matches!(error, KeyError::File(AtomicError::Write { .. })),
        "{error:?}"
    );
    assert!(names(&folder).is_empty());
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        prop_assert!(KeyPair::from_pem(&text).is_err());
        prop_assert!(PublicKey::from_text(&text).is_err());
    }

    #[test]
    fn a_changed_byte_is_no_panic_and_no_other_key(at in 0usize..240, with in any::<u8>()) {
        let good = vector("launcher.key");
        let mut bytes = good.clone().into_bytes();
        bytes[at] = with;
        if let Ok(text) = String::from_utf8(bytes)
            && let Ok(pair) = KeyPair::from_pem(&text)
        {
            let expected = KeyPair::from_pem(&good).unwrap();
            prop_assert_eq!(pair.public(), expected.public());
        }
    }
}
