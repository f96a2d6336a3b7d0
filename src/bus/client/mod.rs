//! The client of the bus: MQTT 5 over a unix socket or TLS 1.3, calls with replies, reconnection.
//!
//! Invariants:
//! - one task owns a connection and never waits for a caller; a queue that is full answers `busy` for it;
//! - every connection has a new MQTT client id and inbox, and is reported only after all its subscriptions are granted;
//! - a call ends with a reply, an error or its timeout: a lost connection ends it at once, a late reply is dropped (T9);
//! - the token is sent only to a peer that was checked: owner of a unix socket, or certificate of the hub's CA (T27);
//! - a login that has token and certificate is proved by the second where the first is not wanted.
//!
//! [`connect_once`] is for programs that do one thing, [`connect_forever`] for those that stay.

mod dial;
mod endpoint;
mod error;
mod handle;
mod link;
mod many;
mod message;
mod more;
mod options;
mod retry;
mod session;
#[cfg(test)]
mod stub;
#[cfg(test)]
mod tests;

pub use endpoint::{Endpoint, EndpointError};
pub use error::{CallError, ConnectError, Refusal};
pub use handle::{Client, Status};
pub use many::Message;
pub use message::{Incoming, IncomingRequest};
pub use options::{
    ClientCertificate, CredentialSource, Credentials, EndpointSource, Network, Options, Proof,
    Token,
};
pub use session::{connect_forever, connect_once};

/// Largest packet either way, in bytes; equal to the core's limit.
pub const MAX_PACKET: u32 = 4 * 1024 * 1024;

/// Content type of requests and of replies that succeeded.
pub const JSON: &str = "json";
/// Content type of replies that failed; it alone decides that they did (HP 1.13).
pub const ERROR: &str = "error";
