//! Entering a phase: its deadline and the effects that belong to it.
//!
//! Invariant: no process is asked for here; [`Effect::Spawn`] comes only with [`Event::Prepared`](super::Event), which
//! only counts while nothing of ours lives.

use super::{
    BlockReason, Effect, Failure, KILL_AGAIN_AFTER, LastFailure, Lifecycle, Pause, Phase, Rest,
    StopStage, Then, Ticket, Wish,
};
use crate::backoff::{blocked_delay, restart_delay};
use crate::policy::{FailureClass, RestartMode};
use crate::{MonoTime, Run};
use std::time::Duration;

/// What is blocked is not looked at more often, whatever is configured.
const SHORTEST_LOOK: Duration = Duration::from_millis(10);

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
        let delay = match &reason {
            BlockReason::Credentials(_) => {
                let rules = self.rules.restart.of_class(FailureClass::Credential);
                // Nothing runs by it, so nothing else keeps the looks apart.
                restart_delay(&rules.delays, attempts_before, &mut self.jitter).max(SHORTEST_LOOK)
            }
            BlockReason::Executable(_)
            | BlockReason::Settings(_)
            | BlockReason::Awaits { .. }
            | BlockReason::Requires { .. }
            | BlockReason::Needs(_)
            | BlockReason::Leftover(_) => blocked_delay(attempts_before, &mut self.jitter),
        };
        self.phase = Phase::Blocked {
            reason,
            retry_at: now.after(delay),
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
            Then::Decide {
                failure,
                lasted,
                pause,
            } => {
                let mut effects = self.decide(now, run, failure, lasted);
                match pause {
                    Pause::ByPolicy => {}
                    Pause::CutShort => effects.extend(self.cause_gone().effects),
                }
                effects
            }
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
            Failure::Ended(_) | Failure::Watchdog(_)
                if lasted >= self.rules.restart.stable_after =>
            {
                self.row = 0;
            }
            // What was never ready was never stable, however long it took; and a limit would be met again (spec §10).
            Failure::Ended(_)
            | Failure::Watchdog(_)
            | Failure::EarlyExit(_)
            | Failure::Spawn(_)
            | Failure::NotReady(_)
            | Failure::Limit(_) => {}
            Failure::DependencyLost(_) => return self.follow(run, failure, lasted),
        }
        let rules = self.rules.restart.of_class(failure.class());
        let again = match rules.mode {
            RestartMode::Always => true,
            RestartMode::Never => false,
            RestartMode::OnFailure => failure.counts(),
        };
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
        let delay = restart_delay(&rules.delays, self.row, &mut self.jitter);
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

    /// It was stopped for another's sake: no fault of its own, so it comes back as soon as the other is there.
    fn follow(&mut self, run: Run, failure: Failure, lasted: Duration) -> Vec<Effect> {
        self.last_failure = Some(LastFailure {
            run,
            failure,
            lasted,
        });
        self.restarts = self.restarts.saturating_add(1);
        self.enter_preparing(0)
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
