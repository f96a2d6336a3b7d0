//! One launcher per home: a locked file that tells who holds it.
//!
//! Invariant: the lock is the kernel's, on the open file, so it ends with its holder however that ends; the number in
//! the file is for showing only.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why the lock is not ours.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another one has it.
    #[error("{}", held_text(path, *pid))]
    HeldBy {
        /// The lock file.
        path: PathBuf,
        /// The holder, when it has said so.
        pid: Option<i32>,
    },
    /// The file cannot be opened, locked or written.
    #[error("cannot take the lock {}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn held_text(path: &Path, pid: Option<i32>) -> String {
    let who = pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    );
    format!(
        "{who} is running this home already (lock {}); stop it first or use another home",
        path.display()
    )
}

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path`, making the file (0600) where it is missing, and writes our number into it. Never waits.
    /// Its folder must be there.
    ///
    /// # Errors
    /// [`LockError::HeldBy`] when another one has it; [`LockError::Io`] otherwise.
    pub fn take(path: &Path) -> Result<Lock, LockError> {
        let failed = |source| LockError::Io {
            path: path.to_owned(),
            source,
        };
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(LockError::HeldBy {
                        path: path.to_owned(),
                        pid: written_number(&mut file),
                    });
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            // Somebody may have removed the file between our opening and locking: a lock on a file without a name
            // keeps nobody out.
            if !is_same_file(&file, path).map_err(failed)? {
                continue;
            }
            file.set_len(0).map_err(failed)?;
            file.rewind().map_err(failed)?;
            writeln!(file, "{}", std::process::id()).map_err(failed)?;
            return Ok(Lock { _file: file });
        }
    }
}

fn written_number(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn is_same_file(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::shortly;

    #[test]
    fn the_second_one_learns_who_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        fs::write(&path, "an old and longer text\n").unwrap();
        let first = Lock::take(&path).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        match Lock::take(&path) {
            Err(LockError::HeldBy { pid, .. }) => assert_eq!(pid, Some(me)),
            other => panic!("{other:?}"),
        }
        drop(first);
        shortly(|| Lock::take(&path).is_ok());
    }

    #[test]
    fn a_missing_folder_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let error = Lock::take(&folder.path().join("no/lock")).unwrap_err();
        assert!(matches!(error, LockError::Io { .. }));
    }
}
