//! The embedded core: MQTT 5 broker, roles and auth service in one process (spec §7, HP 1.14–1.20).
//!
//! Invariants:
//! - Nothing that a role, an inbox rule or a missing account forbids is published or delivered, on open connections too.
//! - It needs no network, route or DNS, and no other process.
//! - No client can make it panic, grow without bound or keep others waiting.
//!
//! [`cli`] is the program, [`core`] a running core; [`roles`], [`packet`], [`clients`] and [`config`] are pure.

pub mod auth;
pub mod backlog;
pub mod cli;
pub mod clients;
pub mod coming;
pub mod config;
pub mod connections;
pub mod core;
mod cork;
pub mod credentials;
pub mod discovery;
pub mod doors;
pub mod folders;
pub mod grants;
pub mod guesses;
pub mod hub;
pub mod identity;
pub mod job;
pub mod kept;
pub mod limits;
pub mod listen;
pub mod lock;
pub mod machine;
mod memory;
mod metered;
pub mod numbers;
pub mod packet;
pub mod refusals;
mod remind;
pub mod roles;
mod room;
pub mod sentry;
pub mod service;
pub mod store;
pub mod stream;
pub mod tls;
pub mod upkeep;
pub mod validity;
mod watch;
mod websocket;

pub use cli::run;
pub use config::Config;
pub use core::{Core, Settings, StartError};
pub use folders::Folders;

/// An error with its sources on one line, as the operator sees it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod testing;
