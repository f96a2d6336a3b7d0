//! Starting a process, on threads that do nothing else.
//!
//! Invariants:
//! - the threads outlive every process they started, so those stay their children and are never among the orphans;
//! - no `pre_exec`, uid or gid, so that std takes `posix_spawn` and a start costs the same at any size of ours;
//! - a process is in the book before anybody hears of it; if nobody wants to hear of it any more it is killed.

use crate::fifo::{self, FifoError};
use crate::host::Shared;
use crate::limits;
use crate::marker::{HOME_VARIABLE, Marker, RUN_VARIABLE};
use crate::pidfd::{Pidfd, PidfdError};
use crate::run::{Run, Stage};
use crate::settle::clear_mask;
use crate::spawn_error::SpawnError;
use crate::sys::{self, Keep};
use crate::{process, table};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Stack of a spawner thread; what runs in the child has one of its own.
const STACK_BYTES: usize = 256 * 1024;

/// Where an output of a child goes.
#[derive(Debug)]
pub enum Output {
    /// Nowhere.
    Null,
    /// Into the FIFO of this path, opened as [`fifo::open_for_child`] does.
    Fifo(PathBuf),
    /// Into this descriptor.
    Fd(OwnedFd),
    /// Where ours of the same number goes.
    Inherit,
}

/// What to start.
#[derive(Debug)]
pub struct SpawnSpec {
    /// The mark of the run; [`crate::Host::marker`] makes one.
    pub marker: Marker,
    /// The executable, absolute.
    pub path: PathBuf,
    /// What it sees as its own name.
    pub argv0: OsString,
    /// Its arguments after that.
    pub args: Vec<OsString>,
    /// Its whole environment; of a name given twice the last counts. [`RUN_VARIABLE`] and [`HOME_VARIABLE`] are set on
    /// top of it from the marker and the host's home.
    pub env: Vec<(OsString, OsString)>,
    /// Its working folder.
    pub cwd: PathBuf,
    /// Its standard output.
    pub stdout: Output,
    /// Its error output; the same FIFO as `stdout` keeps the order of lines.
    pub stderr: Output,
}

/// A request to a spawner thread.
pub(crate) struct Job {
    pub(crate) spec: Arc<SpawnSpec>,
    pub(crate) reply: oneshot::Sender<Result<Started, SpawnError>>,
}

/// A run that was started; dropped before anybody took it, it is killed.
pub(crate) struct Started {
    run: Option<Arc<Run>>,
    shared: Arc<Shared>,
}

impl Started {
    /// The run; it is not killed any more when this is dropped.
    pub(crate) fn take(mut self) -> Option<Arc<Run>> {
        self.run.take()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(run) = self.run.take()
            && let Err(error) = self.shared.book().kill(&run)
        {
            tracing::warn!(pid = run.pid, %error, "a process that nobody waits for cannot be killed");
        }
    }
}

/// The threads that start processes. They end when the last holder of `jobs` is gone.
pub(crate) struct Spawners {
    jobs: Sender<Job>,
}

impl Spawners {
    /// Starts the threads, `count` of them, each with an empty signal mask, as children inherit it.
    ///
    /// # Errors
    /// When there is no room for a thread.
    pub(crate) fn start(count: usize, shared: &Weak<Shared>) -> io::Result<Spawners> {
        let (jobs, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..count.max(1) {
            let queue = Arc::clone(&queue);
            let shared = Weak::clone(shared);
            std::thread::Builder::new()
                .name("spawner".to_owned())
                .stack_size(STACK_BYTES)
                .spawn(move || serve(&queue, &shared))?;
        }
        Ok(Spawners { jobs })
    }

    /// No threads at all; every job is refused.
    pub(crate) fn none() -> Spawners {
        Spawners { jobs: channel().0 }
    }

    /// Hands a job to a thread; `false` when there is none any more.
    pub(crate) fn send(&self, job: Job) -> bool {
        self.jobs.send(job).is_ok()
    }
}

fn serve(queue: &Mutex<Receiver<Job>>, shared: &Weak<Shared>) {
    if let Err(error) = clear_mask() {
        tracing::warn!(%error, "plugins inherit the launcher's signal mask");
    }
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let (Ok(job), Some(shared)) = (job, shared.upgrade()) else {
            return;
        };
        let result = start(&job.spec, &shared);
        // Refused or not, what nobody takes is killed when it is dropped.
        let _refused = job.reply.send(result.map(|run| Started {
            run: Some(run),
            shared: Arc::clone(&shared),
        }));
    }
}

/// Starts one process, enters it into the book and has it watched.
fn start(spec: &SpawnSpec, shared: &Arc<Shared>) -> Result<Arc<Run>, SpawnError> {
    let (mut command, fifo) = command(spec, shared)?;
    shared.book().expect(&spec.marker);
    let spawned = command.spawn();
    // Our copies of its outputs go before anybody can ask whether they are held.
    drop(command);
    let started = spawned
        .map_err(|error| SpawnError::explain(&spec.path, &spec.cwd, &error))
        .and_then(|child| hold(i32::try_from(child.id()).unwrap_or(-1), fifo, spec));
    let run = match started {
        Ok(run) => Arc::new(run),
        Err(error) => {
            shared.book().forget(&spec.marker);
            return Err(error);
        }
    };
    shared.book().enter(Arc::clone(&run));
    limits::restore_for_child(run.pid);
    let watching = process::watch(Arc::clone(shared), Arc::clone(&run));
    shared.runtime.spawn(watching);
    Ok(run)
}

/// What to execute, and device and inode of the FIFO that its output is.
fn command(spec: &SpawnSpec, shared: &Shared) -> Result<(Command, Option<(u64, u64)>), SpawnError> {
    let failed = |source| SpawnError::Output {
        path: spec.path.clone(),
        source,
    };
    let stdout = open(&spec.stdout, Path::new("stdout")).map_err(failed)?;
    let same = match (&spec.stdout, &spec.stderr, &stdout) {
        (Output::Fifo(out), Output::Fifo(err), Some(open)) if out == err => Some(open),
        _ => None,
    };
    let stderr = match same {
        Some(open) => Some(duplicate(open, Path::new("stderr")).map_err(failed)?),
        None => open(&spec.stderr, Path::new("stderr")).map_err(failed)?,
    };
    let fifo = [(&spec.stdout, &stdout), (&spec.stderr, &stderr)]
        .into_iter()
        .find_map(|(output, file)| match (output, file) {
            (Output::Fifo(_), Some(file)) => file.metadata().ok(),
            (Output::Fifo(_) | Output::Null | Output::Fd(_) | Output::Inherit, _) => None,
        })
        .map(|found| (found.dev(), found.ino()));
    let mut command = Command::new(&spec.path);
    command
        .arg0(&spec.argv0)
        .args(&spec.args)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .env(RUN_VARIABLE, spec.marker.as_str())
        .env(HOME_VARIABLE, &shared.home)
        .current_dir(&spec.cwd)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(stdio(&spec.stdout, stdout))
        .stderr(stdio(&spec.stderr, stderr));
    Ok((command, fifo))
}

fn open(output: &Output, name: &Path) -> Result<Option<File>, FifoError> {
    match output {
        Output::Null | Output::Inherit => Ok(None),
        Output::Fifo(path) => Ok(Some(File::from(fifo::open_for_child(path)?))),
        // Kept by the specification, as a start may be tried again.
        Output::Fd(fd) => {
            let copy = fd.try_clone().map_err(|source| FifoError::Open {
                path: name.to_owned(),
                source,
            })?;
            Ok(Some(File::from(copy)))
        }
    }
}

fn duplicate(file: &File, name: &Path) -> Result<File, FifoError> {
    file.try_clone().map_err(|source| FifoError::Open {
        path: name.to_owned(),
        source,
    })
}

fn stdio(output: &Output, file: Option<File>) -> Stdio {
    match (output, file) {
        (_, Some(file)) => Stdio::from(file),
        (Output::Inherit, None) => Stdio::inherit(),
        (Output::Null | Output::Fifo(_) | Output::Fd(_), None) => Stdio::null(),
    }
}

/// Takes hold of a child that was just started. Its number is pinned, as only the book reaps.
fn hold(pid: i32, fifo: Option<(u64, u64)>, spec: &SpawnSpec) -> Result<Run, SpawnError> {
    let held = Pidfd::of_child(pid).and_then(|pidfd| match table::stat(pid) {
        Ok(Some(stat)) => Ok((pidfd, stat.start_ticks)),
        Ok(None) => Ok((pidfd, 0)),
        Err(source) => Err(PidfdError::Identify { pid, source }),
    });
    match held {
        Ok((pidfd, start_ticks)) => Ok(Run {
            marker: spec.marker.clone(),
            pid,
            start_ticks,
            pidfd: Arc::new(pidfd),
            fifo,
            stage: watch::Sender::new(Stage::Running),
        }),
        Err(source) => {
            end_unwatched(pid);
            Err(SpawnError::Unwatched {
                path: spec.path.clone(),
                source,
            })
        }
    }
}

/// Ends a child that is not in the book. It has hardly begun, so this takes a moment only.
fn end_unwatched(pid: i32) {
    for _ in 0..100 {
        let killed = sys::signal_group(pid, libc::SIGKILL);
        match sys::child_ended(pid, Keep::Nothing) {
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
            Ok(Some(_)) | Err(_) => return,
        }
        if killed.is_err() {
            return;
        }
    }
    tracing::warn!(pid, "a process that cannot be watched does not end");
}
