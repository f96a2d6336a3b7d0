//! What is done with each new connection to the bus.
//!
//! Invariants: nothing here is done for a connection that is gone; all of it may be repeated.

use super::introduce::introduce;
use super::{BridgeArgs, SEND_WITHIN, tell_fall};
use crate::hub::Hub;
use crate::link::Link;
use crate::ports::{Kind, Teller};
use crate::seat::Seat;
use bus::client::{CallError, Client};
use bus::golang;
use bus::wire::{AUTH, MANAGE, PROFILE, READ, ServicePermissionsArgs};
use std::sync::Arc;
use std::time::Duration;
use supervision::PluginId;
use supervision::lifecycle::{Event, PhaseName};

/// Who may use which capability of the launcher (spec §8).
const PERMISSIONS: [(&str, &[&str]); 2] = [
    (MANAGE, &["manager", "admin"]),
    (READ, &["viewer", "operator", "manager", "admin"]),
];

/// The pause before it is tried once more to register who may ask us; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A login that takes no longer after the core is ready is nothing to speak of.
const LOGIN_PATIENCE: Duration = Duration::from_secs(2);

/// Lets those who waited for the bus go on, registers who may ask us, and introduces the launcher for as long as the
/// connection lasts.
pub(super) async fn greet(hub: Arc<Hub>, args: BridgeArgs) {
    let client = &args.client;
    if let Some(core) = hub.roster.get(&PluginId::core()) {
        match hub.plans().core.teller {
            Teller::Login => prove_ready(&core).await,
            Teller::Started | Teller::Itself | Teller::Log(_) | Teller::Connect(_) => {}
        }
    }
    for seat in hub.roster.seats() {
        match seat.kind {
            // Stale for all but those that wait (spec §9: a delay is cut short when the core is back).
            Kind::Plugin => seat.post(Event::CauseGone),
            Kind::Core => {}
        }
    }
    tokio::join!(register(&hub, client), introduce(&hub, &args, hub.began));
}

/// Registers who may ask us; tried until the auth service has it all or there is none, as nobody else may ask meanwhile.
async fn register(hub: &Hub, client: &Client) {
    let mut pause = FIRST_PAUSE;
    for (capability, roles) in PERMISSIONS {
        let mut told = None;
        while let Err(error) = permit(hub, client, capability, roles).await {
            if let CallError::NobodyServes { .. } = error {
                tracing::info!(
                    "this hub has no auth service: its core's own rules say who may use the launcher"
                );
                return;
            }
            let text = error.to_string();
            if told.as_ref() != Some(&text) {
                tracing::warn!(
                    capability,
                    "the auth service did not register who may use it; only admins and services can, until it does: {text}"
                );
                told = Some(text);
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }
}

async fn permit(
    hub: &Hub,
    client: &Client,
    capability: &str,
    roles: &[&str],
) -> Result<(), CallError> {
    let me = &hub.node.client_id;
    let topic = format!("rpc/{AUTH}/{PROFILE}/setServicePermissions/{me}");
    let args = ServicePermissionsArgs {
        capability: capability.to_owned(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
    };
    let asked = client
        .call(&topic, golang::encode(&args), SEND_WITHIN)
        .await;
    asked.map(|_empty| ())
}

/// A login that succeeded proves that the run that made it possible is ready (spec §7).
pub(super) async fn prove_ready(core: &Arc<Seat>) {
    let run = core.view().run;
    let mut views = core.views();
    loop {
        let view = views.borrow_and_update().clone();
        if view.run != run {
            // The connection was to a run that is over.
            return;
        }
        match view.phase {
            // Before its process is known to the seat it would be too early, and nobody would repeat it.
            PhaseName::Starting if core.child().is_some() => core.post(Event::Ready { run }),
            PhaseName::Preparing | PhaseName::Starting => {}
            // It is ready, or the login was to a core that is not ours.
            PhaseName::Running
            | PhaseName::Stopped
            | PhaseName::Blocked
            | PhaseName::Stopping
            | PhaseName::Killing
            | PhaseName::Backoff
            | PhaseName::Foreign => return,
        }
        if views.changed().await.is_err() {
            return;
        }
    }
}

/// Has the client try often while a core of our own is starting (spec §7), and at its usual pace otherwise. When it did
/// not come up, what was not told while it was awaited is.
pub(super) async fn follow_core(hub: Arc<Hub>, args: BridgeArgs) {
    let Some(core) = hub.roster.get(&PluginId::core()) else {
        return;
    };
    let mut views = core.views();
    let mut started = false;
    loop {
        let phase = views.borrow_and_update().phase;
        args.client.set_eager(phase == PhaseName::Starting);
        let starts = phase == PhaseName::Running && !started;
        started = phase == PhaseName::Running;
        if starts && !args.link.borrow().is_up() {
            // One that told so itself has not been logged in to yet: this comes in a moment.
            args.client.nudge();
            let mut links = args.link.subscribe();
            tokio::select! {
                _ = tokio::time::timeout(LOGIN_PATIENCE, links.wait_for(Link::is_up)) => {}
                changed = views.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            }
        }
        tell_fall(&hub, &args.link);
        if views.changed().await.is_err() {
            return;
        }
    }
}
