//! Control: turns signals into messages to root, and tells systemd how far the launcher is.
//!
//! Invariants: SIGTERM and SIGINT end the launcher in order, a second one at once; SIGHUP, SIGUSR1 and SIGUSR2 never end
//! it (T40), SIGHUP has the configuration read anew; no signal is lost while no control listens: it waits in [`Signals`],
//! which outlives the actor.

use crate::hub::{Hub, Stage, Trouble};
use crate::message::{Haste, LAUNCHER, RootMessage};
use crate::ports::BoxFuture;
use crate::reload::{How, ReloadError, reload};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::io;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

/// What control needs.
#[derive(Clone)]
pub struct ControlArgs {
    /// Tells systemd that a stage is reached, and what is wrong; does nothing without systemd.
    pub tell_systemd: Arc<dyn Fn(Stage, Trouble) + Send + Sync>,
    /// Tells systemd that the configuration is read anew, and that this is over.
    pub tell_reload: Arc<dyn Fn(Reloading) + Send + Sync>,
    /// What was caught since the launcher began.
    pub signals: Signals,
}

/// How far a reload that systemd asked for is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reloading {
    /// The file is about to be read.
    Begins,
    /// It is in force, or refused.
    IsOver,
}

/// The signals that the launcher catches, from its beginning to its end; clones are the same.
///
/// A signal that comes while nobody listens waits; several of one kind count as one then.
#[derive(Clone)]
pub struct Signals {
    kinds: Arc<[(SignalKind, Mutex<Signal>)]>,
}

impl Signals {
    /// Catches them from now on. Children get the default dispositions at their exec; to ignore a signal instead of
    /// catching it would be inherited by them.
    ///
    /// # Errors
    /// When the system refuses, or outside of a runtime that can wait for the system.
    pub fn catch() -> io::Result<Signals> {
        for unused in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
            // Stays caught when the stream is dropped; by default it would end the launcher.
            drop(signal(unused)?);
        }
        let kinds = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::hangup(),
        ];
        let kinds: Result<Vec<_>, io::Error> = kinds
            .into_iter()
            .map(|kind| Ok((kind, Mutex::new(signal(kind)?))))
            .collect();
        Ok(Signals {
            kinds: kinds?.into(),
        })
    }
}

/// What control understands.
#[derive(Debug)]
pub enum ControlMessage {
    /// The launcher has reached a stage, or something else is wrong with it there.
    Reached(Stage, Trouble),
}

/// The actor.
pub struct Control;

/// What the actor holds.
pub struct ControlState {
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
        let mut tasks: Vec<_> = (0..args.signals.kinds.len())
            .map(|index| {
                let on_hangup = on_hangup(&hub, &args);
                listen(args.signals.clone(), index, root.clone(), on_hangup)
            })
            .collect();
        tasks.push(follow(&hub, myself));
        Ok(ControlState { args, tasks })
    }

    async fn handle(
        &self,
        _myself: ActorRef<ControlMessage>,
        message: ControlMessage,
        state: &mut ControlState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ControlMessage::Reached(stage, trouble) => (state.args.tell_systemd)(stage, trouble),
        }
        Ok(())
    }
}

/// What is done for SIGHUP.
type OnHangup = Box<dyn Fn() -> BoxFuture<()> + Send + Sync>;

/// Reloads. Another SIGHUP meanwhile waits, and then the file is read once more.
fn on_hangup(hub: &Arc<Hub>, args: &ControlArgs) -> OnHangup {
    let (hub, tell) = (hub.clone(), args.tell_reload.clone());
    Box::new(move || {
        let (hub, tell) = (hub.clone(), tell.clone());
        Box::pin(async move {
            tracing::info!("SIGHUP: the configuration is read anew");
            // Before it is up, systemd waits for that, and READY=1 would say so.
            let told = (hub.stage() == Stage::Up).then(|| Told::begin(tell));
            // Of its own, so that it is carried out whatever becomes of control; what is wrong with a file is in the log.
            let reloaded = tokio::spawn(async move { reload(&hub, How::ForReal, LAUNCHER).await });
            if let Ok(Err(late @ ReloadError::Ending)) = reloaded.await {
                tracing::info!("SIGHUP came too late: {late}");
            }
            drop(told);
        })
    })
}

/// Tells of a reload, and of its end in any case.
struct Told(Arc<dyn Fn(Reloading) + Send + Sync>);

impl Told {
    fn begin(tell: Arc<dyn Fn(Reloading) + Send + Sync>) -> Self {
        tell(Reloading::Begins);
        Told(tell)
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        (self.0)(Reloading::IsOver);
    }
}

/// Straight to root: a message that waits in the mailbox of a control that crashes would be lost.
fn listen(
    signals: Signals,
    index: usize,
    root: ActorRef<RootMessage>,
    on_hangup: OnHangup,
) -> AbortHandle {
    tokio::spawn(async move {
        let Some((kind, signal)) = signals.kinds.get(index) else {
            return;
        };
        // Held by the control before until its task is gone.
        let mut signal = signal.lock().await;
        while signal.recv().await.is_some() {
            if *kind == SignalKind::hangup() {
                on_hangup().await;
                continue;
            }
            tracing::info!(signal = kind.as_raw_value(), "asked to stop");
            if root.cast(RootMessage::End(Haste::Orderly)).is_err() {
                // Without a root the launcher is ending already.
                return;
            }
        }
    })
    .abort_handle()
}

fn follow(hub: &Hub, control: ActorRef<ControlMessage>) -> AbortHandle {
    let (mut stages, mut troubles) = (hub.stages(), hub.troubles());
    // What was reached while no control was there is told late rather than never; told twice it does no harm.
    stages.mark_changed();
    tokio::spawn(async move {
        loop {
            let hub_lives = tokio::select! {
                changed = stages.changed() => changed.is_ok(),
                changed = troubles.changed() => changed.is_ok(),
            };
            let stage = *stages.borrow_and_update();
            let trouble = troubles.borrow_and_update().clone();
            let told = control.cast(ControlMessage::Reached(stage, trouble));
            if !hub_lives || told.is_err() {
                return;
            }
        }
    })
    .abort_handle()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use tokio::sync::mpsc;

    /// A root that only tells what it is told.
    struct Ear;

    impl Actor for Ear {
        type Msg = RootMessage;
        type State = mpsc::UnboundedSender<RootMessage>;
        type Arguments = mpsc::UnboundedSender<RootMessage>;

        async fn pre_start(
            &self,
            _myself: ActorRef<RootMessage>,
            heard: mpsc::UnboundedSender<RootMessage>,
        ) -> Result<Self::State, ActorProcessingErr> {
            Ok(heard)
        }

        async fn handle(
            &self,
            _myself: ActorRef<RootMessage>,
            message: RootMessage,
            heard: &mut Self::State,
        ) -> Result<(), ActorProcessingErr> {
            heard.send(message)?;
            Ok(())
        }
    }

    /// To this process itself.
    fn send(signal: &str) {
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -{signal} $PPID")])
            .status();
        assert!(sent.unwrap().success());
    }

    async fn next(heard: &mut mpsc::UnboundedReceiver<RootMessage>) -> RootMessage {
        let heard = tokio::time::timeout(std::time::Duration::from_secs(20), heard.recv());
        heard.await.expect("in time").expect("root lives")
    }

    fn nothing() -> OnHangup {
        Box::new(|| Box::pin(async {}))
    }

    #[tokio::test]
    async fn a_signal_waits_for_a_control() {
        let signals = Signals::catch().unwrap();
        // Each by itself ends a process that does not catch it.
        for harmless in ["USR1", "USR2", "HUP"] {
            send(harmless);
        }
        let (hear, mut heard) = mpsc::unbounded_channel();
        let (root, _) = Actor::spawn(None, Ear, hear).await.unwrap();
        // While none was there yet, and again while one was gone.
        for _ in 0..2 {
            send("TERM");
            let tasks: Vec<_> = (0..signals.kinds.len())
                .map(|index| listen(signals.clone(), index, root.clone(), nothing()))
                .collect();
            assert!(matches!(
                next(&mut heard).await,
                RootMessage::End(Haste::Orderly)
            ));
            for task in tasks {
                task.abort();
            }
        }
        send("INT");
        let _task = listen(signals.clone(), 1, root.clone(), nothing());
        assert!(matches!(next(&mut heard).await, RootMessage::End(_)));
        root.stop(None);
    }
}
