//! What the host, its runs and its threads have in common.
//!
//! Invariant: a run that was started for an [`Answer`] is killed when that is dropped before it was taken.

use crate::book::Book;
use crate::run::Run;
use crate::spawn::{Job, Place, Spawners};
use crate::spawn_error::SpawnError;
use crate::spec::SpawnSpec;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

/// What the host, its runs and its threads share.
pub(crate) struct Shared {
    /// The home, and the cgroups or why there are none.
    pub(crate) place: Place,
    pub(crate) runtime: Handle,
    book: Mutex<Book>,
    wakes: watch::Sender<u64>,
    /// Here, so that the threads live as long as any run: their children stay theirs.
    pub(crate) spawners: Spawners,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("home", &self.place.home)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Nothing runs yet.
    pub(crate) fn new(place: Place, runtime: Handle, book: Book, spawners: Spawners) -> Shared {
        Shared {
            place,
            runtime,
            book: Mutex::new(book),
            wakes: watch::Sender::new(0),
            spawners,
        }
    }

    /// Has a process started.
    pub(crate) fn hand_in(self: &Arc<Self>, spec: &Arc<SpawnSpec>) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.book().expect(&spec.marker);
        self.spawners.send(Job {
            spec: Arc::clone(spec),
            reply,
        });
        Answer {
            answer,
            shared: Arc::clone(self),
        }
    }

    /// Kills a run that nobody waits for.
    pub(crate) fn end_unwanted(&self, run: &Arc<Run>) {
        if let Err(error) = self.book().kill(run) {
            tracing::warn!(pid = run.pid, %error, "a process that nobody waits for cannot be killed");
        }
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes those who watch half-dead trees look again.
    pub(crate) fn wake(&self) {
        self.wakes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(crate) fn wakes(&self) -> watch::Receiver<u64> {
        self.wakes.subscribe()
    }
}

/// What becomes of a start: the run, `None` when the threads that start processes have ended.
pub(crate) struct Answer {
    answer: oneshot::Receiver<Result<Arc<Run>, SpawnError>>,
    shared: Arc<Shared>,
}

impl Future for Answer {
    type Output = Option<Result<Arc<Run>, SpawnError>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(cx).map(Result::ok)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // What comes later is refused; what came already was not taken.
        self.answer.close();
        if let Ok(Ok(run)) = self.answer.try_recv() {
            self.shared.end_unwanted(&run);
        }
    }
}
