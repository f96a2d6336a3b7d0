//! One cgroup as a folder: who is in it, killing them, removing it.
//!
//! Invariants: what has vanished is empty, never an error; nothing is written to but files of a cgroup's own names.

use crate::table::gone_is_none;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Cgroups within a run's own are looked into so deep.
const DEEPEST: usize = 8;

/// A cgroup.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// The cgroup of this path; it need not be there.
    pub(crate) fn at(path: PathBuf) -> Folder {
        Folder(path)
    }

    /// Makes it.
    ///
    /// # Errors
    /// What the system said, also that it is there.
    pub(crate) fn create(path: PathBuf) -> io::Result<Folder> {
        fs::create_dir(&path)?;
        Ok(Folder(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Something to start a process in it by.
    ///
    /// # Errors
    /// When it is gone, or no descriptor is left.
    pub(crate) fn open(&self) -> io::Result<OwnedFd> {
        let folder = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(&self.0)?;
        Ok(folder.into())
    }

    /// The content of one of its files; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn read(&self, name: &str) -> io::Result<Option<String>> {
        let mut text = String::new();
        let read =
            File::open(self.0.join(name)).and_then(|mut file| file.read_to_string(&mut text));
        Ok(gone(read)?.map(|_bytes| text))
    }

    /// The number that one of its files holds; `None` when there is none, as with `max`.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.read(name).ok()??.trim().parse().ok()
    }

    /// The number after a word in one of its files, such as that of `usage_usec` in `cpu.stat`.
    pub(crate) fn number_of(&self, name: &str, word: &str) -> Option<u64> {
        number_after(&self.read(name).ok()??, word)
    }

    /// Sets one of its files.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn write(&self, name: &str, value: &str) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(self.0.join(name))?;
        // In one piece, as the kernel takes each write for a whole value.
        match file.write(value.as_bytes())? {
            all if all == value.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Whether anybody lives in it or in one below.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn is_populated(&self) -> io::Result<bool> {
        let events = self.read("cgroup.events")?;
        Ok(events.is_some_and(|text| is_populated(&text)))
    }

    /// The numbers of those in it and below, sorted. One that has just ended may be among them.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn pids(&self) -> io::Result<Vec<i32>> {
        let mut found = Vec::new();
        self.add_pids(&mut found, DEEPEST)?;
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn add_pids(&self, found: &mut Vec<i32>, depth: usize) -> io::Result<()> {
        let Some(text) = self.read("cgroup.procs")? else {
            return Ok(());
        };
        // Zero stands for who is in another namespace of numbers.
        let numbers = text.lines().filter_map(|line| line.parse::<i32>().ok());
        found.extend(numbers.filter(|pid| *pid > 0));
        if depth > 0 {
            for below in self.below() {
                below.add_pids(found, depth - 1)?;
            }
        }
        Ok(())
    }

    /// The cgroups directly below, in no order; none when they cannot be listed.
    pub(crate) fn below(&self) -> Vec<Folder> {
        // A folder has two links and one of each folder in it, so most need not be listed.
        if fs::metadata(&self.0)
            .is_ok_and(|folder| std::os::unix::fs::MetadataExt::nlink(&folder) == 2)
        {
            return Vec::new();
        }
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.map(|entry| Folder(entry.path())).collect()
    }

    /// Kills everybody in it and below, also who is just being forked. After this no process can be started in it.
    ///
    /// # Errors
    /// When it may not be done, or cannot (Linux before 5.14).
    pub(crate) fn kill(&self) -> io::Result<()> {
        gone(self.write("cgroup.kill", "1")).map(|_done| ())
    }

    /// Removes it and those below; nobody may live there.
    ///
    /// # Errors
    /// When somebody does.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.remove_down_to(DEEPEST)
    }

    fn remove_down_to(&self, depth: usize) -> io::Result<()> {
        match gone(fs::remove_dir(&self.0)) {
            // There is somebody in it, or a cgroup below it.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && depth > 0 => {
                for below in self.below() {
                    below.remove_down_to(depth - 1)?;
                }
                gone(fs::remove_dir(&self.0)).map(|_done| ())
            }
            other => other.map(|_done| ()),
        }
    }

    /// A file that tells when somebody moves in first or the last one is gone; to be read by [`still_populated`].
    ///
    /// # Errors
    /// When it is gone, or no descriptor is left.
    pub(crate) fn events(&self) -> io::Result<File> {
        File::open(self.0.join("cgroup.events"))
    }
}

/// Reads an events file anew; what cannot be read is gone.
pub(crate) fn still_populated(events: &File) -> bool {
    let mut buffer = [0; 256];
    let read = events.read_at(&mut buffer, 0).unwrap_or(0);
    std::str::from_utf8(&buffer[..read]).is_ok_and(is_populated)
}

/// What the content of an events file says.
fn is_populated(text: &str) -> bool {
    number_after(text, "populated").is_some_and(|number| number > 0)
}

fn number_after(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, number) = line.split_once(' ')?;
        (name == word).then(|| number.trim().parse().ok()).flatten()
    })
}

/// Turns "it has been removed", also while it was open, into `None`.
fn gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        other => gone_is_none(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_cgroup_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let cgroup = Folder::at(folder.path().to_owned());
        assert!(!cgroup.is_populated().unwrap());
        write("cgroup.events", "populated 1\nfrozen 0\n");
        write("cgroup.procs", "0\n7\n12\n");
        write("memory.max", "max\n");
        write("memory.peak", "4096\n");
        write("memory.events", "oom 3\noom_kill 2\noom_group_kill 1\n");
        fs::create_dir(folder.path().join("below")).unwrap();
        write("below/cgroup.procs", "3\n7\n");
        assert!(cgroup.is_populated().unwrap());
        assert_eq!(cgroup.pids().unwrap(), [3, 7, 12]);
        assert_eq!(cgroup.number("memory.max"), None);
        assert_eq!(cgroup.number("memory.peak"), Some(4096));
        assert_eq!(cgroup.number_of("memory.events", "oom_kill"), Some(2));
        assert_eq!(cgroup.number_of("memory.events", "oo"), None);
        assert_eq!(cgroup.number_of("none", "oom"), None);
        let none = Folder::at(folder.path().join("none"));
        assert_eq!(none.pids().unwrap(), Vec::<i32>::new());
        assert!(!none.is_populated().unwrap());
        none.kill().unwrap();
        none.remove().unwrap();
    }
}
