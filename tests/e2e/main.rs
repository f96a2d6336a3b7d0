//! The hub as an operator meets it: real processes, a real broker, real signals.

#![expect(
    clippy::unwrap_used,
    reason = "in a test whatever does not go as expected is a finding"
)]

mod certs;
mod events;
#[path = "../common/hub.rs"]
#[expect(dead_code, reason = "each suite uses its part")]
mod hub;
mod lifecycle;
mod limits;
mod messages;
mod order;
#[path = "../common/packets.rs"]
mod packets;
mod people;
mod plain;
mod plain_renewal;
mod ready;
mod reload;
mod survival;
mod texts;
mod why;
mod wire;
