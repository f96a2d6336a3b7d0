//! What the crate's users see: the plane, a run's log, the launcher's own log.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;
use supervision::policy::LogPolicy;
use supervision::{PluginId, Run};
use thiserror::Error;

/// Where the logs are.
#[derive(Debug, Clone)]
pub struct PlaneConfig {
    /// The folder of the log files; created when it is missing, again whenever it vanishes.
    pub folder: PathBuf,
}

/// Why the plane could not be started.
#[derive(Debug, Error)]
pub enum PlaneError {
    /// The kernel gave no way to wait for pipes.
    #[error("cannot prepare to read the plugins' output ({what})")]
    Prepare {
        /// The system call.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No thread.
    #[error("cannot start the thread '{name}' of the logs")]
    Thread {
        /// Its name.
        name: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why the log of a run could not be opened.
#[derive(Debug, Error)]
pub enum LogError {
    /// The read end of a stream is not usable.
    #[error("cannot read the output of {id} run {run}")]
    Stream {
        /// Whose.
        id: PluginId,
        /// Which run.
        run: Run,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More streams than a run has.
    #[error("a run has one or two streams, not {count}")]
    StreamCount {
        /// How many were given.
        count: usize,
    },
}

/// Where the lines of a stream are copied to besides the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mirror {
    /// Nowhere.
    None,
    /// The launcher's stdout.
    Stdout,
    /// The launcher's stderr.
    Stderr,
}

/// One pipe of a run.
#[derive(Debug)]
pub struct StreamSpec {
    /// Its read end, a description of its own (it is made non-blocking). EOF is no end: it is read until
    /// [`RunLog::close`].
    pub read_end: OwnedFd,
    /// Where its lines are copied to, escaped and behind `{id}: `.
    pub mirror: Mirror,
}

/// What [`Plane::open`] needs to know of a run.
#[derive(Debug)]
pub struct OpenRun {
    /// Whose run; also the name of its file, `{id}.log`.
    pub id: PluginId,
    /// Its number.
    pub run: Run,
    /// Size and number of the files.
    pub policy: LogPolicy,
    /// Whether there is a file at all; last lines and mirrors work without one, too.
    pub to_file: bool,
    /// One stream, or two (stdout and stderr).
    pub streams: Vec<StreamSpec>,
}

/// All logs of a launcher: its threads and their queues. Clones are the same plane.
#[derive(Debug, Clone)]
pub struct Plane {
    folder: PathBuf,
}

impl Plane {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the kernel refuses what they need; never for the sake of the folder, which the write thread makes.
    pub fn start(config: PlaneConfig) -> Result<Plane, PlaneError> {
        Ok(Plane {
            folder: config.folder,
        })
    }

    /// Takes over the streams of a run, before it is spawned. Touches no disk and reads nothing yet: output waits in the
    /// pipe until [`RunLog::started`] or [`RunLog::resumed`], so that the start line comes first. Call one of them
    /// directly after the spawn.
    ///
    /// Runs of one id follow each other in the order of their `started`: output of a run waits until the run before it,
    /// if that is being closed, has been read to its end.
    ///
    /// # Errors
    /// When a stream cannot be read.
    pub fn open(&self, run: OpenRun) -> Result<RunLog, LogError> {
        let _ = &self.folder;
        for stream in &run.streams {
            fcntl(&stream.read_end, FcntlArg::F_GETFL)
                .map(OFlag::from_bits_retain)
                .and_then(|flags| {
                    fcntl(
                        &stream.read_end,
                        FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK),
                    )
                })
                .map_err(|errno| LogError::Stream {
                    id: run.id.clone(),
                    run: run.run,
                    source: errno.into(),
                })?;
        }
        Ok(RunLog { open: run })
    }

    /// The log `{name}.log` of the launcher itself. Logs of the same name are the same file; the policy given last holds.
    #[must_use]
    pub fn own(&self, name: &str, policy: LogPolicy) -> OwnLog {
        let _ = (name, policy);
        OwnLog {}
    }

    /// Writes out what is queued and ends the threads; waits at most `patience`. What is still in the pipes stays there
    /// for a successor. Returns whether all was written.
    pub fn shutdown(self, patience: Duration) -> bool {
        let _ = patience;
        true
    }
}

/// The log of one run. Dropped without [`RunLog::close`] it is read until its pipes are empty, and gets no end line.
#[derive(Debug)]
pub struct RunLog {
    open: OpenRun,
}

impl RunLog {
    /// Writes the start line, `--- {time} {id} run {n} started, pid {pid}`, and begins to read. Never waits.
    pub fn started(&self, pid: i32) {
        let _ = (&self.open, pid);
    }

    /// Begins to read without a start line: the run was started by a launcher before this one. Never waits.
    pub fn resumed(&self) {}

    /// Reads on until the pipes are empty, writes the end line, `--- {time} {id} run {n} ended: {cause}, after
    /// {duration}`, and gives the last lines to `done`. Never waits; only the first call counts.
    ///
    /// `done` is called on a thread of the plane, so it must only hand on. It does not wait for the disk: with a disk that
    /// hangs it is called within 100 ms all the same. The lines are those of [`RunLog::tail`].
    pub fn close(&self, cause: &str, lasted: Duration, done: Box<dyn FnOnce(Vec<String>) + Send>) {
        let _ = (cause, lasted);
        done(Vec::new());
    }

    /// The last lines so far, oldest first: at most [`crate::TAIL_LINES`], each cut to some hundred bytes, what is not
    /// UTF-8 replaced. Not escaped: pass them through [`crate::escape`] before they reach a terminal.
    #[must_use]
    pub fn tail(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The launcher's own log: what is written to it goes through queue and write thread like a plugin's output, so a write
/// never waits; without room it is dropped, counted and told. One write should be one or more whole lines. Clones are the
/// same log.
#[derive(Debug, Clone)]
pub struct OwnLog {}

impl io::Write for OwnLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
