//! The keys of `launcher.yaml`, and those that are known but belong to later versions.
//!
//! Invariant: a key is here only if it has an effect.

use supervision::policy::FailureClass;

/// Keys of one map: spellings with what they mean; two spellings of one meaning are aliases.
#[derive(Debug)]
pub struct Keys<K: 'static> {
    /// All spellings, the first of each meaning being the one to use.
    pub names: &'static [(&'static str, K)],
    /// Keys of the specification that this version does not have.
    pub later: &'static [&'static str],
}

impl<K: Copy> Keys<K> {
    /// The meaning of a key.
    pub fn find(&self, name: &str) -> Option<K> {
        let found = self.names.iter().find(|(known, _)| *known == name);
        found.map(|(_, key)| *key)
    }

    /// All spellings.
    pub fn spellings(&self) -> impl Iterator<Item = &'static str> {
        self.names.iter().map(|(name, _)| *name)
    }
}

/// Keys of the file itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Top {
    AttachStderr,
    AttachStdout,
    AutoRestart,
    AutoStart,
    Cgroups,
    CoreBin,
    CreatePluginCred,
    Creds,
    Limits,
    Events,
    LogLevel,
    Logs,
    LogToFile,
    LogPlugins,
    Monitor,
    Plugins,
    Restart,
    Start,
    Stop,
}

pub const TOP: Keys<Top> = Keys {
    names: &[
        ("attachstderr", Top::AttachStderr),
        ("attachstdout", Top::AttachStdout),
        ("autorestart", Top::AutoRestart),
        ("autostart", Top::AutoStart),
        ("cgroups", Top::Cgroups),
        ("corebin", Top::CoreBin),
        ("createPluginCred", Top::CreatePluginCred),
        ("creds", Top::Creds),
        ("events", Top::Events),
        ("limits", Top::Limits),
        ("logLevel", Top::LogLevel),
        ("logplugins", Top::LogPlugins),
        ("logPlugins", Top::LogPlugins),
        ("logs", Top::Logs),
        ("logtofile", Top::LogToFile),
        ("monitor", Top::Monitor),
        ("plugins", Top::Plugins),
        ("restart", Top::Restart),
        ("runtime", Top::CoreBin),
        ("start", Top::Start),
        ("stop", Top::Stop),
    ],
    later: &["adopt"],
};

/// Keys of one plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfPlugin {
    Args,
    Cwd,
    Env,
    EnvFile,
    InstanceOf,
    Limits,
    Logs,
    Monitor,
    Needs,
    OnCoreRestart,
    Ready,
    Requires,
    Restart,
    Start,
    Stop,
    Watchdog,
}

pub const OF_PLUGIN: Keys<OfPlugin> = Keys {
    names: &[
        ("args", OfPlugin::Args),
        ("cwd", OfPlugin::Cwd),
        ("env", OfPlugin::Env),
        ("envFile", OfPlugin::EnvFile),
        ("instanceOf", OfPlugin::InstanceOf),
        ("limits", OfPlugin::Limits),
        ("logs", OfPlugin::Logs),
        ("monitor", OfPlugin::Monitor),
        ("needs", OfPlugin::Needs),
        ("onCoreRestart", OfPlugin::OnCoreRestart),
        ("ready", OfPlugin::Ready),
        ("requires", OfPlugin::Requires),
        ("restart", OfPlugin::Restart),
        ("start", OfPlugin::Start),
        ("stop", OfPlugin::Stop),
        ("watchdog", OfPlugin::Watchdog),
    ],
    later: &[
        "creds",
        "group",
        "ioPriority",
        "nice",
        "onChange",
        "oomScoreAdjust",
        "sandbox",
        "ulimits",
        "umask",
        "user",
    ],
};

/// Keys of block `creds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfCreds {
    CertDays,
    ClientCert,
    RenewAt,
}

pub const OF_CREDS: Keys<OfCreds> = Keys {
    names: &[
        ("certDays", OfCreds::CertDays),
        ("clientCert", OfCreds::ClientCert),
        ("renewAt", OfCreds::RenewAt),
    ],
    later: &[],
};

/// Keys of the map form of `corebin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfCore {
    Args,
    Auth,
    Bin,
    Limits,
    Ready,
    Url,
}

pub const OF_CORE: Keys<OfCore> = Keys {
    names: &[
        ("args", OfCore::Args),
        ("auth", OfCore::Auth),
        ("bin", OfCore::Bin),
        ("limits", OfCore::Limits),
        ("ready", OfCore::Ready),
        ("url", OfCore::Url),
    ],
    later: &[],
};

/// Keys of block `restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfRestart {
    Delay,
    Factor,
    FirstDelay,
    Jitter,
    MaxDelay,
    On,
    Policy,
    StableAfter,
}

pub const OF_RESTART: Keys<OfRestart> = Keys {
    names: &[
        ("delay", OfRestart::Delay),
        ("factor", OfRestart::Factor),
        ("firstDelay", OfRestart::FirstDelay),
        ("jitter", OfRestart::Jitter),
        ("maxDelay", OfRestart::MaxDelay),
        ("on", OfRestart::On),
        ("policy", OfRestart::Policy),
        ("stableAfter", OfRestart::StableAfter),
    ],
    later: &[],
};

/// Keys of block `restart.on`: the classes of failure.
pub const CLASSES: Keys<FailureClass> = Keys {
    names: &[
        ("couldNotStart", FailureClass::CouldNotStart),
        ("crash", FailureClass::Crash),
        ("credential", FailureClass::Credential),
        ("dependencyLost", FailureClass::DependencyLost),
        ("earlyExit", FailureClass::EarlyExit),
        ("limit", FailureClass::Limit),
        ("notReady", FailureClass::NotReady),
        ("outOfMemory", FailureClass::OutOfMemory),
        ("watchdog", FailureClass::Watchdog),
    ],
    later: &[],
};

/// Keys of one class of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfClass {
    Delay,
    Factor,
    FirstDelay,
    MaxDelay,
    Policy,
}

pub const OF_CLASS: Keys<OfClass> = Keys {
    names: &[
        ("delay", OfClass::Delay),
        ("factor", OfClass::Factor),
        ("firstDelay", OfClass::FirstDelay),
        ("maxDelay", OfClass::MaxDelay),
        ("policy", OfClass::Policy),
    ],
    later: &[],
};

/// Keys of block `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfStart {
    Parallel,
    Timeout,
}

pub const OF_START: Keys<OfStart> = Keys {
    names: &[
        ("parallel", OfStart::Parallel),
        ("timeout", OfStart::Timeout),
    ],
    later: &[],
};

/// Keys of block `start` of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfPluginStart {
    Timeout,
}

pub const OF_PLUGIN_START: Keys<OfPluginStart> = Keys {
    names: &[("timeout", OfPluginStart::Timeout)],
    later: &[],
};

/// Keys of the map form of `ready`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfReady {
    Connect,
    Log,
}

pub const OF_READY: Keys<OfReady> = Keys {
    names: &[("connect", OfReady::Connect), ("log", OfReady::Log)],
    later: &[],
};

/// Keys of block `stop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfStop {
    Grace,
    Signal,
}

pub const OF_STOP: Keys<OfStop> = Keys {
    names: &[("grace", OfStop::Grace), ("signal", OfStop::Signal)],
    later: &[],
};

/// Keys of block `events`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfEvents {
    Spool,
}

pub const OF_EVENTS: Keys<OfEvents> = Keys {
    names: &[("spool", OfEvents::Spool)],
    later: &[],
};

/// Keys of block `logs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfLogs {
    Keep,
    MaxSize,
}

pub const OF_LOGS: Keys<OfLogs> = Keys {
    names: &[("keep", OfLogs::Keep), ("maxSize", OfLogs::MaxSize)],
    later: &["timestamps", "total"],
};

/// Keys of block `limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfLimits {
    Action,
    Cpu,
    Hard,
    Memory,
    Pids,
    Strikes,
}

pub const OF_LIMITS: Keys<OfLimits> = Keys {
    names: &[
        ("action", OfLimits::Action),
        ("cpu", OfLimits::Cpu),
        ("hard", OfLimits::Hard),
        ("memory", OfLimits::Memory),
        ("pids", OfLimits::Pids),
        ("strikes", OfLimits::Strikes),
    ],
    later: &[],
};

/// Keys of block `monitor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OfMonitor {
    Interval,
}

pub const OF_MONITOR: Keys<OfMonitor> = Keys {
    names: &[("interval", OfMonitor::Interval)],
    later: &[],
};
