//! The order in which plugins are stopped together: those that require others before these (spec §9).
//!
//! Invariants: who requires whom is looked up once, in one set of plans, which has no circles; a stop waits for the ends of
//! others' stops, never for a time, as each of them has an end of its own.

use crate::hub::Hub;
use std::collections::BTreeMap;
use supervision::PluginId;
use tokio::sync::watch;

/// The stops that are begun together.
pub(crate) struct Stops {
    ends: BTreeMap<PluginId, watch::Sender<()>>,
    /// Of each that is required, the ends of those that require it.
    before: BTreeMap<PluginId, Vec<watch::Receiver<()>>>,
}

/// The stop of one plugin; over when this is dropped.
pub(crate) struct Stop {
    before: Vec<watch::Receiver<()>>,
    _end: Option<watch::Sender<()>>,
}

impl Stops {
    /// Of all plugins that are not down now. Those that are not taken count as over when this is dropped.
    pub(crate) fn of(hub: &Hub) -> Self {
        let plans = hub.plans();
        let mut stops = Stops {
            ends: BTreeMap::new(),
            before: BTreeMap::new(),
        };
        for seat in hub.roster.seats() {
            if seat.view().phase.is_down() {
                continue;
            }
            let (end, ended) = watch::channel(());
            for required in &plans.of(&seat.id, seat.kind).requires {
                let before = stops.before.entry(required.clone()).or_default();
                before.push(ended.clone());
            }
            stops.ends.insert(seat.id.clone(), end);
        }
        stops
    }

    /// The stop of `id`.
    pub(crate) fn take(&mut self, id: &PluginId) -> Stop {
        Stop {
            before: self.before.remove(id).unwrap_or_default(),
            _end: self.ends.remove(id),
        }
    }
}

impl Stop {
    /// Whether it waits for nobody.
    pub(crate) fn comes_at_once(&self) -> bool {
        self.before.is_empty()
    }

    /// Waits until those before it are over.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn comes(&mut self) {
        for ended in &mut self.before {
            // Nothing is ever sent: the sender is dropped at the end.
            while ended.changed().await.is_ok() {}
        }
    }
}
