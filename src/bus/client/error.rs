//! What can go wrong between us and the bus, in words that name the thing, the cause and the way out.

use std::io;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens, or nothing can be reached.
    #[error("nothing answers at {endpoint}: {source}; is the hub running?")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
    /// The socket belongs to somebody who must not have the credential.
    #[error(
        "the socket {endpoint} belongs to user {uid}, who is neither root nor the owner of the hub; \
         no credential is sent to it"
    )]
    Untrusted {
        /// Where.
        endpoint: String,
        /// Whose.
        uid: u32,
    },
    /// No credential to log in with.
    #[error("{0}")]
    NoCredentials(String),
    /// The CA's certificate is unusable.
    #[error("the CA certificate of the hub cannot be used: {text}")]
    BadCa {
        /// Why.
        text: String,
    },
    /// The bus does not accept the login.
    #[error(
        "{endpoint} refuses the login '{login}' ({reason}); its token is not for this hub, \
         has expired, or the client is unknown there"
    )]
    Refused {
        /// Where.
        endpoint: String,
        /// Who.
        login: String,
        /// MQTT's reason.
        reason: String,
    },
    /// It does not prove to belong to the hub's CA, or the connection broke while being set up.
    #[error("the connection to {endpoint} failed: {text}")]
    Broken {
        /// Where.
        endpoint: String,
        /// How.
        text: String,
    },
    /// It may not subscribe to what it needs.
    #[error("{endpoint} does not let '{login}' subscribe to {filter}")]
    SubscriptionRefused {
        /// Where.
        endpoint: String,
        /// Who.
        login: String,
        /// To what.
        filter: String,
    },
    /// There is nowhere to try.
    #[error("no address of a hub is known; name one with --server")]
    Nowhere,
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The service answered with an error.
    #[error("{0}")]
    Remote(String),
    /// There is no connection, or it broke meanwhile. What was asked may have been done.
    #[error("no Hub connection")]
    Disconnected,
    /// The bus does not let us send it.
    #[error("error publishing: The PUBLISH is not authorized.")]
    NotAuthorized,
    /// The bus refuses it for another reason.
    #[error("error publishing: {0}")]
    Refused(String),
    /// No answer in time. What was asked may still be done.
    #[error("no reply to {topic} within {within:?}")]
    TimedOut {
        /// What was asked.
        topic: String,
        /// The time limit.
        within: std::time::Duration,
    },
}
