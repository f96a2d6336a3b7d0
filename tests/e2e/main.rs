//! The hub as an operator meets it: real processes, a real broker, real signals.

mod hub;
mod lifecycle;
mod survival;
mod texts;
mod wire;
