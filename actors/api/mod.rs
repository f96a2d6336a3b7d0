//! What the launcher answers, on the bus and on the socket of its machine, free of how the request came there.

pub mod account;
pub mod answer;
pub mod serve;
pub mod show;
