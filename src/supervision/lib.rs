//! What the launcher decides: pure, so that every rule can be tested without a process, a file or a clock.
//!
//! Invariants of this crate:
//! - no I/O, no clock, no randomness, no runtime: time and chance come in as arguments ([`MonoTime`], [`backoff::Jitter`]);
//! - every phase × event of the lifecycle is matched without a wildcard;
//! - no delay, count or number wraps: arithmetic saturates.
//!
//! The way in is [`lifecycle::Lifecycle::step`]; the rest are the words it speaks.

pub mod backoff;
pub mod clue;
pub mod credential;
pub mod exit;
pub mod hand;
pub mod ids;
pub mod intensity;
pub mod lifecycle;
pub mod limits;
pub mod order;
pub mod past;
pub mod plan;
pub mod policy;
pub mod ready;
pub mod room;
pub mod time;
pub mod why;

pub use exit::ExitStatus;
pub use ids::{IdError, PluginId, Run};
pub use time::MonoTime;
