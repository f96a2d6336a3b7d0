//! What the end of a program and its last lines tell of the cause, and what can be done about it.
//!
//! Invariant: a guess is only made from words that programs use for nothing else; the newest line counts most.

use crate::ExitStatus;

/// A cause that was recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clue {
    /// What happened.
    pub what: String,
    /// What can be done.
    pub way_out: String,
}

impl Clue {
    fn new(what: impl Into<String>, way_out: impl Into<String>) -> Self {
        Clue {
            what: what.into(),
            way_out: way_out.into(),
        }
    }
}

/// Words of the system's libraries, Go, Python, Java, Rust and shells, in small letters; what they mean; the way out.
const WORDS: [(&str, &str, &str); 16] = [
    (
        "no space left on device",
        "the disk is full",
        "make room: df -h shows where",
    ),
    ("enospc", "the disk is full", "make room: df -h shows where"),
    (
        "disk quota exceeded",
        "its disk quota is used up",
        "make room, or raise the quota",
    ),
    (
        "read-only file system",
        "the disk is read-only",
        "look with dmesg why, and mount it for writing",
    ),
    (
        "too many open files",
        "it has too many files open",
        "raise LimitNOFILE= or ulimit -n",
    ),
    (
        "cannot allocate memory",
        "no memory was left",
        "end or limit what uses it: free -h",
    ),
    (
        "out of memory",
        "no memory was left",
        "end or limit what uses it: free -h",
    ),
    (
        "error while loading shared libraries",
        "a library is missing that it needs",
        "install that library, or a build for this system",
    ),
    (
        "version `glibc_",
        "it was built for a newer C library than this system's",
        "install a build for this system",
    ),
    (
        "exec format error",
        "something it runs is not for this machine",
        "install a build for this machine",
    ),
    (
        "modulenotfounderror",
        "a Python module is missing",
        "install that module for its Python",
    ),
    (
        "permission denied",
        "it was not allowed something",
        "give it the rights to what its last lines name",
    ),
    (
        "eacces",
        "it was not allowed something",
        "give it the rights to what its last lines name",
    ),
    (
        "operation not permitted",
        "it was not allowed something",
        "give it the rights to what its last lines name",
    ),
    (
        "connection refused",
        "somebody it needs does not listen",
        "start what its last lines name",
    ),
    (
        "command not found",
        "it calls a program that is not installed",
        "install what its last lines name",
    ),
];

/// The texts of a login that a hub refused: ours, Go's and Python's clients.
const REFUSED: [&str; 4] = [
    "bad credentials (0x86)",
    "bad user name or password",
    "bad username or password",
    "badusernamepassword",
];

/// The texts of an address that is taken: C, Go, Python and Rust; Node; Java's and Windows' words.
const TAKEN: [&str; 3] = ["address already in use", "eaddrinuse", "address in use"];

/// What is recognised in how a run of the plugin `id` ended and its last lines, oldest first.
#[must_use]
pub fn clue(id: &str, status: Option<ExitStatus>, tail: &[String]) -> Option<Clue> {
    // The kernel's word is no guess.
    if let Some(status @ ExitStatus::OutOfMemory { .. }) = status {
        return in_status(status);
    }
    tail.iter()
        .rev()
        .find_map(|line| in_line(id, line))
        .or_else(|| in_status(status?))
}

fn in_line(id: &str, line: &str) -> Option<Clue> {
    let small = line.to_lowercase();
    if REFUSED.iter().any(|words| small.contains(words)) {
        return Some(Clue::new(
            "the hub refused its login",
            format!(
                "hubcli restart {id} has its credentials looked at and made anew; is the clock of this machine right?"
            ),
        ));
    }
    if TAKEN.iter().any(|words| small.contains(words)) {
        return Some(match port_of(&small) {
            Some(port) => Clue::new(
                format!("port {port} is in use"),
                format!(
                    "end who has it (ss -ltnp 'sport = :{port}' shows who), or give it another port"
                ),
            ),
            None => Clue::new(
                "the address it listens on is in use",
                "end who has it (ss -lntp shows who), or give it another one",
            ),
        });
    }
    WORDS
        .iter()
        .find(|(words, _, _)| small.contains(words))
        .map(|(_, what, way_out)| Clue::new(*what, *way_out))
}

/// The port of an address such as `:8080`, `0.0.0.0:8080` or `('', 8080)`, or after the word port.
fn port_of(line: &str) -> Option<u16> {
    let before_number = |mark: &str| {
        line.match_indices(mark).find_map(|(at, mark)| {
            let rest = line.get(at + mark.len()..)?.trim_start();
            let end = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            rest.get(..end)?.parse().ok().filter(|port| *port > 0)
        })
    };
    before_number("port ")
        .or_else(|| before_number("port="))
        .or_else(|| before_number(", "))
        .or_else(|| last_after_colon(line))
}

/// Of several numbers after colons the last: `2023/10/26 12:00:01 listen tcp :8080: bind`.
fn last_after_colon(line: &str) -> Option<u16> {
    line.rmatch_indices(':').find_map(|(at, _)| {
        let rest = line.get(at + 1..)?;
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        rest.get(..end)?.parse().ok().filter(|port| *port > 0)
    })
}

fn in_status(status: ExitStatus) -> Option<Clue> {
    match status {
        ExitStatus::Signal { number, .. } => match number {
            9 => Some(Clue::new(
                "not killed by this launcher but by a person, or the kernel when memory ran out",
                "dmesg | grep -i oom shows whether the kernel did it",
            )),
            4 | 6 | 7 | 8 | 11 => Some(Clue::new(
                "the program has a fault",
                "tell its maker (coredumpctl info shows where, if that is installed)",
            )),
            1 | 2 | 3 | 15 => Some(Clue::new(
                "not stopped by this launcher but by a person or another program",
                "look for scripts and timers that end programs (kill, pkill)",
            )),
            24 => Some(Clue::new(
                "it used more processor time than it may",
                "raise LimitCPU= of the unit, or ulimit -t",
            )),
            25 => Some(Clue::new(
                "a file of it grew beyond its limit",
                "raise LimitFSIZE= of the unit, or ulimit -f",
            )),
            31 => Some(Clue::new(
                "it used a system call that is forbidden here",
                "loosen SystemCallFilter= of the unit",
            )),
            _ => None,
        },
        ExitStatus::Code(code) => match code {
            78 => Some(Clue::new(
                "its configuration is wrong",
                "mend its configuration, which its last lines name",
            )),
            126 => Some(Clue::new(
                "what it calls is there but cannot be executed",
                "make that executable: its last lines name it",
            )),
            127 => Some(Clue::new(
                "it calls a program that is not installed",
                "install what its last lines name",
            )),
            _ => None,
        },
        ExitStatus::OutOfMemory { .. } => Some(Clue::new(
            "it used more memory than it may, or the machine had none left",
            "raise its limits.memory if it has one, and look with hubcli ls who uses most",
        )),
        ExitStatus::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_use_are_seen_in_the_words_of_many() {
        for (line, expected) in [
            (
                "2023/10/26 12:00:01 listen tcp :8080: bind: address already in use",
                "port 8080 is in use",
            ),
            (
                "listen tcp 127.0.0.1:1883: bind: address already in use",
                "port 1883 is in use",
            ),
            (
                "OSError: [Errno 98] Address already in use",
                "the address it listens on is in use",
            ),
            (
                "OSError: [Errno 98] error while attempting to bind on address ('0.0.0.0', 8443): address already in use",
                "port 8443 is in use",
            ),
            (
                "bind: Address already in use",
                "the address it listens on is in use",
            ),
            (
                "Error: Os { code: 98, kind: AddrInUse, message: \"Address already in use\" }",
                "the address it listens on is in use",
            ),
            (
                "Error: listen EADDRINUSE: address already in use :::3000",
                "port 3000 is in use",
            ),
            (
                "cannot listen on port 502: Address already in use",
                "port 502 is in use",
            ),
        ] {
            let found = clue(
                "x",
                Some(ExitStatus::Code(1)),
                &[line.to_owned(), "exiting".to_owned()],
            );
            assert_eq!(
                found.map(|clue| clue.what).as_deref(),
                Some(expected),
                "{line}"
            );
        }
    }

    #[test]
    fn the_newest_line_counts_and_common_words_say_nothing() {
        let lines = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        let tail = lines(&[
            "write: No space left on device",
            "open /dev/ttyACM0: Permission denied",
        ]);
        let found = clue("x", Some(ExitStatus::Code(1)), &tail).unwrap();
        assert_eq!(found.what, "it was not allowed something");
        assert_eq!(
            clue(
                "x",
                Some(ExitStatus::Code(1)),
                &lines(&["bye", "port 80 is fine"])
            ),
            None
        );
        assert_eq!(clue("x", None, &[]), None);
    }
}
