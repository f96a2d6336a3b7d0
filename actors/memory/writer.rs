//! The thread that writes a journal, and the queue before it.
//!
//! Invariants:
//! - putting a record in never blocks longer than another one's putting in or taking out;
//! - the queue holds at most one record of a key, so it is bounded however long the disk hangs;
//! - what holds at once is in the book before [`Writer::put`] returns; the rest is entered once it is on disk.

use super::journal::{Journal, JournalError, Notice};
use super::records::Record;
use crate::words::in_words;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long after a failed write it is tried again, when nothing new comes before.
const RETRY: Duration = Duration::from_secs(10);
/// Enough for appending lines.
const STACK_BYTES: usize = 256 * 1024;

/// Gets told when everything put in before is on disk, or why it is not.
pub(super) type Waiter = oneshot::Sender<Result<(), String>>;

/// A journal with its thread.
pub(super) struct Writer<R: Record> {
    shared: Arc<Shared<R>>,
}

struct Shared<R: Record> {
    queue: Mutex<Queue<R>>,
    wake: Condvar,
    book: Mutex<R::Book>,
    /// How long records that nobody waits for may gather before they are written together.
    linger: Duration,
}

struct Queue<R: Record> {
    unwritten: BTreeMap<R::Key, R>,
    waiters: Vec<Waiter>,
    closed: bool,
}

/// What the thread is to do next.
enum Work<R> {
    Write(Vec<R>, Vec<Waiter>),
    /// A write failed a while ago.
    Retry,
    End,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Books and queues are changed in whole steps, so they are whole even when a holder panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R: Record> Writer<R> {
    /// Reads the journal at `path` and starts its thread. Its folder must be there by the first write.
    pub(super) fn open(path: PathBuf, linger: Duration) -> std::io::Result<(Self, Vec<Notice>)> {
        let name = path
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let (journal, records, notices) = Journal::open::<R>(path);
        let mut book = R::Book::default();
        for record in &records {
            record.enter(&mut book);
        }
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                unwritten: BTreeMap::new(),
                waiters: Vec::new(),
                closed: false,
            }),
            wake: Condvar::new(),
            book: Mutex::new(book),
            linger,
        });
        let thread = shared.clone();
        std::thread::Builder::new()
            .name(format!("keep-{name}"))
            .stack_size(STACK_BYTES)
            .spawn(move || thread.run(journal))?;
        Ok((Writer { shared }, notices))
    }

    /// Puts a record in; with a waiter it is on disk, or has failed, when that is told.
    pub(super) fn put(&self, record: R, waiter: Option<Waiter>) {
        if record.holds_at_once() {
            record.enter(&mut lock(&self.shared.book));
        }
        let mut queue = lock(&self.shared.queue);
        // A thread that lets records gather is not to be woken by each of them.
        let news = queue.unwritten.is_empty() || waiter.is_some();
        let key = record.key();
        let record = match queue.unwritten.remove(&key) {
            Some(before) => record.after(&before),
            None => Some(record),
        };
        if let Some(record) = record {
            queue.unwritten.insert(key, record);
        }
        queue.waiters.extend(waiter);
        drop(queue);
        if news {
            self.shared.wake.notify_all();
        }
    }

    /// Has `waiter` told when everything put in so far is on disk, or why it is not.
    pub(super) fn flush(&self, waiter: Waiter) {
        lock(&self.shared.queue).waiters.push(waiter);
        self.shared.wake.notify_all();
    }

    /// Looks at what the journal says.
    pub(super) fn look<T>(&self, look: impl FnOnce(&R::Book) -> T) -> T {
        look(&lock(&self.shared.book))
    }
}

impl<R: Record> Drop for Writer<R> {
    /// What is in the queue is still written, by the thread, which then ends.
    fn drop(&mut self) {
        lock(&self.shared.queue).closed = true;
        self.shared.wake.notify_all();
    }
}

impl<R: Record> Shared<R> {
    fn run(&self, mut journal: Journal) {
        // A damaged or torn journal is repaired at once: a second fault must not meet the first.
        if journal.is_behind() && !R::all(&lock(&self.book)).is_empty() {
            self.report(self.rewrite(&mut journal, &[]), false);
        }
        let mut failed = false;
        loop {
            let (records, waiters) = match self.next(failed) {
                Work::Write(records, waiters) => (records, waiters),
                Work::Retry => (Vec::new(), Vec::new()),
                Work::End => return,
            };
            let written = self.write(&mut journal, &records, !waiters.is_empty());
            let answer = match &written {
                Ok(()) => Ok(()),
                Err(error) => Err(in_words(error)),
            };
            failed = self.report(written, failed);
            for waiter in waiters {
                // Who does not wait any more needs no answer.
                let _ = waiter.send(answer.clone());
            }
        }
    }

    /// Writes records; those that do not hold already are entered when they are on disk.
    fn write(
        &self,
        journal: &mut Journal,
        records: &[R],
        durable: bool,
    ) -> Result<(), JournalError> {
        if journal.wants_rewrite() {
            self.rewrite(journal, records)?;
        } else {
            journal.append(records, durable && R::OUTLIVES_BOOT)?;
        }
        let mut book = lock(&self.book);
        for record in records.iter().filter(|record| !record.holds_at_once()) {
            record.enter(&mut book);
        }
        Ok(())
    }

    fn rewrite(&self, journal: &mut Journal, records: &[R]) -> Result<(), JournalError> {
        let mut all = R::all(&lock(&self.book));
        all.extend(
            records
                .iter()
                .filter(|record| !record.holds_at_once())
                .cloned(),
        );
        journal.rewrite(&all)
    }

    /// Logs the first failure of a row and its end; returns whether this was one.
    fn report(&self, written: Result<(), JournalError>, failed_before: bool) -> bool {
        match (written, failed_before) {
            (Ok(()), false) => false,
            (Ok(()), true) => {
                tracing::info!("what could not be kept on disk is there now");
                false
            }
            (Err(error), false) => {
                tracing::warn!("{}; it is tried again", in_words(&error));
                true
            }
            (Err(_), true) => true,
        }
    }

    /// Waits for work. Records nobody waits for gather for a moment.
    fn next(&self, failed: bool) -> Work<R> {
        let mut queue = lock(&self.queue);
        while queue.unwritten.is_empty() && queue.waiters.is_empty() {
            if queue.closed {
                return Work::End;
            }
            if failed {
                let (woken, waited) = self
                    .wake
                    .wait_timeout(queue, RETRY)
                    .unwrap_or_else(PoisonError::into_inner);
                queue = woken;
                if waited.timed_out() {
                    return Work::Retry;
                }
            } else {
                queue = self
                    .wake
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
        if !self.linger.is_zero() {
            let gathering = |queue: &mut Queue<R>| queue.waiters.is_empty() && !queue.closed;
            let (woken, _) = self
                .wake
                .wait_timeout_while(queue, self.linger, gathering)
                .unwrap_or_else(PoisonError::into_inner);
            queue = woken;
        }
        let records = std::mem::take(&mut queue.unwritten).into_values().collect();
        Work::Write(records, std::mem::take(&mut queue.waiters))
    }
}
