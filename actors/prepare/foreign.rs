//! Looking for copies of plugins that others started (spec §5), for many plugins at once.
//!
//! Invariant: one look at the process table serves everybody who asked before it began.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use supervision::PluginId;
use tokio::sync::oneshot;

/// A plugin that is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sought {
    /// Its id.
    pub id: PluginId,
    /// Its executable.
    pub path: PathBuf,
}

/// Looks through the process table.
pub trait FindForeign: Send + Sync + 'static {
    /// A copy of each that is not ours, in the order asked; `None` = there is none. Blocks.
    fn find(&self, sought: &[Sought]) -> Vec<Option<i32>>;
}

/// Gathers those who ask.
#[derive(Clone)]
pub(super) struct Patrol {
    finder: Arc<dyn FindForeign>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    waiting: Vec<(Sought, oneshot::Sender<Option<i32>>)>,
    under_way: bool,
}

impl Patrol {
    pub(super) fn new(finder: Arc<dyn FindForeign>) -> Self {
        Patrol {
            finder,
            state: Arc::default(),
        }
    }

    /// A copy that is not ours.
    pub(super) async fn find(&self, sought: Sought) -> Option<i32> {
        let (reply, found) = oneshot::channel();
        let begins = {
            let mut state = self.lock();
            state.waiting.push((sought, reply));
            !std::mem::replace(&mut state.under_way, true)
        };
        if begins {
            let patrol = self.clone();
            tokio::task::spawn_blocking(move || patrol.serve());
        }
        // A look that failed is logged where it failed; a start is not to fail with it.
        found.await.unwrap_or(None)
    }

    fn serve(&self) {
        loop {
            let asked = {
                let mut state = self.lock();
                if state.waiting.is_empty() {
                    state.under_way = false;
                    return;
                }
                std::mem::take(&mut state.waiting)
            };
            let (sought, replies): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
            // After a panic, which the panic hook reported, they go on without a look.
            let look = AssertUnwindSafe(|| self.finder.find(&sought));
            let found = catch_unwind(look).unwrap_or_default();
            for (reply, found) in replies.into_iter().zip(found) {
                // Who gave up meanwhile needs no answer.
                let _ = reply.send(found);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
