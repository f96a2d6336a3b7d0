//! Starts those plugins again that do not find a core that was restarted (spec §7, `onCoreRestart: restart`, T14).
//!
//! Invariants: a lost connection to the same core is none of its restarts; nobody is started who did not run; the starts
//! come one after the other, as all others do.

use super::BridgeArgs;
use crate::hub::Hub;
use crate::link::Link;
use crate::ports::{Kind, OnCoreRestart};
use crate::turn::turns;
use std::sync::Arc;
use supervision::PluginId;
use supervision::lifecycle::{Event, PhaseName};

/// Follows the connections for ever.
pub(super) async fn follow_restarts(hub: Arc<Hub>, args: BridgeArgs) {
    let mut links = args.link.subscribe();
    let mut known = None;
    loop {
        let present = match &*links.borrow_and_update() {
            Link::Up { generation } => Some(incarnation(&hub, *generation)),
            Link::Down { .. } => None,
        };
        if let Some(present) = present {
            if known.is_some_and(|before| before != present) {
                restart(&hub);
            }
            known = Some(present);
        }
        if links.changed().await.is_err() {
            return;
        }
    }
}

/// Which core it is: of our own the number of its run; of another's nothing but its connections can be known.
fn incarnation(hub: &Hub, generation: u64) -> u64 {
    match hub.roster.get(&PluginId::core()) {
        Some(core) => core.view().run.0,
        None => generation,
    }
}

fn restart(hub: &Hub) {
    let wanted = |id: &PluginId, kind| hub.plans().of(id, kind).on_core_restart;
    let seats: Vec<_> = hub
        .roster
        .seats()
        .into_iter()
        .filter(|seat| {
            seat.kind == Kind::Plugin
                && wanted(&seat.id, seat.kind) == OnCoreRestart::Restart
                && seat.view().phase == PhaseName::Running
        })
        .collect();
    let turns = turns(seats.len());
    for (seat, turn) in seats.into_iter().zip(turns) {
        tracing::info!(plugin = %seat.id, "the core was restarted, and this plugin is with it (onCoreRestart)");
        seat.give_turn(turn);
        seat.post(Event::Restart);
    }
}
