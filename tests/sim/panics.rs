//! A panic in each actor, and in what each does beside itself: another one takes over, no plugin notices, and what the
//! actor is there for is done again (spec §12, §17).
//!
//! Invariant: everything goes well here, but for what a test sets a trap for.

use super::{Launcher, by, ids, keep_quiet, plan, runtime};
use crate::world::{Machine, ON_PURPOSE, World};
use actors::api::serve::serve;
use actors::bridge::{BridgeArgs, BridgeMessage};
use actors::catalog::CatalogMessage;
use actors::control::{ControlArgs, ControlMessage, Signals};
use actors::hub::{CoreSetup, Hub, HubParts, Node, Stage};
use actors::link::Link;
use actors::local::LocalArgs;
use actors::message::{Ending, Part, PluginMessage};
use actors::monitor::MonitorMessage;
use actors::news::News;
use actors::ports::{
    BoxFuture, Changed, Child, Clock, Configuration, Happening, Herald, Inventory, Loaded,
    Measured, Memory, Meter, Plans, Ports, Renewer, Round, Scan, Whose,
};
use actors::renewal::RenewalMessage;
use actors::root::{Root, RootArgs};
use bus::client::{Options, connect_forever};
use bus::rpc::Request;
use bus::wire::{NameArgs, ReloadArgs};
use ractor::{Actor, ActorCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use supervision::credential::Outcome;
use supervision::hand::ByHand;
use supervision::lifecycle::PhaseName;
use supervision::{PluginId, Run};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{Notify, oneshot, watch};

/// By then what crashed is back, and what was to run does.
const SOON: Duration = Duration::from_secs(20);

/// The ports of a world, each of which panics once where a test says so.
struct Traps {
    world: Arc<World>,
    set: Mutex<BTreeSet<&'static str>>,
    told: Mutex<Vec<Stage>>,
}

impl Traps {
    fn set(&self, at: &'static str) {
        self.set
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(at);
    }

    fn spring(&self, at: &'static str) {
        let was_set = self
            .set
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(at);
        assert!(!was_set, "{ON_PURPOSE}: {at}");
    }

    fn all_sprang(&self) {
        let left = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(left.is_empty(), "{left:?} did not happen");
    }
}

impl Herald for Traps {
    fn announce(&self, happening: Happening) {
        self.spring("announce");
        self.world.announce(happening);
    }
}

impl Memory for Traps {
    fn last_run(&self, id: &PluginId) -> Run {
        self.world.last_run(id)
    }

    fn hand(&self, id: &PluginId) -> Option<ByHand> {
        self.world.hand(id)
    }

    fn hands(&self) -> Vec<PluginId> {
        self.spring("hands");
        self.world.hands()
    }

    fn keep_run(&self, id: &PluginId, run: Run) {
        self.spring("keep run");
        self.world.keep_run(id, run);
    }

    fn keep_hand(&self, id: &PluginId, hand: Option<ByHand>) -> BoxFuture<Result<(), String>> {
        self.spring("keep hand");
        self.world.keep_hand(id, hand)
    }
}

impl Inventory for Traps {
    fn scan(&self) -> BoxFuture<Result<Scan, String>> {
        self.spring("scan");
        self.world.scan()
    }

    fn watch(&self, changed: Box<dyn Fn() + Send + Sync>) -> Result<Box<dyn Send>, String> {
        self.spring("watch the folder");
        Inventory::watch(&*self.world, changed)
    }

    fn follow(&self, plans: &Plans) {
        self.world.follow(plans);
    }
}

impl Configuration for Traps {
    fn load(&self) -> BoxFuture<Result<Loaded, String>> {
        self.spring("load");
        self.world.load()
    }
}

impl Meter for Traps {
    fn measure(
        &self,
        round: Round,
        runs: Vec<(PluginId, Run, Arc<dyn Child>)>,
    ) -> BoxFuture<Measured> {
        self.spring("measure");
        self.world.measure(round, runs)
    }
}

impl Renewer for Traps {
    fn renew(&self, whose: Whose) -> BoxFuture<Outcome> {
        self.spring("renew");
        self.world.renew(whose)
    }

    fn found_in_order(&self) -> BoxFuture<Vec<(PluginId, Duration)>> {
        self.spring("found in order");
        self.world.found_in_order()
    }

    fn links(&self) -> watch::Receiver<Link> {
        self.world.links()
    }

    fn watch(&self) -> Result<Box<dyn Send>, String> {
        self.spring("watch the files");
        Renewer::watch(&*self.world)
    }

    fn changed(&self) -> BoxFuture<Changed> {
        self.world.changed()
    }

    fn clock_was_set(&self) -> BoxFuture<()> {
        self.spring("the clock");
        self.world.clock_was_set()
    }

    fn forget_times(&self) {
        self.spring("forget times");
        self.world.forget_times();
    }

    fn forget(&self, id: &PluginId) {
        self.world.forget(id);
    }

    fn waits_for(&self, id: &PluginId) -> Vec<String> {
        self.world.waits_for(id)
    }

    fn explain_refusal(&self) -> BoxFuture<Option<String>> {
        self.world.explain_refusal()
    }
}

/// A launcher among traps, and the socket of its local control.
struct Trapped {
    launcher: Launcher,
    traps: Arc<Traps>,
    folder: tempfile::TempDir,
}

impl Trapped {
    /// Sets these traps, begins, and waits until all that starts with it runs.
    async fn begin(set: &[&'static str]) -> Trapped {
        let world = World::calm(1, ids());
        world.mend();
        let traps = Arc::new(Traps {
            world: world.clone(),
            set: Mutex::new(set.iter().copied().collect()),
            told: Mutex::default(),
        });
        let folder = tempfile::tempdir().unwrap();
        let trapped = Trapped {
            launcher: launcher(world, &traps, folder.path().join("sock")).await,
            traps,
            folder,
        };
        tokio::time::sleep(SOON).await;
        trapped.traps.all_sprang();
        trapped.all_run();
        trapped
    }

    fn all_run(&self) {
        for id in ids().into_iter().step_by(2) {
            let view = self.launcher.seat(&id).view();
            assert_eq!(view.phase, PhaseName::Running, "{id}: {}", view.cause);
        }
    }

    fn runs(&self) -> Vec<Option<Run>> {
        ids()
            .iter()
            .map(|id| self.launcher.world.live(id))
            .collect()
    }

    /// The actor that understands such messages; of plugins any one.
    fn actor<M: ractor::Message>(&self) -> Option<ActorCell> {
        let children = self.launcher.root.get_children();
        let mut mine = children
            .into_iter()
            .filter(|cell| cell.is_message_type_of::<M>() == Some(true));
        mine.next()
    }

    /// Kills an actor; another one takes its place, and the plugins do not notice.
    async fn kill<M: ractor::Message>(&self) {
        let before = self.actor::<M>().unwrap();
        let runs = self.runs();
        before.kill();
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = self
            .actor::<M>()
            .unwrap_or_else(|| panic!("nobody took its place"));
        assert_ne!(after.get_id(), before.get_id());
        assert_eq!(self.runs(), runs);
    }

    /// An order is carried out, and explained.
    async fn obeys(&self) {
        let id = ids()[0].clone();
        let name = || NameArgs {
            name: id.to_string(),
        };
        for request in [Request::RestartPlugin(name()), Request::GetPlugin(name())] {
            serve(&self.launcher.hub, request, &by("admin"))
                .await
                .unwrap();
        }
        tokio::time::sleep(SOON).await;
        self.all_run();
    }

    async fn end(self) {
        self.traps.all_sprang();
        let world = self.launcher.end().await;
        assert_eq!(world.complaints(), Vec::<String>::new());
    }
}

async fn launcher(world: Arc<World>, traps: &Arc<Traps>, socket: PathBuf) -> Launcher {
    let run_began = Arc::new(Notify::new());
    let parts = HubParts {
        ports: Ports {
            processes: Arc::new(Machine(world.clone())),
            preparer: world.clone(),
            herald: traps.clone(),
            memory: traps.clone(),
            clock: Clock::default(),
        },
        plans: Plans {
            default: plan(),
            core: plan(),
            by_id: super::limited(),
            autostart: ids().into_iter().step_by(2).collect(),
            sampling: Duration::from_secs(5),
        },
        configuration: traps.clone(),
        inventory: traps.clone(),
        meter: traps.clone(),
        renewer: traps.clone(),
        core: CoreSetup::Elsewhere,
        run_began: run_began.clone(),
        node: Node {
            client_id: "launcher".to_owned(),
            plugins_folder: PathBuf::from("/hub/plugins"),
        },
    };
    let hub = Hub::seeded(parts, 1);
    let nobody = Arc::new(|| Err("there is no bus in this world".to_owned()));
    let (client, incoming) = connect_forever(Options::new("launcher", Vec::new(), nobody));
    let (ended, end) = oneshot::channel();
    let telling = traps.clone();
    let args = RootArgs {
        hub: hub.clone(),
        bridge: BridgeArgs {
            client,
            incoming: Arc::new(tokio::sync::Mutex::new(incoming)),
            news: News::new(run_began),
            link: Arc::new(watch::Sender::new(Link::default())),
        },
        control: ControlArgs {
            tell_systemd: Arc::new(move |stage, _| {
                telling.spring("tell systemd");
                telling
                    .told
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(stage);
            }),
            tell_reload: Arc::new(|_| {}),
            signals: Signals::catch().unwrap(),
        },
        local: Some(LocalArgs {
            listener: Arc::new(tokio::net::UnixListener::bind(socket).unwrap()),
            owner: nix::unistd::getuid().as_raw(),
            owner_name: "me".to_owned(),
        }),
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

/// In virtual time.
fn within(test: impl Future<Output = ()>) {
    keep_quiet();
    runtime().block_on(test);
}

#[test]
fn a_panic_in_a_plugins_actor_costs_its_plugin_nothing() {
    within(async {
        let trapped = Trapped::begin(&["keep run"]).await;
        trapped.kill::<PluginMessage>().await;
        trapped.obeys().await;
        // In the midst of an order, whose answer is lost.
        trapped.traps.set("announce");
        let request = Request::RestartPlugin(NameArgs {
            name: ids()[0].to_string(),
        });
        let answer = serve(&trapped.launcher.hub, request, &by("admin")).await;
        let error = answer.map(|_| ()).unwrap_err();
        assert!(error.contains("try again"), "{error}");
        tokio::time::sleep(SOON).await;
        trapped.all_run();
        trapped.end().await;
    });
}

#[test]
fn a_panic_in_the_catalog_costs_no_seat() {
    within(async {
        let trapped = Trapped::begin(&["scan", "hands", "watch the folder"]).await;
        trapped.kill::<CatalogMessage>().await;
        // What it does at a reload.
        trapped.traps.set("hands");
        trapped
            .launcher
            .hub
            .replace_plans((*trapped.launcher.hub.plans()).clone());
        tokio::time::sleep(SOON).await;
        trapped.obeys().await;
        trapped.end().await;
    });
}

#[test]
fn a_panic_in_the_monitor_leaves_limits_in_force() {
    within(async {
        let trapped = Trapped::begin(&["measure"]).await;
        trapped.kill::<MonitorMessage>().await;
        trapped.traps.set("measure");
        trapped.launcher.world.memory.send_replace(200);
        tokio::time::sleep(SOON + SOON).await;
        let limits = trapped.launcher.world.limits();
        let told: BTreeSet<_> = limits.iter().map(|limit| &limit.id).collect();
        assert_eq!(told.len(), 2, "{limits:?}");
        trapped.launcher.world.memory.send_replace(0);
        trapped.obeys().await;
        trapped.end().await;
    });
}

#[test]
fn a_panic_in_the_renewal_leaves_credentials_looked_after_and_the_clock_watched() {
    within(async {
        let trapped = Trapped::begin(&["watch the files", "found in order", "the clock"]).await;
        let world = trapped.launcher.world.clone();
        trapped.kill::<RenewalMessage>().await;
        trapped.traps.set("renew");
        trapped.traps.set("forget times");
        let looks = || -> u64 { ids().iter().map(|id| world.looks(id)).sum() };
        for _ in 0..2 {
            let before = looks();
            world.clock_set.notify_one();
            tokio::time::sleep(Duration::from_secs(600)).await;
            assert!(looks() >= before, "nobody looks");
        }
        let before = looks();
        world.clock_set.notify_one();
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(looks() >= before + 50, "{} looks of 100", looks() - before);
        let mut complaints = trapped.launcher.end().await.complaints();
        // What one has begun goes on beside its successor's, so there may be more at once for a while.
        complaints.retain(|text| !text.ends_with("credentials are looked at"));
        assert_eq!(complaints, Vec::<String>::new());
    });
}

#[test]
fn a_panic_in_bringing_up_and_in_winding_down_costs_only_time() {
    within(async {
        // The first that is told is that the launcher has started, the next that it stops.
        let trapped = Trapped::begin(&["announce"]).await;
        trapped.traps.set("announce");
        let traps = trapped.traps.clone();
        let world = trapped.launcher.end().await;
        traps.all_sprang();
        assert_eq!(world.complaints(), Vec::<String>::new());
    });
}

#[test]
fn a_panic_in_the_bridge_leaves_local_control_and_supervision() {
    within(async {
        let trapped = Trapped::begin(&[]).await;
        trapped.kill::<BridgeMessage>().await;
        trapped.obeys().await;
        trapped.end().await;
    });
}

#[test]
fn a_panic_in_control_leaves_systemd_told() {
    within(async {
        let trapped = Trapped::begin(&["tell systemd"]).await;
        trapped.kill::<ControlMessage>().await;
        let told = trapped.traps.told.lock().unwrap().clone();
        assert_eq!(told.last(), Some(&Stage::Up), "{told:?}");
        trapped.obeys().await;
        trapped.end().await;
    });
}

/// One request over the socket.
async fn ask(trapped: &Trapped, line: &str) -> String {
    let socket = trapped.folder.path().join("sock");
    let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    stream
        .write_all(format!("{line}\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await.unwrap();
    answer
}

#[test]
fn a_panic_in_local_control_or_in_a_request_leaves_it_answering() {
    within(async {
        let trapped = Trapped::begin(&[]).await;
        trapped.kill::<()>().await;
        trapped.traps.set("keep hand");
        let stop = format!(
            "{{\"method\":\"disablePlugin\",\"args\":{{\"name\":\"{}\"}}}}",
            ids()[1]
        );
        let answer = ask(&trapped, &stop).await;
        assert!(answer.contains("\"error\""), "{answer}");
        let answer = ask(&trapped, &stop).await;
        assert!(answer.contains("\"result\""), "{answer}");
        trapped.end().await;
    });
}

#[test]
fn a_panic_in_a_reload_is_its_answer_and_the_next_one_is_done() {
    within(async {
        let trapped = Trapped::begin(&[]).await;
        trapped.traps.set("load");
        let hub = trapped.launcher.hub.clone();
        let reload =
            async || serve(&hub, Request::Reload(ReloadArgs::default()), &by("admin")).await;
        let failed = reload().await.map(|_| ()).unwrap_err();
        assert!(failed.contains("a mistake of the launcher"), "{failed}");
        // The world has no file: its own words.
        let refused = reload().await.map(|_| ()).unwrap_err();
        assert!(
            refused.contains("there is no file in this world"),
            "{refused}"
        );
        trapped.obeys().await;
        trapped.end().await;
    });
}

#[test]
fn a_plugins_actor_that_panics_all_the_time_is_given_up_with_its_process_kept_and_told() {
    within(async {
        let trapped = Trapped::begin(&[]).await;
        let id = ids()[0].clone();
        let seat = trapped.launcher.seat(&id);
        let run = trapped.launcher.world.live(&id);
        for _ in 0..6 {
            seat.actor().unwrap().kill();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(seat.is_quarantined());
        assert_eq!(trapped.launcher.world.live(&id), run, "its process is kept");
        let request = Request::GetPlugin(NameArgs {
            name: id.to_string(),
        });
        let why = serve(&trapped.launcher.hub, request, &by("joe"))
            .await
            .unwrap();
        let why: serde_json::Value = serde_json::from_slice(&why.reply.payload()).unwrap();
        for text in [&why["why"]["text"], &why["info"]["Cause"]] {
            let text = text.as_str().unwrap();
            assert!(text.contains("supervision crashed too often"), "{why}");
        }
        assert!(
            why["why"]["hint"]
                .as_str()
                .unwrap()
                .contains("restart the launcher"),
            "{why}"
        );
        // All others are supervised.
        let other = ids()[2].clone();
        let request = Request::RestartPlugin(NameArgs {
            name: other.to_string(),
        });
        serve(&trapped.launcher.hub, request, &by("joe"))
            .await
            .unwrap();
    });
}

#[test]
fn any_other_actor_that_panics_all_the_time_ends_the_launcher_and_leaves_the_plugins_alone() {
    within(async {
        let trapped = Trapped::begin(&[]).await;
        let runs = trapped.runs();
        for _ in 0..6 {
            trapped.actor::<MonitorMessage>().unwrap().kill();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let ending = trapped.launcher.ended.await.unwrap();
        assert_eq!(ending, Ending::GaveUp(Part::Monitor));
        let world = trapped.launcher.world;
        let after: Vec<_> = ids().iter().map(|id| world.live(id)).collect();
        assert_eq!(after, runs);
    });
}
