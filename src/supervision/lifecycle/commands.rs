//! Commands, each against every phase.
//!
//! Invariant: a command that is not denied is never lost: the wish follows it at once, the phase as soon as it can.

use super::{
    Answer, Denial, LastFailure, Lifecycle, Phase, Rest, Step, StopCause, StopStage, Then, Wish,
};
use crate::{MonoTime, Run};

impl Lifecycle {
    pub(super) fn start(&mut self) -> Step {
        match &mut self.phase {
            Phase::Stopped { .. } | Phase::Blocked { .. } | Phase::Backoff { .. } => {
                self.wish_up();
                Step::of(Answer::Accepted, self.enter_preparing(0))
            }
            Phase::Preparing { attempt, .. } | Phase::Spawning { attempt, .. } => {
                *attempt = 0;
                self.wish_up();
                Step::of(Answer::Already, Vec::new())
            }
            Phase::Proving { .. } | Phase::Running { .. } => {
                self.wish_up();
                Step::of(Answer::Already, Vec::new())
            }
            Phase::Stopping { run, then, .. } | Phase::Killing { run, then, .. } => {
                let was = (*run, std::mem::replace(then, Then::StartAgain));
                self.overtaken(was);
                self.wish_up();
                Step::of(Answer::Accepted, Vec::new())
            }
            Phase::Foreign { pid } => {
                let denial = Denial::Foreign { pid: *pid };
                Step::of(Answer::Denied(denial), Vec::new())
            }
        }
    }

    pub(super) fn stop(&mut self, now: MonoTime, cause: StopCause) -> Step {
        let wished = std::mem::replace(&mut self.wish, Wish::Down);
        match &mut self.phase {
            Phase::Stopped { .. } => {
                // The original's status becomes "stopped by user" by a stop of this one only, not of all (HP 1.8).
                match cause {
                    StopCause::ByHand => self.enter_stopped(Rest::Asked(cause)),
                    StopCause::All | StopCause::Unlisted | StopCause::Shutdown => {}
                }
                Step::of(Answer::Already, Vec::new())
            }
            Phase::Blocked { .. } | Phase::Preparing { .. } | Phase::Backoff { .. } => {
                self.enter_stopped(Rest::Asked(cause));
                Step::of(Answer::Accepted, Vec::new())
            }
            Phase::Spawning { run, .. } => {
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
            Phase::Stopping { run, then, .. } | Phase::Killing { run, then, .. } => {
                let was = (*run, std::mem::replace(then, Then::Rest(cause)));
                self.overtaken(was);
                Step::of(Answer::Accepted, Vec::new())
            }
            Phase::Foreign { pid } => {
                let denial = Denial::Foreign { pid: *pid };
                match (cause, wished) {
                    (StopCause::ByHand, _) => {
                        self.rest = Rest::Asked(cause);
                        Step::of(Answer::Denied(denial), Vec::new())
                    }
                    // All of ours are meant; of ours nothing lives here.
                    (StopCause::All | StopCause::Unlisted | StopCause::Shutdown, Wish::Up) => {
                        self.rest = Rest::Asked(cause);
                        Step::of(Answer::Already, Vec::new())
                    }
                    (StopCause::All | StopCause::Unlisted | StopCause::Shutdown, Wish::Down) => {
                        Step::of(Answer::Already, Vec::new())
                    }
                }
            }
        }
    }

    pub(super) fn restart(&mut self, now: MonoTime) -> Step {
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

    pub(super) fn kill_now(&mut self, now: MonoTime) -> Step {
        let then = Then::Rest(StopCause::Shutdown);
        if let Phase::Stopping { run, then, .. } | Phase::Killing { run, then, .. } = &self.phase {
            self.overtaken((*run, then.clone()));
        }
        match &self.phase {
            // Nothing of ours lives, so there is nothing to be killed.
            Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Preparing { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => self.stop(now, StopCause::Shutdown),
            Phase::Spawning { run, .. }
            | Phase::Stopping {
                run,
                stage: StopStage::AwaitsSpawn | StopStage::AwaitsSpawnToKill,
                ..
            } => {
                self.wish = Wish::Down;
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
                self.wish = Wish::Down;
                Step::of(Answer::Accepted, self.enter_killing(now, run, 0, then))
            }
        }
    }

    /// A command says what comes after a run that is being ended. If it had failed, that stays what ended it.
    fn overtaken(&mut self, (run, then): (Run, Then)) {
        match then {
            Then::Decide {
                failure, lasted, ..
            } => {
                self.last_failure = Some(LastFailure {
                    run,
                    failure,
                    lasted,
                });
            }
            Then::Rest(_) | Then::StartAgain => {}
        }
    }
}
