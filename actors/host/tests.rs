use super::*;
use crate::ports::{ConnectTarget, FileFacts, OnCoreRestart, Plan, Teller};
use logs::PlaneConfig;
use os::HostConfig;
use os::cgroup::CgroupUse;
use os::told::Said;
use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};
use supervision::lifecycle::Rules;
use supervision::policy::LogPolicy;
use supervision::{ExitStatus, PluginId, Run};
use tokio::sync::oneshot;

const PATIENCE: Duration = Duration::from_secs(20);

struct World {
    dir: tempfile::TempDir,
    live: Arc<LiveRuns>,
    processes: HostProcesses,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["plugins", "private", "stores"] {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let home = dir.path().to_owned();
        let host = Host::start(HostConfig {
            home: home.clone(),
            cgroups: CgroupUse::Auto,
        })
        .unwrap();
        let folder = home.join("logs");
        let plane = Plane::start(PlaneConfig { folder }).unwrap();
        let live = Arc::new(LiveRuns::open(&home.join("private")).unwrap().0);
        let config = SpawnConfig {
            plugins: home.join("plugins"),
            notify: dir.path().join("notify"),
            private: home.join("private"),
            logs: home.join("logs"),
            log_level: "warning".to_owned(),
            server: Arc::new(|| Some("unix:///s".to_owned())),
            parallel: 0,
            output: OutputPlan {
                to_file: true,
                stdout: Attached::No,
                stderr: Attached::Elsewhere,
            },
            home,
        };
        World {
            processes: HostProcesses::new(
                Arc::new(host),
                plane,
                live.clone(),
                Desk::default(),
                config,
            ),
            dir,
            live,
        }
    }

    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join("plugins").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn fifos(&self) -> usize {
        let entries = std::fs::read_dir(self.dir.path().join("private")).unwrap();
        let is_fifo = |entry: &std::fs::DirEntry| entry.file_type().unwrap().is_fifo();
        entries
            .filter(|entry| is_fifo(entry.as_ref().unwrap()))
            .count()
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join("logs").join(name)).unwrap_or_default()
    }
}

impl Drop for World {
    /// A test that fails leaves nothing running either.
    fn drop(&mut self) {
        for process in self.processes.inner.host.running() {
            let _ = process.kill();
        }
        self.processes.inner.host.tidy();
    }
}

fn launch(name: &str, path: &Path) -> Launch {
    Launch {
        id: PluginId::new(name).unwrap(),
        kind: Kind::Plugin,
        run: Run(3),
        file: FileFacts {
            name: name.to_owned(),
            path: path.to_owned(),
            size: 1,
            modified: SystemTime::UNIX_EPOCH,
        },
        plan: Plan {
            rules: Rules::default(),
            logs: LogPolicy::default(),
            limits: supervision::limits::Limits::default(),
            args: Vec::new(),
            env: BTreeMap::new(),
            env_file: None,
            cwd: None,
            instance_of: None,
            on_core_restart: OnCoreRestart::Keep,
            requires: Vec::new(),
            needs: Vec::new(),
            teller: Teller::default(),
            sampling: None,
        },
        env_file: Vec::new(),
        turn: None,
    }
}

/// Waits for what comes without being told.
async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let looking = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .unwrap_or_else(|_| panic!("waited for {what}"));
}

async fn tail_of(child: &Arc<dyn Child>) -> Vec<String> {
    let (done, tail) = oneshot::channel();
    let done = Box::new(move |lines| drop(done.send(lines)));
    child.close_log("as the test wants", Duration::from_millis(1_500), done);
    tokio::time::timeout(PATIENCE, tail).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_run_is_started_logged_recorded_and_forgotten() {
    let world = World::new();
    let path = world.script(
        "prog",
        "echo \"$0 $1 $(pwd -P)\"; echo $X $LOGLEVEL $HIVEOT_SERVER $HIVEOT_HOME >&2; echo $HIVEOT_RUN; exec sleep 600",
    );
    let mut launch = launch("east", &path);
    launch.plan.args = vec!["--one".to_owned()];
    launch.plan.cwd = Some("stores".into());
    launch.env_file = vec![("X".to_owned(), "file".to_owned())];
    launch.plan.env = BTreeMap::from([("X".to_owned(), "plan".to_owned())]);
    world.processes.readiness().make_ready(&launch.id);
    world.processes.readiness().make_ready(&launch.id);
    assert_eq!(world.fifos(), 1);
    let child = world.processes.spawn(launch).await.unwrap();
    let [record] = &world.live.all()[..] else {
        panic!()
    };
    assert_eq!((record.pid, record.run), (child.pid(), Run(3)));
    assert_eq!(record.boot_id, os::table::boot_id().unwrap());
    assert_eq!(record.fifos.len(), 1);
    assert_eq!(child.members()[0].start_ticks, record.start_ticks);
    until("its output", || world.log("east.log").contains("east.3.")).await;
    assert_eq!(world.fifos(), 1);
    let usage = TreeMeter::default();
    let runs = vec![(PluginId::new("east").unwrap(), Run(3), child.clone())];
    use crate::ports::{Meter, Round};
    let measured = usage.measure(Round::Regular, runs).await;
    let [(_, _, usage)] = &measured.runs[..] else {
        panic!()
    };
    assert!(usage.rss_bytes > 0 && usage.children == 0, "{usage:?}");
    assert!(usage.open_fds.unwrap() >= 3 && usage.threads == 1);
    assert!(measured.own.unwrap().rss_bytes > usage.rss_bytes);
    child.signal(15).unwrap();
    let status = tokio::time::timeout(PATIENCE, child.tree_ended())
        .await
        .unwrap();
    let number = 15;
    assert_eq!(
        status,
        ExitStatus::Signal {
            number,
            core_dumped: false
        }
    );
    let tail = tail_of(&child).await;
    let home = world.dir.path().canonicalize().unwrap();
    let (home, plain) = (home.display(), world.dir.path().display());
    // A script sees its path as its own name; what argv[0] was is seen by programs only.
    assert_eq!(tail[0], format!("{} --one {home}/stores", path.display()));
    assert_eq!(tail[1], format!("plan warning unix:///s {plain}"));
    assert_eq!(tail[2], record.marker);
    until("the end line", || {
        world.log("east.log").contains("ended: as the test wants")
    })
    .await;
    assert!(world.log("east.log").starts_with("--- "));
    drop(child);
    until("nothing left", || world.fifos() == 0).await;
    assert_eq!(world.live.all(), []);
}

#[tokio::test]
async fn an_instance_has_its_own_id_as_name() {
    let world = World::new();
    let mut launch = launch("east", Path::new("/bin/sleep"));
    launch.plan.instance_of = Some("sleep".to_owned());
    launch.plan.args = vec!["600".to_owned()];
    let child = world.processes.spawn(launch).await.unwrap();
    let east = world.dir.path().join("plugins/east");
    // For a moment after exec a process has no arguments yet.
    until("its name", || {
        let arguments = os::table::arguments(child.pid()).unwrap();
        arguments.first().is_some_and(|name| *name == east)
    })
    .await;
    // Somebody who is not its parent can wait for it, too.
    let gone = world.processes.foreign_ended(child.pid());
    child.kill().unwrap();
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    tokio::time::timeout(PATIENCE, child.tree_ended())
        .await
        .unwrap();
    assert!(child.tree_is_gone());
}

#[tokio::test]
async fn a_start_that_fails_leaves_nothing() {
    let world = World::new();
    let path = world.script("bad", "");
    std::fs::write(&path, "#!/no/such/interpreter\n").unwrap();
    let failed = world
        .processes
        .spawn(launch("bad", &path))
        .await
        .err()
        .unwrap();
    let SpawnFailure::Failed(text) = failed else {
        panic!("{failed:?}")
    };
    assert!(
        text.starts_with(&format!("fork/exec {}: ", path.display())),
        "{text}"
    );
    let gone = world.dir.path().join("plugins/gone");
    let failed = world
        .processes
        .spawn(launch("gone", &gone))
        .await
        .err()
        .unwrap();
    assert!(matches!(failed, SpawnFailure::Missing(_)), "{failed:?}");
    assert_eq!((world.fifos(), world.live.all()), (0, Vec::new()));
}

/// As after a crash of all for one cause: whoever starts goes through one gate, `start.parallel` wide.
#[tokio::test]
async fn many_starts_at_once_wait_for_their_turn() {
    const ALL: usize = 50;
    let world = World::new();
    let path = world.script("one", "exec sleep 600");
    let gate = &world.processes.inner.starts;
    let wide = u32::try_from(gate.available_permits()).unwrap();
    let closed = gate.acquire_many(wide).await.unwrap();
    let begun: Arc<Mutex<Vec<usize>>> = Arc::default();
    let mut starts = Vec::new();
    for number in 0..ALL {
        let start = world
            .processes
            .spawn(launch(&format!("one{number}"), &path));
        let begun = begun.clone();
        starts.push(tokio::spawn(async move {
            let child = start.await.unwrap();
            begun.lock().unwrap().push(number);
            child
        }));
        // In this order.
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(world.processes.inner.host.running().is_empty());
    // One at a time: each begins when the one before is there.
    let mut closed = closed;
    drop(closed.split(1).unwrap());
    for start in starts {
        let child = tokio::time::timeout(PATIENCE, start)
            .await
            .unwrap()
            .unwrap();
        child.kill().unwrap();
        tokio::time::timeout(PATIENCE, child.tree_ended())
            .await
            .unwrap();
    }
    assert!(begun.lock().unwrap().is_sorted());
    assert_eq!(gate.available_permits(), 1);
    drop(closed);
}

#[tokio::test]
async fn a_start_that_is_given_up_is_undone() {
    let world = World::new();
    let marks = world.dir.path().join("marks");
    let path = world.script(
        "slow",
        &format!("echo $$ >> {}; exec sleep 600", marks.display()),
    );
    for polls in 0..12 {
        let mut start = world.processes.spawn(launch("slow", &path));
        for _ in 0..polls {
            // Given up at whatever point it has come to.
            let step = tokio::time::timeout(Duration::from_micros(300), &mut start).await;
            if let Ok(child) = step {
                let child = child.unwrap();
                child.kill().unwrap();
                child.tree_ended().await;
                break;
            }
        }
    }
    let host = world.processes.inner.host.clone();
    until("no process", || host.running().is_empty()).await;
    until("no FIFO", || world.fifos() == 0).await;
    assert_eq!(world.live.all(), []);
}

#[tokio::test]
async fn what_a_killed_launcher_left_is_ended() {
    let world = World::new();
    let path = world.script("left", "trap '' TERM; sleep 600 & wait; wait");
    let child = world.processes.spawn(launch("left", &path)).await.unwrap();
    world.live.flush().await.unwrap();
    // What the next launcher finds, which does not know that the processes are ours.
    let private = world.dir.path().join("private");
    let (live, notices) = LiveRuns::open(&private).unwrap();
    assert_eq!((live.all().len(), notices.len()), (1, 0));
    let until_up = |members: usize| members >= 2;
    until("its child", || until_up(child.members().len())).await;
    let grace = Duration::from_millis(50);
    let marks = end_leftovers(world.dir.path(), &private, &live, 15, grace);
    let Left { marks, stuck } = tokio::time::timeout(PATIENCE, marks)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stuck, []);
    assert!(marks.len() >= 2, "{marks:?}");
    tokio::time::timeout(PATIENCE, child.tree_ended())
        .await
        .unwrap();
    assert_eq!((live.all(), world.fifos()), (Vec::new(), 0));
}

#[tokio::test]
async fn what_was_left_is_known_without_its_record() {
    let world = World::new();
    let marked = world.script("marked", "exec sleep 600");
    let bare = world.script("bare", "exec env -i sleep 600");
    let mut children = Vec::new();
    for (name, path) in [("marked", marked), ("bare", bare)] {
        let child = world.processes.spawn(launch(name, &path)).await.unwrap();
        children.push(child);
    }
    let bare = children[1].pid();
    until("no mark", || {
        os::table::marks(bare).unwrap() == os::table::Marks::None
    })
    .await;
    let empty = tempfile::tempdir().unwrap();
    let (live, _) = LiveRuns::open(empty.path()).unwrap();
    let private = world.dir.path().join("private");
    let grace = Duration::from_millis(50);
    let marks = end_leftovers(world.dir.path(), &private, &live, 15, grace);
    let Left { marks, stuck } = tokio::time::timeout(PATIENCE, marks)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stuck, []);
    let ids: Vec<_> = marks.iter().map(|mark| mark.id().as_str()).collect();
    assert_eq!(ids, ["marked"]);
    for child in children {
        tokio::time::timeout(PATIENCE, child.tree_ended())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_run_that_tells_that_it_is_ready_is_heard() {
    let world = World::new();
    // It lives on as who told, so that it can be seen to be of the tree.
    let path = world.script(
        "prog",
        "exec python3 -c 'import os,socket,time; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.sendto(b\"READY=1\",os.environ[\"NOTIFY_SOCKET\"]); time.sleep(600)'",
    );
    let mut launch = launch("east", &path);
    assert_eq!(launch.plan.teller, Teller::Started);
    launch.plan.teller = Teller::Itself;
    let child = world.processes.spawn(launch).await.unwrap();
    let sockets = || {
        let entries = std::fs::read_dir(world.dir.path().join("notify"));
        entries.unwrap().count()
    };
    assert_eq!(sockets(), 1);
    heard(&child, |said| said.ready).await;
    child.kill().unwrap();
    child.tree_ended().await;
    until("its socket is removed", || sockets() == 0).await;
}

/// Waits until a run has told something like that; everything before it is forgotten.
async fn heard(child: &Arc<dyn Child>, wanted: impl Fn(&Said) -> bool) -> Said {
    let hearing = async {
        loop {
            let said = child.told().expect("it is listened to").await;
            if wanted(&said) {
                return said;
            }
        }
    };
    tokio::time::timeout(PATIENCE, hearing).await.expect("told")
}

/// A run of a script that is listened to in a way.
async fn listened(world: &World, script: &str, teller: Teller) -> Arc<dyn Child> {
    let mut launch = launch("east", &world.script("prog", script));
    launch.plan.teller = teller;
    world.processes.spawn(launch).await.unwrap()
}

#[tokio::test]
async fn the_real_systemd_notify_is_understood() {
    let found = std::process::Command::new("systemd-notify")
        .arg("--version")
        .output();
    if found.is_err() {
        println!("skipped the_real_systemd_notify_is_understood: there is no systemd-notify");
        return;
    }
    let world = World::new();
    let script = "systemd-notify --ready --status='all is well' && echo answered; exec sleep 600";
    let child = listened(&world, script, Teller::Itself).await;
    let said = heard(&child, |said| said.ready).await;
    assert_eq!(said.status.as_deref(), Some("all is well"));
    // It waits for the answer to its barrier, and complains when there is none.
    until("its barrier is answered", || {
        world.log("east.log").contains("answered")
    })
    .await;
    child.kill().unwrap();
}

#[tokio::test]
async fn who_is_not_of_the_tree_is_not_believed_and_a_flood_is_borne() {
    let world = World::new();
    let child = listened(&world, "exec sleep 600", Teller::Itself).await;
    let entries = std::fs::read_dir(world.dir.path().join("notify")).unwrap();
    let path = entries.map(|entry| entry.unwrap().path()).next().unwrap();
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    // We are its parent, but not of its tree; each is taken in, as otherwise there would soon be no room.
    let flood = tokio::task::spawn_blocking(move || {
        for _ in 0..250 {
            socket.send_to(b"READY=1\nSTATUS=mine", &path).unwrap();
        }
    });
    tokio::time::timeout(PATIENCE, flood)
        .await
        .unwrap()
        .unwrap();
    let told = tokio::time::timeout(Duration::from_millis(50), child.told().unwrap()).await;
    assert!(told.is_err(), "{told:?}");
    child.kill().unwrap();
}

#[tokio::test]
async fn a_line_tells_that_it_is_ready_also_without_a_log() {
    let mut world = World::new();
    for to_file in [true, false] {
        Arc::get_mut(&mut world.processes.inner)
            .unwrap()
            .config
            .output
            .to_file = to_file;
        let pattern = logs::LinePattern::new("^listening on [0-9]+$").unwrap();
        let script = "echo not listening on 1; sleep 0.05; echo listening on 80; exec sleep 600";
        let child = listened(&world, script, Teller::Log(pattern)).await;
        assert!(heard(&child, |said| said.ready).await.ready);
        child.kill().unwrap();
        child.tree_ended().await;
    }
}

#[tokio::test]
async fn a_connection_tells_that_it_is_ready() {
    let world = World::new();
    let path = world.dir.path().join("its.sock");
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = tcp.local_addr().unwrap().port();
    let (host, unix) = ("127.0.0.1".to_owned(), ConnectTarget::Unix(path.clone()));
    for target in [ConnectTarget::Tcp { host, port }, unix] {
        let child = listened(&world, "exec sleep 600", Teller::Connect(target.clone())).await;
        if let ConnectTarget::Unix(path) = &target {
            let told = tokio::time::timeout(Duration::from_millis(50), child.told().unwrap()).await;
            assert!(told.is_err(), "there is nobody yet");
            let _listener = tokio::net::UnixListener::bind(path).unwrap();
            assert!(heard(&child, |said| said.ready).await.ready);
        } else {
            assert!(heard(&child, |said| said.ready).await.ready);
        }
        child.kill().unwrap();
        child.tree_ended().await;
    }
}
