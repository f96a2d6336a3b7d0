//! Tokens of this hub (HP 1.17).
//!
//! Invariant: a token is good only for the client it names, as long as that client exists and has the key the token was
//! issued for (T32 repaired: the original also lets removed clients in).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use bus::wire::ClientProfile;
use creds::token::{self, Claims, TokenError};
use creds::{KeyPair, Secret, UnixTime};

use super::AuthError;
use crate::clients::Clients;
use crate::validity::Validity;

const DAY: u64 = 24 * 60 * 60;

/// Issues and verifies tokens with the hub's key.
#[derive(Debug)]
pub struct Tokens {
    hub: Arc<KeyPair>,
    /// How long new ones are good.
    pub validity: Validity,
    /// By how many seconds a clock that was never set was behind the right one; 0 = there was none.
    behind: AtomicI64,
}

impl Tokens {
    /// With that key.
    #[must_use]
    pub fn new(hub: Arc<KeyPair>, validity: Validity) -> Self {
        Tokens {
            hub,
            validity,
            behind: AtomicI64::new(0),
        }
    }

    /// The hub's public key, as in a token.
    #[must_use]
    pub fn hub_text(&self) -> String {
        self.hub.public_text()
    }

    /// A token for the client of that profile, good from now on for as long as the profile says.
    ///
    /// # Errors
    /// It has no key or no role, or there are no random numbers.
    pub fn issue(&self, profile: &ClientProfile) -> Result<Secret, AuthError> {
        self.issue_at(profile, UnixTime::from(SystemTime::now()))
    }

    /// As [`Tokens::issue`], at that moment.
    ///
    /// # Errors
    /// As there.
    pub fn issue_at(&self, profile: &ClientProfile, now: UnixTime) -> Result<Secret, AuthError> {
        if profile.pub_key.is_empty() {
            return Err(AuthError::NoKey);
        }
        if profile.role.is_empty() {
            return Err(AuthError::NoRole);
        }
        let days = u64::try_from(profile.token_validity_days).unwrap_or(0);
        let days = match days {
            0 => u64::from(self.validity.days(&profile.client_type)),
            // A hundred years: more is a mistake, and would overflow sooner or later.
            days => days.min(36_500),
        };
        let claims = Claims::new(
            &profile.client_id,
            &profile.client_type,
            &profile.role,
            &profile.pub_key,
            self.hub.public(),
            now,
            Duration::from_secs(days * DAY),
        );
        Ok(token::sign(&self.hub, &claims)?)
    }

    /// The clock, which was never set before, was put forward by so much: tokens it had to do with are judged as by it
    /// until this core ends, as plugins that run know no others.
    pub fn clock_was_set(&self, by: Duration) {
        let by = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
        self.behind.store(by, Ordering::Relaxed);
    }

    /// Whether `token` lets `login` in now.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, token: &str, login: &str, clients: &Clients) -> Result<(), TokenError> {
        let claims = self.verify(token, login, UnixTime::from(SystemTime::now()))?;
        match clients.get(login) {
            Some(entry) if entry.profile.pub_key.trim() == claims.sub => Ok(()),
            Some(_) => Err(TokenError::OtherKey),
            None => Err(TokenError::OtherClient {
                client_id: format!("{login}, which is no client any more"),
            }),
        }
    }

    fn verify(&self, token: &str, login: &str, now: UnixTime) -> Result<Claims, TokenError> {
        let verified = token::verify(token, self.hub.public(), login, now);
        let behind = self.behind.load(Ordering::Relaxed);
        match verified {
            Err(TokenError::Expired { at }) if behind > 0 => {
                let then = UnixTime(now.0.saturating_sub(behind));
                let claims = token::verify(token, self.hub.public(), login, then)?;
                if claims.iat < UnixTime::EARLIEST_PLAUSIBLE.0 {
                    Ok(claims)
                } else {
                    Err(TokenError::Expired { at })
                }
            }
            verified => verified,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::SERVICE;

    const DAYS: Duration = Duration::from_secs(DAY);

    fn token(hub: &KeyPair, issued: UnixTime) -> Secret {
        let key = KeyPair::generate().unwrap().public_text();
        let claims = Claims::new("p", SERVICE, SERVICE, &key, hub.public(), issued, DAYS * 90);
        token::sign(hub, &claims).unwrap()
    }

    #[test]
    fn tokens_of_a_clock_that_was_never_set_serve_as_long_as_they_would_have() {
        let hub = Arc::new(KeyPair::generate().unwrap());
        let tokens = Tokens::new(Arc::clone(&hub), Validity::default());
        let early = token(&hub, UnixTime(100));
        let old = token(&hub, UnixTime(1_750_000_000));
        let serves = |token: &Secret, now| tokens.verify(token.expose(), "p", now).is_ok();
        let set = UnixTime(1_800_000_000);
        assert!(serves(&early, UnixTime(200)) && !serves(&early, set));
        tokens.clock_was_set(Duration::from_secs(1_799_999_000));
        assert!(serves(&early, set) && serves(&early, set.after(DAYS * 89)));
        assert!(!serves(&early, set.after(DAYS * 91)));
        assert!(!serves(&old, set), "it was issued by a right clock");
        assert!(serves(&token(&hub, set), set));
    }
}
