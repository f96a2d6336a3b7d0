//! What a connection has not taken yet, in bytes, so that one that does not read or acknowledge is noticed before it fills
//! the memory.
//!
//! Invariants:
//! - Noted is every message that is larger than [`SMALL`], and every one for a connection that is behind: of the others
//!   the library keeps some hundred for a moment.
//! - One message always fits: who takes large ones takes them one by one.
//! - What is noted of a connection is forgotten with it.
//!
//! The library's own queues are bounded by numbers of messages, and tell nobody what is in them; so messages are counted
//! where they come in, and where they go out to the client.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use crate::limits::Limits;
use crate::lock::lock;

/// Messages of up to so many bytes are not noted for a connection that keeps up.
pub const SMALL: usize = 4096;
/// What the library needs for a message besides its payload, about.
pub const OVERHEAD: usize = 1024;
/// QoS 1 and 2 messages that a client may leave unacknowledged until it gets no more (the library's
/// `max_outbound_inflight`).
pub const WINDOW: u16 = 64;
/// For how long in all a connection may keep publishers waiting, until it has caught up.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// Each time the client takes so many bytes, it may do so for a second more: publishers are not held up by it below that
/// rate for long.
pub const RATE: usize = 1024 * 1024;

/// What all connections of a core share.
#[derive(Debug)]
pub struct Room {
    /// For each connection, in bytes.
    bytes: usize,
    /// For each connection.
    messages: usize,
    /// For all of them, in bytes.
    all_bytes: usize,
    /// What they have now. A message that waits for several is there once, as in memory.
    used: AtomicUsize,
    /// Size of the messages that wait, by number, and for how many they do.
    shared: Mutex<HashMap<u64, (usize, usize)>>,
    /// How many are behind.
    behind: AtomicUsize,
    /// Told whenever a connection has more room.
    pub progress: Notify,
}

impl Room {
    /// Room as the limits say.
    #[must_use]
    pub fn new(limits: &Limits) -> Room {
        Room {
            bytes: limits.queued_bytes,
            messages: limits.queued_messages,
            all_bytes: limits.all_queued_bytes,
            used: AtomicUsize::new(0),
            shared: Mutex::default(),
            behind: AtomicUsize::new(0),
            progress: Notify::new(),
        }
    }

    /// Whether any connection is behind.
    #[must_use]
    pub fn is_any_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed) > 0
    }

    /// What all together have, in bytes.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether all together would have too much with so many bytes more.
    #[must_use]
    pub fn is_short_of(&self, bytes: usize) -> bool {
        self.used() > 0 && self.used().saturating_add(bytes) > self.all_bytes
    }

    fn take(&self, held: Held) {
        let is_new = held.number.is_none_or(|number| {
            let mut shared = lock(&self.shared);
            let (_, count) = shared.entry(number).or_insert((held.bytes, 0));
            *count += 1;
            *count == 1
        });
        if is_new {
            self.used.fetch_add(held.bytes, Ordering::Relaxed);
        }
    }

    fn leave(&self, held: Held) {
        let Some(number) = held.number else {
            self.used.fetch_sub(held.bytes, Ordering::Relaxed);
            return;
        };
        let mut shared = lock(&self.shared);
        if let Some((bytes, count)) = shared.get_mut(&number) {
            *count -= 1;
            if *count == 0 {
                self.used.fetch_sub(*bytes, Ordering::Relaxed);
                shared.remove(&number);
            }
        }
    }
}

/// A message that is kept for a connection.
#[derive(Debug, Clone, Copy)]
struct Held {
    bytes: usize,
    /// Its number, where others may have it, too.
    number: Option<u64>,
}

/// What became of a message that is about to be routed to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// There is room; it is noted.
    Noted,
    /// There is none.
    Full,
    /// The connection was given up.
    GivenUp,
}

#[derive(Debug, Default)]
struct Owed {
    /// On their way to the client, by number.
    waiting: BTreeMap<u64, Held>,
    /// With the client, by packet id, until it acknowledges them.
    unacknowledged: HashMap<u16, Held>,
    /// QoS 2 messages of the client, by packet id, until it releases them.
    unreleased: HashMap<u16, Held>,
    bytes: usize,
    /// For how long others have waited for it.
    waited: Duration,
    stalled: bool,
    given_up: bool,
}

impl Owed {
    fn messages(&self) -> usize {
        self.waiting.len() + self.unacknowledged.len() + self.unreleased.len()
    }

    fn is_behind(&self) -> bool {
        self.stalled || self.unacknowledged.len() >= usize::from(WINDOW)
    }
}

/// The message that came from a client last: the one the library works on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latest {
    /// Its number.
    pub number: u64,
    /// Its size with topic and properties.
    pub bytes: usize,
    /// Its properties alone, in bytes.
    pub properties: usize,
    /// Whether it is to be retained.
    pub is_retained: bool,
}

/// What one connection has not taken yet.
#[derive(Debug)]
pub struct Backlog {
    room: Arc<Room>,
    owed: Mutex<Owed>,
    behind: AtomicBool,
    latest: Mutex<Latest>,
}

impl Backlog {
    /// Nothing yet.
    #[must_use]
    pub fn new(room: Arc<Room>) -> Backlog {
        Backlog {
            room,
            owed: Mutex::default(),
            behind: AtomicBool::new(false),
            latest: Mutex::default(),
        }
    }

    /// The message that came from the client last.
    #[must_use]
    pub fn latest(&self) -> Latest {
        *lock(&self.latest)
    }

    /// A message begins to come from the client.
    pub fn coming(&self, message: Latest) {
        *lock(&self.latest) = message;
    }

    /// Whether the client reads slower than it is written to, or has left as much unacknowledged as it may.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// What it has, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        lock(&self.owed).bytes
    }

    /// Notes that message `number` is going to be routed to the client.
    pub fn offer(&self, number: u64, bytes: usize) -> Offer {
        let mut owed = lock(&self.owed);
        if owed.given_up {
            return Offer::GivenUp;
        }
        let is_full = owed.bytes.saturating_add(bytes) > self.room.bytes
            || owed.messages() >= self.room.messages;
        if is_full && owed.bytes > 0 {
            return Offer::Full;
        }
        let held = Held {
            bytes,
            number: Some(number),
        };
        let before = owed.waiting.insert(number, held);
        self.settle(owed, before, Some(held));
        Offer::Noted
    }

    /// Notes that message `number` is on its way to the client, with packet id and size where it acknowledges it.
    pub fn written(&self, number: Option<u64>, acknowledged: Option<(u16, usize)>) {
        let mut owed = lock(&self.owed);
        if owed.given_up {
            return;
        }
        let waited = number.and_then(|number| owed.waiting.remove(&number));
        if let Some((id, bytes)) = acknowledged {
            let held = waited.unwrap_or(Held {
                bytes: bytes.saturating_add(OVERHEAD),
                number: None,
            });
            let before = owed.unacknowledged.insert(id, held);
            // What waited is kept under another name.
            let more = waited.is_none().then_some(held);
            self.settle(owed, before, more);
        } else {
            self.settle(owed, waited, None);
        }
    }

    /// The client has acknowledged a message.
    pub fn acknowledged(&self, id: u16) {
        let mut owed = lock(&self.owed);
        let less = owed.unacknowledged.remove(&id);
        self.settle(owed, less, None);
    }

    /// A QoS 2 message of the client is kept until it releases it. False when it has too many of them.
    #[must_use]
    pub fn hold(&self, id: u16, bytes: usize) -> bool {
        let mut owed = lock(&self.owed);
        if owed.given_up {
            return false;
        }
        let held = Held {
            bytes: bytes.saturating_add(OVERHEAD),
            number: None,
        };
        let before = owed.unreleased.insert(id, held);
        let others = owed.bytes - before.map_or(0, |before| before.bytes);
        let fits = owed.unreleased.len() == 1 || others + held.bytes <= self.room.bytes;
        self.settle(owed, before, Some(held));
        fits
    }

    /// It was released, or refused.
    pub fn released(&self, id: u16) {
        let mut owed = lock(&self.owed);
        let less = owed.unreleased.remove(&id);
        self.settle(owed, less, None);
    }

    /// Whether the client's stream takes no more for now.
    pub fn stall(&self, is_stalled: bool) {
        let mut owed = lock(&self.owed);
        owed.stalled = is_stalled;
        self.settle(owed, None, None);
    }

    /// Forgets what is on its way, as a client that is not behind has got it, or never will: the library drops what a
    /// client does not want, and what is beyond its lanes of QoS 0. Tells whether there was anything.
    pub fn forget_waiting(&self) -> bool {
        let mut owed = lock(&self.owed);
        let waiting = std::mem::take(&mut owed.waiting);
        let is_some = !waiting.is_empty();
        self.settle(owed, waiting.into_values(), None);
        is_some
    }

    /// Notes that others have waited for it. False when they have for long enough.
    #[must_use]
    pub fn has_patience_for(&self, waited: Duration) -> bool {
        let mut owed = lock(&self.owed);
        owed.waited += waited;
        owed.waited < PATIENCE
    }

    /// Forgets everything, as the connection is about to end. False when that was done already.
    pub fn give_up(&self) -> bool {
        let mut owed = lock(&self.owed);
        let first = !owed.given_up;
        let all = std::mem::take(&mut *owed);
        *owed = Owed {
            given_up: true,
            bytes: all.bytes,
            ..Owed::default()
        };
        let held = all.waiting.into_values();
        let held = held.chain(all.unacknowledged.into_values());
        self.settle(owed, held.chain(all.unreleased.into_values()), None);
        first
    }

    fn settle(
        &self,
        mut owed: MutexGuard<'_, Owed>,
        less: impl IntoIterator<Item = Held>,
        more: Option<Held>,
    ) {
        if let Some(more) = more {
            owed.bytes += more.bytes;
            self.room.take(more);
        }
        let mut taken = 0;
        for less in less {
            taken += less.bytes;
            self.room.leave(less);
        }
        owed.bytes -= taken;
        let earned = Duration::from_secs_f64(taken as f64 / RATE as f64);
        owed.waited = match owed.bytes {
            0 => Duration::ZERO,
            _ => owed.waited.saturating_sub(earned),
        };
        let is_behind = owed.is_behind();
        if self.behind.swap(is_behind, Ordering::Relaxed) != is_behind {
            match is_behind {
                true => self.room.behind.fetch_add(1, Ordering::Relaxed),
                false => self.room.behind.fetch_sub(1, Ordering::Relaxed),
            };
        }
        drop(owed);
        if taken > 0 {
            self.room.progress.notify_waiters();
        }
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(bytes: usize, messages: usize) -> Arc<Room> {
        Arc::new(Room::new(&Limits {
            queued_bytes: bytes,
            queued_messages: messages,
            all_queued_bytes: 2 * bytes,
            ..Limits::default()
        }))
    }

    #[test]
    fn what_is_offered_counts_until_it_is_acknowledged() {
        let room = room(10_000, 100);
        let backlog = Backlog::new(Arc::clone(&room));
        assert_eq!(backlog.offer(1, 6000), Offer::Noted);
        assert_eq!(backlog.offer(2, 6000), Offer::Full);
        backlog.written(Some(1), Some((7, 6100)));
        assert_eq!(backlog.offer(2, 6000), Offer::Full, "not acknowledged");
        backlog.acknowledged(8);
        assert_eq!(backlog.bytes(), 6000, "another");
        backlog.written(Some(9), Some((9, 10)));
        assert_eq!(backlog.bytes(), 6010 + OVERHEAD, "one that was not noted");
        backlog.acknowledged(9);
        backlog.acknowledged(7);
        assert_eq!(backlog.bytes(), 0);
        // One always fits.
        assert_eq!(backlog.offer(2, 60_000), Offer::Noted);
        assert!(room.is_short_of(1));
        backlog.written(Some(2), None);
        assert!(!room.is_short_of(1));
        assert_eq!(backlog.offer(3, 5000), Offer::Noted);
        assert!(backlog.forget_waiting() && !backlog.forget_waiting());
        assert_eq!(backlog.bytes(), 0);
        assert_eq!(backlog.offer(4, 5000), Offer::Noted);
        assert!(backlog.give_up() && !backlog.give_up());
        assert_eq!(backlog.offer(5, 1), Offer::GivenUp);
        backlog.written(Some(4), Some((1, 1)));
        assert_eq!((backlog.bytes(), room.used()), (0, 0));
    }

    #[test]
    fn a_message_for_many_is_one() {
        let room = room(10_000, 100);
        let many: Vec<_> = (0..10).map(|_| Backlog::new(Arc::clone(&room))).collect();
        for one in &many {
            assert_eq!(one.offer(1, 6000), Offer::Noted);
            one.written(Some(1), Some((1, 6000)));
        }
        assert_eq!(room.used(), 6000);
        assert_eq!(many[0].offer(2, 4000), Offer::Noted);
        many[0].forget_waiting();
        for one in &many[1..] {
            one.acknowledged(1);
        }
        assert_eq!(room.used(), 6000);
        drop(many);
        assert_eq!(room.used(), 0);
        assert!(lock(&room.shared).is_empty());
    }

    #[test]
    fn numbers_of_messages_are_bounded_too() {
        let backlog = Backlog::new(room(10_000, 2));
        assert_eq!(backlog.offer(1, 1), Offer::Noted);
        assert_eq!(backlog.offer(2, 1), Offer::Noted);
        assert_eq!(backlog.offer(3, 1), Offer::Full);
    }

    #[test]
    fn who_does_not_read_or_acknowledge_is_behind() {
        let room = room(1_000_000, 1000);
        let backlog = Backlog::new(Arc::clone(&room));
        for id in 1..=WINDOW {
            assert!(!backlog.is_behind() && !room.is_any_behind());
            backlog.written(None, Some((id, 10)));
        }
        assert!(backlog.is_behind() && room.is_any_behind());
        backlog.acknowledged(5);
        assert!(!backlog.is_behind() && !room.is_any_behind());
        backlog.stall(true);
        backlog.stall(true);
        assert!(backlog.is_behind() && room.is_any_behind());
        drop(backlog);
        assert!(!room.is_any_behind() && room.used() == 0);
    }

    #[test]
    fn what_a_client_does_not_release_is_bounded() {
        let backlog = Backlog::new(room(10_000, 100));
        assert!(backlog.hold(1, 20_000), "one always fits");
        assert!(backlog.hold(1, 20_000), "the same again");
        assert!(!backlog.hold(2, 1));
        backlog.released(1);
        backlog.released(2);
        assert_eq!(backlog.bytes(), 0);
    }

    #[test]
    fn patience_ends_and_comes_back_with_what_is_taken() {
        let backlog = Backlog::new(room(10_000, 100));
        assert_eq!(backlog.offer(1, 1), Offer::Noted);
        assert!(backlog.has_patience_for(PATIENCE / 2));
        assert!(!backlog.has_patience_for(PATIENCE / 2));
        assert_eq!(backlog.offer(2, 1), Offer::Noted);
        backlog.written(Some(1), None);
        assert!(!backlog.has_patience_for(Duration::from_millis(1)));
        backlog.written(Some(2), None);
        assert!(backlog.has_patience_for(PATIENCE / 2));
    }
}
