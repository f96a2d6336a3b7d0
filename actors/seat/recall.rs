//! What a seat knows of its plugin from the launcher before this one, and leaves for the next (spec §9, §12).
//!
//! Invariants: what is kept follows from two views, so no step of an actor can forget it; that the launcher ends is no
//! wish of anybody's and is not kept; nothing here waits for the disk.

use super::{Seat, SeatState};
use crate::message::LAUNCHER;
use crate::ports::Memory;
use crate::view::View;
use std::sync::Arc;
use supervision::lifecycle::{Event, PhaseName, Wish};
use supervision::past::{End, PastWish};

impl Seat {
    /// Takes up what is kept of its plugin, and keeps from now on what changes. Once, before its first actor.
    pub(crate) fn recall(&self, memory: &Arc<dyn Memory>) {
        let past = memory.past(&self.id);
        let view = {
            let mut state = self.state();
            if let Some(wish) = past.wish.clone().and_then(|w| w.going_on(Wish::Down)) {
                state.wish_by = wish.by;
                state.wish_since_mse = wish.since_mse;
            }
            state.past_wish = past.wish;
            state.stop_mse = past.end.exit.as_ref().map_or(0, |exit| exit.time_mse);
            state.last_exit = past.end.exit;
            state.last_fault = past.end.fault;
            state.tail = past.end.tail;
            state.view(&self.id, self.kind, 0)
        };
        self.view.send_replace(Arc::new(view));
        // There is one memory; a second call changes nothing.
        let _ = self.memory.set(memory.clone());
    }

    /// The launcher begins and wishes it up, as it is enabled. A wish for that from before goes on as it was.
    pub(crate) fn begin(&self, now_mse: i64) {
        {
            let mut state = self.state();
            let wish = state.past_wish.take().and_then(|w| w.going_on(Wish::Up));
            state.past_restarts = wish.as_ref().map_or(0, |wish| wish.restarts);
            (state.wish_by, state.wish_since_mse) = match wish {
                Some(wish) => (wish.by, wish.since_mse),
                None => (LAUNCHER.to_owned(), now_mse),
            };
        }
        self.post(Event::Start);
    }
}

impl SeatState {
    /// Somebody wishes something; nothing of what was wished before the launcher's start goes on.
    pub(crate) fn wish(&mut self, by: &str, now_mse: i64, was: Wish) {
        by.clone_into(&mut self.wish_by);
        self.wish_since_mse = now_mse;
        self.past_wish = None;
        if was == Wish::Down {
            self.past_restarts = 0;
        }
    }

    /// Why it is as it is; while this launcher has nothing to tell, what the one before it had.
    pub(crate) fn cause(&self) -> String {
        let cause = self.life.cause();
        if !cause.is_empty() {
            return cause;
        }
        let rest = self.past_wish.as_ref().map(|wish| wish.rest.as_str());
        let fault = self.last_fault.as_ref().map(|fault| fault.text.as_str());
        let told = rest.filter(|rest| !rest.is_empty()).or(fault);
        told.unwrap_or_default().to_owned()
    }
}

/// Hands to the memory what differs between two views of a seat; `closed` = the launcher ends.
pub(super) fn keep_changes(memory: &dyn Memory, before: &View, now: &View, closed: bool) {
    let (old, new) = (wish_of(before), wish_of(now));
    let ends = closed || (now.wish == Wish::Down && now.wish_by == LAUNCHER);
    if old != new && !ends {
        memory.keep_wish(&now.id, new.owned());
    }
    if (&before.last_exit, &before.last_fault, &before.tail)
        != (&now.last_exit, &now.last_fault, &now.tail)
    {
        let end = End {
            exit: now.last_exit.clone(),
            fault: now.last_fault.clone(),
            tail: now.tail.clone(),
        };
        memory.keep_end(&now.id, end.bounded());
    }
}

/// A wish as a view has it.
#[derive(PartialEq, Eq)]
struct WishOf<'view> {
    wish: Wish,
    by: &'view str,
    since_mse: i64,
    restarts: u32,
    rest: &'view str,
}

impl WishOf<'_> {
    fn owned(&self) -> PastWish {
        let wish = PastWish {
            wish: self.wish,
            by: self.by.to_owned(),
            since_mse: self.since_mse,
            restarts: self.restarts,
            rest: self.rest.to_owned(),
        };
        wish.bounded()
    }
}

fn wish_of(view: &View) -> WishOf<'_> {
    let rests = view.wish == Wish::Down && view.phase == PhaseName::Stopped;
    WishOf {
        wish: view.wish,
        by: &view.wish_by,
        since_mse: view.wish_since_mse,
        restarts: view.restarts,
        rest: if rests { &view.cause } else { "" },
    }
}
