//! How a process ended, and the words for it.
//!
//! Invariant: the text of [`ExitStatus`] is Go's (HP 1.9), as clients of the original compare it; the words for people
//! are in [`ExitStatus::in_words`].

use std::fmt;

/// How the main process of a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitStatus {
    /// It called exit.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// The signal's number.
        number: i32,
        /// Whether the kernel wrote a core file.
        core_dumped: bool,
    },
    /// The kernel killed it for lack of memory.
    OutOfMemory {
        /// The most memory its tree had, in bytes; 0 = unknown.
        used_bytes: u64,
        /// How much it was allowed, in bytes; 0 = unknown.
        limit_bytes: u64,
    },
    /// It was not our child and the kernel does not tell (before Linux 6.15); counts as a failure.
    Unknown,
}

impl ExitStatus {
    /// Whether this counts as a failure for the policy `on-failure` (spec §9).
    #[must_use]
    pub fn is_failure(self) -> bool {
        self != ExitStatus::Code(0)
    }

    /// The exit code; -1 when there is none (spec §18).
    #[must_use]
    pub fn code(self) -> i64 {
        match self {
            ExitStatus::Code(code) => i64::from(code),
            ExitStatus::Signal { .. } | ExitStatus::OutOfMemory { .. } | ExitStatus::Unknown => -1,
        }
    }

    /// The name of the signal, such as `SIGKILL`; empty when no signal ended it (spec §18).
    #[must_use]
    pub fn signal_name(self) -> String {
        match self {
            ExitStatus::Signal { number, .. } => signal_name(number),
            ExitStatus::OutOfMemory { .. } => signal_name(SIGKILL),
            ExitStatus::Code(_) | ExitStatus::Unknown => String::new(),
        }
    }

    /// What happened, in words for an operator, without a full stop: `exited with code 127 (a command was not found)`.
    #[must_use]
    pub fn in_words(self) -> String {
        match self {
            ExitStatus::Code(0) => "exited by itself with code 0".to_owned(),
            ExitStatus::Code(code) => match usual_meaning(code) {
                Some(meaning) => format!("exited with code {code} ({meaning})"),
                None => format!("exited with code {code}"),
            },
            ExitStatus::Signal {
                number,
                core_dumped,
            } => {
                let dumped = if core_dumped { " (core dumped)" } else { "" };
                format!("ended by {}{dumped}", signal_name(number))
            }
            ExitStatus::OutOfMemory {
                used_bytes,
                limit_bytes,
            } => {
                let numbers = match (used_bytes, limit_bytes) {
                    (0, 0) => String::new(),
                    (used, 0) => format!(" ({} used)", mebibytes(used)),
                    (0, limit) => format!(" ({} allowed)", mebibytes(limit)),
                    (used, limit) => {
                        format!(
                            " ({} used of {} allowed)",
                            mebibytes(used),
                            mebibytes(limit)
                        )
                    }
                };
                format!("was killed by the kernel for lack of memory{numbers}")
            }
            ExitStatus::Unknown => "ended in a way that the system does not tell".to_owned(),
        }
    }
}

/// The number of SIGKILL.
const SIGKILL: i32 = 9;

fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) / (1024 * 1024);
    match tenths % 10 {
        0 => format!("{} MiB", tenths / 10),
        tenth => format!("{}.{tenth} MiB", tenths / 10),
    }
}

/// What exit codes commonly stand for (shells, sysexits.h).
fn usual_meaning(code: i32) -> Option<&'static str> {
    match code {
        2 => Some("often wrong usage"),
        64 => Some("wrong usage"),
        69 => Some("a service it needs is unavailable"),
        77 => Some("permission denied"),
        78 => Some("bad configuration"),
        101 => Some("a Rust program panicked"),
        126 => Some("a command could not be executed"),
        127 => Some("a command was not found"),
        _ => None,
    }
}

/// Signals with their names and Go's texts; numbers as on x86-64 and ARM Linux.
const SIGNALS: [(i32, &str, &str); 31] = [
    (1, "SIGHUP", "hangup"),
    (2, "SIGINT", "interrupt"),
    (3, "SIGQUIT", "quit"),
    (4, "SIGILL", "illegal instruction"),
    (5, "SIGTRAP", "trace/breakpoint trap"),
    (6, "SIGABRT", "aborted"),
    (7, "SIGBUS", "bus error"),
    (8, "SIGFPE", "floating point exception"),
    (9, "SIGKILL", "killed"),
    (10, "SIGUSR1", "user defined signal 1"),
    (11, "SIGSEGV", "segmentation fault"),
    (12, "SIGUSR2", "user defined signal 2"),
    (13, "SIGPIPE", "broken pipe"),
    (14, "SIGALRM", "alarm clock"),
    (15, "SIGTERM", "terminated"),
    (16, "SIGSTKFLT", "stack fault"),
    (17, "SIGCHLD", "child exited"),
    (18, "SIGCONT", "continued"),
    (19, "SIGSTOP", "stopped (signal)"),
    (20, "SIGTSTP", "stopped"),
    (21, "SIGTTIN", "stopped (tty input)"),
    (22, "SIGTTOU", "stopped (tty output)"),
    (23, "SIGURG", "urgent I/O condition"),
    (24, "SIGXCPU", "CPU time limit exceeded"),
    (25, "SIGXFSZ", "file size limit exceeded"),
    (26, "SIGVTALRM", "virtual timer expired"),
    (27, "SIGPROF", "profiling timer expired"),
    (28, "SIGWINCH", "window changed"),
    (29, "SIGIO", "I/O possible"),
    (30, "SIGPWR", "power failure"),
    (31, "SIGSYS", "bad system call"),
];

/// The name of a signal, `SIGTERM`; `signal 40` when it has none.
#[must_use]
pub fn signal_name(number: i32) -> String {
    match SIGNALS.iter().find(|(n, _, _)| *n == number) {
        Some((_, name, _)) => (*name).to_owned(),
        None => format!("signal {number}"),
    }
}

/// The number of a signal by its name, with or without `SIG`, in capitals.
#[must_use]
pub fn signal_number(name: &str) -> Option<i32> {
    SIGNALS
        .iter()
        .find(|(_, full, _)| *full == name || full.strip_prefix("SIG") == Some(name))
        .map(|(number, _, _)| *number)
}

/// Every signal's name in order of its number.
pub fn signal_names() -> impl Iterator<Item = &'static str> {
    SIGNALS.iter().map(|(_, name, _)| *name)
}

/// Go's text of how a process ended (HP 1.9): `exit status 1`, `signal: killed`, `… (core dumped)`.
impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ExitStatus::Code(code) => write!(f, "exit status {code}"),
            ExitStatus::Signal {
                number,
                core_dumped,
            } => {
                match SIGNALS.iter().find(|(n, _, _)| *n == number) {
                    Some((_, _, text)) => write!(f, "signal: {text}")?,
                    None => write!(f, "signal: signal {number}")?,
                }
                if core_dumped {
                    f.write_str(" (core dumped)")?;
                }
                Ok(())
            }
            // As whoever waits for it sees it.
            ExitStatus::OutOfMemory { .. } => f.write_str("signal: killed"),
            ExitStatus::Unknown => f.write_str("exit status unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_go() {
        let signal = |number, core_dumped| ExitStatus::Signal {
            number,
            core_dumped,
        };
        assert_eq!(ExitStatus::Code(1).to_string(), "exit status 1");
        assert_eq!(signal(9, false).to_string(), "signal: killed");
        assert_eq!(
            signal(11, true).to_string(),
            "signal: segmentation fault (core dumped)"
        );
        assert_eq!(signal(40, false).to_string(), "signal: signal 40");
    }

    #[test]
    fn names_and_numbers_agree() {
        for (number, name, _) in SIGNALS {
            assert_eq!(signal_number(name), Some(number));
            assert_eq!(signal_name(number), name);
        }
        assert_eq!(signal_number("TERM"), Some(15));
        assert_eq!(signal_number("nope"), None);
    }
}
