//! What a launcher of this home that was killed has left behind, and ending it (spec §12).
//!
//! Invariants: neither we, nor whoever started us, is ever a leftover; each process is identified by number and start
//! when it is found and again when it is held (T1); call it before the first run is started, as it does not tell our
//! own runs from those of the launcher before us.

use crate::cgroup::{self, Folder};
use crate::fifo;
use crate::marker::Marker;
use crate::member::Member;
use crate::pidfd::{Pidfd, PidfdError};
use crate::table::{self, Marks, Stat};
use crate::tree::wants_continue;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use supervision::exit::signal_name;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

/// How long after SIGKILL it is looked for processes that were forked meanwhile.
const KILL_ROUND: Duration = Duration::from_secs(1);

/// Nobody waits any more for those that were sent SIGKILL so often and have not ended: nothing of their program is
/// executed any more, but they are in the kernel until a disk or a device answers them.
const STUCK_ROUNDS: usize = 3;

/// A live process as a launcher has recorded it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The process.
    pub member: Member,
    /// In which boot of the machine ([`table::boot_id`]).
    pub boot_id: String,
    /// The cgroup of its run.
    pub cgroup: Option<PathBuf>,
}

/// Why a process is taken for a leftover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// It carries the mark of a run of this home.
    Marked(Marker),
    /// It is in the records.
    Recorded,
    /// It is in the cgroup of a run of this home.
    InCgroup,
    /// Its output goes into the FIFO of a run that is in the records.
    HoldsFifo,
    /// It is in the process group of such a one, or came from one.
    Related,
}

/// A process that was left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The process.
    pub member: Member,
    /// Its command name.
    pub comm: String,
    /// Why it is one.
    pub evidence: Evidence,
}

/// What became of leftovers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How many had to be killed.
    pub killed: usize,
    /// Those in the kernel's hands: killed, but they will end only when a disk or a device answers them.
    pub stuck: Vec<Leftover>,
}

/// Why not everything was found or ended.
#[derive(Debug, Error)]
pub enum SweepError {
    /// The process table cannot be read.
    #[error("cannot read the process table")]
    Table(#[source] io::Error),
    /// Some run with other rights; all others were ended.
    #[error(
        "no permission to end process {}; end it as its user or as root",
        list(pids)
    )]
    NotPermitted {
        /// Which, in ascending order.
        pids: Vec<i32>,
    },
    /// A process cannot be held.
    #[error("cannot hold a process that was left behind")]
    Hold(#[source] PidfdError),
    /// A process cannot be signalled.
    #[error("cannot send {} to process {pid}", signal_name(*signal))]
    Signal {
        /// The signal.
        signal: i32,
        /// Which.
        pid: i32,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn list(pids: &[i32]) -> String {
    let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
    pids.join(", ")
}

/// By what leftovers are recognised.
#[derive(Debug, Clone)]
pub struct Sweep {
    home: OsString,
    records: Vec<Record>,
    fifos: Vec<PathBuf>,
}

impl Sweep {
    /// Looks for what carries the mark of `home`, spelled as in [`crate::HostConfig`], or is in the records.
    #[must_use]
    pub fn new(home: &Path, records: Vec<Record>) -> Sweep {
        Sweep {
            home: home.as_os_str().to_owned(),
            records,
            fifos: Vec::new(),
        }
    }

    /// Looks also for what holds one of these FIFOs: a program may overwrite its environment, leave its group and lose
    /// its parent, and still write into the log (crates.md §2).
    #[must_use]
    pub fn holding(mut self, fifos: Vec<PathBuf>) -> Sweep {
        self.fifos = fifos;
        self
    }

    /// The leftovers, in order of their numbers, in one pass over the process table. Zombies are none.
    ///
    /// # Errors
    /// When the process table cannot be read.
    pub fn find(&self) -> Result<Vec<Leftover>, SweepError> {
        let table = snapshot().map_err(SweepError::Table)?;
        let me = i32::try_from(std::process::id()).unwrap_or(-1);
        let spared = ancestors(&table, me);
        let boot_id = table::boot_id().map_err(SweepError::Table)?;
        let held = self.held_fifos();
        let inhabitants = inhabitants(&self.cgroups());
        let mut found = BTreeMap::new();
        for (pid, stat) in &table {
            if spared.contains(pid) {
                continue;
            }
            let recorded = self.records.iter().any(|record| {
                record.boot_id == boot_id
                    && record.member.pid == *pid
                    && record.member.start_ticks == stat.start_ticks
            });
            let marks = table::marks(*pid).map_err(SweepError::Table)?;
            let evidence = match marks {
                Marks::Run { marker, home } if home == self.home => Evidence::Marked(marker),
                Marks::Run { .. } | Marks::None | Marks::Empty | Marks::Hidden if recorded => {
                    Evidence::Recorded
                }
                Marks::Run { .. } | Marks::None | Marks::Empty | Marks::Hidden
                    if inhabitants.contains(pid) =>
                {
                    Evidence::InCgroup
                }
                Marks::Run { .. } | Marks::None | Marks::Empty | Marks::Hidden
                    if holds(*pid, &held) =>
                {
                    Evidence::HoldsFifo
                }
                Marks::Run { .. } | Marks::None | Marks::Empty | Marks::Hidden => continue,
            };
            found.insert(*pid, evidence);
        }
        add_related(&table, &spared, &mut found);
        Ok(found
            .into_iter()
            .filter_map(|(pid, evidence)| {
                let stat = table.get(&pid)?;
                Some(Leftover {
                    member: Member {
                        pid,
                        start_ticks: stat.start_ticks,
                    },
                    comm: stat.comm.clone(),
                    evidence,
                })
            })
            .collect())
    }

    /// The cgroups of runs of this home that are there.
    fn cgroups(&self) -> Vec<Folder> {
        let recorded = self.records.iter();
        let recorded: Vec<PathBuf> = recorded.filter_map(|one| one.cgroup.clone()).collect();
        cgroup::left_behind(&self.home, &recorded)
    }

    /// The FIFOs that somebody holds, as the links of `/proc` spell them.
    fn held_fifos(&self) -> HashSet<PathBuf> {
        self.fifos
            .iter()
            // When it cannot be asked, looking is the safe answer.
            .filter(|path| fifo::is_held(path).unwrap_or(true))
            .filter_map(|path| path.canonicalize().ok())
            .collect()
    }

    /// Ends these leftovers and what they fork meanwhile: `signal`, after `grace` SIGKILL; then removes their cgroups.
    /// Completes when all are gone, or all that is left has not ended for some seconds after SIGKILL.
    ///
    /// # Errors
    /// When some may not be signalled or held; then all others are gone.
    ///
    /// # Cancel safety
    /// Dropped, nothing more is signalled.
    pub async fn end(
        &self,
        leftovers: &[Leftover],
        signal: i32,
        grace: Duration,
    ) -> Result<Ended, SweepError> {
        let mut ending = Ending::default();
        ending.hold(leftovers);
        ending.send(signal);
        if wants_continue(signal) {
            ending.send(libc::SIGCONT);
        }
        ending.wait(grace).await;
        let mut killed = HashSet::new();
        let cgroups = self.cgroups();
        let mut stuck = Vec::new();
        loop {
            // Those that were started since the first look, too.
            let left = self.find()?;
            ending.hold(&left);
            if ending.held.is_empty() {
                break;
            }
            killed.extend(ending.held.keys().copied());
            for cgroup in &cgroups {
                if let Err(error) = cgroup.kill() {
                    tracing::debug!(%error, "a cgroup that was left behind cannot be killed");
                }
            }
            ending.kill();
            ending.wait(KILL_ROUND).await;
            let undying = ending.held.keys().map(|member| member.pid);
            for text in undying.filter_map(table::undying) {
                tracing::warn!("{text}; a launcher before this one left it");
            }
            if ending.all_are_stuck() {
                stuck = left;
                stuck.retain(|one| ending.held.contains_key(&one.member));
                break;
            }
        }
        // Where some are stuck it stays for the next launcher.
        cgroup::remove_left_behind(&self.home, &cgroups);
        let killed = ending.finish(killed.len())?;
        Ok(Ended { killed, stuck })
    }

    /// Removes cgroups of runs of this home in which nobody is, when there was nothing to end.
    pub fn tidy(&self) {
        cgroup::remove_left_behind(&self.home, &self.cgroups());
    }
}

/// Everything that lives, by number.
fn snapshot() -> io::Result<HashMap<i32, Stat>> {
    let mut table = HashMap::new();
    for pid in table::pids()? {
        if let Some(stat) = table::stat(pid)?
            && !stat.has_ended()
        {
            table.insert(pid, stat);
        }
    }
    Ok(table)
}

/// The numbers of those in these cgroups; what cannot be read is left out.
fn inhabitants(cgroups: &[Folder]) -> HashSet<i32> {
    let pids = cgroups.iter().filter_map(|cgroup| cgroup.pids().ok());
    pids.flatten().collect()
}

/// Whether a process has one of these files open. One whose descriptors we may not see has none of ours.
fn holds(pid: i32, files: &HashSet<PathBuf>) -> bool {
    if files.is_empty() {
        return false;
    }
    let Ok(links) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    links.flatten().any(|link| {
        link.path()
            .read_link()
            .is_ok_and(|file| files.contains(&file))
    })
}

/// A process and everything it came from; the first process of the machine always.
fn ancestors(table: &HashMap<i32, Stat>, pid: i32) -> HashSet<i32> {
    let mut found = HashSet::from([1]);
    let mut next = Some(pid);
    while let Some(pid) = next {
        next = (found.insert(pid))
            .then(|| table.get(&pid).map(|stat| stat.ppid))
            .flatten();
    }
    found
}

/// Adds who is in a group with one that was found, and who came from one.
fn add_related(
    table: &HashMap<i32, Stat>,
    spared: &HashSet<i32>,
    found: &mut BTreeMap<i32, Evidence>,
) {
    // Nobody's group that we or whoever started us is in.
    let spared_groups: HashSet<i32> = spared
        .iter()
        .filter_map(|pid| table.get(pid).map(|stat| stat.pgrp))
        .collect();
    loop {
        let groups: HashSet<i32> = found
            .keys()
            .filter_map(|pid| table.get(pid).map(|stat| stat.pgrp))
            .filter(|group| *group > 0 && !spared_groups.contains(group))
            .collect();
        let related: Vec<i32> = table
            .iter()
            .filter(|(pid, _)| !spared.contains(pid) && !found.contains_key(pid))
            .filter(|(_, stat)| groups.contains(&stat.pgrp) || found.contains_key(&stat.ppid))
            .map(|(pid, _)| *pid)
            .collect();
        if related.is_empty() {
            return;
        }
        found.extend(related.into_iter().map(|pid| (pid, Evidence::Related)));
    }
}

/// The processes that are being ended.
#[derive(Default)]
struct Ending {
    held: BTreeMap<Member, Pidfd>,
    /// How often each was sent SIGKILL.
    kills: BTreeMap<Member, usize>,
    denied: HashSet<Member>,
    failed: Option<SweepError>,
}

impl Ending {
    fn hold(&mut self, leftovers: &[Leftover]) {
        for leftover in leftovers {
            let member = leftover.member;
            if self.held.contains_key(&member) || self.denied.contains(&member) {
                continue;
            }
            match Pidfd::open(member.pid, member.start_ticks) {
                Ok(Some(held)) => {
                    self.held.insert(member, held);
                }
                Ok(None) => {}
                Err(error) => {
                    // Not asked for again, or this would never end.
                    self.denied.insert(member);
                    self.failed.get_or_insert(SweepError::Hold(error));
                }
            }
        }
    }

    fn send(&mut self, signal: i32) {
        let (denied, failed) = (&mut self.denied, &mut self.failed);
        self.held.retain(|member, held| {
            let Err(source) = held.send(signal) else {
                return true;
            };
            let pid = member.pid;
            match source.raw_os_error() {
                Some(libc::ESRCH) => false,
                Some(libc::EPERM) => {
                    denied.insert(*member);
                    false
                }
                Some(_) | None => {
                    failed.get_or_insert(SweepError::Signal {
                        signal,
                        pid,
                        source,
                    });
                    // A signal that does not exist; SIGKILL will do.
                    true
                }
            }
        });
    }

    /// Waits until all have ended, but no longer than this; lets go of those that have.
    async fn wait(&mut self, longest: Duration) {
        let deadline = Instant::now() + longest;
        for held in self.held.values() {
            if timeout_at(deadline, held.ended()).await.is_err() {
                break;
            }
        }
        self.held.retain(|_, held| !held.has_ended());
    }

    fn kill(&mut self) {
        self.send(libc::SIGKILL);
        for member in self.held.keys() {
            *self.kills.entry(*member).or_default() += 1;
        }
    }

    /// Whether some are left, and none of them ends.
    fn all_are_stuck(&self) -> bool {
        // When all that were held are gone, others may have been forked meanwhile.
        let mut left = self.held.keys();
        !self.held.is_empty()
            && left.all(|one| {
                self.kills
                    .get(one)
                    .is_some_and(|kills| *kills >= STUCK_ROUNDS)
            })
    }

    fn finish(self, killed: usize) -> Result<usize, SweepError> {
        if !self.denied.is_empty() && self.failed.is_none() {
            let mut pids: Vec<i32> = self.denied.iter().map(|member| member.pid).collect();
            pids.sort_unstable();
            return Err(SweepError::NotPermitted { pids });
        }
        match self.failed {
            Some(error) => Err(error),
            None => Ok(killed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Helper, Scene, eventually, lives, soon};
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    #[test]
    fn nobody_is_stuck_when_nobody_is_left() {
        assert!(!Ending::default().all_are_stuck());
    }

    /// Not a test of its own: the launcher that is killed, started again by the test below.
    #[tokio::test]
    async fn killed_launcher() {
        let Some(home) = Helper::home() else {
            return;
        };
        let scene = Scene::at(home);
        let daemon = "(setsid sh -c 'trap \"\" TERM; echo $$ >> $OUT; while :; do sleep 0.1; done' \
                      </dev/null >/dev/null 2>&1 &) ; ";
        let unmarked = "env -i OUT=$OUT sh -c 'echo $$ >> $OUT; exec sleep 1000' & ";
        let script = format!("{daemon} {unmarked} echo $$ >> $OUT; wait");
        let _run = scene.run(&script).await;
        std::future::pending::<()>().await;
    }

    #[tokio::test]
    async fn what_a_killed_launcher_left_is_found_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut launcher = Helper::start("sweep::tests::killed_launcher", folder.path());
        let pids = launcher.numbers(3).await;
        launcher.kill();
        let sweep = Sweep::new(folder.path(), Vec::new());
        let found = sweep.find().unwrap();
        let marked = found
            .iter()
            .filter(|one| matches!(&one.evidence, Evidence::Marked(m) if m.id().as_str() == "p"));
        assert!(marked.count() >= 2, "{found:?}");
        for pid in &pids {
            let one = found.iter().find(|one| one.member.pid == *pid);
            assert!(one.is_some(), "{pid} is missing in {found:?}");
        }
        let killed = sweep.end(&found, libc::SIGTERM, Duration::from_millis(300));
        // The daemon, and the sleep that it waits for.
        assert!(soon(killed).await.unwrap().killed >= 1);
        for pid in &pids {
            assert!(!lives(*pid));
        }
        assert_eq!(sweep.find().unwrap(), []);
    }

    #[tokio::test]
    async fn records_are_believed_only_for_the_same_process_and_boot() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("/bin/sleep")
            .arg("1000")
            .process_group(0)
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let start_ticks = table::stat(pid).unwrap().unwrap().start_ticks;
        let record = |start_ticks, boot_id: String| Record {
            member: Member { pid, start_ticks },
            boot_id,
            cgroup: None,
        };
        let boot_id = table::boot_id().unwrap();
        let found = |records| Sweep::new(folder.path(), records).find().unwrap();
        assert_eq!(found(vec![record(start_ticks + 1, boot_id.clone())]), []);
        assert_eq!(found(vec![record(start_ticks, "another".to_owned())]), []);
        let records = vec![record(start_ticks, boot_id)];
        let leftovers = found(records.clone());
        assert_eq!(leftovers.len(), 1);
        assert_eq!(leftovers[0].evidence, Evidence::Recorded);
        let sweep = Sweep::new(folder.path(), records);
        let end = sweep.end(&leftovers, libc::SIGTERM, crate::testing::LONG);
        assert_eq!(soon(end).await.unwrap().killed, 0, "it ended by itself");
        assert!(!child.wait().unwrap().success());
    }

    #[tokio::test]
    async fn other_homes_and_we_ourselves_are_not_touched() {
        let scene = Scene::new();
        let run = scene.run("exec sleep 1000").await;
        let sweep = Sweep::new(&scene.path("another"), Vec::new());
        assert_eq!(sweep.find().unwrap(), []);
        assert_eq!(
            soon(sweep.end(&[], libc::SIGTERM, Duration::ZERO))
                .await
                .unwrap()
                .killed,
            0
        );
        assert!(lives(run.pid()));
        let me = i32::try_from(std::process::id()).unwrap();
        let start_ticks = table::stat(me).unwrap().unwrap().start_ticks;
        let records = vec![Record {
            member: Member {
                pid: me,
                start_ticks,
            },
            boot_id: table::boot_id().unwrap(),
            cgroup: None,
        }];
        let sweep = Sweep::new(scene.folder(), records);
        // While a shell becomes another program it has no environment to be known by.
        eventually(|| (sweep.find().unwrap().len() == 1).then_some(())).await;
        eventually(|| lives(run.pid()).then_some(())).await;
    }

    #[tokio::test]
    async fn who_only_holds_the_output_of_a_run_is_found_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("one.1");
        fifo::create(&path).unwrap();
        let mut holder = Command::new("sleep")
            .arg("1000")
            .env_clear()
            .process_group(0)
            .stdout(fifo::open_for_child(&path).unwrap())
            .spawn()
            .unwrap();
        let pid = i32::try_from(holder.id()).unwrap();
        let without = Sweep::new(folder.path(), Vec::new());
        assert_eq!(without.find().unwrap(), []);
        let sweep = without.holding(vec![path]);
        let found = sweep.find().unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            (found[0].member.pid, &found[0].evidence),
            (pid, &Evidence::HoldsFifo)
        );
        sweep
            .end(&found, libc::SIGTERM, Duration::from_secs(10))
            .await
            .unwrap();
        assert!(!holder.wait().unwrap().success());
    }
}
