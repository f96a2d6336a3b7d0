//! Entering a phase: its deadline and the effects that belong to it.
//!
//! Invariant: no process is asked for here; [`Effect::Spawn`] comes only with [`Event::Prepared`](super::Event), which
//! only counts while nothing of ours lives.

use super::{
    BlockReason, Effect, Failure, KILL_AGAIN_AFTER, LastFailure, Lifecycle, Phase, Rest, StopStage,
    Then, Ticket, Wish,
};
use crate::backoff::{blocked_delay, restart_delay};
use crate::policy::RestartMode;
use crate::{MonoTime, Run};
use std::time::Duration;

impl Lifecycle {
    pub(super) fn enter_stopped(&mut self, why: Rest) {
        self.rest = why.clone();
        self.phase = Phase::Stopped { why };
    }

    pub(super) fn enter_preparing(&mut self, attempt: u32) -> Vec<Effect> {
        self.ticket = Ticket(self.ticket.0.wrapping_add(1));
        self.phase = Phase::Preparing {
            ticket: self.ticket,
            attempt,
        };
        vec![Effect::Prepare(self.ticket)]
    }

    pub(super) fn enter_blocked(
        &mut self,
        now: MonoTime,
        reason: BlockReason,
        attempts_before: u32,
    ) {
        self.phase = Phase::Blocked {
            reason,
            retry_at: now.after(blocked_delay(attempts_before, &mut self.jitter)),
            attempt: attempts_before.saturating_add(1),
        };
    }

    pub(super) fn enter_grace(&mut self, now: MonoTime, run: Run, then: Then) -> Vec<Effect> {
        self.phase = Phase::Stopping {
            run,
            stage: StopStage::Grace {
                deadline: now.after(self.rules.stop.grace),
            },
            then,
        };
        vec![Effect::SignalTree(run)]
    }

    pub(super) fn enter_killing(
        &mut self,
        now: MonoTime,
        run: Run,
        rounds: u32,
        then: Then,
    ) -> Vec<Effect> {
        // Later rounds come slower: what SIGKILL did not end sleeps in the kernel.
        let pause = KILL_AGAIN_AFTER.saturating_mul(1 << rounds.min(6));
        self.phase = Phase::Killing {
            run,
            again_at: now.after(pause),
            rounds: rounds.saturating_add(1),
            then,
        };
        vec![Effect::KillTree(run)]
    }

    /// The tree is gone: what was planned for this moment happens.
    pub(super) fn conclude(&mut self, now: MonoTime, run: Run, then: Then) -> Vec<Effect> {
        match then {
            Then::Rest(cause) => {
                self.enter_stopped(Rest::Asked(cause));
                Vec::new()
            }
            Then::StartAgain => self.enter_preparing(0),
            Then::Decide { failure, lasted } => self.decide(now, run, failure, lasted),
        }
    }

    /// Nobody asked for this end: the restart policy says what comes (spec §9).
    pub(super) fn decide(
        &mut self,
        now: MonoTime,
        run: Run,
        failure: Failure,
        lasted: Duration,
    ) -> Vec<Effect> {
        match &failure {
            Failure::Ended(_) if lasted >= self.rules.restart.stable_after => self.row = 0,
            // What was never ready was never stable, however long it took.
            Failure::Ended(_)
            | Failure::EarlyExit(_)
            | Failure::Spawn(_)
            | Failure::NotReady(_) => {}
        }
        let again = self.restarts_after(&failure);
        self.failures = self.failures.saturating_add(1);
        self.last_failure = Some(LastFailure {
            run,
            failure,
            lasted,
        });
        if !again {
            self.enter_stopped(Rest::Finished);
            return Vec::new();
        }
        self.restarts = self.restarts.saturating_add(1);
        let delay = restart_delay(&self.rules.restart, self.row, &mut self.jitter);
        self.row = self.row.saturating_add(1);
        if delay.is_zero() {
            return self.enter_preparing(0);
        }
        self.phase = Phase::Backoff {
            until: now.after(delay),
            attempt: self.row,
        };
        Vec::new()
    }

    /// Whether the policy answers this end with a new run (spec §9).
    fn restarts_after(&self, failure: &Failure) -> bool {
        match self.rules.restart.mode {
            RestartMode::Always => true,
            RestartMode::Never => false,
            RestartMode::OnFailure => match failure {
                Failure::EarlyExit(status) | Failure::Ended(status) => status.is_failure(),
                Failure::Spawn(_) | Failure::NotReady(_) => true,
            },
        }
    }

    /// A wish by hand: what failed before no longer counts (spec §9).
    pub(super) fn wish_up(&mut self) {
        self.row = 0;
        match self.wish {
            Wish::Up => {}
            Wish::Down => {
                self.wish = Wish::Up;
                self.restarts = 0;
            }
        }
    }
}
