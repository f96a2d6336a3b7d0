//! Tokens against the golden vectors and against what must be refused.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::*;
use crate::testing::vector;

const NOW: UnixTime = UnixTime(1_800_000_000);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

struct Golden {
    token: String,
    claims: serde_json::Value,
    hub: KeyPair,
    launcher: KeyPair,
}

fn golden() -> Golden {
    let all: serde_json::Value = serde_json::from_str(&vector("credentials.json")).unwrap();
    Golden {
        token: all["launcher.token"].as_str().unwrap().to_owned(),
        claims: all["expected claims"].clone(),
        hub: KeyPair::from_pem(&vector("hubKey.pem")).unwrap(),
        launcher: KeyPair::from_pem(&vector("launcher.key")).unwrap(),
    }
}

fn own_claims(golden: &Golden) -> Claims {
    let key = golden.launcher.public_text();
    Claims::new(
        "launcher",
        "service",
        "service",
        &key,
        golden.hub.public(),
        NOW,
        YEAR,
    )
}

/// A token with any header and claims, signed rightly.
fn signed(hub: &KeyPair, header: &str, claims: &str) -> String {
    use jsonwebtoken::crypto;
    es256::install();
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let key = EncodingKey::from_ec_der(hub.pkcs8_der());
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::ES256).unwrap();
    format!("{message}.{signature}")
}

#[test]
fn the_golden_token_lets_its_owner_in_and_nobody_else() {
    let golden = golden();
    let claims = verify(&golden.token, golden.hub.public(), "launcher", NOW).unwrap();
    assert_eq!(serde_json::to_value(&claims).unwrap(), golden.claims);
    assert_eq!(peek(&golden.token).unwrap(), claims);
    assert_eq!(
        verify(&golden.token, golden.hub.public(), "admin", NOW),
        Err(TokenError::OtherClient {
            client_id: "launcher".to_owned()
        })
    );
    assert_eq!(
        verify(&golden.token, golden.launcher.public(), "launcher", NOW),
        Err(TokenError::Signature)
    );
}

#[test]
fn what_we_sign_we_accept_and_it_has_the_form_of_the_go_hub() {
    let golden = golden();
    let claims = own_claims(&golden);
    let token = sign(&golden.hub, &claims).unwrap();
    assert_eq!(
        verify(token.expose(), golden.hub.public(), "launcher", NOW).unwrap(),
        claims
    );
    let parts: Vec<Vec<u8>> = token
        .expose()
        .split('.')
        .map(|part| URL_SAFE_NO_PAD.decode(part).unwrap())
        .collect();
    let header: serde_json::Value = serde_json::from_slice(&parts[0]).unwrap();
    assert_eq!(header, serde_json::json!({"alg": "ES256", "typ": "JWT"}));
    assert_eq!(parts[2].len(), 64);
    let golden_parts: Vec<&str> = golden.token.split('.').collect();
    let their_claims = URL_SAFE_NO_PAD.decode(golden_parts[1]).unwrap();
    let same = Claims {
        exp: 4_102_444_800,
        iat: 1_698_434_814,
        ..claims
    };
    assert_eq!(
        serde_json::to_vec(&same).unwrap(),
        their_claims,
        "byte for byte"
    );
    assert!(!format!("{token:?}").contains('.'));
}

#[test]
fn the_last_second_is_before_exp() {
    let golden = golden();
    let claims = own_claims(&golden);
    let token = sign(&golden.hub, &claims).unwrap();
    let check = |at: i64| {
        verify(
            token.expose(),
            golden.hub.public(),
            "launcher",
            UnixTime(at),
        )
        .map(|_| ())
    };
    assert_eq!(check(claims.exp - 1), Ok(()));
    assert_eq!(
        check(claims.exp),
        Err(TokenError::Expired { at: claims.exp })
    );
    // A clock that was never set refuses nobody.
    assert_eq!(check(0), Ok(()));
}

#[test]
fn other_algorithms_and_forged_headers_are_refused() {
    let golden = golden();
    let claims = serde_json::to_string(&own_claims(&golden)).unwrap();
    for algorithm in ["none", "HS256", "RS256", "ES384", "EdDSA", "es256", ""] {
        let token = signed(
            &golden.hub,
            &format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#),
            &claims,
        );
        assert!(
            verify(&token, golden.hub.public(), "launcher", NOW).is_err(),
            "{algorithm}"
        );
        assert!(peek(&token).is_err(), "{algorithm}");
    }
    let good = signed(&golden.hub, r#"{"alg":"ES256"}"#, &claims);
    assert!(verify(&good, golden.hub.public(), "launcher", NOW).is_ok());
    let unsigned = format!("{}.", good.rsplit_once('.').unwrap().0);
    assert_eq!(
        verify(&unsigned, golden.hub.public(), "launcher", NOW),
        Err(TokenError::Signature)
    );
}

/// The Go hub panics on these when they are correctly signed (HP 1.17).
#[test]
fn missing_and_mistyped_claims_are_errors() {
    let golden = golden();
    let whole = serde_json::to_value(own_claims(&golden)).unwrap();
    for claim in ["clientID", "clientType", "exp", "iss", "role"] {
        for spoilt in [
            None,
            Some(serde_json::json!(null)),
            Some(serde_json::json!([1])),
            Some(serde_json::json!("")),
        ] {
            let mut claims = whole.clone();
            match &spoilt {
                None => drop(claims.as_object_mut().unwrap().remove(claim)),
                Some(value) => claims[claim] = value.clone(),
            }
            let token = signed(
                &golden.hub,
                r#"{"alg":"ES256","typ":"JWT"}"#,
                &claims.to_string(),
            );
            let answer = verify(&token, golden.hub.public(), "launcher", NOW).unwrap_err();
            assert!(
                matches!(answer, TokenError::Malformed)
                    || answer == TokenError::MissingClaim { claim },
                "{claim} {spoilt:?}: {answer}"
            );
        }
    }
    for claim in ["aud", "sub", "iat", "typ"] {
        let mut claims = whole.clone();
        claims.as_object_mut().unwrap().remove(claim);
        let token = signed(
            &golden.hub,
            r#"{"alg":"ES256","typ":"JWT"}"#,
            &claims.to_string(),
        );
        assert!(
            verify(&token, golden.hub.public(), "launcher", NOW).is_ok(),
            "{claim}"
        );
    }
    for body in ["null", "[]", "1", "{}", "\"x\"", "{", ""] {
        let token = signed(&golden.hub, r#"{"alg":"ES256","typ":"JWT"}"#, body);
        assert!(
            verify(&token, golden.hub.public(), "launcher", NOW).is_err(),
            "{body}"
        );
    }
}

#[test]
fn another_issuer_is_refused_also_with_our_signature() {
    let golden = golden();
    let claims = Claims {
        iss: golden.launcher.public_text(),
        ..own_claims(&golden)
    };
    let token = sign(&golden.hub, &claims).unwrap();
    assert_eq!(
        verify(token.expose(), golden.hub.public(), "launcher", NOW),
        Err(TokenError::OtherHub)
    );
}

#[test]
fn nothing_is_signed_that_would_be_refused() {
    let golden = golden();
    let good = own_claims(&golden);
    for bad in [
        Claims {
            client_id: String::new(),
            ..good.clone()
        },
        Claims {
            client_type: String::new(),
            ..good.clone()
        },
        Claims {
            role: String::new(),
            ..good.clone()
        },
        Claims {
            sub: String::new(),
            ..good.clone()
        },
    ] {
        assert!(matches!(
            sign(&golden.hub, &bad),
            Err(TokenError::MissingClaim { .. })
        ));
    }
}

#[test]
fn a_huge_token_is_not_looked_at() {
    let golden = golden();
    let token = format!("{}{}", golden.token, "A".repeat(MAX_TOKEN_BYTES));
    assert_eq!(
        verify(&token, golden.hub.public(), "launcher", NOW),
        Err(TokenError::Malformed)
    );
    assert_eq!(peek(&token), Err(TokenError::Malformed));
}

#[test]
fn the_owner_judges_its_token() {
    let golden = golden();
    let (mine, hub) = (golden.launcher.public_text(), golden.hub.public_text());
    let owner = TokenOwner {
        client_id: "launcher",
        public_text: &mine,
        hub_public_text: Some(&hub),
    };
    let claims = own_claims(&golden);
    let token = sign(&golden.hub, &claims).unwrap();
    let text = format!("{}\n", token.expose());
    let expires = UnixTime(claims.exp);
    let renew_after = UnixTime(NOW.0 + 365 * 86_400 / 2);
    let at = |now: UnixTime| judge_token(&text, owner, now, 0.5);
    assert_eq!(at(NOW), TokenState::Valid { renew_after });
    assert_eq!(at(UnixTime(0)), TokenState::Valid { renew_after });
    assert_eq!(
        at(renew_after.before(Duration::from_secs(1))),
        TokenState::Valid { renew_after }
    );
    assert_eq!(at(renew_after), TokenState::Due { expires });
    assert_eq!(
        at(expires),
        TokenState::Invalid(TokenError::Expired { at: claims.exp })
    );

    let judge = |owner, text: &str| judge_token(text, owner, NOW, 0.66);
    let invalid = TokenState::Invalid;
    assert_eq!(
        judge(
            TokenOwner {
                public_text: &hub,
                ..owner
            },
            &text
        ),
        invalid(TokenError::OtherKey)
    );
    assert_eq!(
        judge(
            TokenOwner {
                hub_public_text: Some(&mine),
                ..owner
            },
            &text
        ),
        invalid(TokenError::OtherHub)
    );
    assert!(matches!(
        judge(
            TokenOwner {
                hub_public_text: None,
                ..owner
            },
            &text
        ),
        TokenState::Valid { .. }
    ));
    assert!(matches!(
        judge(
            TokenOwner {
                client_id: "other",
                ..owner
            },
            &text
        ),
        TokenState::Invalid(TokenError::OtherClient { .. })
    ));
    for cut in [token.expose().len() - 4, 300, 40, 3, 0] {
        assert_eq!(
            judge(owner, &text[..cut]),
            invalid(TokenError::Malformed),
            "{cut}"
        );
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,300}") {
        let golden = golden();
        prop_assert!(peek(&text).is_err());
        prop_assert!(verify(&text, golden.hub.public(), "launcher", NOW).is_err());
    }

    #[test]
    fn no_claims_panic(claims in "\\{(\"(exp|iat|iss|role|clientID|sub)\":(\"x\"|-?[0-9]{1,30}|1e9|null|\\[\\]),?){0,4}\\}") {
        let golden = golden();
        let token = signed(&golden.hub, r#"{"alg":"ES256","typ":"JWT"}"#, &claims);
        let _ = peek(&token);
        prop_assert!(verify(&token, golden.hub.public(), "launcher", NOW).is_err());
        let owner = TokenOwner { client_id: "x", public_text: "x", hub_public_text: None };
        let _ = judge_token(&token, owner, NOW, 0.66);
    }

    #[test]
    fn a_changed_character_is_never_accepted_as_other_claims(at in 0usize..700, with in "[A-Za-z0-9_.=-]") {
        let golden = golden();
        let mut text = golden.token.clone();
        let at = at.min(text.len() - 1);
        text.replace_range(at..=at, &with);
        if let Ok(claims) = verify(&text, golden.hub.public(), "launcher", NOW) {
            prop_assert_eq!(serde_json::to_value(&claims).unwrap(), golden.claims);
        }
    }
}
