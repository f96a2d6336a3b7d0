//! The numbers of messages: overlapping subscriptions are told by them (crates-mqtt §10).
//!
//! Invariant: no two messages of a core have the same one.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::packet::Stamp;

/// Gives every message of a core its number.
#[derive(Debug)]
pub struct Numbers {
    /// Under which name numbers travel.
    pub stamp: Stamp,
    /// The largest packet that is numbered, in bytes.
    pub max_packet: usize,
    next: AtomicU64,
}

impl Numbers {
    /// Numbers under a random name; packets that are larger than `max_packet` are the library's to refuse.
    #[must_use]
    pub fn new(secret: u64, max_packet: usize) -> Self {
        Numbers {
            stamp: Stamp::new(secret),
            max_packet,
            next: AtomicU64::new(0),
        }
    }

    /// The next number.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}
