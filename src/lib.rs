//! The programs of the launcher of a HiveOT hub: command lines, configuration, wiring and views.
//!
//! Invariants: only this package reads configuration files, environment and arguments; the crates below get typed values.

pub mod app;
