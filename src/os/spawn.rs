//! Starting a process, on threads that do nothing else.
//!
//! Invariants:
//! - one start comes after the other, in the order asked for; of one that hangs the order is not kept;
//! - the threads outlive every process they started, so those stay their children and are never among the orphans;
//! - all by `posix_spawn`, or into a cgroup by [`crate::clone`], without `pre_exec`, uid or gid, so that a start costs the
//!   same at any size of ours;
//! - no signal is handled on such a thread: its handler would tell of it by a descriptor that means nothing here, and so
//!   tell nobody;
//! - a start copies, and at exec closes, every descriptor of the table it is made from. So lean threads have tables of their
//!   own with next to nothing in them, and a start costs the same with 1,000 plugins as with one. No descriptor of ours
//!   means anything on such a thread: it neither logs, nor wakes a task, nor drops what holds one of our descriptors, and
//!   what it starts is taken hold of elsewhere ([`crate::birth`]).

use crate::cgroup::{self, Cgroups};
use crate::clone::Memory;
use crate::exec::{Program, StartError, Stream};
use crate::fifo::{self, FifoError};
use crate::marker::{HOME_VARIABLE, RUN_VARIABLE};
use crate::newborn::Newborn;
use crate::run::{Confines, Run};
use crate::settle::block_signals;
use crate::spawn_error::SpawnError;
use crate::spec::{Output, SpawnSpec};
use crate::sys;
use crate::table;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Stack of a spawner thread; what runs in the child has one of its own.
const STACK_BYTES: usize = 256 * 1024;

/// A start that takes longer, as its file is on a disk that hangs, does not hold up the next any more. A slow disk, or a
/// machine with much to do, must not change their order.
const PATIENCE: Duration = Duration::from_millis(200);

/// A request to a spawner thread.
pub(crate) struct Job {
    pub(crate) spec: Arc<SpawnSpec>,
    /// Who asked; told on the runtime, of a run that is in the book.
    pub(crate) reply: oneshot::Sender<Result<Arc<Run>, SpawnError>>,
}

/// What became of a job.
pub(crate) struct Birth {
    pub(crate) job: Job,
    pub(crate) result: Result<Newborn, SpawnError>,
}

/// The threads that start processes. They end when this is dropped.
pub(crate) struct Spawners {
    /// To threads with a descriptor table of their own.
    lean: Arc<Lane>,
    /// To one that has ours: for jobs that bring descriptors along.
    sharing: Arc<Lane>,
    bell: EventFd,
}

impl Spawners {
    /// No threads yet; and the bell by which they will tell that something was started.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub(crate) fn new() -> io::Result<(Spawners, OwnedFd)> {
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let heard = bell.as_fd().try_clone_to_owned()?;
        let spawners = Spawners {
            lean: Arc::default(),
            sharing: Arc::default(),
            bell,
        };
        Ok((spawners, heard))
    }

    /// Starts the threads, `count` lean ones and one more, each without signals. Waits
    /// until they are there.
    ///
    /// # Errors
    /// When there is no room for a thread.
    pub(crate) fn start(&self, count: usize, place: &Place) -> io::Result<()> {
        let bell = self.bell.as_fd().as_raw_fd();
        for _ in 0..count.max(1) {
            start_thread(&self.lean, place, move || keep_only(bell))?;
        }
        let bell = self.bell.as_fd().try_clone_to_owned()?;
        start_thread(&self.sharing, place, || Ok(bell))
    }

    /// Hands a job to a thread.
    pub(crate) fn send(&self, job: Job) {
        let outputs = [&job.spec.stdout, &job.spec.stderr];
        if outputs.iter().any(|out| matches!(out, Output::Fd(_))) {
            self.sharing.put(job);
        } else {
            self.lean.put(job);
        }
    }

    /// Takes what was started meanwhile.
    pub(crate) fn births(&self) -> Vec<Birth> {
        let mut births = self.lean.take_births();
        births.extend(self.sharing.take_births());
        births
    }
}

impl Drop for Spawners {
    fn drop(&mut self) {
        self.lean.close();
        self.sharing.close();
        // Who attends to births ends, too. It fails only when the counter is full, and then that one is awake.
        let _ = self.bell.write(1);
    }
}

/// What all processes of a host have in common.
#[derive(Clone)]
pub(crate) struct Place {
    /// The home, as it stands in their environment.
    pub(crate) home: OsString,
    /// Where their cgroups are; or why they have none.
    pub(crate) cgroups: Result<Arc<Cgroups>, String>,
}

/// Starts a thread and waits until it is ready, as `begin` needs our descriptors to be as they are.
fn start_thread(
    lane: &Arc<Lane>,
    place: &Place,
    begin: impl FnOnce() -> io::Result<OwnedFd> + Send + 'static,
) -> io::Result<()> {
    let (lane, place) = (Arc::clone(lane), place.clone());
    let (ready, begun) = mpsc::channel();
    let work = move || {
        if let Err(error) = block_signals() {
            tracing::warn!(%error, "a signal to the launcher may be lost");
        }
        let bell = begin();
        let (told, bell) = match bell {
            Ok(bell) => (Ok(()), Some(bell)),
            Err(error) => (Err(error), None),
        };
        // Whoever waits is there until it is told.
        let _ = ready.send(told);
        if let Some(bell) = bell {
            serve(&lane, &place, &bell);
        }
    };
    let thread = std::thread::Builder::new()
        .name("spawner".to_owned())
        .stack_size(STACK_BYTES);
    thread.spawn(work)?;
    begun.recv().map_err(io::Error::other)?
}

/// Gives the calling thread a descriptor table of its own, with nothing in it but `bell` and the three that every program
/// has. Where the system refuses, it goes on with ours, and a start costs more the more descriptors we have.
fn keep_only(bell: RawFd) -> io::Result<OwnedFd> {
    sys::own_descriptors(bell).or_else(|error| {
        tracing::debug!(%error, "processes are started with a copy of all our descriptors");
        sys::duplicate(bell)
    })
}

/// Jobs on their way to a kind of threads, and what became of them. One thread is at work at a time, the others step in.
#[derive(Default)]
struct Lane {
    queue: Mutex<Queue>,
    news: Condvar,
    births: Mutex<Vec<Birth>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    /// The newest start that is under way, while the next waits for it.
    under_way: Option<UnderWay>,
    /// Starts begun so far.
    begun: u64,
    /// A thread waits to step in for one that takes long.
    guarded: bool,
    closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct UnderWay {
    number: u64,
    since: Instant,
}

impl Queue {
    /// How long the next job has still to wait for the one before it.
    fn wait(&self) -> Duration {
        self.under_way.map_or(Duration::ZERO, |before| {
            PATIENCE.saturating_sub(before.since.elapsed())
        })
    }

    fn begin(&mut self) -> Option<(Job, UnderWay)> {
        let job = self.waiting.pop_front()?;
        self.begun = self.begun.wrapping_add(1);
        let under_way = UnderWay {
            number: self.begun,
            since: Instant::now(),
        };
        self.under_way = Some(under_way);
        Some((job, under_way))
    }
}

impl Lane {
    fn put(&self, job: Job) {
        let mut queue = lock(&self.queue);
        queue.waiting.push_back(job);
        // The thread that is at work looks here when it is done.
        let needs_thread = queue.under_way.is_none() || !queue.guarded;
        drop(queue);
        if needs_thread {
            self.news.notify_one();
        }
    }

    /// The next job; `None` when there will be none.
    fn take(&self) -> Option<(Job, UnderWay)> {
        let mut queue = lock(&self.queue);
        while !queue.closed {
            let wait = queue.wait();
            if queue.waiting.is_empty() || (!wait.is_zero() && queue.guarded) {
                let woken = self.news.wait(queue);
                queue = woken.unwrap_or_else(PoisonError::into_inner);
            } else if wait.is_zero() {
                return queue.begin();
            } else {
                queue.guarded = true;
                let woken = self.news.wait_timeout(queue, wait);
                queue = woken.unwrap_or_else(PoisonError::into_inner).0;
                queue.guarded = false;
            }
        }
        None
    }

    /// A start is over; the thread looks for the next job itself.
    fn done(&self, start: UnderWay) {
        let mut queue = lock(&self.queue);
        if queue.under_way == Some(start) {
            queue.under_way = None;
        }
    }

    fn take_births(&self) -> Vec<Birth> {
        std::mem::take(&mut lock(&self.births))
    }

    /// No more jobs come; nobody waits for those that are left.
    fn close(&self) {
        let left = {
            let mut queue = lock(&self.queue);
            queue.closed = true;
            std::mem::take(&mut queue.waiting)
        };
        self.news.notify_all();
        drop((left, self.take_births()));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a spawner thread does.
fn serve(lane: &Lane, place: &Place, bell: &OwnedFd) {
    while let Some((job, under_way)) = lane.take() {
        let result = start(&job.spec, place);
        lane.done(under_way);
        let mut births = lock(&lane.births);
        births.push(Birth { job, result });
        let first = births.len() == 1;
        drop(births);
        if first {
            // Fails only when the counter is full, and then the runtime is awake.
            let _ = nix::unistd::write(bell, &1_u64.to_ne_bytes());
        }
    }
}

/// Starts one process.
fn start(spec: &SpawnSpec, place: &Place) -> Result<Newborn, SpawnError> {
    let outputs = Outputs::open(spec)?;
    let fifo = outputs.fifo(spec);
    let mut confines = Confines::default();
    let program = program(spec, &place.home, &outputs);
    let started = match &place.cgroups {
        Ok(cgroups) => start_confined(&program, spec, cgroups, &mut confines),
        Err(reason) => {
            confines.refused = spec.limits.all_refused(reason);
            program.start()
        }
    };
    // Our copies of its outputs go before anybody can ask whether they are held.
    drop(program);
    drop(outputs);
    let pid = started.map_err(|error| SpawnError::explain(&spec.path, &spec.cwd, &error))?;
    let start_ticks = table::stat(pid).map(|stat| stat.map_or(0, |stat| stat.start_ticks));
    Ok(Newborn::new(pid, start_ticks, fifo, confines))
}

/// Starts it in a cgroup of its own; without, when that cannot be had.
fn start_confined(
    program: &Program<'_>,
    spec: &SpawnSpec,
    cgroups: &Cgroups,
    confines: &mut Confines,
) -> io::Result<i32> {
    let reason = match cgroups.make(&spec.marker, &spec.limits) {
        Err(error) => format!("no cgroup can be made for it: {error}"),
        Ok((folder, refused)) => {
            let opened = folder.open().map_err(StartError::Clone);
            match opened.and_then(|fd| program.start_in(fd.as_fd(), Memory::BEST)) {
                Ok(pid) => {
                    confines.cgroup = Some(folder);
                    confines.refused = refused;
                    return Ok(pid);
                }
                Err(error) => {
                    // Nobody was ever in it.
                    let _left_for_the_next = folder.remove();
                    let blamed = cgroup::to_blame(&error);
                    let (StartError::Clone(error) | StartError::Program(error)) = error;
                    if !blamed {
                        return Err(error);
                    }
                    format!("it cannot be started in its cgroup: {error}")
                }
            }
        }
    };
    confines.refused = spec.limits.all_refused(&reason);
    confines.without = Some(reason);
    program.start()
}

/// What is to be executed.
fn program<'a>(spec: &'a SpawnSpec, home: &'a OsStr, outputs: &'a Outputs) -> Program<'a> {
    let own = spec.env.iter();
    let mut env: BTreeMap<&OsStr, &OsStr> = own.map(|(name, value)| (&**name, &**value)).collect();
    env.insert(RUN_VARIABLE.as_ref(), spec.marker.as_str().as_ref());
    env.insert(HOME_VARIABLE.as_ref(), home);
    let argv0 = std::iter::once(&*spec.argv0);
    Program {
        path: &spec.path,
        argv: argv0.chain(spec.args.iter().map(|arg| &**arg)).collect(),
        env,
        cwd: &spec.cwd,
        stdout: stream(&spec.stdout, outputs.stdout.as_ref()),
        stderr: stream(&spec.stderr, outputs.stderr.as_ref()),
    }
}

fn stream<'a>(output: &Output, file: Option<&'a File>) -> Stream<'a> {
    match (output, file) {
        (_, Some(file)) => Stream::Is(file.as_fd()),
        (Output::Inherit, None) => Stream::Ours,
        (Output::Null | Output::Fifo(_) | Output::Fd(_), None) => Stream::Null,
    }
}

/// The outputs of a process, as far as they have to be opened.
struct Outputs {
    stdout: Option<File>,
    stderr: Option<File>,
}

impl Outputs {
    fn open(spec: &SpawnSpec) -> Result<Outputs, SpawnError> {
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
        Ok(Outputs { stdout, stderr })
    }

    /// Device and inode of the FIFO that it writes into.
    fn fifo(&self, spec: &SpawnSpec) -> Option<(u64, u64)> {
        [(&spec.stdout, &self.stdout), (&spec.stderr, &self.stderr)]
            .into_iter()
            .find_map(|(output, file)| match (output, file) {
                (Output::Fifo(_), Some(file)) => file.metadata().ok(),
                (Output::Fifo(_) | Output::Null | Output::Fd(_) | Output::Inherit, _) => None,
            })
            .map(|found| (found.dev(), found.ino()))
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::HardLimits;
    use crate::marker::Marker;
    use supervision::PluginId;

    fn job(number: u64) -> Job {
        let marker = Marker::new(&PluginId::core(), supervision::Run(number), number);
        Job {
            spec: Arc::new(SpawnSpec {
                marker,
                path: "/bin/true".into(),
                argv0: "true".into(),
                args: Vec::new(),
                env: Vec::new(),
                cwd: "/".into(),
                stdout: Output::Null,
                stderr: Output::Null,
                limits: HardLimits::default(),
            }),
            reply: oneshot::channel().0,
        }
    }

    #[test]
    fn one_start_waits_for_the_other_unless_that_hangs() {
        let lane = Arc::new(Lane::default());
        (1..=3).for_each(|number| lane.put(job(number)));
        let (first, hanging) = lane.take().unwrap();
        let (second, third) = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let (second, under_way) = lane.take().unwrap();
                lane.done(under_way);
                (second, lane.take().unwrap().0)
            });
            other.join().unwrap()
        });
        let number = |job: &Job| job.spec.marker.run().0;
        assert_eq!([number(&first), number(&second), number(&third)], [1, 2, 3]);
        let began = hanging.since;
        assert!(began.elapsed() >= PATIENCE);
        // Its late end says nothing about the one that is under way now.
        lane.done(hanging);
        assert!(lock(&lane.queue).under_way.is_some());
        lane.close();
        assert!(lane.take().is_none());
    }
}
