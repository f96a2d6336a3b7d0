//! The actor tree (architecture §1), and the ports its actors act through.
//!
//! ```text
//! root ── catalog (inventory: knows every plugin id, finds its actor)
//!      ├─ core (a plugin actor of kind core)
//!      ├─ plugin × N
//!      ├─ monitor (samples all trees)
//!      ├─ bridge (bus ↔ commands)
//!      ├─ renewal (keeps credentials up)
//!      ├─ control (signals, systemd)
//!      └─ local (the same commands over a socket of this machine)
//! ```
//!
//! Invariants:
//! - an actor translates a message into an event, steps, performs, arms one timer; policy is in `supervision`;
//! - what must outlive an actor is in its [`seat::Seat`]; a panic costs an actor, never a plugin;
//! - views are read from the [`seat::Roster`]; nobody asks a busy actor for its state.

pub mod api;
pub mod bridge;
pub mod catalog;
pub mod clock;
pub mod control;
pub mod desk;
pub mod happening;
pub mod health;
pub mod host;
pub mod hub;
pub mod inventory;
pub mod link;
pub mod local;
pub mod memory;
pub mod message;
pub mod monitor;
pub mod news;
mod outbox;
pub mod plugin;
pub mod ports;
pub mod prepare;
pub mod reload;
pub mod renewal;
pub mod root;
mod sampling;
pub mod seat;
mod stops;
pub mod turn;
pub mod view;
pub(crate) mod watch;
mod wind;
mod words;
