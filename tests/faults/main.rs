//! Bad input, hostile surroundings and wrong usage, each met by a hub of real processes (spec §17).
//!
//! Invariant: what a machine or a user cannot do here is left out by name, and said; nothing else is.

#![expect(
    clippy::unwrap_used,
    reason = "in a test whatever does not go as expected is a finding"
)]

mod bus;
mod certs;
#[path = "../common/chance.rs"]
#[expect(dead_code, reason = "each suite uses its part")]
mod chance;
mod chaos;
mod clock;
mod config;
mod core;
mod disk;
mod exec;
mod files;
mod fork;
#[path = "../common/hub.rs"]
#[expect(dead_code, reason = "each suite uses its part")]
mod hub;
mod killed;
mod lost_bus;
mod means;
mod model;
mod mosquitto;
mod network;
#[path = "../common/packets.rs"]
#[expect(dead_code, reason = "each suite uses its part")]
mod packets;
mod process;
mod renewal;
mod runtime;
mod state;
mod storms;
mod without_bus;
