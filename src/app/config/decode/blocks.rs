//! The blocks `creds events restart start stop logs`, for all plugins and, but for the first two and `start`, for single
//! ones.
//!
//! Invariant: a block is merged over what it is given: keys that it does not have stay as they were.

use super::keys::{
    CLASSES, OF_CLASS, OF_CREDS, OF_EVENTS, OF_LOGS, OF_RESTART, OF_START, OF_STOP, OfClass,
    OfCreds, OfEvents, OfLogs, OfRestart, OfStart, OfStop,
};
use super::reader::{At, Reader, text_of};
use crate::app::config::{CredsConfig, values};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;
use supervision::policy::{
    ClassPolicy, FailureClass, LogPolicy, RestartMode, RestartPolicy, StartPolicy, StopPolicy,
};

const HOUR: Duration = Duration::from_secs(3600);
/// Fewer events would be lost at every start of a core, more are a matter of memory (some hundred bytes each, 3 KiB at most).
const EVENTS_SPOOL: RangeInclusive<u32> = 10..=100_000;
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A start that is given up sooner could not succeed: ready means alive after 100 ms.
pub const START_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(200)..=HOUR;

const RESTART_MODES: [(&str, RestartMode); 3] = [
    ("always", RestartMode::Always),
    ("on-failure", RestartMode::OnFailure),
    ("never", RestartMode::Never),
];

/// Smaller log files would be rotated at every other line.
const MIN_LOG_SIZE: u64 = 1024;
const MAX_LOG_SIZE: u64 = 1 << 40;

impl Reader {
    pub fn restart(&mut self, at: &At<'_>, into: &mut RestartPolicy) {
        for (key, at) in self.fields(at, &OF_RESTART) {
            let any = Duration::ZERO..=YEAR;
            match key {
                OfRestart::Policy => {
                    into.mode = self.word(&at, &RESTART_MODES).unwrap_or(into.mode);
                }
                OfRestart::FirstDelay => self.duration(&at, any, &mut into.first_delay),
                OfRestart::Delay => self.duration(&at, any, &mut into.delay),
                OfRestart::MaxDelay => self.duration(&at, any, &mut into.max_delay),
                OfRestart::StableAfter => self.duration(&at, any, &mut into.stable_after),
                OfRestart::Factor => self.number(&at, 1.0..=100.0, &mut into.factor),
                OfRestart::On => self.classes(&at, &mut into.classes),
                OfRestart::Jitter => self.number(&at, 0.0..=1.0, &mut into.jitter),
            }
        }
    }

    /// What differs for single classes of failure.
    fn classes(&mut self, at: &At<'_>, into: &mut BTreeMap<FailureClass, ClassPolicy>) {
        for (which, at) in self.fields(at, &CLASSES) {
            let class = into.entry(which).or_default();
            for (key, at) in self.fields(&at, &OF_CLASS) {
                let mut delay = Duration::ZERO;
                let mut read = |reader: &mut Reader, into: &mut Option<Duration>| {
                    reader.duration(&at, Duration::ZERO..=YEAR, &mut delay);
                    *into = Some(delay);
                };
                match key {
                    OfClass::Policy if which == FailureClass::Credential => self.wrong_value(
                        &at,
                        "no policy here: who has no valid credential is always looked at again",
                    ),
                    OfClass::Policy => class.mode = self.word(&at, &RESTART_MODES),
                    OfClass::FirstDelay => read(self, &mut class.first_delay),
                    OfClass::Delay => read(self, &mut class.delay),
                    OfClass::MaxDelay => read(self, &mut class.max_delay),
                    OfClass::Factor => {
                        let mut factor = 1.0;
                        self.number(&at, 1.0..=100.0, &mut factor);
                        class.factor = Some(factor);
                    }
                }
            }
        }
    }

    pub fn creds(&mut self, at: &At<'_>, into: &mut CredsConfig) {
        for (key, at) in self.fields(at, &OF_CREDS) {
            match key {
                OfCreds::ClientCert => self.switch(&at, &mut into.client_cert),
                OfCreds::CertDays => {
                    into.cert_days = self.whole(&at, 1..=36_500).unwrap_or(into.cert_days);
                }
                OfCreds::RenewAt => self.number(&at, 0.1..=0.95, &mut into.renew_at),
            }
        }
    }

    pub fn stop(&mut self, at: &At<'_>, into: &mut StopPolicy) {
        for (key, at) in self.fields(at, &OF_STOP) {
            match key {
                OfStop::Grace => self.duration(&at, Duration::ZERO..=HOUR, &mut into.grace),
                OfStop::Signal => {
                    let number = text_of(at.node).and_then(supervision::exit::signal_number);
                    match number.filter(|number| can_end(*number)) {
                        Some(number) => into.signal = number,
                        None => self.wrong_value(
                            &at,
                            "the name of a signal that can end a program, like SIGTERM or SIGINT",
                        ),
                    }
                }
            }
        }
    }

    pub fn start(&mut self, at: &At<'_>, into: &mut StartPolicy) {
        for (key, at) in self.fields(at, &OF_START) {
            match key {
                OfStart::Timeout => self.duration(&at, START_TIMEOUT, &mut into.timeout),
                OfStart::Parallel => {
                    if let Some(parallel) = self.whole(&at, 0..=1000) {
                        into.parallel = usize::try_from(parallel).unwrap_or(into.parallel);
                    }
                }
            }
        }
    }

    pub fn events(&mut self, at: &At<'_>, spool: &mut usize) {
        for (key, at) in self.fields(at, &OF_EVENTS) {
            match key {
                OfEvents::Spool => {
                    let read = self.whole(&at, EVENTS_SPOOL);
                    *spool = read
                        .and_then(|read| usize::try_from(read).ok())
                        .unwrap_or(*spool);
                }
            }
        }
    }

    pub fn logs(&mut self, at: &At<'_>, into: &mut LogPolicy) {
        for (key, at) in self.fields(at, &OF_LOGS) {
            match key {
                OfLogs::Keep => into.keep = self.whole(&at, 0..=999).unwrap_or(into.keep),
                OfLogs::MaxSize => {
                    let size = text_of(at.node).and_then(values::size);
                    let fits =
                        |size: &u64| *size == 0 || (MIN_LOG_SIZE..=MAX_LOG_SIZE).contains(size);
                    match size.filter(fits) {
                        Some(size) => into.max_size_bytes = size,
                        None => self.wrong_value(
                            &at,
                            "a size like 64KiB, 10MiB or 1GiB, from 1KiB to 1024GiB, or 0 for never",
                        ),
                    }
                }
            }
        }
    }
}

/// Not those that stop a program for a while, or wake it.
fn can_end(signal: i32) -> bool {
    ![
        "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT", "SIGCHLD",
    ]
    .iter()
    .any(|name| supervision::exit::signal_number(name) == Some(signal))
}
