//! Storms: the real actors over 200 plugins on a fake operating system, in virtual time.
//!
//! Everybody gives orders, everything fails that can fail, actors are killed and panic; then the faults end. What must
//! hold: never two runs of a plugin, the last order is followed, what was set by hand is remembered, and the launcher
//! ends with nothing left. A storm is told by its seed, which is printed when it fails; `SIM_SEED=n` repeats one,
//! `SIM_STORMS=n` tries so many new ones.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/chance.rs"]
#[expect(dead_code, reason = "shared with tests that use more of it")]
mod chance;
#[path = "sim/flapping.rs"]
mod flapping;
#[path = "sim/model.rs"]
mod model;
#[path = "sim/panics.rs"]
mod panics;
#[path = "sim/world.rs"]
mod world;

use actors::api::serve::{Caller, Via, serve};
use actors::bridge::BridgeArgs;
use actors::control::{ControlArgs, Signals};
use actors::hub::{CoreSetup, Hub, HubParts, Node, Stage};
use actors::link::Link;
use actors::message::{Ending, Haste, RootMessage};
use actors::news::News;
use actors::ports::{Clock, OnCoreRestart, Plan, Plans, Ports, Teller};
use actors::root::{Root, RootArgs};
use actors::seat::Seat;
use bus::client::{Options, connect_forever};
use bus::rpc::Request;
use bus::wire::{NameArgs, StartArgs, StopAllArgs};
use ractor::{Actor, ActorRef};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::Duration;
use supervision::PluginId;
use supervision::hand::Setting;
use supervision::lifecycle::{PhaseName, Rules, Wish};
use supervision::limits::{LimitAction, Limits};
use supervision::policy::{LogPolicy, RestartPolicy};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinSet;
use world::{Dice, Machine, ON_PURPOSE, World};

const PLUGINS: usize = 200;
const ORDERS: usize = 25;

/// Delays end here, so that a storm is dense; longer ones are the model's business.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// In this time everything has settled: a run that was begun in the storm has died, backoff and grace are over.
const SETTLED: Duration = Duration::from_secs(900);

fn plan() -> Plan {
    Plan {
        rules: Rules {
            restart: RestartPolicy {
                max_delay: MAX_DELAY,
                ..RestartPolicy::default()
            },
            ..Rules::default()
        },
        logs: LogPolicy::default(),
        limits: supervision::limits::Limits::default(),
        args: Vec::new(),
        env: BTreeMap::new(),
        env_file: None,
        cwd: None,
        instance_of: None,
        on_core_restart: OnCoreRestart::Keep,
        requires: Vec::new(),
        needs: Vec::new(),
        teller: Teller::default(),
        sampling: None,
    }
}

/// Somebody who asks over the bus.
fn by(login: &str) -> Caller {
    Caller {
        by: login.to_owned(),
        via: Via::Bus,
    }
}

/// Two that start with the launcher may not use much: one is restarted then, the other only told of.
fn limited() -> BTreeMap<PluginId, Plan> {
    let limited = |action| Plan {
        limits: Limits {
            memory_bytes: NonZeroU64::new(100),
            action,
            ..Limits::default()
        },
        ..plan()
    };
    let ids = ids();
    BTreeMap::from([
        (ids[0].clone(), limited(LimitAction::Restart)),
        (ids[2].clone(), limited(LimitAction::Event)),
    ])
}

fn ids() -> Vec<PluginId> {
    (0..PLUGINS)
        .map(|n| PluginId::new(&format!("p{n:03}")).unwrap())
        .collect()
}

/// A launcher of which all but the operating system is real.
struct Launcher {
    world: Arc<World>,
    hub: Arc<Hub>,
    root: ActorRef<RootMessage>,
    ended: oneshot::Receiver<Ending>,
}

impl Launcher {
    async fn start(seed: u64, world: Arc<World>) -> Self {
        let plans = Plans {
            default: plan(),
            core: plan(),
            by_id: limited(),
            // Every other one starts with the launcher.
            autostart: ids().into_iter().step_by(2).collect(),
            sampling: Duration::from_secs(5),
        };
        Launcher::start_with(seed, world, plans).await
    }

    async fn start_with(seed: u64, world: Arc<World>, plans: Plans) -> Self {
        let run_began = Arc::new(Notify::new());
        let hub = Hub::seeded(
            HubParts {
                ports: Ports {
                    processes: Arc::new(Machine(world.clone())),
                    preparer: world.clone(),
                    herald: world.clone(),
                    memory: world.clone(),
                    clock: Clock::default(),
                },
                plans,
                configuration: world.clone(),
                inventory: world.clone(),
                meter: world.clone(),
                renewer: world.clone(),
                core: CoreSetup::Elsewhere,
                run_began: run_began.clone(),
                node: Node {
                    client_id: "launcher".to_owned(),
                    plugins_folder: PathBuf::from("/hub/plugins"),
                },
            },
            seed,
        );
        let nobody = Arc::new(|| Err("there is no bus in this world".to_owned()));
        let (client, incoming) = connect_forever(Options::new("launcher", Vec::new(), nobody));
        let (ended, end) = oneshot::channel();
        let args = RootArgs {
            hub: hub.clone(),
            bridge: BridgeArgs {
                client,
                incoming: Arc::new(tokio::sync::Mutex::new(incoming)),
                news: News::new(run_began),
                link: Arc::new(watch::Sender::new(Link::default())),
            },
            control: ControlArgs {
                tell_systemd: Arc::new(|_, _| {}),
                tell_reload: Arc::new(|_| {}),
                signals: Signals::catch().unwrap(),
            },
            local: None,
            ended,
        };
        let (root, _) = Actor::spawn(None, Root, args).await.unwrap();
        Launcher {
            world,
            hub,
            root,
            ended: end,
        }
    }

    fn seat(&self, id: &PluginId) -> Arc<Seat> {
        self.hub.roster.find(id.as_str()).unwrap()
    }

    /// Gives a plugin orders, one after the other, with crashes in between; returns what was wished last.
    async fn storm_over(&self, id: PluginId, seed: u64) -> Wish {
        let mut dice = Dice::new(seed, &format!("orders for {id}"));
        let seat = self.seat(&id);
        let mut wish = seat.view().wish;
        for _ in 0..ORDERS {
            let pause = match dice.roll(3) {
                0 => dice.millis(50),
                1 => dice.millis(2_000),
                _ => dice.millis(30_000),
            };
            tokio::time::sleep(pause).await;
            let name = id.to_string();
            match dice.roll(10) {
                0..=3 => {
                    wish = self
                        .order(&Request::StartPlugin(StartArgs { name, once: false }), wish)
                        .await
                }
                4..=5 => {
                    wish = self
                        .order(&Request::StopPlugin(NameArgs { name }), wish)
                        .await
                }
                6 => {
                    wish = self
                        .order(&Request::RestartPlugin(NameArgs { name }), wish)
                        .await
                }
                7..=8 => self.world.may_kill_actor(&seat),
                _ => self.world.pester(&seat),
            }
        }
        wish
    }

    /// Gives an order until somebody takes it; returns what is wished then.
    async fn order(&self, request: &Request, before: Wish) -> Wish {
        let wished = if matches!(request, Request::StopPlugin(_)) {
            Wish::Down
        } else {
            Wish::Up
        };
        for _ in 0..100 {
            let began = tokio::time::Instant::now();
            let Err(text) = serve(&self.hub, request.clone(), &by("admin"))
                .await
                .map(|_| ())
            else {
                return wished;
            };
            let took = began.elapsed();
            if took > Duration::from_secs(8) {
                self.world.complain(format!("{request:?} took {took:?}"));
            }
            if text.contains("at the moment") {
                // Its actor is being started anew.
                tokio::time::sleep(Duration::from_millis(10)).await;
            } else if text.contains("already exists") {
                // A copy of somebody else: it goes away by itself.
                tokio::time::sleep(Duration::from_millis(500)).await;
            } else {
                // It was taken, and failed.
                return wished;
            }
        }
        self.world.complain(format!("nobody takes {request:?}"));
        before
    }

    /// Compares every plugin with what was wished of it.
    fn check(&self, wishes: &BTreeMap<PluginId, Wish>) {
        for (id, wish) in wishes {
            let view = self.seat(id).view();
            let (phase, live) = (view.phase, self.world.live(id));
            let (expected, enabled) = match wish {
                Wish::Up => (PhaseName::Running, Setting::Enabled),
                Wish::Down => (PhaseName::Stopped, Setting::Disabled),
            };
            let lives = live.is_some() == (expected == PhaseName::Running);
            if phase != expected || !lives || view.wish != *wish {
                let text = format!(
                    "{id}: wished {wish:?}, but {phase}, {live:?} lives: {}, {:?} by {}",
                    view.cause, view.wish, view.wish_by
                );
                self.world.complain(text);
            }
            if let Some(hand) = self.world.remembered(id)
                && (hand.setting != enabled || view.enabled != enabled)
            {
                let text = format!(
                    "{id}: {enabled:?} by hand, but {hand:?} and {:?}",
                    view.enabled
                );
                self.world.complain(text);
            }
        }
    }

    async fn end(self) -> Arc<World> {
        self.root.cast(RootMessage::End(Haste::Orderly)).unwrap();
        let ending = self.ended.await.unwrap();
        if ending != Ending::Clean {
            self.world
                .complain(format!("the launcher ended with {ending:?}"));
        }
        for id in self.world.ids.clone() {
            if let Some(run) = self.world.live(&id) {
                self.world.complain(format!("{id}: run {run} is left"));
            }
            let ends = self.world.loose_ends(&id);
            if ends != (0, 0) {
                let crashes = self.world.crashes(&id);
                let text =
                    format!("{id}: started - stopped, open logs: {ends:?}; {crashes} crashes");
                self.world.complain(text);
            }
        }
        self.world
    }
}

/// Panics that are part of the storm are not shown.
fn keep_quiet() {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !info
                .payload_as_str()
                .is_some_and(|text| text.contains(ON_PURPOSE))
            {
                usual(info);
            }
        }));
    });
}

async fn storm(seed: u64) -> Vec<String> {
    let launcher = Arc::new(Launcher::start(seed, World::new(seed, ids())).await);
    let mut stages = launcher.hub.stages();
    stages.wait_for(|stage| *stage == Stage::Up).await.unwrap();
    let mut drivers = JoinSet::new();
    for id in ids() {
        let launcher = launcher.clone();
        drivers.spawn(async move { (id.clone(), launcher.storm_over(id, seed).await) });
    }
    let wishes: BTreeMap<PluginId, Wish> = drivers.join_all().await.into_iter().collect();
    launcher.world.heal();
    let looks = |id: &PluginId| launcher.world.looks(id);
    let before: BTreeMap<PluginId, u64> = ids()
        .into_iter()
        .map(|id| (id.clone(), looks(&id)))
        .collect();
    tokio::time::sleep(SETTLED).await;
    launcher.check(&wishes);
    for (id, wish) in &wishes {
        if *wish == Wish::Up && looks(id) == before[id] {
            let text = format!("{id}: it runs, and nobody keeps its credentials up");
            launcher.world.complain(text);
        }
    }
    let crashes: u64 = ids().iter().map(|id| launcher.world.crashes(id)).sum();
    assert!(crashes > 100, "only {crashes} crashes: this was no storm");
    let world = Arc::into_inner(launcher).unwrap().end().await;
    world.complaints()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
}

fn run(seed: u64) {
    keep_quiet();
    let runtime = runtime();
    let complaints = runtime.block_on(storm(seed));
    let shown: Vec<_> = complaints.iter().take(20).cloned().collect();
    assert!(
        complaints.is_empty(),
        "SIM_SEED={seed}: {} complaints, the first of them:\n{}",
        complaints.len(),
        shown.join("\n")
    );
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn storms_pass_and_the_last_order_is_followed() {
    match (number("SIM_SEED"), number("SIM_STORMS")) {
        (Some(seed), _) => run(seed),
        (None, storms) => {
            for seed in 0..storms.unwrap_or(3) {
                eprintln!("storm {seed}");
                run(seed);
            }
        }
    }
}

/// Those that start with the launcher wait for credentials, until the clock is set; then one is stopped and one removed.
async fn a_clock_is_set() -> Vec<String> {
    let launcher = Launcher::start(1, World::calm(1, ids())).await;
    let world = launcher.world.clone();
    let enabled: Vec<PluginId> = ids().into_iter().step_by(2).collect();
    // By now they are tried as rarely as ever.
    tokio::time::sleep(Duration::from_secs(200)).await;
    let request = Request::GetPlugin(NameArgs {
        name: enabled[0].to_string(),
    });
    let why = serve(&launcher.hub, request, &by("joe")).await.unwrap();
    let why = String::from_utf8(why.reply.payload()).unwrap();
    assert!(why.contains(r#""waitsFor":["none","a clock"]"#), "{why}");
    world.mend();
    let phases = || enabled.iter().map(|id| launcher.seat(id).view().phase);
    assert!(phases().all(|phase| phase == PhaseName::Blocked));
    world.clock_set.notify_one();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(phases().all(|phase| phase == PhaseName::Running));

    let [stopped, others @ ..] = &enabled[..] else {
        unreachable!()
    };
    let request = Request::StopPlugin(NameArgs {
        name: stopped.to_string(),
    });
    serve(&launcher.hub, request, &by("joe")).await.unwrap();
    let looks = || enabled.iter().map(|id| world.looks(id)).collect::<Vec<_>>();
    let before = looks();
    world.clock_set.notify_one();
    tokio::time::sleep(Duration::from_secs(300)).await;
    let after = looks();
    assert_eq!(after[0], before[0], "it is looked at before its next start");
    let looked = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| after > before);
    assert_eq!(looked.count(), others.len());
    launcher.end().await.complaints()
}

#[test]
fn when_the_clock_is_set_the_blocked_are_tried_at_once_and_all_that_run_are_looked_at() {
    keep_quiet();
    assert_eq!(runtime().block_on(a_clock_is_set()), Vec::<String>::new());
}

/// What uses too much three times in a row is told of once; with the action restart a new run begins, and counts anew.
async fn limits_are_exceeded() -> Vec<String> {
    let launcher = Launcher::start(1, World::calm(1, ids())).await;
    let world = launcher.world.clone();
    world.mend();
    let (restarted, told) = (ids()[0].clone(), ids()[2].clone());
    let run = |id: &PluginId| {
        let view = launcher.seat(id).view();
        (view.phase == PhaseName::Running).then_some(view.run.0)
    };
    let interval = Duration::from_secs(5);
    tokio::time::sleep(Duration::from_secs(300)).await;
    let first = (run(&restarted), run(&told));
    assert!(first.0.is_some() && first.1.is_some());
    world.memory.send_replace(100);
    tokio::time::sleep(10 * interval).await;
    world.memory.send_replace(101);
    tokio::time::sleep(2 * interval).await;
    world.memory.send_replace(50);
    tokio::time::sleep(2 * interval).await;
    assert_eq!(world.limits(), [], "never three in a row");
    world.memory.send_replace(200);
    tokio::time::sleep(3 * interval + Duration::from_secs(2)).await;
    let limits = world.limits();
    let actions: Vec<_> = limits
        .iter()
        .map(|limit| (&limit.id, limit.action))
        .collect();
    assert_eq!(actions.len(), 2, "{limits:?}");
    assert!(actions.contains(&(&restarted, LimitAction::Restart)));
    assert!(actions.contains(&(&told, LimitAction::Event)));
    let numbers = limits.iter().all(|limit| {
        (limit.measured, limit.limit, limit.strikes) == (200, 100, 3) && limit.evidence.is_none()
    });
    assert!(numbers, "{limits:?}");
    world.memory.send_replace(0);
    tokio::time::sleep(interval).await;
    assert_eq!(run(&restarted), first.0.map(|run| run + 1));
    assert_eq!(run(&told), first.1);
    assert_eq!(launcher.seat(&restarted).view().restarts, 1);
    launcher.end().await.complaints()
}

#[test]
fn what_uses_too_much_is_told_of_or_restarted() {
    keep_quiet();
    assert_eq!(
        runtime().block_on(limits_are_exceeded()),
        Vec::<String>::new()
    );
}

/// Ten, each of which requires the one before it, and which take their time to end; some until they are killed.
async fn a_chain_is_stopped() -> Vec<String> {
    let world = World::calm(1, ids());
    world.mend();
    let chain: Vec<PluginId> = ids().into_iter().take(10).collect();
    let of_chain = |(at, id): (usize, &PluginId)| {
        let requires = at.checked_sub(1).map(|before| chain[before].clone());
        let plan = Plan {
            requires: requires.into_iter().collect(),
            ..plan()
        };
        (id.clone(), plan)
    };
    let plans = Plans {
        default: plan(),
        core: plan(),
        by_id: chain.iter().enumerate().map(of_chain).collect(),
        autostart: chain.clone(),
        sampling: Duration::ZERO,
    };
    let launcher = Launcher::start_with(1, world.clone(), plans).await;
    let backwards: Vec<PluginId> = chain.iter().rev().cloned().collect();
    let settle = || tokio::time::sleep(Duration::from_secs(300));
    settle().await;
    let all = Request::StopAllPlugins(StopAllArgs::default());
    let asked = serve(&launcher.hub, all, &by("admin")).await;
    assert!(asked.is_ok());
    settle().await;
    assert_eq!(world.take_ended(), backwards, "stop all");
    let asked = serve(&launcher.hub, Request::StartAllPlugins, &by("admin")).await;
    assert_eq!(asked.err(), None);
    settle().await;
    let world = launcher.end().await;
    assert_eq!(world.take_ended(), backwards, "the end of the launcher");
    world.complaints()
}

#[test]
fn however_long_each_takes_those_that_require_others_are_down_before_these_are_stopped() {
    keep_quiet();
    assert_eq!(
        runtime().block_on(a_chain_is_stopped()),
        Vec::<String>::new()
    );
}

/// The actors of all that run are killed, and everything is stopped before anybody has noticed.
async fn all_are_stopped_without_actors() -> Vec<String> {
    let launcher = Launcher::start(1, World::calm(1, ids())).await;
    launcher.world.mend();
    tokio::time::sleep(Duration::from_secs(300)).await;
    for id in ids() {
        launcher.seat(&id).actor().unwrap().kill();
    }
    let all = Request::StopAllPlugins(StopAllArgs::default());
    let asked = serve(&launcher.hub, all, &by("admin")).await;
    assert!(asked.is_ok());
    tokio::time::sleep(Duration::from_secs(60)).await;
    for id in ids() {
        let view = launcher.seat(&id).view();
        assert_eq!((view.phase, view.wish), (PhaseName::Stopped, Wish::Down));
    }
    launcher.end().await.complaints()
}

#[test]
fn a_stop_of_all_is_not_lost_with_the_actors_that_had_it() {
    keep_quiet();
    assert_eq!(
        runtime().block_on(all_are_stopped_without_actors()),
        Vec::<String>::new()
    );
}
