//! What a core allows at most, so that no client can make it slow, big or guessable (`mqttserver.limits`).
//!
//! Invariant: every limit has a key, a default and a range; none can be switched off.

use std::time::Duration;

/// The limits of a core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections of one door that may be between accept and login; the oldest makes room.
    pub not_logged_in: usize,
    /// Connections of one login.
    pub connections: usize,
    /// From accept to login.
    pub login: Duration,
    /// What a connection may send until it has logged in, in bytes.
    pub connect_bytes: usize,
    /// The largest packet of a client, in bytes.
    pub packet_bytes: usize,
    /// QoS 1 and 2 packets of a client that may wait for their acknowledgement.
    pub in_flight: u16,
    /// Subscriptions of a client.
    pub subscriptions: usize,
    /// The longest filter, in bytes.
    pub filter_bytes: usize,
    /// Shared filters in the life of a core: the library keeps a counter of each for ever.
    pub shared_filters: usize,
    /// Retained messages of all clients.
    pub retained_messages: usize,
    /// The longest retained message, in bytes.
    pub retained_bytes: usize,
    /// Messages that wait for a client, or for its acknowledgement.
    pub queued_messages: usize,
    /// The same in bytes; a client that lets more wait is cut.
    pub queued_bytes: usize,
    /// The same for all clients together, in bytes.
    pub all_queued_bytes: usize,
    /// The longest will, in bytes.
    pub will_bytes: usize,
    /// Requests to the auth service, and logins to tell, that wait.
    pub waiting_requests: usize,
    /// Wrong passwords for a login before guessing is slowed down.
    pub free_guesses: u32,
    /// Wrong passwords from an address before that: many may share one.
    pub address_free_guesses: u32,
    /// Until the next guess after those; doubles with each.
    pub guess_delay: Duration,
    /// It grows up to this.
    pub guess_delay_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            not_logged_in: 128,
            connections: 16 * 1024,
            login: Duration::from_secs(10),
            connect_bytes: 128 * 1024,
            packet_bytes: 4 * 1024 * 1024,
            in_flight: 1024,
            subscriptions: 1024,
            filter_bytes: 1024,
            shared_filters: 4096,
            retained_messages: 1024,
            retained_bytes: 64 * 1024,
            queued_messages: 4096,
            queued_bytes: 8 * 1024 * 1024,
            all_queued_bytes: 64 * 1024 * 1024,
            will_bytes: 4096,
            waiting_requests: 1024,
            free_guesses: 5,
            address_free_guesses: 30,
            guess_delay: Duration::from_secs(1),
            guess_delay_max: Duration::from_secs(30),
        }
    }
}
