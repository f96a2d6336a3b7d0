//! Why logins are refused, and how many of them the log hears of.
//!
//! Invariant: strangers cannot fill the log, which would push what else stands there out of it; what is kept back is counted,
//! and the count is told.

use std::sync::Mutex;
use std::time::Duration;

use creds::token::TokenError;
use mqtt5::protocol::v5::reason_codes::ReasonCode;
use tokio::time::Instant;

use crate::lock::lock;

/// Why a login is refused; for the log, the client only gets the reason code.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No such client.
    #[error("it is no client of this hub")]
    Unknown,
    /// Nothing to prove it by.
    #[error("it gave neither a password nor a certificate in its name")]
    NoPassword,
    /// A wrong one.
    #[error("wrong password")]
    Password,
    /// A change came between.
    #[error("its password or key was replaced while it logged in")]
    Replaced,
    /// Guessing is slowed down.
    #[error("too many wrong passwords of late; it may try again in half a minute")]
    TooEarly,
    /// The connection was cut meanwhile.
    #[error("it took too long")]
    Gone,
    /// A token that does not let in.
    #[error("the token is refused: {0}")]
    Token(TokenError),
    /// An MQTT client id of another login.
    #[error("the MQTT client id must be the login, or the login, '-' and more")]
    ForeignId,
    /// One that is in use.
    #[error("the MQTT client id is in use by another login")]
    Taken,
    /// The limit of connections.
    #[error("it has as many connections as one may have; see mqttserver.limits.connections")]
    TooMany,
    /// No user name.
    #[error("it gave no login")]
    NoLogin,
    /// An older MQTT.
    #[error("MQTT 5 is needed")]
    Version,
    /// A will of so many bytes, more than may wait for a client.
    #[error("its will has {0} bytes; see mqttserver.limits.willBytes")]
    Will(usize),
}

impl Refusal {
    /// What the client is told.
    #[must_use]
    pub const fn code(&self) -> ReasonCode {
        match self {
            Refusal::Unknown
            | Refusal::NoPassword
            | Refusal::Password
            | Refusal::Replaced
            | Refusal::Token(_)
            | Refusal::NoLogin => ReasonCode::BadUsernameOrPassword,
            Refusal::TooEarly | Refusal::Gone => ReasonCode::ConnectionRateExceeded,
            Refusal::TooMany | Refusal::Will(_) => ReasonCode::QuotaExceeded,
            Refusal::ForeignId | Refusal::Taken => ReasonCode::ClientIdentifierNotValid,
            Refusal::Version => ReasonCode::UnsupportedProtocolVersion,
        }
    }
}

/// So many are told in each window.
const TOLD: u32 = 20;
/// How long a window is.
const WINDOW: Duration = Duration::from_secs(60);

/// Which refusals are told.
#[derive(Debug, Default)]
pub struct Refusals {
    window: Mutex<Option<Window>>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    told: u32,
    kept_back: u64,
}

impl Refusals {
    /// Whether a refusal at `now` is to be told; then with the number of those that were kept back since the one before.
    pub fn note(&self, now: Instant) -> Option<u64> {
        let mut window = lock(&self.window);
        let window = window.get_or_insert(Window {
            began: now,
            told: 0,
            kept_back: 0,
        });
        if now.saturating_duration_since(window.began) >= WINDOW {
            window.began = now;
            window.told = 0;
        }
        if window.told == TOLD {
            window.kept_back = window.kept_back.saturating_add(1);
            return None;
        }
        window.told += 1;
        Some(std::mem::take(&mut window.kept_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_the_count_is_told() {
        let refusals = Refusals::default();
        let start = Instant::now();
        for _ in 0..TOLD {
            assert_eq!(refusals.note(start), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(refusals.note(start + WINDOW / 2), None);
        }
        assert_eq!(refusals.note(start + WINDOW), Some(1000));
        assert_eq!(refusals.note(start + WINDOW), Some(0));
    }
}
