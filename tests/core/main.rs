//! The core alone, a real process, met by clients of other makers and by such as mean harm (crates-mqtt §8).
//!
//! Invariant: what is expected is written in these tests, from the documents; nothing is asked of the core's own code.

#![expect(
    clippy::unwrap_used,
    reason = "in a test whatever does not go as expected is a finding"
)]

mod broker;
mod browser;
#[path = "../common/chance.rs"]
mod chance;
mod checks;
mod copies;
mod damage;
#[path = "../common/hub.rs"]
#[expect(dead_code, reason = "each suite uses its part")]
mod hub;
mod identity;
mod mutated;
#[path = "../common/packets.rs"]
#[expect(dead_code, reason = "each suite uses its part")]
mod packets;
mod paho;
mod restart;
mod roles;
mod server;
