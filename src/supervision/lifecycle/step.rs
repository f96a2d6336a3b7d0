//! The table: every phase × event, written out.
//!
//! Invariants: one function per event, each with one `match` over all phases and no wildcard; only [`Lifecycle::enter`]
//! and its siblings at the end change the phase.

use super::{
    Answer, BlockReason, Denial, Effect, Event, Failure, KILL_AGAIN_AFTER, LastFailure, Lifecycle,
    Phase, ReadyRule, Rest, SpawnFailure, Step, StopCause, StopStage, Then, Ticket, Wish,
};
use crate::backoff::{blocked_delay, restart_delay};
use crate::policy::RestartMode;
use crate::{ExitStatus, MonoTime, Run};
use std::time::Duration;

impl Step {
    fn of(answer: Answer, effects: Vec<Effect>) -> Self {
        Step { answer, effects }
    }

    fn noted(effects: Vec<Effect>) -> Self {
        Step::of(Answer::Noted, effects)
    }

    fn stale() -> Self {
        Step::of(Answer::Stale, Vec::new())
    }
}

impl Lifecycle {
    /// Takes in what happened at `now` and decides what to do.
    ///
    /// Pure but for its own state: same state, time and event give the same step. Facts that came too late are answered
    /// [`Answer::Stale`] and change nothing.
    pub fn step(&mut self, now: MonoTime, event: Event) -> Step {
        match event {
            Event::Start => self.start(),
            Event::Stop(cause) => self.stop(now, cause),
            Event::Restart => self.restart(now),
            Event::KillNow => self.kill_now(now),
            Event::Prepared(ticket) => self.prepared(ticket),
            Event::PrepareFailed(ticket, reason) => self.prepare_failed(now, ticket, reason),
            Event::Spawned { run, pid } => self.spawned(now, run, pid),
            Event::SpawnFailed { run, failure } => self.spawn_failed(now, run, failure),
            Event::Ready { run } => self.ready(run),
            Event::MainEnded { run, status } => self.main_ended(now, run, status),
            Event::TreeEnded { run, status } => self.tree_ended(now, run, status),
            Event::CauseGone => self.cause_gone(),
            Event::ForeignFound { pid } => self.foreign_found(pid),
            Event::ForeignGone { pid } => self.foreign_gone(pid),
            Event::Tick => self.tick(now),
        }
    }

    fn start(&mut self) -> Step {
        match &mut self.phase {
            Phase::Stopped { .. } | Phase::Blocked { .. } | Phase::Backoff { .. } => {
                self.wish_up();
                Step::of(Answer::Accepted, self.enter_preparing(0))
            }
            Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. } => {
                self.wish = Wish::Up;
                Step::of(Answer::Already, Vec::new())
            }
            Phase::Stopping { then, .. } | Phase::Killing { then, .. } => {
                *then = Then::StartAgain;
                self.wish_up();
                Step::of(Answer::Accepted, Vec::new())
            }
            Phase::Foreign { pid } => {
                let denial = Denial::Foreign { pid: *pid };
                Step::of(Answer::Denied(denial), Vec::new())
            }
        }
    }

    fn stop(&mut self, now: MonoTime, cause: StopCause) -> Step {
        self.wish = Wish::Down;
        match &mut self.phase {
            Phase::Stopped { why } => {
                *why = Rest::Asked(cause);
                Step::of(Answer::Already, Vec::new())
            }
            Phase::Blocked { .. } | Phase::Preparing { .. } | Phase::Backoff { .. } => {
                self.enter_stopped(Rest::Asked(cause));
                Step::of(Answer::Accepted, Vec::new())
            }
            Phase::Spawning { run } => {
                self.phase = Phase::Stopping {
                    run: *run,
                    stage: StopStage::AwaitsSpawn,
                    then: Then::Rest(cause),
                };
                Step::of(Answer::Accepted, Vec::new())
            }
            Phase::Proving { run, .. } | Phase::Running { run, .. } => {
                let run = *run;
                Step::of(
                    Answer::Accepted,
                    self.enter_grace(now, run, Then::Rest(cause)),
                )
            }
            Phase::Stopping { then, .. } | Phase::Killing { then, .. } => {
                *then = Then::Rest(cause);
                Step::of(Answer::Accepted, Vec::new())
            }
            Phase::Foreign { pid } => {
                let denial = Denial::Foreign { pid: *pid };
                Step::of(Answer::Denied(denial), Vec::new())
            }
        }
    }

    fn restart(&mut self, now: MonoTime) -> Step {
        match &mut self.phase {
            Phase::Proving { run, .. } | Phase::Running { run, .. } => {
                let run = *run;
                self.wish_up();
                Step::of(
                    Answer::Accepted,
                    self.enter_grace(now, run, Then::StartAgain),
                )
            }
            Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => self.start(),
        }
    }

    fn kill_now(&mut self, now: MonoTime) -> Step {
        self.wish = Wish::Down;
        let then = Then::Rest(StopCause::Shutdown);
        match &self.phase {
            Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => {
                self.enter_stopped(Rest::Asked(StopCause::Shutdown));
                Step::of(Answer::Already, Vec::new())
            }
            Phase::Spawning { run }
            | Phase::Stopping {
                run,
                stage: StopStage::AwaitsSpawn | StopStage::AwaitsSpawnToKill,
                ..
            } => {
                self.phase = Phase::Stopping {
                    run: *run,
                    stage: StopStage::AwaitsSpawnToKill,
                    then,
                };
                Step::of(Answer::Accepted, Vec::new())
            }
            Phase::Proving { run, .. }
            | Phase::Running { run, .. }
            | Phase::Stopping {
                run,
                stage: StopStage::Grace { .. },
                ..
            }
            | Phase::Killing { run, .. } => {
                let run = *run;
                Step::of(Answer::Accepted, self.enter_killing(now, run, 0, then))
            }
        }
    }

    fn prepared(&mut self, ticket: Ticket) -> Step {
        match &self.phase {
            Phase::Preparing { ticket: open, .. } if *open == ticket => {
                self.run = self.run.next();
                self.phase = Phase::Spawning { run: self.run };
                Step::noted(vec![Effect::Spawn(self.run)])
            }
            Phase::Preparing { .. }
            | Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Spawning { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => Step::stale(),
        }
    }

    fn prepare_failed(&mut self, now: MonoTime, ticket: Ticket, reason: BlockReason) -> Step {
        match &self.phase {
            Phase::Preparing {
                ticket: open,
                attempt,
            } if *open == ticket => {
                let attempt = *attempt;
                self.enter_blocked(now, reason, attempt);
                Step::noted(Vec::new())
            }
            Phase::Preparing { .. }
            | Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Spawning { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => Step::stale(),
        }
    }

    fn spawned(&mut self, now: MonoTime, run: Run, pid: i32) -> Step {
        let report = Effect::ReportStarted { run, pid };
        match &self.phase {
            Phase::Spawning { run: present } if *present == run => {
                let allowed = match self.rules.ready {
                    ReadyRule::Lives(proof) => proof,
                    ReadyRule::Told => self.rules.start_timeout,
                };
                self.phase = Phase::Proving {
                    run,
                    pid,
                    since: now,
                    deadline: now.after(allowed),
                };
                Step::noted(vec![report])
            }
            Phase::Stopping {
                run: present,
                stage: stage @ (StopStage::AwaitsSpawn | StopStage::AwaitsSpawnToKill),
                then,
            } if *present == run => {
                let (stage, then) = (*stage, then.clone());
                let mut effects = vec![report];
                effects.extend(match stage {
                    StopStage::AwaitsSpawnToKill => self.enter_killing(now, run, 0, then),
                    StopStage::AwaitsSpawn | StopStage::Grace { .. } => {
                        self.enter_grace(now, run, then)
                    }
                });
                Step::noted(effects)
            }
            Phase::Spawning { .. }
            | Phase::Stopping { .. }
            | Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Killing { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => Step::stale(),
        }
    }

    fn spawn_failed(&mut self, now: MonoTime, run: Run, failure: SpawnFailure) -> Step {
        match &self.phase {
            Phase::Spawning { run: present } if *present == run => match failure {
                SpawnFailure::Missing(text) | SpawnFailure::Busy(text) => {
                    self.run = Run(self.run.0.saturating_sub(1));
                    self.enter_blocked(now, BlockReason::Executable(text), 0);
                    Step::noted(Vec::new())
                }
                SpawnFailure::Failed(text) => {
                    self.run = Run(self.run.0.saturating_sub(1));
                    Step::noted(self.decide(now, run, Failure::Spawn(text), Duration::ZERO))
                }
            },
            Phase::Stopping {
                run: present,
                stage: StopStage::AwaitsSpawn | StopStage::AwaitsSpawnToKill,
                then,
            } if *present == run => {
                let then = then.clone();
                self.run = Run(self.run.0.saturating_sub(1));
                Step::noted(self.conclude(now, run, then))
            }
            Phase::Spawning { .. }
            | Phase::Stopping { .. }
            | Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Killing { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => Step::stale(),
        }
    }

    fn ready(&mut self, run: Run) -> Step {
        match &self.phase {
            Phase::Proving {
                run: present,
                pid,
                since,
                ..
            } if *present == run => {
                self.phase = Phase::Running {
                    run,
                    pid: *pid,
                    since: *since,
                };
                Step::noted(Vec::new())
            }
            Phase::Proving { .. }
            | Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => Step::stale(),
        }
    }

    fn main_ended(&mut self, now: MonoTime, run: Run, status: ExitStatus) -> Step {
        match &self.phase {
            Phase::Proving {
                run: present,
                since,
                ..
            } if *present == run => {
                let lasted = now.since(*since);
                let failure = Failure::EarlyExit(status);
                Step::noted(self.enter_grace(now, run, Then::Decide { failure, lasted }))
            }
            Phase::Running {
                run: present,
                since,
                ..
            } if *present == run => {
                let lasted = now.since(*since);
                let failure = Failure::Ended(status);
                Step::noted(self.enter_grace(now, run, Then::Decide { failure, lasted }))
            }
            // What left the group and hung under the main process shows itself now; it gets the signal too.
            Phase::Stopping {
                run: present,
                stage: StopStage::Grace { .. },
                ..
            } if *present == run => Step::noted(vec![Effect::SignalTree(run)]),
            Phase::Killing { run: present, .. } if *present == run => {
                Step::noted(vec![Effect::KillTree(run)])
            }
            Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => Step::stale(),
        }
    }

    fn tree_ended(&mut self, now: MonoTime, run: Run, status: ExitStatus) -> Step {
        let (failure, effects) = match &self.phase {
            Phase::Proving {
                run: present,
                since,
                ..
            } if *present == run => {
                let lasted = now.since(*since);
                let failure = Failure::EarlyExit(status);
                (
                    Some(failure.clone()),
                    self.decide(now, run, failure, lasted),
                )
            }
            Phase::Running {
                run: present,
                since,
                ..
            } if *present == run => {
                let lasted = now.since(*since);
                let failure = Failure::Ended(status);
                (
                    Some(failure.clone()),
                    self.decide(now, run, failure, lasted),
                )
            }
            Phase::Stopping {
                run: present,
                stage: StopStage::Grace { .. },
                then,
            }
            | Phase::Killing {
                run: present, then, ..
            } if *present == run => {
                let then = then.clone();
                let failure = match &then {
                    Then::Decide { failure, .. } => Some(failure.clone()),
                    Then::Rest(_) | Then::StartAgain => None,
                };
                (failure, self.conclude(now, run, then))
            }
            Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => return Step::stale(),
        };
        let mut all = vec![Effect::ReportEnded {
            run,
            status,
            failure,
        }];
        all.extend(effects);
        Step::noted(all)
    }

    fn cause_gone(&mut self) -> Step {
        match &self.phase {
            Phase::Blocked { .. } | Phase::Backoff { .. } => Step::noted(self.enter_preparing(0)),
            Phase::Stopped { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Foreign { .. } => Step::stale(),
        }
    }

    fn foreign_found(&mut self, pid: i32) -> Step {
        match &self.phase {
            Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => {
                self.phase = Phase::Foreign { pid };
                Step::noted(Vec::new())
            }
            Phase::Spawning { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. } => Step::stale(),
        }
    }

    fn foreign_gone(&mut self, pid: i32) -> Step {
        match &self.phase {
            Phase::Foreign { pid: known } if *known == pid => match self.wish {
                Wish::Up => Step::noted(self.enter_preparing(0)),
                Wish::Down => {
                    self.enter_stopped(Rest::NeverStarted);
                    Step::noted(Vec::new())
                }
            },
            Phase::Foreign { .. }
            | Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Backoff { .. } => Step::stale(),
        }
    }

    fn tick(&mut self, now: MonoTime) -> Step {
        if self.next_deadline().is_none_or(|deadline| now < deadline) {
            return Step::stale();
        }
        match &self.phase {
            Phase::Blocked { attempt, .. } => {
                let attempt = *attempt;
                Step::noted(self.enter_preparing(attempt))
            }
            Phase::Backoff { .. } => Step::noted(self.enter_preparing(0)),
            Phase::Proving {
                run, pid, since, ..
            } => {
                let (run, pid, since) = (*run, *pid, *since);
                match self.rules.ready {
                    ReadyRule::Lives(_) => {
                        self.phase = Phase::Running { run, pid, since };
                        Step::noted(Vec::new())
                    }
                    ReadyRule::Told => {
                        let lasted = now.since(since);
                        let failure = Failure::NotReady(lasted);
                        Step::noted(self.enter_grace(now, run, Then::Decide { failure, lasted }))
                    }
                }
            }
            Phase::Stopping { run, then, .. } => {
                let (run, then) = (*run, then.clone());
                Step::noted(self.enter_killing(now, run, 0, then))
            }
            Phase::Killing {
                run, rounds, then, ..
            } => {
                let (run, rounds, then) = (*run, *rounds, then.clone());
                Step::noted(self.enter_killing(now, run, rounds, then))
            }
            Phase::Stopped { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Running { .. }
            | Phase::Foreign { .. } => Step::stale(),
        }
    }

    /// A wish by hand: what failed before no longer counts (spec §9).
    fn wish_up(&mut self) {
        self.wish = Wish::Up;
        self.row = 0;
        self.restarts = 0;
    }

    fn enter_stopped(&mut self, why: Rest) {
        self.phase = Phase::Stopped { why };
    }

    fn enter_preparing(&mut self, attempt: u32) -> Vec<Effect> {
        self.ticket = Ticket(self.ticket.0.wrapping_add(1));
        self.phase = Phase::Preparing {
            ticket: self.ticket,
            attempt,
        };
        vec![Effect::Prepare(self.ticket)]
    }

    fn enter_blocked(&mut self, now: MonoTime, reason: BlockReason, attempts_before: u32) {
        self.phase = Phase::Blocked {
            reason,
            retry_at: now.after(blocked_delay(attempts_before, &mut self.jitter)),
            attempt: attempts_before.saturating_add(1),
        };
    }

    fn enter_grace(&mut self, now: MonoTime, run: Run, then: Then) -> Vec<Effect> {
        self.phase = Phase::Stopping {
            run,
            stage: StopStage::Grace {
                deadline: now.after(self.rules.stop.grace),
            },
            then,
        };
        vec![Effect::SignalTree(run)]
    }

    fn enter_killing(&mut self, now: MonoTime, run: Run, rounds: u32, then: Then) -> Vec<Effect> {
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
    fn conclude(&mut self, now: MonoTime, run: Run, then: Then) -> Vec<Effect> {
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
    fn decide(
        &mut self,
        now: MonoTime,
        run: Run,
        failure: Failure,
        lasted: Duration,
    ) -> Vec<Effect> {
        if lasted >= self.rules.restart.stable_after {
            self.row = 0;
        }
        let again = match self.rules.restart.mode {
            RestartMode::Always => true,
            RestartMode::Never => false,
            RestartMode::OnFailure => match &failure {
                Failure::EarlyExit(status) | Failure::Ended(status) => status.is_failure(),
                Failure::Spawn(_) | Failure::NotReady(_) => true,
            },
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
}
