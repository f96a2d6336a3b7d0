//! The data that travels on the bus, with the bytes of the original (HP 1.9, 1.10, 1.20, 1.21, spec §18).
//!
//! Invariants: no `null` is ever written (but for the `forms` of a thing description, where the original writes it);
//! all numbers are integers; fields are written in Go's order, ours after them.

mod auth;
mod clients;
mod events;
mod launcher;
mod thing;
mod time;

pub use auth::*;
pub use clients::*;
pub use events::*;
pub use launcher::*;
pub use thing::*;
pub use time::{local_time, local_zone, td_time, unix_ms};
