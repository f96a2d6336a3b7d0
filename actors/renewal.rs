//! Renewal: keeps up the credentials of what runs or is to run, and our own (spec §6).
//!
//! Invariants:
//! - who is looked at next is decided in `supervision::credential`; here are one timer and a task for each that is under way;
//! - a plugin whose credentials are renewed is not touched;
//! - without anything due and without news nobody is woken.

use crate::hub::{Hub, Stage};
use crate::link::Link;
use crate::message::LAUNCHER;
use crate::ports::{Changed, Clock, CoreDeed, Kind, Whose};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Duration;
use supervision::credential::{Outcome, Renewals};
use supervision::hand::Setting;
use supervision::lifecycle::{Event, PhaseName, Wish};
use supervision::{MonoTime, PluginId};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// When certificates are first looked at for their end: what could be renewed has been by then.
const FIRST_LOOK: Duration = Duration::from_secs(60);

/// SIGHUP: at it brokers read their certificates again.
const REREAD: i32 = 1;

/// What renewal understands.
#[derive(Debug)]
pub enum RenewalMessage {
    /// Starts found these in order; how long it is until they are due.
    Found(Vec<(PluginId, Duration)>),
    /// A deadline may have come.
    Wake,
    /// What came of a look.
    Done(Whose, Outcome),
    /// There is a bus again: it may have forgotten us, and take what it did not take before.
    BusIsThere,
    /// Others have changed files.
    Changed(Changed),
    /// The wall clock was set.
    ClockSet,
    /// A task of it panicked; it is to be started anew, with all its tasks.
    Broken,
}

/// The actor.
pub struct Renewal;

/// What the actor holds.
pub struct RenewalState {
    hub: Arc<Hub>,
    renewals: Renewals<Whose>,
    timer: Timer,
    tasks: Vec<AbortHandle>,
    /// What is being looked at.
    looks: Vec<AbortHandle>,
}

/// The one timer; aborted when replaced or dropped.
#[derive(Default)]
struct Timer {
    due: Option<MonoTime>,
    task: Option<AbortHandle>,
}

impl Timer {
    fn arm(&mut self, due: Option<MonoTime>, clock: &Clock, myself: &ActorRef<RenewalMessage>) {
        if self.due == due {
            return;
        }
        self.stop();
        self.due = due;
        if let Some(at) = due {
            let (at, myself) = (clock.instant(at), myself.clone());
            let task = tokio::spawn(async move {
                tokio::time::sleep_until(at).await;
                // An actor that is gone has a successor with a timer of its own.
                let _ = myself.cast(RenewalMessage::Wake);
            });
            self.task = Some(task.abort_handle());
        }
    }

    fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for RenewalState {
    fn drop(&mut self) {
        self.timer.stop();
        // Those under way go with it: its successor begins as many, and looks at all.
        for task in self.tasks.iter().chain(&self.looks) {
            task.abort();
        }
    }
}

impl Actor for Renewal {
    type Msg = RenewalMessage;
    type State = RenewalState;
    type Arguments = Arc<Hub>;

    async fn pre_start(
        &self,
        myself: ActorRef<RenewalMessage>,
        hub: Arc<Hub>,
    ) -> Result<RenewalState, ActorProcessingErr> {
        let mut renewals = Renewals::seeded(hub.chance("renewal"));
        let now = hub.ports.clock.now();
        renewals.add(now, Whose::Launcher);
        renewals.found_in_order(now, Whose::Everybody, Some(FIRST_LOOK));
        // One that takes over finds plugins that its predecessor knew.
        for seat in hub.roster.seats() {
            let whose = Whose::Plugin(seat.id.clone());
            if is_kept_up(&hub, &whose) {
                renewals.add(now, whose);
            }
        }
        let tasks = listen(&hub, &myself);
        Ok(RenewalState {
            hub,
            renewals,
            timer: Timer::default(),
            tasks,
            looks: Vec::new(),
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<RenewalMessage>,
        state: &mut RenewalState,
    ) -> Result<(), ActorProcessingErr> {
        state.tasks.extend(watch_files(&state.hub));
        state.settle(&myself);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<RenewalMessage>,
        message: RenewalMessage,
        state: &mut RenewalState,
    ) -> Result<(), ActorProcessingErr> {
        let now = state.hub.ports.clock.now();
        match message {
            RenewalMessage::Found(found) => {
                for (id, next) in found {
                    let whose = Whose::Plugin(id);
                    state.renewals.found_in_order(now, whose, Some(next));
                }
            }
            RenewalMessage::Wake => state.timer.due = None,
            RenewalMessage::Done(whose, outcome) => {
                state.renewals.done(now, &whose, outcome);
                if let Some(deed) = state.hub.renewer.core_deed() {
                    have_core(&state.hub, deed);
                }
            }
            RenewalMessage::BusIsThere => state.look_at_all(now),
            RenewalMessage::Changed(changed) => state.files_changed(now, changed),
            RenewalMessage::ClockSet => {
                tracing::info!("the clock was set: all credentials are looked at again");
                state.hub.renewer.forget_times();
                state.look_at_all(now);
                state.let_blocked_try(|_| true);
            }
            RenewalMessage::Broken => return Err("one of its tasks panicked".into()),
        }
        state.settle(&myself);
        Ok(())
    }
}

impl RenewalState {
    fn look_at_all(&mut self, now: MonoTime) {
        self.renewals.look_at_all(now);
        // Nobody is to be warned of what is being renewed at this moment.
        let later = Some(FIRST_LOOK);
        self.renewals.found_in_order(now, Whose::Everybody, later);
    }

    fn files_changed(&mut self, now: MonoTime, changed: Changed) {
        match changed {
            Changed::All => {
                self.look_at_all(now);
                self.let_blocked_try(|_| true);
            }
            Changed::Some(all) => {
                for whose in &all {
                    self.renewals.look_at(now, whose);
                }
                self.let_blocked_try(|id| all.contains(&Whose::Plugin(id.clone())));
            }
        }
    }

    /// What blocked a plugin may be gone (spec §6: it is tried again at once then).
    fn let_blocked_try(&self, of: impl Fn(&PluginId) -> bool) {
        for seat in self.hub.roster.seats() {
            if seat.kind == Kind::Plugin && seat.view().phase == PhaseName::Blocked && of(&seat.id)
            {
                seat.post(Event::CauseGone);
            }
        }
    }

    /// Begins what is due, and arms the timer for what will be.
    fn settle(&mut self, myself: &ActorRef<RenewalMessage>) {
        if self.hub.stage() == Stage::Ending {
            return;
        }
        let now = self.hub.ports.clock.now();
        loop {
            let due = self.renewals.take(now);
            if due.is_empty() {
                break;
            }
            for whose in due {
                if is_kept_up(&self.hub, &whose) {
                    self.looks.retain(|look| !look.is_finished());
                    self.looks.push(begin(&self.hub, whose, myself));
                    continue;
                }
                if let Whose::Plugin(id) = &whose {
                    self.hub.renewer.forget(id);
                }
                self.renewals.remove(&whose);
            }
        }
        let due = self.renewals.next_deadline();
        self.timer.arm(due, &self.hub.ports.clock, myself);
    }
}

/// Whether somebody's credentials are of any use now; a plugin's that does not run and will not by itself are looked at
/// before its next start.
fn is_kept_up(hub: &Hub, whose: &Whose) -> bool {
    let id = match whose {
        Whose::Launcher | Whose::Everybody => return true,
        Whose::Plugin(id) => id,
    };
    hub.roster.get(id).is_some_and(|seat| {
        let view = seat.view();
        let is_of_use = view.running() || view.enabled == Setting::Enabled || view.wish == Wish::Up;
        seat.kind == Kind::Plugin && is_of_use
    })
}

fn begin(hub: &Arc<Hub>, whose: Whose, myself: &ActorRef<RenewalMessage>) -> AbortHandle {
    let (hub, myself) = (hub.clone(), myself.clone());
    let look = tokio::spawn(async move {
        // In a task of its own, so that a panic in it counts as a failure instead of holding a place for ever.
        let mut look = JoinSet::new();
        look.spawn(hub.renewer.renew(whose.clone()));
        let outcome = match look.join_next().await {
            Some(Ok(outcome)) => outcome,
            Some(Err(_)) | None => Outcome::Failed,
        };
        // One that is gone has a successor that looks at all.
        let _ = myself.cast(RenewalMessage::Done(whose, outcome));
    });
    look.abort_handle()
}

/// Takes news to the actor.
fn listen(hub: &Arc<Hub>, myself: &ActorRef<RenewalMessage>) -> Vec<AbortHandle> {
    let found = {
        let (hub, myself) = (hub.clone(), myself.clone());
        async move {
            loop {
                let found = hub.renewer.found_in_order().await;
                if myself.cast(RenewalMessage::Found(found)).is_err() {
                    return;
                }
            }
        }
    };
    let changed = {
        let (hub, myself) = (hub.clone(), myself.clone());
        async move {
            loop {
                let changed = hub.renewer.changed().await;
                if myself.cast(RenewalMessage::Changed(changed)).is_err() {
                    return;
                }
            }
        }
    };
    let clock = {
        let (hub, myself) = (hub.clone(), myself.clone());
        async move {
            loop {
                hub.renewer.clock_was_set().await;
                if myself.cast(RenewalMessage::ClockSet).is_err() {
                    return;
                }
            }
        }
    };
    let bus = follow_bus(hub.renewer.links(), myself.clone());
    vec![
        task(myself, found),
        task(myself, changed),
        task(myself, clock),
        task(myself, bus),
    ]
}

async fn follow_bus(mut links: watch::Receiver<Link>, myself: ActorRef<RenewalMessage>) {
    loop {
        if links.wait_for(Link::is_up).await.is_err()
            || myself.cast(RenewalMessage::BusIsThere).is_err()
            || links.changed().await.is_err()
        {
            return;
        }
    }
}

/// Starts a task whose panic is one of the actor.
fn task(
    myself: &ActorRef<RenewalMessage>,
    work: impl Future<Output = ()> + Send + 'static,
) -> AbortHandle {
    let alarm = Alarm(myself.clone());
    tokio::spawn(async move {
        let _alarm = alarm;
        work.await;
    })
    .abort_handle()
}

/// Tells the actor when it is dropped by a panic.
struct Alarm(ActorRef<RenewalMessage>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // One that is gone has a successor with tasks of its own.
            let _ = self.0.cast(RenewalMessage::Broken);
        }
    }
}

/// Has the files watched until the launcher begins to end; see the catalog for why not longer.
fn watch_files(hub: &Arc<Hub>) -> Option<AbortHandle> {
    let watch = match hub.renewer.watch() {
        Ok(watch) => watch,
        Err(text) => {
            tracing::warn!("{text}: at the next start of a plugin, or when what it has comes due");
            return None;
        }
    };
    let mut stages = hub.stages();
    let keeping = tokio::spawn(async move {
        let _watch = watch;
        // Without a hub nobody wants to know.
        let _ = stages.wait_for(|stage| *stage == Stage::Ending).await;
    });
    Some(keeping.abort_handle())
}

/// Has a core that runs do what its new certificates need. One that does not yet finds them when it starts.
fn have_core(hub: &Hub, deed: CoreDeed) {
    let Some(core) = hub.roster.get(&PluginId::core()) else {
        return;
    };
    let runs = match core.view().phase {
        PhaseName::Running => core.child(),
        PhaseName::Stopped
        | PhaseName::Blocked
        | PhaseName::Preparing
        | PhaseName::Starting
        | PhaseName::Stopping
        | PhaseName::Killing
        | PhaseName::Backoff
        | PhaseName::Foreign => None,
    };
    match (runs, deed) {
        (None, _) => {}
        (Some(child), CoreDeed::Reread) => match child.signal(REREAD) {
            Ok(()) => tracing::info!("the core is told to read its certificate again"),
            Err(why) => tracing::warn!("the core keeps its old certificate: {why}"),
        },
        (Some(_), CoreDeed::Restart) => {
            tracing::info!("the CA is another one: the core is restarted to go by it");
            core.command(Event::Restart, LAUNCHER, hub.ports.clock.wall_mse());
        }
    }
}
