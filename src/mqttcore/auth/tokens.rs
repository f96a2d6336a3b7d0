//! Tokens of this hub (HP 1.17).
//!
//! Invariant: a token is good only for the client it names, as long as that client exists and has the key the token was
//! issued for (T32 repaired: the original also lets removed clients in).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bus::wire::ClientProfile;
use creds::token::{self, Claims, TokenError};
use creds::{KeyPair, Secret, UnixTime};

use super::AuthError;
use crate::clients::{Clients, DEVICE, SERVICE};

const DAY: u64 = 24 * 60 * 60;

/// For how many days tokens are good where the profile does not say (T34).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Devices.
    pub device: u32,
    /// Services.
    pub service: u32,
    /// Users.
    pub user: u32,
}

impl Default for Validity {
    /// HP 1.17.
    fn default() -> Self {
        Validity {
            device: 90,
            service: 365,
            user: 30,
        }
    }
}

impl Validity {
    /// Days of a client type; unknown types as users.
    #[must_use]
    pub fn days(&self, client_type: &str) -> u32 {
        match client_type {
            DEVICE => self.device,
            SERVICE => self.service,
            _ => self.user,
        }
    }
}

/// Issues and verifies tokens with the hub's key.
#[derive(Debug)]
pub struct Tokens {
    hub: Arc<KeyPair>,
    /// How long new ones are good.
    pub validity: Validity,
}

impl Tokens {
    /// With that key.
    #[must_use]
    pub fn new(hub: Arc<KeyPair>, validity: Validity) -> Self {
        Tokens { hub, validity }
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
            UnixTime::from(SystemTime::now()),
            Duration::from_secs(days * DAY),
        );
        Ok(token::sign(&self.hub, &claims)?)
    }

    /// Whether `token` lets `login` in now.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&self, token: &str, login: &str, clients: &Clients) -> Result<(), TokenError> {
        let now = UnixTime::from(SystemTime::now());
        let claims = token::verify(token, self.hub.public(), login, now)?;
        match clients.get(login) {
            Some(entry) if entry.profile.pub_key.trim() == claims.sub => Ok(()),
            Some(_) => Err(TokenError::OtherKey),
            None => Err(TokenError::OtherClient {
                client_id: format!("{login}, which is no client any more"),
            }),
        }
    }
}
