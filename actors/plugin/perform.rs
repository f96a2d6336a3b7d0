//! What a plugin's actor does when its lifecycle says so.
//!
//! Invariants: nothing here awaits in the handler; what takes time runs in a task of its own, of a start all but the first
//! step, and posts a fact to the seat, so that a crash of the actor loses nothing.

use super::{PluginState, fact_of, look_of};
use crate::message::PluginMessage;
use crate::ports::{Child, Happening, Launch, Preparation};
use crate::sampling::Watched;
use crate::seat::{Notified, Seat};
use crate::view::LastExit;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;
use supervision::lifecycle::{BlockReason, Effect, Event, Failure, SpawnFailure, Ticket};
use supervision::{ExitStatus, Run};

/// What is said of a failure of the launcher's own code.
const OWN_FAULT: &str = "this is a fault of the launcher, its log says more";

impl PluginState {
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Prepare(ticket) => self.prepare(ticket),
            Effect::Spawn(run) => self.spawn(run),
            Effect::SignalTree(run) => {
                let signal = self.seat.state().life.rules().stop.signal;
                self.with_child(run, |child| child.signal(signal));
            }
            Effect::KillTree(run) => self.with_child(run, |child| child.kill()),
            Effect::ReportStarted { run, pid } => self.report_started(run, pid),
            Effect::ReportEnded {
                run,
                status,
                failure,
            } => self.report_ended(run, status, failure.as_ref()),
        }
    }

    pub(super) fn prepare(&mut self, ticket: Ticket) {
        if let Some(reason) = self.unmet_requirement() {
            self.seat.post(Event::PrepareFailed(ticket, reason));
            return;
        }
        let (seat, preparer) = (self.seat.clone(), self.ports.preparer.clone());
        let (plan, look) = {
            let state = seat.state();
            (
                state.plan.clone(),
                look_of(seat.kind, state.started_by_hand),
            )
        };
        let failed = BlockReason::Settings(format!("looking at it failed; {OWN_FAULT}"));
        let promise = Promise::new(&seat, Event::PrepareFailed(ticket, failed));
        let preparing = preparer.prepare(seat.id.clone(), seat.kind, plan, look);
        tokio::spawn(async move {
            let found = preparing.await;
            if let Preparation::Ready { file, env_file } = &found {
                let mut state = seat.state();
                state.file = Some(file.clone());
                state.env_file.clone_from(env_file);
            }
            promise.keep(fact_of(ticket, &found));
        });
    }

    fn spawn(&mut self, run: Run) {
        let seat = self.seat.clone();
        let processes = self.ports.processes.clone();
        let turn = seat.take_turn();
        let launch = {
            let mut state = seat.state();
            state.spawner_said = None;
            state.notified = Notified::default();
            state.spawner_asked = run;
            state.file.clone().map(|file| Launch {
                id: seat.id.clone(),
                kind: seat.kind,
                run,
                file,
                plan: state.plan.clone(),
                env_file: state.env_file.clone(),
                turn: None,
            })
        };
        let Some(mut launch) = launch else {
            let failure = SpawnFailure::Missing("no such file in plugins".to_owned());
            seat.post(Event::SpawnFailed { run, failure });
            return;
        };
        let failed = SpawnFailure::Failed(format!("making its process failed; {OWN_FAULT}"));
        let promise = Promise::new(
            &seat,
            Event::SpawnFailed {
                run,
                failure: failed,
            },
        );
        begin(async move {
            if let Some(turn) = turn {
                launch.turn = Some(turn.come().await);
            }
            match processes.spawn(launch).await {
                Ok(child) => {
                    let pid = child.pid();
                    seat.state().child = Some((run, child.clone()));
                    // Its begin is told before its end.
                    promise.keep(Event::Spawned { run, pid });
                    watch(seat, run, child);
                }
                Err(failure) => promise.keep(Event::SpawnFailed { run, failure }),
            }
        });
        // The start comes first; its record tells the number as well.
        self.ports.memory.keep_run(&self.seat.id, run);
    }

    /// The spawner may not have been asked by the actor before, or its answer lost.
    pub(super) fn resume_spawn(&mut self, run: Run) {
        let (asked, said) = {
            let state = self.seat.state();
            (state.spawner_asked, state.spawner_said.clone())
        };
        if asked < run {
            self.spawn(run);
        } else if let Some(event) = said {
            self.seat.post(event);
        }
        // Otherwise it is at work, and will answer.
    }

    pub(super) fn watch_foreign(&self, pid: i32) {
        let (seat, processes) = (self.seat.clone(), self.ports.processes.clone());
        tokio::spawn(async move {
            processes.foreign_ended(pid).await;
            seat.post(Event::ForeignGone { pid });
        });
    }

    fn with_child(&self, run: Run, act: impl FnOnce(&dyn Child) -> Result<(), String>) {
        let child = self.seat.state().child.clone();
        if let Some((live, child)) = child
            && live == run
            && let Err(text) = act(child.as_ref())
        {
            tracing::warn!(plugin = %self.seat.id, run = run.0, "signalling its tree failed: {text}");
        }
    }

    fn report_started(&mut self, run: Run, pid: i32) {
        let now = self.ports.clock.wall_mse();
        {
            let mut state = self.seat.state();
            state.start_count = state.start_count.saturating_add(1);
            state.start_mse = now;
            state.started_by_hand = false;
            state.pid = pid;
            state.pid_of = run;
            state.started = Some(self.ports.clock.now());
            state.usage = None;
            state.watched = Watched::default();
        }
        tracing::debug!(plugin = %self.seat.id, run = run.0, pid, "run began");
        self.announce(Happening::Started {
            id: self.seat.id.clone(),
        });
    }

    fn report_ended(&mut self, run: Run, status: ExitStatus, failure: Option<&Failure>) {
        let now = self.ports.clock.wall_mse();
        let cause = match failure {
            Some(
                stopped @ (Failure::NotReady(_)
                | Failure::Watchdog(_)
                | Failure::Limit(_)
                | Failure::DependencyLost(_)),
            ) => format!("{}, {}", stopped.why_stopped(), status.in_words()),
            Some(Failure::Spawn(_) | Failure::EarlyExit(_) | Failure::Ended(_)) => {
                status.in_words()
            }
            None => format!("stopped as asked, {}", status.in_words()),
        };
        let (child, lasted) = {
            let mut state = self.seat.state();
            state.stop_mse = now;
            state.last_exit = Some(LastExit {
                run,
                status,
                text: cause.clone(),
                time_mse: now,
            });
            let lasted = u64::try_from(now.saturating_sub(state.start_mse)).unwrap_or(0);
            (state.child.take(), Duration::from_millis(lasted))
        };
        if let Some((_, child)) = child {
            let seat = self.seat.clone();
            let done = move |tail| {
                // An actor that is being restarted misses the last lines; they are in the file all the same.
                let _ = seat.tell(PluginMessage::TailTaken(run, tail));
            };
            child.close_log(&cause, lasted, Box::new(done));
        }
        self.announce(Happening::Stopped {
            id: self.seat.id.clone(),
        });
    }
}

/// Runs a task whose first step is done at once, before whatever else waits for its turn.
fn begin(task: impl Future<Output = ()> + Send + 'static) {
    let mut task = Box::pin(task);
    // It is polled again by the runtime, which wakes it from then on.
    let first = task.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    if first.is_pending() {
        tokio::spawn(task);
    }
}

/// A fact that is owed to a seat: what was promised is posted when nothing better comes, also by a task that panics.
struct Promise {
    seat: Arc<Seat>,
    event: Option<Event>,
}

impl Promise {
    fn new(seat: &Arc<Seat>, otherwise: Event) -> Self {
        Promise {
            seat: seat.clone(),
            event: Some(otherwise),
        }
    }

    fn keep(mut self, event: Event) {
        self.event = Some(event);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let Some(event) = self.event.take() else {
            return;
        };
        if matches!(event, Event::Spawned { .. } | Event::SpawnFailed { .. }) {
            self.seat.state().spawner_said = Some(event.clone());
        }
        self.seat.post(event);
    }
}

/// Posts to the seat what becomes of a child; runs until its tree is gone.
pub(super) fn watch(seat: Arc<Seat>, run: Run, child: Arc<dyn Child>) {
    tokio::spawn(hear(seat.clone(), run, child.clone()));
    tokio::spawn(async move {
        let status = child.main_ended().await;
        if !child.tree_is_gone() {
            seat.post(Event::MainEnded { run, status });
        }
        let status = child.tree_ended().await;
        seat.post(Event::TreeEnded { run, status });
    });
}

/// Takes what a run tells to its seat, until its tree is gone.
async fn hear(seat: Arc<Seat>, run: Run, child: Arc<dyn Child>) {
    while let Some(told) = child.told() {
        tokio::select! {
            // Its last words count.
            biased;
            said = told => seat.take_in(run, said),
            _ = child.tree_ended() => return,
        }
    }
}
