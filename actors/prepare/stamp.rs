//! Whether a file is still the one that was judged.
//!
//! Invariant: whoever replaces a file or writes into it changes its stamp.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file as it was at one moment: device, inode, length, times of content and of the rest; none when it was not there.
pub(super) type Stamp = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

/// The file as it is now.
pub(super) fn stamp(path: &Path) -> Stamp {
    let meta = std::fs::metadata(path).ok()?;
    let (modified, changed) = (
        (meta.mtime(), meta.mtime_nsec()),
        (meta.ctime(), meta.ctime_nsec()),
    );
    Some((meta.dev(), meta.ino(), meta.len(), modified, changed))
}
