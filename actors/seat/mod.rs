//! What must outlive a plugin's actor: its seat, with lifecycle, child and unread facts; and the roster of all seats.
//!
//! Invariants:
//! - a fact is posted to the seat before its actor is nudged, so that a crash of the actor loses none;
//! - the lock on a seat is held for one step at most, never across an await;
//! - the view is replaced as a whole, before any reply that speaks of it (architecture §2).

mod notified;
mod recall;
mod roster;

pub use roster::Roster;

pub(crate) use notified::Notified;

use crate::message::PluginMessage;
use crate::outbox::Outbox;
use crate::ports::{Child, FileFacts, Kind, Memory, Plan, Round, Usage};
use crate::sampling::Watched;
use crate::turn::Turn;
use crate::view::{LastExit, View};
use os::cgroup::TreeKind;
use ractor::ActorRef;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;
use supervision::hand::{ByHand, Setting, enabled};
use supervision::lifecycle::{BlockReason, Effect, Event, Lifecycle};
use supervision::past::{Fault, PastWish};
use supervision::{MonoTime, PluginId, Run};
use tokio::sync::watch;

/// The state of a seat, changed only by its actor (and, for the child, by the task that made it).
pub(crate) struct SeatState {
    pub(crate) life: Lifecycle,
    pub(crate) plan: Plan,
    pub(crate) file: Option<FileFacts>,
    pub(crate) env_file: Vec<(String, String)>,
    pub(crate) child: Option<(Run, Arc<dyn Child>)>,
    /// What the lifecycle asked for and nobody has begun to do yet, in order.
    pub(crate) todo: VecDeque<Effect>,
    /// The newest run that the spawner was asked for.
    pub(crate) spawner_asked: Run,
    /// The spawner's newest answer, for an actor that takes over.
    pub(crate) spawner_said: Option<Event>,
    /// Whether it was started by hand since it ran last: then others may have started a copy, too.
    pub(crate) started_by_hand: bool,
    /// Whether the launcher is ending: nothing is started on it any more.
    pub(crate) closed: bool,
    /// What was set by hand.
    pub(crate) hand: Option<ByHand>,
    /// Whether the file lists it in `autostart`.
    pub(crate) listed: bool,
    /// How much it was told by others than the file: orders and settings by hand.
    pub(crate) orders: u64,
    pub(crate) wish_by: String,
    pub(crate) wish_since_mse: i64,
    pub(crate) phase_since_mse: i64,
    pub(crate) start_count: u64,
    pub(crate) start_mse: i64,
    pub(crate) stop_mse: i64,
    pub(crate) pid: i32,
    /// The run whose main process that is.
    pub(crate) pid_of: Run,
    pub(crate) last_exit: Option<LastExit>,
    pub(crate) last_fault: Option<Fault>,
    /// The wish that a launcher before this one left, until this one wishes.
    pub(crate) past_wish: Option<PastWish>,
    /// Unasked restarts under a launcher before this one, while its wish goes on.
    pub(crate) past_restarts: u32,
    pub(crate) tail: Vec<String>,
    /// When the newest run began.
    pub(crate) started: Option<MonoTime>,
    /// The newest sample of the child.
    pub(crate) usage: Option<Usage>,
    /// What is counted against the limits of the child.
    pub(crate) watched: Watched,
    /// What it has to tell the bus.
    pub(crate) outbox: Outbox,
    /// What the newest run says of itself.
    pub(crate) notified: Notified,
    /// Its last failure may be for want of room on the disk of this folder.
    pub(crate) lacks_room: Option<PathBuf>,
}

/// A plugin's place: outlives its actor.
pub struct Seat {
    /// Whose.
    pub id: PluginId,
    /// Plugin or core.
    pub kind: Kind,
    state: Mutex<SeatState>,
    posted: Mutex<VecDeque<Posted>>,
    view: watch::Sender<Arc<View>>,
    tails: watch::Sender<Run>,
    standing: RwLock<Standing>,
    turn: Mutex<Option<Turn>>,
    /// What is to be there for the next launcher goes here; nowhere until [`Seat::recall`].
    memory: OnceLock<Arc<dyn Memory>>,
    /// The actor was told that a run has told something, and has not looked yet.
    nudged: AtomicBool,
}

/// Why it starts with the launcher, or does not (spec §9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enabling {
    /// What was set by hand.
    pub hand: Option<ByHand>,
    /// Whether the file lists it in `autostart`.
    pub listed: bool,
}

/// What waits for the actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Posted {
    /// A fact, or a command that nothing overtakes.
    Event(Event),
    /// What the file wants, unless somebody has ordered otherwise meanwhile.
    ByFile {
        event: Event,
        /// [`SeatState::orders`] when it was decided.
        orders: u64,
        by: String,
    },
}

/// Who runs a seat.
#[derive(Clone)]
enum Standing {
    /// Nobody: its actor is about to be started, or started anew.
    Vacant,
    /// This actor.
    Served(ActorRef<PluginMessage>),
    /// Nobody any more: its actors crashed too often. The process is kept (architecture §1).
    Quarantined,
}

/// Locks even when a holder panicked: the state is replaced in whole steps, so it is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seat {
    /// A seat whose lifecycle is `life`, to be run by `plan`.
    #[must_use]
    pub fn new(
        id: PluginId,
        kind: Kind,
        life: Lifecycle,
        plan: Plan,
        file: Option<FileFacts>,
        enabling: Enabling,
        now_mse: i64,
    ) -> Arc<Self> {
        let state = SeatState {
            life,
            plan,
            file,
            env_file: Vec::new(),
            child: None,
            todo: VecDeque::new(),
            spawner_asked: Run(0),
            spawner_said: None,
            started_by_hand: false,
            closed: false,
            hand: enabling.hand,
            listed: enabling.listed,
            orders: 0,
            wish_by: String::new(),
            wish_since_mse: 0,
            phase_since_mse: now_mse,
            start_count: 0,
            start_mse: 0,
            stop_mse: 0,
            pid: 0,
            pid_of: Run(0),
            last_exit: None,
            last_fault: None,
            past_wish: None,
            past_restarts: 0,
            tail: Vec::new(),
            started: None,
            usage: None,
            watched: Watched::default(),
            outbox: Outbox::default(),
            notified: Notified::default(),
            lacks_room: None,
        };
        let view = watch::Sender::new(Arc::new(state.view(&id, kind, 0)));
        Arc::new(Seat {
            id,
            kind,
            state: Mutex::new(state),
            posted: Mutex::default(),
            view,
            tails: watch::Sender::new(Run(0)),
            standing: RwLock::new(Standing::Vacant),
            turn: Mutex::new(None),
            memory: OnceLock::new(),
            nudged: AtomicBool::new(false),
        })
    }

    /// What the outside may know of it now.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// The views to come; each is whole, and those that nobody waited for may be skipped.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// Waits until a view is as `wanted`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn until(&self, wanted: impl FnMut(&View) -> bool) -> Arc<View> {
        let mut wanted = wanted;
        match self.views().wait_for(|view| wanted(view)).await {
            Ok(view) => view.clone(),
            // The sender is ours, so it lives as long as this borrow.
            Err(_) => self.view(),
        }
    }

    /// The run that lives on it; for sampling.
    #[must_use]
    pub fn run(&self) -> Option<(Run, Arc<dyn Child>)> {
        lock(&self.state).child.clone()
    }

    /// Whether the run that lives is to be measured in this round.
    #[must_use]
    pub fn is_measured_in(&self, round: Round) -> bool {
        let state = lock(&self.state);
        match (round, state.plan.sampling) {
            (_, Some(Duration::ZERO)) => false,
            (Round::First, _) => state.child.is_some() && state.usage.is_none(),
            (Round::Regular, own) => own.is_none(),
            (Round::Apart(every), own) => own == Some(every),
        }
    }

    /// The processes that live on it.
    #[must_use]
    pub fn child(&self) -> Option<Arc<dyn Child>> {
        lock(&self.state)
            .child
            .as_ref()
            .map(|(_, child)| child.clone())
    }

    /// The actor that runs it now.
    #[must_use]
    pub fn actor(&self) -> Option<ActorRef<PluginMessage>> {
        match &*self.standing.read().unwrap_or_else(PoisonError::into_inner) {
            Standing::Served(actor) => Some(actor.clone()),
            Standing::Vacant | Standing::Quarantined => None,
        }
    }

    /// Whether its actors crashed so often that none is started any more.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        let standing = self.standing.read().unwrap_or_else(PoisonError::into_inner);
        matches!(*standing, Standing::Quarantined)
    }

    /// Gives the order of starts a say: the next run begins when it is the seat's turn.
    pub(crate) fn give_turn(&self, turn: Turn) {
        *lock(&self.turn) = Some(turn);
    }

    /// Takes the turn, if one was given.
    pub(crate) fn take_turn(&self) -> Option<Turn> {
        lock(&self.turn).take()
    }

    /// A command that is kept over a crash of the actor; nobody waits for its outcome.
    pub fn command(&self, event: Event, by: &str, now_mse: i64) {
        {
            let mut state = self.state();
            let was = state.life.wish();
            state.wish(by, now_mse, was);
            state.orders += 1;
        }
        self.post(event);
    }

    /// The launcher ends: whatever start is still on its way comes too late.
    pub(crate) fn close(&self) {
        self.state().closed = true;
    }

    /// Sends its actor a message. While the actor is being restarted a message is lost, a fact ([`Seat::post`]) is not.
    ///
    /// # Errors
    /// Gives the message back when no actor takes it.
    pub fn tell(&self, message: PluginMessage) -> Result<(), Box<PluginMessage>> {
        match self.actor() {
            Some(actor) => match actor.send_message(message) {
                Ok(()) => Ok(()),
                Err(ractor::MessagingErr::SendErr(message)) => Err(Box::new(message)),
                Err(
                    ractor::MessagingErr::ChannelClosed | ractor::MessagingErr::InvalidActorType,
                ) => Err(Box::new(PluginMessage::Look)),
            },
            None => Err(Box::new(message)),
        }
    }

    /// What was set by hand, or that nothing is any more; shown as soon as an actor has a turn.
    pub(crate) fn set_hand(&self, hand: Option<ByHand>) {
        {
            let mut state = self.state();
            state.hand = hand;
            state.orders += 1;
        }
        let _ = self.tell(PluginMessage::Look);
    }

    /// The file says otherwise: it is run by this plan from its next step on, and what lives is logged by it.
    pub(crate) fn replan(&self, plan: Plan, listed: bool) {
        {
            let mut state = self.state();
            state.life.set_rules(plan.rules.clone());
            if let Some((_, child)) = &state.child
                && state.plan.logs != plan.logs
            {
                child.keep_logs_by(plan.logs);
            }
            state.plan = plan;
            state.listed = listed;
        }
        let _ = self.tell(PluginMessage::Look);
    }

    /// A command of the file's, decided when the seat had taken so many orders; another one since then goes before it.
    pub(crate) fn by_file(&self, event: Event, orders: u64, by: &str) {
        let by = by.to_owned();
        lock(&self.posted).push_back(Posted::ByFile { event, orders, by });
        let _ = self.tell(PluginMessage::Look);
    }

    /// Notes a fact for the actor and wakes it; kept over its crash.
    pub fn post(&self, event: Event) {
        lock(&self.posted).push_back(Posted::Event(event));
        // No actor now: the next one looks at what was posted when it starts.
        let _ = self.tell(PluginMessage::Look);
    }

    /// Tells of which run the last lines are in.
    pub(crate) fn tails(&self) -> watch::Receiver<Run> {
        self.tails.subscribe()
    }

    pub(crate) fn tail_is_in(&self, run: Run) {
        self.tails.send_replace(run);
    }

    pub(crate) fn take_posted(&self) -> Option<Posted> {
        let mut posted = lock(&self.posted);
        let next = posted.pop_front();
        if next.is_none() {
            // Most of the time there is nothing, for each of all plugins.
            *posted = VecDeque::new();
        }
        next
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, SeatState> {
        lock(&self.state)
    }

    pub(crate) fn served_by(&self, actor: ActorRef<PluginMessage>) {
        *self
            .standing
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Standing::Served(actor);
    }

    pub(crate) fn vacate(&self) {
        *self
            .standing
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Standing::Vacant;
    }

    /// No actor will run it any more; its view says so.
    pub(crate) fn quarantine(&self) {
        *self
            .standing
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Standing::Quarantined;
        let cause = "degraded: its supervision crashed too often; its process is kept as it is, \
                     restart the launcher to supervise it again";
        self.view.send_modify(|view| {
            let mut degraded = View::clone(view);
            cause.clone_into(&mut degraded.status);
            cause.clone_into(&mut degraded.cause);
            *view = Arc::new(degraded);
        });
    }

    pub(crate) fn publish(&self, view: View) {
        let view = Arc::new(view);
        let before = self.view.send_replace(view.clone());
        if let Some(memory) = self.memory.get() {
            recall::keep_changes(memory.as_ref(), &before, &view, self.state().closed);
        }
    }
}

impl SeatState {
    /// The core always starts with the launcher, a plugin as the hand or else the file says (spec §9).
    pub(crate) fn enabled(&self, kind: Kind) -> Setting {
        match kind {
            Kind::Core => Setting::Enabled,
            Kind::Plugin => enabled(self.hand.as_ref(), self.listed),
        }
    }

    /// The view of this state; `next_start_mse` is computed by the caller, who knows both clocks.
    pub(crate) fn view(&self, id: &PluginId, kind: Kind, next_start_mse: i64) -> View {
        let next_try = self.life.phase().next_try();
        let blocked = self.life.phase().block_reason();
        let attempt = next_try.map_or(0, |(_, attempt)| attempt);
        View {
            id: id.clone(),
            kind,
            file: self.file.clone(),
            phase: self.life.phase().name(),
            phase_since_mse: self.phase_since_mse,
            wish: self.life.wish(),
            wish_by: self.wish_by.clone(),
            wish_since_mse: self.wish_since_mse,
            enabled: self.enabled(kind),
            hand: self.hand.as_ref().map(|hand| hand.setting),
            listed: self.listed,
            run: self.life.run(),
            pid: self.pid,
            start_count: self.start_count,
            restarts: self.life.restarts().saturating_add(self.past_restarts),
            start_mse: self.start_mse,
            stop_mse: self.stop_mse,
            next_start_mse,
            attempt,
            status: self.life.status(id),
            cause: self.cause(),
            awaits: blocked.and_then(BlockReason::awaits).cloned(),
            last_exit: self.last_exit.clone(),
            last_fault: self.last_fault.clone(),
            tail: self.tail.clone(),
            started: self.started,
            tree: self
                .child
                .as_ref()
                .map_or(TreeKind::Group, |(_, child)| child.tree()),
            notified: if self.child.is_some() {
                self.notified.text()
            } else {
                String::new()
            },
            usage: if self.child.is_some() {
                self.usage
            } else {
                Some(Usage::NOTHING)
            },
            limits: self.plan.limits,
        }
    }
}
