//! A cgroup (v2) for each run, where we may make some: then a tree is known to the kernel as a whole (spec §9, §10).
//!
//! Invariants:
//! - each run has a cgroup of its own, fresh, and none is used twice: a kernel may kill for ever what is started in one
//!   that was killed once;
//! - they lie in one cgroup of the home, so that a successor finds them without any record;
//! - where cgroups cannot be had, all goes on by process groups, and it is said why; one run that cannot get one is
//!   started without;
//! - what the kernel offers is tried out, never concluded from its version.

mod folder;
mod limits;
mod place;
#[cfg(test)]
mod tests;

pub use limits::{Controller, HardLimits, LimitRefused, TreeUsage};

pub(crate) use folder::{Folder, still_populated};
pub(crate) use limits::{out_of_memory, usage};

use crate::exec::{self, StartError};
use crate::marker::Marker;
use place::Base;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// How the cgroup of a run begins its name; the mark of the run follows.
const RUN: &str = "run-";

/// Empty cgroups are removed so long after the last of a row of runs has ended: nobody waits for it, and it is done for
/// many at once.
const BURIAL_PAUSE: Duration = Duration::from_millis(50);

/// Whether runs are to have cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupUse {
    /// Where they can be had.
    #[default]
    Auto,
    /// None.
    Off,
}

/// How the processes of a run are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeKind {
    /// By a cgroup of their own.
    Cgroup,
    /// By process group, parents, mark and FIFO.
    Group,
}

impl TreeKind {
    /// As `Tree` of a plugin (spec §18).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TreeKind::Cgroup => "cgroup",
            TreeKind::Group => "group",
        }
    }
}

/// How the processes of runs are known on this machine, and why so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeMode {
    /// Each run has a cgroup below this one.
    Cgroup {
        /// That of the home.
        folder: PathBuf,
        /// Which hard limits cannot be set, with the reason, in order.
        lacking: Vec<(Controller, String)>,
    },
    /// There are no cgroups for them.
    Group {
        /// Why, with the way out.
        reason: String,
    },
}

impl TreeMode {
    /// Without the reasons.
    #[must_use]
    pub fn kind(&self) -> TreeKind {
        match self {
            TreeMode::Cgroup { .. } => TreeKind::Cgroup,
            TreeMode::Group { .. } => TreeKind::Group,
        }
    }
}

impl fmt::Display for TreeMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TreeMode::Cgroup { folder, lacking } => {
                write!(
                    f,
                    "each run has a cgroup of its own in {}",
                    folder.display()
                )?;
                // Mostly there is one reason for all of them.
                for alike in lacking.chunk_by(|(_, one), (_, next)| one == next) {
                    let names: Vec<&str> = alike.iter().map(|(lacks, _)| lacks.name()).collect();
                    let reason = alike.first().map_or("", |(_, reason)| reason);
                    write!(f, "; no hard limit of {}: {reason}", names.join(", "))?;
                }
                Ok(())
            }
            TreeMode::Group { reason } => {
                write!(f, "runs are known by process group and mark, as {reason}")
            }
        }
    }
}

/// The cgroups of this home.
#[derive(Debug)]
pub(crate) struct Cgroups {
    base: Base,
    home: Folder,
    /// Those that were asked for; what was switched on stays on.
    controllers: Mutex<BTreeMap<Controller, Result<(), String>>>,
    /// What nobody lives in any more.
    graves: Mutex<Vec<Folder>>,
    grave_dug: Arc<Notify>,
}

/// The cgroups below which this process might have some, the best first.
///
/// # Errors
/// Why there are none.
fn bases() -> Result<Vec<Base>, String> {
    let unreadable = |error: io::Error| format!("/proc/self cannot be read: {error}");
    let mounts = fs::read("/proc/self/mountinfo").map_err(unreadable)?;
    let cgroup = fs::read_to_string("/proc/self/cgroup").map_err(unreadable)?;
    let (own, top) = place::own(&mounts, &cgroup)
        .ok_or("no file system of cgroup v2 is mounted where the launcher can see it")?;
    Ok(place::bases(&own, &top))
}

/// The path of the cgroup that holds the runs of `home`, below a base.
fn of_home(base: &Base, home: &OsStr) -> PathBuf {
    base.folder.join(place::name_of_home(home.as_bytes()))
}

impl Cgroups {
    /// Tries out whether runs of `home` can have cgroups; blocks for about a millisecond.
    ///
    /// # Errors
    /// Why not, with the way out.
    pub(crate) fn find(home: &OsStr) -> Result<Cgroups, String> {
        let mut first_reason = None;
        for base in bases()? {
            match Cgroups::at(base, home) {
                Ok(cgroups) => return Ok(cgroups),
                Err(reason) => first_reason = first_reason.or(Some(reason)),
            }
        }
        Err(first_reason.unwrap_or_else(|| "the launcher is in no cgroup v2".to_owned()))
    }

    fn at(base: Base, home: &OsStr) -> Result<Cgroups, String> {
        let path = of_home(&base, home);
        make(&path).map_err(|error| {
            format!(
                "no cgroup can be made in {}: {error}; run as root, or under systemd with Delegate=yes",
                base.folder.display()
            )
        })?;
        let cgroups = Cgroups {
            base,
            home: Folder::at(path),
            controllers: Mutex::default(),
            graves: Mutex::default(),
            grave_dug: Arc::default(),
        };
        cgroups.try_out()?;
        // These cost nothing that can be measured, and tell of what was killed for lack of memory. That of processors
        // changes how all share them, so it is for those who ask for it.
        for controller in [Controller::Memory, Controller::Pids] {
            let _known_by_now = cgroups.has(controller);
        }
        Ok(cgroups)
    }

    /// Starts something that does not exist in a cgroup that is thrown away.
    fn try_out(&self) -> Result<(), String> {
        let path = self
            .home
            .path()
            .join(format!("probe-{}", std::process::id()));
        let probe = Folder::at(path);
        let tried = make(probe.path()).and_then(|()| {
            if !probe.path().join("cgroup.kill").exists() {
                return Err(io::Error::other(
                    "there is no cgroup.kill before Linux 5.14",
                ));
            }
            exec::can_start_in(probe.open()?.as_fd())
        });
        let _left_for_the_next = probe.remove();
        tried.map_err(|error| {
            format!(
                "nothing can be started in a cgroup below {}: {error}",
                self.base.folder.display()
            )
        })
    }

    /// Makes sure that runs can be limited by a controller.
    fn has(&self, controller: Controller) -> Result<(), String> {
        let mut controllers = lock(&self.controllers);
        let known = controllers
            .entry(controller)
            .or_insert_with(|| self.switch_on(controller));
        known.clone()
    }

    fn switch_on(&self, controller: Controller) -> Result<(), String> {
        if let Some(reason) = self.base.bare {
            return Err(reason.to_owned());
        }
        let base = Folder::at(self.base.folder.clone());
        let place = self.base.folder.display();
        let offered = base.read("cgroup.controllers").ok().flatten();
        if !offered.is_some_and(|all| all.split_whitespace().any(|one| one == controller.name())) {
            return Err(format!(
                "the kernel does not offer the controller in {place}; it is bound to cgroup v1, switched off, or not \
                 delegated"
            ));
        }
        for folder in [&base, &self.home] {
            folder
                .write("cgroup.subtree_control", &format!("+{controller}"))
                .map_err(|error| {
                    format!(
                        "the controller cannot be switched on in {}: {error}",
                        folder.path().display()
                    )
                })?;
        }
        Ok(())
    }

    /// Makes the cgroup of a run, with its limits. Blocks for a moment.
    ///
    /// # Errors
    /// What the system said; also when it is there already.
    pub(crate) fn make(
        &self,
        marker: &Marker,
        limits: &HardLimits,
    ) -> io::Result<(Folder, Vec<LimitRefused>)> {
        let path = self.home.path().join(format!("{RUN}{marker}"));
        let folder = match Folder::create(path.clone()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Somebody removes cgroups that are empty.
                self.make_home_again()?;
                Folder::create(path)?
            }
            made => made?,
        };
        let refused = limits.apply(&folder, |controller| self.has(controller));
        Ok((folder, refused))
    }

    fn make_home_again(&self) -> io::Result<()> {
        make(self.home.path())?;
        let on: Vec<Controller> = {
            let mut known = lock(&self.controllers);
            let all = std::mem::take(&mut *known);
            all.into_keys().collect()
        };
        for controller in on {
            let _known_by_now = self.has(controller);
        }
        Ok(())
    }

    /// What is in force.
    pub(crate) fn mode(&self) -> TreeMode {
        let lacking = Controller::ALL.into_iter().filter_map(|controller| {
            // To ask would switch it on.
            let known = lock(&self.controllers).get(&controller).cloned();
            let reason = match known {
                Some(known) => known.err(),
                None => self.base.bare.map(str::to_owned),
            };
            reason.map(|reason| (controller, reason))
        });
        TreeMode::Cgroup {
            folder: self.home.path().to_owned(),
            lacking: lacking.collect(),
        }
    }

    /// The run of this home in whose cgroup a process is.
    pub(crate) fn run_of(&self, pid: i32) -> Option<Marker> {
        let name = self.home.path().file_name()?;
        run_of(name, pid)
    }

    /// Has a cgroup removed in which nobody lives; soon, not now.
    pub(crate) fn bury(&self, folder: Folder) {
        lock(&self.graves).push(folder);
        self.grave_dug.notify_one();
    }

    /// Removes what nobody lives in any more, off the runtime's thread, until `cgroups` are dropped.
    pub(crate) async fn tidy_up(cgroups: Weak<Cgroups>) {
        let Some(grave_dug) = cgroups.upgrade().map(|cgroups| cgroups.grave_dug.clone()) else {
            return;
        };
        loop {
            grave_dug.notified().await;
            tokio::time::sleep(BURIAL_PAUSE).await;
            let Some(cgroups) = cgroups.upgrade() else {
                return;
            };
            if tokio::task::spawn_blocking(move || cgroups.tidy())
                .await
                .is_err()
            {
                return;
            }
        }
    }

    /// Removes what nobody lives in any more; blocks for a moment.
    fn tidy(&self) {
        let dead = std::mem::take(&mut *lock(&self.graves));
        for folder in dead {
            if let Err(error) = folder.remove() {
                // It is removed with the next one, or by the next launcher.
                tracing::debug!(cgroup = %folder.path().display(), %error, "a cgroup cannot be removed yet");
                lock(&self.graves).push(folder);
            }
        }
    }

    /// Removes that of the home, too, when it is empty.
    pub(crate) fn tidy_all(&self) {
        self.tidy();
        // Also those whose end nobody saw; the kernel keeps each that somebody lives in.
        for entry in fs::read_dir(self.home.path())
            .into_iter()
            .flatten()
            .flatten()
        {
            let _lived_in_or_a_file = fs::remove_dir(entry.path());
        }
        let _somebody_lives_there = fs::remove_dir(self.home.path());
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        // This may be on a spawner thread, which must not wake a task.
        self.tidy_all();
    }
}

/// The run in whose cgroup a process is, below one of this name.
fn run_of(home_name: &OsStr, pid: i32) -> Option<Marker> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut parts = path
        .split('/')
        .skip_while(|part| OsStr::new(part) != home_name);
    parts.next()?;
    Marker::parse(parts.next()?.strip_prefix(RUN)?)
}

/// Makes a cgroup, unless it is there.
fn make(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The cgroups of runs of `home` that are there, sorted: those where this process would make them, and of `recorded` those
/// that are such. None in which we are ourselves. To be called before any run is started.
pub(crate) fn left_behind(home: &OsStr, recorded: &[PathBuf]) -> Vec<Folder> {
    let name = place::name_of_home(home.as_bytes());
    let is_run = |path: &Path| {
        let parent = path.parent().and_then(Path::file_name);
        let run = path.file_name().and_then(OsStr::to_str);
        parent == Some(OsStr::new(&name)) && run.is_some_and(|run| run.starts_with(RUN))
    };
    let bases = bases().unwrap_or_default();
    let mut found: Vec<Folder> = bases
        .iter()
        .flat_map(|base| Folder::at(of_home(base, home)).below())
        .chain(recorded.iter().cloned().map(Folder::at))
        .filter(|folder| is_run(folder.path()) && is_cgroup(folder.path()))
        // The best base is our own cgroup, or one beside it.
        .filter(|folder| {
            !bases
                .iter()
                .any(|base| base.folder.starts_with(folder.path()))
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Whether a path is a cgroup v2, so that nothing else is ever written to.
fn is_cgroup(path: &Path) -> bool {
    nix::sys::statfs::statfs(path)
        .is_ok_and(|found| found.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC)
}

/// Removes the cgroup of a home in which none of a run is left; of all places where it may be.
pub(crate) fn remove_left_behind(home: &OsStr, folders: &[Folder]) {
    for folder in folders {
        if let Err(error) = folder.remove() {
            tracing::warn!(
                "the cgroup {} of a run that is over cannot be removed: {error}",
                folder.path().display()
            );
        }
    }
    let ours = bases().unwrap_or_default();
    let parents = folders.iter().filter_map(|folder| folder.path().parent());
    let all = ours.iter().map(|base| of_home(base, home));
    for path in all.chain(parents.map(Path::to_owned)) {
        let _somebody_lives_there = fs::remove_dir(path);
    }
}

/// Why a process could not be started in a cgroup, as far as the cgroup is to blame: then it is started without.
pub(crate) fn to_blame(error: &StartError) -> bool {
    match error {
        StartError::Program(_) => false,
        // No room for another process is so without a cgroup, too.
        StartError::Clone(error) => {
            !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM))
        }
    }
}
