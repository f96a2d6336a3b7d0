//! A real hub in a temporary home.
//!
//! Invariants: its ports and sockets are its own; when it is dropped, nothing of it runs and its home is removed.

use crate::clock;
use crate::ends;
use crate::stamps::{self, Program, Stamp, Stamps};
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const PROGRAMS: [(&str, &str); 3] = [
    ("launcher", env!("CARGO_BIN_EXE_launcher")),
    ("hubcli", env!("CARGO_BIN_EXE_hubcli")),
    ("mqttcore", env!("CARGO_BIN_EXE_mqttcore")),
];

/// A free port, no name that another hub could take, nothing sent into the network.
const CORE_CONFIG: &str =
    "mqttserver:\n  port: 0\n  wsPort: 0\n  inMemUDSName: \"\"\nenableMDNS: false\n";

/// How long a hub is left alone before it counts as settled: plugins count as running 100 ms after their start.
const SETTLE: Duration = Duration::from_secs(2);

/// How often it is looked whether a process is gone.
const GLANCE: Duration = Duration::from_micros(100);

/// How a hub is set up.
#[derive(Clone, Copy)]
pub struct Settings<'a> {
    /// `logLevel`.
    pub log_level: &'a str,
    /// More lines of the launcher's configuration.
    pub hub: &'a str,
    /// What is set for each plugin, as the inside of a YAML map in one line.
    pub plugin: &'a str,
}

/// As most measures have it: nothing set, and a log that tells when the core is ready.
pub const PLAIN: Settings<'static> = Settings {
    log_level: "info",
    hub: "",
    plugin: "",
};

/// An installed hub.
pub struct Home {
    folder: TempDir,
    ids: Vec<String>,
    stamps: Stamps,
}

impl Home {
    /// A hub with so many stamping plugins, all in autostart.
    pub fn new(size: usize, program: &Program, settings: Settings<'_>) -> Result<Home> {
        let folder = tempfile::Builder::new().prefix("hub-bench-").tempdir()?;
        let path = folder.path();
        // Plugins of other users are to get at their files, as in an installed hub.
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        for sub in ["bin", "plugins", "config"] {
            fs::create_dir(path.join(sub))?;
        }
        for (name, from) in PROGRAMS {
            link(Path::new(from), &path.join("bin").join(name))?;
        }
        let ids: Vec<String> = (0..size).map(|number| format!("p{number:04}")).collect();
        let first = path.join("plugin");
        fs::copy(program.path(), &first)?;
        for id in &ids {
            link(&first, &path.join("plugins").join(id))?;
        }
        fs::write(path.join("config/launcher.yaml"), config(&ids, settings))?;
        fs::write(path.join("config/mqttcore.yaml"), CORE_CONFIG)?;
        let stamps = Stamps::new(&path.join("hub.stamps"))?;
        Ok(Home {
            folder,
            ids,
            stamps,
        })
    }

    /// How many plugins it has.
    pub fn size(&self) -> usize {
        self.ids.len()
    }

    /// Their ids, in order of start.
    pub fn ids(&self) -> &[String] {
        &self.ids
    }

    /// Their files, in order of start.
    pub fn programs(&self) -> Vec<PathBuf> {
        let folder = self.path("plugins");
        self.ids.iter().map(|id| folder.join(id)).collect()
    }

    /// A path in it.
    pub fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(below)
    }

    /// What its plugins stamped since the launcher's start.
    pub fn stamps(&self) -> &Stamps {
        &self.stamps
    }

    fn log(&self) -> PathBuf {
        self.path("logs/launcher.log")
    }

    /// Starts the launcher.
    pub fn launch(&self) -> Result<Hub<'_>> {
        self.stamps.clear()?;
        let logged = fs::metadata(self.log()).map_or(0, |log| log.len());
        let output = fs::File::create(self.path("launcher.out"))?;
        let launcher = Command::new(self.path("bin/launcher"))
            .env_remove("LOGLEVEL")
            .env(stamps::VARIABLE, self.stamps.file())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start the launcher")?;
        Ok(Hub {
            home: self,
            launcher,
            logged: usize::try_from(logged)?,
        })
    }
}

fn config(ids: &[String], settings: Settings<'_>) -> String {
    let Settings {
        log_level,
        hub,
        plugin,
    } = settings;
    let autostart = ids.join(", ");
    let mut lines = vec![
        format!("logLevel: {log_level}"),
        "corebin: mqttcore".to_owned(),
        format!("autostart: [{autostart}]"),
        hub.to_owned(),
    ];
    if !plugin.is_empty() {
        lines.push("plugins:".to_owned());
        lines.extend(ids.iter().map(|id| format!("  {id}: {{{plugin}}}")));
    }
    lines.join("\n") + "\n"
}

/// A hard link, or a copy where there can be none.
fn link(from: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(())
}

/// A hub that was started.
pub struct Hub<'a> {
    /// Where.
    pub home: &'a Home,
    launcher: Child,
    /// How much was in the launcher's log before it was started.
    logged: usize,
}

/// How a stop went, in milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Stopped {
    /// From the signal to the moment when all plugins were gone.
    pub trees: f64,
    /// From the core's end to the launcher's.
    pub after_core: f64,
    /// From the signal to the launcher's end.
    pub whole: f64,
}

impl Hub<'_> {
    /// The launcher's pid.
    pub fn pid(&self) -> Result<i32> {
        Ok(i32::try_from(self.launcher.id())?)
    }

    /// The core's pid.
    pub fn core_pid(&self) -> Result<i32> {
        for child in os::table::children(self.pid()?)? {
            let stat = os::table::stat(child)?;
            if stat.is_some_and(|stat| stat.comm == "mqttcore") {
                return Ok(child);
            }
        }
        bail!("the hub has no core; {}", self.account())
    }

    /// Waits until all plugins have started; their stamps.
    pub fn wait_until_started(&self) -> Result<Vec<Stamp>> {
        self.core_ready()?;
        let stamps = self.home.stamps.wait_for(self.home.size());
        stamps.with_context(|| self.account())
    }

    /// Waits until all plugins have started and everything is quiet.
    pub fn wait_until_up(&self) -> Result<()> {
        self.wait_until_started()?;
        clock::rest(SETTLE)
    }

    /// Waits for the core; when the launcher held it for ready. The log tells it in whole milliseconds, rounded down, so
    /// what is counted from it is too long by up to one.
    pub fn core_ready(&self) -> Result<u64> {
        self.core_ready_after(self.logged)
    }

    /// How much is in the launcher's log.
    pub fn logged(&self) -> Result<usize> {
        Ok(usize::try_from(fs::metadata(self.home.log())?.len())?)
    }

    /// Likewise, of what was logged beyond so many bytes.
    pub fn core_ready_after(&self, logged: usize) -> Result<u64> {
        let line = clock::eventually("the core is ready", Duration::from_millis(10), || {
            let log = fs::read(self.home.log()).unwrap_or_default();
            let new = String::from_utf8_lossy(log.get(logged..).unwrap_or_default());
            let is_it =
                |line: &&str| line.contains("plugin=core ") && line.contains(" to=running ");
            Ok(new.lines().find(is_it).map(str::to_owned))
        });
        let line = line.with_context(|| self.account())?;
        let time: jiff::Timestamp = line.split(' ').next().unwrap_or_default().parse()?;
        let ago = jiff::Timestamp::now().as_nanosecond() - time.as_nanosecond();
        Ok(clock::now()?.saturating_sub(u64::try_from(ago.max(0))?))
    }

    /// Runs `hubcli` in it.
    pub fn hubcli(&self, arguments: &[&str]) -> Result<()> {
        let mut hubcli = Command::new(self.home.path("bin/hubcli"));
        let output = hubcli.args(arguments).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("hubcli {}: {said}", arguments.join(" "));
        }
        Ok(())
    }

    /// Stops the hub as systemd would.
    pub fn stop(mut self) -> Result<Stopped> {
        let stamps = self.home.stamps.read()?;
        let core = self.core_pid()?;
        let begun = clock::now()?;
        ends::signal(&self.launcher, Signal::SIGTERM)?;
        for stamp in &stamps {
            wait_gone(stamp.pid)?;
        }
        let trees = clock::now()?;
        wait_gone(core)?;
        let core = clock::now()?;
        let status = self.launcher.wait()?;
        let end = clock::now()?;
        if !status.success() {
            bail!("the launcher ended with {status}; {}", self.account());
        }
        Ok(Stopped {
            trees: clock::ms(begun, trees),
            after_core: clock::ms(core, end),
            whole: clock::ms(begun, end),
        })
    }

    /// Stops one whose stamps do not say who lives.
    pub fn stop_without_stamps(self) -> Result<()> {
        self.home.stamps.clear()?;
        self.stop().map(|_| ())
    }

    fn account(&self) -> String {
        let log = fs::read_to_string(self.home.log()).unwrap_or_default();
        let output = fs::read_to_string(self.home.path("launcher.out")).unwrap_or_default();
        let from = log.lines().count().saturating_sub(20);
        let tail: Vec<&str> = log.lines().skip(from).collect();
        format!("the launcher's last words:\n{output}\n{}", tail.join("\n"))
    }
}

/// Waits until a process is gone, not even a zombie.
fn wait_gone(pid: i32) -> Result<()> {
    clock::eventually("a process is gone", GLANCE, || {
        Ok((kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)).then_some(()))
    })
}

impl Drop for Hub<'_> {
    fn drop(&mut self) {
        ends::end(&mut self.launcher);
        for pid in marked(self.home.folder.path()) {
            // One that is gone already is as good.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Processes that bear the mark of a home.
fn marked(home: &Path) -> Vec<i32> {
    let mark = format!("{}={}", os::HOME_VARIABLE, home.display());
    let bears = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == mark.as_bytes())
    };
    let pids = os::table::pids().unwrap_or_default();
    pids.into_iter().filter(bears).collect()
}
