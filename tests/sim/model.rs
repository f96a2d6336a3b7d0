//! The model based test: random commands, reloads and faults, as dense as they come, against a model of what must be.
//!
//! Invariants that are checked: of each plugin the last command counts, and nothing else; no stop is lost; never two runs
//! of one live; every request is answered in time; a reload does what its plan says, and a bad file nothing; once all is
//! mended nothing moves any more; after the end nothing is left, no process and no task.
//!
//! A failure prints the seed, the fewest steps that still fail, and what happened to the plugins that are wrong.

use super::{Launcher, by, keep_quiet, plan, runtime};
use crate::chance::Chance;
use crate::world::{Dice, SIGNS_EVERY, World};
use actors::api::serve::serve;
use actors::hub::Stage;
use actors::message::PluginMessage;
use actors::ports::{Loaded, Plan, Plans, Teller};
use bus::rpc::Request;
use bus::wire::{NameArgs, ReloadArgs, SettingArgs, StartArgs, StopAllArgs};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use supervision::PluginId;
use supervision::hand::{ByHand, Setting, enabled};
use supervision::lifecycle::{PhaseName, ReadyRule, Wish};
use supervision::policy::{ClassPolicy, FailureClass, RestartMode};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio::task::JoinSet;
use tokio::time::Instant;

const PLUGINS: usize = 24;

/// Commands to each plugin, in a round; about as many faults and reloads come with them.
const STEPS: u64 = 60;

/// Rounds of other seeds, when nothing else is asked for.
const ROUNDS: u64 = 8;

/// In this time everything has settled once all is mended.
const SETTLED: Duration = Duration::from_secs(900);

/// So much of what happened to a plugin is told.
const TRACE: usize = 40;

/// An answer that takes longer is none (spec §8).
const ANSWERED: Duration = Duration::from_secs(8);

/// What is known of a plugin: none = it hangs on what was under way, until the next command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    wish: Option<Wish>,
    hand: Option<Option<Setting>>,
    listed: bool,
}

/// What a command asks of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Start,
    StartOnce,
    Stop,
    Restart,
    Enable,
    Disable,
    Default,
}

impl Command {
    const ALL: [Command; 12] = [
        Command::Start,
        Command::Start,
        Command::Start,
        Command::StartOnce,
        Command::Stop,
        Command::Stop,
        Command::Stop,
        Command::Restart,
        Command::Restart,
        Command::Enable,
        Command::Disable,
        Command::Default,
    ];

    fn request(self, id: &PluginId) -> Request {
        let name = id.to_string();
        match self {
            Command::Start | Command::StartOnce => Request::StartPlugin(StartArgs {
                name,
                once: self == Command::StartOnce,
            }),
            Command::Stop => Request::StopPlugin(NameArgs { name }),
            Command::Restart => Request::RestartPlugin(NameArgs { name }),
            Command::Enable => Request::EnablePlugin(SettingArgs {
                name,
                default: false,
            }),
            Command::Disable => Request::DisablePlugin(SettingArgs {
                name,
                default: false,
            }),
            Command::Default => Request::EnablePlugin(SettingArgs {
                name,
                default: true,
            }),
        }
    }

    /// What is wished then; none = as before.
    fn wish(self) -> Option<Wish> {
        match self {
            Command::Start | Command::StartOnce | Command::Restart => Some(Wish::Up),
            Command::Stop => Some(Wish::Down),
            Command::Enable | Command::Disable | Command::Default => None,
        }
    }

    /// What is set by hand then; none = as before.
    fn hand(self) -> Option<Option<Setting>> {
        match self {
            Command::Start | Command::Restart | Command::Enable => Some(Some(Setting::Enabled)),
            Command::Stop | Command::Disable => Some(Some(Setting::Disabled)),
            Command::Default => Some(None),
            Command::StartOnce => None,
        }
    }
}

/// How a request went.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Went {
    /// It was taken, whatever came of it.
    Taken(String),
    /// Nobody could take it at the moment, or it is not known whether somebody did.
    Unsure,
    /// A copy of somebody else is in its place.
    Foreign,
    /// There is no such plugin.
    Unknown,
}

/// A place in the model; who holds it for reading gives a command, who holds it for writing changes what is listed.
type Place = Arc<RwLock<()>>;

struct Round {
    launcher: Launcher,
    world: Arc<World>,
    seed: u64,
    began: Instant,
    steps: u64,
    known: Mutex<BTreeMap<PluginId, Known>>,
    places: BTreeMap<PluginId, Place>,
    plans: Mutex<Plans>,
    traces: Mutex<BTreeMap<PluginId, VecDeque<String>>>,
    operations: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ids() -> Vec<PluginId> {
    (0..PLUGINS)
        .map(|n| PluginId::new(&format!("m{n:02}")).unwrap())
        .collect()
}

/// These end with those that they require, and always require the same: what they wait for is known exactly. Of others a
/// run goes on without what it requires.
fn is_strict(at: usize) -> bool {
    at % 3 == 2
}

fn requires(dice: &mut Dice, at: usize) -> Vec<PluginId> {
    let mut requires = Vec::new();
    for _ in 0..dice.roll(3) {
        let other = usize::try_from(dice.roll(at.max(1) as u64)).unwrap();
        if other < at {
            requires.push(ids().swap_remove(other));
        }
    }
    requires.sort();
    requires.dedup();
    requires
}

/// Settings as chance has them. Only those before it are required, so that there is no circle.
fn random_plan(seed: u64, dice: &mut Dice, at: usize) -> Plan {
    let mut plan = plan();
    if is_strict(at) {
        let always = ClassPolicy {
            mode: Some(RestartMode::Always),
            ..ClassPolicy::default()
        };
        let classes = &mut plan.rules.restart.classes;
        classes.insert(FailureClass::DependencyLost, always);
        plan.requires = requires(&mut Dice::new(seed, &format!("strict {at}")), at);
    } else if dice.chance(30) {
        plan.requires = requires(dice, at);
    }
    plan.args = (0..dice.roll(3)).map(|n| n.to_string()).collect();
    plan.rules.stop.grace = Duration::from_secs(1 + dice.roll(6));
    (plan.teller, plan.rules.ready) = match dice.roll(5) {
        0 => (Teller::Itself, ReadyRule::Told),
        1 => (Teller::Login, ReadyRule::ToldByBus),
        _ => (Teller::Started, plan.rules.ready),
    };
    if dice.chance(20) {
        plan.rules.watchdog = Some(3 * SIGNS_EVERY);
    }
    if dice.chance(15) {
        plan.needs = vec![PathBuf::from("/dev/thing")];
    }
    plan
}

fn first_plans(seed: u64, dice: &mut Dice) -> Plans {
    let mut by_id = BTreeMap::new();
    let mut autostart = Vec::new();
    for (at, id) in ids().into_iter().enumerate() {
        if is_strict(at) || dice.chance(70) {
            by_id.insert(id.clone(), random_plan(seed, dice, at));
        }
        if dice.chance(40) {
            autostart.push(id);
        }
    }
    Plans {
        default: plan(),
        core: plan(),
        by_id,
        autostart,
        sampling: Duration::from_secs(5),
    }
}

impl Round {
    async fn begin(seed: u64, steps: u64) -> Arc<Self> {
        let world = World::new(seed, ids());
        let mut dice = Dice::new(seed, "plans");
        let plans = first_plans(seed, &mut dice);
        // Some binaries come later, if ever.
        for id in ids() {
            if dice.chance(20) {
                world.put_binary(&id, false);
            }
        }
        let launcher = Launcher::start_with(seed, world.clone(), plans.clone()).await;
        let known = ids().into_iter().map(|id| {
            let listed = plans.autostart.contains(&id);
            let known = Known {
                wish: Some(if listed { Wish::Up } else { Wish::Down }),
                hand: Some(None),
                listed,
            };
            (id, known)
        });
        let mut stages = launcher.hub.stages();
        stages.wait_for(|stage| *stage == Stage::Up).await.unwrap();
        Arc::new(Round {
            world,
            seed,
            began: Instant::now(),
            steps,
            known: Mutex::new(known.collect()),
            places: ids().into_iter().map(|id| (id, Place::default())).collect(),
            plans: Mutex::new(plans),
            traces: Mutex::default(),
            operations: AtomicU64::new(0),
            launcher,
        })
    }

    fn note(&self, id: &PluginId, text: String) {
        let at = self.began.elapsed().as_millis();
        let mut traces = lock(&self.traces);
        let trace = traces.entry(id.clone()).or_default();
        if trace.len() == TRACE {
            trace.pop_front();
        }
        trace.push_back(format!("{at:>8} {text}"));
    }

    fn complain(&self, id: &PluginId, text: &str) {
        self.note(id, format!("WRONG: {text}"));
        self.world.complain(format!("{id}: {text}"));
    }

    fn known(&self, id: &PluginId) -> Known {
        lock(&self.known)[id]
    }

    fn learn(&self, id: &PluginId, learn: impl FnOnce(&mut Known)) {
        learn(lock(&self.known).get_mut(id).unwrap());
    }

    fn counts(&self) {
        self.operations.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks once, and looks at how long the answer takes.
    async fn ask(&self, id: &PluginId, request: Request) -> Went {
        self.counts();
        let began = Instant::now();
        let admin = by("admin");
        let served = serve(&self.launcher.hub, request.clone(), &admin);
        let went = match tokio::time::timeout(10 * ANSWERED, served).await {
            Err(_) => {
                self.complain(id, &format!("{request:?} is never answered"));
                return Went::Unsure;
            }
            Ok(Ok(_)) => Went::Taken("done".to_owned()),
            Ok(Err(text)) if text.contains("at the moment") => Went::Unsure,
            Ok(Err(text)) if text.contains("already exists") => Went::Foreign,
            Ok(Err(text)) if text.contains("not found") => Went::Unknown,
            Ok(Err(text)) => Went::Taken(text),
        };
        let took = began.elapsed();
        self.note(id, format!("{request:?} took {took:?}: {went:?}"));
        if took > ANSWERED {
            self.complain(id, &format!("{request:?} took {took:?}"));
        }
        went
    }

    /// Gives a command until it is taken, or its plugin is not there; the model follows.
    async fn command(&self, id: &PluginId, command: Command) {
        for _ in 0..1_000 {
            match self.ask(id, command.request(id)).await {
                Went::Taken(_) => return self.was_taken(id, command),
                Went::Unsure => {
                    // What it sets was noted all the same.
                    self.learn(id, |known| {
                        known.wish = command.wish().map_or(known.wish, |_| None);
                        known.hand = command.hand().or(known.hand);
                    });
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Went::Foreign => {
                    self.learn(id, |known| known.hand = command.hand().or(known.hand));
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Went::Unknown => {
                    let known = self.known(id);
                    let is_wanted = known.wish == Some(Wish::Up)
                        || known.listed && known.hand == Some(None)
                        || known.hand == Some(Some(Setting::Enabled));
                    if is_wanted {
                        self.complain(id, &format!("it is not there, though {known:?}"));
                    }
                    // What is not there is not wished for; what was set in passing is known by now.
                    let kept = self.world.remembered(id).map(|hand| hand.setting);
                    return self.learn(id, |known| {
                        known.wish = Some(Wish::Down);
                        known.hand.get_or_insert(kept);
                    });
                }
            }
        }
        self.complain(id, &format!("nobody takes {command:?}"));
    }

    fn was_taken(&self, id: &PluginId, command: Command) {
        self.learn(id, |known| {
            known.wish = command.wish().or(known.wish);
            known.hand = command.hand().or(known.hand);
        });
        if command == Command::Stop {
            let Some(seat) = self.launcher.hub.roster.get(id) else {
                return;
            };
            let view = seat.view();
            if let (PhaseName::Stopped, Some(run)) = (view.phase, self.world.live(id)) {
                self.complain(id, &format!("it is told as stopped, and run {run} lives"));
            }
            if view.wish != Wish::Down {
                self.complain(id, "its stop was taken, and is not its wish");
            }
        }
    }

    /// Gives a command whose answer nobody waits for with the next one.
    fn command_in_passing(
        self: &Arc<Self>,
        id: &PluginId,
        command: Command,
        place: OwnedRwLockReadGuard<()>,
    ) {
        self.learn(id, |known| {
            known.wish = command.wish().map_or(known.wish, |_| None);
            known.hand = command.hand().map_or(known.hand, |_| None);
        });
        let (round, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            round.ask(&id, command.request(&id)).await;
            drop(place);
        });
    }

    /// What happens to one plugin, one after the other.
    async fn drive(self: Arc<Self>, id: PluginId) {
        let mut dice = Dice::new(self.seed, &format!("drive {id}"));
        for _ in 0..self.steps {
            let pause = match dice.roll(4) {
                0 => Duration::ZERO,
                1 => dice.millis(50),
                2 => dice.millis(2_000),
                _ => dice.millis(20_000),
            };
            tokio::time::sleep(pause).await;
            self.hurt(&id, &mut dice);
            let all = Command::ALL;
            let command = all[usize::try_from(dice.roll(all.len() as u64)).unwrap()];
            let place = self.places[&id].clone().read_owned().await;
            // One for a plugin that is not there first looks whether it comes, and would be overtaken.
            let is_there = self.launcher.hub.roster.get(&id).is_some();
            if dice.chance(30) && is_there {
                self.command_in_passing(&id, command, place);
                // Its request is on its way before the next one.
                tokio::task::yield_now().await;
            } else {
                self.command(&id, command).await;
            }
        }
    }

    /// The last one counts, and is known.
    async fn last(self: Arc<Self>, id: PluginId) {
        let mut dice = Dice::new(self.seed, &format!("last {id}"));
        tokio::time::sleep(dice.millis(2_000)).await;
        let last = if dice.chance(50) {
            Command::Stop
        } else {
            Command::Start
        };
        let _place = self.places[&id].clone().read_owned().await;
        self.command(&id, last).await;
    }

    /// Somebody or something does it harm.
    fn hurt(&self, id: &PluginId, dice: &mut Dice) {
        let Some(seat) = self.launcher.hub.roster.get(id) else {
            self.put_binary(id, dice.chance(50));
            return;
        };
        match dice.roll(10) {
            0 | 1 => {
                self.counts();
                self.note(id, "its process dies".to_owned());
                self.world.crash_process(id);
            }
            2 => {
                self.counts();
                self.note(id, "its actor is killed, if it is time".to_owned());
                self.world.may_kill_actor(&seat);
            }
            3 => {
                self.counts();
                self.world.pester(&seat);
            }
            4 => self.put_binary(id, false),
            5 => self.put_binary(id, true),
            _ => {}
        }
    }

    fn put_binary(&self, id: &PluginId, there: bool) {
        if self.world.has_binary(id) != there {
            self.counts();
            self.note(id, format!("its binary is there: {there}"));
            self.world.put_binary(id, there);
        }
    }

    /// What happens to all of them.
    async fn drive_all(self: Arc<Self>) {
        let mut dice = Dice::new(self.seed, "drive all");
        for _ in 0..self.steps {
            tokio::time::sleep(dice.millis(10_000)).await;
            match dice.roll(12) {
                0 => self.world.bus(dice.chance(50)),
                1 => drop(self.world.devices.send_replace(dice.chance(50))),
                2..=4 => self.fail_a_part(&mut dice),
                5 => self.stop_all().await,
                6 => self.start_all().await,
                7 => self.reload_nonsense().await,
                8 => self.dry_run().await,
                _ => self.reload(&mut dice).await,
            }
            self.counts();
        }
    }

    /// Kills an actor that is no plugin's.
    fn fail_a_part(&self, dice: &mut Dice) {
        let children = self.launcher.root.get_children();
        let mut parts: Vec<_> = children
            .into_iter()
            .filter(|cell| cell.is_message_type_of::<PluginMessage>() == Some(false))
            .collect();
        parts.sort_by_key(|cell| cell.get_id());
        if parts.is_empty() || !self.world.part_may_fail() {
            return;
        }
        let which = usize::try_from(dice.roll(parts.len() as u64)).unwrap();
        parts[which].kill();
    }

    async fn all_places(&self) -> Vec<OwnedRwLockWriteGuard<()>> {
        let mut held = Vec::new();
        for place in self.places.values() {
            held.push(place.clone().write_owned().await);
        }
        held
    }

    async fn stop_all(&self) {
        let _all = self.all_places().await;
        for id in ids() {
            self.note(&id, "all are stopped".to_owned());
        }
        let request = Request::StopAllPlugins(StopAllArgs::default());
        let answer = serve(&self.launcher.hub, request, &by("admin")).await;
        if let Err(text) = answer {
            self.world.complain(format!("stop all: {text}"));
        }
        for id in ids() {
            self.learn(&id, |known| known.wish = Some(Wish::Down));
        }
    }

    async fn start_all(&self) {
        let _all = self.all_places().await;
        let answer = serve(&self.launcher.hub, Request::StartAllPlugins, &by("admin")).await;
        let told = answer.err().unwrap_or_default();
        for id in ids() {
            self.note(&id, "all are started".to_owned());
            let seat = self.launcher.hub.roster.get(&id);
            let failed = told.contains(&format!("'{id}'"));
            self.learn(&id, |known| {
                let is = known.hand.map(|hand| setting(hand, known.listed));
                known.wish = match (is, &seat) {
                    (Some(Setting::Enabled), Some(_)) if !failed => Some(Wish::Up),
                    (Some(Setting::Disabled), _) => known.wish,
                    (Some(Setting::Enabled) | None, _) => None,
                };
            });
        }
    }

    /// A file with a mistake changes nothing.
    async fn reload_nonsense(&self) {
        let right = self.world.file.borrow().clone();
        let wrong = Err("launcher.yaml:3:1: nonsense".to_owned());
        self.world.writes(wrong);
        let before = self.launcher.hub.plans();
        let request = Request::Reload(ReloadArgs { dry_run: false });
        let answer = serve(&self.launcher.hub, request, &by("admin")).await;
        if answer.is_ok() {
            let text = "a bad file is taken".to_owned();
            self.world.complain(text);
        }
        if !Arc::ptr_eq(&before, &self.launcher.hub.plans()) {
            let text = "a bad file changes the plans".to_owned();
            self.world.complain(text);
        }
        self.world.writes(right);
    }

    async fn dry_run(&self) {
        let before = self.launcher.hub.plans();
        let request = Request::Reload(ReloadArgs { dry_run: true });
        let _ = serve(&self.launcher.hub, request, &by("joe")).await;
        if !Arc::ptr_eq(&before, &self.launcher.hub.plans()) {
            let text = "a dry run changes the plans".to_owned();
            self.world.complain(text);
        }
    }

    /// Other settings for some, and some come into `autostart` or go.
    async fn reload(&self, dice: &mut Dice) {
        let mut plans = lock(&self.plans).clone();
        let all = ids();
        let mut turned = Vec::new();
        for _ in 0..=dice.roll(4) {
            let at = usize::try_from(dice.roll(all.len() as u64)).unwrap();
            let id = &all[at];
            match dice.roll(4) {
                0 if !is_strict(at) => drop(plans.by_id.remove(id)),
                1 if !turned.contains(id) => turned.push(id.clone()),
                _ => drop(
                    plans
                        .by_id
                        .insert(id.clone(), random_plan(self.seed, dice, at)),
                ),
            }
            self.note(id, "its settings change".to_owned());
        }
        turned.sort();
        let mut held = Vec::new();
        for id in &turned {
            held.push(self.places[id].clone().write_owned().await);
            let listed = plans.autostart.len();
            plans.autostart.retain(|other| other != id);
            if plans.autostart.len() == listed {
                plans.autostart.push(id.clone());
            }
        }
        let loaded = Loaded {
            plans: plans.clone(),
            at_restart: Vec::new(),
        };
        self.world.writes(Ok(loaded));
        // One that fails by a mistake of the launcher, on purpose, changes nothing.
        for _ in 0..100 {
            let request = Request::Reload(ReloadArgs { dry_run: false });
            match serve(&self.launcher.hub, request, &by("admin")).await {
                Ok(_) => return self.reloaded(plans, &turned),
                Err(text) if text.contains("mistake of the launcher") => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(text) => {
                    self.world.complain(format!("reload: {text}"));
                    return;
                }
            }
        }
        self.world.complain("nobody takes a reload".to_owned());
    }

    fn reloaded(&self, plans: Plans, turned: &[PluginId]) {
        for id in turned {
            let listed = plans.autostart.contains(id);
            let foreign = self
                .launcher
                .hub
                .roster
                .get(id)
                .is_some_and(|seat| seat.view().phase == PhaseName::Foreign);
            self.note(id, format!("the file lists it: {listed}"));
            self.learn(id, |known| {
                let was = known.hand.map(|hand| setting(hand, known.listed));
                let is = known.hand.map(|hand| setting(hand, listed));
                known.listed = listed;
                known.wish = match (was, is) {
                    (Some(was), Some(is)) if was == is => known.wish,
                    // Whether it was one when the plan was made is not known.
                    (Some(_), Some(Setting::Enabled)) if foreign => None,
                    (Some(_), Some(Setting::Enabled)) => Some(Wish::Up),
                    (Some(_), Some(Setting::Disabled)) => Some(Wish::Down),
                    (None, _) | (_, None) => None,
                };
            });
        }
        *lock(&self.plans) = plans;
    }

    /// How a plugin may be, by the model.
    fn expected(&self, at: usize, id: &PluginId) -> Vec<PhaseName> {
        let plans = lock(&self.plans);
        let plan = plans.by_id.get(id).unwrap_or(&plans.default);
        let is_up = |id| {
            let seat = self.launcher.hub.roster.get(id);
            seat.is_some_and(|seat| seat.view().phase == PhaseName::Running)
        };
        let met = plan.requires.iter().all(is_up);
        match self.known(id).wish {
            Some(Wish::Down) | None => vec![PhaseName::Stopped],
            // Who is blocked looks again, now and then.
            Some(Wish::Up) if !met && is_strict(at) => {
                vec![PhaseName::Blocked, PhaseName::Preparing]
            }
            // What runs goes on without its file, or what it requires.
            Some(Wish::Up) if !met || !self.world.has_binary(id) => {
                vec![PhaseName::Blocked, PhaseName::Preparing, PhaseName::Running]
            }
            Some(Wish::Up) => vec![PhaseName::Running],
        }
    }

    /// Compares every plugin with the model.
    fn check(&self) {
        for (at, id) in ids().into_iter().enumerate() {
            let (known, expected) = (self.known(&id), self.expected(at, &id));
            let Some(seat) = self.launcher.hub.roster.get(&id) else {
                if known.wish != Some(Wish::Down) || self.world.has_binary(&id) {
                    self.complain(&id, &format!("it is not there, though {known:?}"));
                }
                continue;
            };
            let (view, live) = (seat.view(), self.world.live(&id));
            let lives = live.is_some() == (view.phase == PhaseName::Running);
            if !expected.contains(&view.phase) || !lives || Some(view.wish) != known.wish {
                let text = format!(
                    "it should be one of {expected:?} by {known:?}, but is {}, wished {:?} by {}, {live:?} lives: {}",
                    view.phase, view.wish, view.wish_by, view.cause
                );
                self.complain(&id, &text);
            }
            if let (PhaseName::Running, Some(live)) = (view.phase, live)
                && view.run != live
            {
                self.complain(&id, &format!("run {} is shown, {live} lives", view.run));
            }
            let hand = known.hand.unwrap();
            let kept = self.world.remembered(&id).map(|hand| hand.setting);
            if view.enabled != setting(hand, known.listed) || kept != hand {
                let text = format!("{:?} and {kept:?} are kept, but {known:?}", view.enabled);
                self.complain(&id, &text);
            }
        }
    }

    /// Once all is mended nothing moves, and a reload has nothing to do.
    async fn check_peace(&self) {
        let runs = || {
            let seats = self.launcher.hub.roster.seats();
            let runs = seats.iter().map(|seat| (seat.id.clone(), seat.view().run));
            // Who is blocked looks again, and uses up no run by that.
            runs.collect::<BTreeMap<_, _>>()
        };
        let before = runs();
        tokio::time::sleep(Duration::from_secs(300)).await;
        for (id, run) in runs() {
            if before.get(&id) != Some(&run) {
                self.complain(
                    &id,
                    &format!("in peace it went from {:?} to {run}", before.get(&id)),
                );
            }
        }
        if self.world.file.borrow().is_err() {
            return;
        }
        let request = Request::Reload(ReloadArgs { dry_run: true });
        let plan = serve(&self.launcher.hub, request, &by("joe")).await;
        let plan = String::from_utf8(plan.unwrap().reply.payload()).unwrap();
        for action in ["start", "stop", "restart", "update"] {
            if plan.contains(&format!("\"action\":\"{action}\"")) {
                self.world
                    .complain(format!("a reload is still to do: {plan}"));
            }
        }
    }
}

fn setting(hand: Option<Setting>, listed: bool) -> Setting {
    let hand = hand.map(|setting| ByHand {
        setting,
        who: String::new(),
        when_mse: 0,
    });
    enabled(hand.as_ref(), listed)
}

/// What a round did.
struct Done {
    operations: u64,
    parts_failed: u64,
    complaints: Vec<String>,
    traces: BTreeMap<PluginId, VecDeque<String>>,
}

async fn round(seed: u64, steps: u64) -> Done {
    let round = Round::begin(seed, steps).await;
    let mut drivers = JoinSet::new();
    for id in ids() {
        drivers.spawn(round.clone().drive(id));
    }
    drivers.spawn(round.clone().drive_all());
    while let Some(driven) = drivers.join_next().await {
        driven.unwrap();
    }
    // Those in passing are answered, here and below.
    drop(round.all_places().await);
    for id in ids() {
        drivers.spawn(round.clone().last(id));
    }
    while let Some(driven) = drivers.join_next().await {
        driven.unwrap();
    }
    drop(round.all_places().await);
    round.world.heal();
    tokio::time::sleep(SETTLED).await;
    round.check();
    round.check_peace().await;
    let operations = round.operations.load(Ordering::Relaxed);
    let Ok(round) = Arc::try_unwrap(round).map_err(|_| ()) else {
        panic!("somebody still holds the round");
    };
    let traces = round.traces.into_inner().unwrap();
    let world = round.launcher.end().await;
    Done {
        operations,
        parts_failed: world.parts_failed(),
        complaints: world.complaints(),
        traces,
    }
}

/// A round in a runtime of its own; when all is over, nobody may be left in it.
fn run(seed: u64, steps: u64) -> Done {
    let runtime = runtime();
    let mut done = runtime.block_on(async {
        let done = round(seed, steps).await;
        // What still sleeps has a minute for it.
        tokio::time::sleep(Duration::from_secs(120)).await;
        done
    });
    let left = runtime.metrics().num_alive_tasks();
    if left > 0 {
        done.complaints.push(format!("{left} tasks are left"));
    }
    done
}

/// The fewest steps by which it still goes wrong, of those that are tried.
fn shortest(seed: u64, steps: u64, done: Done) -> (u64, Done) {
    let mut best = (steps, done);
    for fewer in [1, 2, 4, 8, 15, 30, 45] {
        if fewer >= steps {
            break;
        }
        let done = run(seed, fewer);
        if !done.complaints.is_empty() {
            best = (fewer, done);
            break;
        }
    }
    best
}

#[test]
fn whatever_is_asked_and_fails_the_last_command_counts() {
    keep_quiet();
    let number = super::number;
    let (first, rounds) = (
        Chance::seed("MODEL_SEED"),
        number("MODEL_ROUNDS").unwrap_or(ROUNDS),
    );
    let steps = number("MODEL_STEPS").unwrap_or(STEPS);
    let (began, mut operations, mut parts_failed) = (std::time::Instant::now(), 0, 0);
    for seed in (0..rounds).map(|n| first.wrapping_add(n)) {
        let done = run(seed, steps);
        operations += done.operations;
        parts_failed += done.parts_failed;
        if done.complaints.is_empty() {
            continue;
        }
        let (steps, done) = shortest(seed, steps, done);
        let mut text = format!("MODEL_SEED={seed} MODEL_ROUNDS=1 MODEL_STEPS={steps}:");
        for complaint in done.complaints.iter().take(20) {
            text.push_str(&format!("\n{complaint}"));
        }
        for (id, trace) in &done.traces {
            if done
                .complaints
                .iter()
                .any(|text| text.starts_with(id.as_str()))
            {
                text.push_str(&format!("\n{id}:"));
                trace
                    .iter()
                    .for_each(|line| text.push_str(&format!("\n  {line}")));
            }
        }
        panic!("{text}");
    }
    let took = began.elapsed();
    println!(
        "{rounds} rounds, {operations} operations in {took:?}: {:.0} a second; {parts_failed} parts of the launcher failed",
        operations as f64 / took.as_secs_f64()
    );
    assert!(
        parts_failed > 0 || steps < STEPS,
        "no part ever failed: this was no test"
    );
}
