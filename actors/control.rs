//! Control: turns signals into messages to root, and tells systemd how far the launcher is.
//!
//! Invariants: SIGTERM and SIGINT end the launcher in order, a second one at once; SIGHUP never ends it (T40).

use crate::hub::{Hub, Stage};
use crate::root::{Haste, RootMessage};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::AbortHandle;

/// What control needs.
#[derive(Clone)]
pub struct ControlArgs {
    /// Tells systemd that a stage is reached; does nothing without systemd.
    pub tell_systemd: Arc<dyn Fn(Stage) + Send + Sync>,
}

/// What control understands.
#[derive(Debug)]
pub enum ControlMessage {
    /// A signal came.
    Signalled(SignalKind),
    /// The launcher has reached a stage.
    Reached(Stage),
}

/// The actor.
pub struct Control;

/// What the actor holds.
pub struct ControlState {
    root: ActorRef<RootMessage>,
    args: ControlArgs,
    tasks: Vec<AbortHandle>,
}

impl Drop for ControlState {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Actor for Control {
    type Msg = ControlMessage;
    type State = ControlState;
    type Arguments = (Arc<Hub>, ControlArgs, ActorRef<RootMessage>);

    async fn pre_start(
        &self,
        myself: ActorRef<ControlMessage>,
        (hub, args, root): (Arc<Hub>, ControlArgs, ActorRef<RootMessage>),
    ) -> Result<ControlState, ActorProcessingErr> {
        let mut tasks = Vec::new();
        for kind in [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
        ] {
            tasks.push(listen(kind, signal(kind)?, myself.clone()));
        }
        tasks.push(follow(&hub, myself));
        Ok(ControlState { root, args, tasks })
    }

    async fn handle(
        &self,
        _myself: ActorRef<ControlMessage>,
        message: ControlMessage,
        state: &mut ControlState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ControlMessage::Signalled(kind) if kind == SignalKind::hangup() => {
                tracing::warn!(
                    "SIGHUP: the configuration is read at start only; restart the launcher to apply it"
                );
            }
            ControlMessage::Signalled(kind) => {
                tracing::info!(signal = kind.as_raw_value(), "asked to stop");
                // Without a root the launcher is ending already.
                let _ = state.root.cast(RootMessage::End(Haste::Orderly));
            }
            ControlMessage::Reached(stage) => (state.args.tell_systemd)(stage),
        }
        Ok(())
    }
}

fn listen(kind: SignalKind, mut signals: Signal, control: ActorRef<ControlMessage>) -> AbortHandle {
    tokio::spawn(async move {
        while signals.recv().await.is_some() {
            if control.cast(ControlMessage::Signalled(kind)).is_err() {
                return;
            }
        }
    })
    .abort_handle()
}

fn follow(hub: &Hub, control: ActorRef<ControlMessage>) -> AbortHandle {
    let mut stages = hub.stages();
    // What was reached while no control was there is told late rather than never; told twice it does no harm.
    stages.mark_changed();
    tokio::spawn(async move {
        while stages.changed().await.is_ok() {
            let stage = *stages.borrow_and_update();
            if control.cast(ControlMessage::Reached(stage)).is_err() {
                return;
            }
        }
    })
    .abort_handle()
}
