//! The bridge: turns messages of the bus into orders, and news into events (spec §8).
//!
//! Invariants:
//! - at most [`IN_FLIGHT`] requests are served at once, further ones are answered `busy` at once; the mailbox is bounded
//!   by that;
//! - every request that can be answered is, within [`answer::REPLY_WITHIN`], even when serving it panics;
//! - events go out in order, and none is taken from the spool for good before it was sent.

mod accounts;
mod again;
mod greet;
mod introduce;
mod logins;
mod retries;
mod tell;

pub use accounts::BusAccounts;
pub use logins::{by_bus, ready_filters};

use crate::api::answer;
use crate::api::serve::{Caller, Via};
use crate::hub::{Hub, Stage};
use crate::link::Link;
use crate::news::News;
use bus::client::{Client, Incoming, IncomingRequest, Refusal};
use bus::rpc::{BUSY, Request};
use bus::topics::{MessageKind, Topic};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::Arc;
use std::time::Duration;
use supervision::PluginId;
use supervision::lifecycle::PhaseName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::AbortHandle;

/// So many requests are served at once (spec §8).
pub const IN_FLIGHT: usize = 64;

/// So many are told at once that the launcher is busy; a flood of requests must not fill the memory.
const REFUSALS: usize = 1024;

/// How long a look at our own token may take; whatever comes from the bus waits meanwhile.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// How long sending one message may take before it counts as failed.
const SEND_WITHIN: Duration = Duration::from_secs(5);

/// What the bridge needs; outlives its actor.
#[derive(Clone)]
pub struct BridgeArgs {
    /// Speaks to the bus.
    pub client: Client,
    /// What comes from the bus; used by one bridge at a time.
    pub incoming: Arc<tokio::sync::Mutex<mpsc::Receiver<Incoming>>>,
    /// What the bus is to be told.
    pub news: Arc<News>,
    /// Tells others how the connection is.
    pub link: Arc<watch::Sender<Link>>,
}

/// What the bridge understands.
#[derive(Debug)]
pub enum BridgeMessage {
    /// The bus is there, with all our subscriptions.
    Connected(String),
    /// The bus is gone.
    Disconnected,
    /// A request, with the permit to serve it.
    Asked(Box<IncomingRequest>, OwnedSemaphorePermit),
    /// A task of the bridge panicked; it is to be started anew, with all its tasks.
    Broken,
}

/// The actor.
pub struct Bridge;

/// What the actor holds.
pub struct BridgeState {
    hub: Arc<Hub>,
    args: BridgeArgs,
    tasks: Vec<AbortHandle>,
    /// Follows the present connection; none without one.
    greeter: Option<AbortHandle>,
}

impl Drop for BridgeState {
    fn drop(&mut self) {
        for task in self.tasks.iter().chain(&self.greeter) {
            task.abort();
        }
    }
}

impl Actor for Bridge {
    type Msg = BridgeMessage;
    type State = BridgeState;
    type Arguments = (Arc<Hub>, BridgeArgs);

    async fn pre_start(
        &self,
        myself: ActorRef<BridgeMessage>,
        (hub, args): (Arc<Hub>, BridgeArgs),
    ) -> Result<BridgeState, ActorProcessingErr> {
        let pump = task(&myself, pump(hub.clone(), args.clone(), myself.clone()));
        let teller = task(&myself, tell::tell(hub.clone(), args.clone()));
        let eager = task(&myself, greet::follow_core(hub.clone(), args.clone()));
        let again = task(&myself, again::follow_restarts(hub.clone(), args.clone()));
        let retries = task(&myself, retries::follow(hub.clone(), args.clone()));
        let logins = task(&myself, logins::follow_plans(hub.clone(), args.clone()));
        let mut state = BridgeState {
            hub,
            args,
            tasks: vec![pump, teller, eager, again, retries, logins],
            greeter: None,
        };
        // A bridge that takes over finds the connection as it is.
        if state.args.link.borrow().is_up() {
            state.greet(&myself);
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<BridgeMessage>,
        message: BridgeMessage,
        state: &mut BridgeState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            BridgeMessage::Connected(endpoint) => {
                tracing::info!(%endpoint, "connected to the bus");
                state.greet(&myself);
            }
            BridgeMessage::Disconnected => state.disconnected(),
            BridgeMessage::Asked(request, permit) => {
                tokio::spawn(answer(
                    state.hub.clone(),
                    state.args.client.clone(),
                    *request,
                    permit,
                ));
            }
            BridgeMessage::Broken => return Err("one of its tasks panicked".into()),
        }
        Ok(())
    }
}

impl BridgeState {
    fn greet(&mut self, myself: &ActorRef<BridgeMessage>) {
        let greeting = greet::greet(self.hub.clone(), self.args.clone());
        if let Some(before) = self.greeter.replace(task(myself, greeting)) {
            before.abort();
        }
    }

    fn disconnected(&mut self) {
        if let Some(greeter) = self.greeter.take() {
            greeter.abort();
        }
    }
}

/// Starts a task whose panic is one of the bridge.
fn task(
    bridge: &ActorRef<BridgeMessage>,
    work: impl Future<Output = ()> + Send + 'static,
) -> AbortHandle {
    let alarm = Alarm(bridge.clone());
    tokio::spawn(async move {
        let _alarm = alarm;
        work.await;
    })
    .abort_handle()
}

/// Tells the bridge when it is dropped by a panic.
struct Alarm(ActorRef<BridgeMessage>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A bridge that is gone has a successor with tasks of its own.
            let _ = self.0.cast(BridgeMessage::Broken);
        }
    }
}

/// Says that there is no bus, each reason once; nothing as long as a core of our own is awaited for the first time
/// (spec §7: it has until its deadline, and what it lacks until then is no fault).
fn tell_fall(hub: &Hub, link: &watch::Sender<Link>) {
    if !link.borrow().has_been_up() && is_awaited(hub) {
        return;
    }
    if hub.stage() == Stage::Ending {
        // It goes last, as it should.
        return;
    }
    let mut reason = None;
    link.send_if_modified(|link| {
        reason = link.tell();
        // Nobody waits for its having been told.
        false
    });
    if let Some(reason) = reason {
        tracing::warn!("no bus: {reason}");
    }
}

/// Whether our own core is on its way.
fn is_awaited(hub: &Hub) -> bool {
    let Some(core) = hub.roster.get(&PluginId::core()) else {
        return false;
    };
    match core.view().phase {
        PhaseName::Preparing | PhaseName::Starting => true,
        PhaseName::Stopped => hub.stage() < Stage::Up,
        PhaseName::Blocked
        | PhaseName::Running
        | PhaseName::Stopping
        | PhaseName::Killing
        | PhaseName::Backoff
        | PhaseName::Foreign => false,
    }
}

/// Takes what comes from the bus to the actor; requests only as many as may be served.
async fn pump(hub: Arc<Hub>, args: BridgeArgs, bridge: ActorRef<BridgeMessage>) {
    let mut incoming = args.incoming.lock().await;
    let permits = Arc::new(Semaphore::new(IN_FLIGHT));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    while let Some(message) = incoming.recv().await {
        let told = match message {
            Incoming::Connected { endpoint, .. } => {
                args.link.send_modify(Link::rise);
                bridge.cast(BridgeMessage::Connected(endpoint.to_string()))
            }
            Incoming::Disconnected { reason, .. } => {
                let reason = explained(&hub, reason).await;
                // Before the actor hears of it, so that a crash of the bridge does not lose it.
                let now = hub.ports.clock.wall_mse();
                args.link.send_modify(|link| link.fall(&reason, now));
                tell_fall(&hub, &args.link);
                bridge.cast(BridgeMessage::Disconnected)
            }
            Incoming::Request(request) => match permits.clone().try_acquire_owned() {
                Ok(permit) => bridge.cast(BridgeMessage::Asked(Box::new(request), permit)),
                Err(_none_left) => {
                    refuse(&args.client, request, &refusals);
                    Ok(())
                }
            },
            Incoming::Message { topic, payload } => {
                logins::heard(&hub, &topic, &payload);
                Ok(())
            }
        };
        if told.is_err() {
            return;
        }
    }
}

/// With what our own token tells of a login that was refused for it.
async fn explained(hub: &Hub, reason: String) -> String {
    if !reason.contains(&Refusal::BadCredentials.to_string()) {
        return reason;
    }
    let explained = tokio::time::timeout(LOOK_WITHIN, hub.renewer.explain_refusal()).await;
    match explained {
        Ok(Some(why)) => format!("{reason}: {why}"),
        Ok(None) | Err(_) => reason,
    }
}

/// Answers that too much is asked at once; when even that is asked too often, says nothing.
fn refuse(client: &Client, request: IncomingRequest, refusals: &Arc<Semaphore>) {
    let Ok(permit) = refusals.clone().try_acquire_owned() else {
        tracing::debug!(topic = request.topic, "a request was dropped: too many");
        return;
    };
    let client = client.clone();
    tokio::spawn(async move {
        reply(&client, &request, Err(BUSY.to_owned())).await;
        drop(permit);
    });
}

/// Serves one request and answers it, whatever happens.
async fn answer(
    hub: Arc<Hub>,
    client: Client,
    request: IncomingRequest,
    permit: OwnedSemaphorePermit,
) {
    let (topic, payload) = (request.topic.clone(), request.payload.clone());
    let understand = move || understood(&topic, &payload);
    let answer = answer::answer(&hub, &request.topic, understand).await;
    reply(&client, &request, answer.result).await;
    if let Some(then) = answer.then {
        then.perform(&hub);
    }
    drop(permit);
}

fn understood(topic: &str, payload: &[u8]) -> Result<(Request, Caller), String> {
    let address = Topic::parse(topic).map_err(|error| error.to_string())?;
    let sender = match (address.kind, &address.sender) {
        (MessageKind::Rpc, Some(sender)) => sender.to_string(),
        (MessageKind::Rpc | MessageKind::Event | MessageKind::Action | MessageKind::Config, _) => {
            return Err(format!("invalid address '{topic}': the sender is missing"));
        }
    };
    let request = Request::decode(&address.thing, &address.name, payload)
        .map_err(|error| error.to_string())?;
    let caller = Caller {
        by: sender,
        via: Via::Bus,
    };
    Ok((request, caller))
}

async fn reply(client: &Client, request: &IncomingRequest, result: Result<Vec<u8>, String>) {
    match tokio::time::timeout(SEND_WITHIN, client.reply(request, result)).await {
        Ok(Ok(())) => {}
        // The requester has its own time limit.
        Ok(Err(error)) => tracing::debug!(topic = request.topic, "a reply was not sent: {error}"),
        Err(_elapsed) => tracing::debug!(topic = request.topic, "a reply was not sent in time"),
    }
}

/// Publishes, and says whether the bus has it.
async fn sent(client: &Client, topic: &str, payload: Vec<u8>) -> bool {
    match tokio::time::timeout(SEND_WITHIN, client.publish(topic, payload)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::debug!(topic, "not sent: {error}");
            false
        }
        Err(_elapsed) => false,
    }
}

/// `event/{me}/manage/{name}/{me}` (HP 1.13).
fn event_topic(client_id: &str, name: &str) -> String {
    format!("event/{client_id}/{}/{name}/{client_id}", bus::wire::MANAGE)
}
