//! The bounded queue between who has something to log and the write thread; one per log file.
//!
//! Invariants:
//! - all chunks together, those being written included, never take more than [`FEED_LIMIT`] bytes; output of plugins leaves
//!   [`OWN_RESERVE`] of them to the launcher's own lines;
//! - an own line begins at the start of a line;
//! - what finds no room is counted, and the count is told by one line as soon as there is room;
//! - a feed with something in it is with the write thread, exactly once.

use crate::inbox;
use crate::merge::{HOLD, count_lines};
use crate::words::{self, Dropped};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use supervision::policy::LogPolicy;

/// A feed holds at most so many bytes (spec §11).
pub(crate) const FEED_LIMIT: usize = 256 * 1024;

/// Kept free for own lines: enough for the start and end lines of some twenty runs.
const OWN_RESERVE: usize = 8 * 1024;

/// With so much in it a feed is written at once.
const MUCH: usize = 32 * 1024;

/// One read, and the largest chunk.
pub(crate) const BLOCK: usize = 64 * 1024;

/// A read at least this long is handed on as it is; a shorter one is copied, so that little text takes little memory.
const WORTH_HANDING_ON: usize = BLOCK / 2;

/// The first chunk of a feed; the following ones double.
const SMALLEST_CHUNK: usize = 512;

/// The reason of drops while the disk reports no error.
const TOO_SLOW: &str = "the disk does not keep up";

/// The way to the write thread.
pub(crate) type Inbox = inbox::Inbox<Feed>;

/// Who waits for room in feeds.
pub(crate) trait WaitsForRoom: fmt::Debug + Send + Sync {
    /// Half of `feed` is free. Returns whether anybody hears of it.
    fn room(&self, feed: Arc<Feed>) -> bool;
}

/// Bytes on their way to a file.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Never grown beyond its capacity, which is what counts for the limit.
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Feed {
    name: String,
    inbox: Arc<Inbox>,
    drain: Arc<dyn WaitsForRoom>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    policy: LogPolicy,
    chunks: VecDeque<Chunk>,
    /// Capacity of all chunks, those being written included.
    used: usize,
    at_line_start: bool,
    /// Runs and own logs that may still say something.
    users: usize,
    /// The write thread has it, or will take it.
    scheduled: bool,
    /// Somebody waits for room.
    room_wanted: bool,
    /// Why the last write failed, while it does.
    trouble: Option<String>,
    dropped: Option<Dropped>,
}

/// What the write thread finds in a feed.
#[derive(Debug)]
pub(crate) enum Taken {
    /// To be written, oldest first.
    Some(VecDeque<Chunk>, LogPolicy),
    /// Nothing, but there will be.
    Nothing,
    /// Nothing, and nobody is left to say something.
    Over,
}

impl Feed {
    pub(crate) fn new(name: &str, inbox: Arc<Inbox>, drain: Arc<dyn WaitsForRoom>) -> Self {
        Feed {
            name: name.to_owned(),
            inbox,
            drain,
            state: Mutex::new(State {
                policy: LogPolicy::default(),
                chunks: VecDeque::new(),
                used: 0,
                at_line_start: true,
                users: 0,
                scheduled: false,
                room_wanted: false,
                trouble: None,
                dropped: None,
            }),
        }
    }

    /// The name of the file, without `.log`; also the id in own lines.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// One more user, whose policy holds from now on.
    pub(crate) fn join(&self, policy: LogPolicy) {
        let mut state = self.lock();
        state.users += 1;
        state.policy = policy;
    }

    /// Another policy holds from now on.
    pub(crate) fn keep_by(&self, policy: LogPolicy) {
        self.lock().policy = policy;
    }

    /// One user less. With the last one the file is closed once all is written.
    pub(crate) fn leave(self: &Arc<Self>) {
        let mut state = self.lock();
        state.users = state.users.saturating_sub(1);
        let over = state.users == 0;
        self.schedule(state, over);
    }

    /// Whether a whole read has room, and what two streams hold back. If not, who waits is told when half of the
    /// feed is free.
    pub(crate) fn has_room(&self) -> bool {
        let mut state = self.lock();
        let room = state.used + BLOCK + 2 * HOLD + OWN_RESERVE <= FEED_LIMIT;
        state.room_wanted |= !room;
        room
    }

    /// As [`Feed::has_room`], but for who drops already: only when half of the feed is free.
    pub(crate) fn has_much_room(&self) -> bool {
        let mut state = self.lock();
        let room = state.used <= FEED_LIMIT / 2;
        state.room_wanted |= !room;
        room
    }

    /// Whether lines are being dropped: some were, and there is not much room yet.
    pub(crate) fn is_dropping(&self) -> bool {
        let dropped = self.lock().dropped.is_some();
        dropped && !self.has_much_room()
    }

    /// Lets `act` add something.
    pub(crate) fn add<T>(self: &Arc<Self>, act: impl FnOnce(&mut Entry<'_>) -> T) -> T {
        let mut entry = Entry {
            name: &self.name,
            state: self.lock(),
        };
        let answer = act(&mut entry);
        let any = !entry.state.chunks.is_empty();
        self.schedule(entry.state, any);
        answer
    }

    /// All that is queued, for the write thread; it keeps the feed unless there is nothing.
    pub(crate) fn take(&self) -> Taken {
        let mut state = self.lock();
        if state.chunks.is_empty() {
            state.scheduled = false;
            return if state.users == 0 && state.dropped.is_none() {
                Taken::Over
            } else {
                Taken::Nothing
            };
        }
        Taken::Some(std::mem::take(&mut state.chunks), state.policy)
    }

    /// Whether the feed may be forgotten; asked under the lock of the registry, under which users join.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.lock();
        state.users == 0 && state.chunks.is_empty() && !state.scheduled
    }

    /// A chunk of this capacity is on the disk.
    pub(crate) fn written(self: &Arc<Self>, capacity: usize) {
        let mut state = self.lock();
        state.used = state.used.saturating_sub(capacity);
        state.trouble = None;
        if state.room_wanted && state.used <= FEED_LIMIT / 2 {
            state.room_wanted = false;
            drop(state);
            if !self.drain.room(self.clone()) {
                // Without a drain thread nobody waits for room, and nobody else tells of drops.
                self.add(|entry| entry.tell_dropped());
            }
        }
    }

    /// A write failed and will be tried again.
    pub(crate) fn failed(&self, reason: String) {
        self.lock().trouble = Some(reason);
    }

    fn schedule(self: &Arc<Self>, mut state: MutexGuard<'_, State>, needed: bool) {
        let much = state.used >= MUCH;
        let first = needed && !state.scheduled;
        state.scheduled |= needed;
        drop(state);
        if first {
            self.inbox.post(self.clone());
        }
        if much {
            self.inbox.hurry();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A feed while something is added to it.
pub(crate) struct Entry<'a> {
    name: &'a str,
    state: MutexGuard<'a, State>,
}

impl Entry<'_> {
    /// Adds a copy of `bytes`; the caller asked for room before.
    pub(crate) fn text(&mut self, mut bytes: &[u8]) {
        if let Some(last) = bytes.last() {
            self.state.at_line_start = *last == b'\n';
        }
        while !bytes.is_empty() {
            let last = self.state.chunks.back_mut();
            let (free, next) = last.as_ref().map_or((0, SMALLEST_CHUNK), |chunk| {
                let capacity = chunk.bytes.capacity();
                (capacity - chunk.bytes.len(), capacity * 2)
            });
            if let Some(chunk) = last
                && free > 0
            {
                let (now, later) = bytes.split_at(free.min(bytes.len()));
                chunk.bytes.extend_from_slice(now);
                bytes = later;
                continue;
            }
            let mut capacity = next.max(bytes.len()).min(BLOCK);
            if self.state.used + capacity > FEED_LIMIT - OWN_RESERVE {
                capacity = bytes.len().min(BLOCK);
            }
            let chunk = Vec::with_capacity(capacity);
            self.state.used += chunk.capacity();
            self.state.chunks.push_back(Chunk { bytes: chunk });
        }
    }

    /// Adds the first `end` bytes of `block`, which was read at once; takes the block itself when that is worth it.
    pub(crate) fn block(&mut self, block: &mut Vec<u8>, end: usize, spare: impl Fn() -> Vec<u8>) {
        if end < WORTH_HANDING_ON {
            self.text(block.get(..end).unwrap_or_default());
            return;
        }
        let mut bytes = std::mem::replace(block, spare());
        bytes.truncate(end);
        self.state.at_line_start = bytes.last() == Some(&b'\n');
        self.state.used += bytes.capacity();
        self.state.chunks.push_back(Chunk { bytes });
    }

    /// Ends the line within which the log stands, if it does. Takes its one byte from the reserve, always.
    pub(crate) fn end_line(&mut self) {
        if !self.state.at_line_start {
            self.text(b"\n");
        }
    }

    /// Adds an own line, `line` and a line end; without room it is dropped like any other.
    pub(crate) fn own_line(&mut self, line: &str) {
        if self.state.used + line.len() + SMALLEST_CHUNK > FEED_LIMIT {
            self.count_dropped(1, line.len() as u64 + 1);
            return;
        }
        self.end_line();
        self.text(line.as_bytes());
        self.text(b"\n");
    }

    /// Adds whole lines if there is room for them, else drops them.
    pub(crate) fn offer(&mut self, lines: &[u8]) {
        if self.state.used + lines.len() + OWN_RESERVE > FEED_LIMIT {
            self.state.room_wanted = true;
            self.count_dropped(count_lines(lines).max(1), lines.len() as u64);
        } else {
            self.text(lines);
        }
    }

    /// Counts what is dropped.
    pub(crate) fn count_dropped(&mut self, lines: u64, bytes: u64) {
        if lines == 0 && bytes == 0 {
            return;
        }
        let state = &mut *self.state;
        state.room_wanted = true;
        let trouble = state.trouble.as_deref();
        let dropped = state.dropped.get_or_insert_with(|| Dropped {
            lines: 0,
            bytes: 0,
            since: Timestamp::now(),
            reason: TOO_SLOW.to_owned(),
        });
        dropped.lines = dropped.lines.saturating_add(lines);
        dropped.bytes = dropped.bytes.saturating_add(bytes);
        if let Some(trouble) = trouble {
            // What the disk says is better than what was guessed before.
            trouble.clone_into(&mut dropped.reason);
        }
    }

    /// Tells what was dropped. Without room for that it stays to be told.
    pub(crate) fn tell_dropped(&mut self) {
        if let Some(dropped) = self.state.dropped.take() {
            let line = words::dropped(Timestamp::now(), self.name, &dropped);
            if self.state.used + line.len() + SMALLEST_CHUNK > FEED_LIMIT {
                self.state.dropped = Some(dropped);
                self.state.room_wanted = true;
            } else {
                self.own_line(&line);
            }
        }
    }
}

/// Read buffers that wait for their next use.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    blocks: Mutex<Vec<Vec<u8>>>,
}

/// So many buffers stay when nobody needs them.
const POOLED: usize = 8;

impl Pool {
    /// A buffer of [`BLOCK`] bytes.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut block = self.lock().pop().unwrap_or_default();
        block.resize(BLOCK, 0);
        block
    }

    /// Takes back what was a buffer; anything else is freed.
    pub(crate) fn give(&self, bytes: Vec<u8>) {
        let mut blocks = self.lock();
        if bytes.capacity() == BLOCK && blocks.len() < POOLED {
            blocks.push(bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
