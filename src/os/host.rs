//! The way in: one host per program and home, which starts processes and looks after what they leave behind.
//!
//! Invariants: the main thread starts no processes but through a host (its other children are taken for orphans, and
//! reaped a moment after their end if nobody else did); only this host's runs and orphans with this home's mark are
//! ever signalled.

use crate::birth;
use crate::book::{Book, Orphan, STRANGER_GRACE};
use crate::cgroup::{CgroupUse, Cgroups, TreeMode};
use crate::limits;
use crate::marker::Marker;
use crate::process::Process;
use crate::run::Run;
use crate::settle::{SetupError, become_subreaper};
use crate::shared::Shared;
use crate::spawn::{Place, Spawners};
use crate::spawn_error::SpawnError;
use crate::spec::SpawnSpec;
use crate::sys;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use supervision::PluginId;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// An executable that is being written is tried again for so long (spec §5), …
const BUSY_FOR: Duration = Duration::from_millis(100);
/// … so often.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// One thread starts processes, another steps in when that hangs on a disk; on a machine with one processor, too.
const SPAWNERS: usize = 2;

/// What a host is told.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// The home of the hub, absolute; written into the environment of every process and compared byte by byte.
    pub home: PathBuf,
    /// Whether runs have cgroups.
    pub cgroups: CgroupUse,
}

/// Starts processes and keeps hold of everything that comes from them.
#[derive(Debug)]
pub struct Host {
    shared: Arc<Shared>,
    seed: u64,
    markers: AtomicU64,
}

impl Host {
    /// Makes this process the one that orphans are handed to, and begins to listen for their ends. Raises the limit of
    /// open files; children get the one we were started with. Call it inside a tokio runtime, before any child is
    /// started.
    ///
    /// # Errors
    /// What the system refused.
    pub fn start(config: HostConfig) -> Result<Host, SetupError> {
        become_subreaper()?;
        if let Err(error) = limits::raise_open_files() {
            tracing::warn!(%error, "the limit on open files stays as it is");
        }
        let runtime = Handle::try_current()
            .map_err(|error| SetupError::ChildSignal(io::Error::other(error)))?;
        let ends = signal(SignalKind::child()).map_err(SetupError::ChildSignal)?;
        let home = config.home.into_os_string();
        let cgroups = match config.cgroups {
            CgroupUse::Auto => Cgroups::find(&home).map(Arc::new),
            CgroupUse::Off => Err("the configuration says cgroups: off".to_owned()),
        };
        let book = Book::new(home.clone(), cgroups.as_ref().ok().cloned());
        let book = book.map_err(SetupError::ProcessTable)?;
        let place = Place { home, cgroups };
        let seed = random().map_err(SetupError::Random)?;
        let (spawners, bell) = Spawners::new().map_err(SetupError::Descriptor)?;
        let bell = sys::watch_readable(bell).map_err(SetupError::Descriptor)?;
        spawners
            .start(SPAWNERS, &place)
            .map_err(SetupError::Thread)?;
        let shared = Arc::new(Shared::new(place, runtime.clone(), book, spawners));
        runtime.spawn(look_after(ends, Arc::downgrade(&shared)));
        runtime.spawn(birth::attend(bell, Arc::downgrade(&shared)));
        if let Ok(cgroups) = &shared.place.cgroups {
            runtime.spawn(Cgroups::tidy_up(Arc::downgrade(cgroups)));
        }
        Ok(Host {
            shared,
            seed,
            markers: AtomicU64::new(0),
        })
    }

    /// How the processes of runs are known, and why so.
    #[must_use]
    pub fn tree_mode(&self) -> TreeMode {
        match &self.shared.place.cgroups {
            Ok(cgroups) => cgroups.mode(),
            Err(reason) => TreeMode::Group {
                reason: reason.clone(),
            },
        }
    }

    /// Removes the cgroups of runs that are over, and that of the home when it was the last. Blocks for a moment.
    pub fn tidy(&self) {
        if let Ok(cgroups) = &self.shared.place.cgroups {
            cgroups.tidy_all();
        }
    }

    /// A mark for a run, unlike any other.
    pub fn marker(&self, id: &PluginId, run: supervision::Run) -> Marker {
        let number = self.markers.fetch_add(1, Ordering::Relaxed);
        Marker::new(id, run, mix(self.seed.wrapping_add(number)))
    }

    /// Starts a process as leader of a new group, with an empty signal mask, default dispositions, /dev/null as input
    /// and no descriptor but its three. It is on its way when this returns: starts happen in the order of these calls.
    /// Completes when it was executed.
    ///
    /// # Errors
    /// Why it could not be started; an executable that is being written was tried for 100 ms.
    ///
    /// # Cancel safety
    /// Dropped, it kills what it began.
    pub fn spawn(
        &self,
        spec: SpawnSpec,
    ) -> impl Future<Output = Result<Arc<Process>, SpawnError>> + Send + 'static {
        let (spec, shared) = (Arc::new(spec), Arc::clone(&self.shared));
        let began = Instant::now();
        let first = shared.hand_in(&spec);
        async move {
            let mut answer = first;
            loop {
                let closed = || SpawnError::Closed {
                    path: spec.path.clone(),
                };
                match (&mut answer).await.unwrap_or_else(|| Err(closed())) {
                    Err(SpawnError::Busy { .. }) if began.elapsed() < BUSY_FOR => {
                        // The end of writing by somebody unknown cannot be waited for.
                        tokio::time::sleep(BUSY_PAUSE).await;
                        answer = shared.hand_in(&spec);
                    }
                    Err(error) => return Err(error),
                    Ok(run) => return Ok(Arc::new(Process::new(run, shared))),
                }
            }
        }
    }

    /// Goes on as on a kernel without lists of children.
    #[cfg(test)]
    pub(crate) fn lose_list(&self) {
        self.shared.book().lose_list();
    }

    fn process(&self, run: Arc<Run>) -> Arc<Process> {
        Arc::new(Process::new(run, Arc::clone(&self.shared)))
    }

    /// The runs that are not over, in no order.
    #[must_use]
    pub fn running(&self) -> Vec<Arc<Process>> {
        let runs = self.shared.book().runs();
        runs.into_iter().map(|run| self.process(run)).collect()
    }

    /// Living orphans that cannot be tied to any run; for the log. They are never signalled.
    #[must_use]
    pub fn strangers(&self) -> Vec<Orphan> {
        self.shared.book().strangers()
    }

    /// Kills every run and completes when all are gone.
    ///
    /// # Cancel safety
    /// Dropped, the killing goes on.
    pub async fn end_all(&self) {
        let runs = self.running();
        for run in &runs {
            if let Err(error) = run.kill() {
                tracing::warn!(marker = %run.marker(), %error, "cannot kill everything of a run");
            }
        }
        for run in &runs {
            run.tree_ended().await;
        }
    }
}

/// Looks at the orphans whenever a child of ours ends.
async fn look_after(mut ends: Signal, shared: Weak<Shared>) {
    loop {
        let zombies = {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            let outlook = shared.book().survey();
            shared.wake();
            match outlook {
                Ok(outlook) => outlook.zombies,
                Err(error) => {
                    tracing::warn!(%error, "cannot look after orphaned processes");
                    true
                }
            }
        };
        if zombies {
            let _ended_or_late = tokio::time::timeout(STRANGER_GRACE, ends.recv()).await;
        } else {
            ends.recv().await;
        }
    }
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Spreads a number over all bits; different numbers stay different (the finisher of splitmix64).
fn mix(number: u64) -> u64 {
    let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
