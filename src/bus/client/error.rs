//! Why there is no connection, and why a call failed.
//!
//! Invariant: every text names the place and the cause; [`ConnectError::hint`] says the way out.

use super::Endpoint;
use crate::discovery::NotFound;
use crate::rpc;
use std::path::PathBuf;
use std::time::Duration;

/// Why the hub refused a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// 0x86, or 0x87: token or password is wrong, expired, or another hub's.
    BadCredentials,
    /// 0x85: the MQTT client id is not this login's, or another's connection has it.
    ClientId,
    /// 0x88, 0x89, 0x9F: not now.
    Busy,
    /// Any other, by name.
    Other(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::BadCredentials => f.write_str("bad credentials (0x86)"),
            Refusal::ClientId => f.write_str("client id not valid (0x85)"),
            Refusal::Busy => f.write_str("server is busy"),
            Refusal::Other(name) => f.write_str(name),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConnectError {
    /// There is no place to try.
    #[error("no address of a hub is known")]
    NoEndpoint,
    /// Nor is there any on the network.
    #[error(transparent)]
    NotFound(NotFound),
    /// The credentials cannot be had; the text says why.
    #[error("{0}")]
    Credentials(String),
    /// Nobody listens there.
    #[error("no hub listens at {endpoint}")]
    NobodyListens {
        /// Where.
        endpoint: Endpoint,
    },
    /// It cannot be reached.
    #[error("cannot reach {endpoint}: {text}")]
    Unreachable {
        /// Where.
        endpoint: Endpoint,
        /// What the system said.
        text: String,
    },
    /// The process that listens on the socket is neither root's nor the owner's; nothing was sent to it.
    #[error(
        "whoever listens at {endpoint} runs as user {uid}, and is not trusted (root and {owner} are)"
    )]
    UntrustedPeer {
        /// Where.
        endpoint: Endpoint,
        /// Whose it is.
        uid: u32,
        /// Whose it should be.
        owner: u32,
    },
    /// There is no certificate of the hub's CA, so that its server cannot be known.
    #[error("there is no CA certificate {} by which to know {endpoint}", file.display())]
    NoCa {
        /// Where.
        endpoint: Endpoint,
        /// Where it would be.
        file: PathBuf,
    },
    /// The CA certificate cannot be read.
    #[error("the CA certificate {} is not valid: {text}", file.display())]
    BadCa {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        text: String,
    },
    /// The server's certificate is not of the hub's CA.
    #[error("the certificate of {endpoint} was not signed by this hub's CA, {}", file.display())]
    ForeignCa {
        /// Where.
        endpoint: Endpoint,
        /// The certificate of the CA.
        file: PathBuf,
    },
    /// The server's certificate is for other names.
    #[error("the certificate of {endpoint} is not for that name")]
    WrongName {
        /// Where.
        endpoint: Endpoint,
    },
    /// The server's certificate has expired, or does not serve yet.
    #[error("the certificate of {endpoint} has expired, or is not valid yet")]
    NotInTime {
        /// Where.
        endpoint: Endpoint,
    },
    /// The login has a certificate only, which says nothing over a unix socket.
    #[error("{endpoint} takes tokens only")]
    NeedsToken {
        /// Where.
        endpoint: Endpoint,
    },
    /// The server takes nobody without a client certificate.
    #[error("{endpoint} wants a client certificate")]
    CertificateWanted {
        /// Where.
        endpoint: Endpoint,
    },
    /// The server does not take the client certificate.
    #[error("{endpoint} refused the client certificate {}: {why}", file.display())]
    CertificateRefused {
        /// Where.
        endpoint: Endpoint,
        /// The certificate.
        file: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// The client certificate cannot be used.
    #[error("the client certificate {} cannot be used: {text}", file.display())]
    BadCertificate {
        /// The certificate.
        file: PathBuf,
        /// What is wrong with it or its key.
        text: String,
    },
    /// TLS failed in another way.
    #[error("TLS with {endpoint} failed: {text}")]
    Tls {
        /// Where.
        endpoint: Endpoint,
        /// What went wrong.
        text: String,
    },
    /// The login was refused.
    #[error("{endpoint} refused the login of '{login}': {refusal}")]
    Login {
        /// Where.
        endpoint: Endpoint,
        /// The user name.
        login: String,
        /// Why.
        refusal: Refusal,
    },
    /// A filter was not granted.
    #[error("{endpoint} refused '{login}' the subscription to {filter}: {reason}")]
    Subscription {
        /// Where.
        endpoint: Endpoint,
        /// The user name.
        login: String,
        /// Which filter.
        filter: String,
        /// Why.
        reason: String,
    },
    /// No answer in time.
    #[error("{endpoint} did not answer within {:.1} s", after.as_secs_f64())]
    Timeout {
        /// Where.
        endpoint: Endpoint,
        /// How long was waited.
        after: Duration,
    },
    /// Several places were tried, each in vain; in that order, at least two.
    #[error("{}", joined(.0))]
    Several(Vec<ConnectError>),
    /// The connection ended before the login was through.
    #[error("{endpoint} closed the connection: {text}")]
    Closed {
        /// Where.
        endpoint: Endpoint,
        /// What the client saw.
        text: String,
    },
}

impl ConnectError {
    /// Whether no hub of ours was there: nobody listens, or whoever has the name that all hubs of a machine share does not
    /// know us.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, ConnectError::NobodyListens { .. })
            || self.is_refusal_by_whoever_has_the_name()
    }

    /// What the operator can do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        if self.is_of_another_hub() {
            return "the core of this home does not run: start its launcher; logs/core.log tells why a core does not come up. What answers in its place is another hub of this machine, or the original's core, with a token that is expired";
        }
        match self.most_telling() {
            ConnectError::NoEndpoint
            | ConnectError::NobodyListens { .. }
            | ConnectError::Several(_) => {
                "is the launcher running? start it, or name the hub with --home or --server; if it runs, logs/core.log tells why the core does not"
            }
            ConnectError::NotFound(_) => {
                "start the launcher of this home, or name the hub: --server mqtts://HOST:8883 or --home; a core announces itself unless its enableMDNS is false, and only within its own network"
            }
            ConnectError::Credentials(_) => {
                "the core writes the credentials when it starts first (logs/core.log tells whether it could); are --home and --login right, and may this user read them?"
            }
            ConnectError::Unreachable { .. } | ConnectError::Timeout { .. } => {
                "check address and network, and whether the core hangs (logs/core.log)"
            }
            ConnectError::UntrustedPeer { .. } => {
                "stop that program, or run this as the user who owns the hub's certs folder"
            }
            ConnectError::NoCa { .. } | ConnectError::BadCa { .. } => {
                "copy the hub's certs/caCert.pem into the certs folder of this home"
            }
            ConnectError::ForeignCa { .. } => {
                "this is another hub, or its CA was made anew: copy its certs/caCert.pem here if it is yours"
            }
            ConnectError::Tls { .. } | ConnectError::WrongName { .. } => {
                "use a host name or address that is in the hub's certificate (certs/hubCert.pem)"
            }
            ConnectError::NotInTime { .. } => {
                "compare the clocks of both machines; if they are right, restart the core, which renews its certificate"
            }
            ConnectError::NeedsToken { .. } => {
                "use the hub's TLS address, --server mqtts://host:port, or a login with a token"
            }
            ConnectError::CertificateWanted { .. } => {
                "this login has none in the certs folder: a launcher whose core has `auth: certificate` makes admin's and its plugins' there, elsewhere copy {id}.key and {id}Cert.pem"
            }
            ConnectError::CertificateRefused { .. } | ConnectError::BadCertificate { .. } => {
                "move it away and restart the launcher, which makes a new one when the CA's key is in the certs folder; elsewhere copy one that the hub's own CA signed; the core's log tells more"
            }
            ConnectError::Login { refusal, .. } => match refusal {
                Refusal::BadCredentials => {
                    "the token is expired or another hub's: restart the core to renew it, or check --home"
                }
                Refusal::ClientId | Refusal::Busy | Refusal::Other(_) => {
                    "try again; logs/core.log tells more"
                }
            },
            ConnectError::Subscription { .. } => "the role of this login does not allow it",
            ConnectError::Closed { .. } => "try again; logs/core.log tells more",
        }
    }

    /// Whether nobody listened at the home's own socket, and whoever has the name that all hubs of a machine share does
    /// not know this one, or is another user's. The refusal alone would hide that the own core is down.
    fn is_of_another_hub(&self) -> bool {
        let ConnectError::Several(errors) = self else {
            return false;
        };
        let mut errors = errors.iter();
        let own_is_silent = errors.any(|error| {
            matches!(
                error,
                ConnectError::NobodyListens {
                    endpoint: Endpoint::Unix(_)
                }
            )
        });
        own_is_silent && errors.any(ConnectError::is_refusal_by_whoever_has_the_name)
    }

    fn is_refusal_by_whoever_has_the_name(&self) -> bool {
        matches!(
            self,
            ConnectError::Login {
                endpoint: Endpoint::Abstract(_),
                refusal: Refusal::BadCredentials,
                ..
            } | ConnectError::UntrustedPeer {
                endpoint: Endpoint::Abstract(_),
                ..
            }
        )
    }

    /// Of several errors the one that tells most, an answer more than silence; else itself.
    #[must_use]
    pub fn most_telling(&self) -> &ConnectError {
        match self {
            ConnectError::Several(errors) => errors
                .iter()
                .max_by_key(|error| error.rank())
                .map_or(self, ConnectError::most_telling),
            ConnectError::NoEndpoint
            | ConnectError::NotFound(_)
            | ConnectError::Credentials(_)
            | ConnectError::NobodyListens { .. }
            | ConnectError::Unreachable { .. }
            | ConnectError::UntrustedPeer { .. }
            | ConnectError::NoCa { .. }
            | ConnectError::BadCa { .. }
            | ConnectError::ForeignCa { .. }
            | ConnectError::WrongName { .. }
            | ConnectError::NotInTime { .. }
            | ConnectError::NeedsToken { .. }
            | ConnectError::CertificateWanted { .. }
            | ConnectError::CertificateRefused { .. }
            | ConnectError::BadCertificate { .. }
            | ConnectError::Tls { .. }
            | ConnectError::Login { .. }
            | ConnectError::Subscription { .. }
            | ConnectError::Timeout { .. }
            | ConnectError::Closed { .. } => self,
        }
    }

    /// This one, or a later one at the same place that tells more.
    pub(super) fn or_more_telling(self, later: ConnectError) -> ConnectError {
        if later.rank() > self.rank() {
            later
        } else {
            self
        }
    }

    fn rank(&self) -> u8 {
        match self {
            ConnectError::NoEndpoint | ConnectError::Several(_) => 0,
            ConnectError::NobodyListens { .. } => 1,
            ConnectError::Unreachable { .. } | ConnectError::NotFound(_) => 2,
            ConnectError::Timeout { .. } => 3,
            ConnectError::Closed { .. } => 4,
            ConnectError::NoCa { .. } | ConnectError::BadCa { .. } => 5,
            ConnectError::UntrustedPeer { .. } => 6,
            ConnectError::Tls { .. }
            | ConnectError::ForeignCa { .. }
            | ConnectError::WrongName { .. }
            | ConnectError::NotInTime { .. }
            | ConnectError::NeedsToken { .. }
            | ConnectError::CertificateWanted { .. } => 7,
            ConnectError::Login { .. }
            | ConnectError::CertificateRefused { .. }
            | ConnectError::BadCertificate { .. } => 8,
            ConnectError::Subscription { .. } | ConnectError::Credentials(_) => 9,
        }
    }
}

/// All errors in one line; places where nobody listens are named together.
fn joined(errors: &[ConnectError]) -> String {
    let mut silent = Vec::new();
    let mut others = Vec::new();
    for error in errors {
        if let ConnectError::NobodyListens { endpoint } = error {
            silent.push(endpoint.to_string());
        } else {
            let whose = if error.is_refusal_by_whoever_has_the_name() {
                " (any hub of this machine may have that name)"
            } else {
                ""
            };
            others.push(format!("{error}{whose}"));
        }
    }
    if !silent.is_empty() {
        others.insert(0, format!("no hub listens at {}", silent.join(" or ")));
    }
    others.join("; ")
}

/// Why a call or a publication failed. The texts are those of the original's client where it has one (HP 1.10).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The other side answered with an error; its text.
    #[error("{0}")]
    Remote(String),
    /// The core does not let this login publish there.
    #[error("error publishing: The PUBLISH is not authorized.")]
    NotAuthorized,
    /// The core refused it for another reason.
    #[error("error publishing: {0}")]
    Refused(String),
    /// Nobody serves that topic, as the core says; some cores do not.
    #[error("nobody at the hub serves {topic}")]
    NobodyServes {
        /// Where to.
        topic: String,
    },
    /// No reply, or no acknowledgement, in time.
    #[error("context deadline exceeded")]
    Timeout,
    /// There is no connection at the moment.
    #[error("no Hub connection")]
    NotConnected,
    /// The connection was lost while waiting; whether it was carried out is not known.
    #[error("connection to the hub lost: {0}")]
    Disconnected(String),
    /// Topic or payload cannot be sent.
    #[error("cannot publish to '{topic}': {why}")]
    Invalid {
        /// Where to.
        topic: String,
        /// Why not.
        why: &'static str,
    },
}

impl CallError {
    /// Whether the same again would end the same: the hub understood it and does not want it, or it cannot be sent at
    /// all. Anything else may work on another connection, or later.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            CallError::Remote(_) | CallError::NotAuthorized | CallError::Invalid { .. } => true,
            CallError::Refused(_)
            | CallError::NobodyServes { .. }
            | CallError::Timeout
            | CallError::NotConnected
            | CallError::Disconnected(_) => false,
        }
    }

    /// An error that the other side sent, cut to the longest that is shown.
    pub(super) fn remote(payload: &[u8]) -> Self {
        let text = String::from_utf8_lossy(payload);
        CallError::Remote(rpc::cut_error(&text).to_owned())
    }
}
