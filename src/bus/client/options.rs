//! What a session needs to know.
//!
//! Invariants: where the hub is and the credentials are asked for anew at each attempt, so that files that changed
//! meanwhile count; a token never shows in debug output.

use super::Endpoint;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A secret that proves a login. Its text never shows in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The token of a file's text; white space around it is not part of it (HP 1.24).
    #[must_use]
    pub fn new(text: &str) -> Self {
        Token(text.trim().to_owned())
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.clone().into_bytes()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// By what a login is proved, and by what the hub is known.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The token, or a password.
    pub token: Token,
    /// Certificates of the hub's CA as PEM; none = no connection over TLS is made.
    pub ca_pem: Option<Vec<u8>>,
    /// The user besides root to whom a unix socket's peer may belong: the owner of the certs folder (crates.md §2).
    pub owner_uid: u32,
}

/// Gives the credentials; asked at each attempt. The error is shown as it is: it names the file and the cause.
pub type CredentialSource = Arc<dyn Fn() -> Result<Credentials, String> + Send + Sync>;

/// Gives the places to try, in order; asked at each attempt.
pub type EndpointSource = Arc<dyn Fn() -> Vec<Endpoint> + Send + Sync>;

/// What a session needs to know.
#[derive(Clone)]
pub struct Options {
    /// The user name; also the first part of the MQTT client id.
    pub login: String,
    /// Where to try, in order.
    pub endpoints: EndpointSource,
    /// By what the login is proved.
    pub credentials: CredentialSource,
    /// Filters to subscribe to besides the inbox; each must be granted.
    pub subscriptions: Vec<String>,
    /// A dead connection is noticed within two of these; 60 s by default (HP 1.12).
    pub keep_alive: Duration,
    /// Bound of one attempt at one place, from dialling to the last subscription; 10 s by default.
    pub attempt_timeout: Duration,
    /// Requests and messages that wait to be received; more requests are answered `busy`, more messages dropped.
    pub queue: usize,
}

impl Options {
    /// For a login, with fixed places to try in order, and defaults.
    #[must_use]
    pub fn new(login: &str, endpoints: Vec<Endpoint>, credentials: CredentialSource) -> Self {
        Options {
            login: login.to_owned(),
            endpoints: Arc::new(move || endpoints.clone()),
            credentials,
            subscriptions: Vec::new(),
            keep_alive: Duration::from_secs(60),
            attempt_timeout: Duration::from_secs(10),
            queue: 256,
        }
    }

    /// With one more filter to subscribe to.
    #[must_use]
    pub fn subscribe(mut self, filter: impl Into<String>) -> Self {
        self.subscriptions.push(filter.into());
        self
    }
}
