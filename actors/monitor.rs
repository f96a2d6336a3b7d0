//! The monitor: has all trees measured at each interval, and new runs soon after they began.
//!
//! Invariants: one measurement at a time; regular rounds keep their distance, however often runs begin; what is measured
//! goes to each plugin's actor, never into its state from here; without an interval there is no timer at all.

use crate::hub::Hub;
use crate::message::PluginMessage;
use crate::ports::{Child, Round};
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
    /// When the last regular round began, or counting did.
    regular: Instant,
    /// When runs that were not measured yet are; none = there are none.
    first: Option<Instant>,
    work: Work,
    timer: Option<AbortHandle>,
    bell: AbortHandle,
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
        let mut state = MonitorState {
            hub,
            regular: Instant::now(),
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
                if before.is_none() {
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
    /// How often is measured; none = never.
    fn interval(&self) -> Option<Duration> {
        Some(self.hub.plans().sampling).filter(|interval| !interval.is_zero())
    }

    /// Sets the timer for what comes first, unless a measurement is under way.
    fn plan(&mut self, myself: &ActorRef<MonitorMessage>) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
        let Some(interval) = self.interval() else {
            self.first = None;
            return;
        };
        if self.work == Work::UnderWay {
            return;
        }
        let regular = self.regular + interval;
        let at = self.first.map_or(regular, |first| first.min(regular));
        let myself = myself.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(at).await;
            // A monitor that is gone has a successor with a timer of its own.
            let _ = myself.cast(MonitorMessage::Measure);
        });
        self.timer = Some(timer.abort_handle());
    }

    fn measure(&mut self, myself: &ActorRef<MonitorMessage>) {
        let Some(interval) = self.interval() else {
            return;
        };
        if self.work == Work::UnderWay {
            return;
        }
        self.work = Work::UnderWay;
        self.first = None;
        let now = Instant::now();
        let round = if now >= self.regular + interval {
            self.regular = now;
            Round::Regular
        } else {
            Round::First
        };
        let (hub, myself) = (self.hub.clone(), myself.clone());
        let measurement = tokio::spawn(async move {
            let measured = hub.meter.measure(round, runs(&hub, round)).await;
            if let Some(own) = measured.own {
                hub.note_own_usage(own);
            }
            for (id, run, usage) in measured.runs {
                if let Some(seat) = hub.roster.get(&id) {
                    // A figure that nobody takes is replaced by the next one.
                    let _ = seat.tell(PluginMessage::Sampled(round, run, usage));
                }
            }
        });
        tokio::spawn(async move {
            // Also after a panic, which was reported: the next one may go well.
            let _ = measurement.await;
            let _ = myself.cast(MonitorMessage::Measured);
        });
    }
}

/// What is measured in a round.
fn runs(hub: &Hub, round: Round) -> Vec<(PluginId, Run, Arc<dyn Child>)> {
    let wanted = |measured: bool| match round {
        Round::Regular => true,
        Round::First => !measured,
    };
    let seats = hub.roster.seats();
    seats
        .iter()
        .filter(|seat| wanted(seat.is_measured()))
        .filter_map(|seat| {
            let (run, child) = seat.run()?;
            Some((seat.id.clone(), run, child))
        })
        .collect()
}
