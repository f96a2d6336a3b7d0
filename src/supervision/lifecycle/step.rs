//! The table: every phase × event, written out.
//!
//! Invariants: one function per event, each with one `match` over all phases and no wildcard; commands are in
//! `commands`, facts in `facts`; the effects that come with a phase are in `enter`.

use super::{Answer, Bus, Effect, Event, Failure, Lifecycle, Phase, ReadyRule, Step, Then, Watch};
use crate::MonoTime;
use std::time::Duration;

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
            Event::Ready { run } => self.ready(now, run),
            Event::Alive { run } => self.alive(now, run),
            Event::Extend { run, by } => self.extend(now, run, by),
            Event::WatchdogSet { run, every } => self.watchdog_set(now, run, every),
            Event::WatchdogTripped { run } => {
                self.fail_run(now, run, Failure::Watchdog(Duration::ZERO))
            }
            Event::LimitExceeded { run, text } => self.fail_run(now, run, Failure::Limit(text)),
            Event::BusLost => self.bus_is(now, Bus::Away),
            Event::BusBack => self.bus_is(now, Bus::There),
            Event::DependencyLost { on } => self.dependency_lost(now, on),
            Event::MainEnded { run, status } => self.main_ended(now, run, status),
            Event::TreeEnded { run, status } => self.tree_ended(now, run, status),
            Event::CauseGone => self.cause_gone(),
            Event::Outdated => self.outdated(now),
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
                watch_every,
                ..
            } => {
                let (run, pid, since, every) = (*run, *pid, *since, *watch_every);
                match rule {
                    ReadyRule::Lives(_) => {
                        let watch = Watch::begun(now, every);
                        self.phase = Phase::Running {
                            run,
                            pid,
                            since,
                            watch,
                        };
                        Step::noted(Vec::new())
                    }
                    ReadyRule::Told | ReadyRule::ToldByBus => {
                        let lasted = now.since(since);
                        let failure = Failure::NotReady(lasted);
                        Step::noted(self.enter_grace(now, run, Then::decide(failure, lasted)))
                    }
                }
            }
            Phase::Running {
                run,
                watch: Some(watch),
                ..
            } => {
                let (run, every) = (*run, watch.every);
                self.fail_run(now, run, Failure::Watchdog(every))
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
            | Phase::Running { watch: None, .. }
            | Phase::Foreign { .. } => Step::stale(),
        }
    }
}
