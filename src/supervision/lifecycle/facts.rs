//! Facts, each against every phase.
//!
//! Invariant: a fact that does not fit the phase, its run or its ticket changes nothing.

use super::{
    BlockReason, Effect, Failure, Lifecycle, Patience, Pause, Phase, ReadyRule, SpawnFailure, Step,
    StopStage, Then, Ticket, Watch, Wish,
};
use crate::{ExitStatus, MonoTime, Run};
use std::time::Duration;

impl Lifecycle {
    pub(super) fn prepared(&mut self, ticket: Ticket) -> Step {
        match &self.phase {
            Phase::Preparing {
                ticket: open,
                attempt,
            } if *open == ticket => {
                self.run = self.run.next();
                self.phase = Phase::Spawning {
                    run: self.run,
                    attempt: *attempt,
                };
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

    pub(super) fn prepare_failed(
        &mut self,
        now: MonoTime,
        ticket: Ticket,
        reason: BlockReason,
    ) -> Step {
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

    pub(super) fn spawned(&mut self, now: MonoTime, run: Run, pid: i32) -> Step {
        let report = Effect::ReportStarted { run, pid };
        match &self.phase {
            Phase::Spawning { run: present, .. } if *present == run => {
                let rule = self.rules.ready;
                let patience = match rule {
                    ReadyRule::Lives(proof) => Patience::Until(now.after(proof)),
                    ReadyRule::Told => Patience::Until(now.after(self.rules.start_timeout)),
                    ReadyRule::ToldByBus => {
                        Patience::begun(now, self.rules.start_timeout, self.bus)
                    }
                };
                self.phase = Phase::Proving {
                    run,
                    pid,
                    since: now,
                    rule,
                    patience,
                    watch_every: self.rules.watchdog,
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

    pub(super) fn spawn_failed(&mut self, now: MonoTime, run: Run, failure: SpawnFailure) -> Step {
        match &self.phase {
            Phase::Spawning {
                run: present,
                attempt,
            } if *present == run => match failure {
                SpawnFailure::Missing(text) | SpawnFailure::Busy(text) => {
                    let attempt = *attempt;
                    self.enter_blocked(now, BlockReason::Executable(text), attempt);
                    Step::noted(Vec::new())
                }
                SpawnFailure::Failed(text) => {
                    Step::noted(self.decide(now, run, Failure::Spawn(text), Duration::ZERO))
                }
            },
            Phase::Stopping {
                run: present,
                stage: StopStage::AwaitsSpawn | StopStage::AwaitsSpawnToKill,
                then,
            } if *present == run => {
                let then = then.clone();
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

    pub(super) fn ready(&mut self, now: MonoTime, run: Run) -> Step {
        match &self.phase {
            Phase::Proving {
                run: present,
                pid,
                since,
                rule: ReadyRule::Told | ReadyRule::ToldByBus,
                watch_every,
                ..
            } if *present == run => {
                self.phase = Phase::Running {
                    run,
                    pid: *pid,
                    since: *since,
                    watch: Watch::begun(now, *watch_every),
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

    pub(super) fn main_ended(&mut self, now: MonoTime, run: Run, status: ExitStatus) -> Step {
        match &self.phase {
            Phase::Proving {
                run: present,
                since,
                ..
            } if *present == run => {
                let lasted = now.since(*since);
                let failure = Failure::EarlyExit(status);
                Step::noted(self.enter_grace(now, run, Then::decide(failure, lasted)))
            }
            Phase::Running {
                run: present,
                since,
                ..
            } if *present == run => {
                let lasted = now.since(*since);
                let failure = Failure::Ended(status);
                Step::noted(self.enter_grace(now, run, Then::decide(failure, lasted)))
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

    pub(super) fn tree_ended(&mut self, now: MonoTime, run: Run, status: ExitStatus) -> Step {
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
                    // It may have failed before somebody asked.
                    Then::Rest(_) | Then::StartAgain => {
                        let last = self.last_failure.as_ref().filter(|last| last.run == run);
                        last.map(|last| last.failure.clone())
                    }
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
        // The look before the next run is on its way before this one's end is told.
        let mut all = effects;
        all.push(Effect::ReportEnded {
            run,
            status,
            failure,
        });
        Step::noted(all)
    }

    pub(super) fn cause_gone(&mut self) -> Step {
        match &mut self.phase {
            Phase::Blocked { .. } | Phase::Backoff { .. } => Step::noted(self.enter_preparing(0)),
            // The look under way may have come too early; if so, the next one comes soon.
            Phase::Preparing { attempt, .. } | Phase::Spawning { attempt, .. } => {
                *attempt = 0;
                Step::noted(Vec::new())
            }
            // What it fell over may be gone before the rest of its tree is.
            Phase::Stopping {
                then: Then::Decide { pause, .. },
                ..
            }
            | Phase::Killing {
                then: Then::Decide { pause, .. },
                ..
            } => {
                *pause = Pause::CutShort;
                Step::noted(Vec::new())
            }
            Phase::Stopped { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopping {
                then: Then::Rest(_) | Then::StartAgain,
                ..
            }
            | Phase::Killing {
                then: Then::Rest(_) | Then::StartAgain,
                ..
            }
            | Phase::Foreign { .. } => Step::stale(),
        }
    }

    pub(super) fn outdated(&mut self, now: MonoTime) -> Step {
        match self.wish {
            Wish::Up => self.row = 0,
            // What ends or rests does so as somebody wished; the next start is by the new settings.
            Wish::Down => return Step::stale(),
        }
        match &mut self.phase {
            Phase::Blocked { .. } | Phase::Backoff { .. } | Phase::Preparing { .. } => {
                // A look under way went by the old settings: its result is stale.
                Step::noted(self.enter_preparing(0))
            }
            Phase::Spawning { run, .. } => {
                self.phase = Phase::Stopping {
                    run: *run,
                    stage: StopStage::AwaitsSpawn,
                    then: Then::StartAgain,
                };
                Step::noted(Vec::new())
            }
            Phase::Proving { run, .. } | Phase::Running { run, .. } => {
                let run = *run;
                Step::noted(self.enter_grace(now, run, Then::StartAgain))
            }
            // It failed by the old settings.
            Phase::Stopping {
                then: Then::Decide { pause, .. },
                ..
            }
            | Phase::Killing {
                then: Then::Decide { pause, .. },
                ..
            } => {
                *pause = Pause::CutShort;
                Step::noted(Vec::new())
            }
            // What comes next goes by the new settings anyway.
            Phase::Stopped { .. }
            | Phase::Stopping {
                then: Then::Rest(_) | Then::StartAgain,
                ..
            }
            | Phase::Killing {
                then: Then::Rest(_) | Then::StartAgain,
                ..
            }
            | Phase::Foreign { .. } => Step::noted(Vec::new()),
        }
    }

    pub(super) fn foreign_found(&mut self, pid: i32) -> Step {
        match &self.phase {
            Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Backoff { .. } => {
                self.phase = Phase::Foreign { pid };
                Step::noted(Vec::new())
            }
            // A second copy is met again by the look that follows the first one's end.
            Phase::Foreign { .. }
            | Phase::Spawning { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. } => Step::stale(),
        }
    }

    pub(super) fn foreign_gone(&mut self, pid: i32) -> Step {
        match &self.phase {
            Phase::Foreign { pid: known } if *known == pid => match self.wish {
                Wish::Up => Step::noted(self.enter_preparing(0)),
                Wish::Down => {
                    self.enter_stopped(self.rest.clone());
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
}
