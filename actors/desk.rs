//! Work that touches the disk, done by a few threads in the order it came.
//!
//! Invariants: however many ask at once, at most four threads of the runtime's blocking pool are used, and none
//! when there is nothing to do; work nobody waits for any more is not begun.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// More than processors, as one that hangs on a dead disk must not stop the others.
const THREADS: usize = 4;

/// The work failed for a mistake of this program; it was logged as a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("looking at its files failed by a mistake of the launcher; see its log")]
pub struct Broken;

type Work = Box<dyn FnOnce() + Send>;

/// Where work is handed in; clones are the same desk.
#[derive(Clone, Default)]
pub struct Desk {
    pile: Arc<Mutex<Pile>>,
}

#[derive(Default)]
struct Pile {
    waiting: VecDeque<Work>,
    threads: usize,
    /// To be told when there is nothing to do and nobody at work.
    idle: Vec<oneshot::Sender<()>>,
}

impl Desk {
    /// Has `work` done; it is on its way when this returns, and the future is for its result only.
    ///
    /// # Errors
    /// When it panics.
    ///
    /// # Cancel safety
    /// Dropped before it began it is not done; dropped later it is done all the same.
    pub fn ask<R: Send + 'static>(
        &self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> impl Future<Output = Result<R, Broken>> + Send + 'static {
        let (reply, result) = oneshot::channel();
        let work = move || {
            if !reply.is_closed() {
                // Who gave up meanwhile needs no result.
                let _ = reply.send(work());
            }
        };
        self.put(Box::new(work), THREADS);
        async { result.await.map_err(|_| Broken) }
    }

    /// Has `work` done some time, after what others wait for; without a runtime at once.
    pub fn leave(&self, work: impl FnOnce() + Send + 'static) {
        match tokio::runtime::Handle::try_current() {
            Ok(_inside) => self.put(Box::new(work), 1),
            Err(_) => work(),
        }
    }

    /// Completes when all work is done that was handed in before, and perhaps some that came later.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub fn emptied(&self) -> impl Future<Output = ()> + Send + 'static {
        let idle = {
            let mut pile = self.lock();
            (pile.threads > 0).then(|| {
                let (tells, hears) = oneshot::channel();
                pile.idle.push(tells);
                hears
            })
        };
        async {
            if let Some(idle) = idle {
                // It is told by being dropped.
                let _ = idle.await;
            }
        }
    }

    /// Takes work in; unless so many threads are busy, one more begins.
    fn put(&self, work: Work, enough: usize) {
        let needs_thread = {
            let mut pile = self.lock();
            pile.waiting.push_back(work);
            let needs_thread = pile.threads < enough;
            pile.threads += usize::from(needs_thread);
            needs_thread
        };
        if needs_thread {
            let desk = self.clone();
            tokio::task::spawn_blocking(move || desk.serve());
        }
    }

    fn serve(&self) {
        while let Some(work) = self.next() {
            // The panic itself was reported by the panic hook; dropping `reply` tells who waits.
            let _ = catch_unwind(AssertUnwindSafe(work));
        }
    }

    fn next(&self) -> Option<Work> {
        let mut pile = self.lock();
        let work = pile.waiting.pop_front();
        pile.threads -= usize::from(work.is_none());
        if pile.threads == 0 {
            pile.idle.clear();
        }
        work
    }

    fn lock(&self) -> MutexGuard<'_, Pile> {
        self.pile.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn few_threads_do_much_work_and_survive_a_panic() {
        let desk = Desk::default();
        let busy = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let mut asked = Vec::new();
        for number in 0..200 {
            let (desk, busy, most) = (desk.clone(), busy.clone(), most.clone());
            asked.push(tokio::spawn(async move {
                let work = move || {
                    most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    busy.fetch_sub(1, Ordering::SeqCst);
                    assert!(number % 50 != 7, "a panic on purpose");
                    number
                };
                desk.ask(work).await
            }));
        }
        for (number, asked) in asked.into_iter().enumerate() {
            let expected = if number % 50 == 7 {
                Err(Broken)
            } else {
                Ok(number)
            };
            assert_eq!(asked.await.unwrap(), expected);
        }
        assert!(most.load(Ordering::SeqCst) <= THREADS);
        let idle = desk.emptied();
        tokio::time::timeout(std::time::Duration::from_secs(10), idle)
            .await
            .unwrap();
        assert_eq!(desk.lock().threads, 0);
        desk.emptied().await;
    }
}
