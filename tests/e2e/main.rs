//! The hub as an operator meets it: real processes, a real broker, real signals.

#![expect(
    clippy::unwrap_used,
    reason = "in a test whatever does not go as expected is a finding"
)]

mod hub;
mod lifecycle;
mod survival;
mod texts;
mod wire;
