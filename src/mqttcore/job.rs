//! What the broker hands to the auth service.
//!
//! Invariant: at most `limits.waitingRequests` of it is on its way.

use crate::auth::Call;
use bytes::Bytes;
use mqtt5::QoS;

/// What the auth service has to do.
#[derive(Debug)]
pub enum Job {
    /// To answer.
    Request(Request),
    /// To tell that somebody has logged in.
    LoggedIn(String),
}

/// A request and where its reply goes.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub call: Call,
    /// The MQTT client id of the connection it came by.
    pub from: String,
    /// The response topic; none = no reply (T38).
    pub reply_to: Option<String>,
    /// Copied into the reply.
    pub correlation: Option<Bytes>,
    /// Of the request, and so of the reply.
    pub qos: QoS,
}
