//! The monitor: has all trees measured at each interval, and new runs soon after they began.
//!
//! Invariants: one measurement at a time; what is measured goes to each plugin's actor, never into its state from here.

use crate::hub::Hub;
use crate::message::PluginMessage;
use crate::ports::Child;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Duration;
use supervision::{PluginId, Run};
use tokio::task::AbortHandle;

/// How often all trees are measured (spec §10).
pub const INTERVAL: Duration = Duration::from_secs(5);

/// How soon after its begin a run is measured first, so that `ls` has figures.
pub const SOON: Duration = Duration::from_millis(500);

/// What the monitor understands.
#[derive(Debug)]
pub enum MonitorMessage {
    /// A run began.
    RunBegan,
    /// It is time to measure.
    Measure,
    /// The measurement is done and was handed out.
    Measured,
}

/// The actor.
pub struct Monitor;

/// When the next measurement comes.
enum Next {
    /// At the end of the interval.
    Regular,
    /// Soon, as a run began.
    Soon,
    /// One is under way.
    UnderWay,
    /// One is under way, and a run began meanwhile.
    UnderWayThenSoon,
}

/// What the actor holds.
pub struct MonitorState {
    hub: Arc<Hub>,
    next: Next,
    timer: Option<AbortHandle>,
    bell: AbortHandle,
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
        let (bell, listener) = (hub.run_began.clone(), myself.clone());
        let bell = tokio::spawn(async move {
            loop {
                bell.notified().await;
                if listener.cast(MonitorMessage::RunBegan).is_err() {
                    return;
                }
            }
        });
        let mut state = MonitorState {
            hub,
            next: Next::Regular,
            timer: None,
            bell: bell.abort_handle(),
        };
        state.plan(&myself, INTERVAL);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<MonitorMessage>,
        message: MonitorMessage,
        state: &mut MonitorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            MonitorMessage::RunBegan => match state.next {
                Next::Regular => {
                    state.next = Next::Soon;
                    state.plan(&myself, SOON);
                }
                Next::UnderWay => state.next = Next::UnderWayThenSoon,
                Next::Soon | Next::UnderWayThenSoon => {}
            },
            MonitorMessage::Measure => state.measure(&myself),
            MonitorMessage::Measured => match state.next {
                Next::UnderWayThenSoon => {
                    state.next = Next::Soon;
                    state.plan(&myself, SOON);
                }
                Next::UnderWay | Next::Regular | Next::Soon => {
                    state.next = Next::Regular;
                    state.plan(&myself, INTERVAL);
                }
            },
        }
        Ok(())
    }
}

impl MonitorState {
    fn plan(&mut self, myself: &ActorRef<MonitorMessage>, after: Duration) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
        let myself = myself.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(after).await;
            // A monitor that is gone has a successor with a timer of its own.
            let _ = myself.cast(MonitorMessage::Measure);
        });
        self.timer = Some(timer.abort_handle());
    }

    fn measure(&mut self, myself: &ActorRef<MonitorMessage>) {
        self.next = Next::UnderWay;
        let (hub, myself) = (self.hub.clone(), myself.clone());
        let measurement = tokio::spawn(async move {
            let runs: Vec<(PluginId, Run, Arc<dyn Child>)> = hub
                .roster
                .seats()
                .iter()
                .filter_map(|seat| Some((seat.id.clone(), seat.view().run, seat.child()?)))
                .collect();
            for (id, run, usage) in hub.meter.measure(runs).await {
                if let Some(seat) = hub.roster.get(&id) {
                    // A figure that nobody takes is replaced by the next one.
                    let _ = seat.tell(PluginMessage::Sampled(run, usage));
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
