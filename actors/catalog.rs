//! The catalog: watches the folders and keeps a seat for every plugin there is, or is to be.
//!
//! Invariants:
//! - changes are debounced by one timer; while a look is under way the next one is only noted (spec §5);
//! - a seat vanishes only when its file is gone, nothing runs on it and nobody wants it to run;
//! - a folder that cannot be read takes no seat away.

use crate::hub::{Hub, Stage};
use crate::message::{PluginMessage, RootMessage};
use crate::ports::{FileFacts, Kind, Scan};
use crate::seat::Seat;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use supervision::PluginId;
use supervision::hand::Setting;
use supervision::lifecycle::PhaseName;
use tokio::task::AbortHandle;

/// Changes of the folders are looked at when they have been quiet for so long (spec §5).
pub const DEBOUNCE: Duration = Duration::from_millis(250);

/// The folders are looked at this often in any case, as a watch may miss something.
pub const SLOW_RESCAN: Duration = Duration::from_secs(60);

/// What the catalog understands.
#[derive(Debug)]
pub enum CatalogMessage {
    /// The folders may have changed.
    Changed,
    /// There are other plans, or somebody may be wanted who has no seat.
    Replanned,
    /// They have been quiet for a while, or it is time for the slow rescan.
    LookNow,
    /// What a look found.
    Looked(Result<Scan, String>),
}

/// The actor.
pub struct Catalog;

/// How far the catalog's next look is.
#[derive(Debug)]
enum Look {
    /// Planned by this timer: the debounce, or the slow rescan.
    Planned(AbortHandle),
    /// Under way.
    UnderWay,
    /// Under way, and something has changed since it began.
    UnderWayAndStale,
}

/// What the actor holds.
pub struct CatalogState {
    hub: Arc<Hub>,
    root: ActorRef<RootMessage>,
    look: Look,
    /// The last error, so that it is logged once.
    trouble: Option<String>,
    /// Keeps the watch; none when the folders cannot be watched.
    watching: Option<AbortHandle>,
    /// Tells of other plans.
    following: AbortHandle,
}

impl Drop for CatalogState {
    fn drop(&mut self) {
        if let Look::Planned(timer) = &self.look {
            timer.abort();
        }
        if let Some(watching) = &self.watching {
            watching.abort();
        }
        self.following.abort();
    }
}

impl Actor for Catalog {
    type Msg = CatalogMessage;
    type State = CatalogState;
    type Arguments = (Arc<Hub>, ActorRef<RootMessage>);

    async fn pre_start(
        &self,
        myself: ActorRef<CatalogMessage>,
        (hub, root): (Arc<Hub>, ActorRef<RootMessage>),
    ) -> Result<CatalogState, ActorProcessingErr> {
        let look = begin_look(&hub, &myself);
        let following = follow(&hub, myself);
        Ok(CatalogState {
            hub,
            root,
            look,
            trouble: None,
            watching: None,
            following,
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<CatalogMessage>,
        state: &mut CatalogState,
    ) -> Result<(), ActorProcessingErr> {
        let watcher = state.hub.inventory.watch(Box::new(move || {
            // The catalog is being restarted: its successor looks anyway.
            let _ = myself.cast(CatalogMessage::Changed);
        }));
        match watcher {
            Ok(watch) => state.watching = Some(keep(watch, &state.hub)),
            Err(text) => tracing::warn!(
                "{text}; changes are noticed only every {} s",
                SLOW_RESCAN.as_secs()
            ),
        }
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<CatalogMessage>,
        message: CatalogMessage,
        state: &mut CatalogState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CatalogMessage::Changed => state.changed(&myself),
            CatalogMessage::Replanned => state.replanned(&myself),
            CatalogMessage::LookNow => match state.look {
                Look::Planned(_) => state.look = begin_look(&state.hub, &myself),
                Look::UnderWay | Look::UnderWayAndStale => {}
            },
            CatalogMessage::Looked(found) => {
                let stale = matches!(state.look, Look::UnderWayAndStale);
                state.take_in(found);
                state.look = plan_look(&myself, if stale { DEBOUNCE } else { SLOW_RESCAN });
            }
        }
        Ok(())
    }
}

/// Keeps the watch until the launcher begins to end: the kernel takes some 10 ms to take one down, and whoever waits for
/// our end would wait for that, too.
fn keep(watch: Box<dyn Send>, hub: &Hub) -> AbortHandle {
    let mut stages = hub.stages();
    let keeping = tokio::spawn(async move {
        let _watch = watch;
        // Without a hub nobody wants to know.
        let _ = stages.wait_for(|stage| *stage == Stage::Ending).await;
    });
    keeping.abort_handle()
}

/// Also tells of the plans that came while no catalog was there.
fn follow(hub: &Arc<Hub>, myself: ActorRef<CatalogMessage>) -> AbortHandle {
    let hub = hub.clone();
    let mut plans = hub.plans_to_come();
    if hub.stage() > Stage::Beginning {
        plans.mark_changed();
    }
    let following = tokio::spawn(async move {
        loop {
            let hub_lives = tokio::select! {
                changed = plans.changed() => changed.is_ok(),
                () = hub.seat_missing.notified() => true,
            };
            if !hub_lives || myself.cast(CatalogMessage::Replanned).is_err() {
                return;
            }
        }
    });
    following.abort_handle()
}

fn begin_look(hub: &Arc<Hub>, myself: &ActorRef<CatalogMessage>) -> Look {
    let (hub, myself) = (hub.clone(), myself.clone());
    tokio::spawn(async move {
        // In a task of its own, so that a panic in it does not leave the catalog waiting for ever.
        let look = tokio::spawn(async move { hub.inventory.scan().await });
        let found = look.await.unwrap_or_else(|panic| {
            Err(format!(
                "looking into the plugins folder failed by a mistake of the launcher: {panic}"
            ))
        });
        // A catalog that is gone has a successor that looks itself.
        let _ = myself.cast(CatalogMessage::Looked(found));
    });
    Look::UnderWay
}

fn plan_look(myself: &ActorRef<CatalogMessage>, after: Duration) -> Look {
    let myself = myself.clone();
    let timer = tokio::spawn(async move {
        tokio::time::sleep(after).await;
        let _ = myself.cast(CatalogMessage::LookNow);
    });
    Look::Planned(timer.abort_handle())
}

impl CatalogState {
    fn changed(&mut self, myself: &ActorRef<CatalogMessage>) {
        self.look = match std::mem::replace(&mut self.look, Look::UnderWayAndStale) {
            Look::Planned(timer) => {
                timer.abort();
                plan_look(myself, DEBOUNCE)
            }
            Look::UnderWay | Look::UnderWayAndStale => Look::UnderWayAndStale,
        };
    }

    /// Those that are to run get their seats at once, the rest is found by a look.
    fn replanned(&mut self, myself: &ActorRef<CatalogMessage>) {
        let plans = self.hub.plans();
        self.seat_wanted();
        self.hub.has_seated(&plans);
        self.look = match std::mem::replace(&mut self.look, Look::UnderWayAndStale) {
            Look::Planned(timer) => {
                timer.abort();
                begin_look(&self.hub, myself)
            }
            Look::UnderWay | Look::UnderWayAndStale => Look::UnderWayAndStale,
        };
    }

    fn take_in(&mut self, found: Result<Scan, String>) {
        let scan = match found {
            Ok(scan) => {
                if self.trouble.take().is_some() {
                    tracing::info!("the plugins folder can be read again");
                }
                scan
            }
            Err(text) => {
                if self.trouble.as_ref() != Some(&text) {
                    tracing::error!("{text}");
                    self.trouble = Some(text);
                }
                // Those that are to run get their seats all the same, so that they are seen as blocked.
                self.seat_wanted();
                self.tell_root(RootMessage::Inventoried);
                return;
            }
        };
        for (id, file) in &scan.plugins {
            match self.hub.roster.get(id) {
                Some(seat) => see(&seat, Some(file)),
                None => self.seat(id.clone(), Some(file.clone())),
            }
        }
        self.seat_wanted();
        self.retire(&scan);
        if let (Some(core), Some(file)) = (self.hub.roster.get(&PluginId::core()), &scan.core) {
            see(&core, Some(file));
        }
        self.refuse(scan);
        self.tell_root(RootMessage::Inventoried);
    }

    /// Seats for those that are to start with the launcher, whether or not their executable is there.
    fn seat_wanted(&self) {
        let memory = &self.hub.ports.memory;
        let by_hand = memory.hands().into_iter().filter(|id| {
            memory
                .hand(id)
                .is_some_and(|hand| hand.setting == Setting::Enabled)
        });
        let plans = self.hub.plans();
        let listed = plans.autostart.iter().cloned();
        let wanted: BTreeSet<PluginId> = listed.chain(by_hand).collect();
        for id in wanted {
            if self.hub.roster.get(&id).is_none() {
                self.seat(id, None);
            }
        }
    }

    fn seat(&self, id: PluginId, file: Option<FileFacts>) {
        let seat = self.hub.new_seat(id.clone(), Kind::Plugin, file);
        self.hub.roster.insert(seat);
        self.tell_root(RootMessage::Seated(id));
    }

    /// Takes away the seats whose file is gone, on which nothing runs and which nobody wants to run.
    fn retire(&self, scan: &Scan) {
        for seat in self.hub.roster.seats() {
            if seat.kind == Kind::Core || scan.plugins.contains_key(&seat.id) {
                continue;
            }
            let view = seat.view();
            match (view.phase, view.enabled) {
                (PhaseName::Stopped, Setting::Disabled) => {
                    self.hub.roster.remove(&seat.id);
                    self.tell_root(RootMessage::Unseated(seat.id.clone()));
                }
                (
                    PhaseName::Stopped
                    | PhaseName::Blocked
                    | PhaseName::Preparing
                    | PhaseName::Starting
                    | PhaseName::Running
                    | PhaseName::Stopping
                    | PhaseName::Killing
                    | PhaseName::Backoff
                    | PhaseName::Foreign,
                    _,
                ) => see(&seat, None),
            }
        }
    }

    fn refuse(&self, scan: Scan) {
        let known = self.hub.roster.refused();
        for refused in scan.refused.iter().filter(|file| !known.contains(file)) {
            tracing::warn!(file = %refused.file.path.display(), "no plugin: {}", refused.reason);
        }
        self.hub.roster.set_refused(scan.refused);
    }

    fn tell_root(&self, message: RootMessage) {
        // Without a root the launcher ends.
        let _ = self.root.cast(message);
    }
}

/// Tells a seat of its file when that is news to it.
fn see(seat: &Seat, file: Option<&FileFacts>) {
    if seat.view().file.as_ref() != file {
        // Lost when the actor is being restarted: the next look tells it again.
        let _ = seat.tell(PluginMessage::FileSeen(file.cloned()));
    }
}
