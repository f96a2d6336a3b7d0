//! The ports through which actors act on the world, and the plain data that passes through them.
//!
//! Invariants: no actor touches a process, a file or the bus but through one of these; each port has a real
//! implementation here or in the program, and a fake one in the simulation. Futures returned are cancel safe: dropping
//! one never leaks a process or half a file.

pub use crate::clock::{Clock, unix_millis};
pub use crate::happening::{
    Happening, LauncherNews, LimitAction, LimitExceeded, LimitKind, PhaseChange, TOLD_LINE,
    TOLD_LINES,
};
use crate::link::Link;
pub use crate::sampling::{Case, Measured, Round, Sampled, Usage};
use crate::turn::MyTurn;
use bus::wire::ClientProfile;
use logs::LinePattern;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use supervision::credential::Outcome;
use supervision::lifecycle::{BlockReason, Rules, SpawnFailure};
use supervision::limits::Limits;
use supervision::past::{End, Past, PastWish};
use supervision::policy::LogPolicy;
use supervision::{ExitStatus, PluginId, Run};

/// A future on the heap, so that ports can be trait objects.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Whether a seat is a plugin's or the core's; the same code serves both (spec §7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A program of the plugins folder.
    Plugin,
    /// The message bus and auth service.
    Core,
}

/// What the configuration says of one plugin, merged with the defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Restart, stop and readiness.
    pub rules: Rules,
    /// Size and number of its log files.
    pub logs: LogPolicy,
    /// What it may use.
    pub limits: Limits,
    /// How often its tree is measured, where that is not as [`Plans::sampling`] says; zero = never.
    pub sampling: Option<Duration>,
    /// Arguments after `argv[0]`.
    pub args: Vec<String>,
    /// Variables of its own, by name.
    pub env: BTreeMap<String, String>,
    /// A file of further variables, read again at each start.
    pub env_file: Option<PathBuf>,
    /// Its working folder; none = the launcher's home.
    pub cwd: Option<PathBuf>,
    /// The binary it runs, when not the one of its own name.
    pub instance_of: Option<String>,
    /// Plugins that must be ready before it is started, and that end after it.
    pub requires: Vec<PluginId>,
    /// Devices and files that must be there before it is started; relative to the home.
    pub needs: Vec<PathBuf>,
    /// Who tells that it is ready.
    pub teller: Teller,
    /// What a new run of the core means for it.
    pub on_core_restart: OnCoreRestart,
}

/// What a plugin does when the core was restarted (spec §7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnCoreRestart {
    /// It connects again by itself.
    #[default]
    Keep,
    /// It does not, and is started again.
    Restart,
}

/// Who tells that a run is ready (spec §9).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Teller {
    /// Nobody: that it lives is proof enough.
    #[default]
    Started,
    /// The bus: of the core that the launcher could log in, of a plugin that it has logged in.
    Login,
    /// The program itself, by `READY=1` to `NOTIFY_SOCKET`.
    Itself,
    /// Its output: the first line that has this.
    Log(LinePattern),
    /// Whoever accepts a connection there.
    Connect(ConnectTarget),
}

/// Where somebody is connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectTarget {
    /// By TCP.
    Tcp {
        /// A name or an address, this without brackets.
        host: String,
        /// The port; not 0.
        port: u16,
    },
    /// A socket in the file system, by its whole path.
    Unix(PathBuf),
}

impl std::fmt::Display for ConnectTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ConnectTarget::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            ConnectTarget::Tcp { host, port } => write!(f, "{host}:{port}"),
            ConnectTarget::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The plans of all plugins.
#[derive(Debug, Clone, PartialEq)]
pub struct Plans {
    /// For those that the file does not name.
    pub default: Plan,
    /// For the core.
    pub core: Plan,
    /// For those it names.
    pub by_id: BTreeMap<PluginId, Plan>,
    /// The ids of `autostart`, in order, each once.
    pub autostart: Vec<PluginId>,
    /// How often trees are measured for which their plan does not say otherwise, and the launcher; zero = never.
    pub sampling: Duration,
}

impl Plans {
    /// The plan for a seat.
    #[must_use]
    pub fn of(&self, id: &PluginId, kind: Kind) -> &Plan {
        match kind {
            Kind::Core => &self.core,
            Kind::Plugin => self.by_id.get(id).unwrap_or(&self.default),
        }
    }

    /// The intervals at which trees are measured that have one of their own, each once, without zero.
    #[must_use]
    pub fn own_intervals(&self) -> BTreeSet<Duration> {
        let own = self.by_id.values().filter_map(|plan| plan.sampling);
        own.filter(|interval| !interval.is_zero()).collect()
    }
}

/// What a file says that was read again.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The plans of plugins and core.
    pub plans: Plans,
    /// Keys whose new value is in force only when the launcher is started anew, as they stand in the file; sorted, each
    /// once. What hangs on them is in `plans` as it was.
    pub at_restart: Vec<String>,
}

/// The launcher's configuration, read again while it runs (spec §4).
pub trait Configuration: Send + Sync + 'static {
    /// Reads and checks all of it, off the thread of the actors. The error names every problem, a line each, with file,
    /// line and column; a file that is gone is one.
    fn load(&self) -> BoxFuture<Result<Loaded, String>>;
}

/// What is known of an executable file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFacts {
    /// Its name, shown as `Name` (HP 1.5).
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// When it was changed.
    pub modified: SystemTime,
}

/// Everything needed to begin one run.
#[derive(Debug)]
pub struct Launch {
    /// Whose.
    pub id: PluginId,
    /// Plugin or core.
    pub kind: Kind,
    /// Number of the run.
    pub run: Run,
    /// The executable.
    pub file: FileFacts,
    /// What the configuration says.
    pub plan: Plan,
    /// Variables of its environment file, read by [`Preparer::prepare`].
    pub env_file: Vec<(String, String)>,
    /// Its place in an order of starts: to be dropped when the start is under way, then the next in order begins.
    pub turn: Option<MyTurn>,
}

/// One run that lives, or lived: its process and tree, and its log.
pub trait Child: Send + Sync {
    /// The main process; for showing and sampling, never for signalling (T1).
    fn pid(&self) -> i32;
    /// Completes when the main process has ended.
    fn main_ended(&self) -> BoxFuture<ExitStatus>;
    /// Completes when nothing of the tree lives and all is reaped.
    fn tree_ended(&self) -> BoxFuture<ExitStatus>;
    /// Whether that is so already; cheap.
    fn tree_is_gone(&self) -> bool;
    /// Waits for what it tells of itself, or others of it, and takes it; what nobody asked for in time is one with what
    /// comes later. None when it is not listened to. Dropped, it takes nothing.
    fn told(&self) -> Option<BoxFuture<os::told::Said>> {
        None
    }
    /// Sends SIGCONT and the signal to the whole tree. The error is for the log.
    ///
    /// # Errors
    /// When somebody of the tree may not be signalled; that all are gone is no error (T45).
    fn signal(&self, signal: i32) -> Result<(), String>;
    /// Sends SIGKILL to the whole tree.
    ///
    /// # Errors
    /// As [`Child::signal`].
    fn kill(&self) -> Result<(), String>;
    /// How the processes of the tree are known.
    fn tree(&self) -> os::cgroup::TreeKind;
    /// The hard limits that are not in force, each with the reason and the way out, in order of their names.
    fn limits_refused(&self) -> Vec<String> {
        Vec::new()
    }
    /// The processes of the tree, the main one first; for sampling.
    fn members(&self) -> Vec<os::Member>;
    /// What its cgroup counts of the tree; none where it has none. Blocks a moment, as it reads files of the kernel.
    fn counted(&self) -> Option<os::cgroup::TreeUsage> {
        None
    }
    /// Writes down what can be found out about the tree now, and gives the file (spec §10). The error is for the log. Once
    /// begun it is done, also when nobody waits for it any more.
    fn keep_evidence(&self, case: Case) -> BoxFuture<Result<PathBuf, String>> {
        let _ = case;
        Box::pin(async { Err("nothing is kept of it".to_owned()) })
    }
    /// Its log is kept by this from now on.
    fn keep_logs_by(&self, _: LogPolicy) {}
    /// Writes the end line and closes the log of this run; `done` gets its last lines once all output is in.
    fn close_log(&self, cause: &str, lasted: Duration, done: Box<dyn FnOnce(Vec<String>) + Send>);
}

/// Makes processes.
pub trait Processes: Send + Sync + 'static {
    /// Begins a run. A dropped future ends what it began.
    fn spawn(&self, launch: Launch) -> BoxFuture<Result<Arc<dyn Child>, SpawnFailure>>;
    /// Completes when a process that is not ours is gone.
    fn foreign_ended(&self, pid: i32) -> BoxFuture<()>;
    /// How the processes of runs to come are known.
    fn tree(&self) -> os::cgroup::TreeKind {
        os::cgroup::TreeKind::Group
    }
    /// The same in words, with the reason and which hard limits cannot be set; empty = there is nothing to say.
    fn tree_in_words(&self) -> String {
        String::new()
    }
}

/// The auth service, as making credentials needs it (HP 1.16, 1.20). Error texts name the cause.
pub trait Accounts: Send + Sync + 'static {
    /// How the connection to the bus is, and how it will be.
    fn links(&self) -> tokio::sync::watch::Receiver<Link>;
    /// All clients the service knows; one request.
    fn profiles(&self) -> BoxFuture<Result<Vec<ClientProfile>, Unanswered>>;
    /// Makes a plugin known as a service, or gives it this public key; answers with its token.
    fn add_service(&self, id: &PluginId, public_key: &str)
    -> BoxFuture<Result<String, Unanswered>>;
    /// A new token for our own login.
    fn refresh(&self) -> BoxFuture<Result<String, Unanswered>>;
}

/// Why the auth service gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The broker says that there is none.
    #[error("this hub has no auth service")]
    NoService,
    /// It answered with an error, or not in time.
    #[error("{0}")]
    Failed(String),
}

/// What a start needs to know beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Preparation {
    /// All is in order.
    Ready {
        /// The executable as it is now.
        file: FileFacts,
        /// Variables of the environment file, in its order.
        env_file: Vec<(String, String)>,
    },
    /// Something is missing.
    Blocked(BlockReason),
    /// A copy runs already that is not ours.
    Foreign {
        /// Its process.
        pid: i32,
    },
}

/// How thorough a look before a start is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// A restart by policy: a foreign copy cannot have come, as ours held its place.
    Again,
    /// The first start, or one by hand: also looks for copies that others started.
    Thorough,
}

/// Looks at executable, settings and credentials before a start (spec §5, §6).
pub trait Preparer: Send + Sync + 'static {
    /// Looks once; never waits for the bus longer than a few seconds.
    fn prepare(&self, id: PluginId, kind: Kind, plan: Plan, look: Look) -> BoxFuture<Preparation>;
    /// Waits until all of these paths are there; for ever when nobody can tell, as it is looked at now and then anyway.
    fn all_there(&self, _needs: Vec<PathBuf>) -> BoxFuture<()> {
        Box::pin(std::future::pending())
    }
    /// Waits until nothing is left of a plugin's runs under an earlier launcher; for ever when nobody can tell.
    fn leftovers_gone(&self, _id: &PluginId) -> BoxFuture<()> {
        Box::pin(std::future::pending())
    }
    /// A folder whose disk has so little room that what failed now may have failed for that.
    fn short_of_room(&self) -> BoxFuture<Option<PathBuf>> {
        Box::pin(std::future::ready(None))
    }
    /// Waits until there is enough on every disk.
    fn room_again(&self) -> BoxFuture<()> {
        Box::pin(std::future::pending())
    }
}

/// Whose credentials are kept up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Whose {
    /// Our own token.
    Launcher,
    /// All certificates: these are only looked at, and warned of before their end.
    Everybody,
    /// A plugin's token and certificate.
    Plugin(PluginId),
}

/// What a core is to do that knows of new certificates only when it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoreDeed {
    /// Read its server certificate again, which was renewed; no connection is lost.
    Reread,
    /// Start again, as the CA is another one, by which it is to know its clients.
    Restart,
}

/// Whose credentials were changed by somebody else's hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Perhaps all, as something did that they hang on.
    All,
    /// These, each once.
    Some(Vec<Whose>),
}

/// Keeps up the credentials of what runs (spec §6). Nothing in it disturbs a plugin: it finds the new files at its next
/// connection.
pub trait Renewer: Send + Sync + 'static {
    /// Looks, and renews what is due.
    fn renew(&self, whose: Whose) -> BoxFuture<Outcome>;
    /// Whose credentials a start found in order, with how long it is until they are due. Waits until there are some. For
    /// one listener.
    fn found_in_order(&self) -> BoxFuture<Vec<(PluginId, Duration)>>;
    /// How the connection to the bus is, and how it will be.
    fn links(&self) -> tokio::sync::watch::Receiver<Link>;
    /// Has the files watched until what it returns is dropped.
    ///
    /// # Errors
    /// They cannot be; the text is for the log.
    fn watch(&self) -> Result<Box<dyn Send>, String>;
    /// Waits for a change of the files that we did not make. For one listener.
    fn changed(&self) -> BoxFuture<Changed>;
    /// Waits until the wall clock is set. For one listener.
    fn clock_was_set(&self) -> BoxFuture<()>;
    /// What was judged by the wall clock is judged again from now on.
    fn forget_times(&self);
    /// A plugin is kept up no more.
    fn forget(&self, id: &PluginId);
    /// What a plugin's credentials wait for; for people. Answers at once.
    fn waits_for(&self, id: &PluginId) -> Vec<String>;
    /// What the core is to do, each time once; to be asked when our own credentials were looked at.
    fn core_deed(&self) -> Option<CoreDeed> {
        None
    }
    /// Why our own login was refused, as far as our token tells, with the way out.
    fn explain_refusal(&self) -> BoxFuture<Option<String>>;
}

/// Takes what the bus is to be told; never blocks, bounded (drops the oldest).
pub trait Herald: Send + Sync + 'static {
    /// Notes a happening.
    fn announce(&self, happening: Happening);
}

/// A file of the plugins folder that cannot be a plugin, with the reason (T46).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The file.
    pub file: FileFacts,
    /// Why, and the way out.
    pub reason: String,
}

/// What executables there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scan {
    /// The plugins by id; those that run another's binary (`instanceOf`) included, with that binary's facts.
    pub plugins: BTreeMap<PluginId, FileFacts>,
    /// The core's file, when one is configured and there.
    pub core: Option<FileFacts>,
    /// Files that cannot be plugins, sorted by name.
    pub refused: Vec<Refused>,
}

/// Looks into the plugins folder and the bin folder (spec §5).
pub trait Inventory: Send + Sync + 'static {
    /// Looks once. The error names the folder, the cause and the way out.
    fn scan(&self) -> BoxFuture<Result<Scan, String>>;
    /// Calls `changed`, from any thread and as often as it likes, when something in the folders may have changed; until
    /// what it returns is dropped. A folder that is missing is watched for as well. The error is for the log: then only
    /// the slow rescan is left.
    ///
    /// # Errors
    /// When the folders cannot be watched.
    fn watch(&self, changed: Box<dyn Fn() + Send + Sync>) -> Result<Box<dyn Send>, String>;
    /// From the next scan on, these plans say which plugins run another's binary.
    fn follow(&self, plans: &Plans);
}

/// Measures what trees use.
pub trait Meter: Send + Sync + 'static {
    /// Measures the trees of these runs in one go, in a regular round the launcher itself, too; a run that is over is left
    /// out of the answer.
    fn measure(
        &self,
        round: Round,
        runs: Vec<(PluginId, Run, Arc<dyn Child>)>,
    ) -> BoxFuture<Measured>;
}

/// What is kept over a restart of the launcher (spec §12).
pub trait Memory: Send + Sync + 'static {
    /// The number of the newest run that was noted; zero when there was none.
    fn last_run(&self, id: &PluginId) -> Run;
    /// What is set by hand for a plugin.
    fn hand(&self, id: &PluginId) -> Option<supervision::hand::ByHand>;
    /// The plugins for which something is set by hand, sorted, each once.
    fn hands(&self) -> Vec<PluginId>;
    /// What is kept of a plugin's past; empty when there is none.
    fn past(&self, _id: &PluginId) -> Past {
        Past::default()
    }
    /// Notes whether a plugin is to be up and whose wish that is; on disk within some seconds.
    fn keep_wish(&self, _id: &PluginId, _wish: PastWish) {}
    /// Notes how a plugin's newest runs ended; on disk within some seconds.
    fn keep_end(&self, _id: &PluginId, _end: End) {}
    /// Notes the number of the newest run; soon on disk.
    fn keep_run(&self, id: &PluginId, run: Run);
    /// Notes what is set by hand for a plugin; `None` forgets it. Completes when it is on disk, or says why not.
    fn keep_hand(
        &self,
        id: &PluginId,
        hand: Option<supervision::hand::ByHand>,
    ) -> BoxFuture<Result<(), String>>;
}

/// Everything a plugin's actor acts through.
#[derive(Clone)]
pub struct Ports {
    /// Makes processes.
    pub processes: Arc<dyn Processes>,
    /// Looks before starts.
    pub preparer: Arc<dyn Preparer>,
    /// Tells the bus.
    pub herald: Arc<dyn Herald>,
    /// Remembers.
    pub memory: Arc<dyn Memory>,
    /// Time.
    pub clock: Clock,
}
