//! What can be found out about one living process for somebody who asks why it uses so much (spec §10).
//!
//! Invariants: reading only, and bounded: however many threads, mappings or descriptors there are, no more than
//! [`MOST`] of each are looked at; what cannot be read is an error with its cause, and what is gone is empty.

use crate::table::{self, gone_is_none};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};

/// So many threads, mappings or descriptors of a process are looked at.
pub const MOST: usize = 10_000;

/// One thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// Its number; that of the process for the first one.
    pub tid: i32,
    /// Its name; may hold anything.
    pub name: String,
    /// The letter of its state: `R S D T t Z X I`.
    pub state: char,
    /// The function of the kernel that it waits in; empty = in none, or not to be told.
    pub wait_channel: String,
    /// Its CPU time in clock ticks, user and system.
    pub cpu_ticks: u64,
}

/// The threads of process `pid`, the busiest first, then by number.
///
/// # Errors
/// When the table cannot be read.
pub fn threads(pid: i32) -> io::Result<Vec<Thread>> {
    let tasks = format!("/proc/{pid}/task");
    let Some(entries) = gone_is_none(fs::read_dir(&tasks))? else {
        return Ok(Vec::new());
    };
    let tids = entries
        .flatten()
        .take(MOST)
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut threads: Vec<Thread> = tids
        .filter_map(|tid| {
            let stat = table::thread(&format!("{tasks}/{tid}/stat")).ok()??;
            let wait = fs::read_to_string(format!("{tasks}/{tid}/wchan")).unwrap_or_default();
            Some(Thread {
                tid,
                name: stat.name,
                state: stat.state,
                // The kernel says 0 for none.
                wait_channel: wait.trim_matches(['0', '\n']).to_owned(),
                cpu_ticks: stat.cpu_ticks,
            })
        })
        .collect();
    threads.sort_by_key(|thread| (std::cmp::Reverse(thread.cpu_ticks), thread.tid));
    Ok(threads)
}

/// What is mapped under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The file, `[heap]`, `[stack]`; empty = memory without a name.
    pub name: String,
    /// Address space.
    pub size_bytes: u64,
}

/// The memory of process `pid` in the kernel's words: the fields of `smaps_rollup` in bytes (`Rss`, `Pss`, `Anonymous`,
/// `Swap` and others), in its order; empty when it is gone.
///
/// # Errors
/// When it may not be read, or the kernel has no such file.
pub fn memory(pid: i32) -> io::Result<Vec<(String, u64)>> {
    let read = gone_is_none(fs::read_to_string(format!("/proc/{pid}/smaps_rollup")))?;
    Ok(read.map_or_else(Vec::new, |text| parse_rollup(&text)))
}

fn parse_rollup(text: &str) -> Vec<(String, u64)> {
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let kib: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
        Some((name.to_owned(), kib.saturating_mul(1024)))
    };
    text.lines().filter_map(field).collect()
}

/// What process `pid` has mapped, added up by name, the biggest first; of the first [`MOST`] mappings.
///
/// # Errors
/// When it may not be read.
pub fn mappings(pid: i32) -> io::Result<Vec<Mapping>> {
    let Some(file) = gone_is_none(File::open(format!("/proc/{pid}/maps")))? else {
        return Ok(Vec::new());
    };
    let mut by_name: BTreeMap<String, u64> = BTreeMap::new();
    for line in BufReader::new(file).split(b'\n').take(MOST) {
        // One that ends meanwhile has nothing mapped any more.
        let Some(line) = gone_is_none(line)? else {
            break;
        };
        if let Some((name, size)) = parse_mapping(&String::from_utf8_lossy(&line)) {
            let all = by_name.entry(name).or_default();
            *all = all.saturating_add(size);
        }
    }
    let mut mappings: Vec<Mapping> = by_name
        .into_iter()
        .map(|(name, size_bytes)| Mapping { name, size_bytes })
        .collect();
    mappings.sort_by_key(|mapping| std::cmp::Reverse(mapping.size_bytes));
    Ok(mappings)
}

/// `from-to rights offset device inode   name`.
fn parse_mapping(line: &str) -> Option<(String, u64)> {
    let mut rest = line;
    let mut next = || {
        let word = rest.trim_start();
        let end = word.find(' ').unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        rest = after;
        word
    };
    let (from, to) = next().split_once('-')?;
    let _rights_offset_device_inode = [next(), next(), next(), next()];
    let name = rest.trim_start().to_owned();
    let address = |text| u64::from_str_radix(text, 16).ok();
    Some((name, address(to)?.saturating_sub(address(from)?)))
}

/// The descriptors of process `pid` by kind (`file`, `folder`, `socket`, `pipe`, `device`, or what the kernel calls it),
/// the most frequent first; of the first [`MOST`].
///
/// # Errors
/// When they may not be read.
pub fn descriptors(pid: i32) -> io::Result<Vec<(String, usize)>> {
    let Some(entries) = gone_is_none(fs::read_dir(format!("/proc/{pid}/fd")))? else {
        return Ok(Vec::new());
    };
    let mut by_kind: BTreeMap<String, usize> = BTreeMap::new();
    for entry in entries.flatten().take(MOST) {
        // One that is closed meanwhile does not count.
        if let Ok(target) = fs::read_link(entry.path()) {
            *by_kind.entry(kind(&target.to_string_lossy())).or_default() += 1;
        }
    }
    let mut kinds: Vec<(String, usize)> = by_kind.into_iter().collect();
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    Ok(kinds)
}

/// The kind of a descriptor by what its link says; files are not opened, nor looked at.
fn kind(target: &str) -> String {
    if target.starts_with("/dev/") || target.starts_with("/memfd:") {
        let kind = if target.starts_with("/dev/") {
            "device"
        } else {
            "memory"
        };
        return kind.to_owned();
    }
    if target.starts_with('/') {
        return "file or folder".to_owned();
    }
    // `socket:[1]`, `pipe:[1]`, `anon_inode:[eventpoll]`, `anon_inode:inotify`
    match target.split_once(':') {
        Some(("anon_inode", kind)) => kind.trim_matches(['[', ']']).to_owned(),
        Some((kind, _)) => kind.to_owned(),
        None => target.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> i32 {
        i32::try_from(std::process::id()).unwrap()
    }

    #[test]
    fn we_find_ourselves() {
        let (waker, thread) = std::sync::mpsc::channel::<()>();
        let named = std::thread::Builder::new().name("a) b (c".to_owned());
        let sleeper = named.spawn(move || thread.recv()).unwrap();
        // A thread gives itself its name when it runs.
        crate::testing::shortly(|| {
            threads(me())
                .unwrap()
                .iter()
                .any(|thread| thread.name == "a) b (c")
        });
        waker.send(()).unwrap();
        sleeper.join().unwrap().unwrap();
        let rss = memory(me())
            .unwrap()
            .into_iter()
            .find(|(name, _)| name == "Rss");
        assert!(rss.unwrap().1 > 100_000);
        let mappings = mappings(me()).unwrap();
        assert!(mappings.is_sorted_by_key(|m| std::cmp::Reverse(m.size_bytes)));
        assert!(mappings.iter().any(|m| m.name == "[stack]"), "{mappings:?}");
        let open = File::open("/proc/self/stat").unwrap();
        let kinds = descriptors(me()).unwrap();
        assert!(
            kinds.iter().any(|(kind, _)| kind == "file or folder"),
            "{kinds:?}"
        );
        drop(open);
    }

    #[test]
    fn nobody_has_nothing() {
        let nobody = 4_194_305;
        assert_eq!(threads(nobody).unwrap(), []);
        assert_eq!(memory(nobody).unwrap(), []);
        assert_eq!(mappings(nobody).unwrap(), []);
        assert_eq!(descriptors(nobody).unwrap(), []);
    }

    #[test]
    fn the_files_of_the_kernel_are_read() {
        let line = "7f0000000000-7f0000021000 rw-p 00000000 00:00 0 ";
        assert_eq!(parse_mapping(line), Some((String::new(), 0x21000)));
        let line = "5500-5600 r-xp 00000000 fe:00 131   /opt/a b (deleted)";
        assert_eq!(
            parse_mapping(line),
            Some(("/opt/a b (deleted)".to_owned(), 256))
        );
        for bad in ["", "x", "1-", "z-1 r", "-"] {
            assert_eq!(parse_mapping(bad), None, "{bad}");
        }
        let text = "5500-7fff ---p 00000000 00:00 0    [rollup]\nRss:     12 kB\nPss:    3 kB\nTHPeligible: 0\n";
        let wanted = [("Rss".to_owned(), 12_288), ("Pss".to_owned(), 3_072)];
        assert_eq!(parse_rollup(text), wanted);
        for (target, wanted) in [
            ("socket:[1]", "socket"),
            ("pipe:[1]", "pipe"),
            ("anon_inode:[eventpoll]", "eventpoll"),
            ("anon_inode:inotify", "inotify"),
            ("/dev/null", "device"),
            ("/memfd:x (deleted)", "memory"),
            ("/tmp/x", "file or folder"),
        ] {
            assert_eq!(kind(target), wanted);
        }
    }
}
