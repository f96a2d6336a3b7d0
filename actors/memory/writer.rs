//! The thread that writes a journal, and the queue before it.
//!
//! Invariants:
//! - putting a record in never blocks longer than another one's putting in or taking out;
//! - the queue holds at most one record of a key, so it is bounded however long the disk hangs;
//! - records that may wait are written once a [`PATIENCE`] at most; what was written without anybody waiting for it is
//!   forced to disk a [`PATIENCE`] later; there is no wake-up when there is nothing to do;
//! - what holds at once is in the book before [`Writer::put`] returns; the rest is entered once it is on disk.

use super::journal::{Journal, JournalError, Notice};
use super::records::Record;
use crate::words::in_words;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long after a failed write it is tried again, when nothing new comes before.
const RETRY: Duration = Duration::from_secs(10);
/// How long records that may wait do so at most, and what is written until it is forced to disk.
const PATIENCE: Duration = Duration::from_secs(1);
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
    /// To be written soon.
    unwritten: BTreeMap<R::Key, R>,
    /// To be written when it is time.
    patient: BTreeMap<R::Key, R>,
    waiters: Vec<Waiter>,
    closed: bool,
}

/// What the thread is to do next.
enum Work<R> {
    Write(Vec<R>, Vec<Waiter>),
    /// A write failed a while ago, or nobody waited for it: it is done again for the disk.
    Force,
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
                patient: BTreeMap::new(),
                waiters: Vec::new(),
                closed: false,
            }),
            wake: Condvar::new(),
            book: Mutex::new(book),
            linger,
        });
        let thread = shared.clone();
        let builder = std::thread::Builder::new()
            .name(format!("keep-{name}"))
            .stack_size(STACK_BYTES);
        os::without_signals(|| builder.spawn(move || thread.run(journal)))?;
        Ok((Writer { shared }, notices))
    }

    /// Puts a record in; with a waiter it is on disk, or has failed, when that is told.
    pub(super) fn put(&self, record: R, waiter: Option<Waiter>) {
        if record.holds_at_once() {
            record.enter(&mut lock(&self.shared.book));
        }
        let mut queue = lock(&self.shared.queue);
        let may_wait = record.may_wait();
        let pile = if may_wait {
            &mut queue.patient
        } else {
            &mut queue.unwritten
        };
        // A thread that lets records gather is not to be woken by each of them.
        let news = pile.is_empty() || waiter.is_some();
        let key = record.key();
        let record = match pile.remove(&key) {
            Some(before) => record.after(&before),
            None => Some(record),
        };
        if let Some(record) = record {
            pile.insert(key, record);
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
        let mut pace = Pace::default();
        loop {
            let (records, waiters) = match self.next(&mut pace) {
                Work::Write(records, waiters) => (records, waiters),
                Work::Force => (Vec::new(), Vec::new()),
                Work::End => return,
            };
            let durable = records.is_empty() || !waiters.is_empty();
            // A panic, which its hook reported, costs these records at most: without this thread nothing would be kept any
            // more, and whoever waits for it would wait for ever.
            let written = catch_unwind(AssertUnwindSafe(|| {
                self.write(&mut journal, &records, durable)
            }))
            .unwrap_or_else(|_| Err(journal.broken()));
            let answer = match &written {
                Ok(()) => Ok(()),
                Err(error) => Err(in_words(error)),
            };
            pace.wrote(Instant::now(), R::OUTLIVES_BOOT && !durable, &written);
            pace.failed = self.report(written, pace.failed);
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
    fn next(&self, pace: &mut Pace) -> Work<R> {
        let mut queue = lock(&self.queue);
        loop {
            let now = Instant::now();
            let patient = !queue.patient.is_empty();
            if !queue.unwritten.is_empty() || !queue.waiters.is_empty() || (queue.closed && patient)
            {
                break;
            }
            if queue.closed {
                return Work::End;
            }
            match pace.due(now, patient) {
                Due::Never => {
                    queue = self
                        .wake
                        .wait(queue)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Due::In(time) => {
                    let woken = self.wake.wait_timeout(queue, time);
                    queue = woken.unwrap_or_else(PoisonError::into_inner).0;
                }
                Due::Patient => break,
                Due::Force => return Work::Force,
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
        let now = Instant::now();
        let mut records: Vec<R> = std::mem::take(&mut queue.unwritten).into_values().collect();
        if pace.patient_may(now) || !queue.waiters.is_empty() || queue.closed {
            pace.patient_wrote(now, !queue.patient.is_empty());
            records.extend(std::mem::take(&mut queue.patient).into_values());
        }
        Work::Write(records, std::mem::take(&mut queue.waiters))
    }
}

/// When what is to be done. Pure.
#[derive(Debug, Default, Clone, Copy)]
struct Pace {
    /// When records that may wait were written last.
    patient_at: Option<Instant>,
    /// Since when something is written that may not be on disk.
    unforced_since: Option<Instant>,
    /// When a write failed, until one succeeds.
    failed_at: Option<Instant>,
    /// Whether the last one failed, as far as that was reported.
    failed: bool,
}

/// What is due when nothing is in a hurry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// Records that may wait.
    Patient,
    /// What was written, on disk; or what failed, again.
    Force,
    /// Nothing for so long.
    In(Duration),
    /// Nothing.
    Never,
}

impl Pace {
    fn wrote(&mut self, now: Instant, unforced: bool, written: &Result<(), JournalError>) {
        self.failed_at = written.is_err().then_some(now);
        self.unforced_since = match written {
            Ok(()) if unforced => self.unforced_since.or(Some(now)),
            Ok(()) | Err(_) => None,
        };
    }

    fn patient_wrote(&mut self, now: Instant, any: bool) {
        if any {
            self.patient_at = Some(now);
        }
    }

    fn patient_may(&self, now: Instant) -> bool {
        left_of(PATIENCE, self.patient_at, now).is_zero()
    }

    /// `patient` = there are records that may wait.
    fn due(&self, now: Instant, patient: bool) -> Due {
        let retry = self.failed_at.map(|at| left_of(RETRY, Some(at), now));
        let force = self
            .unforced_since
            .map(|at| left_of(PATIENCE, Some(at), now));
        let write = patient.then(|| left_of(PATIENCE, self.patient_at, now));
        if write.is_some_and(|left| left.is_zero()) {
            return Due::Patient;
        }
        match [retry, force, write].into_iter().flatten().min() {
            Some(left) if left.is_zero() => Due::Force,
            Some(left) => Due::In(left),
            None => Due::Never,
        }
    }
}

/// How much of a time since a moment is left.
fn left_of(time: Duration, since: Option<Instant>, now: Instant) -> Duration {
    since.map_or(Duration::ZERO, |at| {
        time.saturating_sub(now.saturating_duration_since(at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn what_may_wait_is_written_once_a_second_and_nothing_wakes_for_nothing() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pace = Pace::default();
        assert_eq!(pace.due(start, false), Due::Never);
        assert_eq!(pace.due(start, true), Due::Patient, "the first at once");
        pace.patient_wrote(at(0), true);
        pace.wrote(at(0), true, &Ok(()));
        assert_eq!(pace.due(at(400), true), Due::In(Duration::from_millis(600)));
        assert!(!pace.patient_may(at(400)) && pace.patient_may(at(1000)));
        assert_eq!(pace.due(at(1000), true), Due::Patient);
        assert_eq!(pace.due(at(1000), false), Due::Force, "for the disk");
        pace.wrote(at(1000), false, &Ok(()));
        assert_eq!(pace.due(at(1000), false), Due::Never);
        // More and more writes do not put the disk off.
        pace.wrote(at(2000), true, &Ok(()));
        pace.wrote(at(2900), true, &Ok(()));
        assert_eq!(pace.due(at(3000), false), Due::Force);
    }

    #[test]
    fn what_failed_is_tried_again_after_a_while() {
        let start = Instant::now();
        let error = || JournalError::Write {
            path: PathBuf::new(),
            source: std::io::Error::other("full"),
        };
        let mut pace = Pace::default();
        pace.wrote(start, true, &Err(error()));
        assert_eq!(pace.due(start, false), Due::In(RETRY));
        assert_eq!(pace.due(start + RETRY, false), Due::Force);
        pace.wrote(start + RETRY, true, &Ok(()));
        assert_eq!(pace.due(start + RETRY, false), Due::In(PATIENCE));
    }

    /// Fails to be written once, when that is asked for.
    #[derive(Clone, serde::Deserialize)]
    struct Fuse(u32);

    static BURNS: AtomicBool = AtomicBool::new(false);

    impl serde::Serialize for Fuse {
        fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            assert!(!BURNS.swap(false, Ordering::SeqCst), "on purpose");
            to.serialize_u32(self.0)
        }
    }

    impl Record for Fuse {
        const OUTLIVES_BOOT: bool = true;
        type Key = u32;
        type Book = Vec<u32>;

        fn key(&self) -> u32 {
            self.0
        }

        fn enter(&self, book: &mut Vec<u32>) {
            book.push(self.0);
        }

        fn all(book: &Vec<u32>) -> Vec<Self> {
            book.iter().copied().map(Fuse).collect()
        }

        fn holds_at_once(&self) -> bool {
            false
        }
    }

    #[test]
    fn a_panic_in_the_thread_that_writes_is_told_to_who_waits_and_the_rest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let (writer, _) = Writer::<Fuse>::open(path.clone(), Duration::ZERO).unwrap();
        let keep = |number: u32| {
            let (waiter, answer) = tokio::sync::oneshot::channel();
            writer.put(Fuse(number), Some(waiter));
            answer.blocking_recv().unwrap()
        };
        keep(1).unwrap();
        BURNS.store(true, Ordering::SeqCst);
        let error = keep(2).unwrap_err();
        assert!(error.ends_with("by a mistake of the launcher"), "{error}");
        keep(3).unwrap();
        assert_eq!(writer.look(Vec::clone), [1, 3]);
        drop(writer);
        let (again, notices) = Writer::<Fuse>::open(path, Duration::ZERO).unwrap();
        assert_eq!((again.look(Vec::clone), notices), (vec![1, 3], Vec::new()));
    }
}
