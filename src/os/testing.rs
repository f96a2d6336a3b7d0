//! Helpers of the tests with real processes.
//!
//! Invariants: each test has a home of its own, so hosts in one process take no notice of each other's children; what a
//! test has started is killed at its end, whatever became of it.

use crate::{Host, HostConfig, Output, Process, SpawnSpec, table};
use std::ffi::OsString;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use supervision::{PluginId, Run};
use tempfile::TempDir;

/// The longest that anything may take on a loaded machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A home with a host.
pub(crate) struct Scene {
    pub(crate) host: Host,
    pub(crate) folder: TempDir,
}

impl Scene {
    /// Needs a runtime.
    pub(crate) fn new() -> Scene {
        // What the tests were started with must not reach the children; it may be repeated.
        crate::settle().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = HostConfig {
            home: folder.path().to_owned(),
        };
        let host = Host::start(config).unwrap();
        Scene { host, folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
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
            cwd: self.folder.path().to_owned(),
            stdout: Output::Null,
            stderr: Output::Null,
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
        eventually(|| {
            let text = std::fs::read_to_string(self.path("out")).ok()?;
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
}

impl Drop for Scene {
    fn drop(&mut self) {
        for run in self.host.running() {
            run.kill().unwrap();
        }
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
