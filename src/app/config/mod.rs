//! The launcher's configuration: `launcher.yaml` as typed values (spec §4, HP 1.4).
//!
//! Invariants: a [`Config`] only holds values that were checked; each key that is accepted has an effect; a file with
//! any problem gives no [`Config`] at all.

mod core;
mod decode;
pub mod last_good;
pub mod problem;
mod read;
pub mod sample;
#[cfg(test)]
mod tests;
mod tree;
mod values;
mod yaml;

pub use core::{CoreAuth, CoreConfig, CoreReady, CoreSearch};
pub use problem::{Problem, Problems};
pub use read::{
    MAX_SIZE, Whole, load, load_again, load_or_sample, load_whole, parse, without_file,
};

use crate::app::launcher::LogLevel;
use crate::app::paths::{Folders, PathError};
use actors::ports::{ConnectTarget, OnCoreRestart, Plan, Plans, Teller};
use os::cgroup::CgroupUse;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use supervision::PluginId;
use supervision::lifecycle::{ReadyRule, Rules};
use supervision::limits::Limits;
use supervision::policy::{LogPolicy, RestartPolicy, StartPolicy, StopPolicy};

/// The core's restart delay ends here, as nothing works without it (spec §7).
pub const CORE_MAX_DELAY: Duration = Duration::from_secs(30);

/// How often all trees are measured when the file does not say (spec §10).
pub const SAMPLING: Duration = Duration::from_secs(5);

/// The launcher's settings, complete: what the file does not say has its default.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `logLevel`; none = not in the file.
    pub log_level: Option<LogLevel>,
    /// `logtofile`: the launcher's own log in `logs/launcher.log`.
    pub log_to_file: bool,
    /// `corebin` or `runtime`: the core; none = no core.
    pub core: Option<CoreConfig>,
    /// `logplugins` or `logPlugins`: plugins' output goes to `logs/{id}.log`.
    pub log_plugins: bool,
    /// `attachstderr`: plugins' error output is copied to the launcher's.
    pub attach_stderr: bool,
    /// `attachstdout`: plugins' output is copied to the launcher's.
    pub attach_stdout: bool,
    /// `cgroups`: whether each run has a cgroup of its own.
    pub cgroups: CgroupUse,
    /// `createPluginCred`: credentials are made; otherwise they are expected to be there.
    pub create_plugin_cred: bool,
    /// Block `creds`.
    pub creds: CredsConfig,
    /// `autostart`: in order, each once.
    pub autostart: Vec<PluginId>,
    /// Block `restart`, with `autorestart` applied: the default of all plugins and the core.
    pub restart: RestartPolicy,
    /// Block `stop`: likewise.
    pub stop: StopPolicy,
    /// Block `start`.
    pub start: StartPolicy,
    /// Block `logs`: likewise, and of the launcher's own log.
    pub logs: LogPolicy,
    /// Block `monitor`: how often all trees are measured; zero = never.
    pub sampling: Duration,
    /// Block `limits`: the default of all plugins and the core.
    pub limits: Limits,
    /// `events.spool`: so many events wait for the bus at most.
    pub events_spool: usize,
    /// Block `plugins`, and the `name: binary` entries of `autostart`.
    pub plugins: BTreeMap<PluginId, PluginConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            log_level: None,
            log_to_file: true,
            core: None,
            log_plugins: true,
            attach_stderr: true,
            attach_stdout: false,
            cgroups: CgroupUse::Auto,
            create_plugin_cred: true,
            creds: CredsConfig::default(),
            autostart: Vec::new(),
            restart: RestartPolicy::default(),
            stop: StopPolicy::default(),
            start: StartPolicy::default(),
            logs: LogPolicy::default(),
            sampling: SAMPLING,
            limits: Limits::default(),
            events_spool: actors::news::SPOOL,
            plugins: BTreeMap::new(),
        }
    }
}

/// How credentials are made, where they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CredsConfig {
    /// `clientCert`: plugins get client certificates, too.
    pub client_cert: bool,
    /// `certDays`: how long these last, in days.
    pub cert_days: u32,
    /// `renewAt`: the share of their life after which tokens and certificates are renewed; 0.1 to 0.95.
    pub renew_at: f64,
}

impl Default for CredsConfig {
    fn default() -> Self {
        CredsConfig {
            client_cert: true,
            cert_days: 365,
            renew_at: 0.66,
        }
    }
}

/// What the file says of one plugin, its blocks merged over the defaults.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PluginConfig {
    /// Arguments after `argv[0]`.
    pub args: Vec<String>,
    /// Variables, by name.
    pub env: BTreeMap<String, String>,
    /// A file of variables; relative to the configuration folder.
    pub env_file: Option<PathBuf>,
    /// Working folder; relative to the home.
    pub cwd: Option<PathBuf>,
    /// File name of the binary that runs under this id.
    pub instance_of: Option<String>,
    /// Block `restart`.
    pub restart: RestartPolicy,
    /// Block `stop`.
    pub stop: StopPolicy,
    /// Block `logs`.
    pub logs: LogPolicy,
    /// `start.timeout`.
    pub start_timeout: Duration,
    /// `ready`; a path in it is relative to the home.
    pub ready: Teller,
    /// `requires`: plugins that must be ready first.
    pub requires: Vec<PluginId>,
    /// `needs`: devices and files that must be there; relative to the home.
    pub needs: Vec<PathBuf>,
    /// `watchdog`: so long it may be without a sign; only with `ready: notify`.
    pub watchdog: Option<Duration>,
    /// Block `limits`.
    pub limits: Limits,
    /// Block `monitor`: how often its tree is measured, where that is not as for all; zero = never.
    pub sampling: Option<Duration>,
    /// What a new run of the core means for it.
    pub on_core_restart: OnCoreRestart,
}

impl Config {
    /// The plans by which plugins and core are run; relative paths are resolved in `folders`.
    ///
    /// # Errors
    /// A `~` in `cwd` or `envFile` that cannot be expanded.
    pub fn plans(&self, folders: &Folders) -> Result<Plans, PathError> {
        let default = self.default_plugin();
        let plan = |plugin: &PluginConfig| self.plan(plugin, folders);
        Ok(Plans {
            default: plan(&default)?,
            core: self.core_plan(plan(&default)?),
            by_id: self
                .plugins
                .iter()
                .map(|(id, plugin)| Ok((id.clone(), plan(plugin)?)))
                .collect::<Result<_, PathError>>()?,
            autostart: self.autostart.clone(),
            sampling: self.sampling,
        })
    }

    /// The settings of a plugin of which the file says nothing.
    fn default_plugin(&self) -> PluginConfig {
        PluginConfig {
            restart: self.restart.clone(),
            stop: self.stop,
            logs: self.logs,
            start_timeout: self.start.timeout,
            limits: self.limits,
            ..PluginConfig::default()
        }
    }

    fn plan(&self, plugin: &PluginConfig, folders: &Folders) -> Result<Plan, PathError> {
        let env_file = plugin.env_file.as_deref();
        let cwd = plugin.cwd.as_deref();
        Ok(Plan {
            rules: Rules {
                restart: plugin.restart.clone(),
                stop: plugin.stop,
                start_timeout: plugin.start_timeout,
                ready: ready_rule(&plugin.ready),
                watchdog: plugin.watchdog,
            },
            logs: plugin.logs,
            limits: plugin.limits,
            sampling: plugin.sampling,
            args: plugin.args.clone(),
            env: plugin.env.clone(),
            env_file: env_file.map(|path| folders.in_config(path)).transpose()?,
            cwd: cwd.map(|path| folders.in_home(path)).transpose()?,
            instance_of: plugin.instance_of.clone(),
            on_core_restart: plugin.on_core_restart,
            requires: plugin.requires.clone(),
            needs: plugin
                .needs
                .iter()
                .map(|path| folders.in_home(path))
                .collect::<Result<_, _>>()?,
            teller: match &plugin.ready {
                Teller::Connect(ConnectTarget::Unix(path)) => {
                    Teller::Connect(ConnectTarget::Unix(folders.in_home(path)?))
                }
                ready @ (Teller::Started
                | Teller::Login
                | Teller::Itself
                | Teller::Log(_)
                | Teller::Connect(ConnectTarget::Tcp { .. })) => ready.clone(),
            },
        })
    }

    /// The core's: it is ready when somebody has logged in, and it is never long away (spec §7).
    fn core_plan(&self, mut plan: Plan) -> Plan {
        plan.rules.ready = ReadyRule::Told;
        if let Some(core) = &self.core {
            plan.args.clone_from(&core.args);
            plan.limits = core.limits.unwrap_or(plan.limits);
            plan.teller = match core.ready {
                CoreReady::Notify => Teller::Itself,
                CoreReady::Bus => Teller::Login,
            };
        }
        plan.rules.restart.max_delay = plan.rules.restart.max_delay.min(CORE_MAX_DELAY);
        plan
    }
}

/// What the lifecycle is to wait for.
fn ready_rule(teller: &Teller) -> ReadyRule {
    match teller {
        Teller::Started => Rules::default().ready,
        Teller::Login => ReadyRule::ToldByBus,
        Teller::Itself | Teller::Log(_) | Teller::Connect(_) => ReadyRule::Told,
    }
}
