//! The process table, `/proc`: who is there, whose child, in which group, started when, with which environment.
//!
//! Invariants: what has vanished between two reads is `None` or left out, never an error; a number read here is for
//! showing and for opening a [`crate::pidfd::Pidfd`], never for signalling (T1).

use crate::marker::{HOME_VARIABLE, Marker, RUN_VARIABLE};
use crate::member::Member;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What the table says of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Its parent.
    pub ppid: i32,
    /// Its process group.
    pub pgrp: i32,
    /// Its session.
    pub session: i32,
    /// The letter of its state: `R S D T t Z X I`.
    pub state: char,
    /// When it started, in clock ticks since boot; with the number it names a process of this boot.
    pub start_ticks: u64,
    /// Whether it has a program: not while exec is loading one, and no more when it has ended.
    pub has_program: bool,
    /// Its command name, at most 15 bytes; may hold blanks and parentheses.
    pub comm: String,
}

impl Stat {
    /// Whether it has ended; a zombie has.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Reads the content of a `stat` file; `None` when it is not one.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Stat> {
        let (comm, rest) = split_stat(text)?;
        let comm = String::from_utf8_lossy(comm).into_owned();
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let ppid = fields.next()?.parse().ok()?;
        let pgrp = fields.next()?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        // Field 22 of the file; the state is field 3.
        let start_ticks = fields.nth(15)?.parse().ok()?;
        // Field 27, the end of the code: set when exec is done, after the environment; 1 for those who may not know.
        let has_program = fields.nth(4)? != "0";
        Some(Stat {
            ppid,
            pgrp,
            session,
            state,
            start_ticks,
            has_program,
            comm,
        })
    }
}

/// What the table says of process `pid`; `None` when there is none.
///
/// # Errors
/// When the table cannot be read.
pub fn stat(pid: i32) -> io::Result<Option<Stat>> {
    let mut buffer = [0; 1024];
    read_stat(pid, &mut buffer, Stat::parse)
}

fn read_stat<T>(
    pid: i32,
    buffer: &mut [u8],
    parse: impl FnOnce(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    let read = File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(buffer));
    let Some(read) = gone_is_none(read)? else {
        return Ok(None);
    };
    let text = buffer.get(..read).unwrap_or_default();
    parse(text).map(Some).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("/proc/{pid}/stat is not understood"),
        )
    })
}

/// The name in the content of a `stat` file, and what comes after it. The name may hold anything, a `)` too, so it ends
/// with the last one (T28).
fn split_stat(text: &[u8]) -> Option<(&[u8], &str)> {
    let open = text.iter().position(|b| *b == b'(')?;
    let close = text.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    Some((text.get(open + 1..close)?, rest))
}

/// What sysinfo does not tell of one process, by its `stat` file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    /// CPU time, user and system, of the children it waited for.
    pub(crate) waited_for_ticks: u64,
    pub(crate) threads: u64,
    /// Ended, and not waited for.
    pub(crate) has_ended: bool,
    start_ticks: u64,
}

impl Told {
    /// As [`Stat::parse`].
    fn parse(text: &[u8]) -> Option<Told> {
        let (_, rest) = split_stat(text)?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        // The state is field 3 of the file, cutime and cstime are 16 and 17. The kernel may show them as negative numbers
        // for a moment.
        let user: i64 = fields.nth(12)?.parse().ok()?;
        let system: i64 = fields.next()?.parse().ok()?;
        let ticks = |time: i64| u64::try_from(time).unwrap_or(0);
        Some(Told {
            waited_for_ticks: ticks(user).saturating_add(ticks(system)),
            threads: fields.nth(2)?.parse().ok()?,
            start_ticks: fields.nth(1)?.parse().ok()?,
            has_ended: matches!(state, "Z" | "X" | "x"),
        })
    }
}

/// What is told of this process; `None` when it is gone.
///
/// # Errors
/// When the table cannot be read.
pub(crate) fn told(member: Member) -> io::Result<Option<Told>> {
    let mut buffer = [0; 1024];
    let told = read_stat(member.pid, &mut buffer, Told::parse)?;
    Ok(told.filter(|told| told.start_ticks == member.start_ticks))
}

/// What the table says of one thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ThreadStat {
    pub(crate) name: String,
    pub(crate) state: char,
    /// User and system.
    pub(crate) cpu_ticks: u64,
}

/// Reads the `stat` file of a thread; `None` when it is gone.
pub(crate) fn thread(path: &str) -> io::Result<Option<ThreadStat>> {
    let Some(text) = gone_is_none(fs::read(path))? else {
        return Ok(None);
    };
    let parse = || {
        let (name, rest) = split_stat(&text)?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let user: u64 = fields.nth(10)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(ThreadStat {
            name: String::from_utf8_lossy(name).into_owned(),
            state,
            cpu_ticks: user.saturating_add(system),
        })
    };
    Ok(parse())
}

/// The highest resident bytes that process `pid` ever had; `None` when that cannot be told.
pub(crate) fn peak_rss(pid: i32) -> Option<u64> {
    let mut buffer = [0; 4096];
    let read = File::open(format!("/proc/{pid}/status"))
        .and_then(|mut file| file.read(&mut buffer))
        .ok()?;
    let text = buffer.get(..read)?;
    let line = text
        .split(|b| *b == b'\n')
        .find_map(|line| line.strip_prefix(b"VmHWM:"))?;
    let line = std::str::from_utf8(line).ok()?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// How many descriptors process `pid` has open; `None` when that cannot be told, or when they have to be listed and are
/// more than `most`.
pub(crate) fn open_fds(pid: i32, most: usize) -> Option<u64> {
    let folder = format!("/proc/{pid}/fd");
    // From Linux 6.2 on the size of the folder is their number, which costs nothing and needs no right.
    match fs::metadata(&folder).ok()?.len() {
        0 => {
            let listed = fs::read_dir(folder).ok()?.take(most + 1).count();
            (listed <= most).then(|| u64::try_from(listed).unwrap_or(u64::MAX))
        }
        number => Some(number),
    }
}

/// The numbers of all processes, in ascending order.
///
/// # Errors
/// When the table cannot be read.
pub fn pids() -> io::Result<Vec<i32>> {
    let mut pids: Vec<i32> = fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    Ok(pids)
}

/// What a process carries of a launcher's marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marks {
    /// A run and the home it belongs to.
    Run {
        /// Which run.
        marker: Marker,
        /// Of which home; as it stands in the variable.
        home: OsString,
    },
    /// It has an environment without them, or none.
    None,
    /// None can be seen yet or any more: it is just being given a program, or has ended.
    Empty,
    /// Its environment may not be read, as it runs with other rights.
    Hidden,
}

/// Reads the marks in the environment that process `pid` was started with; [`Marks::Empty`] when it is gone.
///
/// # Errors
/// When the table cannot be read.
pub fn marks(pid: i32) -> io::Result<Marks> {
    let mut environment = match environ(pid)? {
        Environ::Hidden => return Ok(Marks::Hidden),
        Environ::Seen(environment) => environment,
    };
    if environment.is_empty() {
        if !stat(pid)?.is_some_and(|stat| stat.has_program) {
            return Ok(Marks::Empty);
        }
        // It has got its program, so by now its environment can be seen if it has one.
        environment = match environ(pid)? {
            Environ::Hidden => return Ok(Marks::Hidden),
            Environ::Seen(environment) => environment,
        };
    }
    let run = value_of(&environment, RUN_VARIABLE)
        .and_then(|value| std::str::from_utf8(value).ok())
        .and_then(Marker::parse);
    let home = value_of(&environment, HOME_VARIABLE);
    Ok(match (run, home) {
        (Some(marker), Some(home)) => Marks::Run {
            marker,
            home: OsStr::from_bytes(home).to_owned(),
        },
        (_, _) => Marks::None,
    })
}

enum Environ {
    Seen(Vec<u8>),
    Hidden,
}

fn environ(pid: i32) -> io::Result<Environ> {
    match fs::read(format!("/proc/{pid}/environ")) {
        Ok(environment) => Ok(Environ::Seen(environment)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Environ::Hidden),
        Err(error) => Ok(Environ::Seen(gone_is_none(Err(error))?.unwrap_or_default())),
    }
}

/// The value of a variable in the content of an `environ` file.
fn value_of<'a>(environment: &'a [u8], name: &str) -> Option<&'a [u8]> {
    environment.split(|b| *b == 0).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?;
        value.strip_prefix(b"=")
    })
}

/// The arguments of process `pid`, argv\[0\] first; empty for a zombie, a kernel thread, and when it is gone.
///
/// # Errors
/// When the table cannot be read.
pub fn arguments(pid: i32) -> io::Result<Vec<OsString>> {
    let read = fs::read(format!("/proc/{pid}/cmdline"));
    let mut text = gone_is_none(read)?.unwrap_or_default();
    if text.last() == Some(&0) {
        text.pop();
    }
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let words = text.split(|b| *b == 0);
    Ok(words.map(|w| OsString::from_vec(w.to_vec())).collect())
}

/// The children of process `pid`, those of all its threads, zombies too; empty when it is gone.
///
/// # Errors
/// When the table cannot be read.
pub fn children(pid: i32) -> io::Result<Vec<i32>> {
    // A folder has a link for itself, one in its parent, and one of each folder in it.
    let Some(tasks) = gone_is_none(fs::metadata(format!("/proc/{pid}/task")))? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    if tasks.nlink() == 3 {
        // One thread, as most programs have: no need to list them.
        return match add_children_of(format!("/proc/{pid}/task/{pid}/children"), &mut found)? {
            Listed::Yes => Ok(found),
            Listed::Never => children_by_scan(pid),
        };
    }
    let Some(threads) = gone_is_none(fs::read_dir(format!("/proc/{pid}/task")))? else {
        return Ok(found);
    };
    for thread in threads.flatten() {
        match add_children_of(thread.path().join("children"), &mut found)? {
            Listed::Yes => {}
            Listed::Never => return children_by_scan(pid),
        }
    }
    Ok(found)
}

enum Listed {
    /// As far as the thread was there.
    Yes,
    /// The kernel has no such lists.
    Never,
}

fn add_children_of(list: impl AsRef<Path>, found: &mut Vec<i32>) -> io::Result<Listed> {
    let mut file = match File::open(list) {
        Ok(file) => file,
        Err(_) if !lists_children() => return Ok(Listed::Never),
        Err(error) => return gone_is_none::<()>(Err(error)).map(|_gone| Listed::Yes),
    };
    let mut text = Vec::new();
    if gone_is_none(file.read_to_end(&mut text))?.is_some() {
        parse_children(&text, found);
    }
    Ok(Listed::Yes)
}

/// Whether the kernel lists children (`CONFIG_PROC_CHILDREN`); without it the whole table is searched.
#[must_use]
pub fn lists_children() -> bool {
    fs::exists("/proc/thread-self/children").unwrap_or(false)
}

/// Adds the numbers in the content of a `children` file.
pub(crate) fn parse_children(text: &[u8], found: &mut Vec<i32>) {
    let words = text.split(|b| b.is_ascii_whitespace());
    found.extend(words.filter_map(|word| std::str::from_utf8(word).ok()?.parse::<i32>().ok()));
}

/// The children of `pid` by looking at everybody's parent.
pub(crate) fn children_by_scan(pid: i32) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for candidate in pids()? {
        if stat(candidate)?.is_some_and(|stat| stat.ppid == pid) {
            found.push(candidate);
        }
    }
    Ok(found)
}

/// The function of the kernel in which process `pid` sleeps; `None` when it does not, is gone, or may not be asked.
#[must_use]
pub fn wait_channel(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/wchan")).ok()?;
    let name = text.trim();
    (!name.is_empty() && name != "0").then(|| name.to_owned())
}

/// Says of a process that was killed why it has not ended, as far as can be seen; `None` when it has.
#[must_use]
pub fn undying(pid: i32) -> Option<String> {
    let stat = stat(pid).ok().flatten().filter(|stat| !stat.has_ended())?;
    let comm = &stat.comm;
    let place = wait_channel(pid).map(|name| format!(" in {name}"));
    let place = place.unwrap_or_default();
    Some(match stat.state {
        'D' => format!(
            "process {pid} ({comm}) was killed, but is in uninterruptible sleep{place}: a disk or a device does not \
             answer it"
        ),
        state => format!(
            "process {pid} ({comm}) was killed, but has not ended yet: state {state}{place}"
        ),
    })
}

/// Names this boot of the machine; with it a start time names a process for ever.
///
/// # Errors
/// When the table cannot be read.
pub fn boot_id() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

/// Turns "it has vanished" into `None`.
pub(crate) fn gone_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOENT | libc::ESRCH | libc::ENOTDIR)
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_breaks_nothing() {
        let fields = "S 1 2 3 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 777 9 9 9 1 1";
        let stat = Stat::parse(format!("42 (a) b) (c)) {fields}").as_bytes()).unwrap();
        assert_eq!(stat.comm, "a) b) (c)");
        assert_eq!(
            (
                stat.ppid,
                stat.pgrp,
                stat.session,
                stat.state,
                stat.start_ticks
            ),
            (1, 2, 3, 'S', 777)
        );
    }

    #[test]
    fn what_is_no_stat_is_none() {
        for text in [
            "",
            "1",
            "1 (a",
            "1 (a)",
            "1 (a) S 1 2",
            ")(",
            "1 )a( S 1 1 1",
        ] {
            assert_eq!(Stat::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn we_find_ourselves() {
        let me = i32::try_from(std::process::id()).unwrap();
        let stat = stat(me).unwrap().unwrap();
        assert!(stat.start_ticks > 0);
        assert!(pids().unwrap().contains(&me));
        assert!(!arguments(me).unwrap().is_empty());
        assert_eq!(boot_id().unwrap().len(), 36);
    }

    #[test]
    fn nobody_is_none() {
        // Above the highest number the kernel allows.
        let nobody = 4_194_305;
        assert_eq!(stat(nobody).unwrap(), None);
        assert_eq!(marks(nobody).unwrap(), Marks::Empty);
        assert!(children(nobody).unwrap().is_empty());
        assert!(arguments(nobody).unwrap().is_empty());
    }

    #[test]
    fn values_are_found_by_their_whole_name() {
        let environment = b"XHIVEOT_RUN=no\0HIVEOT_RUNS=no\0HIVEOT_RUN=yes=1\0";
        assert_eq!(value_of(environment, RUN_VARIABLE), Some(&b"yes=1"[..]));
        assert_eq!(value_of(environment, HOME_VARIABLE), None);
    }
}
