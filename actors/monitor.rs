//! The monitor: has trees measured at each interval, theirs or that of all, and new runs soon after they began.
//!
//! Invariants: one measurement at a time; rounds of one interval keep their distance, however often runs begin; what is
//! measured goes to each plugin's actor, never into its state from here; without an interval there is no timer at all.

use crate::hub::Hub;
use crate::message::PluginMessage;
use crate::ports::{Child, Plans, Round};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Duration;
use supervision::{PluginId, Run};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// How soon after its begin a run is measured first, so that `ls` has figures.
pub const SOON: Duration = Duration::from_millis(500);

/// What the monitor understands.
#[derive(Debug)]
pub enum MonitorMessage {
    /// A run began, or the interval changed.
    Rung,
    /// It is time to measure.
    Measure,
    /// The measurement is done and was handed out.
    Measured,
}

/// The actor.
pub struct Monitor;

/// What the actor holds.
pub struct MonitorState {
    hub: Arc<Hub>,
    /// The plans whose intervals are in `rounds`.
    of: Arc<Plans>,
    /// What is measured again and again.
    rounds: Vec<Again>,
    /// When runs that were not measured yet are; none = there are none.
    first: Option<Instant>,
    work: Work,
    timer: Option<AbortHandle>,
    bell: AbortHandle,
}

/// A round that comes again and again.
#[derive(Debug, Clone, Copy)]
struct Again {
    round: Round,
    every: Duration,
    /// When the last one began, or counting did.
    last: Instant,
}

impl Again {
    fn due(&self) -> Instant {
        self.last + self.every
    }
}

/// The rounds of these plans; those that were there before go on as they were.
fn rounds(plans: &Plans, before: &[Again]) -> Vec<Again> {
    let own = plans.own_intervals().into_iter();
    let all = Some((Round::Regular, plans.sampling)).filter(|(_, every)| !every.is_zero());
    let rounds = all
        .into_iter()
        .chain(own.map(|own| (Round::Apart(own), own)));
    rounds
        .map(|(round, every)| {
            let same = before.iter().find(|one| one.round == round);
            let last = same.map_or_else(Instant::now, |same| same.last);
            Again { round, every, last }
        })
        .collect()
}

/// Whether a measurement is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// None is.
    Idle,
    /// One is; the timer waits for its end.
    UnderWay,
}

impl Drop for MonitorState {
    fn drop(&mut self) {
        self.bell.abort();
        if let Some(timer) = &self.timer {
            timer.abort();
        }
    }
}

impl Actor for Monitor {
    type Msg = MonitorMessage;
    type State = MonitorState;
    type Arguments = Arc<Hub>;

    async fn pre_start(
        &self,
        myself: ActorRef<MonitorMessage>,
        hub: Arc<Hub>,
    ) -> Result<MonitorState, ActorProcessingErr> {
        let (bell, mut plans) = (hub.run_began.clone(), hub.plans_to_come());
        let listener = myself.clone();
        let bell = tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = bell.notified() => {}
                    Ok(()) = plans.changed() => {}
                }
                if listener.cast(MonitorMessage::Rung).is_err() {
                    return;
                }
            }
        });
        let of = hub.plans();
        let mut state = MonitorState {
            rounds: rounds(&of, &[]),
            of,
            hub,
            first: None,
            work: Work::Idle,
            timer: None,
            bell: bell.abort_handle(),
        };
        state.plan(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<MonitorMessage>,
        message: MonitorMessage,
        state: &mut MonitorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            MonitorMessage::Rung => {
                let before = state.first;
                state.first.get_or_insert_with(|| Instant::now() + SOON);
                if before.is_none() || state.follow_plans() {
                    state.plan(&myself);
                }
            }
            MonitorMessage::Measure => state.measure(&myself),
            MonitorMessage::Measured => {
                state.work = Work::Idle;
                state.plan(&myself);
            }
        }
        Ok(())
    }
}

impl MonitorState {
    /// Whether the intervals are other ones than before.
    fn follow_plans(&mut self) -> bool {
        let now = self.hub.plans();
        if Arc::ptr_eq(&now, &self.of) {
            return false;
        }
        self.rounds = rounds(&now, &self.rounds);
        self.of = now;
        true
    }

    /// Sets the timer for what comes first, unless a measurement is under way.
    fn plan(&mut self, myself: &ActorRef<MonitorMessage>) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
        self.follow_plans();
        let Some(next) = self.rounds.iter().map(Again::due).min() else {
            self.first = None;
            return;
        };
        if self.work == Work::UnderWay {
            return;
        }
        let at = self.first.map_or(next, |first| first.min(next));
        let myself = myself.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            // A monitor that is gone has a successor with a timer of its own.
            let _ = myself.cast(MonitorMessage::Measure);
        });
        self.timer = Some(timer.abort_handle());
    }

    /// The rounds that are due, which begin now.
    fn due(&mut self) -> Vec<Round> {
        let now = Instant::now();
        let due = self.rounds.iter_mut().filter(|one| now >= one.due());
        due.map(|one| {
            one.last = now;
            one.round
        })
        .collect()
    }

    fn measure(&mut self, myself: &ActorRef<MonitorMessage>) {
        if self.work == Work::UnderWay || self.rounds.is_empty() {
            return;
        }
        self.work = Work::UnderWay;
        let mut due = self.due();
        if self.first.is_some_and(|first| first <= Instant::now()) {
            // Last, for those that were not measured in another one.
            self.first = None;
            due.push(Round::First);
        }
        let (hub, myself) = (self.hub.clone(), myself.clone());
        let measurement = tokio::spawn(async move {
            for round in due {
                measure(&hub, round).await;
            }
        });
        tokio::spawn(async move {
            // Also after a panic, which was reported: the next one may go well.
            let _ = measurement.await;
            let _ = myself.cast(MonitorMessage::Measured);
        });
    }
}

async fn measure(hub: &Hub, round: Round) {
    let measured = hub.meter.measure(round, runs(hub, round)).await;
    if let Some(own) = measured.own {
        hub.note_own_usage(own);
    }
    for (id, run, usage) in measured.runs {
        if let Some(seat) = hub.roster.get(&id) {
            // A figure that nobody takes is replaced by the next one.
            let _ = seat.tell(PluginMessage::Sampled(round, run, usage));
        }
    }
}

/// What is measured in a round.
fn runs(hub: &Hub, round: Round) -> Vec<(PluginId, Run, Arc<dyn Child>)> {
    let seats = hub.roster.seats();
    seats
        .iter()
        .filter(|seat| seat.is_measured_in(round))
        .filter_map(|seat| {
            let (run, child) = seat.run()?;
            Some((seat.id.clone(), run, child))
        })
        .collect()
}
