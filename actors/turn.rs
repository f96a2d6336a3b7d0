//! The order in which runs begin when many are started at once.
//!
//! Preparations go on side by side, but the processes are made one after the other in the order of the list (spec §9).
//!
//! Invariant: each turn comes when all before it are over, or after [`PATIENCE`]; one that is given up is over when its time has come, so
//! nobody overtakes and nobody waits for ever.

use std::time::Duration;
use tokio::sync::oneshot;

/// Order is kept for this long only: a plugin whose preparation hangs must not hold up all after it.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// A place in the order.
#[derive(Debug)]
pub struct Turn {
    before: Option<oneshot::Receiver<()>>,
    /// Dropping it lets the next one come.
    done: Option<oneshot::Sender<()>>,
}

/// The turn has come; it is over when this is dropped.
#[derive(Debug)]
pub struct MyTurn {
    _done: Option<oneshot::Sender<()>>,
}

/// As many turns as asked for, in order; the first comes at once.
#[must_use]
pub fn turns(count: usize) -> Vec<Turn> {
    let mut before = None;
    (0..count)
        .map(|_| {
            let (done, next) = oneshot::channel();
            Turn {
                before: before.replace(next),
                done: Some(done),
            }
        })
        .collect()
}

impl Turn {
    /// Waits for the turn, at most [`PATIENCE`].
    ///
    /// # Cancel safety
    /// A dropped future gives the turn up.
    pub async fn come(mut self) -> MyTurn {
        if let Some(before) = &mut self.before {
            // The one before is over when its sender is dropped, or has had its time.
            let _ = tokio::time::timeout(PATIENCE, before).await;
        }
        self.before = None;
        MyTurn {
            _done: self.done.take(),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (Some(done), Some(before)) = (self.done.take(), self.before.take()) else {
            return;
        };
        // Given up before its time: those before it still go first. Without a runtime nobody waits any more.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = before.await;
                drop(done);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[tokio::test]
    async fn turns_come_in_order_whoever_is_ready_first() {
        let came = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for (n, turn) in turns(5).into_iter().enumerate().rev() {
            let came = came.clone();
            tasks.push(tokio::spawn(async move {
                if n == 2 {
                    return; // gives its turn up
                }
                let _mine = turn.come().await;
                came.lock().unwrap().push(n);
                tokio::task::yield_now().await;
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*came.lock().unwrap(), [0, 1, 3, 4]);
    }
}
