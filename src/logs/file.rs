//! One log file: appended, rotated at line ends, found again when somebody moved it (spec §11).
//!
//! Invariants:
//! - what is appended is in one of the files `{name}.log`, `.1` … `.keep`, whole and in order, until it is rotated out;
//! - a file is cut between lines only; a line longer than the bound has its file for itself or makes it longer;
//! - a rotation that fails costs nothing but size: the file is used on, and the rotation tried again later.

use crate::disk::{Disk, Identity, Opened};
use memchr::{memchr, memrchr};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use supervision::policy::LogPolicy;

/// How often it is looked whether the file still has its name; only while something is written.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a file is used on after a rotation that failed.
const ROTATE_AGAIN: Duration = Duration::from_secs(10);

/// The size that a file without a limit never reaches.
const NEVER: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct LogFile<D: Disk> {
    path: PathBuf,
    open: Option<Open<D::File>>,
    /// What was appended so far ends with a line end.
    at_line_start: bool,
    /// No rotation before this moment.
    held_until: Option<Instant>,
}

#[derive(Debug)]
struct Open<F> {
    file: F,
    identity: Identity,
    size: u64,
    looked: Instant,
    /// Somebody left a line without an end, which is not ours to go on with.
    foreign_line: bool,
}

/// What to do with bytes that are to be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Append so many.
    Append(usize),
    /// Begin a new file.
    Rotate,
}

/// Decides how many of `bytes` still go into a file of `size` bytes: as many lines as fit within `limit`, but at least one
/// into an empty file, and always the rest of a line begun in it.
fn cut(size: u64, at_line_start: bool, limit: u64, bytes: &[u8]) -> Cut {
    let room = usize::try_from(limit.saturating_sub(size)).unwrap_or(usize::MAX);
    if bytes.len() <= room {
        return Cut::Append(bytes.len());
    }
    if let Some(last) = memrchr(b'\n', bytes.get(..room).unwrap_or_default()) {
        return Cut::Append(last + 1);
    }
    if at_line_start && size > 0 {
        return Cut::Rotate;
    }
    Cut::Append(memchr(b'\n', bytes).map_or(bytes.len(), |first| first + 1))
}

impl<D: Disk> LogFile<D> {
    pub(crate) fn new(folder: &Path, name: &str) -> Self {
        LogFile {
            path: folder.join(format!("{name}.log")),
            open: None,
            at_line_start: true,
            held_until: None,
        }
    }

    /// Appends `bytes` from `done` on, and moves `done` on with every byte that is in a file.
    ///
    /// # Errors
    /// What the disk says. The file is then closed, so the next call opens it anew; it goes on exactly where this one
    /// stopped.
    pub(crate) fn append(
        &mut self,
        disk: &D,
        policy: LogPolicy,
        bytes: &[u8],
        done: &mut usize,
    ) -> io::Result<()> {
        let result = self.append_all(disk, policy, bytes, done);
        if result.is_err() {
            self.open = None;
        }
        result
    }

    fn append_all(
        &mut self,
        disk: &D,
        policy: LogPolicy,
        bytes: &[u8],
        done: &mut usize,
    ) -> io::Result<()> {
        let now = Instant::now();
        self.look(disk, now)?;
        while let Some(rest) = bytes.get(*done..).filter(|rest| !rest.is_empty()) {
            let at_line_start = self.at_line_start;
            let limit = self.limit(policy, now);
            let open = self.opened(disk, now)?;
            if open.foreign_line && at_line_start {
                open.size += disk.append(&mut open.file, b"\n")? as u64;
            }
            open.foreign_line = false;
            match cut(open.size, at_line_start, limit, rest) {
                Cut::Append(length) => {
                    let part = rest.get(..length).unwrap_or(rest);
                    let written = disk.append(&mut open.file, part)?;
                    let Some(last) = part.get(..written).and_then(<[u8]>::last) else {
                        return Err(io::ErrorKind::WriteZero.into());
                    };
                    open.size += written as u64;
                    *done += written;
                    self.at_line_start = *last == b'\n';
                }
                Cut::Rotate => self.rotate(disk, policy.keep, now),
            }
        }
        Ok(())
    }

    fn limit(&mut self, policy: LogPolicy, now: Instant) -> u64 {
        if self.held_until.is_some_and(|until| now >= until) {
            self.held_until = None;
        }
        match (policy.max_size_bytes, self.held_until) {
            (0, _) | (_, Some(_)) => NEVER,
            (limit, None) => limit,
        }
    }

    fn opened(&mut self, disk: &D, now: Instant) -> io::Result<&mut Open<D::File>> {
        match &mut self.open {
            // A plain `if let Some(open)` keeps its borrow in the other branch, too.
            Some(_) => {}
            none @ None => {
                let Opened {
                    file,
                    size,
                    ends_line,
                    identity,
                } = disk.open(&self.path)?;
                *none = Some(Open {
                    file,
                    identity,
                    size,
                    looked: now,
                    foreign_line: !ends_line,
                });
            }
        }
        self.open
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Closes the file if its name is another's by now, or nobody's; learns its size if somebody cut it.
    fn look(&mut self, disk: &D, now: Instant) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        if now.duration_since(open.looked) < LOOK_EVERY {
            return Ok(());
        }
        open.looked = now;
        match disk.look(&self.path)? {
            Some((identity, size)) if identity == open.identity => open.size = size,
            Some(_) | None => self.open = None,
        }
        Ok(())
    }

    /// Moves the files on by one. Whatever fails, the names are tried again after [`ROTATE_AGAIN`].
    fn rotate(&mut self, disk: &D, keep: u32, now: Instant) {
        match self.shift(disk, keep) {
            Ok(()) => self.open = None,
            Err(source) => {
                self.held_until = Some(now + ROTATE_AGAIN);
                tracing::warn!(file = %self.path.display(), error = %source, "cannot rotate, the file grows on");
            }
        }
    }

    fn shift(&self, disk: &D, keep: u32) -> io::Result<()> {
        // Those beyond are from a time when more were kept.
        let mut beyond = keep.saturating_add(1);
        while there(disk.remove(&self.numbered(beyond)))? {
            beyond = beyond.saturating_add(1);
        }
        if keep == 0 {
            there(disk.remove(&self.path))?;
            return Ok(());
        }
        // A number that is free ends the chain: what is beyond need not move.
        let mut last = 1;
        while last < keep && disk.look(&self.numbered(last))?.is_some() {
            last += 1;
        }
        // From the oldest on, so that a crash in between overwrites nothing that is to be kept.
        for number in (1..last).rev() {
            there(disk.rename(&self.numbered(number), &self.numbered(number + 1)))?;
        }
        there(disk.rename(&self.path, &self.numbered(1)))?;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        name.into()
    }
}

/// Whether there was a file to act on; that there was none is no error.
fn there(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::RealDisk;
    use proptest::prelude::*;
    use std::os::unix::fs::PermissionsExt as _;

    struct Logs {
        folder: tempfile::TempDir,
        file: LogFile<RealDisk>,
        policy: LogPolicy,
    }

    impl Logs {
        fn new(max_size_bytes: u64, keep: u32) -> Self {
            let folder = tempfile::tempdir().unwrap();
            Logs {
                file: LogFile::new(folder.path(), "a"),
                folder,
                policy: LogPolicy {
                    max_size_bytes,
                    keep,
                },
            }
        }

        fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
            let mut done = 0;
            self.file.append(&RealDisk, self.policy, bytes, &mut done)
        }

        /// The files that are there, oldest first, without what `append` opened but did not need.
        fn files(&self) -> Vec<String> {
            let path = |n: u32| match n {
                0 => self.folder.path().join("a.log"),
                n => self.folder.path().join(format!("a.log.{n}")),
            };
            let numbers = (0..200).rev().map(path).filter(|path| path.exists());
            numbers
                .map(|path| std::fs::read_to_string(path).unwrap())
                .collect()
        }
    }

    #[test]
    fn a_file_is_cut_between_lines() {
        let bytes = b"12345\n789\n";
        assert_eq!(cut(0, true, 10, bytes), Cut::Append(10));
        assert_eq!(cut(1, true, 10, bytes), Cut::Append(6));
        assert_eq!(cut(4, true, 10, bytes), Cut::Append(6));
        assert_eq!(cut(5, true, 10, bytes), Cut::Rotate);
        assert_eq!(cut(10, true, 10, bytes), Cut::Rotate);
        assert_eq!(cut(99, true, 10, bytes), Cut::Rotate);
        // The rest of a line goes where its beginning is.
        assert_eq!(cut(10, false, 10, bytes), Cut::Append(6));
        assert_eq!(cut(10, false, 10, b"no end"), Cut::Append(6));
        // A line too long for any file.
        assert_eq!(cut(0, true, 3, bytes), Cut::Append(6));
        assert_eq!(cut(0, true, NEVER, bytes), Cut::Append(10));
    }

    #[test]
    fn a_file_may_be_filled_to_the_last_byte() {
        let mut logs = Logs::new(10, 2);
        logs.append(b"12345\n789\n").unwrap();
        assert_eq!(logs.files(), ["12345\n789\n"]);
        logs.append(b"x\n").unwrap();
        assert_eq!(logs.files(), ["12345\n789\n", "x\n"]);
        logs.append(b"12345678\ny\n").unwrap();
        assert_eq!(logs.files(), ["x\n", "12345678\n", "y\n"]);
    }

    #[test]
    fn only_so_many_are_kept() {
        let mut logs = Logs::new(2, 2);
        logs.append(b"1\n2\n3\n4\n5\n").unwrap();
        assert_eq!(logs.files(), ["3\n", "4\n", "5\n"]);
        logs.policy.keep = 1;
        logs.append(b"6\n").unwrap();
        assert_eq!(logs.files(), ["5\n", "6\n"]);
        logs.policy.keep = 0;
        logs.append(b"7\n").unwrap();
        assert_eq!(logs.files(), ["7\n"]);
    }

    #[test]
    fn a_file_left_by_others_is_gone_on_with() {
        let mut logs = Logs::new(12, 3);
        let path = logs.folder.path().join("a.log");
        std::fs::write(&path, "half").unwrap();
        logs.append(b"line 1\n").unwrap();
        assert_eq!(logs.files(), ["half\nline 1\n"]);
        logs.append(b"2\n").unwrap();
        assert_eq!(logs.files(), ["half\nline 1\n", "2\n"]);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o644);
    }

    #[test]
    fn a_rotation_that_fails_only_costs_size() {
        let mut logs = Logs::new(4, 1);
        std::fs::create_dir_all(logs.folder.path().join("a.log.1/not empty")).unwrap();
        logs.append(b"abc\ndef\n").unwrap();
        let text = std::fs::read_to_string(logs.folder.path().join("a.log")).unwrap();
        assert_eq!(text, "abc\ndef\n");
    }

    #[test]
    fn what_is_no_file_is_an_error_not_a_wait() {
        let mut logs = Logs::new(0, 1);
        let path = logs.folder.path().join("a.log");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(logs.append(b"x\n").is_err());
        std::fs::remove_file(&path).unwrap();
        logs.append(b"x\n").unwrap();
        assert_eq!(logs.files(), ["x\n"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_files_together_are_what_was_appended(
            texts in prop::collection::vec("[a-c\n]{0,30}", 0..20),
            limit in 1u64..60,
        ) {
            let mut logs = Logs::new(limit, 1_000);
            for text in &texts {
                logs.append(text.as_bytes()).unwrap();
            }
            let files = logs.files();
            prop_assert_eq!(files.concat(), texts.concat());
            for (index, file) in files.iter().enumerate() {
                prop_assert!(index + 1 == files.len() || file.ends_with('\n'));
                let last = file.split_inclusive('\n').next_back().map_or(0, str::len);
                prop_assert!(file.len() as u64 <= limit || (file.len() - last) as u64 <= limit);
            }
        }
    }
}
