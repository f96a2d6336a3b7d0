//! The named pipe that carries the output of one run (spec §11).
//!
//! Invariants: a FIFO is 0600 whatever the umask; every descriptor is close-on-exec; nothing but a FIFO is ever opened,
//! and no link is followed.

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a FIFO cannot be used.
#[derive(Debug, Error)]
pub enum FifoError {
    /// It cannot be made.
    #[error("cannot make the fifo {}", path.display())]
    Create {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It cannot be opened.
    #[error("cannot open the fifo {}", path.display())]
    Open {
        /// Where.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Something else is in its place.
    #[error("{} is not a fifo; move it away", path.display())]
    NotAFifo {
        /// Where.
        path: PathBuf,
    },
}

/// Makes a FIFO, readable and writable by its owner only. One that is there already is replaced, so that no holder of
/// an old one is in it.
///
/// # Errors
/// When the file system refuses (some know no FIFOs: take a pipe then), or when something else is in its place.
pub fn create(path: &Path) -> Result<(), FifoError> {
    let failed = |source| FifoError::Create {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_fifo() => fs::remove_file(path).map_err(failed)?,
        Ok(_) => {
            return Err(FifoError::NotAFifo {
                path: path.to_owned(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let owner_only = Mode::S_IRUSR | Mode::S_IWUSR;
    nix::unistd::mkfifo(path, owner_only).map_err(|errno| failed(errno.into()))?;
    // The umask may have taken bits away.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)
}

/// The reading end: never blocks.
///
/// # Errors
/// When it cannot be opened or is no FIFO.
pub fn open_reader(path: &Path) -> Result<File, FifoError> {
    open(OpenOptions::new().read(true), OFlag::O_NONBLOCK, path)
}

/// The end that becomes a child's output: both ends at once, so that neither a dead launcher nor a late one breaks it
/// (spec §11). Blocking, as programs expect of their output.
///
/// # Errors
/// When it cannot be opened or is no FIFO.
pub fn open_for_child(path: &Path) -> Result<OwnedFd, FifoError> {
    let both = open(
        OpenOptions::new().read(true).write(true),
        OFlag::empty(),
        path,
    )?;
    Ok(both.into())
}

/// Whether any process holds the FIFO for reading, as every child does whose output it is. Only of use while we do not
/// read it ourselves: at adoption and at a sweep. A FIFO that is not there is held by nobody.
///
/// # Errors
/// When it cannot be asked.
pub fn is_held(path: &Path) -> Result<bool, FifoError> {
    match open(OpenOptions::new().write(true), OFlag::O_NONBLOCK, path) {
        Ok(_) => Ok(true),
        Err(FifoError::Open { source, .. })
            if matches!(source.raw_os_error(), Some(libc::ENXIO | libc::ENOENT)) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Whether any process holds the FIFO for writing, asked of our own reading end; what was written may still be unread.
/// True as long as nobody has had it open for writing since `reader` was opened; and for a moment while a process is being
/// started that has a copy of its writing end until its exec.
#[must_use]
pub fn has_writer(reader: impl AsFd) -> bool {
    let mut fds = [nix::poll::PollFd::new(
        reader.as_fd(),
        nix::poll::PollFlags::empty(),
    )];
    let asked = nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO);
    let hung_up = fds[0]
        .revents()
        .is_some_and(|events| events.contains(nix::poll::PollFlags::POLLHUP));
    asked.is_err() || !hung_up
}

fn open(options: &mut OpenOptions, flags: OFlag, path: &Path) -> Result<File, FifoError> {
    let failed = |source| FifoError::Open {
        path: path.to_owned(),
        source,
    };
    // Opening a FIFO never waits in any of the three ways we do it: without blocking, or both ends at once.
    let wanted = flags | OFlag::O_NOFOLLOW;
    let file = options
        .custom_flags(wanted.bits())
        .open(path)
        .map_err(failed)?;
    let kind = file.metadata().map_err(failed)?.file_type();
    if !kind.is_fifo() {
        return Err(FifoError::NotAFifo {
            path: path.to_owned(),
        });
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{drain, shortly};
    use std::io::Write;

    fn fifo() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        create(&path).unwrap();
        (folder, path)
    }

    #[test]
    fn it_is_for_its_owner_only_and_close_on_exec() {
        let (_folder, path) = fifo();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let reader = open_reader(&path).unwrap();
        let writer = open_for_child(&path).unwrap();
        for fd in [reader.as_fd(), writer.as_fd()] {
            let flags = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFD).unwrap();
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        }
        let flags = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETFL).unwrap();
        assert_eq!(flags & libc::O_NONBLOCK, 0, "a child's output blocks");
    }

    #[test]
    fn it_tells_whether_it_is_held() {
        let (_folder, path) = fifo();
        assert!(!is_held(&path).unwrap());
        let child = open_for_child(&path).unwrap();
        assert!(is_held(&path).unwrap());
        drop(child);
        shortly(|| !is_held(&path).unwrap());
        fs::remove_file(&path).unwrap();
        assert!(!is_held(&path).unwrap());
    }

    #[test]
    fn the_reader_sees_writers_go_and_loses_nothing() {
        let (_folder, path) = fifo();
        let mut reader = open_reader(&path).unwrap();
        assert!(has_writer(&reader), "nobody has been there yet");
        let mut child = File::from(open_for_child(&path).unwrap());
        child.write_all(b"last words").unwrap();
        assert!(has_writer(&reader));
        drop(child);
        shortly(|| !has_writer(&reader));
        assert_eq!(drain(&mut reader), "last words");
    }

    #[test]
    fn an_old_one_is_replaced_and_nothing_else_is() {
        let (folder, path) = fifo();
        let old = open_for_child(&path).unwrap();
        create(&path).unwrap();
        assert!(!is_held(&path).unwrap(), "the new one has no holder");
        drop(old);
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(matches!(create(&file), Err(FifoError::NotAFifo { .. })));
        assert!(matches!(
            open_reader(&file),
            Err(FifoError::NotAFifo { .. })
        ));
        assert_eq!(fs::read(&file).unwrap(), b"x");
    }
}
