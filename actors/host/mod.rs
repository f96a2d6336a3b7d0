//! Processes, logs and records of this machine behind the ports of the actors (spec §9, §11, §12).
//!
//! Invariants:
//! - a run's pipes are being held and its log is open before the process is there, so that its first line is not lost;
//! - whatever of a start fails or is given up, its FIFOs and its process are gone; pipes that the look before a start made
//!   ready stay for the next one;
//! - at most `start.parallel` starts are in exec at once, in the order they came.

mod child;
mod environment;
mod evidence;
mod foreign;
mod leftovers;
mod meter;
mod streams;
#[cfg(test)]
mod tests;
mod told;

pub use foreign::ForeignFinder;
pub use leftovers::{Left, count_leftovers, end_leftovers};
pub use meter::TreeMeter;
pub use streams::{Attached, OutputPlan};

use crate::desk::Desk;
use crate::memory::{LiveRun, LiveRuns};
use crate::ports::{BoxFuture, Child, Kind, Launch, Processes};
use crate::prepare::MakeReady;
use crate::words::in_words;
use child::HostChild;
use logs::{OpenRun, Plane, RunLog};
use os::cgroup::{HardLimits, TreeKind};
use os::{Host, Marker, SpawnSpec};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use streams::{Fifos, Layout, Pipes};
use supervision::lifecycle::SpawnFailure;
use supervision::limits::Limits;
use supervision::{PluginId, Run};
use tokio::sync::Semaphore;

/// Tells by which URL the launcher reaches the bus; `None` = by none so far.
pub type ServerUrl = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// What the starter of processes needs to know of the hub.
#[derive(Clone)]
pub struct SpawnConfig {
    /// The home, spelled as for [`os::HostConfig`]: the working folder of what has none of its own.
    pub home: PathBuf,
    /// The plugins folder.
    pub plugins: PathBuf,
    /// `{run}/private`, where FIFOs are made.
    pub private: PathBuf,
    /// `{run}/notify`, where the sockets are on which programs tell that they are ready; made when one is needed.
    pub notify: PathBuf,
    /// The logs folder, where evidence is kept.
    pub logs: PathBuf,
    /// `LOGLEVEL` of plugins.
    pub log_level: String,
    /// `HIVEOT_SERVER` of plugins.
    pub server: ServerUrl,
    /// How many starts may be in exec at once; 0 = twice the processors.
    pub parallel: usize,
    /// What becomes of output.
    pub output: OutputPlan,
}

/// The real [`Processes`].
#[derive(Clone)]
pub struct HostProcesses {
    inner: Arc<Inner>,
}

struct Inner {
    host: Arc<Host>,
    plane: Plane,
    live: Arc<LiveRuns>,
    config: SpawnConfig,
    inherited: Vec<(OsString, OsString)>,
    boot_id: String,
    starts: Semaphore,
    tree: TreeKind,
    /// What was said of limits that are not in force.
    told: Mutex<HashSet<String>>,
    desk: Desk,
    maker: Arc<PipeMaker>,
}

/// Makes pipes, also beforehand: a restart then has one change of threads less to wait for.
struct PipeMaker {
    host: Arc<Host>,
    private: PathBuf,
    layout: Layout,
    /// Whether it was said that there are no FIFOs.
    warned: AtomicBool,
    /// Pipes that wait for a run, at most one set a plugin.
    ready: Mutex<HashMap<PluginId, Pipes>>,
    /// How many sets wait at most: the descriptors of plugins that cannot run must not keep others from running.
    most_ready: usize,
}

impl PipeMaker {
    /// Blocks.
    fn make(&self, id: &PluginId) -> Result<Pipes, String> {
        // No run has the number zero, so no run's name is taken.
        let name = self.host.marker(id, Run(0));
        let pipes = streams::make(&self.private, &name, self.layout, &self.warned)?;
        let mut ends = pipes.streams.iter().map(|stream| stream.read_end.as_fd());
        if ends.any(os::limits::is_reserved) {
            return Err(
                "too many open files; what is left is kept for control: raise LimitNOFILE= or ulimit -n"
                    .to_owned(),
            );
        }
        Ok(pipes)
    }

    fn take(&self, id: &PluginId) -> Option<Pipes> {
        self.lock().remove(id)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PluginId, Pipes>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MakeReady for PipeMaker {
    fn make_ready(&self, id: &PluginId) {
        let ready = self.lock();
        if ready.contains_key(id) || ready.len() >= self.most_ready {
            return;
        }
        drop(ready);
        // One that cannot be made now is made, or complained about, at the start.
        if let Ok(pipes) = self.make(id) {
            self.lock().insert(id.clone(), pipes);
        }
    }
}

/// A part of the descriptors that we may have.
fn most_ready() -> usize {
    let limit = os::limits::open_files().unwrap_or_default();
    usize::try_from(limit / 4).unwrap_or(usize::MAX)
}

impl HostProcesses {
    /// Processes of `host`, logged by `plane` and recorded in `live`; what touches the disk is done at `desk`. Takes the
    /// environment as it is now.
    #[must_use]
    pub fn new(
        host: Arc<Host>,
        plane: Plane,
        live: Arc<LiveRuns>,
        desk: Desk,
        config: SpawnConfig,
    ) -> Self {
        told::tidy(&config.notify);
        let parallel = match config.parallel {
            0 => 2 * std::thread::available_parallelism().map_or(1, usize::from),
            some => some.min(Semaphore::MAX_PERMITS),
        };
        let boot_id = os::table::boot_id().unwrap_or_else(|error| {
            tracing::warn!(
                "cannot tell this boot from others, so records of processes are of no use: {error}"
            );
            String::new()
        });
        let tree = host.tree_mode().kind();
        let maker = PipeMaker {
            host: host.clone(),
            private: config.private.clone(),
            layout: config.output.layout(),
            warned: AtomicBool::new(false),
            ready: Mutex::default(),
            most_ready: most_ready(),
        };
        HostProcesses {
            inner: Arc::new(Inner {
                host,
                plane,
                live,
                config,
                inherited: environment::inherited(std::env::vars_os()),
                boot_id,
                starts: Semaphore::new(parallel),
                tree,
                told: Mutex::default(),
                desk,
                maker: Arc::new(maker),
            }),
        }
    }

    /// Completes when what ended runs left behind is removed, and what was made ready for runs that never came.
    ///
    /// # Cancel safety
    /// Cancel safe; it is done all the same.
    pub fn tidied(&self) -> impl Future<Output = ()> + Send + 'static {
        let unused = std::mem::take(&mut *self.inner.maker.lock());
        let host = self.inner.host.clone();
        self.inner.desk.leave(move || {
            drop(unused);
            host.tidy();
        });
        self.inner.desk.emptied()
    }

    /// What the preparer is to have made ready.
    #[must_use]
    pub fn readiness(&self) -> Arc<dyn MakeReady> {
        self.inner.maker.clone()
    }
}

/// What the kernel is to hold a run to.
fn hard_limits(limits: &Limits) -> HardLimits {
    let held = limits.held();
    HardLimits {
        memory_bytes: held.memory_bytes.map(NonZeroU64::get),
        cpu_percent: held.cpu_percent.map(NonZeroU64::get),
        pids: held.pids.map(NonZeroU64::get),
    }
}

impl Processes for HostProcesses {
    fn spawn(&self, launch: Launch) -> BoxFuture<Result<Arc<dyn Child>, SpawnFailure>> {
        let inner = self.inner.clone();
        Box::pin(async move { inner.spawn(launch).await })
    }

    fn foreign_ended(&self, pid: i32) -> BoxFuture<()> {
        Box::pin(foreign::ended(pid))
    }

    fn tree(&self) -> TreeKind {
        self.inner.tree
    }

    fn tree_in_words(&self) -> String {
        // Asked anew, as controllers are switched on when the first one needs them.
        self.inner.host.tree_mode().to_string()
    }
}

impl Inner {
    /// Begins a run.
    ///
    /// # Cancel safety
    /// Dropped, what it began is undone: the pipes remove themselves, and the host kills a process nobody waits for.
    async fn spawn(&self, mut launch: Launch) -> Result<Arc<dyn Child>, SpawnFailure> {
        // Never closed, so there is always a permit to come.
        let _permit = self.starts.acquire().await;
        let marker = self.host.marker(&launch.id, launch.run);
        let Pipes {
            streams,
            stdout,
            stderr,
            fifos,
        } = self.pipes(&launch.id).await.map_err(SpawnFailure::Failed)?;
        let ear = told::Ear::open(
            &launch.plan.teller,
            &self.config.notify,
            // The path of a socket has at most 107 bytes, and an id may have 64.
            marker.random_part(),
        );
        let ear = ear.map_err(SpawnFailure::Failed)?;
        let log = self.plane.open(OpenRun {
            id: launch.id.clone(),
            run: launch.run,
            policy: launch.plan.logs,
            to_file: self.config.output.to_file,
            streams,
            awaited: ear.as_ref().and_then(told::Ear::awaited),
        });
        let log = log.map_err(|error| SpawnFailure::Failed(in_words(&error)))?;
        let spec = SpawnSpec {
            marker: marker.clone(),
            path: launch.file.path.clone(),
            argv0: self.argv0(&launch),
            args: launch.plan.args.iter().map(OsString::from).collect(),
            env: self.environment(&launch, ear.as_ref().and_then(told::Ear::path)),
            cwd: match &launch.plan.cwd {
                Some(cwd) => self.config.home.join(cwd),
                None => self.config.home.clone(),
            },
            stdout,
            stderr,
            limits: hard_limits(&launch.plan.limits),
        };
        let starting = self.host.spawn(spec);
        drop(launch.turn.take());
        let process = starting.await?;
        let told = ear.map(|ear| ear.listen(process.clone()));
        Ok(self.begun(&launch, &marker, process, told, (log, fifos)))
    }

    /// Names the hard limits that are not in force, each once.
    fn name_refused_limits(&self, id: &PluginId, process: &os::Process) {
        for refused in process.refused_limits() {
            let text = format!("{id}: {refused}");
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.insert(text.clone()) {
                tracing::warn!("{text}");
            }
        }
    }

    /// From here on nothing fails and nothing waits.
    fn begun(
        &self,
        launch: &Launch,
        marker: &Marker,
        process: Arc<os::Process>,
        told: Option<Arc<told::Tidings>>,
        (log, fifos): (RunLog, Fifos),
    ) -> Arc<dyn Child> {
        log.started(process.pid());
        self.name_refused_limits(&launch.id, &process);
        let main = process.main();
        self.live.began(LiveRun {
            id: launch.id.clone(),
            run: launch.run,
            marker: marker.to_string(),
            pid: main.pid,
            start_ticks: main.start_ticks,
            boot_id: self.boot_id.clone(),
            fifos: fifos.paths.clone(),
            cgroup: process.cgroup().map(Path::to_owned),
        });
        Arc::new(HostChild {
            id: launch.id.clone(),
            run: launch.run,
            logs: self.config.logs.clone(),
            process,
            told,
            log,
            fifos,
            live: self.live.clone(),
            desk: self.desk.clone(),
        })
    }

    async fn pipes(&self, id: &PluginId) -> Result<Pipes, String> {
        if let Some(ready) = self.maker.take(id) {
            return Ok(ready);
        }
        let (maker, id) = (self.maker.clone(), id.clone());
        let made = self.desk.ask(move || maker.make(&id)).await;
        made.map_err(|broken| broken.to_string())?
    }

    /// What the process sees as its name: its own path, or that of the id it is an instance as (spec §4).
    fn argv0(&self, launch: &Launch) -> OsString {
        match (launch.kind, &launch.plan.instance_of) {
            (Kind::Plugin, Some(_)) => self.config.plugins.join(launch.id.as_str()).into(),
            (Kind::Plugin, None) | (Kind::Core, _) => launch.file.path.clone().into(),
        }
    }

    fn environment(&self, launch: &Launch, notify: Option<&Path>) -> Vec<(OsString, OsString)> {
        let file = launch.env_file.iter().map(|(name, value)| (name, value));
        let own = file.chain(&launch.plan.env);
        let server = (self.config.server)();
        environment::environment(
            &self.inherited,
            own,
            &self.config.log_level,
            server.as_deref(),
            notify,
            launch.plan.rules.watchdog,
        )
    }
}
