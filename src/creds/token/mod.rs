//! Tokens: JSON web tokens that the hub signs and that are a client's whole credential (HP 1.17).
//!
//! Invariants: only ES256 signs and verifies; whatever text arrives, it is judged and never panics; error texts hold
//! claims at most, never the token.

mod es256;
mod judge;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::keys::{KeyPair, PublicKey};
use crate::secret::Secret;
use crate::time::UnixTime;

pub use judge::{TokenOwner, TokenState, judge_token};

/// The longest token looked at, in bytes; the hub's own have about 700.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// What a token says. The fields are in the order in which the Go hub writes them (HP 4.8); any is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claims {
    /// Client type again; not checked by anyone.
    pub aud: String,
    /// Login name of the client.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// `user`, `device` or `service`.
    #[serde(rename = "clientType")]
    pub client_type: String,
    /// From this moment on the token is invalid, Unix seconds.
    pub exp: i64,
    /// When it was issued, Unix seconds; 0 when the token does not say.
    pub iat: i64,
    /// Public key of the hub that signed, as [`PublicKey::text`].
    pub iss: String,
    /// Role of the client when the token was issued.
    pub role: String,
    /// Public key of the client, as [`PublicKey::text`].
    pub sub: String,
    /// Always `JWT`.
    pub typ: String,
}

impl Claims {
    /// The claims of a new token: issued at `now`, valid for `validity`, by the hub whose public key is `hub`.
    #[must_use]
    pub fn new(
        client_id: &str,
        client_type: &str,
        role: &str,
        client_key: &str,
        hub: &PublicKey,
        now: UnixTime,
        validity: std::time::Duration,
    ) -> Self {
        Claims {
            aud: client_type.to_owned(),
            client_id: client_id.to_owned(),
            client_type: client_type.to_owned(),
            exp: now.after(validity).0,
            iat: now.0,
            iss: hub.text(),
            role: role.to_owned(),
            sub: client_key.trim().to_owned(),
            typ: "JWT".to_owned(),
        }
    }
}

/// Claims as they may arrive: nothing can be relied on.
#[derive(Deserialize)]
struct RawClaims {
    aud: Option<String>,
    #[serde(rename = "clientID")]
    client_id: Option<String>,
    #[serde(rename = "clientType")]
    client_type: Option<String>,
    exp: Option<i64>,
    iat: Option<i64>,
    iss: Option<String>,
    role: Option<String>,
    sub: Option<String>,
    typ: Option<String>,
}

impl TryFrom<RawClaims> for Claims {
    type Error = TokenError;

    fn try_from(raw: RawClaims) -> Result<Self, TokenError> {
        Ok(Claims {
            client_id: present(raw.client_id, "clientID")?,
            client_type: present(raw.client_type, "clientType")?,
            exp: raw.exp.ok_or(TokenError::MissingClaim { claim: "exp" })?,
            iss: present(raw.iss, "iss")?,
            role: present(raw.role, "role")?,
            // The Go hub does not look at these (HP 1.17).
            aud: raw.aud.unwrap_or_default(),
            iat: raw.iat.unwrap_or(0),
            sub: raw.sub.unwrap_or_default(),
            typ: raw.typ.unwrap_or_default(),
        })
    }
}

fn present(value: Option<String>, claim: &'static str) -> Result<String, TokenError> {
    value
        .filter(|value| !value.is_empty())
        .ok_or(TokenError::MissingClaim { claim })
}

/// Why a token is not valid, or cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Not three parts of base64 with JSON in them, claims of wrong type, or far too long.
    #[error("it is not a token: damaged, half-written, or of another kind of hub")]
    Malformed,
    /// Another algorithm than ES256.
    #[error("it is not signed with ES256")]
    Algorithm,
    /// Changed since it was signed, or signed with another key than the hub's.
    #[error("its signature is not the hub's")]
    Signature,
    /// Something without which nothing can be decided.
    #[error("it has no {claim}")]
    MissingClaim {
        /// Name of the claim.
        claim: &'static str,
    },
    /// `iss` is another hub key.
    #[error("it was issued by another hub, or before the hub got a new key")]
    OtherHub,
    /// `exp` has come.
    #[error("it expired at {}", crate::UnixTime(*at))]
    Expired {
        /// When, Unix seconds.
        at: i64,
    },
    /// `clientID` is not who uses it.
    #[error("it is the token of '{client_id}'")]
    OtherClient {
        /// Whose it is, at most 64 characters.
        client_id: String,
    },
    /// `sub` is not the client's key.
    #[error("it was issued for another key")]
    OtherKey,
    /// Signing failed: no random numbers.
    #[error("it cannot be signed")]
    Signing,
}

/// Signs `claims` with the hub's key: ES256, signature as raw r‖s (HP 1.17).
///
/// # Errors
/// `MissingClaim` when [`verify`] would never accept the result; `Signing` when the system gives no random numbers.
pub fn sign(hub: &KeyPair, claims: &Claims) -> Result<Secret, TokenError> {
    for (value, claim) in [
        (&claims.client_id, "clientID"),
        (&claims.client_type, "clientType"),
        (&claims.role, "role"),
        (&claims.iss, "iss"),
        (&claims.sub, "sub"),
    ] {
        if value.is_empty() {
            return Err(TokenError::MissingClaim { claim });
        }
    }
    es256::install();
    let key = EncodingKey::from_ec_der(hub.pkcs8_der());
    jsonwebtoken::encode(&Header::new(Algorithm::ES256), claims, &key)
        .map(Secret::new)
        .map_err(|_| TokenError::Signing)
}

/// Decides whether `token` lets `username` in at `now`, and gives what it says (HP 1.17).
///
/// Accepted is: ES256, signed by `hub`, `iss` is `hub`, `exp` is there and later than `now`, `clientID` is `username`,
/// `clientType` and `role` are not empty. Whether the client still exists and has this key is for the caller.
///
/// # Errors
/// The first of these that does not hold.
pub fn verify(
    token: &str,
    hub: &PublicKey,
    username: &str,
    now: UnixTime,
) -> Result<Claims, TokenError> {
    check_size(token)?;
    es256::install();
    let key = DecodingKey::from_ec_der(hub.point());
    let decoded =
        jsonwebtoken::decode::<RawClaims>(token, &key, &signature_only()).map_err(fault)?;
    let claims = Claims::try_from(decoded.claims)?;
    check_issuer(&claims, Some(&hub.text()))?;
    check_expiry(&claims, now)?;
    check_client(&claims, username)?;
    Ok(claims)
}

/// What `token` says, without any proof that it is true. For a client that looks at its own token.
///
/// # Errors
/// It is no token, or lacks a claim.
pub fn peek(token: &str) -> Result<Claims, TokenError> {
    check_size(token)?;
    let decoded = jsonwebtoken::dangerous::insecure_decode::<RawClaims>(token).map_err(fault)?;
    if decoded.header.alg != Algorithm::ES256 {
        return Err(TokenError::Algorithm);
    }
    Claims::try_from(decoded.claims)
}

/// Lets the library check algorithm and signature only: it would take the system's clock, with a minute of leeway.
fn signature_only() -> Validation {
    let mut validation = Validation::new(Algorithm::ES256);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

fn check_size(token: &str) -> Result<(), TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::Malformed);
    }
    Ok(())
}

fn check_issuer(claims: &Claims, hub: Option<&str>) -> Result<(), TokenError> {
    match hub {
        Some(hub) if claims.iss != hub.trim() => Err(TokenError::OtherHub),
        Some(_) | None => Ok(()),
    }
}

fn check_expiry(claims: &Claims, now: UnixTime) -> Result<(), TokenError> {
    if now.0 >= claims.exp {
        return Err(TokenError::Expired { at: claims.exp });
    }
    Ok(())
}

fn check_client(claims: &Claims, username: &str) -> Result<(), TokenError> {
    if claims.client_id == username {
        return Ok(());
    }
    Err(TokenError::OtherClient {
        client_id: claims.client_id.chars().take(64).collect(),
    })
}

/// All that is not about algorithm and signature means that some part cannot be read; the library's list is open.
fn fault(error: jsonwebtoken::errors::Error) -> TokenError {
    let kind = error.into_kind();
    if matches!(kind, ErrorKind::InvalidSignature) {
        TokenError::Signature
    } else if matches!(
        kind,
        ErrorKind::InvalidAlgorithm
            | ErrorKind::InvalidAlgorithmName
            | ErrorKind::UnsupportedAlgorithm
    ) {
        TokenError::Algorithm
    } else {
        TokenError::Malformed
    }
}

#[cfg(test)]
mod tests;
