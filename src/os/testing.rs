//! Helpers of the tests with real processes.
//!
//! Invariants: each test has a home of its own, so hosts in one process take no notice of each other's children; what a
//! test has started is killed at its end, whatever became of it.

use crate::cgroup::{CgroupUse, Folder, HardLimits, TreeKind};
use crate::{Host, HostConfig, Output, Process, SpawnSpec, table};
use std::ffi::OsString;
use std::fs::File;
use std::future::Future;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use supervision::{PluginId, Run};
use tempfile::TempDir;

/// The longest that anything may take on a loaded machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A home with a host.
pub(crate) struct Scene {
    pub(crate) host: Host,
    home: PathBuf,
    _folder: Option<TempDir>,
}

impl Scene {
    /// A scene in a folder that is removed with it. Needs a runtime.
    pub(crate) fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let mut scene = Scene::at(folder.path().to_owned());
        scene._folder = Some(folder);
        scene
    }

    /// A scene whose runs are known in this way; `None`, with a line that names the test, where that cannot be had.
    pub(crate) fn known_by(kind: TreeKind, test: &str) -> Option<Scene> {
        let folder = tempfile::tempdir().unwrap();
        let cgroups = match kind {
            TreeKind::Cgroup => CgroupUse::Auto,
            TreeKind::Group => CgroupUse::Off,
        };
        let mut scene = Scene::with(folder.path().to_owned(), cgroups);
        scene._folder = Some(folder);
        let mode = scene.host.tree_mode();
        if mode.kind() != kind {
            println!("{test}: left out for {}: {mode}", kind.as_str());
            return None;
        }
        Some(scene)
    }

    /// A scene in this folder.
    pub(crate) fn at(home: PathBuf) -> Scene {
        Scene::with(home, CgroupUse::Auto)
    }

    fn with(home: PathBuf, cgroups: CgroupUse) -> Scene {
        // What the tests were started with must not reach the children; it may be repeated.
        crate::settle().unwrap();
        let host = Host::start(HostConfig {
            home: home.clone(),
            cgroups,
        })
        .unwrap();
        Scene {
            host,
            home,
            _folder: None,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// A run of `/bin/sh` with this script; `$OUT` is [`Scene::path`] `"out"`.
    pub(crate) fn shell(&self, script: &str) -> SpawnSpec {
        self.program(Path::new("/bin/sh"), &["-c", script])
    }

    pub(crate) fn program(&self, path: &Path, args: &[&str]) -> SpawnSpec {
        let variable = |name: &str, value: OsString| (OsString::from(name), value);
        SpawnSpec {
            marker: self.host.marker(&PluginId::new("p").unwrap(), Run(1)),
            path: path.to_owned(),
            argv0: path.as_os_str().to_owned(),
            args: args.iter().map(OsString::from).collect(),
            env: vec![
                variable("PATH", std::env::var_os("PATH").unwrap_or_default()),
                variable("OUT", self.path("out").into_os_string()),
            ],
            cwd: self.home.clone(),
            stdout: Output::Null,
            stderr: Output::Null,
            limits: HardLimits::default(),
        }
    }

    pub(crate) async fn run(&self, script: &str) -> Arc<Process> {
        self.host.spawn(self.shell(script)).await.unwrap()
    }

    /// An executable file with this content.
    pub(crate) fn executable(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Waits until the file `out` has this many words, which are numbers.
    pub(crate) async fn numbers(&self, count: usize) -> Vec<i32> {
        numbers(&self.path("out"), count).await
    }
}

async fn numbers(path: &Path, count: usize) -> Vec<i32> {
    eventually(|| {
        let text = std::fs::read_to_string(path).ok()?;
        // A line that is not finished is not there yet.
        let whole = &text[..text.rfind('\n')? + 1];
        let words: Vec<i32> = whole
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect();
        (words.len() >= count).then_some(words)
    })
    .await
}

impl Drop for Scene {
    fn drop(&mut self) {
        let runs = self.host.running();
        for run in &runs {
            run.kill().unwrap();
        }
        // Nobody is left to remove them later.
        for folder in runs.iter().filter_map(|run| run.cgroup()) {
            let cgroup = Folder::at(folder.to_owned());
            shortly(|| cgroup.remove().is_ok());
        }
        self.host.tidy();
    }
}

/// The home that a [`Helper`] works in.
const HELPER_HOME: &str = "OS_TEST_HELPER_HOME";

/// This test program in a process of its own, for what concerns a whole process.
pub(crate) struct Helper {
    child: Child,
    home: PathBuf,
}

impl Helper {
    /// Where to work when we are one; tests that are helpers only return at once otherwise.
    pub(crate) fn home() -> Option<PathBuf> {
        std::env::var_os(HELPER_HOME).map(PathBuf::from)
    }

    /// Runs one test, named with its module, in a process of its own.
    pub(crate) fn start(test: &str, home: &Path) -> Helper {
        Helper::start_with(test, home, |_| {})
    }

    pub(crate) fn start_with(test: &str, home: &Path, change: impl FnOnce(&mut Command)) -> Helper {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(HELPER_HOME, home)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        change(&mut command);
        Helper {
            child: command.spawn().unwrap(),
            home: home.to_owned(),
        }
    }

    pub(crate) async fn numbers(&self, count: usize) -> Vec<i32> {
        numbers(&self.home.join("out"), count).await
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end; it has to succeed.
    pub(crate) async fn succeeds(mut self) {
        let status = eventually(|| self.child.try_wait().unwrap()).await;
        assert!(status.success(), "{status}");
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Both fail when it has ended, as is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All that is in a FIFO. Whether there is a writer does not matter: another test may just be starting a process, which
/// has copies of our descriptors until its exec.
pub(crate) fn drain(reader: &mut File) -> String {
    let mut text = Vec::new();
    if let Err(error) = reader.read_to_end(&mut text) {
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
    }
    String::from_utf8(text).unwrap()
}

/// Waits until it is so. What was let go of here may for a moment be held by a process that another test starts.
pub(crate) fn shortly(mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LONG, "it never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until `look` gives something.
pub(crate) async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LONG, "it never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits, but not for ever.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future)
        .await
        .expect("it never came")
}

/// Whether a process is there and no zombie.
pub(crate) fn lives(pid: i32) -> bool {
    table::stat(pid)
        .unwrap()
        .is_some_and(|stat| !stat.has_ended())
}
