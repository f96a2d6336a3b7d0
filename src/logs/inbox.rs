//! The way to the write thread: what has something to write, in order.
//!
//! Invariants: who posts never waits; the thread is woken once for what comes together.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long what comes first waits for company: a thread that is woken for every line costs more than the line.
const GATHER: Duration = Duration::from_millis(2);

/// Feeds that have something to write, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    state: Mutex<State<T>>,
    news: Condvar,
    /// The thread's id for the kernel; 0 before it runs.
    writer: AtomicI32,
}

#[derive(Debug)]
struct State<T> {
    ready: VecDeque<Arc<T>>,
    /// The thread waits; else it looks here by itself before it does.
    waiting: bool,
    /// It lets more come before it begins.
    gathering: bool,
    ending: Ending,
}

/// How long the thread has still to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// For ever.
    No,
    /// Until all is written.
    Soon,
    /// No longer.
    Now,
}

/// What the thread does next.
pub(crate) enum Next<T> {
    /// This has something to write.
    Write(Arc<T>),
    /// The time for another try has come.
    Retry,
    /// Nothing more.
    End {
        /// Nothing is left.
        all_written: bool,
    },
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Inbox {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                waiting: false,
                gathering: false,
                ending: Ending::No,
            }),
            news: Condvar::new(),
            writer: AtomicI32::new(0),
        }
    }
}

impl<T> Inbox<T> {
    pub(crate) fn post(&self, feed: Arc<T>) {
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

    /// The calling thread is the one that writes.
    pub(crate) fn served_by_me(&self) {
        let writer = nix::unistd::gettid().as_raw();
        self.writer.store(writer, Ordering::Relaxed);
    }

    /// Waits for what is to be done next; for another try no longer than until `retry`.
    pub(crate) fn next(&self, retry: Option<Instant>) -> Next<T> {
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
    fn gather<'a>(&self, mut state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        state.gathering = true;
        let go_on = |state: &mut State<T>| state.gathering && state.ending == Ending::No;
        let waited = self.news.wait_timeout_while(state, GATHER, go_on);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.gathering = false;
        state
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
