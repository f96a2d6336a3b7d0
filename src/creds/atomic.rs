//! Files that are whole or absent, and folders with exact modes.
//!
//! Invariants: a reader sees the old content or the new one, also after a power cut; a failed write leaves the old file
//! and no temporary one; modes do not depend on the umask (spec §6, T15, T16).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::OFlag;
use tempfile::NamedTempFile;
use thiserror::Error;

/// Mode of files with a private key or a token: only the owner, and not by accident.
pub const PRIVATE_MODE: u32 = 0o400;
/// Mode of files anybody may know.
pub const PUBLIC_MODE: u32 = 0o444;
/// The most bytes a file of this crate may have; what is bigger is something else.
pub const MAX_FILE_BYTES: u64 = 64 * 1024;

/// How the names of temporary files end. They begin with a dot and the name of the file they become.
const TEMPORARY_END: &str = ".new";

/// What went wrong with a file: which one, and at what.
#[derive(Debug, Error)]
pub enum AtomicError {
    /// A path such as `/` or the empty one.
    #[error("{path} cannot be the path of a file")]
    NotAPath {
        /// The path.
        path: PathBuf,
    },
    /// No new file could be made beside the old one.
    #[error(
        "cannot create a new file beside {path}{}",
        if_it_may_not(source, "the folder must exist and be writable")
    )]
    Create {
        /// The file that was to be written.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The content did not fit or could not be forced to disk. The old file is untouched.
    #[error("cannot write {path}; what was there before is unchanged")]
    Write {
        /// The file that was to be written.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The mode could not be set. The old file is untouched.
    #[error("cannot set the mode of {path} to {mode:04o}")]
    Mode {
        /// The file or folder.
        path: PathBuf,
        /// The mode wanted.
        mode: u32,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The finished file could not take the old one's place.
    #[error("cannot put the new {path} in place; what was there before is unchanged")]
    Replace {
        /// The file that was to be written.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The new file is in place, but may be gone after a power cut.
    #[error("cannot force the folder of {path} to disk")]
    SyncFolder {
        /// The file or folder that was written.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Something is there already that must not be replaced.
    #[error("{path} exists already")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A folder could not be made.
    #[error("cannot create the folder {path}")]
    CreateFolder {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// There is no such file.
    #[error("{path} does not exist")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is there but cannot be read.
    #[error(
        "cannot read {path}{}",
        if_it_may_not(source, "check its owner and mode")
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A folder, device, socket or FIFO.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// More than the bound.
    #[error("{path} is larger than {limit} bytes, so it cannot be what it should be")]
    TooBig {
        /// The file.
        path: PathBuf,
        /// The bound, in bytes.
        limit: u64,
    },
    /// Not UTF-8.
    #[error("{path} is not text; it may be half-written or another kind of file")]
    NotText {
        /// The file.
        path: PathBuf,
    },
}

/// The way out where it is a matter of rights or folders, and not of room.
fn if_it_may_not(error: &io::Error, way_out: &str) -> String {
    let kinds = [
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::NotFound,
        io::ErrorKind::NotADirectory,
        io::ErrorKind::ReadOnlyFilesystem,
    ];
    if kinds.contains(&error.kind()) {
        format!("; {way_out}")
    } else {
        String::new()
    }
}

impl AtomicError {
    /// Whether the file is simply not there.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, AtomicError::Missing { .. })
    }

    /// The system's answer behind it, where there is one: tells a full disk from a lack of rights.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            AtomicError::Create { source, .. }
            | AtomicError::Write { source, .. }
            | AtomicError::Mode { source, .. }
            | AtomicError::Replace { source, .. }
            | AtomicError::SyncFolder { source, .. }
            | AtomicError::CreateFolder { source, .. }
            | AtomicError::Unreadable { source, .. } => Some(source.kind()),
            AtomicError::Missing { .. } => Some(io::ErrorKind::NotFound),
            AtomicError::Exists { .. } => Some(io::ErrorKind::AlreadyExists),
            AtomicError::NotAPath { .. }
            | AtomicError::NotAFile { .. }
            | AtomicError::TooBig { .. }
            | AtomicError::NotText { .. } => None,
        }
    }
}

/// Makes `path` a file of exactly these bytes and this mode, whatever was there before and whatever the umask is.
///
/// The order is: temporary file in the same folder, content, mode, fsync, rename, fsync of the folder. The file then
/// belongs to the caller.
///
/// # Errors
/// The step that failed. Until `Replace` the old file is unchanged; a temporary file never stays. After `SyncFolder` the
/// new file is in place.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AtomicError> {
    let temporary = prepare(path, bytes, mode)?;
    temporary
        .persist(path)
        .map_err(|failed| AtomicError::Replace {
            path: path.to_owned(),
            source: failed.error,
        })?;
    sync_folder_of(path)
}

/// As [`write()`], but never replaces anything: of two that write at once exactly one succeeds.
///
/// # Errors
/// `Exists` when something is there; else as [`write()`].
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AtomicError> {
    let temporary = prepare(path, bytes, mode)?;
    temporary.persist_noclobber(path).map_err(|failed| {
        let path = path.to_owned();
        if failed.error.kind() == io::ErrorKind::AlreadyExists {
            AtomicError::Exists { path }
        } else {
            AtomicError::Replace {
                path,
                source: failed.error,
            }
        }
    })?;
    sync_folder_of(path)
}

/// Makes `path` hold these bytes, but touches nothing (and costs no fsync) when it does already.
///
/// Tells whether it wrote. The mode of a file that is right otherwise is left alone.
///
/// # Errors
/// As [`write()`]. A file that cannot be read is replaced.
pub fn write_if_different(path: &Path, bytes: &[u8], mode: u32) -> Result<bool, AtomicError> {
    if read(path, MAX_FILE_BYTES.max(bytes.len() as u64)).is_ok_and(|found| found == bytes) {
        return Ok(false);
    }
    write(path, bytes, mode).map(|()| true)
}

/// Creates the folder `path` and the missing ones above it, each new one with exactly `mode` whatever the umask is.
/// The modes of folders that are there are left alone.
///
/// # Errors
/// The folder that could not be made, or is something else than a folder.
pub fn create_folder(path: &Path, mode: u32) -> Result<(), AtomicError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        create_folder(above, mode)?;
    }
    let failed = |source| AtomicError::CreateFolder {
        path: path.to_owned(),
        source,
    };
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {}
        // Another process may have been faster: that folder is then as good as an old one.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {
            return Ok(());
        }
        Err(error) => return Err(failed(error)),
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|source| {
        AtomicError::Mode {
            path: path.to_owned(),
            mode,
            source,
        }
    })?;
    sync_folder_of(path)
}

/// Reads a regular file of at most `limit` bytes. Never waits: a FIFO in its place is an error.
///
/// # Errors
/// `Missing`, `Unreadable`, `NotAFile` or `TooBig`.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, AtomicError> {
    let unreadable = |source: io::Error| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::NotFound {
            AtomicError::Missing { path }
        } else {
            AtomicError::Unreadable { path, source }
        }
    };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)
        .map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(AtomicError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > limit {
        return Err(AtomicError::TooBig {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

/// Reads a text file of at most [`MAX_FILE_BYTES`].
///
/// # Errors
/// As [`read`], and `NotText`.
pub fn read_text(path: &Path) -> Result<String, AtomicError> {
    String::from_utf8(read(path, MAX_FILE_BYTES)?).map_err(|_| AtomicError::NotText {
        path: path.to_owned(),
    })
}

/// Removes what writers that were killed left in `folder`: temporary files of this module that are older than `age` at
/// `now`. Tells how many. Files it cannot judge or remove stay; that is no error, as they do no harm.
pub fn sweep(folder: &Path, now: SystemTime, age: Duration) -> usize {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            name.starts_with(b".") && name.ends_with(TEMPORARY_END.as_bytes())
        })
        .filter(|entry| {
            entry
                .metadata()
                .and_then(|facts| facts.modified())
                .is_ok_and(|modified| now.duration_since(modified).is_ok_and(|since| since > age))
        })
        .filter(|entry| fs::remove_file(entry.path()).is_ok())
        .count()
}

/// The finished temporary file: content and mode as wanted and on disk. It removes itself when dropped.
fn prepare(path: &Path, bytes: &[u8], mode: u32) -> Result<NamedTempFile, AtomicError> {
    let Some(name) = path.file_name() else {
        return Err(AtomicError::NotAPath {
            path: path.to_owned(),
        });
    };
    let mut prefix = std::ffi::OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    let mut temporary = tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(TEMPORARY_END)
        .tempfile_in(folder_of(path))
        .map_err(|source| AtomicError::Create {
            path: path.to_owned(),
            source,
        })?;
    let written = |source| AtomicError::Write {
        path: path.to_owned(),
        source,
    };
    temporary.write_all(bytes).map_err(written)?;
    let file = temporary.as_file();
    file.set_permissions(Permissions::from_mode(mode))
        .map_err(|source| AtomicError::Mode {
            path: path.to_owned(),
            mode,
            source,
        })?;
    file.sync_all().map_err(written)?;
    Ok(temporary)
}

fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

fn sync_folder_of(path: &Path) -> Result<(), AtomicError> {
    File::open(folder_of(path))
        .and_then(|folder| folder.sync_all())
        .map_err(|source| AtomicError::SyncFolder {
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests;
