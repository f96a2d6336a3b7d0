//! Real trees in both modes: by cgroup and by process group.

use super::{Controller, Folder, HardLimits, TreeKind, TreeMode};
use crate::Process;
use crate::clone::Memory;
use crate::exec::{Program, Stream};
use crate::sweep::{Evidence, Sweep};
use crate::testing::{Helper, Scene, eventually, lives, shortly, soon};
use crate::{sys, table};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use supervision::ExitStatus;

const BOTH: [TreeKind; 2] = [TreeKind::Cgroup, TreeKind::Group];

const KILLED: ExitStatus = ExitStatus::Signal {
    number: libc::SIGKILL,
    core_dumped: false,
};

/// Scenes of both kinds, as far as this machine has them.
fn scenes(test: &str) -> Vec<Scene> {
    BOTH.iter()
        .filter_map(|kind| Scene::known_by(*kind, test))
        .collect()
}

/// Nobody of these lives, and the cgroup is removed.
async fn all_is_gone(run: &Process, pids: &[i32]) {
    for pid in pids {
        assert!(!lives(*pid), "{pid} of {pids:?} is left");
    }
    if let Some(folder) = run.cgroup() {
        eventually(|| (!folder.exists()).then_some(())).await;
    }
}

#[tokio::test]
async fn a_run_has_a_cgroup_of_its_own_and_is_alone_in_it() {
    let Some(scene) = Scene::known_by(TreeKind::Cgroup, "a_run_has_a_cgroup_of_its_own") else {
        return;
    };
    let run = scene
        .run("echo $$ >> $OUT; cat /proc/self/cgroup > mine; exec sleep 1000")
        .await;
    scene.numbers(1).await;
    let folder = run.cgroup().unwrap().to_owned();
    let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(name, format!("run-{}", run.marker()));
    let mine = eventually(|| {
        let text = std::fs::read_to_string(scene.path("mine")).ok()?;
        text.ends_with('\n').then_some(text)
    });
    assert!(mine.await.contains(&name));
    assert_eq!(run.tree(), TreeKind::Cgroup);
    // What it called has written all before it ends.
    let alone = || run.usage().filter(|usage| usage.processes == 1);
    let usage = eventually(alone).await;
    assert!(usage.cpu_time > Duration::ZERO, "{usage:?}");
    run.signal(libc::SIGTERM).unwrap();
    soon(run.tree_ended()).await;
    all_is_gone(&run, &[run.pid()]).await;
    assert_eq!(run.usage(), None);
    let again = scene.run("exec sleep 1000").await;
    assert_ne!(again.cgroup().unwrap(), folder);
    let TreeMode::Cgroup { folder: home, .. } = scene.host.tree_mode() else {
        panic!()
    };
    drop((run, again));
    drop(scene);
    shortly(|| !home.exists());
}

#[tokio::test]
async fn daemons_without_any_mark_are_ended() {
    for scene in scenes("daemons_without_any_mark_are_ended") {
        // Two forks, a session of its own, no environment, nothing open; but its parent lives.
        let script = "trap '' TERM; (setsid env -i OUT=$OUT sh -c 'trap \"\" TERM; echo $$ >> $OUT; while :; do sleep 1; done' \
                      </dev/null >/dev/null 2>&1; :) & echo $! >> $OUT; echo $$ >> $OUT; while :; do sleep 1; done";
        let run = scene.run(script).await;
        let pids = scene.numbers(3).await;
        run.signal(libc::SIGTERM).unwrap();
        run.kill().unwrap();
        assert_eq!(soon(run.tree_ended()).await, KILLED);
        all_is_gone(&run, &pids).await;
    }
}

#[tokio::test]
async fn an_orphan_without_any_mark_is_known_by_its_cgroup() {
    let test = "an_orphan_without_any_mark_is_known_by_its_cgroup";
    let Some(scene) = Scene::known_by(TreeKind::Cgroup, test) else {
        return;
    };
    let script = "setsid env -i OUT=$OUT sh -c 'echo $$ >> $OUT; exec sleep 1000' </dev/null >/dev/null 2>&1 & exit 0";
    let run = scene.run(script).await;
    soon(run.main_ended()).await;
    let orphan = scene.numbers(1).await[0];
    assert!(!run.tree_is_gone());
    eventually(|| (run.pids() == [orphan]).then_some(())).await;
    run.signal(libc::SIGTERM).unwrap();
    soon(run.tree_ended()).await;
    all_is_gone(&run, &[orphan]).await;
}

#[tokio::test]
async fn the_end_of_the_last_one_is_told_without_looking() {
    let test = "the_end_of_the_last_one_is_told_without_looking";
    let Some(scene) = Scene::known_by(TreeKind::Cgroup, test) else {
        return;
    };
    // The last one's parent is not we, so no SIGCHLD tells of it: it lives in a shell that is not of the tree any more.
    let run = scene.run("sleep 1000 & echo $! >> $OUT; exit 3").await;
    assert_eq!(soon(run.main_ended()).await, ExitStatus::Code(3));
    let child = scene.numbers(1).await[0];
    let held = crate::pidfd::Pidfd::of_child(child).unwrap();
    held.send(libc::SIGKILL).unwrap();
    assert_eq!(soon(run.tree_ended()).await, ExitStatus::Code(3));
    all_is_gone(&run, &[child]).await;
}

#[tokio::test]
async fn stopped_processes_are_killed() {
    for scene in scenes("stopped_processes_are_killed") {
        let script =
            "sh -c 'kill -STOP $$' & echo $! >> $OUT; echo $$ >> $OUT; kill -STOP $$; sleep 1000";
        let run = scene.run(script).await;
        let pids = scene.numbers(2).await;
        let is_stopped = |pid: &i32| table::stat(*pid).unwrap().is_some_and(|s| s.state == 'T');
        eventually(|| pids.iter().all(is_stopped).then_some(())).await;
        run.kill().unwrap();
        assert_eq!(soon(run.tree_ended()).await, KILLED);
        all_is_gone(&run, &pids).await;
    }
}

#[tokio::test]
async fn a_storm_of_forks_is_ended() {
    for scene in scenes("a_storm_of_forks_is_ended") {
        let script = scene.executable(
            "fork.sh",
            b"#!/bin/sh\n[ $(wc -l < $OUT) -lt 150 ] || exec sleep 1000\necho $$ >> $OUT\n\
              for n in 1 2; do setsid ./fork.sh </dev/null >/dev/null 2>&1 & done\nexec sleep 1000\n",
        );
        std::fs::write(scene.path("out"), "").unwrap();
        let run = scene.host.spawn(scene.program(&script, &[])).await.unwrap();
        scene.numbers(40).await;
        run.kill().unwrap();
        soon(run.tree_ended()).await;
        let pids = scene.numbers(1).await;
        all_is_gone(&run, &pids).await;
    }
}

#[tokio::test]
async fn forks_end_at_the_limit_of_pids() {
    let test = "forks_end_at_the_limit_of_pids";
    let Some(scene) = limited(test, Controller::Pids) else {
        return;
    };
    let mut spec = scene.shell("i=0; while [ $i -lt 50 ]; do sleep 1000 & i=$((i+1)); done; wait");
    spec.limits.pids = Some(10);
    let run = scene.host.spawn(spec).await.unwrap();
    assert_eq!(run.refused_limits(), []);
    eventually(|| (run.pids().len() >= 10).then_some(())).await;
    assert!(run.pids().len() <= 10);
    run.kill().unwrap();
    soon(run.tree_ended()).await;
}

#[tokio::test]
async fn lack_of_memory_is_told_from_other_kills() {
    let test = "lack_of_memory_is_told_from_other_kills";
    let Some(scene) = limited(test, Controller::Memory) else {
        return;
    };
    let limit = 32 << 20;
    let args = [
        "python3",
        "-c",
        "a = [bytearray(1 << 20) for n in range(400)]",
    ];
    let mut spec = scene.program(Path::new("/usr/bin/env"), &args);
    spec.limits.memory_bytes = Some(limit);
    let run = scene.host.spawn(spec).await.unwrap();
    let status = soon(run.tree_ended()).await;
    assert!(
        matches!(status, ExitStatus::OutOfMemory { limit_bytes, .. } if limit_bytes == limit),
        "{status:?}"
    );
    let other = scene.run("exec sleep 1000").await;
    other.kill().unwrap();
    assert_eq!(soon(other.tree_ended()).await, KILLED);
}

/// A scene where this controller can be had; otherwise a line names the test.
fn limited(test: &str, controller: Controller) -> Option<Scene> {
    let scene = Scene::known_by(TreeKind::Cgroup, test)?;
    let TreeMode::Cgroup { lacking, .. } = scene.host.tree_mode() else {
        return None;
    };
    if let Some((_, reason)) = lacking.iter().find(|(lacks, _)| *lacks == controller) {
        println!("{test}: left out: no controller {controller}: {reason}");
        return None;
    }
    Some(scene)
}

#[tokio::test]
async fn a_limit_that_cannot_be_set_is_named_and_the_run_starts() {
    let test = "a_limit_that_cannot_be_set_is_named_and_the_run_starts";
    let Some(scene) = Scene::known_by(TreeKind::Group, test) else {
        return;
    };
    let mut spec = scene.shell("exec sleep 1000");
    spec.limits = HardLimits {
        memory_bytes: Some(1 << 30),
        cpu_percent: Some(50),
        pids: None,
    };
    let run = scene.host.spawn(spec).await.unwrap();
    let refused: Vec<Controller> = run
        .refused_limits()
        .iter()
        .map(|one| one.controller)
        .collect();
    assert_eq!(refused, [Controller::Cpu, Controller::Memory]);
    assert!(lives(run.pid()));
}

/// A process that a frozen freezer (v1) keeps from acting even on SIGKILL, as a dead disk would.
struct Frozen(std::path::PathBuf);

impl Frozen {
    fn new(pid: i32) -> Option<Frozen> {
        let folder = format!("/sys/fs/cgroup/freezer/hiveot-test-{pid}");
        std::fs::create_dir(&folder).ok()?;
        let frozen = Frozen(folder.into());
        std::fs::write(frozen.0.join("cgroup.procs"), pid.to_string()).ok()?;
        std::fs::write(frozen.0.join("freezer.state"), "FROZEN").ok()?;
        Some(frozen)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = std::fs::write(self.0.join("freezer.state"), "THAWED");
        shortly(|| std::fs::remove_dir(&self.0).is_ok() || !self.0.exists());
    }
}

#[tokio::test]
async fn a_tree_in_uninterruptible_sleep_holds_up_nobody() {
    let test = "a_tree_in_uninterruptible_sleep_holds_up_nobody";
    for scene in scenes(test) {
        let stuck = scene.run("exec sleep 1000").await;
        let name = || Some(table::stat(stuck.pid()).ok()??.comm);
        eventually(|| name().filter(|name| name == "sleep")).await;
        let Some(frozen) = Frozen::new(stuck.pid()) else {
            println!("{test}: left out: no freezer of cgroup v1 to keep a process in that sleep");
            return;
        };
        let asleep = || table::undying(stuck.pid()).filter(|text| text.contains("uninterruptible"));
        let text = eventually(asleep).await;
        assert!(text.contains("(sleep)"), "{text}");
        let other = scene.run("exec sleep 1000").await;
        stuck.kill().unwrap();
        other.kill().unwrap();
        soon(other.tree_ended()).await;
        assert!(!stuck.tree_is_gone());
        soon(scene.run("exit 0").await.tree_ended()).await;
        drop(frozen);
        soon(stuck.tree_ended()).await;
        all_is_gone(&stuck, &[stuck.pid()]).await;
    }
}

/// Not a test of its own: the launcher that is killed, started again by the test below.
#[tokio::test]
async fn killed_launcher() {
    let Some(home) = Helper::home() else {
        return;
    };
    let scene = Scene::at(home);
    let script = "(setsid env -i OUT=$OUT sh -c 'trap \"\" TERM; echo $$ >> $OUT; while :; do sleep 1; done' \
                  </dev/null >/dev/null 2>&1 &) ; exit 0";
    let _run: Arc<Process> = scene.run(script).await;
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_successor_finds_cgroups_that_were_left_and_removes_them() {
    let test = "a_successor_finds_cgroups_that_were_left_and_removes_them";
    if Scene::known_by(TreeKind::Cgroup, test).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut launcher = Helper::start("cgroup::tests::killed_launcher", folder.path());
    let pid = launcher.numbers(1).await[0];
    launcher.kill();
    let sweep = Sweep::new(folder.path(), Vec::new());
    let found = sweep.find().unwrap();
    let one = found.iter().find(|one| one.member.pid == pid).unwrap();
    // Its environment, its group and its output are not those of the run.
    assert_eq!(one.evidence, Evidence::InCgroup);
    let left = super::left_behind(folder.path().as_os_str(), &[]);
    assert_eq!(left.len(), 1);
    let ended = sweep.end(&found, libc::SIGTERM, Duration::from_millis(50));
    assert!(soon(ended).await.unwrap().killed >= 1);
    assert!(!lives(pid));
    assert!(!left[0].path().exists());
    assert!(!left[0].path().parent().unwrap().exists());
}

#[test]
fn only_cgroups_of_runs_of_the_home_are_taken_for_left() {
    let folder = tempfile::tempdir().unwrap();
    let name = super::place::name_of_home(folder.path().as_os_str().as_encoded_bytes());
    let fake = folder.path().join(name).join("run-p.1.0123456789abcdef");
    std::fs::create_dir_all(&fake).unwrap();
    let recorded = [fake, folder.path().to_owned(), "/sys/fs/cgroup".into()];
    assert_eq!(super::left_behind(folder.path().as_os_str(), &recorded), []);
}

#[tokio::test]
async fn a_start_into_a_cgroup_is_the_same_with_shared_and_copied_memory() {
    let test = "a_start_into_a_cgroup_is_the_same_with_shared_and_copied_memory";
    let Some(scene) = Scene::known_by(TreeKind::Cgroup, test) else {
        return;
    };
    let TreeMode::Cgroup { folder, .. } = scene.host.tree_mode() else {
        return;
    };
    for memory in [Memory::Shared, Memory::Copied] {
        if memory == Memory::Shared && Memory::BEST != memory {
            println!("{test}: left out for shared memory: not on this processor");
            continue;
        }
        let cgroup = Folder::create(folder.join(format!("run-{memory:?}"))).unwrap();
        let fd = cgroup.open().unwrap();
        let out = scene.path("direct");
        let output = std::fs::File::create(&out).unwrap();
        let program = |path: &'static str| Program {
            path: Path::new(path),
            argv: ["grep", "^Sig[BI]", "/proc/self/status"]
                .map(OsStr::new)
                .to_vec(),
            env: BTreeMap::new(),
            cwd: Path::new("/"),
            stdout: Stream::Is(output.as_fd()),
            stderr: Stream::Null,
        };
        let failed = program("/no/such/program").start_in(fd.as_fd(), memory);
        let Err(crate::exec::StartError::Program(error)) = failed else {
            panic!("{failed:?}")
        };
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        let pid = program("/bin/grep").start_in(fd.as_fd(), memory).unwrap();
        let status = eventually(|| sys::child_ended(pid, sys::Keep::Nothing).unwrap()).await;
        assert_eq!(status, ExitStatus::Code(0));
        let text = std::fs::read_to_string(&out).unwrap();
        let blocked = "SigBlk:\t0000000000000000\n";
        assert!(text.starts_with(blocked), "{text}");
        shortly(|| cgroup.remove().is_ok());
    }
}
