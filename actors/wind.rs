//! Bringing everything up and winding it down, in order.
//!
//! Invariants: the core first and last; plugins begin in the order of the list, and end all at once but for those that
//! others require, which end after these (spec §9); commands are posted to seats, so none is lost with an actor; once the
//! launcher ends, nothing is started any more; whoever asks for more time to end has it, as far as its lifecycle gives it.

use crate::hub::{Hub, Stage};
use crate::link::Link;
use crate::message::{Ending, LAUNCHER};
use crate::news::News;
use crate::ports::{Child, Happening, Kind, LauncherNews};
use crate::seat::Seat;
use crate::stops::{Stop, Stops};
use crate::turn::turns;
use crate::view::View;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use supervision::PluginId;
use supervision::hand::Setting;
use supervision::lifecycle::{Event, PhaseName, StopCause};
use supervision::order::start_order;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a tree may take to be gone after SIGKILL, until it is told of as left.
const AFTER_SIGKILL: Duration = Duration::from_secs(5);

/// How long the last events may take on their way to the bus.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Starts the core, waits until it is ready or has had its time, then all that is enabled, in order.
pub(crate) async fn bring_up(hub: &Hub) {
    hub.ports.herald.announce(Happening::Launcher {
        what: LauncherNews::Started,
        text: format!("launcher {} started", env!("CARGO_PKG_VERSION")),
    });
    let mut stages = hub.stages();
    tokio::select! {
        biased;
        _ = stages.wait_for(|stage| *stage == Stage::Ending) => return,
        () = core_up(hub) => {}
    }
    start_enabled(hub);
}

async fn core_up(hub: &Hub) {
    let Some(core) = hub.roster.get(&PluginId::core()) else {
        return;
    };
    core.begin(hub.ports.clock.wall_mse());
    let patience = hub.plans().core.rules.start_timeout;
    let ready = core.until(|view| view.phase == PhaseName::Running);
    if tokio::time::timeout(patience, ready).await.is_err() {
        // Without a cause of its own it is the bus that cannot be reached, which the bridge says.
        let cause = match core.view().cause.as_str() {
            "" => String::new(),
            cause => format!(": {cause}"),
        };
        tracing::error!(
            "the core is not ready after {patience:?}{cause}; plugins that need it are blocked until it is"
        );
    }
}

/// Starts all that are enabled, in order.
fn start_enabled(hub: &Hub) {
    let now = hub.ports.clock.wall_mse();
    let seats = enabled_in_order(hub);
    let turns = turns(seats.len());
    for (seat, turn) in seats.iter().zip(turns) {
        seat.give_turn(turn);
        seat.begin(now);
    }
}

/// The plugins that are enabled: as `autostart` lists them, then by id.
pub(crate) fn enabled_in_order(hub: &Hub) -> Vec<Arc<Seat>> {
    let wanted: BTreeSet<PluginId> = hub
        .roster
        .seats()
        .iter()
        .filter(|seat| seat.kind == Kind::Plugin && seat.view().enabled == Setting::Enabled)
        .map(|seat| seat.id.clone())
        .collect();
    start_order(&hub.plans().autostart, &wanted)
        .iter()
        .filter_map(|id| hub.roster.get(id))
        .collect()
}

/// Stops all plugins at once, lets the bus have the last words, stops the core.
pub(crate) async fn wind_down(hub: &Arc<Hub>, news: &News, link: &watch::Sender<Link>) -> Ending {
    hub.ports.herald.announce(Happening::Launcher {
        what: LauncherNews::Stopping,
        text: "the launcher stops, and its plugins with it".to_owned(),
    });
    for seat in hub.roster.seats() {
        seat.close();
    }
    let (core, plugins): (Vec<_>, Vec<_>) = hub
        .roster
        .seats()
        .into_iter()
        .partition(|seat| seat.kind == Kind::Core);
    let mut left = stop_all(hub, plugins).await;
    let there_is_a_bus = link.borrow().is_up();
    if there_is_a_bus {
        for seat in hub.roster.seats() {
            seat.state().outbox.await_no_tails();
            seat.tell_news(hub.ports.herald.as_ref());
        }
        let sent = tokio::time::timeout(LAST_WORDS, news.emptied()).await;
        if sent.is_err() {
            tracing::warn!("the bus is slow; the last events were not sent");
        }
    }
    left.extend(stop_all(hub, core).await);
    if left.is_empty() {
        Ending::Clean
    } else {
        Ending::LeftRunning(left)
    }
}

async fn stop_all(hub: &Arc<Hub>, seats: Vec<Arc<Seat>>) -> Vec<PluginId> {
    let now = hub.ports.clock.wall_mse();
    let mut stops = Stops::of(hub);
    let mut down = JoinSet::new();
    for seat in seats {
        let stop = stops.take(&seat.id);
        if stop.comes_at_once() {
            seat.command(Event::Stop(StopCause::Shutdown), LAUNCHER, now);
        }
        down.spawn(stop_in_order(hub.clone(), seat, stop));
    }
    drop(stops);
    let mut left = Vec::new();
    while let Some(ended) = down.join_next().await {
        left.extend(ended.ok().flatten());
    }
    left.sort();
    left
}

/// Stops a seat when its stop comes, and waits until it is down.
async fn stop_in_order(hub: Arc<Hub>, seat: Arc<Seat>, mut stop: Stop) -> Option<PluginId> {
    if !stop.comes_at_once() {
        stop.comes().await;
        let now = hub.ports.clock.wall_mse();
        seat.command(Event::Stop(StopCause::Shutdown), LAUNCHER, now);
    }
    if !seat.is_quarantined() && has_ended(&seat).await {
        return None;
    }
    if seat.is_quarantined() {
        return stop_directly(&hub, &seat).await;
    }
    Some(seat.id.clone())
}

/// Waits until nothing of ours lives on a seat that was told to stop, or nothing more can be done about it: what asked for
/// more time has it, what SIGKILL does not end in [`AFTER_SIGKILL`] sleeps in the kernel. Whether it is down.
async fn has_ended(seat: &Seat) -> bool {
    let is_over = |view: &View| view.phase.is_down() || seat.is_quarantined();
    seat.until(|view| is_over(view) || view.phase == PhaseName::Killing)
        .await;
    let over = seat.until(is_over);
    match tokio::time::timeout(AFTER_SIGKILL, over).await {
        Ok(view) => view.phase.is_down(),
        Err(_elapsed) => false,
    }
}

/// Ends the process of a seat that no actor serves any more.
async fn stop_directly(hub: &Hub, seat: &Seat) -> Option<PluginId> {
    let child = seat.child()?;
    let stop = hub.plans().of(&seat.id, seat.kind).rules.stop;
    if let Err(text) = child.signal(stop.signal) {
        tracing::warn!(plugin = %seat.id, "signalling its tree failed: {text}");
    }
    if tokio::time::timeout(stop.grace, child.tree_ended())
        .await
        .is_err()
    {
        kill(seat, child.as_ref());
        let gone = tokio::time::timeout(AFTER_SIGKILL, child.tree_ended()).await;
        if gone.is_err() {
            return Some(seat.id.clone());
        }
    }
    let id = seat.id.clone();
    hub.ports.herald.announce(Happening::Stopped { id });
    None
}

fn kill(seat: &Seat, child: &dyn Child) {
    if let Err(text) = child.kill() {
        tracing::warn!(plugin = %seat.id, "killing its tree failed: {text}");
    }
}

/// Kills everything, the core included.
pub(crate) fn kill_all(hub: &Hub) {
    let now = hub.ports.clock.wall_mse();
    for seat in hub.roster.seats() {
        seat.command(Event::KillNow, LAUNCHER, now);
        if seat.is_quarantined()
            && let Some(child) = seat.child()
        {
            kill(&seat, child.as_ref());
        }
    }
}
