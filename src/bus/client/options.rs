//! What a session needs to know.
//!
//! Invariants: where the hub is and the credentials are asked for anew at each attempt, so that files that changed
//! meanwhile count; neither a token nor a key shows in debug output.

use super::Endpoint;
use std::fmt;
use std::path::PathBuf;
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

/// A client certificate with its key; its common name is the login (HP 1.18). The key never shows in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Where it was read, for people.
    pub file: PathBuf,
    cert_pem: Vec<u8>,
    key_pem: Vec<u8>,
}

impl ClientCertificate {
    /// A certificate that was read from `file`, and its key, both as PEM. Whether they are valid shows at the connection.
    #[must_use]
    pub fn new(file: PathBuf, cert_pem: Vec<u8>, key_pem: Vec<u8>) -> Self {
        ClientCertificate {
            file,
            cert_pem,
            key_pem,
        }
    }

    pub(super) fn cert_pem(&self) -> &[u8] {
        &self.cert_pem
    }

    pub(super) fn key_pem(&self) -> &[u8] {
        &self.key_pem
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate({}, …)", self.file.display())
    }
}

/// By what a login is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A token, or a password, in the packet CONNECT.
    Token(Token),
    /// A client certificate, in the TLS handshake; it serves only with TLS.
    Certificate(ClientCertificate),
}

/// By what a login is proved, and by what the hub is known.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// What proves the login, at least one. Where the first is refused, or not what is wanted, the next is tried.
    pub proofs: Vec<Proof>,
    /// Certificates of the hub's CA as PEM; none = no connection over TLS is made.
    pub ca_pem: Option<Vec<u8>>,
    /// Where they were read, or would be, for people.
    pub ca_file: PathBuf,
    /// The user besides root to whom a unix socket's peer may belong: the owner of the certs folder (crates.md §2).
    pub owner_uid: u32,
}

/// Gives the credentials; asked at each attempt. The error is shown as it is: it names the file and the cause.
pub type CredentialSource = Arc<dyn Fn() -> Result<Credentials, String> + Send + Sync>;

/// Gives the places to try, in order; asked at each attempt.
pub type EndpointSource = Arc<dyn Fn() -> Vec<Endpoint> + Send + Sync>;

/// A hub somewhere on the network ([`crate::discovery`]).
#[derive(Clone)]
pub struct Network {
    /// Whether it may be looked for; asked at each attempt.
    pub may_search: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Told where the hub is that was found and let us log in.
    pub used: Arc<dyn Fn(&Endpoint) + Send + Sync>,
}

/// What a session needs to know.
#[derive(Clone)]
pub struct Options {
    /// The user name; also the first part of the MQTT client id.
    pub login: String,
    /// Where to try, in order.
    pub endpoints: EndpointSource,
    /// Where to look when nobody listens at these; none = nowhere.
    pub network: Option<Network>,
    /// By what the login is proved.
    pub credentials: CredentialSource,
    /// Filters to subscribe to besides the inbox; each must be granted.
    pub subscriptions: Vec<String>,
    /// A dead connection is noticed within one of these when something is sent over it, else within two; 60 s by default
    /// (HP 1.12).
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
            network: None,
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
