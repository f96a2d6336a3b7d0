//! How a process is named: by a number alone it is not, as numbers are used again (T1).

/// A process of a tree; with the boot id it is named for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
}
