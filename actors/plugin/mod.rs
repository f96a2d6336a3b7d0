//! The actor of one plugin, and, with [`Kind::Core`], of the core.
//!
//! It turns messages into events, steps the lifecycle, performs the effects and arms one timer. It holds no policy.
//!
//! Invariants:
//! - what must not be lost with the actor lies in its [`Seat`]: lifecycle, child, posted facts;
//! - one INFO line per phase change, written in one place;
//! - every command gets its answer once its goal is reached or known to be missed; the requester sets its own deadline.

mod limit;
mod order;
mod perform;
mod requires;
mod tell;
mod waiters;

pub use order::{order, send_order};

use crate::hub::Hub;
use crate::message::{Order, OrderError, OrderResult, PluginMessage};
use crate::ports::{Clock, FileFacts, Kind, Look, Ports, Preparation};
use crate::seat::{Posted, Seat};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use requires::{Missing, Requirements, Roomless};
use std::collections::VecDeque;
use std::sync::Arc;
use supervision::lifecycle::{
    Answer, Denial, Effect, Event, Phase, PhaseName, Wish, already_exists,
};
use supervision::past::Fault;
use supervision::{MonoTime, Run};
use tokio::sync::oneshot;
use waiters::Waiters;

/// The actor.
pub struct PluginActor;

/// What one incarnation of the actor holds; all of it may be lost.
pub struct PluginState {
    seat: Arc<Seat>,
    hub: Arc<Hub>,
    ports: Ports,
    requirements: Requirements,
    missing: Missing,
    roomless: Roomless,
    waiters: Waiters,
    timer: Timer,
    /// Who gave the order that is being obeyed; empty = it was posted.
    asked_by: String,
}

/// The one timer; aborted when replaced or dropped.
#[derive(Default)]
struct Timer {
    due: Option<MonoTime>,
    task: Option<tokio::task::AbortHandle>,
}

impl Timer {
    fn arm(&mut self, due: Option<MonoTime>, clock: &Clock, actor: &ActorRef<PluginMessage>) {
        if self.due == due {
            return;
        }
        if let Some(task) = self.task.take() {
            task.abort();
        }
        self.due = due;
        if let Some(at) = due {
            let (at, actor) = (clock.instant(at), actor.clone());
            let task = tokio::spawn(async move {
                tokio::time::sleep_until(at).await;
                // An actor that is gone needs no waking.
                let _ = actor.cast(PluginMessage::Wake);
            });
            self.task = Some(task.abort_handle());
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Actor for PluginActor {
    type Msg = PluginMessage;
    type State = PluginState;
    type Arguments = (Arc<Seat>, Arc<Hub>);

    async fn pre_start(
        &self,
        myself: ActorRef<PluginMessage>,
        (seat, hub): (Arc<Seat>, Arc<Hub>),
    ) -> Result<PluginState, ActorProcessingErr> {
        seat.served_by(myself);
        Ok(PluginState {
            seat,
            ports: hub.ports.clone(),
            hub,
            requirements: Requirements::default(),
            missing: Missing::default(),
            roomless: Roomless::default(),
            waiters: Waiters::default(),
            timer: Timer::default(),
            asked_by: String::new(),
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<PluginMessage>,
        state: &mut PluginState,
    ) -> Result<(), ActorProcessingErr> {
        state.take_up_again();
        state.settle(&myself);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<PluginMessage>,
        message: PluginMessage,
        state: &mut PluginState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            PluginMessage::Obey { order, by, reply } => state.obey(order, &by, reply),
            PluginMessage::Look => {}
            PluginMessage::Wake => {
                // With its task, which keeps its memory as long as somebody can end it.
                state.timer = Timer::default();
                state.apply(Event::Tick);
            }
            PluginMessage::Sampled(round, run, usage) => state.sampled(round, run, usage),
            PluginMessage::TailTaken(run, tail) => state.tail_taken(run, tail),
            PluginMessage::FileSeen(file) => state.file_seen(file),
        }
        state.settle(&myself);
        Ok(())
    }
}

impl PluginState {
    /// An actor that takes a seat over: what its predecessor may have taken out and not finished is asked for again.
    /// Doubled facts are stale and change nothing.
    fn take_up_again(&mut self) {
        let (phase, child, asked) = {
            let mut state = self.seat.state();
            // These two are asked for below, by what the phase says.
            state.todo.retain(|effect| match effect {
                Effect::Prepare(_) | Effect::Spawn(_) => false,
                Effect::SignalTree(_)
                | Effect::KillTree(_)
                | Effect::ReportStarted { .. }
                | Effect::ReportEnded { .. } => true,
            });
            state.outbox.await_no_tails();
            let run = state.spawner_asked;
            (state.life.phase().clone(), state.child.clone(), run)
        };
        // Its predecessor may have fallen over noting it; a number is never used twice.
        if asked > self.ports.memory.last_run(&self.seat.id) {
            self.ports.memory.keep_run(&self.seat.id, asked);
        }
        self.seat.tell_news(self.ports.herald.as_ref());
        self.perform_todo();
        if let Some((run, child)) = child {
            perform::watch(self.seat.clone(), run, child);
        }
        match phase {
            Phase::Preparing { ticket, .. } => self.prepare(ticket),
            Phase::Spawning { run, .. } | Phase::Stopping { run, .. } => self.resume_spawn(run),
            Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Killing { .. }
            | Phase::Backoff { .. } => {}
            Phase::Foreign { pid } => self.watch_foreign(pid),
        }
    }

    /// Takes in what was posted, shows the result, answers who waits, arms the timer.
    fn settle(&mut self, myself: &ActorRef<PluginMessage>) {
        self.seat.looks();
        while let Some(posted) = self.seat.take_posted() {
            match posted {
                Posted::Event(event) => {
                    self.apply(event);
                }
                Posted::ByFile { event, orders, by } => self.obey_file(event, orders, &by),
            }
        }
        self.give_up_turn();
        self.follow_requirements();
        self.await_missing();
        self.await_room();
        self.publish();
        self.waiters.answer(&self.seat);
        let due = self.seat.state().life.next_deadline();
        self.timer.arm(due, &self.ports.clock, myself);
    }

    /// A start that comes to nothing lets the next in order go first.
    fn give_up_turn(&self) {
        match self.seat.state().life.phase() {
            Phase::Preparing { .. } | Phase::Spawning { .. } => return,
            Phase::Stopped { .. }
            | Phase::Blocked { .. }
            | Phase::Proving { .. }
            | Phase::Running { .. }
            | Phase::Stopping { .. }
            | Phase::Killing { .. }
            | Phase::Backoff { .. }
            | Phase::Foreign { .. } => {}
        }
        drop(self.seat.take_turn());
    }

    /// What the file wants, unless somebody has ordered otherwise since that was decided.
    fn obey_file(&mut self, event: Event, orders: u64, by: &str) {
        if self.seat.state().orders != orders {
            return;
        }
        let was = self.seat.state().life.wish();
        match self.apply(event) {
            Answer::Accepted | Answer::Already => {
                let now = self.ports.clock.wall_mse();
                self.seat.state().wish(by, now, was);
            }
            Answer::Denied(_) | Answer::Noted | Answer::Stale => {}
        }
    }

    fn obey(&mut self, order: Order, by: &str, reply: Option<oneshot::Sender<OrderResult>>) {
        // A requester that gave up must not find its order carried out later.
        if reply.as_ref().is_some_and(oneshot::Sender::is_closed) {
            return;
        }
        let late = match order {
            Order::Start | Order::Restart => self.seat.state().closed,
            Order::Stop(_) | Order::Kill => false,
        };
        if late {
            if let Some(reply) = reply {
                let _ = reply.send(Err(OrderError::Ending));
            }
            return;
        }
        self.seat.state().orders += 1;
        let goal = waiters::goal_of(order, &self.seat.state().life);
        let wish_before = self.seat.state().life.wish();
        by.clone_into(&mut self.asked_by);
        let answer = self.apply(order.event());
        self.asked_by.clear();
        if answer == Answer::Accepted || self.seat.state().life.wish() != wish_before {
            let now = self.ports.clock.wall_mse();
            self.seat.state().wish(by, now, wish_before);
        }
        let Some(reply) = reply else { return };
        match (answer, order) {
            (Answer::Denied(Denial::Foreign { pid }), Order::Start | Order::Restart) => {
                let text = already_exists(&self.seat.id, pid);
                let _ = reply.send(Err(OrderError::Failed(text)));
            }
            (Answer::Denied(Denial::Foreign { pid }), Order::Stop(_) | Order::Kill) => {
                let text = format!(
                    "'{}' was not started by this launcher; end pid {pid} yourself",
                    self.seat.id
                );
                let _ = reply.send(Err(OrderError::Failed(text)));
            }
            (Answer::Accepted | Answer::Already | Answer::Noted | Answer::Stale, _) => {
                self.waiters.add(goal, reply);
            }
        }
    }

    fn tail_taken(&mut self, run: Run, tail: Vec<String>) {
        self.log_last_line(run, &tail);
        {
            let mut state = self.seat.state();
            state.outbox.tail_is_in(run, &tail);
            if state.last_exit.as_ref().is_some_and(|exit| exit.run == run) {
                state.tail = tail;
            }
        }
        self.seat.tell_news(self.ports.herald.as_ref());
        self.publish();
        self.seat.tail_is_in(run);
    }

    /// What a failed run said last is most often why it failed.
    fn log_last_line(&self, run: Run, tail: &[String]) {
        let state = self.seat.state();
        let failed = state
            .life
            .last_failure()
            .is_some_and(|last| last.run == run);
        if let (true, Some(line)) = (failed, tail.last()) {
            tracing::warn!(plugin = %self.seat.id, run = run.0, "its last line: {}", logs::escape(line));
        }
    }

    fn file_seen(&mut self, file: Option<FileFacts>) {
        let changed = {
            let mut state = self.seat.state();
            let changed = file.is_some() && state.file != file;
            // What runs is still shown with the file it was made of.
            if changed || state.child.is_none() {
                state.file = file;
            }
            changed
        };
        // Spec §9: a delay is cut short when the binary changed, a wait when it came.
        if changed && self.seat.state().life.wish() == Wish::Up {
            self.apply(Event::CauseGone);
        }
    }

    /// One step: decides, keeps the books, performs, and logs a change of phase.
    fn apply(&mut self, event: Event) -> Answer {
        let now = self.ports.clock.now();
        let by_hand = matches!(event, Event::Start | Event::Restart);
        let asked = tell::Asked::by(&event);
        let (from, answer, line, became_foreign) = {
            let mut state = self.seat.state();
            if by_hand && state.closed {
                return Answer::Stale;
            }
            let from = state.life.phase().name();
            let failures = state.life.failures();
            let step = state.life.step(now, event);
            if state.life.failures() != failures {
                state.last_fault = state.life.last_failure().map(|last| Fault {
                    run: last.run,
                    text: last.in_words(),
                    time_mse: self.ports.clock.wall_mse(),
                });
            }
            let ended = tell::ended_by(&step.effects);
            state.todo.extend(step.effects);
            state.started_by_hand |= by_hand;
            let to = state.life.phase().name();
            let line = (from != to).then(|| {
                state.phase_since_mse = self.ports.clock.wall_mse();
                let by = (asked, self.asked_by.as_str());
                let cause = tell::note_change(&self.seat.id, &mut state, from, by, ended, now);
                (to, state.life.run(), cause)
            });
            let is_new = from != to && to == PhaseName::Foreign;
            let became_foreign = state.life.phase().pid().filter(|_| is_new);
            (from, step.answer, line, became_foreign)
        };
        // Done first, told then: a successor does not wait for words.
        self.perform_todo();
        self.seat.tell_news(self.ports.herald.as_ref());
        if let Some((to, run, cause)) = line {
            self.log_phase(from, to, run, &cause, now);
        }
        if let Some(pid) = became_foreign {
            self.watch_foreign(pid);
        }
        answer
    }

    /// Does what is to be done. What an actor cannot finish is not tried again, so that no actor falls over the same
    /// thing for ever; what comes after it is done by the next actor.
    fn perform_todo(&mut self) {
        loop {
            // Apart, so that the seat is not locked while it is done.
            let next = self.seat.state().todo.pop_front();
            match next {
                Some(effect) => self.perform(effect),
                None => break,
            }
        }
        // A plugin that runs has nothing to do for days, and there may be thousands.
        let mut state = self.seat.state();
        if state.todo.is_empty() {
            state.todo = VecDeque::new();
        }
    }

    /// The one place where a change of phase is logged (architecture §4).
    fn log_phase(&self, from: PhaseName, to: PhaseName, run: Run, cause: &str, now: MonoTime) {
        let state = self.seat.state();
        let delay_ms = state
            .life
            .next_deadline()
            .map_or(0, |at| at.since(now).as_millis());
        let pid = state.life.phase().pid().unwrap_or(state.pid);
        tracing::info!(
            plugin = %self.seat.id, run = run.0, pid, %from, %to, cause, delay_ms = %delay_ms,
            "phase"
        );
    }

    fn publish(&self) {
        let view = {
            let state = self.seat.state();
            let next = state.life.phase().next_try().map_or(0, |(at, _)| {
                let wait = at.since(self.ports.clock.now());
                let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
                self.ports.clock.wall_mse().saturating_add(wait)
            });
            state.view(&self.seat.id, self.seat.kind, next)
        };
        self.seat.publish(view);
    }
}

/// Turns what the preparer found into the fact for the lifecycle.
fn fact_of(ticket: supervision::lifecycle::Ticket, found: &Preparation) -> Event {
    match found {
        Preparation::Ready { .. } => Event::Prepared(ticket),
        Preparation::Blocked(reason) => Event::PrepareFailed(ticket, reason.clone()),
        Preparation::Foreign { pid } => Event::ForeignFound { pid: *pid },
    }
}

/// How thorough the look before a start is: a copy of somebody else can only have come while none of ours was there.
fn look_of(kind: Kind, started_by_hand: bool) -> Look {
    match (kind, started_by_hand) {
        (Kind::Plugin, true) => Look::Thorough,
        (Kind::Plugin, false) | (Kind::Core, _) => Look::Again,
    }
}
