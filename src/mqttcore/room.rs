//! Room for a message with all who will get it (`mqttserver.limits.queuedBytes`).
//!
//! Invariants:
//! - What waits for a client stays within its limit, and what waits for all within theirs: publishers wait a moment for
//!   who is slow, and who does not catch up is cut, with DISCONNECT 0x97.
//! - One slow client keeps publishers waiting for [`PATIENCE`](crate::backlog::PATIENCE) in all, however many messages.
//!
//! Cut, not left out: a client that misses messages without knowing shows what is no longer true, whereas one that was cut
//! comes back, subscribes, and is told anew.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::backlog::{OVERHEAD, Offer, SMALL};
use crate::coming::{By, Coming};
use crate::connections::{Connection, LEAVE_GRACE, Why};
use crate::hub::Hub;

/// After so long without progress a client that is not behind has got what it will get.
const SLICE: Duration = Duration::from_millis(20);

impl Hub {
    /// Waits until there is room for a message that is about to be routed.
    ///
    /// # Cancel safety
    /// What was noted is forgotten when its receiver is not behind.
    pub async fn make_room(&self, message: Coming<'_>) {
        let room = &self.connections.room;
        let (sender, number, size) = match message.by {
            By::Core(number, size) => (None, number, size),
            By::Client(mqtt_id) => {
                let Some(sender) = self.connections.of_mqtt_id(mqtt_id) else {
                    return;
                };
                let latest = sender.backlog.latest();
                (Some(sender.number), latest.number, latest.bytes)
            }
        };
        let is_small = size <= SMALL;
        if is_small && !room.is_any_behind() {
            return;
        }
        let bytes = size + OVERHEAD;
        self.make_room_for_all(bytes);
        let wanting = self
            .connections
            .those(|one| (!is_small || one.backlog.is_behind()) && one.wants(message.topic));
        let mut leaving = Vec::new();
        let mut full = Vec::new();
        for one in wanting {
            let is_sender = sender == Some(one.number);
            match one.backlog.offer(number, bytes) {
                Offer::Noted => {}
                Offer::GivenUp => leaving.push(one),
                // It cannot take anything while this message of its own is looked at.
                Offer::Full if is_sender && !one.backlog.is_behind() => {}
                Offer::Full if is_sender => give_up(&one),
                Offer::Full => full.push(one),
            }
        }
        while !full.is_empty() {
            let progress = room.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            full.retain(|one| match one.backlog.offer(number, bytes) {
                Offer::Noted => false,
                Offer::Full => true,
                Offer::GivenUp => {
                    leaving.push(Arc::clone(one));
                    false
                }
            });
            let began = Instant::now();
            let is_idle = !full.is_empty() && timeout(SLICE, progress).await.is_err();
            for one in &full {
                if is_idle && !one.backlog.is_behind() {
                    one.backlog.forget_waiting();
                }
                if !one.backlog.has_patience_for(began.elapsed()) {
                    give_up(one);
                }
            }
        }
        // Nothing more is to be put into the queues of those that leave.
        for one in leaving {
            let _ = timeout(2 * LEAVE_GRACE, one.ended.wait()).await;
        }
    }

    /// Gives up those that have most, until there is room for all.
    fn make_room_for_all(&self, bytes: usize) {
        while self.connections.room.is_short_of(bytes) {
            let all = self.connections.all();
            let fullest = all.into_iter().max_by_key(|one| one.backlog.bytes());
            let Some(fullest) = fullest.filter(|one| one.backlog.bytes() > 0) else {
                return;
            };
            if fullest.backlog.is_behind() || !fullest.backlog.forget_waiting() {
                give_up(&fullest);
            }
        }
    }
}

/// Ends a connection that lets too much wait.
pub fn give_up(connection: &Arc<Connection>) {
    let bytes = connection.backlog.bytes();
    if connection.backlog.give_up() {
        let (login, mqtt_id) = (connection.login(), connection.mqtt_id());
        tracing::warn!(
            login,
            mqtt_id,
            bytes,
            "connection ended: it lets too much wait; see mqttserver.limits.queuedBytes, queuedMessages and allQueuedBytes"
        );
        tokio::spawn(Arc::clone(connection).throw_out(Why::Quota));
    }
}
