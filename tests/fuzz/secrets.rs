//! What proves who somebody is: tokens, keys, certificates, the password file.

use crate::{Corpus, run, vectors};
use creds::check::Certificate;
use creds::token::{self, TokenOwner, judge_token};
use creds::{Claims, KeyPair, PublicKey, UnixTime};
use mqttcore::clients::Clients;
use std::time::Duration;

const NOW: UnixTime = UnixTime(1_700_000_000);

#[test]
fn tokens() {
    let golden = vectors("credentials.json");
    let token = golden["launcher.token"].as_str().unwrap();
    let hub = PublicKey::from_text(golden["jwt iss (hub public key)"].as_str().unwrap()).unwrap();
    let key = golden["launcher.pub"].as_str().unwrap();
    let expected = token::verify(token, &hub, "launcher", NOW).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    // Without a signature, with no algorithm, and with parts of another.
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let seeds = [
        token.to_owned(),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{}.e30.{}", parts[0], parts[2]),
        parts[1].to_owned(),
        "...".to_owned(),
    ];
    run(
        "tokens",
        4,
        &Corpus::of(seeds, &[".", "e30", "=", "eyJ", "-", "_", " ", "\n"]),
        |input| {
            let text = String::from_utf8_lossy(input);
            if let Ok(claims) = token::verify(&text, &hub, "launcher", NOW) {
                assert_eq!(claims, expected, "another token is accepted");
            }
            assert!(token::verify(&text, &hub, "admin", NOW).is_err());
            let _: Result<Claims, _> = token::peek(&text);
            let owner = TokenOwner {
                client_id: "launcher",
                public_text: key,
                hub_public_text: None,
            };
            let _ = judge_token(&text, owner, NOW, 0.66);
        },
    );
}

#[test]
fn claims() {
    // What is inside of a token, signed or not.
    let hub = KeyPair::generate().unwrap();
    let golden = vectors("credentials.json");
    let inside = golden["expected claims"].to_string();
    let words = [
        "null",
        "\"exp\":",
        "1e300",
        "-1",
        "9223372036854775807",
        "\"iss\":1",
        "[]",
        "\"role\":\"\"",
        "\"clientID\"",
    ];
    let seeds = [
        inside,
        "{}".to_owned(),
        "{\"exp\":18446744073709551615,\"iat\":-9}".to_owned(),
    ];
    run("claims", 4, &Corpus::of(seeds, &words), |input| {
        let head = "eyJhbGciOiJFUzI1NiIsInR5cCI6IkpXVCJ9";
        let text = format!("{head}.{}.AAAA", base64url(input));
        assert!(token::verify(&text, hub.public(), "launcher", NOW).is_err());
        if let Ok(claims) = token::peek(&text) {
            let owner = TokenOwner {
                client_id: &claims.client_id,
                public_text: &claims.sub,
                hub_public_text: None,
            };
            for now in [UnixTime(0), NOW, UnixTime(i64::MAX), UnixTime(i64::MIN)] {
                let _ = judge_token(&text, owner, now, 0.66);
            }
        }
    });
}

fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            text.push(char::from(LETTERS[bits >> (18 - 6 * at) & 63]));
        }
    }
    text
}

#[test]
fn password_files() {
    let seeds = [
        r#"{"admin":{"clientID":"admin","clientType":"user","displayName":"Administrator","pubKey":"MFk=","updatedMSE":1698434814000,"role":"admin","PasswordHash":"$2a$10$abc"}}"#,
        r#"{"a":{"PasswordHash":""},"b":{"role":"viewer","tokenValidityDays":-3,"later":{"x":[1,2.5,null]}}}"#,
        r#"{"a":{"clientID":"b"},"a":{"clientID":"c"}}"#,
        "{}",
        "",
        " \n",
        "[]",
        r#"{"":{}}"#,
    ];
    let words = [
        "{",
        "}",
        "\"a\":",
        "null",
        "\"clientID\":",
        "\"role\":",
        "1.5",
        "\"\\u0000\"",
        "PasswordHash",
        ",",
        "[",
        "\u{feff}",
    ];
    run("passwords", 1, &Corpus::of(seeds, &words), |input| {
        let Ok(clients) = Clients::parse(input) else {
            return;
        };
        let written = clients.to_bytes();
        let again = Clients::parse(&written).unwrap();
        assert_eq!(again, clients, "{}", String::from_utf8_lossy(&written));
        assert_eq!(again.to_bytes(), written);
        assert_eq!(clients.profiles().len(), clients.count());
        // Half of it is refused or is another one; it is never taken for the same.
        let mut taken = Clients::default();
        let changed = taken.take_over(&Clients::default(), &clients);
        assert!(changed.len() <= clients.count());
    });
}

/// A CA with a server certificate, as the core makes them.
fn pems() -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let now = UnixTime(1_700_000_000);
    let _ = creds::ca::load_or_create_ca(folder.path(), now).unwrap();
    let _ = creds::keys::load_or_create(folder.path(), "lamp").unwrap();
    let mut all: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    assert!(all.len() >= 4, "{all:?}");
    all.push("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".to_owned());
    all.push("-----BEGIN PRIVATE KEY-----\nAAAA\n".to_owned());
    all.push("SUAGO4SLI4ZMMWLIEQDMQSGKZY5SVSQCQ7XDGK2ZLYZW2RQ2C4ZAN3ETIA".to_owned());
    all
}

#[test]
fn keys_and_certificates() {
    let words = [
        "-----BEGIN ",
        "-----END ",
        "CERTIFICATE-----",
        "PRIVATE KEY-----",
        "\n",
        "\r\n",
        "=",
        "MII",
        "EC PRIVATE KEY",
        "AAAA",
    ];
    run("pem", 4, &Corpus::of(pems(), &words), |input| {
        let text = String::from_utf8_lossy(input);
        if let Ok(pair) = KeyPair::from_pem(&text) {
            let again = KeyPair::from_pem(pair.to_pem().expose()).unwrap();
            assert_eq!(again.public_text(), pair.public_text());
        }
        if let Ok(key) = PublicKey::from_text(&text) {
            assert_eq!(PublicKey::from_text(&key.text()).unwrap(), key);
            assert_eq!(PublicKey::from_spki_der(&key.spki_der()).unwrap(), key);
        }
        for read in [Certificate::from_pem(&text), Certificate::from_der(input)] {
            let Ok(certificate) = read else {
                continue;
            };
            look_at(&certificate);
        }
    });
}

#[test]
fn certificates_in_der() {
    let seeds: Vec<Vec<u8>> = pems()
        .iter()
        .filter_map(|pem| Certificate::from_pem(pem).ok())
        .map(|certificate| certificate.der().to_vec())
        .collect();
    assert!(!seeds.is_empty());
    run(
        "der",
        2,
        &Corpus::of(seeds, &["0\u{3}", "\0", "\u{7f}"]),
        |input| {
            if let Ok(certificate) = Certificate::from_der(input) {
                look_at(&certificate);
            }
            let _ = PublicKey::from_spki_der(input);
        },
    );
}

fn look_at(certificate: &Certificate) {
    let again = Certificate::from_der(certificate.der()).unwrap();
    assert_eq!(again.subject(), certificate.subject());
    assert!(certificate.subject().len() <= 8 * certificate.der().len());
    for now in [UnixTime(0), NOW, UnixTime(i64::MAX)] {
        let _ = certificate.validity(now);
    }
    let due = certificate.renew_after(0.66);
    if certificate.not_before() <= certificate.not_after() {
        assert!(due >= certificate.not_before() && due <= certificate.not_after());
    }
    let _ = certificate.is_signed_by(certificate);
    let _: Duration = certificate.not_after().since(certificate.not_before());
}
