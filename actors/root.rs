//! The root of the tree: starts every actor, starts it anew when it crashes, and ends the launcher in order.
//!
//! Invariants:
//! - a crash of a plugin's actor costs the plugin nothing; its seat is served by a new actor (architecture §1);
//! - actors of plugins that crash too often are given up one by one; any other that does ends the launcher with its
//!   plugins left alone;
//! - plugins are ended before the bus that carries their last words, the core last (spec §9).

use crate::bridge::{Bridge, BridgeArgs};
use crate::catalog::Catalog;
use crate::control::{Control, ControlArgs};
use crate::hub::{CoreSetup, Hub, Stage};
use crate::local::{Local, LocalArgs};
use crate::message::{Ending, Haste, Part, RootMessage};
use crate::monitor::Monitor;
use crate::plugin::PluginActor;
use crate::ports::Kind;
use crate::renewal::Renewal;
use crate::wind;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use supervision::PluginId;
use supervision::intensity::{Intensity, Judgement};
use tokio::sync::oneshot;

/// The pause before what panicked is done again.
const AGAIN: Duration = Duration::from_secs(1);

/// What root needs to begin.
pub struct RootArgs {
    /// What all share.
    pub hub: Arc<Hub>,
    /// What the bridge needs.
    pub bridge: BridgeArgs,
    /// What control needs.
    pub control: ControlArgs,
    /// What local control needs; none without it.
    pub local: Option<LocalArgs>,
    /// Gets the end; dropped without one when root itself fails.
    pub ended: oneshot::Sender<Ending>,
}

/// The actor.
pub struct Root;

/// What root holds.
pub struct RootState {
    hub: Arc<Hub>,
    bridge: BridgeArgs,
    control: ControlArgs,
    local: Option<LocalArgs>,
    ended: Option<oneshot::Sender<Ending>>,
    actors: HashMap<ActorId, (Part, ractor::ActorCell)>,
    crashes: HashMap<Part, Intensity>,
}

impl Actor for Root {
    type Msg = RootMessage;
    type State = RootState;
    type Arguments = RootArgs;

    async fn pre_start(
        &self,
        _myself: ActorRef<RootMessage>,
        args: RootArgs,
    ) -> Result<RootState, ActorProcessingErr> {
        Ok(RootState {
            hub: args.hub,
            bridge: args.bridge,
            control: args.control,
            local: args.local,
            ended: Some(args.ended),
            actors: HashMap::new(),
            crashes: HashMap::new(),
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<RootMessage>,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        state.begin(Part::Control, &myself).await?;
        if let CoreSetup::Own(file) = &state.hub.core {
            let seat = state
                .hub
                .new_seat(PluginId::core(), Kind::Core, Some(file.clone()));
            state.hub.roster.insert(seat);
            state.begin(Part::Plugin(PluginId::core()), &myself).await?;
        }
        for part in [
            Part::Local,
            Part::Bridge,
            Part::Monitor,
            Part::Catalog,
            Part::Renewal,
        ] {
            state.begin(part, &myself).await?;
        }
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<RootMessage>,
        message: RootMessage,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RootMessage::Inventoried => state.inventoried(&myself),
            RootMessage::Seated(id) => state.begin(Part::Plugin(id), &myself).await?,
            RootMessage::Unseated(id) => state.dismiss(&Part::Plugin(id)),
            RootMessage::BroughtUp => state.hub.advance(Stage::Up),
            RootMessage::End(haste) => state.end(haste, &myself),
            RootMessage::WoundDown(ending) => state.finish(ending, &myself),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<RootMessage>,
        event: SupervisionEvent,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, why) = match event {
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {
                return Ok(());
            }
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                (cell, reason.unwrap_or_else(|| "it ended".to_owned()))
            }
            SupervisionEvent::ActorFailed(cell, error) => (cell, error.to_string()),
        };
        if let Some((part, _)) = state.actors.remove(&cell.get_id()) {
            state.crashed(part, &why, &myself).await?;
        }
        Ok(())
    }
}

impl RootState {
    /// Starts the actor of a part. `pre_start` of each is trivial, so this waits for nobody.
    async fn begin(
        &mut self,
        part: Part,
        myself: &ActorRef<RootMessage>,
    ) -> Result<(), ActorProcessingErr> {
        let above = myself.get_cell();
        let hub = self.hub.clone();
        let cell = match &part {
            Part::Catalog => {
                let args = (hub, myself.clone());
                Actor::spawn_linked(None, Catalog, args, above)
                    .await?
                    .0
                    .get_cell()
            }
            Part::Monitor => Actor::spawn_linked(None, Monitor, hub, above)
                .await?
                .0
                .get_cell(),
            Part::Renewal => Actor::spawn_linked(None, Renewal, hub, above)
                .await?
                .0
                .get_cell(),
            Part::Bridge => {
                let args = (hub, self.bridge.clone());
                Actor::spawn_linked(None, Bridge, args, above)
                    .await?
                    .0
                    .get_cell()
            }
            Part::Control => {
                let args = (hub, self.control.clone(), myself.clone());
                Actor::spawn_linked(None, Control, args, above)
                    .await?
                    .0
                    .get_cell()
            }
            Part::Local => {
                let Some(args) = self.local.clone() else {
                    return Ok(());
                };
                Actor::spawn_linked(None, Local, (hub, args), above)
                    .await?
                    .0
                    .get_cell()
            }
            Part::Plugin(id) => {
                let Some(seat) = self.hub.roster.get(id) else {
                    return Ok(());
                };
                let args = (seat, hub);
                let (actor, _) = Actor::spawn_linked(None, PluginActor, args, above).await?;
                self.hub.roster.has_served();
                actor.get_cell()
            }
        };
        self.actors.insert(cell.get_id(), (part, cell));
        Ok(())
    }

    fn dismiss(&mut self, part: &Part) {
        self.crashes.remove(part);
        self.actors.retain(|_, (other, cell)| {
            let keep = other != part;
            if !keep {
                cell.stop(None);
            }
            keep
        });
    }

    /// An actor ended without being dismissed.
    async fn crashed(
        &mut self,
        part: Part,
        why: &str,
        myself: &ActorRef<RootMessage>,
    ) -> Result<(), ActorProcessingErr> {
        let now = self.hub.ports.clock.now();
        let judgement = self.crashes.entry(part.clone()).or_default().crashed(now);
        let seat = match &part {
            Part::Plugin(id) => self.hub.roster.get(id),
            Part::Catalog
            | Part::Monitor
            | Part::Bridge
            | Part::Renewal
            | Part::Control
            | Part::Local => None,
        };
        match (judgement, seat) {
            (Judgement::StartAnew, seat) => {
                tracing::error!(%part, "crashed and is started anew: {why}");
                if let Some(seat) = seat {
                    seat.vacate();
                }
                self.begin(part, myself).await?;
            }
            (Judgement::GiveUp, Some(seat)) => {
                tracing::error!(%part, "crashed too often and is given up; the process is kept: {why}");
                seat.quarantine();
            }
            (Judgement::GiveUp, None) if matches!(part, Part::Plugin(_)) => {
                tracing::error!(%part, "crashed too often while its seat was taken away: {why}");
            }
            (Judgement::GiveUp, None) => {
                tracing::error!(%part, "crashed too often; the launcher ends and leaves its plugins alone: {why}");
                self.finish(Ending::GaveUp(part), myself);
            }
        }
        Ok(())
    }

    fn inventoried(&mut self, myself: &ActorRef<RootMessage>) {
        if self.hub.stage() != Stage::Beginning {
            return;
        }
        self.hub.advance(Stage::Starting);
        let (hub, root) = (self.hub.clone(), myself.clone());
        tokio::spawn(async move {
            until_done("bringing everything up", || {
                let hub = hub.clone();
                async move { wind::bring_up(&hub).await }
            })
            .await;
            // A root that is gone has ended the launcher.
            let _ = root.cast(RootMessage::BroughtUp);
        });
    }

    fn end(&mut self, haste: Haste, myself: &ActorRef<RootMessage>) {
        let again = self.hub.stage() == Stage::Ending;
        if again || haste == Haste::Kill {
            wind::kill_all(&self.hub);
        }
        if again {
            return;
        }
        self.hub.advance(Stage::Ending);
        let (hub, bridge, root) = (self.hub.clone(), self.bridge.clone(), myself.clone());
        tokio::spawn(async move {
            let ending = until_done("winding everything down", || {
                let (hub, bridge) = (hub.clone(), bridge.clone());
                async move { wind::wind_down(&hub, &bridge.news, &bridge.link).await }
            })
            .await;
            let _ = root.cast(RootMessage::WoundDown(ending));
        });
    }

    fn finish(&mut self, ending: Ending, myself: &ActorRef<RootMessage>) {
        if let Some(ended) = self.ended.take() {
            // Main waits for it; when it does not, the process is ending anyway.
            let _ = ended.send(ending);
        }
        myself.stop(None);
    }
}

/// Does what may be done twice again until it is done without a panic: nobody else would.
async fn until_done<F>(what: &str, mut work: impl FnMut() -> F) -> F::Output
where
    F: Future<Output: Send> + Send + 'static,
{
    loop {
        // In a task of its own, so that a panic ends only that.
        match tokio::spawn(work()).await {
            Ok(done) => return done,
            Err(panic) => {
                tracing::error!(
                    "{what} failed by a mistake of the launcher and is done again: {panic}"
                );
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
