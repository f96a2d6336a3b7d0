//! Real processes: how they start, how they end, what they leave behind.

use crate::testing::{Helper, LONG, Scene, drain, eventually, lives, soon};
use crate::{Delivered, Output, SpawnError, fifo, sys, table};
use std::path::Path;
use std::task::Poll;
use std::time::{Duration, Instant};
use supervision::ExitStatus;
use supervision::lifecycle::SpawnFailure;

const TERMINATED: ExitStatus = ExitStatus::Signal {
    number: libc::SIGTERM,
    core_dumped: false,
};
const KILLED: ExitStatus = ExitStatus::Signal {
    number: libc::SIGKILL,
    core_dumped: false,
};

/// A daemon of the old school: two forks, a session of its own, nothing open; writes its number.
const DAEMON: &str =
    "(setsid sh -c 'echo $$ >> $OUT; exec sleep 1000' </dev/null >/dev/null 2>&1 &) ; ";

#[tokio::test]
async fn exit_codes_are_told_and_the_tree_is_gone_at_once() {
    let scene = Scene::new();
    for code in [0, 1, 78, 255] {
        let run = scene.run(&format!("exit {code}")).await;
        assert_eq!(soon(run.main_ended()).await, ExitStatus::Code(code));
        assert!(run.tree_is_gone(), "nothing else was there");
        assert_eq!(soon(run.tree_ended()).await, ExitStatus::Code(code));
        assert_eq!(table::stat(run.pid()).unwrap(), None, "it is reaped");
        assert_eq!(run.members(), []);
    }
    assert!(scene.host.running().is_empty());
}

#[tokio::test]
async fn a_crash_is_told() {
    let scene = Scene::new();
    let run = scene.run("ulimit -c 0; kill -SEGV $$").await;
    let status = ExitStatus::Signal {
        number: libc::SIGSEGV,
        core_dumped: false,
    };
    assert_eq!(soon(run.tree_ended()).await, status);
}

#[tokio::test]
async fn a_signal_stops_the_willing() {
    let scene = Scene::new();
    let run = scene.run("exec sleep 1000").await;
    assert!(!run.tree_is_gone());
    assert_eq!(run.pids(), [run.pid()]);
    assert_eq!(run.signal(libc::SIGTERM).unwrap(), Delivered::Tree);
    assert_eq!(soon(run.tree_ended()).await, TERMINATED);
    assert_eq!(run.signal(libc::SIGTERM).unwrap(), Delivered::NobodyLeft);
    assert_eq!(run.kill().unwrap(), Delivered::NobodyLeft);
}

#[tokio::test]
async fn the_unwilling_are_killed() {
    let scene = Scene::new();
    let run = scene
        .run("trap '' TERM; echo $$ >> $OUT; while :; do sleep 1; done")
        .await;
    scene.numbers(1).await;
    run.signal(libc::SIGTERM).unwrap();
    assert!(lives(run.pid()));
    run.kill().unwrap();
    assert_eq!(soon(run.tree_ended()).await, KILLED);
}

#[tokio::test]
async fn a_stopped_tree_acts_on_a_signal() {
    let scene = Scene::new();
    let run = scene
        .run("trap 'exit 7' TERM; echo $$ >> $OUT; kill -STOP $$; while :; do sleep 0.01; done")
        .await;
    scene.numbers(1).await;
    let is_stopped = || table::stat(run.pid()).unwrap().filter(|s| s.state == 'T');
    eventually(is_stopped).await;
    run.signal(libc::SIGTERM).unwrap();
    assert_eq!(soon(run.tree_ended()).await, ExitStatus::Code(7));
}

#[tokio::test]
async fn a_group_lives_on_without_its_leader() {
    let scene = Scene::new();
    let run = scene.run("sleep 1000 & echo $! >> $OUT; exit 3").await;
    assert_eq!(soon(run.main_ended()).await, ExitStatus::Code(3));
    assert!(!run.tree_is_gone());
    let child = scene.numbers(1).await[0];
    eventually(|| (run.pids() == [child]).then_some(())).await;
    let leader = table::stat(run.pid()).unwrap().unwrap();
    assert_eq!(leader.state, 'Z', "its number stays pinned");
    run.signal(libc::SIGTERM).unwrap();
    assert_eq!(soon(run.tree_ended()).await, ExitStatus::Code(3));
    assert_eq!(table::stat(child).unwrap(), None, "it is reaped");
    assert_eq!(table::stat(run.pid()).unwrap(), None, "it is reaped");
}

#[tokio::test]
async fn a_daemon_is_found_after_its_parents_death() {
    let scene = Scene::new();
    let run = scene.run(&format!("{DAEMON} exit 0")).await;
    assert_eq!(soon(run.main_ended()).await, ExitStatus::Code(0));
    let daemon = scene.numbers(1).await[0];
    assert!(!run.tree_is_gone());
    eventually(|| (run.pids() == [daemon]).then_some(())).await;
    assert_ne!(table::stat(daemon).unwrap().unwrap().pgrp, run.pid());
    run.kill().unwrap();
    soon(run.tree_ended()).await;
    assert!(!lives(daemon));
}

#[tokio::test]
async fn a_daemon_is_signalled_while_its_parent_lives() {
    let scene = Scene::new();
    let run = scene.run(&format!("{DAEMON} exec sleep 1000")).await;
    let daemon = scene.numbers(1).await[0];
    // The process between them ends in a moment.
    eventually(|| (run.pids() == [run.pid(), daemon]).then_some(())).await;
    run.signal(libc::SIGTERM).unwrap();
    assert_eq!(soon(run.tree_ended()).await, TERMINATED);
    assert!(!lives(daemon));
}

#[tokio::test]
async fn a_daemon_that_ends_by_itself_ends_the_tree() {
    let scene = Scene::new();
    let script = "(setsid sh -c 'echo $$ >> $OUT; while [ ! -e stop ]; do sleep 0.01; done' </dev/null &) ; exit 0";
    let run = scene.run(script).await;
    soon(run.main_ended()).await;
    scene.numbers(1).await;
    assert!(!run.tree_is_gone());
    std::fs::write(scene.path("stop"), "").unwrap();
    soon(run.tree_ended()).await;
}

#[tokio::test]
async fn a_daemon_without_environment_is_found_by_its_output() {
    let scene = Scene::new();
    let path = scene.path("fifo");
    fifo::create(&path).unwrap();
    let _reader = fifo::open_reader(&path).unwrap();
    let script = "(setsid env -i OUT=$OUT sh -c 'echo $$ >> $OUT; exec sleep 1000' </dev/null &) ; \
                  exit 0";
    let mut spec = scene.shell(script);
    spec.stdout = Output::Fifo(path.clone());
    spec.stderr = Output::Fifo(path);
    let run = scene.host.spawn(spec).await.unwrap();
    soon(run.main_ended()).await;
    let daemon = scene.numbers(1).await[0];
    eventually(|| (run.pids() == [daemon]).then_some(())).await;
    run.kill().unwrap();
    soon(run.tree_ended()).await;
    assert!(!lives(daemon));
}

#[tokio::test]
async fn a_descendant_without_any_mark_is_killed_with_its_living_parent() {
    let scene = Scene::new();
    let script = "setsid env -i OUT=$OUT sh -c 'echo $$ >> $OUT; exec sleep 1000' \
                  </dev/null >/dev/null 2>&1 & wait";
    let run = scene.run(script).await;
    let hidden = scene.numbers(1).await[0];
    eventually(|| (run.pids() == [run.pid(), hidden]).then_some(())).await;
    run.kill().unwrap();
    soon(run.tree_ended()).await;
    assert!(!lives(hidden));
}

#[tokio::test]
async fn an_orphan_that_nothing_ties_to_a_run_is_left_alone() {
    let scene = Scene::new();
    // Somebody else's, for all we can know: a child of a child that is not ours to know.
    let output = std::process::Command::new("/bin/sh")
        .args([
            "-c",
            "setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!",
        ])
        .output()
        .unwrap();
    let stranger = String::from_utf8(output.stdout).unwrap();
    let stranger: i32 = stranger.trim().parse().unwrap();
    let run = scene.run("exit 0").await;
    soon(run.tree_ended()).await;
    assert!(lives(stranger));
    eventually(|| {
        scene
            .host
            .strangers()
            .iter()
            .find(|s| s.pid == stranger)
            .cloned()
    })
    .await;
    let held = crate::pidfd::Pidfd::of_child(stranger).unwrap();
    held.send(libc::SIGKILL).unwrap();
    // Nobody else waits for it.
    eventually(|| table::stat(stranger).unwrap().is_none().then_some(())).await;
}

#[tokio::test]
async fn zombies_of_orphans_do_not_pile_up() {
    let scene = Scene::new();
    let script = "i=0; while [ $i -lt 20 ]; do (setsid sh -c 'echo $$ >> $OUT' &); i=$((i+1)); done; \
                  exec sleep 1000";
    let run = scene.run(script).await;
    let pids = scene.numbers(20).await;
    for pid in pids {
        eventually(|| table::stat(pid).unwrap().is_none().then_some(())).await;
    }
    run.kill().unwrap();
    soon(run.tree_ended()).await;
}

#[tokio::test]
async fn a_tree_that_forks_all_the_time_is_killed() {
    let scene = Scene::new();
    // Each generation leaves group and session and starts the next one.
    let script = scene.executable(
        "fork.sh",
        b"#!/bin/sh\necho $$ >> $OUT\nsetsid ./fork.sh </dev/null >/dev/null 2>&1 &\nsleep 0.02\n",
    );
    let run = scene.host.spawn(scene.program(&script, &[])).await.unwrap();
    scene.numbers(10).await;
    run.kill().unwrap();
    soon(run.tree_ended()).await;
    let before = scene.numbers(10).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(scene.numbers(10).await, before, "nobody goes on");
}

#[tokio::test]
async fn what_left_its_own_group_is_signalled() {
    let scene = Scene::new();
    let script = "import os, time\n\
                  pid = os.fork()\n\
                  if pid == 0:\n    time.sleep(1000)\n\
                  os.setpgid(pid, pid)\n\
                  os.setpgid(0, pid)\n\
                  open(os.environ['OUT'], 'a').write('%d\\n' % pid)\n\
                  time.sleep(1000)\n";
    let spec = scene.program(Path::new("/usr/bin/env"), &["python3", "-c", script]);
    let run = scene.host.spawn(spec).await.unwrap();
    let child = scene.numbers(1).await[0];
    assert_eq!(table::stat(run.pid()).unwrap().unwrap().pgrp, child);
    run.signal(libc::SIGTERM).unwrap();
    assert_eq!(soon(run.tree_ended()).await, TERMINATED);
    assert!(!lives(child));
}

#[tokio::test]
async fn there_is_no_such_signal() {
    let scene = Scene::new();
    let run = scene.run("exec sleep 1000").await;
    let error = run.signal(4711).unwrap_err();
    assert_eq!(error.to_string(), "there is no signal 4711");
    assert!(lives(run.pid()));
}

#[tokio::test]
async fn a_hundred_runs_end_together() {
    let scene = Scene::new();
    let mut runs = Vec::new();
    for _ in 0..100 {
        runs.push(scene.run("exec sleep 1000").await);
    }
    let began = Instant::now();
    soon(scene.host.end_all()).await;
    println!("100 runs were gone after {:?}", began.elapsed());
    for run in runs {
        assert!(run.tree_is_gone());
        assert_eq!(run.main_ended().await, KILLED);
    }
}

#[tokio::test]
async fn starts_happen_in_the_order_asked_for() {
    let scene = Scene::new();
    let asked: Vec<_> = (0..40)
        .map(|_| scene.host.spawn(scene.shell("exec sleep 1000")))
        .collect();
    let mut runs = Vec::new();
    for run in asked {
        runs.push(run.await.unwrap());
    }
    let falls = runs.windows(2).filter(|two| two[0].pid() > two[1].pid());
    // Numbers rise, but for the moment when they begin anew.
    assert!(falls.count() <= 1);
    scene.host.end_all().await;
}

#[tokio::test]
async fn a_spawn_that_nobody_waits_for_leaves_nothing() {
    let scene = Scene::new();
    let spec = scene.shell("echo $$ >> $OUT; exec sleep 1000");
    {
        let spawn = scene.host.spawn(spec);
        tokio::pin!(spawn);
        // Polled once, so that the job is on its way.
        let polled = std::future::poll_fn(|context| Poll::Ready(spawn.as_mut().poll(context)));
        if let Poll::Ready(run) = polled.await {
            // The spawner was quicker than we.
            run.unwrap().kill().unwrap();
        }
    }
    eventually(|| scene.host.running().is_empty().then_some(())).await;
    if let Ok(text) = std::fs::read_to_string(scene.path("out"))
        && let Ok(pid) = text.trim().parse()
    {
        eventually(|| (!lives(pid)).then_some(())).await;
    }
}

#[tokio::test]
async fn a_dropped_handle_ends_nothing_and_is_reaped_all_the_same() {
    let scene = Scene::new();
    let run = scene.run("while [ ! -e stop ]; do sleep 0.01; done").await;
    let pid = run.pid();
    drop(run);
    assert!(lives(pid));
    std::fs::write(scene.path("stop"), "").unwrap();
    eventually(|| table::stat(pid).unwrap().is_none().then_some(())).await;
    eventually(|| scene.host.running().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_child_gets_what_it_is_given_and_nothing_else() {
    let scene = Scene::new();
    let path = scene.path("fifo");
    fifo::create(&path).unwrap();
    let mut reader = fifo::open_reader(&path).unwrap();
    // The shell itself is looked at, as the loader of anything else would add to it.
    let script = "tr '\\0' '|' < /proc/$$/cmdline | tail -c 10; echo; \
                  tr '\\0' '\\n' < /proc/$$/environ | sed 's/=.*//' | sort | tr '\\n' ' '; echo; \
                  pwd; readlink /proc/$$/fd/0; \
                  [ $(cut -d' ' -f5 /proc/$$/stat) = $$ ] && echo leader; \
                  echo to stderr >&2";
    let mut spec = scene.shell(script);
    spec.args.extend(["zero".into(), "--a b".into(), "".into()]);
    spec.env.push(("LC_ALL".into(), "C".into()));
    spec.env.push(("HIVEOT_HOME".into(), "not this".into()));
    spec.stdout = Output::Fifo(path.clone());
    spec.stderr = Output::Fifo(path);
    let run = scene.host.spawn(spec).await.unwrap();
    assert_eq!(soon(run.tree_ended()).await, ExitStatus::Code(0));
    let text = drain(&mut reader);
    let cwd = scene.folder().canonicalize().unwrap();
    let expected = [
        "ro|--a b||",
        "HIVEOT_HOME HIVEOT_RUN LC_ALL OUT PATH ",
        &cwd.display().to_string(),
        "/dev/null",
        "leader",
        "to stderr",
    ];
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn no_signal_is_blocked_or_ignored_in_a_child() {
    let scene = Scene::new();
    let path = scene.path("fifo");
    fifo::create(&path).unwrap();
    let mut reader = fifo::open_reader(&path).unwrap();
    let mut spec = scene.program(Path::new("/bin/grep"), &["^Sig[BI]", "/proc/self/status"]);
    spec.stdout = Output::Fifo(path);
    let run = scene.host.spawn(spec).await.unwrap();
    soon(run.tree_ended()).await;
    let text = drain(&mut reader);
    let masks: Vec<u64> = text
        .lines()
        .map(|line| u64::from_str_radix(line[8..].trim(), 16).unwrap())
        // Signals 32 and 33 belong to the C library; what we inherit of them we cannot change.
        .map(|mask| mask & !(3 << 31))
        .collect();
    assert_eq!(masks, [0, 0], "{text}");
}

#[tokio::test]
async fn a_child_has_three_descriptors() {
    let scene = Scene::new();
    let path = scene.path("fifo");
    fifo::create(&path).unwrap();
    let mut reader = fifo::open_reader(&path).unwrap();
    let mut spec = scene.program(Path::new("/bin/ls"), &["/proc/self/fd"]);
    spec.stdout = Output::Fifo(path);
    let run = scene.host.spawn(spec).await.unwrap();
    soon(run.tree_ended()).await;
    let text = drain(&mut reader);
    // The fourth is the folder that it lists.
    assert_eq!(text, "0\n1\n2\n3\n");
}

#[tokio::test]
async fn a_child_carries_its_mark() {
    let scene = Scene::new();
    let mut spec = scene.shell("exec sleep 1000");
    spec.env.push(("HIVEOT_HOME".into(), "not this".into()));
    let marker = spec.marker.clone();
    let run = scene.host.spawn(spec).await.unwrap();
    let home = scene.folder().into();
    // It can be seen a moment after the exec.
    let marks = || Some(table::marks(run.pid()).unwrap()).filter(|m| *m != table::Marks::Empty);
    let marks = eventually(marks).await;
    assert_eq!(marks, table::Marks::Run { marker, home });
}

#[tokio::test]
async fn argv0_is_the_one_given() {
    let scene = Scene::new();
    let mut spec = scene.program(Path::new("/bin/sleep"), &["1000"]);
    spec.argv0 = "/hub/plugins/my-plugin".into();
    let run = scene.host.spawn(spec).await.unwrap();
    // They can be seen a moment after the exec.
    let arguments = || Some(table::arguments(run.pid()).unwrap()).filter(|a| !a.is_empty());
    let arguments = eventually(arguments).await;
    assert_eq!(arguments, ["/hub/plugins/my-plugin", "1000"]);
}

#[tokio::test]
async fn errors_of_exec_are_those_of_go_with_the_way_out() {
    let scene = Scene::new();
    let failure = async |name: &str, content: Option<&[u8]>, executable: bool| {
        let path = scene.path(name);
        if let Some(content) = content {
            scene.executable(name, content);
        }
        if !executable && content.is_some() {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        }
        let error = scene
            .host
            .spawn(scene.program(&path, &[]))
            .await
            .unwrap_err();
        let text = error.to_string();
        let prefix = format!("fork/exec {}: ", path.display());
        let text = text.strip_prefix(&prefix).unwrap_or(&text).to_owned();
        (text, SpawnFailure::from(error))
    };
    let (text, kind) = failure("missing", None, true).await;
    assert_eq!(text, "no such file or directory");
    assert!(matches!(kind, SpawnFailure::Missing(_)));
    let (text, kind) = failure("plain", Some(b"#!/bin/sh\n"), false).await;
    assert_eq!(text, "permission denied");
    assert!(matches!(kind, SpawnFailure::Failed(_)));
    let (text, _) = failure("text", Some(b"hello"), true).await;
    assert!(
        text.starts_with("exec format error: it is neither"),
        "{text}"
    );
    assert!(text.contains("#!/bin/sh"), "{text}");
    let (text, kind) = failure("script", Some(b"#!/no/such/python -u\n"), true).await;
    assert_eq!(
        text,
        "no such file or directory: its interpreter /no/such/python is missing; \
         install it or correct the script's first line"
    );
    assert!(matches!(kind, SpawnFailure::Failed(_)));
    let (text, _) = failure("windows", Some(b"#!/bin/sh\r\necho\r\n"), true).await;
    assert!(text.contains("carriage return"), "{text}");
    assert!(scene.host.running().is_empty());
}

#[tokio::test]
async fn a_bad_folder_is_not_mistaken_for_a_missing_program() {
    let scene = Scene::new();
    let mut spec = scene.shell("exit 0");
    spec.cwd = scene.path("no-such-folder");
    let text = scene.host.spawn(spec).await.unwrap_err().to_string();
    let folder = scene.path("no-such-folder");
    assert_eq!(
        text,
        format!("chdir {}: no such file or directory", folder.display())
    );
    let mut spec = scene.shell("exit 0");
    spec.args.push("a\0b".into());
    let error = scene.host.spawn(spec).await.unwrap_err();
    assert!(matches!(error, SpawnError::ZeroByte { .. }), "{error}");
}

#[tokio::test]
async fn an_executable_that_is_being_written_is_tried_again() {
    let scene = Scene::new();
    let content = std::fs::read("/bin/true").unwrap();
    let path = scene.executable("copied", &content);
    let writer = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let began = Instant::now();
    let error = scene
        .host
        .spawn(scene.program(&path, &[]))
        .await
        .unwrap_err();
    assert!(began.elapsed() >= Duration::from_millis(100));
    assert!(began.elapsed() < LONG);
    assert!(matches!(error.into(), SpawnFailure::Busy(_)));
    drop(writer);
    let run = scene.host.spawn(scene.program(&path, &[])).await.unwrap();
    assert_eq!(soon(run.tree_ended()).await, ExitStatus::Code(0));
}

#[tokio::test]
async fn other_children_of_this_program_are_left_to_it() {
    let scene = Scene::new();
    let mut theirs = std::process::Command::new("/bin/sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let run = scene.run("exit 0").await;
    soon(run.tree_ended()).await;
    assert!(theirs.try_wait().unwrap().is_none());
    theirs.kill().unwrap();
    theirs.wait().unwrap();
}

#[tokio::test]
async fn output_stays_readable_after_the_end() {
    let scene = Scene::new();
    let path = scene.path("fifo");
    fifo::create(&path).unwrap();
    let mut reader = fifo::open_reader(&path).unwrap();
    let mut spec = scene.shell("echo one; echo two >&2; echo three");
    spec.stdout = Output::Fifo(path.clone());
    spec.stderr = Output::Fifo(path.clone());
    let run = scene.host.spawn(spec).await.unwrap();
    soon(run.tree_ended()).await;
    eventually(|| (!fifo::has_writer(&reader)).then_some(())).await;
    let text = drain(&mut reader);
    assert_eq!(text, "one\ntwo\nthree\n");
}

/// Not a test of its own: a launcher without a free descriptor.
#[tokio::test]
async fn launcher_without_descriptors() {
    let Some(home) = Helper::home() else {
        return;
    };
    let scene = Scene::at(home);
    let run = scene
        .run("while [ ! -e stop ]; do sleep 0.01; done; exit 5")
        .await;
    let half_dead = scene
        .run("(while [ ! -e stop ]; do sleep 0.01; done) & exit 6")
        .await;
    soon(half_dead.main_ended()).await;
    std::fs::write(scene.path("start"), "").unwrap();
    let files = nix::sys::resource::Resource::RLIMIT_NOFILE;
    nix::sys::resource::setrlimit(files, 100, 100).unwrap();
    let mut taken = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    let error = scene.host.spawn(scene.shell("exit 0")).await.unwrap_err();
    assert!(error.to_string().contains("limit on open files"), "{error}");
    std::fs::rename(scene.path("start"), scene.path("stop")).unwrap();
    assert_eq!(soon(run.main_ended()).await, ExitStatus::Code(5));
    // Whose the orphans are cannot be told now; as soon as it can be, all is in order.
    drop(taken);
    assert_eq!(soon(run.tree_ended()).await, ExitStatus::Code(5));
    assert_eq!(soon(half_dead.tree_ended()).await, ExitStatus::Code(6));
    std::fs::write(scene.path("out"), "1\n").unwrap();
}

/// Not a test of its own: a launcher on a kernel that lists no children.
#[tokio::test]
async fn launcher_without_lists() {
    let Some(home) = Helper::home() else {
        return;
    };
    let scene = Scene::at(home);
    scene.host.lose_list();
    let run = scene.run("exit 4").await;
    assert_eq!(soon(run.tree_ended()).await, ExitStatus::Code(4));
    let run = scene.run(&format!("{DAEMON} exit 0")).await;
    soon(run.main_ended()).await;
    let daemon = scene.numbers(1).await[0];
    eventually(|| (run.pids() == [daemon]).then_some(())).await;
    run.kill().unwrap();
    soon(run.tree_ended()).await;
    assert!(!lives(daemon));
}

/// Not a test of its own: a launcher with many descriptors, and no other threads that start processes.
#[tokio::test]
async fn launcher_with_many_descriptors() {
    let Some(home) = Helper::home() else {
        return;
    };
    let scene = Scene::at(home);
    let many: Vec<_> = (0..100)
        .map(|_| std::fs::File::open("/dev/null").unwrap())
        .collect();
    assert_eq!(
        scene.run("exit 3").await.main_ended().await,
        ExitStatus::Code(3)
    );
    let allowed = std::thread::spawn(|| sys::own_descriptors(2).is_ok());
    if !allowed.join().unwrap() {
        println!("skipped: this system lets no thread have descriptors of its own");
    } else {
        let mut tables = Vec::new();
        for task in std::fs::read_dir("/proc/self/task").unwrap() {
            let task = task.unwrap().path();
            if std::fs::read_to_string(task.join("comm")).unwrap() == "spawner\n" {
                tables.push(std::fs::read_dir(task.join("fd")).unwrap().count());
            }
        }
        tables.sort_unstable();
        let sharing = tables.pop();
        assert!(sharing > Some(many.len()), "{sharing:?}");
        assert!(tables.iter().all(|open| *open <= 4), "{tables:?}");
    }
    std::fs::write(scene.path("out"), "1\n").unwrap();
}

#[tokio::test]
async fn ends_are_noticed_in_bad_surroundings() {
    for test in [
        "launcher_without_descriptors",
        "launcher_without_lists",
        "launcher_with_many_descriptors",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let helper = Helper::start(&format!("tests::{test}"), folder.path());
        helper.succeeds().await;
        assert!(folder.path().join("out").exists(), "{test} did not run");
    }
}
