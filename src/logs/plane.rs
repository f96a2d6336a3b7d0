//! What the crate's users see: the plane, a run's log, the launcher's own log.
//!
//! Invariant: nothing here waits for a disk or a terminal, but [`Plane::shutdown`] for as long as it may.

use crate::awaited::Awaited;
use crate::disk::{Disk, RealDisk};
use crate::drain::{Command, Commands, Drain, Stream};
use crate::feed::{Feed, Inbox, Pool};
use crate::mirror::{self, LineMirror, Mirror, Mirrors, Sink};
use crate::own::OwnLog;
use crate::registry::Registry;
use crate::run_core::RunCore;
use crate::write::Writer;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
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
    /// No thread for the mirror.
    #[error("cannot copy plugin output to the launcher's own")]
    Mirror {
        /// Why.
        #[source]
        source: PlaneError,
    },
    /// More streams than a run has.
    #[error("a run has one or two streams, not {count}")]
    StreamCount {
        /// How many were given.
        count: usize,
    },
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
    /// A line that somebody waits for; with or without a file.
    pub awaited: Option<Awaited>,
}

/// All logs of a launcher: its threads and their queues. Clones are the same plane; with the last one the threads end, so
/// keep one as long as something is to be logged.
#[derive(Clone)]
pub struct Plane {
    shared: Arc<Shared>,
}

struct Shared {
    commands: Arc<Commands>,
    inbox: Arc<Inbox>,
    registry: Arc<Registry>,
    mirrors: Arc<Mirrors>,
    /// Taken when the first stream is mirrored: then the mirror thread starts.
    sinks: Mutex<Option<(Sink, Sink)>>,
    next_key: AtomicU64,
    ends: Mutex<Ends>,
}

/// What the threads say last.
struct Ends {
    drained: mpsc::Receiver<()>,
    written: mpsc::Receiver<bool>,
    mirrored: Option<mpsc::Receiver<()>>,
}

impl Plane {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the kernel refuses what they need; never for the sake of the folder, which the write thread makes.
    pub fn start(config: PlaneConfig) -> Result<Plane, PlaneError> {
        Plane::start_with(config, RealDisk, mirror::terminal())
    }

    pub(crate) fn start_with(
        config: PlaneConfig,
        disk: impl Disk,
        sinks: (Sink, Sink),
    ) -> Result<Plane, PlaneError> {
        let prepare = |what| {
            move |errno: nix::errno::Errno| PlaneError::Prepare {
                what,
                source: errno.into(),
            }
        };
        let commands = Arc::new(Commands::new().map_err(prepare("eventfd"))?);
        let pool = Arc::new(Pool::default());
        let inbox = Arc::new(Inbox::default());
        let registry = Arc::new(Registry::default());
        let mut drain = Drain::new(commands.clone(), inbox.clone(), pool.clone())
            .map_err(prepare("epoll_create"))?;
        let mut writer = Writer::new(disk, config.folder, inbox.clone(), registry.clone(), pool);
        let drained = thread("logs-drain", move || while on(|| drain.turn()) {})?;
        let written = thread("logs-write", move || write_on(&mut writer))?;
        Ok(Plane {
            shared: Arc::new(Shared {
                commands,
                inbox,
                registry,
                mirrors: Arc::default(),
                sinks: Mutex::new(Some(sinks)),
                next_key: AtomicU64::new(0),
                ends: Mutex::new(Ends {
                    drained,
                    written,
                    mirrored: None,
                }),
            }),
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
    /// When a stream cannot be read, there are not one or two, or the mirror's thread cannot be started.
    pub fn open(&self, run: OpenRun) -> Result<RunLog, LogError> {
        let OpenRun {
            id,
            run,
            policy,
            to_file,
            streams,
            awaited,
        } = run;
        let count = streams.len();
        if !(1..=2).contains(&count) {
            return Err(LogError::StreamCount { count });
        }
        let mut opened = Vec::with_capacity(count);
        for stream in streams {
            make_nonblocking(&stream.read_end).map_err(|source| LogError::Stream {
                id: id.clone(),
                run,
                source,
            })?;
            let mirror = match stream.mirror {
                Mirror::None => None,
                to @ (Mirror::Stdout | Mirror::Stderr) => {
                    self.start_mirror()?;
                    let mirrors = self.shared.mirrors.clone();
                    Some(LineMirror::new(to, id.as_str(), mirrors))
                }
            };
            opened.push(Stream::new(stream.read_end, mirror));
        }
        let key = self.shared.next_key.fetch_add(1, Ordering::Relaxed);
        let feed = to_file.then(|| self.feed(id.as_str(), policy));
        let core = Arc::new(RunCore::new(key, (id, run), feed, count, awaited));
        Ok(RunLog {
            core,
            waiting: Mutex::new(Some(opened)),
            commands: self.shared.commands.clone(),
            closed: Mutex::new(false),
        })
    }

    /// The log `{name}.log` of the launcher itself. Logs of the same name are the same file; the policy given last holds.
    #[must_use]
    pub fn own(&self, name: &str, policy: LogPolicy) -> OwnLog {
        let feed = self.feed(name, policy);
        OwnLog::new(feed)
    }

    /// Writes out what is queued and ends the threads; waits at most `patience`. What is still in the pipes stays there
    /// for a successor, and runs get no end line; so close them first, unless they are to live on. What is logged
    /// afterwards is lost. Returns whether all was written.
    #[must_use]
    pub fn shutdown(self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let left = || until.saturating_duration_since(Instant::now());
        let ends = lock(&self.shared.ends);
        // A second shutdown finds that the first one did all.
        let _ = self.shared.commands.post(Command::End);
        let drained = ends.drained.recv_timeout(left()).is_ok();
        self.shared.inbox.end_soon();
        self.shared.mirrors.end();
        let written = ends.written.recv_timeout(left()).unwrap_or(false);
        self.shared.inbox.end_now();
        if let Some(mirrored) = &ends.mirrored {
            // A terminal that hangs has cost patience enough.
            let _ = mirrored.recv_timeout(left());
        }
        drained && written
    }

    fn feed(&self, name: &str, policy: LogPolicy) -> Arc<Feed> {
        let Shared {
            inbox, commands, ..
        } = &*self.shared;
        let make = || Feed::new(name, inbox.clone(), commands.clone());
        self.shared.registry.join(name, policy, make)
    }

    fn start_mirror(&self) -> Result<(), LogError> {
        let Some((out, err)) = lock(&self.shared.sinks).take() else {
            return Ok(());
        };
        let mirrors = self.shared.mirrors.clone();
        let mirrored = thread("logs-mirror", move || mirrors.run(out, err))
            .map_err(|source| LogError::Mirror { source })?;
        lock(&self.shared.ends).mirrored = Some(mirrored);
        Ok(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // After a shutdown all of this has been said already.
        let _ = self.commands.post(Command::End);
        self.inbox.end_soon();
        self.mirrors.end();
    }
}

impl fmt::Debug for Plane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plane").finish_non_exhaustive()
    }
}

/// Starts a thread that says its result last.
fn thread<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<mpsc::Receiver<T>, PlaneError> {
    let (says, hears) = mpsc::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Nobody listens when the plane was dropped without a shutdown.
            let _ = says.send(work());
        })
        .map_err(|source| PlaneError::Thread { name, source })?;
    Ok(hears)
}

/// One turn of a thread on which all plugins depend: a panic in it is a bug, and must not become theirs.
fn on(turn: impl FnOnce() -> bool) -> bool {
    catch_unwind(AssertUnwindSafe(turn)).unwrap_or_else(|_| {
        tracing::error!("the drain thread of the logs panicked; it goes on");
        // Should the same come back at once: slowly.
        std::thread::sleep(Duration::from_millis(10));
        true
    })
}

/// The write thread's work, which a panic, a bug too, does not end.
fn write_on<D: Disk>(writer: &mut Writer<D>) -> bool {
    loop {
        if let Ok(all_written) = catch_unwind(AssertUnwindSafe(|| writer.run())) {
            return all_written;
        }
        tracing::error!("the write thread of the logs panicked; it goes on");
    }
}

fn make_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The log of one run. Dropped without [`RunLog::close`] it is read until its pipes are empty, and gets no end line.
#[derive(Debug)]
pub struct RunLog {
    core: Arc<RunCore>,
    /// The streams, until they are read.
    waiting: Mutex<Option<Vec<Stream>>>,
    commands: Arc<Commands>,
    closed: Mutex<bool>,
}

impl RunLog {
    /// Writes the start line, `--- {time} {id} run {n} started, pid {pid}`, and begins to read. Never waits.
    pub fn started(&self, pid: i32) {
        self.begin(Some(pid));
    }

    /// Begins to read without a start line: the run was started by a launcher before this one. Never waits.
    pub fn resumed(&self) {
        self.begin(None);
    }

    /// Reads on until the pipes are empty, writes the end line, `--- {time} {id} run {n} ended: {cause}, after
    /// {duration}`, and gives the last lines to `done`. Never waits; only the first call counts, `done` of others is
    /// dropped.
    ///
    /// `done` is called on a thread of the plane, so it must only hand on. It does not wait for the disk: with a disk that
    /// hangs it is called within 100 ms all the same. The lines are those of [`RunLog::tail`].
    pub fn close(&self, cause: &str, lasted: Duration, done: Box<dyn FnOnce(Vec<String>) + Send>) {
        if std::mem::replace(&mut *lock(&self.closed), true) {
            return;
        }
        self.begin(None);
        let close = Command::close(self.core.clone(), cause.to_owned(), lasted, done);
        if let Err(Command::Close(core, closing)) = self.commands.post(close) {
            closing.call(core.lines());
        }
    }

    /// Size and number of its files, from now on; they are those of all runs of its id.
    pub fn keep_by(&self, policy: LogPolicy) {
        if let Some(feed) = &self.core.feed {
            feed.keep_by(policy);
        }
    }

    /// The last lines so far, oldest first: at most [`crate::TAIL_LINES`], each cut to some hundred bytes, what is not
    /// UTF-8 replaced. Not escaped: pass them through [`crate::escape`] before they reach a terminal.
    #[must_use]
    pub fn tail(&self) -> Vec<String> {
        self.core.lines()
    }

    fn begin(&self, pid: Option<i32>) {
        if let Some(streams) = lock(&self.waiting).take() {
            // A plane that was shut down leaves the pipes to a successor.
            let _ = self
                .commands
                .post(Command::Begin(self.core.clone(), streams, pid));
        }
    }
}

impl Drop for RunLog {
    fn drop(&mut self) {
        if !*lock(&self.closed) {
            self.begin(None);
            let _ = self.commands.post(Command::forget(self.core.clone()));
        }
    }
}
