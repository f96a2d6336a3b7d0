//! A journal on disk: records as lines, appended, rewritten as a whole when most of it is history.
//!
//! Invariants:
//! - a record is one line with version and checksum; a file cut at any byte loses at most its last record;
//! - what cannot be read is set aside under a name of its own, never overwritten and never in the way;
//! - reading and writing of lines ([`line`], [`read`]) is pure, everything that touches the disk is in [`Journal`].

use super::records::Record;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The newest form of records that is known; higher ones are of newer launchers. A record is written in the oldest form
/// that has it, so that an older launcher still reads what it knows.
const VERSION: u64 = 2;
/// A journal is never read beyond this many bytes; it is rewritten long before.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// A journal smaller than this is never rewritten for its size.
const SMALL_BYTES: u64 = 64 * 1024;
/// It is rewritten when it is this many times as long as what it says.
const WORDY: u64 = 8;

/// Why something kept on disk could not be read or written.
#[derive(Debug, Error)]
pub enum JournalError {
    /// A write, or the flush to disk after it, failed.
    #[error("cannot write {path}")]
    Write {
        /// The journal.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It could not be replaced.
    #[error(transparent)]
    Replace(#[from] creds::atomic::AtomicError),
    /// Writing it panicked; a mistake of this program.
    #[error("{path} could not be written by a mistake of the launcher")]
    Broken {
        /// The journal.
        path: PathBuf,
    },
    /// A record has no form on disk; a mistake of this program.
    #[error("cannot encode a record for {path}")]
    Encode {
        /// The journal.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// The records of a journal as it is now; nothing is changed, and what cannot be read is left out. Blocks.
pub(super) fn peek<R: DeserializeOwned>(path: &Path) -> Vec<R> {
    match read_bytes(path) {
        Ok(Some(bytes)) => read(&bytes).records,
        Ok(None) | Err(_) => Vec::new(),
    }
}

/// What was found when a journal was opened, beyond its records; for the log, and for whoever asks about `degraded`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Notice {
    /// The last record was not written to its end; it was dropped.
    #[error("{path}: the last record was cut off ({bytes} bytes) and is dropped")]
    Torn {
        /// The journal.
        path: PathBuf,
        /// How much was dropped.
        bytes: usize,
    },
    /// The file was set aside; what could be read of it is kept.
    #[error("{path} {why}; it was set aside as {aside}, {kept} records of it are kept")]
    SetAside {
        /// The journal.
        path: PathBuf,
        /// Where it is now.
        aside: PathBuf,
        /// What is wrong with it.
        why: String,
        /// How many records could be read.
        kept: usize,
    },
    /// The file was set aside; nothing of it can be used.
    #[error("{path} {why}; it was set aside as {aside}")]
    Whole {
        /// The file.
        path: PathBuf,
        /// Where it is now.
        aside: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It can neither be read nor set aside.
    #[error("{path} {why}, and cannot be set aside: {cause}; move it away by hand")]
    InTheWay {
        /// The journal.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// Why it cannot be moved.
        cause: String,
    },
}

/// What is wrong with a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Damage {
    /// This line, from 1, is not what was written.
    Corrupt(usize),
    /// This line, from 1, is of a newer launcher.
    Newer(usize, u64),
}

impl Damage {
    fn why(&self) -> String {
        match self {
            Damage::Corrupt(line) => format!("is damaged in line {line}"),
            Damage::Newer(line, version) => {
                format!(
                    "is of a newer launcher (form {version} in line {line}, known is {VERSION})"
                )
            }
        }
    }
}

/// What a journal's bytes say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading<R> {
    /// All records that can be read, in order.
    pub(super) records: Vec<R>,
    /// Bytes of a last record that was not written to its end; 0 = none.
    pub(super) torn: usize,
    /// The first thing that is wrong.
    pub(super) damage: Option<Damage>,
}

/// The line of a record, with its end.
pub(super) fn line<R: Record>(record: &R) -> Result<String, serde_json::Error> {
    let body = serde_json::to_string(record)?;
    let form = record.form();
    let crc = crc32fast::hash(body.as_bytes());
    Ok(format!(
        "{{\"v\":{form},\"crc\":\"{crc:08x}\",\"rec\":{body}}}\n"
    ))
}

/// Reads a journal's bytes; never fails, but says what could not be read.
pub(super) fn read<R: DeserializeOwned>(bytes: &[u8]) -> Reading<R> {
    let whole = bytes
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |at| at + 1);
    let mut reading = Reading {
        records: Vec::new(),
        torn: bytes.len() - whole,
        damage: None,
    };
    for (index, text) in bytes[..whole].split_inclusive(|b| *b == b'\n').enumerate() {
        match read_line(text) {
            Ok(record) => reading.records.push(record),
            Err(version) => {
                let damage = match version {
                    Some(version) => Damage::Newer(index + 1, version),
                    None => Damage::Corrupt(index + 1),
                };
                reading.damage.get_or_insert(damage);
            }
        }
    }
    reading
}

/// The record of a line; else its version when that is a newer one.
fn read_line<R: DeserializeOwned>(text: &[u8]) -> Result<R, Option<u64>> {
    let text = std::str::from_utf8(text).map_err(|_| None)?;
    let text = text.strip_prefix("{\"v\":").ok_or(None)?;
    let (version, text) = text.split_once(',').ok_or(None)?;
    let version: u64 = version.parse().map_err(|_| None)?;
    if version > VERSION {
        return Err(Some(version));
    }
    let text = text.strip_prefix("\"crc\":\"").ok_or(None)?;
    let (crc, text) = text.split_once('"').ok_or(None)?;
    let crc = u32::from_str_radix(crc, 16).map_err(|_| None)?;
    let body = text
        .strip_prefix(",\"rec\":")
        .and_then(|text| text.strip_suffix("}\n"))
        .ok_or(None)?;
    if crc32fast::hash(body.as_bytes()) != crc {
        return Err(None);
    }
    serde_json::from_str(body).map_err(|_| None)
}

/// The file of a journal. All its functions block.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// Open for appending; none until the first write and after a failed one.
    file: Option<File>,
    len: u64,
    /// How long it was when it was last rewritten.
    compact_len: u64,
    /// It does not end with a whole record, or lacks some: the next write replaces it.
    rewrite_due: bool,
    /// Its name may not be on disk yet.
    name_unsynced: bool,
    /// What it says may not be on disk yet.
    unsynced: bool,
}

impl Journal {
    /// Reads the journal at `path`; a missing one is empty. What is damaged is set aside.
    pub(super) fn open<R: DeserializeOwned>(path: PathBuf) -> (Journal, Vec<R>, Vec<Notice>) {
        let mut journal = Journal {
            path,
            file: None,
            len: 0,
            compact_len: 0,
            rewrite_due: true,
            // Its writer may have been killed.
            name_unsynced: true,
            unsynced: true,
        };
        let mut notices = Vec::new();
        let bytes = match read_bytes(&journal.path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                journal.rewrite_due = false;
                journal.unsynced = false;
                return (journal, Vec::new(), notices);
            }
            Err(source) => {
                let why = format!("cannot be read: {source}");
                notices.push(set_aside(&journal.path, why, Some(0)));
                return (journal, Vec::new(), notices);
            }
        };
        let reading = read(&bytes);
        let too_long = bytes.len() as u64 >= MAX_BYTES;
        let why = match &reading.damage {
            Some(damage) => Some(damage.why()),
            None => too_long.then(|| format!("is longer than {MAX_BYTES} bytes")),
        };
        if let Some(why) = why {
            notices.push(set_aside(&journal.path, why, Some(reading.records.len())));
        } else if reading.torn > 0 {
            notices.push(Notice::Torn {
                path: journal.path.clone(),
                bytes: reading.torn,
            });
        } else {
            journal.rewrite_due = false;
            journal.len = bytes.len() as u64;
        }
        (journal, reading.records, notices)
    }

    /// Whether the next write should be a [`Journal::rewrite`].
    pub(super) fn wants_rewrite(&self) -> bool {
        let long = SMALL_BYTES.max(self.compact_len.saturating_mul(WORDY));
        self.rewrite_due || self.len > long.min(MAX_BYTES / 2)
    }

    /// Whether something that was to be written is not on disk.
    pub(super) fn is_behind(&self) -> bool {
        self.rewrite_due
    }

    /// A write panicked, so whatever may be in the file now is replaced by the next one.
    pub(super) fn broken(&mut self) -> JournalError {
        self.file = None;
        self.rewrite_due = true;
        JournalError::Broken {
            path: self.path.clone(),
        }
    }

    /// Appends records in one write; `durable` = they and those before are on disk when it returns.
    pub(super) fn append<R: Record>(
        &mut self,
        records: &[R],
        durable: bool,
    ) -> Result<(), JournalError> {
        if records.is_empty() && !(durable && self.unsynced) {
            return Ok(());
        }
        let text = self.encode(records)?;
        let written = self.try_append(text.as_bytes(), durable);
        if written.is_err() {
            // Half a record may be there now. It is cut off if that can be done, and the file is replaced in any case.
            if let Some(file) = &self.file {
                let _ = file.set_len(self.len);
            }
            self.file = None;
            self.rewrite_due = true;
        } else {
            self.len = self.len.saturating_add(text.len() as u64);
        }
        written.map_err(|source| self.write_error(source))
    }

    /// Replaces the journal by these records, whole or not at all; on disk when it returns.
    pub(super) fn rewrite<R: Record>(&mut self, records: &[R]) -> Result<(), JournalError> {
        let text = self.encode(records)?;
        self.file = None;
        let written = creds::atomic::write(&self.path, text.as_bytes(), 0o600);
        self.rewrite_due = written.is_err();
        if written.is_ok() {
            self.name_unsynced = false;
            self.unsynced = false;
            self.len = text.len() as u64;
            self.compact_len = self.len;
        }
        written.map_err(JournalError::Replace)
    }

    fn try_append(&mut self, bytes: &[u8], durable: bool) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(open_to_append(&self.path)?),
        };
        file.write_all(bytes)?;
        self.unsynced = true;
        if durable {
            file.sync_data()?;
            self.unsynced = false;
            if self.name_unsynced {
                File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
                self.name_unsynced = false;
            }
        }
        Ok(())
    }

    fn encode<R: Record>(&self, records: &[R]) -> Result<String, JournalError> {
        let mut text = String::with_capacity(records.len() * 96);
        for record in records {
            text.push_str(&line(record).map_err(|source| JournalError::Encode {
                path: self.path.clone(),
                source,
            })?);
        }
        Ok(text)
    }

    fn write_error(&self, source: io::Error) -> JournalError {
        JournalError::Write {
            path: self.path.clone(),
            source,
        }
    }
}

fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
}

fn read_bytes(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Moves a damaged file to the first free name `{path}.damaged-{n}`; `kept` = how many of its records could be read, where
/// it has such. Blocks.
#[must_use]
pub fn set_aside(path: &Path, why: String, kept: Option<usize>) -> Notice {
    let name_of = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{n}"));
        PathBuf::from(name)
    };
    let aside = (1..10_000)
        .map(name_of)
        .find(|aside| aside.symlink_metadata().is_err())
        .unwrap_or_else(|| name_of(10_000));
    let path = path.to_owned();
    match std::fs::rename(&path, &aside) {
        Ok(()) => match kept {
            Some(kept) => Notice::SetAside {
                path,
                aside,
                why,
                kept,
            },
            None => Notice::Whole { path, aside, why },
        },
        Err(cause) => Notice::InTheWay {
            path,
            why,
            cause: cause.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::records::Live;
    use super::*;

    fn ended() -> Live {
        Live::Ended {
            marker: "a.1.0".to_owned(),
        }
    }

    #[test]
    fn who_waits_has_on_disk_what_was_written_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (mut journal, _, _) = Journal::open::<Live>(path.clone());
        journal.append(&[ended()], false).unwrap();
        assert!(journal.unsynced && journal.name_unsynced);
        journal.append::<Live>(&[], true).unwrap();
        assert!(!journal.unsynced && !journal.name_unsynced);

        // By somebody who may have been killed, too.
        let (mut journal, records, _) = Journal::open::<Live>(path.clone());
        assert_eq!(records, [ended()]);
        journal.append::<Live>(&[], true).unwrap();
        assert!(!journal.unsynced && !journal.name_unsynced);
        assert_eq!(
            std::fs::read(&path).unwrap(),
            line(&ended()).unwrap().into_bytes()
        );

        // What is there already costs nothing.
        journal.file = None;
        std::fs::remove_file(&path).unwrap();
        journal.append::<Live>(&[], true).unwrap();
        assert!(!path.exists());
    }
}
