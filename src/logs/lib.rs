//! Plugin logs: capture, bounds, rotation, last lines (spec §11).
//!
//! ```text
//! FIFO ─▶ drain thread ─▶ Feed, one per log, bounded ─▶ write thread ─▶ logs/{id}.log
//!              │ ╲
//!              │  ╲─▶ mirror, bounded ─▶ mirror thread ─▶ stdout, stderr
//!              └────▶ last lines of the run
//! ```
//!
//! Invariants of this crate:
//! - who calls it never waits for a disk or a terminal: only the write thread touches files, only the mirror thread
//!   touches the terminal;
//! - a plugin's pipe is read on within 100 ms, whatever the disk does: what then has no room is dropped, counted, and
//!   told by one line;
//! - a line in a file is whole: it is cut only at [`MAX_LINE`], when lines were dropped in its middle (one of the counted
//!   ones), or when another stream of its run waited too long for its end; own lines begin at the start of a line;
//! - the queue of a log never holds more than 256 KiB;
//! - idle costs nothing: no thread has a timer unless something is under way.
//!
//! No runtime: plain threads, so that nothing of the control plane can delay a plugin's output and the other way round.

mod awaited;
mod disk;
mod drain;
mod escape;
mod feed;
mod file;
mod inbox;
mod merge;
mod mirror;
mod own;
mod pace;
mod pattern;
mod plane;
mod registry;
mod run_core;
mod tail;
mod words;
mod write;

#[cfg(test)]
mod tests;

pub use awaited::Awaited;
pub use escape::{escape, escape_into};
pub use mirror::Mirror;
pub use own::OwnLog;
pub use pattern::{LinePattern, PatternError};
pub use plane::{LogError, OpenRun, Plane, PlaneConfig, PlaneError, RunLog, StreamSpec};

/// A line longer than this many bytes is split; `--- line continues` stands between the pieces (spec §11).
pub const MAX_LINE: usize = 1024 * 1024;

/// How many of the last lines of a run are kept (spec §11).
pub const TAIL_LINES: usize = 20;
