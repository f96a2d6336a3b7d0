//! What the launcher answers on the bus, free of how it came there.

pub mod serve;
pub mod show;
