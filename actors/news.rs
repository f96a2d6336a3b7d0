//! What the bus is still to be told, in order, while it is away or slow.
//!
//! Invariants: bounded; when it is full the oldest goes first and is counted (spec §8); telling never blocks.

use crate::ports::{Happening, Herald};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// So many events wait at most (spec §4, `events.spool`).
pub const SPOOL: usize = 1000;

/// How long what comes first waits for company.
const GATHER: Duration = Duration::from_millis(3);

#[derive(Default)]
struct Waiting {
    events: VecDeque<Happening>,
    dropped: u64,
    /// How many were taken out and are neither sent nor put back.
    out: usize,
}

/// The spool, shared by those who tell and the bridge that sends.
pub struct News {
    waiting: Mutex<Waiting>,
    bell: Notify,
    emptied: Notify,
    hurry: Notify,
    run_began: Arc<Notify>,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.out == 0
    }
}

/// An event on its way; put back in its place when it is dropped unsent.
pub struct Outgoing<'news> {
    news: &'news News,
    event: Option<Happening>,
}

impl News {
    /// An empty spool that rings `run_began` for each run.
    #[must_use]
    pub fn new(run_began: Arc<Notify>) -> Arc<Self> {
        Arc::new(News {
            waiting: Mutex::default(),
            bell: Notify::new(),
            emptied: Notify::new(),
            hurry: Notify::new(),
            run_began,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // Each holder leaves the queue whole, even one that panics.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next event; waits until there is one. How many were dropped before it comes with it.
    ///
    /// # Cancel safety
    /// Cancel safe; for one caller at a time.
    pub async fn next(&self) -> (Outgoing<'_>, u64) {
        loop {
            {
                let mut waiting = self.lock();
                if let Some(event) = waiting.events.pop_front() {
                    waiting.out += 1;
                    let dropped = std::mem::take(&mut waiting.dropped);
                    let event = Some(event);
                    return (Outgoing { news: self, event }, dropped);
                }
            }
            self.bell.notified().await;
            // Late by so much is no matter, and what happened may first be dealt with.
            let _hurried_or_gathered = tokio::time::timeout(GATHER, self.hurry.notified()).await;
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
}

impl Herald for News {
    fn announce(&self, happening: Happening) {
        match &happening {
            Happening::Started { .. } => self.run_began.notify_one(),
            Happening::Stopped { .. }
            | Happening::Plugin(_)
            | Happening::Limit(_)
            | Happening::Launcher { .. } => {}
        }
        let mut waiting = self.lock();
        if waiting.events.len() >= SPOOL {
            waiting.events.pop_front();
            waiting.dropped = waiting.dropped.saturating_add(1);
        }
        waiting.events.push_back(happening);
        drop(waiting);
        self.bell.notify_one();
    }
}

impl Outgoing<'_> {
    /// What is to be sent.
    #[must_use]
    pub fn event(&self) -> Option<&Happening> {
        self.event.as_ref()
    }

    /// It was sent.
    pub fn sent(mut self) {
        self.event = None;
    }
}

impl Drop for Outgoing<'_> {
    fn drop(&mut self) {
        let mut waiting = self.news.lock();
        waiting.out = waiting.out.saturating_sub(1);
        if let Some(event) = self.event.take() {
            waiting.events.push_front(event);
            drop(waiting);
            self.news.bell.notify_one();
        } else if waiting.is_empty() {
            drop(waiting);
            self.news.emptied.notify_waiters();
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

    #[tokio::test]
    async fn the_oldest_are_dropped_and_counted_and_an_unsent_one_comes_again() {
        let news = News::new(Arc::default());
        for n in 0..SPOOL + 3 {
            news.announce(started(n));
        }
        let (first, dropped) = news.next().await;
        assert_eq!((first.event(), dropped), (Some(&started(3)), 3));
        drop(first);
        let (again, dropped) = news.next().await;
        assert_eq!((again.event(), dropped), (Some(&started(3)), 0));
        again.sent();
        let (next, _) = news.next().await;
        assert_eq!(next.event(), Some(&started(4)));
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
        let ((event, _), ()) = tokio::join!(news.next(), announce);
        event.sent();
        assert!(began.elapsed() >= GATHER);

        let began = tokio::time::Instant::now();
        let teller = async {
            loop {
                news.next().await.0.sent();
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
