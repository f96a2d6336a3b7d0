//! Every system call of supervision: spawning, process trees, pidfds, FIFOs, the process table, systemd's socket.
//!
//! The way in is [`settle`], once at the start of the program, then [`Host::start`] and [`Host::spawn`]; a [`Process`]
//! is one run with everything that came from it.
//!
//! Invariants of this crate:
//! - a process is signalled only while its number is pinned: as member of a group whose leader we have not reaped, or
//!   through a pidfd whose identity was checked after it was opened (T1);
//! - children are reaped in one place (the book of live runs), each by its own number, never by "any child";
//! - a leader is reaped only when nothing else of its tree lives, and nothing is signalled after that (T3, T4);
//! - between fork and exec there are a few system calls at most: no `pre_exec`, no uid, no gid, so a start costs the same
//!   at any size;
//! - every descriptor is close-on-exec; a child gets stdin, stdout and stderr and nothing else;
//! - a signal that found nobody and a signal that was not allowed are different answers (T45).

mod birth;
mod book;
pub mod cgroup;
mod clone;
mod exec;
pub mod fifo;
pub mod folders;
pub mod foreign;
mod host;
pub mod inspect;
pub mod limits;
pub mod local;
pub mod lock;
mod marker;
mod member;
pub mod memory;
mod newborn;
pub mod notify;
pub mod pidfd;
mod process;
pub mod readable;
pub mod room;
mod run;
mod said;
mod sender;
mod settle;
mod shared;
mod spawn;
mod spawn_error;
mod spec;
pub mod sweep;
mod sys;
pub mod table;
pub mod told;
mod tree;
pub mod usage;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use book::Orphan;
pub use host::{Host, HostConfig};
pub use marker::{HOME_VARIABLE, Marker, RUN_VARIABLE};
pub use member::Member;
pub use process::Process;
pub use settle::{SetupError, keep_signals_away, settle, without_signals};
pub use spawn_error::SpawnError;
pub use spec::{Output, SpawnSpec};
pub use tree::{Delivered, SignalError};
