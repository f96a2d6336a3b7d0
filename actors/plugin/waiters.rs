//! Who waits for the outcome of an order.
//!
//! Invariants: each waiter is answered once; a failed start is answered when the last lines of the run are in, or after
//! [`TAIL_PATIENCE`], so that who asks for them next finds them.

use crate::message::{Order, OrderError, OrderResult};
use crate::seat::Seat;
use std::sync::Arc;
use std::time::Duration;
use supervision::Run;
use supervision::lifecycle::{Goal, Lifecycle, Phase, Verdict};
use tokio::sync::oneshot;

/// How long a failed start is not answered while its last lines are awaited.
const TAIL_PATIENCE: Duration = Duration::from_millis(100);

/// The goal of an order that is given now.
pub(super) fn goal_of(order: Order, life: &Lifecycle) -> Goal {
    let failures = life.failures();
    match order {
        Order::Start => Goal::Up {
            failures,
            above: Run(0),
        },
        Order::Restart => Goal::Up {
            failures,
            above: match life.phase() {
                Phase::Proving { run, .. }
                | Phase::Running { run, .. }
                | Phase::Stopping { run, .. }
                | Phase::Killing { run, .. } => *run,
                Phase::Stopped { .. }
                | Phase::Blocked { .. }
                | Phase::Preparing { .. }
                | Phase::Spawning { .. }
                | Phase::Backoff { .. }
                | Phase::Foreign { .. } => Run(0),
            },
        },
        Order::Stop(_) | Order::Kill => Goal::Down,
    }
}

/// Those who wait for a goal.
#[derive(Default)]
pub(super) struct Waiters {
    pending: Vec<(Goal, oneshot::Sender<OrderResult>)>,
}

impl Waiters {
    pub(super) fn add(&mut self, goal: Goal, reply: oneshot::Sender<OrderResult>) {
        // Who gave up is let go, so that waiters of a plugin that never gets ready do not pile up.
        self.pending.retain(|(_, reply)| !reply.is_closed());
        self.pending.push((goal, reply));
    }

    /// Answers those whose goal is reached or missed. The view must be published before.
    pub(super) fn answer(&mut self, seat: &Arc<Seat>) {
        if self.pending.is_empty() {
            return;
        }
        let mut still = Vec::with_capacity(self.pending.len());
        for (goal, reply) in self.pending.drain(..) {
            let verdict = seat.state().life.verdict(&seat.id, goal);
            match verdict {
                Verdict::Pending => still.push((goal, reply)),
                Verdict::Reached => {
                    // A requester that gave up needs no answer, here and below.
                    let _ = reply.send(Ok(seat.view()));
                }
                Verdict::Failed(text) => answer_with_tail(seat, text, reply),
            }
        }
        self.pending = still;
    }
}

/// Answers a failure once the last lines of the run that ended are in, so that who asks for them next finds them.
fn answer_with_tail(seat: &Arc<Seat>, text: String, reply: oneshot::Sender<OrderResult>) {
    let ended = seat
        .view()
        .last_exit
        .as_ref()
        .map_or(Run(0), |exit| exit.run);
    let mut tails = seat.tails();
    tokio::spawn(async move {
        let _ = tokio::time::timeout(TAIL_PATIENCE, tails.wait_for(|run| *run >= ended)).await;
        let _ = reply.send(Err(OrderError::Failed(text)));
    });
}
