//! Why a process could not be started, in the words of Go where clients know them (HP 1.7).

use crate::fifo::FifoError;
use crate::pidfd::PidfdError;
use nix::errno::Errno;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use supervision::lifecycle::SpawnFailure;
use thiserror::Error;

/// Why a process could not be started. The text is shown to users and to clients of the original as it is.
#[derive(Debug, Error)]
pub enum SpawnError {
    /// There is no such executable.
    #[error("fork/exec {}: no such file or directory", path.display())]
    Missing {
        /// The executable.
        path: PathBuf,
    },
    /// It is open for writing, so somebody is still copying it.
    #[error("fork/exec {}: text file busy; it is still being written", path.display())]
    Busy {
        /// The executable.
        path: PathBuf,
    },
    /// It is there, but what it needs to be executed is not.
    #[error("fork/exec {}: {}: {needs}", path.display(), Lower(*errno))]
    Needs {
        /// The executable.
        path: PathBuf,
        /// What the system said.
        errno: Errno,
        /// What is missing and what to do.
        needs: String,
    },
    /// Its working folder is no folder that we can enter.
    #[error("chdir {}: {}", cwd.display(), Lower(*errno))]
    Folder {
        /// The working folder.
        cwd: PathBuf,
        /// What the system said.
        errno: Errno,
    },
    /// The machine or a limit has no room for one more.
    #[error("fork/exec {}: {}; {way_out}", path.display(), Lower(*errno))]
    NoRoom {
        /// The executable.
        path: PathBuf,
        /// What the system said.
        errno: Errno,
        /// What to do.
        way_out: &'static str,
    },
    /// Anything else the system said.
    #[error("fork/exec {}: {}", path.display(), Lower(*errno))]
    Exec {
        /// The executable.
        path: PathBuf,
        /// What the system said.
        errno: Errno,
    },
    /// A path, argument or variable cannot be given to a program.
    #[error("fork/exec {}: invalid argument: a path, argument or variable has a zero byte in it", path.display())]
    ZeroByte {
        /// The executable.
        path: PathBuf,
    },
    /// Its output cannot be connected.
    #[error("fork/exec {}: its output cannot be connected: {source}", path.display())]
    Output {
        /// The executable.
        path: PathBuf,
        /// Why.
        #[source]
        source: FifoError,
    },
    /// It was started but could not be held, and was ended again.
    #[error("fork/exec {}: it was ended again, as it could not be watched: {source}", path.display())]
    Unwatched {
        /// The executable.
        path: PathBuf,
        /// Why.
        #[source]
        source: PidfdError,
    },
    /// The thread that starts processes has ended.
    #[error("fork/exec {}: the launcher no longer starts processes", path.display())]
    Closed {
        /// The executable.
        path: PathBuf,
    },
}

impl SpawnError {
    /// A program that was started, but could not be held.
    pub(crate) fn unwatched(path: &Path, source: PidfdError) -> SpawnError {
        let path = path.to_owned();
        let errno = match &source {
            PidfdError::Open { source, .. } | PidfdError::Identify { source, .. } => {
                Errno::from_raw(source.raw_os_error().unwrap_or(0))
            }
        };
        match room_way_out(errno) {
            Some(way_out) => SpawnError::NoRoom {
                path,
                errno,
                way_out,
            },
            None => SpawnError::Unwatched { path, source },
        }
    }

    /// Finds the words for what the system said when `path` was to be executed in `cwd`.
    pub(crate) fn explain(path: &Path, cwd: &Path, error: &io::Error) -> SpawnError {
        let path = path.to_owned();
        let Some(number) = error.raw_os_error() else {
            // The only error that std makes itself.
            return SpawnError::ZeroByte { path };
        };
        let errno = Errno::from_raw(number);
        // An errno does not tell whether the folder or the program is meant.
        if let Err(folder) = enter(cwd) {
            let cwd = cwd.to_owned();
            return SpawnError::Folder { cwd, errno: folder };
        }
        if let Some(way_out) = room_way_out(errno) {
            return SpawnError::NoRoom {
                path,
                errno,
                way_out,
            };
        }
        if errno == Errno::ETXTBSY {
            return SpawnError::Busy { path };
        }
        if errno == Errno::ENOENT && !path.exists() {
            return SpawnError::Missing { path };
        }
        match needs(&path, errno) {
            Some(needs) => SpawnError::Needs { path, errno, needs },
            None => SpawnError::Exec { path, errno },
        }
    }
}

impl From<SpawnError> for SpawnFailure {
    fn from(error: SpawnError) -> Self {
        let text = error.to_string();
        match error {
            SpawnError::Missing { .. } => SpawnFailure::Missing(text),
            SpawnError::Busy { .. } => SpawnFailure::Busy(text),
            SpawnError::Needs { .. }
            | SpawnError::Folder { .. }
            | SpawnError::NoRoom { .. }
            | SpawnError::Exec { .. }
            | SpawnError::ZeroByte { .. }
            | SpawnError::Output { .. }
            | SpawnError::Unwatched { .. }
            | SpawnError::Closed { .. } => SpawnFailure::Failed(text),
        }
    }
}

/// The system's text of an error as Go has it: beginning with a small letter.
struct Lower(Errno);

impl fmt::Display for Lower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its words are those of Go; what `nix` has are others for some.
        let text = io::Error::from(self.0).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        let mut rest = text.chars();
        match rest.next() {
            Some(first) => write!(f, "{}{}", first.to_ascii_lowercase(), rest.as_str()),
            None => write!(f, "errno {}", self.0 as i32),
        }
    }
}

/// Why we could not work in a folder.
fn enter(cwd: &Path) -> Result<(), Errno> {
    match std::fs::metadata(cwd) {
        Ok(found) if !found.is_dir() => Err(Errno::ENOTDIR),
        Ok(_) => nix::unistd::access(cwd, nix::unistd::AccessFlags::X_OK),
        Err(error) => Err(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))),
    }
}

/// What to do when there is no room; `None` when the error is another one. The list of errors is open, hence `if`.
fn room_way_out(errno: Errno) -> Option<&'static str> {
    if errno == Errno::EAGAIN {
        Some("the limit on processes is reached: end some, or raise TasksMax= or ulimit -u")
    } else if errno == Errno::ENOMEM {
        Some("no memory is left: end or limit what uses it")
    } else if errno == Errno::EMFILE {
        Some("the launcher's limit on open files is reached: raise LimitNOFILE= or ulimit -n")
    } else if errno == Errno::ENFILE {
        Some("the machine's limit on open files is reached: raise fs.file-max")
    } else if errno == Errno::E2BIG {
        Some("its arguments and environment are too long: shorten args, env or envFile")
    } else {
        None
    }
}

/// For which machine a program was built (ELF `e_machine`), when not for this one.
fn other_machine(path: &Path) -> Option<String> {
    let mut header = [0; 20];
    std::fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut header))
        .ok()?;
    machine_of(&header).filter(|machine| machine != std::env::consts::ARCH)
}

/// The name of the machine in an ELF header, as [`std::env::consts::ARCH`] has it; none when it is no such header.
fn machine_of(header: &[u8; 20]) -> Option<String> {
    if !header.starts_with(b"\x7fELF") {
        return None;
    }
    let [.., low, high] = *header;
    // Byte 5 tells the order of bytes.
    let number = if header[5] == 2 {
        u16::from_be_bytes([low, high])
    } else {
        u16::from_le_bytes([low, high])
    };
    Some(match number {
        3 => "x86".to_owned(),
        8 => "mips".to_owned(),
        21 => "powerpc64".to_owned(),
        22 => "s390x".to_owned(),
        40 => "arm".to_owned(),
        62 => "x86_64".to_owned(),
        183 => "aarch64".to_owned(),
        243 => "riscv64".to_owned(),
        other => format!("a machine of another kind (ELF {other})"),
    })
}

/// What a file that is there needs to be executed and does not have.
fn needs(path: &Path, errno: Errno) -> Option<String> {
    if errno == Errno::ENOEXEC {
        if let Some(machine) = other_machine(path) {
            return Some(format!(
                "it is a program for {machine}, and this machine is {}; install a build for this machine",
                std::env::consts::ARCH
            ));
        }
        return Some(
            "it is neither a program for this machine nor a script whose first line names its interpreter, like \
             #!/bin/sh; install a build for this machine, or add that line"
                .to_owned(),
        );
    }
    if errno == Errno::EACCES && is_without_programs(path) {
        return Some(format!(
            "the file system of {} is mounted noexec; mount -o remount,exec it, or keep the program elsewhere",
            path.parent().unwrap_or(path).display()
        ));
    }
    let mut start = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(256).read_to_end(&mut start).ok()?;
    if start.starts_with(b"\x7fELF") {
        return (errno == Errno::ENOENT).then(|| {
            "the loader it was built for is missing; install a build for this system and C library"
                .to_owned()
        });
    }
    let interpreter = interpreter_of(&start)?;
    if errno == Errno::ENOENT {
        // An editor of Windows leaves a carriage return, which the kernel takes for a part of the name.
        let carriage = if interpreter.ends_with('\r') {
            " (its first line ends in a carriage return)"
        } else {
            ""
        };
        let interpreter = interpreter.trim_end();
        Some(format!(
            "its interpreter {interpreter} is missing{carriage}; install it or correct the script's first line"
        ))
    } else if errno == Errno::EACCES && nix::unistd::access(path, x_ok()).is_ok() {
        let way_out = if is_without_programs(Path::new(&interpreter)) {
            "its file system is mounted noexec; mount -o remount,exec it, or correct the script's first line"
        } else {
            "correct the script's first line"
        };
        Some(format!(
            "its interpreter {interpreter} may not be executed; {way_out}"
        ))
    } else {
        None
    }
}

/// Whether nothing is executed from the file system of a file.
fn is_without_programs(path: &Path) -> bool {
    let flags = nix::sys::statvfs::statvfs(path).map(|found| found.flags());
    flags.is_ok_and(|flags| flags.contains(nix::sys::statvfs::FsFlags::ST_NOEXEC))
}

fn x_ok() -> nix::unistd::AccessFlags {
    nix::unistd::AccessFlags::X_OK
}

/// The interpreter that a script's first line names.
fn interpreter_of(start: &[u8]) -> Option<String> {
    let line = interpreter_line(start)?;
    let end = line.find([' ', '\t']).unwrap_or(line.len());
    Some(line[..end].to_owned())
}

/// A script's first line after `#!` and blanks; `None` when it is no script.
pub(crate) fn interpreter_line(start: &[u8]) -> Option<String> {
    let line = start.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let line = line.trim_start_matches([' ', '\t']);
    (!line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_for_another_machine_is_known_by_its_header() {
        let mut header = [0; 20];
        assert_eq!(machine_of(&header), None);
        header[..4].copy_from_slice(b"\x7fELF");
        header[5] = 1;
        header[18] = 183;
        assert_eq!(machine_of(&header).as_deref(), Some("aarch64"));
        header[5] = 2;
        header[18..].copy_from_slice(&[0, 22]);
        assert_eq!(machine_of(&header).as_deref(), Some("s390x"));
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("meter");
        std::fs::write(&path, header).unwrap();
        let needs = needs(&path, Errno::ENOEXEC).unwrap();
        assert!(
            needs.starts_with("it is a program for s390x, and this machine is "),
            "{needs}"
        );
    }

    #[test]
    fn interpreters_are_read() {
        let cases: [(&[u8], Option<&str>); 6] = [
            (b"#!/bin/sh\necho", Some("/bin/sh")),
            (b"#! /usr/bin/env python3\n", Some("/usr/bin/env")),
            (b"#!/bin/sh -e", Some("/bin/sh")),
            (b"#!/bin/sh\r\n", Some("/bin/sh\r")),
            (b"#!\n", None),
            (b"\x7fELF", None),
        ];
        for (start, expected) in cases {
            assert_eq!(interpreter_of(start).as_deref(), expected, "{start:?}");
        }
    }

    #[test]
    fn no_room_names_the_way_out() {
        for errno in [libc::EAGAIN, libc::ENOMEM, libc::EMFILE, libc::E2BIG] {
            let error = io::Error::from_raw_os_error(errno);
            let error = SpawnError::explain(Path::new("/p/x"), Path::new("/"), &error);
            let text = error.to_string();
            assert!(text.starts_with("fork/exec /p/x: "), "{text}");
            assert!(text.contains("; "), "{text}");
            assert!(matches!(error.into(), SpawnFailure::Failed(_)));
        }
    }
}
