//! What is spoken on the hub's bus, and the client that speaks it.
//!
//! Invariants of this crate:
//! - bytes on the wire are those of the original hub (`tests/fixtures/vectors`); more fields may follow the original ones;
//! - nothing that comes from the bus can panic: every decoder answers an error text fit for the reply;
//! - a credential leaves the process only towards root, the owner named by the caller, or a server of the hub's CA;
//! - the task that polls a connection never waits for a caller.
//!
//! [`topics`] and [`wire`] are pure, [`rpc`] types the launcher's requests, [`client`] connects, [`hub`] finds a hub.

pub mod client;
pub mod discovery;
pub mod golang;
pub mod hub;
pub mod local;
pub mod rpc;
pub mod topics;
#[cfg(test)]
mod vectors;
pub mod wire;
