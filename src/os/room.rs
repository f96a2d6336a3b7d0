//! What is free on a disk.
//!
//! Invariant: what counts is what this process may use: the reserve of a file system is root's.

use nix::sys::statvfs::statvfs;
use std::path::Path;
use supervision::room::Room;

/// The room on the disk that a folder is on. Blocks, on a dead network drive for long.
///
/// # Errors
/// When there is no such folder, or the file system does not say.
pub fn room(folder: &Path) -> nix::Result<Room> {
    let disk = statvfs(folder)?;
    let (blocks, files) = if nix::unistd::geteuid().is_root() {
        (disk.blocks_free(), disk.files_free())
    } else {
        (disk.blocks_available(), disk.files_available())
    };
    Ok(Room {
        bytes: blocks.saturating_mul(disk.fragment_size()),
        // Those that make them as they need them count none.
        files: (disk.files() > 0).then_some(files),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_tells_and_a_folder_that_is_not_there_does_not() {
        let here = tempfile::tempdir().unwrap();
        assert!(room(here.path()).unwrap().bytes > 0);
        assert!(room(&here.path().join("nothing")).is_err());
    }
}
