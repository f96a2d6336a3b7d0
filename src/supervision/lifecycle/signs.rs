//! What a run tells of itself, and what is found out about it, while it lives: each against every phase.
//!
//! Invariants: what concerns another run than the present one changes nothing; whatever ends a run here leads to its
//! policy's decision, never past it.

use super::{
    Answer, Bus, Failure, Lifecycle, Patience, Phase, ReadyRule, Step, StopStage, Then, Watch,
};
use crate::policy::{FailureClass, RestartMode};
use crate::{MonoTime, PluginId, Run};
use std::time::Duration;

impl Lifecycle {
    /// The watchdog of a ready run is fed.
    pub(super) fn alive(&mut self, now: MonoTime, run: Run) -> Step {
        match &mut self.phase {
            Phase::Running {
                run: present,
                watch: Some(watch),
                ..
            } if *present == run => {
                // What was extended is not cut short by a sign that comes early.
                watch.due = watch.due.max(now.after(watch.every));
                Step::noted(Vec::new())
            }
            Phase::Running { .. }
            | Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Proving { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => Step::stale(),
        }
    }

    /// Whatever it has to do by a deadline may take longer.
    pub(super) fn extend(&mut self, now: MonoTime, run: Run, by: Duration) -> Step {
        match &mut self.phase {
            Phase::Proving {
                run: present,
                rule: ReadyRule::Told | ReadyRule::ToldByBus,
                patience,
                ..
            } if *present == run => {
                *patience = patience.extended(now, by);
                Step::noted(Vec::new())
            }
            Phase::Running {
                run: present,
                watch: Some(watch),
                ..
            } if *present == run => {
                watch.due = watch.due.max(now.after(by));
                Step::noted(Vec::new())
            }
            Phase::Stopping {
                run: present,
                stage: StopStage::Grace { deadline },
                ..
            } if *present == run => {
                *deadline = (*deadline).max(now.after(by));
                Step::noted(Vec::new())
            }
            Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Killing { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => Step::stale(),
        }
    }

    /// It wants to be watched with another interval, from now on.
    pub(super) fn watchdog_set(&mut self, now: MonoTime, run: Run, every: Duration) -> Step {
        match &mut self.phase {
            Phase::Proving {
                run: present,
                watch_every,
                ..
            } if *present == run => {
                *watch_every = Some(every);
                Step::noted(Vec::new())
            }
            Phase::Running {
                run: present,
                watch,
                ..
            } if *present == run => {
                *watch = Watch::begun(now, Some(every));
                Step::noted(Vec::new())
            }
            Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => Step::stale(),
        }
    }

    /// Ends the present run, if it is `run` and lives unasked; the policy decides what comes then.
    pub(super) fn fail_run(&mut self, now: MonoTime, run: Run, failure: Failure) -> Step {
        match &self.phase {
            Phase::Proving {
                run: present,
                since,
                ..
            }
            | Phase::Running {
                run: present,
                since,
                ..
            } if *present == run => {
                let lasted = now.since(*since);
                Step::noted(self.enter_grace(now, run, Then::decide(failure, lasted)))
            }
            Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Spawning { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => Step::stale(),
        }
    }

    /// A required plugin went away: by its class of the policy the run goes on, or is started anew behind the other. A look
    /// that found it there is taken again, so that nothing is started without it.
    pub(super) fn dependency_lost(&mut self, now: MonoTime, on: PluginId) -> Step {
        let class = self.rules.restart.of_class(FailureClass::DependencyLost);
        let follows = match class.mode {
            RestartMode::Always | RestartMode::OnFailure => true,
            RestartMode::Never => false,
        };
        let failure = Failure::DependencyLost(on);
        match self.phase {
            Phase::Preparing { attempt, .. } => Step::noted(self.enter_preparing(attempt)),
            Phase::Spawning { run, .. } if follows => {
                self.phase = Phase::Stopping {
                    run,
                    stage: StopStage::AwaitsSpawn,
                    then: Then::decide(failure, Duration::ZERO),
                };
                Step::noted(Vec::new())
            }
            Phase::Proving { run, .. } | Phase::Running { run, .. } if follows => {
                self.fail_run(now, run, failure)
            }
            Phase::Spawning { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => Step::stale(),
        }
    }

    /// Whether the bus can be asked decides whether the time of a run that is proved by it goes on.
    pub(super) fn bus_is(&mut self, now: MonoTime, bus: Bus) -> Step {
        if self.bus == bus {
            return Step::stale();
        }
        self.bus = bus;
        if let Phase::Proving {
            rule: ReadyRule::ToldByBus,
            patience,
            ..
        } = &mut self.phase
        {
            *patience = patience.with_bus(now, bus);
        }
        Step::of(Answer::Noted, Vec::new())
    }
}

impl Patience {
    /// The patience with a run that is told of by the bus.
    pub(super) fn begun(now: MonoTime, allowed: Duration, bus: Bus) -> Self {
        Patience::Until(now.after(allowed)).with_bus(now, bus)
    }

    fn with_bus(self, now: MonoTime, bus: Bus) -> Self {
        match (self, bus) {
            (Patience::Until(deadline), Bus::Away) => Patience::Held(deadline.since(now)),
            (Patience::Held(left), Bus::There) => Patience::Until(now.after(left)),
            (same @ Patience::Until(_), Bus::There) | (same @ Patience::Held(_), Bus::Away) => same,
        }
    }
}
