//! Whether a disk has room, and who may have failed for want of it (spec §9: room that returned cuts a backoff short).
//!
//! Invariants: pure; between too little and enough there is a gap, so that a disk on the edge does not have everybody
//! tried again and again.

use crate::lifecycle::{BlockReason, Phase};

/// With less free bytes than this a start fails, most likely: keys, certificates, a page of the log.
const LITTLE_BYTES: u64 = 64 * 1024;

/// From here on a start is worth a try again.
const ENOUGH_BYTES: u64 = 2 * LITTLE_BYTES;

/// The same for free files, where the file system counts them.
const LITTLE_FILES: u64 = 8;
const ENOUGH_FILES: u64 = 2 * LITTLE_FILES;

/// What is free on a disk, for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes.
    pub bytes: u64,
    /// How many more files; none where the file system has no such number.
    pub files: Option<u64>,
}

impl Room {
    /// Whether there is so little that this may be why something failed.
    #[must_use]
    pub fn is_short(self) -> bool {
        self.bytes < LITTLE_BYTES || self.files.is_some_and(|files| files < LITTLE_FILES)
    }

    /// Whether there is so much again that what failed is to be tried.
    #[must_use]
    pub fn is_enough(self) -> bool {
        self.bytes >= ENOUGH_BYTES && self.files.is_none_or(|files| files >= ENOUGH_FILES)
    }
}

/// Whether what it waits for may be room on a disk: after a failure of any kind, as a program ends for a full disk as
/// well as a start, and while it has no credentials, which are files.
#[must_use]
pub fn may_lack_room(phase: &Phase) -> bool {
    match phase.block_reason() {
        Some(BlockReason::Credentials(_)) => true,
        // Nothing is written for these.
        Some(
            BlockReason::Executable(_)
            | BlockReason::Settings(_)
            | BlockReason::Awaits { .. }
            | BlockReason::Requires { .. }
            | BlockReason::Needs(_)
            | BlockReason::Leftover(_),
        ) => false,
        // What is not blocked and tried later has failed.
        None => phase.next_try().is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MonoTime;

    const KIB: u64 = 1024;

    #[test]
    fn a_disk_on_the_edge_is_neither_short_nor_has_enough() {
        let room = |bytes, files| Room { bytes, files };
        for (room, is_short, is_enough) in [
            (room(0, None), true, false),
            (room(64 * KIB - 1, Some(1000)), true, false),
            (room(64 * KIB, None), false, false),
            (room(128 * KIB, None), false, true),
            (room(u64::MAX, Some(7)), true, false),
            (room(u64::MAX, Some(8)), false, false),
            (room(u64::MAX, Some(16)), false, true),
        ] {
            assert_eq!((room.is_short(), room.is_enough()), (is_short, is_enough));
        }
    }

    #[test]
    fn only_what_failed_or_has_no_credentials_waits_for_room() {
        let blocked = |reason| Phase::Blocked {
            reason,
            retry_at: MonoTime::default(),
            attempt: 1,
        };
        let text = String::new;
        assert!(may_lack_room(&blocked(BlockReason::Credentials(text()))));
        assert!(may_lack_room(&Phase::Backoff {
            until: MonoTime::default(),
            attempt: 1
        }));
        for other in [
            blocked(BlockReason::Needs(text())),
            blocked(BlockReason::Executable(text())),
            Phase::Foreign { pid: 7 },
        ] {
            assert!(!may_lack_room(&other), "{other:?}");
        }
    }
}
