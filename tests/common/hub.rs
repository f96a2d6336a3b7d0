//! A hub of real processes in a temporary home, driven as an operator would.
//!
//! Invariants: each hub has a home, ports and sockets of its own, so tests run side by side; when it is dropped, nothing
//! of it is left, and a test that leaves something fails.

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine; reached only by a failure.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Waits until `probe` gives a value.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < until, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A home with everything a hub needs.
pub struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    /// An installed hub that has never run; `launcher.yaml` is `config`.
    pub fn new(config: &str) -> Home {
        let home = Home::empty();
        fs::write(home.path("config/launcher.yaml"), config).unwrap();
        home
    }

    /// As [`Home::new`], without a configuration of the launcher.
    pub fn empty() -> Home {
        let folder = tempfile::Builder::new().prefix("hub-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let home = Home { folder };
        for sub in ["bin", "plugins", "config"] {
            fs::create_dir(home.path(sub)).unwrap();
        }
        for (name, exe) in [
            ("launcher", env!("CARGO_BIN_EXE_launcher")),
            ("hubcli", env!("CARGO_BIN_EXE_hubcli")),
            ("mqttcore", env!("CARGO_BIN_EXE_mqttcore")),
        ] {
            let to = home.path("bin").join(name);
            if fs::hard_link(exe, &to).is_err() {
                fs::copy(exe, &to).unwrap();
            }
        }
        // A free port, and no name that the hubs of other tests could take.
        let core = "mqttserver:\n  port: 0\n  wsPort: 0\n  inMemUDSName: \"\"\nenableMDNS: false\n";
        fs::write(home.path("config/mqttcore.yaml"), core).unwrap();
        home
    }

    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Installs a shell script as a plugin, atomically, as an installer would.
    pub fn plugin(&self, id: &str, script: &str) {
        self.executable(id, &format!("#!/bin/sh\n{script}\n"));
    }

    /// Installs any text as an executable.
    pub fn executable(&self, id: &str, text: &str) {
        let part = self.path(format!("plugins/.{id}.part"));
        fs::write(&part, text).unwrap();
        fs::set_permissions(&part, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&part, self.path("plugins").join(id)).unwrap();
    }

    /// Starts the launcher and waits until it serves requests.
    pub fn up(self) -> Hub {
        let hub = self.launch();
        hub.wait_for_bus();
        hub
    }

    /// Starts the launcher.
    pub fn launch(self) -> Hub {
        let command = self.launcher();
        self.launch_by(command)
    }

    /// Starts what is, or becomes, the launcher of this home.
    pub fn launch_by(self, command: Command) -> Hub {
        let child = spawn_launcher(&self, command);
        Hub {
            home: self,
            launcher: Some(child),
        }
    }

    pub fn launcher(&self) -> Command {
        Command::new(self.path("bin/launcher"))
    }

    /// Runs the launcher to its end, for what it says.
    pub fn say(&self, args: &[&str]) -> Output {
        let mut command = self.launcher();
        command.args(args).stdin(Stdio::null()).current_dir("/");
        patiently(|| command.output())
    }
}

fn spawn_launcher(home: &Home, mut command: Command) -> Child {
    let err = fs::File::options()
        .create(true)
        .append(true)
        .open(home.path("launcher.err"))
        .unwrap();
    command
        .stdin(Stdio::null())
        .stdout(err.try_clone().unwrap())
        .stderr(err)
        .current_dir("/");
    patiently(|| command.spawn())
}

/// Tries again while a program that was just copied is held open by a process that another test is starting.
fn patiently<T>(mut start: impl FnMut() -> std::io::Result<T>) -> T {
    let started = eventually("a program can be executed", || match start() {
        Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => None,
        other => Some(other),
    });
    started.unwrap()
}

/// A hub whose launcher was started.
pub struct Hub {
    pub home: Home,
    launcher: Option<Child>,
}

impl Hub {
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.home.path(below)
    }

    pub fn launcher_pid(&self) -> i32 {
        i32::try_from(self.launcher.as_ref().unwrap().id()).unwrap()
    }

    pub fn hubcli(&self, args: &[&str]) -> Output {
        let mut command = Command::new(self.path("bin/hubcli"));
        command.args(args).stdin(Stdio::null());
        patiently(|| command.output())
    }

    /// Runs hubcli with a text as its standard input.
    pub fn hubcli_with(&self, args: &[&str], input: &str) -> Output {
        let file = self.path("input");
        fs::write(&file, input).unwrap();
        let mut command = Command::new(self.path("bin/hubcli"));
        command.args(args);
        patiently(|| command.stdin(fs::File::open(&file)?).output())
    }

    /// Runs hubcli, which must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.hubcli(args);
        assert!(
            output.status.success(),
            "hubcli {args:?}: {output:?}\n{}",
            self.account()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// The port of the core's TLS listener.
    pub fn port(&self) -> u16 {
        // It is left a moment after the socket is there.
        eventually("the core has left its address", || {
            let url = fs::read_to_string(self.path("run/mqttcore.url")).ok()?;
            url.trim().rsplit(':').next()?.parse().ok()
        })
    }

    /// Where the core is reached by TLS, under a name that is in its certificate.
    pub fn tls_url(&self) -> String {
        format!("mqtts://localhost:{}", self.port())
    }

    pub fn wait_for_bus(&self) {
        eventually(
            &format!("the hub answers; {}", self.path("").display()),
            || {
                let output = self.hubcli(&["--json", "ls"]);
                // Without a bus the launcher answers over its own socket, which is said.
                let over_the_bus = output.status.success() && !said_note(&output);
                over_the_bus.then_some(())
            },
        );
    }

    pub fn list(&self) -> Vec<Value> {
        serde_json::from_str(&self.ok(&["--json", "ls"])).unwrap()
    }

    /// What `ls` says of a plugin.
    pub fn info(&self, id: &str) -> Value {
        let list = self.list();
        list.into_iter()
            .find(|info| info["Name"] == id)
            .unwrap_or_else(|| panic!("no {id} in ls"))
    }

    /// Waits until a plugin is in a phase; the bus may be away meanwhile.
    pub fn wait_phase(&self, id: &str, phase: &str) -> Value {
        eventually(&format!("{id} is {phase}\n{}", self.account()), || {
            let output = self.hubcli(&["--json", "ls"]);
            let list: Vec<Value> = serde_json::from_slice(&output.stdout).ok()?;
            list.into_iter()
                .find(|info| info["Name"] == id && info["Phase"] == phase)
        })
    }

    pub fn pid(&self, id: &str) -> i32 {
        i32::try_from(self.wait_phase(id, "running")["PID"].as_i64().unwrap()).unwrap()
    }

    pub fn log(&self, id: &str) -> String {
        let log = fs::read(self.path(format!("logs/{id}.log"))).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Waits for a text in a log.
    pub fn wait_log(&self, id: &str, text: &str) {
        eventually(&format!("{text:?} in {id}.log\n{}", self.account()), || {
            self.log(id).contains(text).then_some(())
        });
    }

    /// For messages of failures: the launcher's own words.
    pub fn account(&self) -> String {
        let err = fs::read_to_string(self.path("launcher.err")).unwrap_or_default();
        format!("{err}\n{}", self.log("launcher"))
    }

    pub fn signal_launcher(&self, signal: i32) {
        signal_pid(self.launcher_pid(), signal);
    }

    /// Waits for the launcher's end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut launcher = self.launcher.take().unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = launcher.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > until {
                self.launcher = Some(launcher);
                panic!("in vain: the launcher ends\n{}", self.account());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops the hub as systemd would, and checks that it ended well and that nothing is left.
    pub fn down(mut self) {
        self.signal_launcher(libc_sigterm());
        let status = self.ended();
        assert_eq!(status.code(), Some(0), "{status:?}\n{}", self.account());
        self.assert_nothing_left();
    }

    /// Kills the launcher and starts another one.
    pub fn kill_and_relaunch(&mut self) {
        self.signal_launcher(9);
        let status = self.ended();
        assert_eq!(status.signal(), Some(9));
        self.launcher = Some(spawn_launcher(&self.home, self.home.launcher()));
        self.wait_for_bus();
    }

    /// Starts a launcher again after the last one ended.
    pub fn relaunch(&mut self) {
        self.relaunch_unseen();
        self.wait_for_bus();
    }

    /// As [`Hub::relaunch`], without waiting for it.
    pub fn relaunch_unseen(&mut self) {
        let command = self.home.launcher();
        self.relaunch_by(command);
    }

    /// As [`Hub::relaunch_unseen`], by what is, or becomes, the launcher of this home.
    pub fn relaunch_by(&mut self, command: Command) {
        assert!(self.launcher.is_none());
        self.launcher = Some(spawn_launcher(&self.home, command));
    }

    /// All live processes that the launchers of this home have started, and what came from them.
    pub fn processes(&self) -> Vec<i32> {
        processes_of(self.home.folder.path())
    }

    /// No process, no FIFO; what a core that is killed cannot tidy away itself is left to its successor.
    pub fn assert_nothing_lives(&self) {
        let home = self.home.folder.path();
        let left = processes_of(home);
        assert!(
            left.is_empty(),
            "left running: {left:?}\n{}",
            self.account()
        );
        let kept = ["lock", "records"].map(std::ffi::OsString::from);
        let others: Vec<_> = fs::read_dir(self.path("run/private"))
            .unwrap()
            .flatten()
            .map(|entry| entry.file_name())
            .filter(|name| !kept.contains(name))
            .collect();
        assert!(others.is_empty(), "{others:?} are left");
    }

    pub fn assert_nothing_left(&self) {
        self.assert_nothing_lives();
        for socket in ["run/mqttcore.sock", "run/mqttcore.url", "run/launcher.sock"] {
            assert!(!self.path(socket).exists(), "{socket} is left");
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(mut launcher) = self.launcher.take() {
            // A test failed: end everything that bears this home's mark, the launcher first.
            let _ = launcher.kill();
            let _ = launcher.wait();
        }
        for pid in processes_of(self.home.folder.path()) {
            signal_pid(pid, 9);
        }
    }
}

/// Whether hubcli said that it went another way than over the bus.
pub fn said_note(output: &Output) -> bool {
    String::from_utf8_lossy(&output.stderr).contains("is asked over")
}

const fn libc_sigterm() -> i32 {
    15
}

pub fn signal_pid(pid: i32, signal: i32) {
    let signal = nix::sys::signal::Signal::try_from(signal).unwrap();
    // One that is gone already is as good.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
}

/// The live processes that bear the mark of this home.
pub fn processes_of(home: &Path) -> Vec<i32> {
    let mark = format!("HIVEOT_HOME={}", home.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        let marked = environ
            .split(|byte| *byte == 0)
            .any(|var| var == mark.as_bytes());
        if marked && is_alive(pid) {
            found.push(pid);
        }
    }
    found
}

/// Whether a process lives; a zombie does not.
pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    match stat.rsplit_once(')') {
        Some((_, rest)) => !matches!(rest.trim_start().chars().next(), Some('Z' | 'X') | None),
        None => false,
    }
}
