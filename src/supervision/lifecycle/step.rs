//! The table: every phase × event, written out.
//!
//! Invariants: one function per event, each with one `match` over all phases and no wildcard; commands are in
//! `commands`, facts in `facts`; the effects that come with a phase are in `enter`.

use super::{Answer, Effect, Event, Failure, Lifecycle, Phase, ReadyRule, Step, Then};
use crate::MonoTime;

impl Step {
    pub(super) fn of(answer: Answer, effects: Vec<Effect>) -> Self {
        Step { answer, effects }
    }

    pub(super) fn noted(effects: Vec<Effect>) -> Self {
        Step::of(Answer::Noted, effects)
    }

    pub(super) fn stale() -> Self {
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
                run,
                pid,
                since,
                rule,
                ..
            } => {
                let (run, pid, since) = (*run, *pid, *since);
                match rule {
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
}
