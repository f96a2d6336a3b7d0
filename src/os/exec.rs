//! `posix_spawn` with a signal mask for the child: std's `Command` hands on the caller's, and nix's knows no working
//! folder. And the same into a cgroup, for which there is no `posix_spawn` before glibc 2.39.
//!
//! Invariant: whatever the calling thread blocks and we ignore, the child begins with an empty mask and default
//! dispositions.

use crate::clone::{self, Deeds, Memory, NotStarted, Target};
use nix::sys::signal::{SigSet, Signal};
use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

/// What an output of a program is.
pub(crate) enum Stream<'a> {
    /// Nothing: `/dev/null`.
    Null,
    /// Ours of the same number.
    Ours,
    /// This descriptor.
    Is(BorrowedFd<'a>),
}

/// A program to be executed, in a process group of its own and with an empty input.
pub(crate) struct Program<'a> {
    /// The executable, absolute.
    pub(crate) path: &'a Path,
    /// Its arguments, its own name first.
    pub(crate) argv: Vec<&'a OsStr>,
    /// Its whole environment.
    pub(crate) env: BTreeMap<&'a OsStr, &'a OsStr>,
    /// Its working folder.
    pub(crate) cwd: &'a Path,
    pub(crate) stdout: Stream<'a>,
    pub(crate) stderr: Stream<'a>,
}

/// Why a program was not started in a cgroup.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The kernel would make no process in that cgroup.
    Clone(io::Error),
    /// What [`Program::start`] would have said, too.
    Program(io::Error),
}

/// Whether a process can be started in this cgroup; none is.
///
/// # Errors
/// Why not.
pub(crate) fn can_start_in(cgroup: BorrowedFd<'_>) -> io::Result<()> {
    let nothing = Program {
        path: Path::new("/dev/null/none"),
        argv: Vec::new(),
        env: BTreeMap::new(),
        cwd: Path::new("/"),
        stdout: Stream::Ours,
        stderr: Stream::Ours,
    };
    match nothing.start_in(cgroup, Memory::BEST) {
        // It came as far as that there is no such program.
        Ok(_) | Err(StartError::Program(_)) => Ok(()),
        Err(StartError::Clone(error)) => Err(error),
    }
}

impl Program<'_> {
    /// Starts it in this cgroup and gives its number; it is our child.
    ///
    /// # Errors
    /// Tells whether it is the cgroup's fault or would be the same elsewhere.
    pub(crate) fn start_in(
        &self,
        cgroup: BorrowedFd<'_>,
        memory: Memory,
    ) -> Result<i32, StartError> {
        let path = text(self.path.as_os_str()).map_err(StartError::Program)?;
        let cwd = text(self.cwd.as_os_str()).map_err(StartError::Program)?;
        let argv = self.words().map_err(StartError::Program)?;
        let env = self.variables().map_err(StartError::Program)?;
        let target = |stream: &Stream<'_>| match stream {
            Stream::Null => Target::Null,
            Stream::Ours => Target::Ours,
            Stream::Is(fd) => Target::Is(fd.as_raw_fd()),
        };
        let (argv_pointers, env_pointers) = (pointers(&argv), pointers(&env));
        let deeds = Deeds {
            path: path.as_ptr(),
            argv: argv_pointers.as_ptr(),
            env: env_pointers.as_ptr(),
            cwd: cwd.as_ptr(),
            outputs: [target(&self.stdout), target(&self.stderr)],
        };
        // SAFETY: all that is pointed to lives until the end of this function, and both arrays end with a null pointer.
        let started = unsafe { clone::start_in(cgroup, &deeds, memory) };
        started.map_err(|error| match error {
            NotStarted::Clone(error) => StartError::Clone(error),
            NotStarted::Deed(error) => StartError::Program(error),
        })
    }

    fn words(&self) -> io::Result<Vec<CString>> {
        self.argv.iter().map(|word| text(word)).collect()
    }

    fn variables(&self) -> io::Result<Vec<CString>> {
        let env = self.env.iter().map(|(name, value)| {
            let mut variable = name.to_os_string();
            variable.push("=");
            variable.push(value);
            text(&variable)
        });
        env.collect()
    }

    /// Starts it and gives its number; it is our child.
    ///
    /// # Errors
    /// What the system said, also of the exec and of the working folder; without a number when there is a zero byte in
    /// a path, argument or variable.
    pub(crate) fn start(&self) -> io::Result<i32> {
        let path = text(self.path.as_os_str())?;
        let argv = self.words()?;
        let env = self.variables()?;
        let actions = self.actions()?;
        let attributes = Attributes::new()?;
        let mut pid = 0;
        // SAFETY: all that is pointed to lives until the end of this function, both arrays end with a null pointer, and
        // the child, which shares our memory until its exec, changes nothing in it.
        done(unsafe {
            libc::posix_spawn(
                &raw mut pid,
                path.as_ptr(),
                &raw const actions.0,
                &raw const attributes.0,
                pointers(&argv).as_ptr(),
                pointers(&env).as_ptr(),
            )
        })?;
        Ok(pid)
    }

    /// What the child does before its exec.
    fn actions(&self) -> io::Result<Actions> {
        let mut actions = Actions::new()?;
        actions.enter(self.cwd)?;
        actions.open_null(0, libc::O_RDONLY)?;
        for (number, stream) in [(1, &self.stdout), (2, &self.stderr)] {
            match stream {
                Stream::Null => actions.open_null(number, libc::O_WRONLY)?,
                Stream::Ours => {}
                Stream::Is(fd) => actions.duplicate(*fd, number)?,
            }
        }
        Ok(actions)
    }
}

fn text(text: &OsStr) -> io::Result<CString> {
    CString::new(text.as_bytes()).map_err(io::Error::from)
}

/// The array that C has for texts: pointers to them, and a null pointer.
fn pointers(texts: &[CString]) -> Vec<*mut libc::c_char> {
    let all = texts.iter().map(|text| text.as_ptr().cast_mut());
    all.chain([ptr::null_mut()]).collect()
}

/// These functions give their error instead of setting `errno`.
fn done(error: i32) -> io::Result<()> {
    match error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> io::Result<Actions> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: it fills in what it is given.
        done(unsafe { libc::posix_spawn_file_actions_init(raw.as_mut_ptr()) })?;
        // SAFETY: it has, as it succeeded; and what it has filled in may be moved.
        Ok(Actions(unsafe { raw.assume_init() }))
    }

    fn enter(&mut self, folder: &Path) -> io::Result<()> {
        let folder = text(folder.as_os_str())?;
        // SAFETY: they are initialised, and the text is copied.
        done(unsafe {
            libc::posix_spawn_file_actions_addchdir_np(&raw mut self.0, folder.as_ptr())
        })
    }

    fn open_null(&mut self, number: i32, flags: i32) -> io::Result<()> {
        let null = c"/dev/null".as_ptr();
        // SAFETY: they are initialised, and the text is copied.
        done(unsafe {
            libc::posix_spawn_file_actions_addopen(&raw mut self.0, number, null, flags, 0)
        })
    }

    fn duplicate(&mut self, fd: BorrowedFd<'_>, number: i32) -> io::Result<()> {
        // SAFETY: they are initialised; a descriptor that is not open would only be an error of the start.
        done(unsafe {
            libc::posix_spawn_file_actions_adddup2(&raw mut self.0, fd.as_raw_fd(), number)
        })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: they are initialised, and not used any more.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> io::Result<Attributes> {
        let mut raw = MaybeUninit::uninit();
        // SAFETY: it fills in what it is given.
        done(unsafe { libc::posix_spawnattr_init(raw.as_mut_ptr()) })?;
        // SAFETY: it has, as it succeeded; and what it has filled in may be moved.
        let mut attributes = Attributes(unsafe { raw.assume_init() });
        let flags = libc::POSIX_SPAWN_SETPGROUP
            | libc::POSIX_SPAWN_SETSIGMASK
            | libc::POSIX_SPAWN_SETSIGDEF;
        let flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
        let (mask, mut default) = (SigSet::empty(), SigSet::empty());
        // Those we catch get their default back by the exec; this one we ignore.
        default.add(Signal::SIGPIPE);
        let attr = &raw mut attributes.0;
        // SAFETY: it is initialised, and the sets are copied.
        unsafe {
            done(libc::posix_spawnattr_setflags(attr, flags))?;
            done(libc::posix_spawnattr_setpgroup(attr, 0))?;
            done(libc::posix_spawnattr_setsigmask(attr, mask.as_ref()))?;
            done(libc::posix_spawnattr_setsigdefault(attr, default.as_ref()))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: it is initialised, and not used any more.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}
