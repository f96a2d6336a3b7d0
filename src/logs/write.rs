//! The write thread: takes what the feeds hold to their files.
//!
//! Invariants:
//! - only this thread touches log files; while it hangs, feeds fill up, and nothing else happens;
//! - an error stops one file, for a while that doubles up to [`LONGEST_RETRY`]; what could not be written is written first
//!   when it goes on, from the byte on at which it stopped;
//! - files are opened by their first byte and closed after their last one.

use crate::disk::Disk;
use crate::feed::{Chunk, Feed, Pool, Taken};
use crate::file::LogFile;
use crate::plane::Registry;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use supervision::policy::LogPolicy;

/// How long what comes first waits for company: a thread that is woken for every line costs more than the line.
const GATHER: Duration = Duration::from_millis(2);

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// Feeds that have something to write, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<InboxState>,
    news: Condvar,
    /// The thread's id for the kernel; 0 before it runs.
    writer: AtomicI32,
}

#[derive(Debug, Default)]
struct InboxState {
    ready: VecDeque<Arc<Feed>>,
    /// The thread waits; else it looks here by itself before it does.
    waiting: bool,
    /// It lets more come before it begins.
    gathering: bool,
    ending: Ending,
}

/// How long the thread has still to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Ending {
    /// For ever.
    #[default]
    No,
    /// Until all is written.
    Soon,
    /// No longer.
    Now,
}

/// What the thread does next.
enum Next {
    Write(Arc<Feed>),
    Retry,
    End { all_written: bool },
}

impl Inbox {
    pub(crate) fn post(&self, feed: Arc<Feed>) {
        let mut state = self.lock();
        state.ready.push_back(feed);
        if std::mem::take(&mut state.waiting) {
            drop(state);
            self.news.notify_one();
        }
    }

    /// Much has come: it is time to write.
    pub(crate) fn hurry(&self) {
        if std::mem::take(&mut self.lock().gathering) {
            self.news.notify_one();
        }
    }

    /// Whether the write thread would go on if it got a processor: then the disk is not what it waits for.
    pub(crate) fn writer_waits_for_processor(&self) -> bool {
        let writer = self.writer.load(Ordering::Relaxed);
        let stat = std::fs::read_to_string(format!("/proc/self/task/{writer}/stat"));
        // `{tid} ({name}) {state} …`; the name has no parenthesis, it is ours.
        stat.is_ok_and(|stat| {
            stat.split_once(") ")
                .is_some_and(|(_, rest)| rest.starts_with('R'))
        })
    }

    /// The thread ends when all is written.
    pub(crate) fn end_soon(&self) {
        self.end(Ending::Soon);
    }

    /// The thread ends as soon as it can.
    pub(crate) fn end_now(&self) {
        self.end(Ending::Now);
    }

    fn end(&self, ending: Ending) {
        let mut state = self.lock();
        state.ending = ending;
        drop(state);
        self.news.notify_one();
    }

    fn next(&self, retry: Option<Instant>) -> Next {
        let mut state = self.lock();
        loop {
            if state.ending == Ending::Now {
                let all_written = state.ready.is_empty() && retry.is_none();
                return Next::End { all_written };
            }
            if let Some(feed) = state.ready.pop_front() {
                return Next::Write(feed);
            }
            let left = retry.map(|at| at.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Next::Retry;
            }
            if state.ending == Ending::Soon && retry.is_none() {
                return Next::End { all_written: true };
            }
            state.waiting = true;
            state = match left {
                Some(left) => {
                    let woken = self.news.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let woken = self.news.wait(state);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
            };
            if !std::mem::take(&mut state.waiting) {
                state = self.gather(state);
            }
        }
    }

    /// Lets more come for a moment.
    fn gather<'a>(&self, mut state: MutexGuard<'a, InboxState>) -> MutexGuard<'a, InboxState> {
        state.gathering = true;
        let go_on = |state: &mut InboxState| state.gathering && state.ending == Ending::No;
        let waited = self.news.wait_timeout_while(state, GATHER, go_on);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.gathering = false;
        state
    }

    fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Writer<D: Disk> {
    pub(crate) disk: D,
    pub(crate) folder: PathBuf,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) pool: Arc<Pool>,
    jobs: HashMap<String, Job<D>>,
}

/// One file and what is on its way to it.
struct Job<D: Disk> {
    feed: Arc<Feed>,
    file: LogFile<D>,
    policy: LogPolicy,
    batch: VecDeque<Chunk>,
    /// So much of the first chunk is written.
    done: usize,
    retry: Option<Retry>,
}

#[derive(Debug, Clone, Copy)]
struct Retry {
    at: Instant,
    delay: Duration,
}

impl<D: Disk> Writer<D> {
    pub(crate) fn new(
        disk: D,
        folder: PathBuf,
        inbox: Arc<Inbox>,
        registry: Arc<Registry>,
        pool: Arc<Pool>,
    ) -> Self {
        Writer {
            disk,
            folder,
            inbox,
            registry,
            pool,
            jobs: HashMap::new(),
        }
    }

    /// Writes until the inbox says that it is over; returns whether all was written.
    pub(crate) fn run(&mut self) -> bool {
        let writer = nix::unistd::gettid().as_raw();
        self.inbox.writer.store(writer, Ordering::Relaxed);
        loop {
            let retry = self.jobs.values().filter_map(|job| job.retry.map(|r| r.at));
            match self.inbox.next(retry.min()) {
                Next::Write(feed) => self.write(feed),
                Next::Retry => self.retry(),
                Next::End { all_written } => return all_written,
            }
        }
    }

    fn write(&mut self, feed: Arc<Feed>) {
        let job = self
            .jobs
            .entry(feed.name().to_owned())
            .or_insert_with(|| Job {
                file: LogFile::new(&self.folder, feed.name()),
                policy: LogPolicy::default(),
                batch: VecDeque::new(),
                done: 0,
                retry: None,
                feed: feed.clone(),
            });
        match feed.take() {
            Taken::Some(batch, policy) => {
                job.batch = batch;
                job.policy = policy;
                job.write(&self.disk, &self.pool);
                if job.retry.is_none() {
                    // Behind the others, so that a flood of one log does not hold them up.
                    self.inbox.post(feed);
                }
            }
            Taken::Nothing => {}
            Taken::Over => {
                self.jobs.remove(feed.name());
                self.registry.forget(&feed);
            }
        }
    }

    fn retry(&mut self) {
        let now = Instant::now();
        for job in self.jobs.values_mut() {
            if job.retry.is_some_and(|retry| retry.at <= now) {
                job.write(&self.disk, &self.pool);
                if job.retry.is_none() {
                    self.inbox.post(job.feed.clone());
                }
            }
        }
    }
}

impl<D: Disk> Job<D> {
    /// Writes the batch as far as the disk lets it.
    fn write(&mut self, disk: &D, pool: &Pool) {
        while let Some(chunk) = self.batch.front() {
            let result = self
                .file
                .append(disk, self.policy, &chunk.bytes, &mut self.done);
            if let Err(error) = result {
                self.put_off(&error);
                return;
            }
            self.done = 0;
            if let Some(chunk) = self.batch.pop_front() {
                self.feed.written(chunk.bytes.capacity());
                pool.give(chunk.bytes);
            }
        }
        if self.retry.take().is_some() {
            tracing::info!(log = self.feed.name(), "the log is written again");
        }
    }

    fn put_off(&mut self, error: &std::io::Error) {
        self.feed.failed(in_words(error));
        let delay = self
            .retry
            .map_or(FIRST_RETRY, |retry| (retry.delay * 2).min(LONGEST_RETRY));
        if self.retry.is_none() {
            tracing::warn!(
                log = self.feed.name(),
                %error,
                "cannot write the log; it is tried again until it succeeds, meanwhile lines may be dropped"
            );
        }
        let at = Instant::now() + delay;
        self.retry = Some(Retry { at, delay });
    }
}

/// The error as the reason of dropped lines: `no space left on device`.
fn in_words(error: &std::io::Error) -> String {
    let Some(code) = error.raw_os_error() else {
        return error.to_string();
    };
    let text = nix::errno::Errno::from_raw(code).desc();
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}
