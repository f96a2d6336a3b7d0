//! Sessions: one connection, or one after the other for ever.
//!
//! Invariants: no `Connected` and no `Disconnected` is ever dropped, and each `Connected` is followed by its
//! `Disconnected`: their room in the queue is taken before the dial; while nobody takes them, no connection is made.

use super::handle::{Client, Shared, Status};
use super::link::{self, Link};
use super::retry::Retry;
use super::{ConnectError, Incoming, Options, more};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio::time::Instant;

/// How long a connection that is closed may still send what waits.
const CLOSING: Duration = Duration::from_millis(800);

/// Connects once, within `deadline`; when the connection ends the session does.
///
/// The first report is `Connected`.
///
/// # Errors
/// No place could be connected; what each of those said that could be tried in time.
///
/// # Cancel safety
/// When dropped, the attempt is given up.
pub async fn connect_once(
    options: Options,
    deadline: Duration,
) -> Result<(Client, mpsc::Receiver<Incoming>), ConnectError> {
    let link = link::open(&options, deadline).await?;
    let (shared, sender, receiver) = parts(&options);
    let task = Arc::clone(&shared);
    let client = Client { shared };
    let (reported, wait) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        if let Some(room) = Room::take(&sender).await {
            run(&task, link, &sender, room, Some(reported)).await;
        }
        task.status.send_replace(Status::Closed);
    });
    // It fails only if the task is gone, which calls will notice.
    let _ = wait.await;
    Ok((client, receiver))
}

/// Connects and stays connected until the client is closed or the receiver dropped.
///
/// Returns at once; the attempts are made by a task of the current runtime.
#[must_use]
pub fn connect_forever(options: Options) -> (Client, mpsc::Receiver<Incoming>) {
    let (shared, sender, receiver) = parts(&options);
    let task = Arc::clone(&shared);
    tokio::spawn(async move {
        stay(&task, &options, &sender).await;
        task.status.send_replace(Status::Closed);
    });
    (Client { shared }, receiver)
}

fn parts(
    options: &Options,
) -> (
    Arc<Shared>,
    mpsc::Sender<Incoming>,
    mpsc::Receiver<Incoming>,
) {
    let (sender, receiver) = mpsc::channel(options.queue.max(1) + 2);
    (
        Arc::new(Shared::new(&options.login, &options.subscriptions)),
        sender,
        receiver,
    )
}

/// Room for both reports of a connection.
struct Room {
    connected: OwnedPermit<Incoming>,
    disconnected: OwnedPermit<Incoming>,
}

impl Room {
    /// None = nobody receives any more.
    async fn take(sender: &mpsc::Sender<Incoming>) -> Option<Room> {
        Some(Room {
            connected: sender.clone().reserve_owned().await.ok()?,
            disconnected: sender.clone().reserve_owned().await.ok()?,
        })
    }
}

/// Connects again and again until the session is closed.
async fn stay(shared: &Shared, options: &Options, sender: &mpsc::Sender<Incoming>) {
    let mut closing = shared.closing.subscribe();
    let mut retry = Retry::new(rand::random());
    let mut told = String::new();
    loop {
        let Some(room) = Room::take(sender).await else {
            return;
        };
        let options = Options {
            subscriptions: shared.filters(),
            ..options.clone()
        };
        let opened = tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return,
            () = sender.closed() => return,
            opened = link::open(&options, Duration::MAX) => opened,
        };
        let last = match opened {
            Ok(link) => {
                let since = Instant::now();
                run(shared, link, sender, room, None).await;
                told.clear();
                if *closing.borrow() {
                    return;
                }
                retry.ended(since.elapsed());
                None
            }
            Err(error) => {
                let reason = error.to_string();
                if reason != told {
                    told.clone_from(&reason);
                    room.disconnected.send(Incoming::Disconnected { reason });
                }
                Some(error)
            }
        };
        let (failures, eager) = (retry.failures(), *shared.eager.borrow());
        let next = Instant::now() + retry.next_delay(eager);
        shared.status.send_replace(Status::Connecting {
            failures,
            last,
            next: Some(next),
        });
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => return,
            () = sender.closed() => return,
            () = shared.nudged.notified() => retry.reset(),
            () = tokio::time::sleep_until(next) => {}
        }
        shared.status.send_modify(|status| {
            if let Status::Connecting { next, .. } = status {
                *next = None;
            }
        });
    }
}

/// Serves one connection from its report to its end.
async fn run(
    shared: &Shared,
    link: Link,
    sender: &mpsc::Sender<Incoming>,
    room: Room,
    reported: Option<tokio::sync::oneshot::Sender<()>>,
) {
    let live = Arc::clone(&link.live);
    let (endpoint, mqtt_client_id) = (link.endpoint.clone(), link.mqtt_client_id.clone());
    shared.set_live(Some(Arc::clone(&live)));
    more::catch_up(shared, &live, &link.filters);
    shared.status.send_replace(Status::Connected {
        endpoint: endpoint.clone(),
        mqtt_client_id: mqtt_client_id.clone(),
    });
    room.connected.send(Incoming::Connected {
        endpoint,
        mqtt_client_id,
    });
    if let Some(reported) = reported {
        let _ = reported.send(());
    }
    let mut closing = shared.closing.subscribe();
    let served = link.serve(sender);
    tokio::pin!(served);
    let closed = async {
        tokio::select! {
            _ = closing.wait_for(|closing| *closing) => {}
            () = sender.closed() => {}
        }
    };
    let reason = tokio::select! {
        error = &mut served => {
            live.end(&error);
            super::dial::end_in_words(&error)
        }
        () = closed => {
            shared.set_live(None);
            if live.mqtt.try_disconnect_with_timeout(CLOSING).is_ok() {
                let _ = tokio::time::timeout(CLOSING, &mut served).await;
            }
            let reason = "closed by this side".to_owned();
            live.end_because(reason.clone());
            reason
        }
    };
    shared.set_live(None);
    room.disconnected.send(Incoming::Disconnected { reason });
}
