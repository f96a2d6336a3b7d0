//! What the write thread asks of a file system; a trait, so that tests can have one that fails or hangs.

use nix::libc::{O_CLOEXEC, O_NOCTTY, O_NONBLOCK};
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Mode of a new log file, whatever the umask is.
const MODE: u32 = 0o644;

/// Which file it is: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

/// A file just opened.
#[derive(Debug)]
pub(crate) struct Opened<F> {
    pub(crate) file: F,
    pub(crate) size: u64,
    /// It is empty or its last byte is a line end.
    pub(crate) ends_line: bool,
    pub(crate) identity: Identity,
}

/// The calls of a file system that logs need. All may fail and hang.
pub(crate) trait Disk: Send + 'static {
    /// An open file.
    type File: Send;
    /// Opens for appending; makes the file and its folder when missing.
    fn open(&self, path: &Path) -> io::Result<Opened<Self::File>>;
    /// Appends the beginning of `bytes`, returns how much.
    fn append(&self, file: &mut Self::File, bytes: &[u8]) -> io::Result<usize>;
    /// Which file has this name now, and its size; `None` without one.
    fn look(&self, path: &Path) -> io::Result<Option<(Identity, u64)>>;
    /// Gives a file another name, in place of what had that.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The real one.
#[derive(Debug)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    type File = File;

    fn open(&self, path: &Path) -> io::Result<Opened<File>> {
        let file = match open_append(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(folder) = path.parent() {
                    std::fs::create_dir_all(folder)?;
                }
                open_append(path)?
            }
            other => other?,
        };
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        if meta.len() == 0 && meta.mode() & 0o7777 != MODE {
            // New, and the umask took something away. On failure the mode stays as it is, which stops no log.
            let _ = file.set_permissions(Permissions::from_mode(MODE));
        }
        Ok(Opened {
            ends_line: ends_line(&file, meta.len())?,
            size: meta.len(),
            identity: identity(&meta),
            file,
        })
    }

    fn append(&self, file: &mut File, bytes: &[u8]) -> io::Result<usize> {
        file.write(bytes)
    }

    fn look(&self, path: &Path) -> io::Result<Option<(Identity, u64)>> {
        match std::fs::metadata(path) {
            Ok(meta) => Ok(Some((identity(&meta), meta.len()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

fn open_append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(MODE)
        // Should somebody have put a FIFO there: an error, not a wait.
        .custom_flags(O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
        .open(path)
}

fn ends_line(file: &File, size: u64) -> io::Result<bool> {
    let Some(last) = size.checked_sub(1) else {
        return Ok(true);
    };
    let mut byte = [b'\n'];
    // Cut by somebody since: then it reads nothing, and the byte stays a line end.
    file.read_at(&mut byte, last)?;
    Ok(byte == [b'\n'])
}

fn identity(meta: &Metadata) -> Identity {
    Identity(meta.dev(), meta.ino())
}
