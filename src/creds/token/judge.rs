//! Whether a token on disk still serves its owner.
//!
//! Invariant: pure; the same text, keys and time give the same answer.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{TokenError, check_client, check_expiry, check_issuer, peek};
use crate::time::{UnixTime, share_of_life};

/// Bytes of an ES256 signature: r and s (RFC 7518 §3.4).
const SIGNATURE_BYTES: usize = 64;

/// What is to be done about a token (spec §6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenState {
    /// Serves, and need not be looked at before `renew_after`.
    Valid {
        /// When it becomes due.
        renew_after: UnixTime,
    },
    /// Serves until `expires`, but a new one should be fetched.
    Due {
        /// When it ends to serve.
        expires: UnixTime,
    },
    /// Does not serve.
    Invalid(TokenError),
}

/// Whose token it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenOwner<'a> {
    /// Login name.
    pub client_id: &'a str,
    /// Own public key, as [`crate::PublicKey::text`].
    pub public_text: &'a str,
    /// The hub's public key in the same form; `None` when it is not known (no `hubCert.pem` yet).
    pub hub_public_text: Option<&'a str>,
}

/// Judges the text of a token file for its owner at `now`.
///
/// Due is a token from the share `renew_at` of its life on (0 to 1; the default of spec §4 is 0.66). Only its shape and
/// claims are looked at: the hub checks the signature at login, and doing it here too would cost a tenth of the bring-up
/// of 1,000 plugins. A token without `iat` counts as issued in 1970, so it is due.
#[must_use]
pub fn judge_token(text: &str, owner: TokenOwner<'_>, now: UnixTime, renew_at: f64) -> TokenState {
    match check(text.trim(), owner, now) {
        Err(error) => TokenState::Invalid(error),
        Ok((issued, expires)) => {
            let renew_after = share_of_life(issued, expires, renew_at);
            if now >= renew_after {
                TokenState::Due { expires }
            } else {
                TokenState::Valid { renew_after }
            }
        }
    }
}

fn check(
    text: &str,
    owner: TokenOwner<'_>,
    now: UnixTime,
) -> Result<(UnixTime, UnixTime), TokenError> {
    let claims = peek(text)?;
    // A file cut off at its end still has whole claims.
    let signature = text.rsplit('.').next().unwrap_or_default();
    if URL_SAFE_NO_PAD
        .decode(signature)
        .map_or(0, |bytes| bytes.len())
        != SIGNATURE_BYTES
    {
        return Err(TokenError::Malformed);
    }
    check_client(&claims, owner.client_id)?;
    if claims.sub != owner.public_text.trim() {
        return Err(TokenError::OtherKey);
    }
    check_issuer(&claims, owner.hub_public_text)?;
    check_expiry(&claims, now)?;
    Ok((UnixTime(claims.iat), UnixTime(claims.exp)))
}
