//! The write thread: takes what the feeds hold to their files.
//!
//! Invariants:
//! - only this thread touches log files; while it hangs, feeds fill up, and nothing else happens;
//! - an error stops one file, for a while that doubles up to [`LONGEST_RETRY`]; what could not be written is written first
//!   when it goes on, from the byte on at which it stopped;
//! - files are opened by their first byte and closed after their last one.

use crate::disk::Disk;
use crate::feed::{Chunk, Feed, Inbox, Pool, Taken};
use crate::file::LogFile;
use crate::inbox::Next;
use crate::registry::Registry;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use supervision::policy::LogPolicy;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

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
        self.inbox.served_by_me();
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
