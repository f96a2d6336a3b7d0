//! All seats, shared by everybody.
//!
//! Invariant: whoever looks is given a snapshot, and holds up nobody.

use super::Seat;
use crate::ports::Refused;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use supervision::PluginId;
use tokio::sync::watch;

/// All seats by id, and what was refused one. Shared: views are read from here without asking any actor.
#[derive(Default)]
pub struct Roster {
    seats: RwLock<BTreeMap<PluginId, Arc<Seat>>>,
    refused: RwLock<Arc<Vec<Refused>>>,
    /// Marked when a seat came or went, or got its first actor.
    changes: watch::Sender<()>,
}

impl Roster {
    /// All seats, sorted by id.
    #[must_use]
    pub fn seats(&self) -> Vec<Arc<Seat>> {
        self.seats
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// The seat of a plugin. The core answers to `core` and to its file name (T41).
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<Seat>> {
        let seats = self.seats.read().unwrap_or_else(PoisonError::into_inner);
        let core = seats.get(&PluginId::core());
        if name == PluginId::core().as_str() {
            return core.cloned();
        }
        let by_id = PluginId::new(name).ok().and_then(|id| seats.get(&id));
        by_id
            .or_else(|| {
                core.filter(|seat| seat.view().file.as_ref().is_some_and(|f| f.name == name))
            })
            .cloned()
    }

    /// Files that cannot be plugins, sorted by name.
    #[must_use]
    pub fn refused(&self) -> Arc<Vec<Refused>> {
        self.refused
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn insert(&self, seat: Arc<Seat>) {
        let mut seats = self.seats.write().unwrap_or_else(PoisonError::into_inner);
        seats.insert(seat.id.clone(), seat);
        drop(seats);
        self.changes.send_replace(());
    }

    /// Tells when a seat came or went.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The seat of exactly this id.
    #[must_use]
    pub fn get(&self, id: &PluginId) -> Option<Arc<Seat>> {
        let seats = self.seats.read().unwrap_or_else(PoisonError::into_inner);
        seats.get(id).cloned()
    }

    /// Waits until there is a seat of this id.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn seated(&self, id: &PluginId) -> Arc<Seat> {
        let mut news = self.changes();
        loop {
            if let Some(seat) = self.get(id) {
                return seat;
            }
            // The sender is ours, so it lives as long as this borrow.
            let _ = news.changed().await;
        }
    }

    /// Waits until this seat is none any more; there may be another one of its id then.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn unseated(&self, seat: &Arc<Seat>) {
        let mut news = self.changes();
        while self
            .get(&seat.id)
            .is_some_and(|now| Arc::ptr_eq(&now, seat))
        {
            // The sender is ours, so it lives as long as this borrow.
            let _ = news.changed().await;
        }
    }

    /// Waits until there is a seat of this id, and an actor that takes orders for it.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn served(&self, id: &PluginId) -> Arc<Seat> {
        let mut news = self.changes();
        loop {
            if let Some(seat) = self.get(id).filter(|seat| seat.actor().is_some()) {
                return seat;
            }
            // The sender is ours, so it lives as long as this borrow.
            let _ = news.changed().await;
        }
    }

    /// An actor was started for a seat.
    pub(crate) fn has_served(&self) {
        self.changes.send_replace(());
    }

    pub(crate) fn remove(&self, id: &PluginId) -> Option<Arc<Seat>> {
        let mut seats = self.seats.write().unwrap_or_else(PoisonError::into_inner);
        let gone = seats.remove(id);
        drop(seats);
        self.changes.send_replace(());
        gone
    }

    pub(crate) fn set_refused(&self, refused: Vec<Refused>) {
        *self.refused.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(refused);
    }
}
