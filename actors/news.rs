//! What the bus is still to be told, in order, while it is away or slow.
//!
//! Invariants: bounded; when it is full the oldest goes first and is counted (spec §8); telling never blocks; what is
//! numbered has its number and its time from when it was told here, and no number is left out but with those that were
//! dropped, which the notice in their place says.

use crate::ports::{Happening, Herald, LauncherNews, unix_millis};
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;

/// So many events wait at most, when nothing else is configured (spec §4, `events.spool`).
pub const SPOOL: usize = 1000;

/// How long what comes first waits for company.
const GATHER: Duration = Duration::from_millis(3);

/// So many are sent at once at most.
pub const BATCH: usize = 64;

/// What is to be told, with what is known of it since it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its number within this start of the launcher, from 1; 0 for what bears none on the wire.
    pub seq: u64,
    /// When it was announced, Unix ms.
    pub time_mse: i64,
    /// What.
    pub what: Happening,
}

/// What was dropped and not said yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Lost {
    count: u64,
    /// The newest number among them; the notice takes its place.
    seq: u64,
}

impl Lost {
    fn and(self, other: Lost) -> Lost {
        Lost {
            count: self.count.saturating_add(other.count),
            seq: self.seq.max(other.seq),
        }
    }

    fn notice(self) -> Told {
        let text = format!(
            "{} events up to number {} were dropped, as the bus was away or slow for too long; hubcli ls shows how all are",
            self.count, self.seq
        );
        Told {
            seq: self.seq,
            time_mse: unix_millis(SystemTime::now()),
            what: Happening::Launcher {
                what: LauncherNews::Dropped,
                text,
            },
        }
    }
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Told>,
    lost: Lost,
    /// How many were taken out and are neither sent nor put back.
    out: usize,
    /// The newest number that was given.
    seq: u64,
}

/// The spool, shared by those who tell and the bridge that sends.
pub struct News {
    room: usize,
    boot: String,
    waiting: Mutex<Waiting>,
    bell: Notify,
    emptied: Notify,
    hurry: Notify,
    run_began: Arc<Notify>,
    changed: Notify,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.out == 0 && self.lost.count == 0
    }

    fn has_some(&self) -> bool {
        !self.events.is_empty() || self.lost.count > 0
    }

    /// Drops the oldest until there are `room` at most. What bears no number goes with what does, so that the notice has
    /// a number to stand for.
    fn make_room(&mut self, room: usize) {
        while self.events.len() > room || (self.lost.count > 0 && self.lost.seq == 0) {
            let Some(oldest) = self.events.pop_front() else {
                return;
            };
            self.lost = self.lost.and(Lost {
                count: 1,
                seq: oldest.seq,
            });
        }
    }
}

/// Events on their way; those that were not sent are put back in their place when it is dropped.
pub struct Outgoing<'news> {
    news: &'news News,
    lost: Lost,
    events: VecDeque<Told>,
    taken: usize,
}

impl News {
    /// An empty spool of the usual size that rings `run_began` for each run.
    #[must_use]
    pub fn new(run_began: Arc<Notify>) -> Arc<Self> {
        News::with_room(SPOOL, run_began)
    }

    /// As [`News::new`], for `room` events, at least one.
    #[must_use]
    pub fn with_room(room: usize, run_began: Arc<Notify>) -> Arc<Self> {
        // The standard library's hasher is seeded by the system at random.
        let chance = RandomState::new().hash_one(SystemTime::now());
        Arc::new(News {
            room: room.max(1),
            boot: format!("{chance:016x}"),
            waiting: Mutex::default(),
            bell: Notify::new(),
            emptied: Notify::new(),
            hurry: Notify::new(),
            run_began,
            changed: Notify::new(),
        })
    }

    /// The name of this start of the launcher, within which events are numbered.
    #[must_use]
    pub fn boot(&self) -> &str {
        &self.boot
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // Each holder leaves the queue whole, even one that panics.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next events, at most [`BATCH`]; waits until there are some, and a moment for more.
    ///
    /// # Cancel safety
    /// Cancel safe; for one caller at a time.
    pub async fn next(&self) -> Outgoing<'_> {
        loop {
            if self.lock().has_some() {
                break;
            }
            self.bell.notified().await;
            // Late by so much is no matter, and what happened may first be dealt with.
            let _hurried_or_gathered = tokio::time::timeout(GATHER, self.hurry.notified()).await;
        }
        let mut waiting = self.lock();
        let taken = waiting.events.len().min(BATCH);
        let events: VecDeque<Told> = waiting.events.drain(..taken).collect();
        waiting.out += taken;
        Outgoing {
            news: self,
            lost: std::mem::take(&mut waiting.lost),
            events,
            taken,
        }
    }

    /// Waits until everything was sent.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            let mut emptied = std::pin::pin!(emptied);
            // From here on no ring is missed.
            emptied.as_mut().enable();
            if self.lock().is_empty() {
                return;
            }
            self.hurry.notify_one();
            emptied.await;
        }
    }

    /// Waits until a plugin was in another phase since the last time; for one listener.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn phase_changed(&self) {
        self.changed.notified().await;
    }
}

impl Herald for News {
    fn announce(&self, happening: Happening) {
        let numbered = match &happening {
            Happening::Started { .. } => {
                self.run_began.notify_one();
                false
            }
            Happening::Stopped { .. } => false,
            Happening::Plugin(_) => {
                self.changed.notify_one();
                true
            }
            Happening::Limit(_) | Happening::Launcher { .. } => true,
        };
        let time_mse = unix_millis(SystemTime::now());
        let mut waiting = self.lock();
        waiting.seq += u64::from(numbered);
        let told = Told {
            seq: if numbered { waiting.seq } else { 0 },
            time_mse,
            what: happening,
        };
        waiting.events.push_back(told);
        waiting.make_room(self.room);
        drop(waiting);
        self.bell.notify_one();
    }
}

impl Outgoing<'_> {
    /// What is to be sent now, in order: first, when there were any, how many were dropped before it.
    #[must_use]
    pub fn events(&self) -> Vec<Told> {
        let notice = (self.lost.count > 0).then(|| self.lost.notice());
        notice
            .into_iter()
            .chain(self.events.iter().cloned())
            .collect()
    }

    /// Which of [`Outgoing::events`] were sent, or are given up; the others are still to be sent.
    pub fn done(&mut self, done: &[bool]) {
        let mut done = done.iter().copied();
        if self.lost.count > 0 && done.next() == Some(true) {
            self.lost = Lost::default();
        }
        self.events.retain(|_| !done.next().unwrap_or(false));
    }
}

impl Drop for Outgoing<'_> {
    fn drop(&mut self) {
        let mut waiting = self.news.lock();
        waiting.out = waiting.out.saturating_sub(self.taken);
        waiting.lost = self.lost.and(waiting.lost);
        while let Some(event) = self.events.pop_back() {
            waiting.events.push_front(event);
        }
        waiting.make_room(self.news.room);
        if waiting.is_empty() {
            drop(waiting);
            self.news.emptied.notify_waiters();
        } else {
            drop(waiting);
            self.news.bell.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use supervision::PluginId;

    fn started(n: usize) -> Happening {
        Happening::Started {
            id: PluginId::new(&format!("p{n}")).unwrap(),
        }
    }

    fn degraded(n: u64) -> Happening {
        Happening::Launcher {
            what: LauncherNews::Degraded,
            text: n.to_string(),
        }
    }

    fn numbers(told: &[Told]) -> Vec<u64> {
        told.iter().map(|told| told.seq).collect()
    }

    fn text(told: &Told) -> &str {
        let Happening::Launcher { text, .. } = &told.what else {
            panic!("{told:?}")
        };
        text
    }

    #[tokio::test]
    async fn the_oldest_are_dropped_and_a_notice_is_in_their_place() {
        let news = News::with_room(5, Arc::default());
        for n in 1..=8 {
            news.announce(degraded(n));
        }
        let mut first = news.next().await;
        let events = first.events();
        assert_eq!(numbers(&events), [3, 4, 5, 6, 7, 8]);
        assert!(text(&events[0]).starts_with("3 events up to number 3 were dropped"));
        // The notice and two more are sent, then the connection breaks.
        first.done(&[true, true, true, false, false, false]);
        drop(first);
        assert_eq!(numbers(&news.next().await.events()), [6, 7, 8]);
    }

    #[tokio::test]
    async fn what_is_put_back_gives_way_to_what_is_newer() {
        let news = News::with_room(3, Arc::default());
        for n in 1..=5 {
            news.announce(degraded(n));
        }
        let out = news.next().await;
        assert_eq!(numbers(&out.events()), [2, 3, 4, 5]);
        news.announce(degraded(6));
        drop(out);
        let again = news.next().await;
        assert_eq!(numbers(&again.events()), [3, 4, 5, 6]);
        assert!(text(&again.events()[0]).starts_with("3 events up to number 3 "));
    }

    #[tokio::test]
    async fn what_bears_no_number_is_not_dropped_without_a_notice() {
        let news = News::with_room(3, Arc::default());
        for n in 0..2 {
            news.announce(started(n));
        }
        news.announce(degraded(0));
        news.announce(degraded(0));
        let out = news.next().await;
        let events = out.events();
        assert_eq!(numbers(&events), [1, 2]);
        assert!(text(&events[0]).starts_with("3 events "));
    }

    #[tokio::test]
    async fn many_are_taken_at_once_and_none_twice() {
        let news = News::new(Arc::default());
        let count = u64::try_from(BATCH).unwrap() + 3;
        for n in 1..=count {
            news.announce(degraded(n));
        }
        let mut seen = Vec::new();
        while seen.len() < BATCH + 3 {
            let mut out = news.next().await;
            let events = out.events();
            seen.extend(numbers(&events));
            out.done(&vec![true; events.len()]);
        }
        assert_eq!(seen, (1..=count).collect::<Vec<_>>());
        news.emptied().await;
    }

    #[tokio::test(start_paused = true)]
    async fn events_gather_for_a_moment_but_not_when_somebody_waits_for_the_last() {
        let news = News::new(Arc::default());
        let announce = async {
            // Only now does the other one wait.
            tokio::task::yield_now().await;
            news.announce(started(1));
        };
        let began = tokio::time::Instant::now();
        let (mut event, ()) = tokio::join!(news.next(), announce);
        event.done(&[true]);
        drop(event);
        assert!(began.elapsed() >= GATHER);

        let began = tokio::time::Instant::now();
        let teller = async {
            loop {
                news.next().await.done(&[true]);
            }
        };
        let waiter = async {
            tokio::task::yield_now().await;
            news.announce(started(2));
            tokio::task::yield_now().await;
            news.emptied().await;
        };
        tokio::select! {
            biased;
            () = teller => {}
            () = waiter => {}
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
