//! What is kept on disk (spec §12): run counters, what was set by hand, wishes and how runs ended, in
//! `{stores}/launcher/journal`; the runs that live, in `{run}/private/records`.
//!
//! Invariants:
//! - a caller never waits for the disk, except who asks whether something is there;
//! - what is only shown is written together, once a second at most, so that plugins that crash all the time do not wear
//!   out the disk;
//! - no fsync stands between the start of the launcher and its first exec;
//! - a file that is damaged, cut off or of a newer launcher costs what it cannot say any more, never a start: it is set
//!   aside and named, and the configuration still says which plugins there are.

mod journal;
mod kept;
mod records;
#[cfg(test)]
mod tests;
mod writer;

pub use journal::{JournalError, Notice, set_aside};
pub use records::LiveRun;

use crate::ports::{BoxFuture, Memory};
use kept::Kept;
use records::{Live, Record};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use supervision::hand::ByHand;
use supervision::past::{End, Past, PastWish};
use supervision::{PluginId, Run};
use thiserror::Error;
use tokio::sync::oneshot;
use writer::Writer;

/// How long run numbers gather before they are written together.
const GATHER: Duration = Duration::from_millis(20);
/// The same for records of live runs. A run whose record is not on disk yet is known by its mark and its FIFO.
const GATHER_LIVE: Duration = Duration::from_millis(5);

/// Why there is no memory at all.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// Its folder cannot be made.
    #[error("cannot make the folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The thread that writes cannot be started.
    #[error("cannot start the thread that writes {path}")]
    Thread {
        /// What it was to write.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Run counters and what was set by hand.
pub struct DiskMemory {
    writer: Writer<Kept>,
}

impl DiskMemory {
    /// Opens the memory in `folder` (`{stores}/launcher`), which is made when it is missing. The notices say what of an
    /// earlier one could not be read.
    ///
    /// # Errors
    /// When the folder or the thread cannot be made; never for what is in the folder.
    pub fn open(folder: &Path) -> Result<(Self, Vec<Notice>), MemoryError> {
        make(folder).map_err(|source| MemoryError::Folder {
            path: folder.to_owned(),
            source,
        })?;
        let (writer, notices) = open(folder.join("journal"), GATHER)?;
        Ok((DiskMemory { writer }, notices))
    }

    /// Completes when everything noted so far is on disk, or says why it is not.
    pub fn flush(&self) -> BoxFuture<Result<(), String>> {
        answer_of(|waiter| self.writer.flush(waiter))
    }
}

impl Memory for DiskMemory {
    fn last_run(&self, id: &PluginId) -> Run {
        self.writer
            .look(|book| book.runs.get(id).copied().unwrap_or_default())
    }

    fn hand(&self, id: &PluginId) -> Option<ByHand> {
        self.writer.look(|book| book.hands.get(id).cloned())
    }

    fn hands(&self) -> Vec<PluginId> {
        self.writer
            .look(|book| book.hands.keys().cloned().collect())
    }

    fn past(&self, id: &PluginId) -> Past {
        self.writer
            .look(|book| book.pasts.get(id).cloned().unwrap_or_default())
    }

    fn keep_wish(&self, id: &PluginId, wish: PastWish) {
        self.writer.put(Kept::wish(id, wish), None);
    }

    fn keep_end(&self, id: &PluginId, end: End) {
        self.writer.put(Kept::end(id, end), None);
    }

    fn keep_run(&self, id: &PluginId, run: Run) {
        let id = id.clone();
        self.writer.put(Kept::Run { id, run: run.0 }, None);
    }

    fn keep_hand(&self, id: &PluginId, hand: Option<ByHand>) -> BoxFuture<Result<(), String>> {
        let record = Kept::hand(id, hand);
        answer_of(|waiter| self.writer.put(record, Some(waiter)))
    }
}

/// Makes a folder that is missing. Nobody else may write in it whatever the umask is: who may could put another journal
/// in the place of ours.
fn make(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// The runs that live, for a successor's sweep.
pub struct LiveRuns {
    writer: Writer<Live>,
}

impl LiveRuns {
    /// Opens the records in `folder` (`{run}/private`), which must be there. What it says at first is what a
    /// predecessor left ([`LiveRuns::all`]); the notices say what of it could not be read.
    ///
    /// # Errors
    /// When the thread cannot be started; never for what is in the folder.
    pub fn open(folder: &Path) -> Result<(Self, Vec<Notice>), MemoryError> {
        let (writer, notices) = open(folder.join("records"), GATHER_LIVE)?;
        Ok((LiveRuns { writer }, notices))
    }

    /// What [`LiveRuns::open`] would find in `folder`, without opening or changing anything. Blocks.
    #[must_use]
    pub fn peek(folder: &Path) -> Vec<LiveRun> {
        let mut book = BTreeMap::new();
        for record in journal::peek::<Live>(&folder.join("records")) {
            record.enter(&mut book);
        }
        book.into_values().collect()
    }

    /// The runs that live as far as is known, sorted by marker, each once.
    #[must_use]
    pub fn all(&self) -> Vec<LiveRun> {
        self.writer.look(|book| book.values().cloned().collect())
    }

    /// Notes that a run began; soon on disk.
    pub fn began(&self, run: LiveRun) {
        self.writer.put(Live::Began(run), None);
    }

    /// Notes that nothing of a run lives any more; soon on disk.
    pub fn ended(&self, marker: &str) {
        let marker = marker.to_owned();
        self.writer.put(Live::Ended { marker }, None);
    }

    /// Completes when everything noted so far is in the file, or says why it is not; it need not be on disk, as no record
    /// outlives its boot.
    pub fn flush(&self) -> BoxFuture<Result<(), String>> {
        answer_of(|waiter| self.writer.flush(waiter))
    }
}

fn open<R: Record>(
    path: PathBuf,
    gather: Duration,
) -> Result<(Writer<R>, Vec<Notice>), MemoryError> {
    if let Some(folder) = path.parent() {
        // A launcher that was killed while it wrote one anew has left half of it.
        let _ = creds::atomic::sweep(folder, SystemTime::now(), Duration::ZERO);
    }
    Writer::open(path.clone(), gather).map_err(|source| MemoryError::Thread { path, source })
}

/// Asks at once, and completes with the answer.
fn answer_of(ask: impl FnOnce(writer::Waiter)) -> BoxFuture<Result<(), String>> {
    let (waiter, answer) = oneshot::channel();
    ask(waiter);
    Box::pin(async move {
        answer
            .await
            .unwrap_or_else(|_| Err("the thread that writes is gone".to_owned()))
    })
}
