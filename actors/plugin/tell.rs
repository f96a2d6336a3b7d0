//! What a plugin's actor tells the bus of its phases (spec §8).
//!
//! Invariants: one event for each change of phase, told in one place, in the order of the changes; the words come from the
//! lifecycle that decides, and from who asked.

use super::PluginState;
use crate::happening::{Happening, PhaseChange};
use crate::ports::Herald;
use crate::seat::{Seat, SeatState};
use std::time::Duration;
use supervision::lifecycle::{Effect, Event, Lifecycle, Phase, PhaseName};
use supervision::{ExitStatus, MonoTime, PluginId, Run};

/// What an event has to say of its cause; an order says more than what happened before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A start was.
    Start,
    /// A restart was.
    Restart,
    /// Nothing was that the phase would not tell itself.
    Nothing,
}

impl Asked {
    pub(super) fn by(event: &Event) -> Asked {
        if matches!(event, Event::Start) {
            Asked::Start
        } else if matches!(event, Event::Restart) {
            Asked::Restart
        } else {
            Asked::Nothing
        }
    }

    fn words(self, by: &str) -> Option<String> {
        let what = match self {
            Asked::Start => "start",
            Asked::Restart => "restart",
            Asked::Nothing => return None,
        };
        Some(if by.is_empty() {
            format!("{what} asked for")
        } else {
            format!("{what} asked for by '{by}'")
        })
    }
}

/// The end of a run among the effects of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    run: Run,
    status: ExitStatus,
    failed: bool,
}

pub(super) fn ended_by(effects: &[Effect]) -> Option<Ended> {
    effects.iter().find_map(|effect| {
        if let Effect::ReportEnded {
            run,
            status,
            failure,
        } = effect
        {
            Some(Ended {
                run: *run,
                status: *status,
                failed: failure.is_some(),
            })
        } else {
            None
        }
    })
}

/// Notes the change that a step made, to be told in its turn: with the last lines of a run that failed as soon as they are
/// in. Noted with the step itself, so that a crash of the actor does not lose it. Returns its cause.
pub(super) fn note_change(
    id: &PluginId,
    state: &mut SeatState,
    from: PhaseName,
    (asked, by): (Asked, &str),
    ended: Option<Ended>,
    now: MonoTime,
) -> String {
    let by = if by.is_empty() { &state.wish_by } else { by };
    let run = state.life.run();
    let cause = asked
        .words(by)
        .unwrap_or_else(|| cause(&state.life, from, ended));
    let change = PhaseChange {
        time_mse: state.phase_since_mse,
        id: id.clone(),
        run,
        pid: pid(state, run),
        from,
        to: state.life.phase().name(),
        cause: cause.clone(),
        status: ended.map(|ended| ended.status),
        restart_in: restart_in(state, ended, now),
        tail: Vec::new(),
    };
    let happening = Happening::Plugin(Box::new(change));
    match ended {
        Some(Ended {
            run, failed: true, ..
        }) => state.outbox.put_with_tail(happening, run),
        Some(_) | None => state.outbox.put(happening),
    }
    cause
}

/// Why it changed. A failure is why it ended, or is tried again; it is no cause of being ready.
fn cause(life: &Lifecycle, from: PhaseName, ended: Option<Ended>) -> String {
    let failed = ended.is_some_and(|ended| ended.failed) || from == PhaseName::Backoff;
    match life.phase() {
        Phase::Preparing { .. } if !failed => String::new(),
        Phase::Spawning { .. } | Phase::Proving { .. } | Phase::Running { .. } => String::new(),
        Phase::Preparing { .. }
        | Phase::Stopped { .. }
        | Phase::Blocked { .. }
        | Phase::Stopping { .. }
        | Phase::Killing { .. }
        | Phase::Backoff { .. }
        | Phase::Foreign { .. } => life.cause(),
    }
}

/// The main process of the newest run, as far as it is known: that of a run before is none of it.
fn pid(state: &SeatState, run: Run) -> i32 {
    let newest = if state.pid_of == run { state.pid } else { -1 };
    state.life.phase().pid().unwrap_or(newest)
}

fn restart_in(state: &SeatState, ended: Option<Ended>, now: MonoTime) -> Option<Duration> {
    let phase = state.life.phase();
    let at_once = phase.name() == PhaseName::Preparing && ended.is_some();
    match phase.next_try() {
        Some((at, _)) => Some(at.since(now)),
        None => at_once.then_some(Duration::ZERO),
    }
}

impl PluginState {
    /// To be told in its turn.
    pub(super) fn announce(&self, happening: Happening) {
        self.seat.state().outbox.put(happening);
        self.seat.tell_news(self.ports.herald.as_ref());
    }
}

impl Seat {
    /// Tells what may be told by now. One after the other is taken out, so that a crash on the way loses none of the
    /// others.
    pub(crate) fn tell_news(&self, herald: &dyn Herald) {
        loop {
            let next = self.state().outbox.next();
            match next {
                Some(happening) => herald.announce(happening),
                None => return,
            }
        }
    }
}
