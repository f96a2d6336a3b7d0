//! Serves the launcher's requests: turns each into orders to seats and their outcomes into a reply (HP 1.10, spec §8).
//!
//! Invariants: what takes longer than [`PATIENCE`] is answered with the present state and goes on (T9); what would cut
//! the answer off is done after it was sent (T41).

use super::{account, show};
use crate::hub::{Hub, Stage};
use crate::message::{Order, OrderError, OrderResult};
use crate::plugin::send_order;
use crate::ports::{Kind, Refused};
use crate::reload::{How, reload};
use crate::seat::Seat;
use crate::stops::{Stop, Stops};
use crate::turn::turns;
use crate::view::View;
use crate::wind;
use bus::rpc::{Reply, Request, echoed, not_found};
use bus::wire::{GetPluginReply, LAUNCHER, ListReply, PlanReply};
use std::sync::Arc;
use std::time::Duration;
use supervision::PluginId;
use supervision::hand::{ByHand, Setting, enabled};
use supervision::lifecycle::StopCause;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A file that is there has its seat within this time.
const SEATED_WITHIN: Duration = Duration::from_secs(2);

/// An order that takes longer is answered with the present state; the whole reply has 8 s (spec §8).
pub const PATIENCE: Duration = Duration::from_secs(7);

/// How long a note to disk may take.
const SHORT_PATIENCE: Duration = Duration::from_secs(2);

/// How long an actor may take until it has a turn; with [`PATIENCE`] it must be below 7.5 s.
const A_TURN: Duration = Duration::from_millis(400);

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Over the bus, which ends with the core.
    Bus,
    /// Over the socket of this machine, which does not.
    Local,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// A bus login, or a user of this machine.
    pub by: String,
    /// How.
    pub via: Via,
}

/// A request that was served.
#[derive(Debug)]
pub struct Served {
    /// The answer.
    pub reply: Reply,
    /// To be done once the answer is out.
    pub then: Option<AfterReply>,
}

/// What would cut the answer off.
#[derive(Debug)]
pub struct AfterReply {
    order: Order,
    by: String,
}

impl From<Reply> for Served {
    fn from(reply: Reply) -> Self {
        Served { reply, then: None }
    }
}

impl AfterReply {
    /// Does it.
    pub fn perform(self, hub: &Hub) {
        if let Some(core) = hub.roster.get(&PluginId::core()) {
            tracing::warn!(by = self.by, order = ?self.order, "the core is being ended; until it is back there is no bus");
            // Nobody can be told of the outcome; a command is kept while its actor is being restarted.
            core.command(self.order.event(), &self.by, hub.ports.clock.wall_mse());
        }
    }
}

/// Serves a request of `caller`.
///
/// # Errors
/// The error text of the reply.
///
/// # Cancel safety
/// Orders that were sent are carried out.
pub async fn serve(hub: &Arc<Hub>, request: Request, caller: &Caller) -> Result<Served, String> {
    let by = &caller.by;
    match request {
        Request::List(args) => Ok(Reply::List(list(hub, args.only_running)).into()),
        Request::GetPlugin(args) => {
            let told = explained(hub, &args.name).await?;
            Ok(Reply::Plugin(Box::new(told)).into())
        }
        Request::StartPlugin(_)
        | Request::StartAllPlugins
        | Request::StopPlugin(_)
        | Request::StopAllPlugins(_)
        | Request::RestartPlugin(_)
        | Request::EnablePlugin(_)
        | Request::DisablePlugin(_)
        | Request::Reload(_)
            if hub.stage() == Stage::Ending =>
        {
            Err("the launcher is stopping; nothing is started or changed any more".to_owned())
        }
        Request::StartPlugin(args) if args.once => start_once(hub, &args.name, by).await,
        Request::StartPlugin(args) => start(hub, &args.name, Order::Start, caller).await,
        Request::RestartPlugin(args) => start(hub, &args.name, Order::Restart, caller).await,
        Request::StopPlugin(args) => stop(hub, &args.name, caller).await,
        Request::StartAllPlugins => start_all(hub, by).await,
        Request::StopAllPlugins(args) => Ok(stop_all(hub, args.including_core, by).await),
        Request::EnablePlugin(args) | Request::DisablePlugin(args) if args.default => {
            let seat = known(hub, &args.name).await?;
            set(hub, &seat, None, by).await
        }
        Request::EnablePlugin(args) => {
            let seat = known(hub, &args.name).await?;
            set(hub, &seat, Some(Setting::Enabled), by).await
        }
        Request::DisablePlugin(args) => {
            let seat = known(hub, &args.name).await?;
            set(hub, &seat, Some(Setting::Disabled), by).await
        }
        Request::Reload(args) => reload_for(hub, args.dry_run, by).await,
    }
}

/// Everything known of one, the launcher and files that are no plugins included.
async fn explained(hub: &Hub, name: &str) -> Result<GetPluginReply, String> {
    if name == LAUNCHER || name == hub.node.client_id {
        return Ok(account::launcher(hub));
    }
    if hub.roster.find(name).is_none()
        && let Some(file) = refused(hub, name)
    {
        return Ok(account::refused(hub, &file));
    }
    Ok(account::everything(hub, &*known(hub, name).await?))
}

fn refused(hub: &Hub, name: &str) -> Option<Refused> {
    let refused = hub.roster.refused();
    refused.iter().find(|file| file.file.name == name).cloned()
}

fn list(hub: &Hub, only_running: bool) -> ListReply {
    let seats = hub.roster.seats();
    let mut keyed: Vec<(String, bus::wire::PluginInfo)> = seats
        .iter()
        .map(|seat| seat.view())
        .filter(|view| !only_running || view.running())
        .map(|view| (view.id.to_string(), show::info(hub, &view)))
        .collect();
    if !only_running {
        let refused = hub.roster.refused();
        keyed.extend(
            refused
                .iter()
                .map(|file| (file.file.name.clone(), show::refused(hub, file))),
        );
        keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
    }
    ListReply {
        info: keyed.into_iter().map(|(_, info)| info).collect(),
        launcher: account::own_cause(hub),
    }
}

async fn known(hub: &Hub, name: &str) -> Result<Arc<Seat>, String> {
    if let Some(seat) = hub.roster.find(name) {
        return Ok(seat);
    }
    match refused(hub, name) {
        Some(refused) => Err(format!(
            "plugin '{}' is refused: {}",
            echoed(name),
            refused.reason
        )),
        None => coming(hub, name).await.ok_or_else(|| not_found(name)),
    }
}

/// The seat of a file that was put there a moment ago: the catalog lets the folder become quiet first, and whoever installs
/// a plugin starts it at once. Or of one that has become wanted again while its seat was being taken away.
async fn coming(hub: &Hub, name: &str) -> Option<Arc<Seat>> {
    let id = PluginId::new(name).ok()?;
    // In a task of its own, so that a panic in it does not leave the request without an answer.
    let scan = tokio::spawn(hub.inventory.scan()).await.ok()?.ok()?;
    let listed = hub.plans().autostart.contains(&id);
    match enabled(hub.ports.memory.hand(&id).as_ref(), listed) {
        Setting::Enabled => hub.seat_missing.notify_one(),
        Setting::Disabled if scan.plugins.contains_key(&id) => {}
        Setting::Disabled => return None,
    }
    tokio::time::timeout(SEATED_WITHIN, hub.roster.served(&id))
        .await
        .ok()
}

async fn start(
    hub: &Arc<Hub>,
    name: &str,
    order: Order,
    caller: &Caller,
) -> Result<Served, String> {
    let until = Instant::now() + PATIENCE;
    let seat = known(hub, name).await?;
    if order == Order::Restart && is_cut_off(&seat, caller) {
        return Ok(after_reply(hub, &seat, order, &caller.by));
    }
    set_and_wait(hub, &seat, (order, Setting::Enabled), until, &caller.by).await
}

/// Whether an order to a seat ends what its answer would travel on.
fn is_cut_off(seat: &Seat, caller: &Caller) -> bool {
    match (seat.kind, caller.via) {
        (Kind::Core, Via::Bus) => true,
        (Kind::Core, Via::Local) | (Kind::Plugin, _) => false,
    }
}

/// Up, but not enabled.
async fn start_once(hub: &Arc<Hub>, name: &str, by: &str) -> Result<Served, String> {
    let until = Instant::now() + PATIENCE;
    let seat = known(hub, name).await?;
    let ordered = send_order(&seat, Order::Start, by);
    let view = outcome(&seat, ordered, until).await?;
    Ok(info_reply(hub, &view))
}

async fn reload_for(hub: &Arc<Hub>, dry_run: bool, by: &str) -> Result<Served, String> {
    let how = if dry_run { How::DryRun } else { How::ForReal };
    let (hub, by) = (hub.clone(), by.to_owned());
    // Of its own, so that it is carried out whatever becomes of who asked.
    let work = tokio::spawn(async move { reload(&hub, how, &by).await });
    match work.await {
        Ok(Ok(plan)) => Ok(Reply::Plan(PlanReply { plan }).into()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => Err(format!(
            "the reload failed by a mistake of the launcher: {panic}"
        )),
    }
}

async fn stop(hub: &Arc<Hub>, name: &str, caller: &Caller) -> Result<Served, String> {
    let until = Instant::now() + PATIENCE;
    let seat = known(hub, name).await?;
    let order = Order::Stop(StopCause::ByHand);
    if is_cut_off(&seat, caller) {
        return Ok(after_reply(hub, &seat, order, &caller.by));
    }
    set_and_wait(hub, &seat, (order, Setting::Disabled), until, &caller.by).await
}

/// Gives an order and notes what it sets; answers with the state that shows both, or with what there is by `until`.
async fn set_and_wait(
    hub: &Arc<Hub>,
    seat: &Arc<Seat>,
    (order, setting): (Order, Setting),
    until: Instant,
    by: &str,
) -> Result<Served, String> {
    // Neither is held up by a slow disk: both at once.
    let ordered = send_order(seat, order, by);
    let (view, ()) = tokio::join!(
        outcome(seat, ordered, until),
        note_hand(hub, seat, setting, by)
    );
    view?;
    let settled = hand_is(seat, Some(setting)).await;
    Ok(info_reply(hub, &settled))
}

fn after_reply(hub: &Hub, core: &Seat, order: Order, by: &str) -> Served {
    Served {
        reply: Reply::Info(Box::new(show::info(hub, &core.view()))),
        then: Some(AfterReply {
            order,
            by: by.to_owned(),
        }),
    }
}

fn info_reply(hub: &Hub, view: &View) -> Served {
    Reply::Info(Box::new(show::info(hub, view))).into()
}

/// Waits for the outcome of an order, or answers with the state as it is by then.
async fn outcome(
    seat: &Seat,
    result: oneshot::Receiver<OrderResult>,
    until: Instant,
) -> Result<Arc<View>, String> {
    match tokio::time::timeout_at(until, result).await {
        Ok(Ok(Ok(view))) => Ok(view),
        Ok(Ok(Err(error))) => Err(error.to_string()),
        Ok(Err(_closed)) if seat.is_quarantined() => Err(seat.view().cause.clone()),
        Ok(Err(_closed)) => Err(OrderError::Unanswered {
            id: seat.id.to_string(),
        }
        .to_string()),
        Err(_elapsed) => Ok(seat.view()),
    }
}

/// Notes what was set by hand; that it could not be noted is logged, and no reason not to obey.
async fn note_hand(hub: &Hub, seat: &Seat, setting: Setting, by: &str) {
    if let Err(text) = keep_hand(hub, seat, Some(setting), by).await {
        tracing::error!(plugin = %seat.id, "{text}; it is obeyed, but forgotten when the launcher restarts");
    }
}

/// Notes what is set by hand, or with none that nothing is any more.
async fn keep_hand(
    hub: &Hub,
    seat: &Seat,
    setting: Option<Setting>,
    by: &str,
) -> Result<(), String> {
    // The core always starts with the launcher: without it nobody could say otherwise.
    if seat.kind == Kind::Core {
        return Ok(());
    }
    let hand = setting.map(|setting| ByHand {
        setting,
        who: by.to_owned(),
        when_mse: hub.ports.clock.wall_mse(),
    });
    let kept = hub.ports.memory.keep_hand(&seat.id, hand.clone());
    let kept = match tokio::time::timeout(SHORT_PATIENCE, kept).await {
        Ok(kept) => kept,
        Err(_elapsed) => Err("the disk does not answer".to_owned()),
    };
    // In any case: it is so until the launcher restarts.
    seat.set_hand(hand);
    if hub.roster.get(&seat.id).is_none() {
        // Its seat was taken away at this moment, as nobody seemed to want it.
        hub.seat_missing.notify_one();
    }
    kept.map_err(|why| format!("cannot note that '{}' is {}: {why}", seat.id, word(setting)))
}

fn word(setting: Option<Setting>) -> &'static str {
    match setting {
        Some(Setting::Enabled) => "enabled",
        Some(Setting::Disabled) => "disabled",
        None => "as the file says",
    }
}

/// The view once it shows the setting, as its actor was told.
async fn hand_is(seat: &Seat, setting: Option<Setting>) -> Arc<View> {
    // Nothing is set for the core.
    let shown = seat.until(|view| seat.kind == Kind::Core || view.hand == setting);
    match tokio::time::timeout(A_TURN, shown).await {
        Ok(view) => view,
        Err(_elapsed) => seat.view(),
    }
}

async fn set(
    hub: &Arc<Hub>,
    seat: &Arc<Seat>,
    setting: Option<Setting>,
    by: &str,
) -> Result<Served, String> {
    if seat.kind == Kind::Core {
        return match setting {
            Some(Setting::Enabled) | None => Ok(info_reply(hub, &seat.view())),
            Some(Setting::Disabled) => Err("the core always starts with the launcher; \
                to run without one, take corebin out of launcher.yaml"
                .to_owned()),
        };
    }
    keep_hand(hub, seat, setting, by).await?;
    let view = hand_is(seat, setting).await;
    Ok(info_reply(hub, &view))
}

/// Starts all that are enabled, and answers once each is up, has failed or takes too long; all failures are told (T11).
async fn start_all(hub: &Arc<Hub>, by: &str) -> Result<Served, String> {
    let seats = wind::enabled_in_order(hub);
    let turns = turns(seats.len());
    let mut results = Vec::with_capacity(seats.len());
    for (seat, turn) in seats.into_iter().zip(turns) {
        seat.give_turn(turn);
        let result = send_order(&seat, Order::Start, by);
        results.push((seat, result));
    }
    let mut failures = Vec::new();
    let until = Instant::now() + PATIENCE;
    for (seat, result) in results {
        if let Err(text) = outcome(&seat, result, until).await {
            failures.push(format!("'{}': {text}", seat.id));
        }
    }
    if failures.is_empty() {
        Ok(Reply::Empty.into())
    } else {
        Err(failures.join("; "))
    }
}

/// Stops all plugins and answers once all are down or it takes too long; the core, when asked to, after the answer.
async fn stop_all(hub: &Arc<Hub>, including_core: bool, by: &str) -> Served {
    let order = Order::Stop(StopCause::All);
    let mut stops = Stops::of(hub);
    let results: Vec<_> = hub
        .roster
        .seats()
        .into_iter()
        .filter(|seat| seat.kind == Kind::Plugin)
        .map(|seat| {
            let stop = stops.take(&seat.id);
            let ordered = stop.comes_at_once().then(|| send_order(&seat, order, by));
            // It is stopped also when nobody waits for it any more.
            tokio::spawn(stop_one(hub.clone(), seat, stop, ordered, by.to_owned()))
        })
        .collect();
    drop(stops);
    let until = Instant::now() + PATIENCE;
    for result in results {
        // One that does not stop in time goes on stopping.
        let _ = tokio::time::timeout_at(until, result).await;
    }
    let has_core = hub.roster.get(&PluginId::core()).is_some();
    Served {
        reply: Reply::Empty,
        then: (including_core && has_core).then(|| AfterReply {
            order,
            by: by.to_owned(),
        }),
    }
}

/// Stops one of all when its stop comes, unless it was ordered to already.
async fn stop_one(
    hub: Arc<Hub>,
    seat: Arc<Seat>,
    mut stop: Stop,
    ordered: Option<oneshot::Receiver<OrderResult>>,
    by: String,
) {
    let order = Order::Stop(StopCause::All);
    let ordered = match ordered {
        Some(ordered) => ordered,
        None => {
            stop.comes().await;
            send_order(&seat, order, &by)
        }
    };
    if ordered.await.is_err() && !seat.is_quarantined() {
        // Its actor is just being started anew: a command is kept over that.
        seat.command(order.event(), &by, hub.ports.clock.wall_mse());
        seat.until(|view| view.phase.is_down() || seat.is_quarantined())
            .await;
    }
}
