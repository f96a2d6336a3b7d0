//! What the operator may set for a plugin, as typed values with the defaults of spec §4.
//!
//! Invariant: values are within the ranges their constructors in the configuration reader checked; nothing here reads
//! text.

use std::collections::BTreeMap;
use std::time::Duration;

/// Which ends of a run are answered with a new one (spec §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestartMode {
    /// Any end that was not asked for.
    Always,
    /// Only a non-zero code or a signal.
    OnFailure,
    /// None.
    Never,
}

impl RestartMode {
    /// As a value of the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RestartMode::Always => "always",
            RestartMode::OnFailure => "on-failure",
            RestartMode::Never => "never",
        }
    }
}

/// When and how fast a plugin is started again: block `restart` (spec §4, §9).
#[derive(Debug, Clone, PartialEq)]
pub struct RestartPolicy {
    /// Which ends are answered.
    pub mode: RestartMode,
    /// Delay before the first restart.
    pub first_delay: Duration,
    /// Delay before the second restart in a row.
    pub delay: Duration,
    /// By how much each further delay grows; at least 1.
    pub factor: f64,
    /// No delay is longer.
    pub max_delay: Duration,
    /// Part of the delay by which it is varied to both sides; 0 to 1.
    pub jitter: f64,
    /// A run at least this long ends the row: the next restart is a first one again.
    pub stable_after: Duration,
    /// What differs for single classes of failure.
    pub classes: BTreeMap<FailureClass, ClassPolicy>,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        RestartPolicy {
            mode: RestartMode::Always,
            first_delay: Duration::ZERO,
            delay: Duration::from_secs(1),
            factor: 2.0,
            max_delay: Duration::from_secs(3600),
            jitter: 0.1,
            stable_after: Duration::from_secs(60),
            classes: BTreeMap::new(),
        }
    }
}

/// What kind of thing went wrong, as far as the answer to it differs (spec §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureClass {
    /// exec did not happen.
    CouldNotStart,
    /// It ended before it was ready.
    EarlyExit,
    /// It ended after it had been ready.
    Crash,
    /// It was not ready in time.
    NotReady,
    /// It gave no sign of life.
    Watchdog,
    /// It used more than it may.
    Limit,
    /// The kernel killed it for lack of memory.
    OutOfMemory,
    /// There is no valid credential, so that it is not even started.
    Credential,
    /// A plugin that it requires went away.
    DependencyLost,
}

impl FailureClass {
    /// All classes, each once.
    pub const ALL: [FailureClass; 9] = [
        FailureClass::CouldNotStart,
        FailureClass::EarlyExit,
        FailureClass::Crash,
        FailureClass::NotReady,
        FailureClass::Watchdog,
        FailureClass::Limit,
        FailureClass::OutOfMemory,
        FailureClass::Credential,
        FailureClass::DependencyLost,
    ];

    /// Its name as a key of the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FailureClass::CouldNotStart => "couldNotStart",
            FailureClass::EarlyExit => "earlyExit",
            FailureClass::Crash => "crash",
            FailureClass::NotReady => "notReady",
            FailureClass::Watchdog => "watchdog",
            FailureClass::Limit => "limit",
            FailureClass::OutOfMemory => "outOfMemory",
            FailureClass::Credential => "credential",
            FailureClass::DependencyLost => "dependencyLost",
        }
    }
}

/// What the operator set for one class of failure; what is not set comes from the class, then from the whole policy.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ClassPolicy {
    /// Which ends are answered.
    pub mode: Option<RestartMode>,
    /// Delay before the first restart.
    pub first_delay: Option<Duration>,
    /// Delay before the second restart in a row.
    pub delay: Option<Duration>,
    /// By how much each further delay grows; at least 1.
    pub factor: Option<f64>,
    /// No delay is longer.
    pub max_delay: Option<Duration>,
}

/// How long the pauses between tries are: first, next, growing, up to a longest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Delays {
    /// Before the first try after a failure.
    pub first: Duration,
    /// Before the second in a row.
    pub next: Duration,
    /// By how much each further one grows; at least 1.
    pub factor: f64,
    /// None is longer.
    pub longest: Duration,
    /// Part by which each is varied to both sides; 0 to 1.
    pub jitter: f64,
}

/// What is in force for one class of failure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassRules {
    /// Which ends are answered.
    pub mode: RestartMode,
    /// How long the answers wait.
    pub delays: Delays,
}

/// First delay before a blocked start is tried again; doubles up to [`BLOCKED_MAX_DELAY`].
pub const BLOCKED_FIRST_DELAY: Duration = Duration::from_millis(250);

/// A blocked start is tried at least this often, as the check is cheap and the cause may go unseen.
pub const BLOCKED_MAX_DELAY: Duration = Duration::from_secs(30);

/// After these a try at once would most often meet the same: the file is as it was, the memory still in use.
const BREATH: Duration = Duration::from_secs(1);

impl RestartPolicy {
    /// What is in force for a class: what was set for it, else what is fitting for it, else the whole policy.
    ///
    /// Fitting is: a second before the first restart after `couldNotStart` and `outOfMemory`; a new run whatever the
    /// policy after `watchdog` and `limit`, which are there to ask for one; for `credential` looks from 250 ms to 30 s,
    /// as nothing runs by them; and to let a plugin go on whose required one went away.
    #[must_use]
    pub fn of_class(&self, class: FailureClass) -> ClassRules {
        let whole = Delays {
            first: self.first_delay,
            next: self.delay,
            factor: self.factor,
            longest: self.max_delay,
            jitter: self.jitter,
        };
        let (mode, fitting) = match class {
            FailureClass::EarlyExit | FailureClass::Crash | FailureClass::NotReady => {
                (self.mode, whole)
            }
            FailureClass::CouldNotStart | FailureClass::OutOfMemory => {
                let first = whole.first.max(BREATH);
                (self.mode, Delays { first, ..whole })
            }
            FailureClass::Watchdog | FailureClass::Limit => (RestartMode::Always, whole),
            FailureClass::Credential => (
                RestartMode::Always,
                Delays {
                    first: BLOCKED_FIRST_DELAY,
                    next: BLOCKED_FIRST_DELAY * 2,
                    factor: 2.0,
                    longest: BLOCKED_MAX_DELAY,
                    jitter: self.jitter,
                },
            ),
            FailureClass::DependencyLost => (RestartMode::Never, whole),
        };
        let set = self.classes.get(&class).copied().unwrap_or_default();
        ClassRules {
            mode: set.mode.unwrap_or(mode),
            delays: Delays {
                first: set.first_delay.unwrap_or(fitting.first),
                next: set.delay.unwrap_or(fitting.next),
                factor: set.factor.unwrap_or(fitting.factor),
                longest: set.max_delay.unwrap_or(fitting.longest),
                jitter: fitting.jitter,
            },
        }
    }
}

/// How a plugin is asked to stop: block `stop` (spec §4, §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopPolicy {
    /// The signal's number; SIGTERM by default.
    pub signal: i32,
    /// From the signal to SIGKILL.
    pub grace: Duration,
}

impl Default for StopPolicy {
    fn default() -> Self {
        StopPolicy {
            signal: 15,
            grace: Duration::from_secs(5),
        }
    }
}

/// Limits of a start: block `start` (spec §4, §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartPolicy {
    /// A start that is not ready by then has failed.
    pub timeout: Duration,
    /// How many starts may be in exec at once; 0 = twice the processors.
    pub parallel: usize,
}

impl Default for StartPolicy {
    fn default() -> Self {
        StartPolicy {
            timeout: Duration::from_secs(30),
            parallel: 0,
        }
    }
}

/// Size and number of a plugin's log files: block `logs` (spec §4, §11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPolicy {
    /// A file that would grow beyond this many bytes is rotated; 0 = never.
    pub max_size_bytes: u64,
    /// How many rotated files `.1 … .N` are kept.
    pub keep: u32,
}

impl Default for LogPolicy {
    fn default() -> Self {
        LogPolicy {
            max_size_bytes: 10 * 1024 * 1024,
            keep: 5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_for_a_class_goes_before_what_fits_it_and_that_before_the_whole() {
        let mut policy = RestartPolicy {
            mode: RestartMode::Never,
            first_delay: Duration::from_secs(7),
            ..RestartPolicy::default()
        };
        let mode = |policy: &RestartPolicy, class| policy.of_class(class).mode;
        for class in FailureClass::ALL {
            let fitting = match class {
                FailureClass::Watchdog | FailureClass::Limit | FailureClass::Credential => {
                    RestartMode::Always
                }
                FailureClass::CouldNotStart
                | FailureClass::EarlyExit
                | FailureClass::Crash
                | FailureClass::NotReady
                | FailureClass::OutOfMemory
                | FailureClass::DependencyLost => RestartMode::Never,
            };
            assert_eq!(mode(&policy, class), fitting, "{}", class.name());
        }
        let oom = policy.of_class(FailureClass::OutOfMemory);
        assert_eq!(oom.delays.first, Duration::from_secs(7));
        let set = ClassPolicy {
            mode: Some(RestartMode::Always),
            first_delay: Some(Duration::ZERO),
            ..ClassPolicy::default()
        };
        policy.classes.insert(FailureClass::OutOfMemory, set);
        let oom = policy.of_class(FailureClass::OutOfMemory);
        assert_eq!(
            (oom.mode, oom.delays.first),
            (RestartMode::Always, Duration::ZERO)
        );
        assert_eq!(oom.delays.longest, policy.max_delay);
        assert_eq!(mode(&policy, FailureClass::Crash), RestartMode::Never);
    }

    #[test]
    fn classes_have_different_names() {
        let names: std::collections::BTreeSet<_> = FailureClass::ALL.map(FailureClass::name).into();
        assert_eq!(names.len(), FailureClass::ALL.len());
    }
}
