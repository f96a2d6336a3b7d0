//! The book of live runs: which processes belong to which, and the one place where children are reaped.
//!
//! Invariants:
//! - a run is in the book exactly as long as its leader is not reaped, so its number and its group's are pinned;
//! - our main thread starts no children (the spawner threads do), and the kernel hands orphans to the main thread. So
//!   the children of that thread are the orphans, and "nothing came from this run that lives" is one short read;
//! - whatever of a run lives is a descendant of the leader or of one of those orphans, as we are their subreaper;
//! - an orphan that no evidence ties to a run is never signalled; it is reaped when it has ended and nobody else did.

use crate::cgroup::Cgroups;
use crate::marker::Marker;
use crate::pidfd::Pidfd;
use crate::run::Run;
use crate::sys::{self, Keep};
use crate::table::{self, Marks, Stat};
use crate::tree::{self, Delivered, SignalError};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long an orphan may take to get its program; one that hangs there must not keep every tree from being over.
const DOUBT: Duration = Duration::from_secs(10);

/// For so long, at most five times, the thread waits when everybody of a tree is to be found at once: shorter than any
/// timer, and only while somebody is between two programs.
const EXEC_MOMENT: Duration = Duration::from_micros(200);

/// How long the zombie of a stranger is left to whoever may be waiting for it.
pub(crate) const STRANGER_GRACE: Duration = Duration::from_millis(250);

/// So often the list of orphans is read anew before others have their turn.
const ROUNDS: u32 = 16;

/// More zombies of strangers than this are not waited with: numbers are scarce.
const MANY_ZOMBIES: usize = 500;

/// Several books of one process (in tests) read and change the same list of children.
static CHILDREN: Mutex<()> = Mutex::new(());

fn children_lock() -> MutexGuard<'static, ()> {
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child of ours that no evidence ties to a run: it left its group, cleared its environment and closed its output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start_ticks: u64,
    /// Its command name.
    pub comm: String,
}

/// What a look at a run showed whose main process has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Nothing lives, all is reaped, the run is out of the book.
    Gone,
    /// Somebody lives, or may for all that can be seen.
    Alive {
        /// Whether it is being killed.
        killing: bool,
    },
    /// It cannot be told yet.
    Doubtful,
}

/// What a look at the orphans showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Outlook {
    /// Somebody lives of whom it cannot be told yet whose it is.
    pub(crate) doubt: bool,
    /// Zombies of strangers wait for their grace to pass.
    pub(crate) zombies: bool,
    /// Somebody of the list was found to have ended. His children may have become ours after the list was read, so
    /// that nobody is there can only be told from a new one.
    pub(crate) ended: bool,
}

struct Entry {
    run: Arc<Run>,
    /// Known members beside the main process: number and start.
    kin: HashMap<i32, u64>,
    killing: bool,
}

struct Stranger {
    start_ticks: u64,
    comm: String,
    since: Instant,
    /// It was alive when last seen.
    alive: bool,
    /// That it is a stranger is certain: an environment is set at exec, and a new one comes from the old.
    certain: bool,
}

enum Owner {
    Run(i32),
    /// A run of this home that is over, or one of a launcher before us.
    Past(Marker),
    Unsure,
    Nobody,
}

/// See the module.
pub(crate) struct Book {
    home: OsString,
    me: i32,
    /// The cgroups of this home, where runs have them.
    cgroups: Option<Arc<Cgroups>>,
    /// The list of our main thread's children, kept open so that it can be read when no descriptor is left; `None`
    /// where the kernel has no such list.
    list: Option<File>,
    /// By the number of the main process.
    runs: HashMap<i32, Entry>,
    by_marker: HashMap<String, i32>,
    /// Marks of processes that are being started.
    expected: HashSet<String>,
    strangers: HashMap<i32, Stranger>,
}

impl Book {
    /// An empty book for runs of this home.
    ///
    /// # Errors
    /// When the process table cannot be read.
    pub(crate) fn new(home: OsString, cgroups: Option<Arc<Cgroups>>) -> io::Result<Book> {
        let me = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        // The main thread has the number of the process.
        let list = if table::lists_children() {
            Some(File::open(format!("/proc/self/task/{me}/children"))?)
        } else {
            table::stat(me)?;
            None
        };
        Ok(Book {
            home,
            me,
            cgroups,
            list,
            runs: HashMap::new(),
            by_marker: HashMap::new(),
            expected: HashSet::new(),
            strangers: HashMap::new(),
        })
    }

    /// Goes on as on a kernel without lists of children.
    #[cfg(test)]
    pub(crate) fn lose_list(&mut self) {
        self.list = None;
    }

    /// Notes that a process with this mark is about to be started, so that what it forks is not taken for a leftover.
    pub(crate) fn expect(&mut self, marker: &Marker) {
        self.expected.insert(marker.as_str().to_owned());
    }

    /// Notes that it could not be started.
    pub(crate) fn forget(&mut self, marker: &Marker) {
        self.expected.remove(marker.as_str());
    }

    /// Enters a run whose leader is not reaped.
    pub(crate) fn enter(&mut self, run: Arc<Run>) {
        self.expected.remove(run.marker.as_str());
        self.strangers.remove(&run.pid);
        self.by_marker
            .insert(run.marker.as_str().to_owned(), run.pid);
        let entry = Entry {
            run: Arc::clone(&run),
            kin: HashMap::new(),
            killing: false,
        };
        self.runs.insert(run.pid, entry);
    }

    /// The runs in the book, in no order.
    pub(crate) fn runs(&self) -> Vec<Arc<Run>> {
        self.runs.values().map(|e| Arc::clone(&e.run)).collect()
    }

    /// The living orphans that belong to no run, in no order.
    pub(crate) fn strangers(&self) -> Vec<Orphan> {
        let alive = self.strangers.iter().filter(|(_, s)| s.alive);
        alive
            .map(|(pid, stranger)| Orphan {
                pid: *pid,
                start_ticks: stranger.start_ticks,
                comm: stranger.comm.clone(),
            })
            .collect()
    }

    /// Looks at all orphans: ties them to their runs, reaps those that have ended.
    ///
    /// # Errors
    /// When the process table cannot be read; then nothing may be concluded.
    pub(crate) fn survey(&mut self) -> io::Result<Outlook> {
        let orphans = self.list_orphans()?;
        let mut outlook = Outlook::default();
        if orphans.is_empty() {
            self.strangers.clear();
            return Ok(outlook);
        }
        for pid in &orphans {
            self.look_at(*pid, &mut outlook)?;
        }
        let there: HashSet<i32> = orphans.into_iter().collect();
        self.strangers.retain(|pid, _| there.contains(pid));
        Ok(outlook)
    }

    fn look_at(&mut self, pid: i32, outlook: &mut Outlook) -> io::Result<()> {
        if self.runs.contains_key(&pid) {
            return Ok(());
        }
        let Some(stat) = table::stat(pid)?.filter(|stat| stat.ppid == self.me) else {
            outlook.ended = true;
            return Ok(());
        };
        let known_zombie = self.strangers.get(&pid).is_some_and(|s| !s.alive);
        outlook.ended |= stat.has_ended() && !known_zombie;
        match self.owner_of(pid, &stat)? {
            Owner::Run(main) => {
                self.strangers.remove(&pid);
                if let Some(entry) = self.runs.get_mut(&main) {
                    if stat.has_ended() {
                        entry.kin.remove(&pid);
                        reap(pid);
                    } else {
                        entry.kin.insert(pid, stat.start_ticks);
                    }
                }
            }
            Owner::Past(marker) => {
                tracing::warn!(pid, %marker, comm = stat.comm, "killing what is left of an earlier run");
                if let Ok(Some(held)) = Pidfd::open(pid, stat.start_ticks)
                    && let Err(error) = held.send(libc::SIGKILL)
                {
                    tracing::warn!(pid, %error, "it cannot be killed");
                }
            }
            Owner::Unsure => {
                self.note_stranger(pid, &stat, false);
                outlook.doubt = true;
            }
            Owner::Nobody => self.settle_stranger(pid, &stat, outlook),
        }
        Ok(())
    }

    fn settle_stranger(&mut self, pid: i32, stat: &Stat, outlook: &mut Outlook) {
        let many = self.strangers.len() > MANY_ZOMBIES;
        // What a process forks that is just being started can be seen before that one is in the book.
        let certain = self.expected.is_empty();
        let waited = self.note_stranger(pid, stat, certain);
        if !stat.has_ended() {
            return;
        }
        if waited >= STRANGER_GRACE || many {
            reap(pid);
            self.strangers.remove(&pid);
        } else {
            outlook.zombies = true;
        }
    }

    /// Notes an orphan without a run; tells how long it has been as it is now.
    fn note_stranger(&mut self, pid: i32, stat: &Stat, certain: bool) -> Duration {
        let alive = !stat.has_ended();
        if let Some(known) = self.strangers.get_mut(&pid)
            && known.start_ticks == stat.start_ticks
            && known.alive == alive
        {
            known.certain |= certain;
            return known.since.elapsed();
        }
        let stranger = Stranger {
            start_ticks: stat.start_ticks,
            comm: stat.comm.clone(),
            since: Instant::now(),
            alive,
            certain,
        };
        self.strangers.insert(pid, stranger);
        Duration::ZERO
    }

    /// Decides to which run an orphan belongs. One piece of evidence is enough, as none can be had by accident.
    fn owner_of(&self, pid: i32, stat: &Stat) -> io::Result<Owner> {
        let is_kin = |e: &&Entry| e.kin.get(&pid) == Some(&stat.start_ticks);
        if let Some(entry) = self.runs.values().find(is_kin) {
            return Ok(Owner::Run(entry.run.pid));
        }
        if self.runs.contains_key(&stat.pgrp) {
            return Ok(Owner::Run(stat.pgrp));
        }
        if stat.has_ended() {
            return Ok(Owner::Nobody);
        }
        let known = self.strangers.get(&pid);
        let known = known.filter(|s| s.start_ticks == stat.start_ticks && s.alive);
        if known.is_some_and(|s| s.certain || s.since.elapsed() >= DOUBT) {
            return Ok(Owner::Nobody);
        }
        if let Some(marker) = self.cgroups.as_ref().and_then(|all| all.run_of(pid)) {
            return Ok(self.owner_by_mark(marker));
        }
        match table::marks(pid)? {
            Marks::Run { marker, home } if home == self.home => Ok(self.owner_by_mark(marker)),
            Marks::Run { .. } => Ok(Owner::Nobody),
            Marks::None | Marks::Hidden => {
                Ok(self.owner_by_output(pid).map_or(Owner::Nobody, Owner::Run))
            }
            Marks::Empty => Ok(self.owner_by_output(pid).map_or(Owner::Unsure, Owner::Run)),
        }
    }

    fn owner_by_mark(&self, marker: Marker) -> Owner {
        match self.by_marker.get(marker.as_str()) {
            Some(main) => Owner::Run(*main),
            None if self.expected.contains(marker.as_str()) => Owner::Unsure,
            None => Owner::Past(marker),
        }
    }

    /// The run whose FIFO the process holds as input, output or error output.
    fn owner_by_output(&self, pid: i32) -> Option<i32> {
        for fd in 0..3 {
            let Ok(file) = std::fs::metadata(format!("/proc/{pid}/fd/{fd}")) else {
                continue;
            };
            let held = Some((file.dev(), file.ino()));
            if let Some(entry) = self.runs.values().find(|e| e.run.fifo == held) {
                return Some(entry.run.pid);
            }
        }
        None
    }

    /// Decides whether a run is over whose main process has ended; if so, reaps it and takes it out of the book. What
    /// still lives of one that is being killed is killed again, as it may have forked meanwhile.
    pub(crate) fn settle(&mut self, run: &Arc<Run>) -> Settled {
        for round in 1.. {
            let outlook = self.survey();
            let Some(entry) = self.entry_of(run) else {
                return Settled::Gone;
            };
            let outlook = match outlook {
                Ok(outlook) => outlook,
                Err(error) => {
                    tracing::warn!(pid = run.pid, %error, "cannot tell what is left of a run");
                    return Settled::Alive {
                        killing: entry.killing,
                    };
                }
            };
            let known = entry.kin.len();
            entry.kin.retain(|pid, start| tree::is_alive(*pid, *start));
            let ended = outlook.ended || entry.kin.len() < known;
            if entry.kin.is_empty() {
                entry.kin.extend(tree::left_in_cgroup(run));
            }
            let killing = entry.killing;
            if !entry.kin.is_empty() {
                if killing && let Err(error) = self.signal(run, libc::SIGKILL) {
                    tracing::debug!(pid = run.pid, %error, "cannot kill all that is left of a run");
                }
                return Settled::Alive { killing };
            }
            // Whoever ended since the list was read may have left children. Orphans of other runs may end on and on.
            if ended && round < ROUNDS {
                continue;
            }
            if ended || outlook.doubt {
                return Settled::Doubtful;
            }
            break;
        }
        reap(run.pid);
        self.runs.remove(&run.pid);
        self.by_marker.remove(run.marker.as_str());
        if let (Some(cgroups), Some(cgroup)) = (&self.cgroups, &run.confines.cgroup) {
            cgroups.bury(cgroup.clone());
        }
        Settled::Gone
    }

    fn entry_of(&mut self, run: &Arc<Run>) -> Option<&mut Entry> {
        let entry = self.runs.get_mut(&run.pid)?;
        Arc::ptr_eq(&entry.run, run).then_some(entry)
    }

    /// Looks at the orphans; one that is just executing a program is given a moment to show whose it is.
    fn survey_without_doubt(&mut self) {
        for _ in 0..5 {
            match self.survey() {
                Ok(Outlook { doubt: true, .. }) => std::thread::sleep(EXEC_MOMENT),
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot see orphaned processes");
                    return;
                }
            }
        }
    }

    /// The living processes of a run beside the main one; what cannot be read is left out.
    pub(crate) fn kin_of(&mut self, run: &Arc<Run>) -> Vec<tree::Seen> {
        if self.entry_of(run).is_none() {
            return Vec::new();
        }
        // First down from the leader, then the orphans: what loses its parent meanwhile is found as an orphan.
        let mut seen = match &run.confines.cgroup {
            Some(cgroup) => tree::inhabitants(cgroup, run.pid),
            None => tree::descendants(&[run.pid]),
        };
        self.survey_without_doubt();
        let Some(entry) = self.entry_of(run) else {
            return seen;
        };
        let known: HashSet<i32> = seen.iter().map(|s| s.pid).collect();
        let rest = entry.kin.iter().filter(|(pid, _)| !known.contains(pid));
        let rest: Vec<tree::Seen> = rest.filter_map(|(p, s)| tree::look(*p, *s)).collect();
        let roots: Vec<i32> = rest.iter().map(|s| s.pid).collect();
        seen.extend(rest);
        let more = tree::descendants(&roots);
        seen.extend(more.into_iter().filter(|s| !known.contains(&s.pid)));
        seen.sort_unstable_by_key(|s| s.pid);
        seen.dedup_by_key(|s| s.pid);
        entry.kin = seen.iter().map(|s| (s.pid, s.start_ticks)).collect();
        seen
    }

    /// Sends a signal to everything of a run, see [`tree::send`].
    pub(crate) fn signal(&mut self, run: &Arc<Run>, signal: i32) -> Result<Delivered, SignalError> {
        if self.entry_of(run).is_none() {
            return Ok(Delivered::NobodyLeft);
        }
        let kin = self.kin_of(run);
        // In the book, so the leader is not reaped and the group's number is ours.
        tree::send(run.pid, &run.pidfd, &kin, signal)
    }

    /// Sends SIGKILL to everything of a run, now and to whatever else shows itself until it is gone.
    pub(crate) fn kill(&mut self, run: &Arc<Run>) -> Result<Delivered, SignalError> {
        if let Some(entry) = self.entry_of(run) {
            entry.killing = true;
            // At once, so nobody can fork meanwhile; what left its cgroup is killed one by one.
            if let Some(cgroup) = &run.confines.cgroup
                && let Err(error) = cgroup.kill()
            {
                tracing::warn!(marker = %run.marker, %error, "its cgroup cannot be killed; its processes are, one by one");
            }
        }
        self.signal(run, libc::SIGKILL)
    }

    /// The orphans: the children of our main thread.
    fn list_orphans(&self) -> io::Result<Vec<i32>> {
        let _lock = children_lock();
        let Some(list) = &self.list else {
            return table::children_by_scan(self.me);
        };
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let at = u64::try_from(text.len()).map_err(io::Error::other)?;
            match list.read_at(&mut buffer, at)? {
                0 => break,
                read => text.extend_from_slice(&buffer[..read]),
            }
        }
        let mut found = Vec::new();
        table::parse_children(&text, &mut found);
        Ok(found)
    }
}

/// Reaps a child of ours that has ended.
fn reap(pid: i32) {
    let _lock = children_lock();
    if let Err(error) = sys::child_ended(pid, Keep::Nothing) {
        // Somebody else of this program waited for it.
        tracing::debug!(pid, %error, "a child was reaped elsewhere");
    }
}
