//! A fake operating system: processes that live, fail, ignore signals and leave others behind, in virtual time.
//!
//! Invariants: what a plugin meets depends on seed and id only, not on what the others do; what must never be is noted
//! as a complaint, and looked at in the end.

use crate::chance::Chance;
use actors::link::Link;
use actors::message::PluginMessage;
use actors::ports::Usage;
use actors::ports::{
    BoxFuture, Changed, Child, Configuration, FileFacts, Happening, Herald, Inventory, Kind,
    Launch, LimitExceeded, Loaded, Look, Measured, Memory, Meter, Plan, Plans, Preparation,
    Preparer, Processes, Renewer, Round, Scan, Teller, Whose,
};
use actors::seat::Seat;
use os::told::{Doing, Said};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};
use supervision::credential::{AT_ONCE, Outcome};
use supervision::hand::ByHand;
use supervision::lifecycle::{BlockReason, SpawnFailure};
use supervision::{ExitStatus, PluginId, Run};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Faults of the launcher's own code come at most this often per plugin, so that no actor is given up for them.
const BETWEEN_CRASHES: Duration = Duration::from_secs(3);

/// A watched process gives a sign of life so often.
pub const SIGNS_EVERY: Duration = Duration::from_secs(20);

/// What a panic that was thrown on purpose says.
pub const ON_PURPOSE: &str = "thrown on purpose";

/// A repeatable source of chance.
#[derive(Clone)]
pub struct Dice(Chance);

impl Dice {
    /// Those of `name`, by a seed.
    pub fn new(seed: u64, name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (seed, name).hash(&mut hasher);
        Dice(Chance::new(hasher.finish()))
    }

    /// 0 to `below` - 1.
    pub fn roll(&mut self, below: u64) -> u64 {
        self.0.next() % below
    }

    /// True `percent` times out of 100.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }

    /// Some milliseconds, below `most`.
    pub fn millis(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.roll(most))
    }
}

/// What is known of one plugin's place in the world.
struct Place {
    dice: Dice,
    live: Option<Run>,
    newest: Run,
    crashed: Option<Instant>,
    crashes: u64,
    hand: Option<ByHand>,
    kept: Run,
    /// Started minus stopped, as the bus was told.
    told: i64,
    /// Runs whose log was not closed.
    open_logs: i64,
    /// How often its credentials were looked at while it runs or is to run.
    looks: u64,
    /// Whether its binary is not in the folder.
    gone: bool,
    /// What lives, for whoever wants to hurt it.
    process: Weak<Process>,
}

/// Calls the catalog.
type Bell = Arc<dyn Fn() + Send + Sync>;

/// The world.
pub struct World {
    seed: u64,
    began: Instant,
    places: Mutex<BTreeMap<PluginId, Place>>,
    faults: watch::Sender<bool>,
    complaints: Arc<Mutex<Vec<String>>>,
    pub ids: Vec<PluginId>,
    looking: Arc<AtomicUsize>,
    /// In a calm world nothing comes by itself.
    is_calm: bool,
    /// In a calm world: whether credentials are of no use.
    useless: watch::Sender<bool>,
    /// In a calm world: rung when the clock is set.
    pub clock_set: Arc<Notify>,
    /// In a calm world: what each run uses of memory; otherwise it is up to chance.
    pub memory: watch::Sender<u64>,
    limits: Mutex<Vec<LimitExceeded>>,
    /// Whose runs have ended, in the order in which that was told.
    ended: Mutex<Vec<PluginId>>,
    /// What the configuration file says, or what is wrong with it.
    pub file: watch::Sender<Result<Loaded, String>>,
    /// Whether there is a bus.
    pub link: watch::Sender<Link>,
    /// Whether the devices that plugins need are there.
    pub devices: watch::Sender<bool>,
    /// When a part of the launcher that is no plugin's was made to fail last.
    part_failed: Mutex<Option<Instant>>,
    parts_failed: AtomicU64,
    bell: Mutex<Option<Bell>>,
    /// How runs end that nobody hurts.
    ends: Ends,
    leak: usize,
    leaked: Mutex<Vec<Vec<u8>>>,
}

/// How runs end that nobody hurts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// While the world is ill as chance has it, then never.
    WhileIll,
    /// By themselves, within so long, always.
    Within(Duration),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn facts(id: &PluginId) -> FileFacts {
    FileFacts {
        name: id.to_string(),
        path: PathBuf::from(format!("/hub/plugins/{id}")),
        size: 1,
        modified: SystemTime::UNIX_EPOCH,
    }
}

impl World {
    /// A world with these plugins in its folder.
    pub fn new(seed: u64, ids: Vec<PluginId>) -> Arc<Self> {
        let place = |id: &PluginId| Place {
            dice: Dice::new(seed, id.as_str()),
            live: None,
            newest: Run(0),
            crashed: None,
            crashes: 0,
            hand: None,
            kept: Run(0),
            told: 0,
            open_logs: 0,
            looks: 0,
            gone: false,
            process: Weak::new(),
        };
        Arc::new(World {
            seed,
            began: Instant::now(),
            places: Mutex::new(ids.iter().map(|id| (id.clone(), place(id))).collect()),
            faults: watch::Sender::new(true),
            complaints: Arc::default(),
            ids,
            looking: Arc::default(),
            is_calm: false,
            useless: watch::Sender::new(false),
            clock_set: Arc::default(),
            memory: watch::Sender::new(0),
            limits: Mutex::default(),
            ended: Mutex::default(),
            file: watch::Sender::new(Err("there is no file in this world".to_owned())),
            link: watch::Sender::new(Link::Up { generation: 1 }),
            devices: watch::Sender::new(true),
            part_failed: Mutex::default(),
            parts_failed: AtomicU64::new(0),
            bell: Mutex::default(),
            ends: Ends::WhileIll,
            leak: 0,
            leaked: Mutex::default(),
        })
    }

    /// One in which nothing goes wrong but that every run ends by itself, within so long; of each it remembers so many
    /// bytes.
    pub fn flapping(seed: u64, ids: Vec<PluginId>, within: Duration, leak: usize) -> Arc<Self> {
        let mut world = Arc::into_inner(World::new(seed, ids)).unwrap();
        world.heal();
        world.is_calm = true;
        world.ends = Ends::Within(within);
        world.leak = leak;
        Arc::new(world)
    }

    /// One in which everything goes well, but that credentials are of no use until they are mended.
    pub fn calm(seed: u64, ids: Vec<PluginId>) -> Arc<Self> {
        let mut world = Arc::into_inner(World::new(seed, ids)).unwrap();
        world.heal();
        world.is_calm = true;
        world.useless.send_replace(true);
        Arc::new(world)
    }

    /// Credentials are of use.
    pub fn mend(&self) {
        self.useless.send_replace(false);
    }

    /// From now on everything goes well.
    pub fn heal(&self) {
        self.faults.send_replace(false);
        self.devices.send_replace(true);
        self.bus(true);
    }

    /// The bus comes or goes.
    pub fn bus(&self, there: bool) {
        self.link.send_modify(|link| {
            let (Link::Up { generation } | Link::Down { generation, .. }) = *link;
            *link = if there {
                Link::Up {
                    generation: generation + 1,
                }
            } else {
                Link::default()
            };
            if let Link::Down {
                generation: down, ..
            } = link
            {
                *down = generation;
            }
        });
    }

    /// The configuration file is another, or of no use.
    pub fn writes(&self, file: Result<Loaded, String>) {
        // What it said before is over.
        let _ = self.file.send_replace(file);
    }

    /// A binary comes or goes; the watcher tells of it.
    pub fn put_binary(&self, id: &PluginId, there: bool) {
        self.with(id, |place| place.gone = !there);
        let bell = lock(&self.bell).clone();
        if let Some(bell) = bell {
            bell();
        }
    }

    pub fn has_binary(&self, id: &PluginId) -> bool {
        self.with(id, |place| !place.gone)
    }

    /// The main process of a run that lives ends, now.
    pub fn crash_process(&self, id: &PluginId) {
        let (process, kind) = self.with(id, |place| (place.process.upgrade(), place.dice.roll(2)));
        if let Some(process) = process {
            process.main_dies(match kind {
                0 => ExitStatus::Code(0),
                _ => ExitStatus::Signal {
                    number: 9,
                    core_dumped: false,
                },
            });
        }
    }

    /// Whether it is time for a fault in a part of the launcher that is no plugin's; if so it is counted.
    pub fn part_may_fail(&self) -> bool {
        let mut failed = lock(&self.part_failed);
        let now = Instant::now();
        let rested = failed.is_none_or(|at| now.duration_since(at) >= BETWEEN_CRASHES);
        let fails = self.is_ill() && rested;
        if fails {
            *failed = Some(now);
            self.parts_failed.fetch_add(1, Ordering::Relaxed);
        }
        fails
    }

    pub fn parts_failed(&self) -> u64 {
        self.parts_failed.load(Ordering::Relaxed)
    }

    /// The code of a part fails here, once in `of` when it is time for that.
    fn part_may_panic(&self, of: u64) {
        // Apart from the plugins' dice, which know nothing of each other.
        let mut dice = Dice::new(self.seed, &format!("part {:?}", self.began.elapsed()));
        if dice.roll(of) == 0 && self.part_may_fail() {
            panic!("{ON_PURPOSE}");
        }
    }

    fn is_ill(&self) -> bool {
        *self.faults.borrow()
    }

    pub fn complain(&self, text: String) {
        lock(&self.complaints).push(text);
    }

    pub fn complaints(&self) -> Vec<String> {
        lock(&self.complaints).clone()
    }

    /// The run that lives.
    pub fn live(&self, id: &PluginId) -> Option<Run> {
        self.with(id, |place| place.live)
    }

    /// What is set by hand, as remembered.
    pub fn remembered(&self, id: &PluginId) -> Option<ByHand> {
        self.with(id, |place| place.hand.clone())
    }

    /// How often this plugin's actor was made to crash.
    pub fn crashes(&self, id: &PluginId) -> u64 {
        self.with(id, |place| place.crashes)
    }

    /// Starts minus stops that the bus was told of, and logs that were not closed.
    pub fn loose_ends(&self, id: &PluginId) -> (i64, i64) {
        self.with(id, |place| (place.told, place.open_logs))
    }

    /// Whose runs have ended since this was asked last, in order.
    pub fn take_ended(&self) -> Vec<PluginId> {
        std::mem::take(&mut *lock(&self.ended))
    }

    /// The limits that were told of as exceeded, in order.
    pub fn limits(&self) -> Vec<LimitExceeded> {
        lock(&self.limits).clone()
    }

    /// How often a plugin's credentials were looked at.
    pub fn looks(&self, id: &PluginId) -> u64 {
        self.with(id, |place| place.looks)
    }

    fn with<T>(&self, id: &PluginId, act: impl FnOnce(&mut Place) -> T) -> T {
        act(lock(&self.places).get_mut(id).unwrap())
    }

    fn dice<T>(&self, id: &PluginId, throw: impl FnOnce(&mut Dice) -> T) -> T {
        self.with(id, |place| throw(&mut place.dice))
    }

    /// Whether it is this plugin's time for a crash of its actor; if so it is counted.
    fn may_crash(&self, id: &PluginId, percent: u64) -> bool {
        let ill = self.is_ill();
        self.with(id, |place| {
            let now = Instant::now();
            let rested = place
                .crashed
                .is_none_or(|at| now.duration_since(at) >= BETWEEN_CRASHES);
            let crash = ill && rested && place.dice.chance(percent);
            if crash {
                place.crashed = Some(now);
                place.crashes += 1;
            }
            crash
        })
    }

    /// The launcher's own code fails here, now and then.
    fn may_panic(&self, id: &PluginId) {
        if self.may_crash(id, 3) {
            panic!("{ON_PURPOSE}");
        }
    }

    /// Kills the actor of a seat, when it is time for it.
    pub fn may_kill_actor(&self, seat: &Seat) {
        if let Some(actor) = seat.actor()
            && self.may_crash(&seat.id, 100)
        {
            actor.kill();
        }
    }

    /// Sends the actor something that it has no use for.
    pub fn pester(&self, seat: &Seat) {
        let messages = [
            PluginMessage::Look,
            PluginMessage::Wake,
            PluginMessage::Sampled(Round::Regular, Run(1), Usage::NOTHING),
            PluginMessage::TailTaken(Run(1), Vec::new()),
            PluginMessage::FileSeen(Some(facts(&seat.id))),
        ];
        for message in messages {
            let _ = seat.tell(message);
        }
    }
}

impl Preparer for World {
    fn prepare(&self, id: PluginId, _: Kind, plan: Plan, _: Look) -> BoxFuture<Preparation> {
        let ill = self.is_ill();
        let (delay, kind) = self.dice(&id, |dice| (dice.millis(200), dice.roll(20)));
        let crash = self.may_crash(&id, 2);
        let useless = *self.useless.borrow();
        let gone = !self.has_binary(&id);
        let lacks = !plan.needs.is_empty() && !*self.devices.borrow();
        Box::pin(async move {
            tokio::time::sleep(delay).await;
            assert!(!crash, "{ON_PURPOSE}");
            match kind {
                _ if gone => Preparation::Blocked(BlockReason::Executable("no file".to_owned())),
                _ if lacks => Preparation::Blocked(BlockReason::Needs("no device".to_owned())),
                _ if useless => Preparation::Blocked(BlockReason::Credentials("none".to_owned())),
                0 if ill => Preparation::Blocked(BlockReason::Credentials("none".to_owned())),
                1 if ill => Preparation::Foreign { pid: 77 },
                _ => Preparation::Ready {
                    file: facts(&id),
                    env_file: Vec::new(),
                },
            }
        })
    }

    fn all_there(&self, _: Vec<PathBuf>) -> BoxFuture<()> {
        let mut devices = self.devices.subscribe();
        Box::pin(async move {
            // The world outlives whoever waits in it.
            let _ = devices.wait_for(|there| *there).await;
        })
    }
}

/// A look at credentials that is under way.
struct Looking {
    all: Arc<AtomicUsize>,
}

impl Looking {
    fn begin(all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(1, Ordering::SeqCst);
        Looking { all: all.clone() }
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Credentials: due every now and then, and sometimes not to be had.
impl Renewer for World {
    fn renew(&self, whose: Whose) -> BoxFuture<Outcome> {
        let Whose::Plugin(id) = whose else {
            return Box::pin(std::future::ready(Outcome::InOrder(None)));
        };
        let ill = self.is_ill();
        // Apart from the plugin's own dice: when it has its turn depends on the others.
        let mut dice = Dice::new(self.seed, &format!("{id} {:?}", self.began.elapsed()));
        let (delay, kind, next) = (dice.millis(200), dice.roll(10), dice.millis(60_000));
        let looking = Looking::begin(&self.looking);
        let complaints = self.complaints.clone();
        self.with(&id, |place| place.looks += 1);
        Box::pin(async move {
            // Those of an actor that was killed at this moment are gone before time goes on.
            tokio::time::sleep(delay.max(Duration::from_millis(1))).await;
            let all = looking.all.load(Ordering::SeqCst);
            drop(looking);
            if all > AT_ONCE {
                lock(&complaints).push(format!("{id}: {all} credentials are looked at"));
            }
            match kind {
                0 if ill => panic!("{ON_PURPOSE}"),
                1 if ill => Outcome::Failed,
                2 if ill => Outcome::NeedsBus,
                _ => Outcome::InOrder(Some(next + Duration::from_secs(1))),
            }
        })
    }

    fn found_in_order(&self) -> BoxFuture<Vec<(PluginId, Duration)>> {
        let found = self
            .ids
            .iter()
            .map(|id| (id.clone(), Duration::from_secs(1)));
        let found = found.collect();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            found
        })
    }

    fn links(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    fn watch(&self) -> Result<Box<dyn Send>, String> {
        Ok(Box::new(()))
    }

    fn changed(&self) -> BoxFuture<Changed> {
        if self.is_calm {
            return Box::pin(std::future::pending());
        }
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            Changed::All
        })
    }

    fn clock_was_set(&self) -> BoxFuture<()> {
        if self.is_calm {
            let bell = self.clock_set.clone();
            return Box::pin(async move { bell.notified().await });
        }
        Box::pin(tokio::time::sleep(Duration::from_secs(45)))
    }

    fn forget_times(&self) {}

    fn forget(&self, _: &PluginId) {}

    fn waits_for(&self, _: &PluginId) -> Vec<String> {
        let useless = *self.useless.borrow();
        useless.then(|| "a clock".to_owned()).into_iter().collect()
    }

    fn explain_refusal(&self) -> BoxFuture<Option<String>> {
        Box::pin(std::future::ready(None))
    }
}

/// The world, as processes know it.
pub struct Machine(pub Arc<World>);

impl Processes for Machine {
    fn spawn(&self, launch: Launch) -> BoxFuture<Result<Arc<dyn Child>, SpawnFailure>> {
        let world = self.0.clone();
        let (id, run, turn, plan) = (launch.id, launch.run, launch.turn, launch.plan);
        let crash = world.may_crash(&id, 2);
        Box::pin(async move {
            let (delay, kind) = world.dice(&id, |dice| (dice.millis(60), dice.roll(20)));
            tokio::time::sleep(delay).await;
            assert!(!crash, "{ON_PURPOSE}");
            if !world.has_binary(&id) {
                return Err(SpawnFailure::Missing("no such file".to_owned()));
            }
            if world.is_ill() {
                match kind {
                    0 => return Err(SpawnFailure::Busy("text file busy".to_owned())),
                    1 => return Err(SpawnFailure::Missing("no such file".to_owned())),
                    2 => return Err(SpawnFailure::Failed("permission denied".to_owned())),
                    _ => {}
                }
            }
            let child: Arc<dyn Child> = Arc::new(Handle(Process::begin(&world, &id, run, &plan)));
            drop(turn);
            Ok(child)
        })
    }

    fn foreign_ended(&self, _pid: i32) -> BoxFuture<()> {
        Box::pin(tokio::time::sleep(Duration::from_secs(2)))
    }
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Lives,
    /// The main process is gone, others are not.
    OthersLive(ExitStatus),
    Gone(ExitStatus),
}

/// One run.
struct Process {
    world: Arc<World>,
    id: PluginId,
    run: Run,
    state: watch::Sender<State>,
    leaves_others: bool,
    /// How long it takes to obey; none = it does not.
    obeys: Option<Duration>,
    teller: Teller,
    watched: bool,
    /// How long until it is ready; none = it hangs.
    ready_after: Option<Duration>,
    was_ready: AtomicBool,
}

impl Process {
    fn begin(world: &Arc<World>, id: &PluginId, run: Run, plan: &Plan) -> Arc<Self> {
        let ill = world.is_ill();
        let (fate, lives, obeys, status) = world.dice(id, |dice| {
            let lives = match dice.roll(4) {
                0 => dice.millis(100),
                1 => dice.millis(20_000),
                2 => dice.millis(200_000),
                _ => Duration::from_secs(100_000_000),
            };
            let status = match dice.roll(3) {
                0 => ExitStatus::Code(0),
                1 => ExitStatus::Code(1),
                _ => ExitStatus::Signal {
                    number: 11,
                    core_dumped: true,
                },
            };
            (dice.roll(10), lives, dice.millis(7_000), status)
        });
        world.with(id, |place| {
            if let Some(other) = place.live.replace(run) {
                world.complain(format!("{id}: run {run} begins while run {other} lives"));
            }
            if run <= place.newest {
                world.complain(format!("{id}: run {run} after run {}", place.newest));
            }
            place.newest = run;
            place.open_logs += 1;
        });
        if world.leak > 0 {
            lock(&world.leaked).push(vec![1; world.leak]);
        }
        let ready_after = world.dice(id, |dice| dice.millis(2_000));
        let process = Arc::new(Process {
            world: world.clone(),
            id: id.clone(),
            run,
            state: watch::Sender::new(State::Lives),
            leaves_others: ill && fate < 2,
            obeys: (!ill || fate > 3).then_some(obeys),
            teller: plan.teller.clone(),
            watched: plan.rules.watchdog.is_some(),
            ready_after: (!ill || fate != 5).then_some(ready_after),
            was_ready: AtomicBool::new(false),
        });
        world.with(id, |place| place.process = Arc::downgrade(&process));
        match world.ends {
            Ends::WhileIll if ill => process.later(lives, move |process| process.main_dies(status)),
            Ends::WhileIll => {}
            Ends::Within(most) => {
                let lives = world.dice(id, |dice| {
                    dice.millis(u64::try_from(most.as_millis()).unwrap())
                });
                process.later(lives, move |process| process.main_dies(status));
            }
        }
        process
    }

    fn later(self: &Arc<Self>, after: Duration, act: impl FnOnce(&Process) + Send + 'static) {
        let process = self.clone();
        tokio::spawn(async move {
            let gone = process.until(|state| match state {
                State::Lives | State::OthersLive(_) => None,
                State::Gone(status) => Some(status),
            });
            // Nobody sleeps on for what is gone.
            if tokio::time::timeout(after, gone).await.is_err() {
                act(&process);
            }
        });
    }

    fn main_dies(&self, status: ExitStatus) {
        let state = *self.state.borrow();
        match (state, self.leaves_others) {
            (State::Lives, true) => {
                self.state.send_replace(State::OthersLive(status));
            }
            (State::Lives, false) => self.all_die(status),
            (State::OthersLive(_) | State::Gone(_), _) => {}
        }
    }

    fn all_die(&self, status: ExitStatus) {
        let state = *self.state.borrow();
        let status = match state {
            State::Lives => status,
            State::OthersLive(status) => status,
            State::Gone(_) => return,
        };
        self.world.with(&self.id, |place| {
            if place.live == Some(self.run) {
                place.live = None;
            }
        });
        self.state.send_replace(State::Gone(status));
    }

    /// The next that it says: that it is ready, then signs of life.
    async fn tells(&self) -> Said {
        let Some(after) = self.ready_after else {
            return std::future::pending().await;
        };
        if !self.was_ready.load(Ordering::Relaxed) {
            if self.teller == Teller::Login {
                // The world outlives its processes.
                let _ = self.world.link.subscribe().wait_for(Link::is_up).await;
            }
            tokio::time::sleep(after).await;
            self.was_ready.store(true, Ordering::Relaxed);
            return Said {
                ready: true,
                doing: Some(Doing::Ready),
                ..Said::default()
            };
        }
        let hangs = self.world.is_ill() && self.world.dice(&self.id, |dice| dice.roll(20)) == 0;
        if hangs || !self.watched {
            return std::future::pending().await;
        }
        tokio::time::sleep(SIGNS_EVERY).await;
        Said {
            alive: true,
            ..Said::default()
        }
    }

    fn until(&self, wanted: fn(State) -> Option<ExitStatus>) -> BoxFuture<ExitStatus> {
        let mut states = self.state.subscribe();
        Box::pin(async move {
            loop {
                if let Some(status) = wanted(*states.borrow_and_update()) {
                    return status;
                }
                if states.changed().await.is_err() {
                    // Nobody is left who could end it; never met while the world holds it.
                    std::future::pending::<()>().await;
                }
            }
        })
    }
}

/// What the launcher holds of a run.
struct Handle(Arc<Process>);

impl Child for Handle {
    fn tree(&self) -> os::cgroup::TreeKind {
        os::cgroup::TreeKind::Group
    }

    fn pid(&self) -> i32 {
        1_000 + i32::try_from(self.0.run.0).unwrap()
    }

    fn main_ended(&self) -> BoxFuture<ExitStatus> {
        self.0.until(|state| match state {
            State::Lives => None,
            State::OthersLive(status) | State::Gone(status) => Some(status),
        })
    }

    fn tree_ended(&self) -> BoxFuture<ExitStatus> {
        self.0.until(|state| match state {
            State::Lives | State::OthersLive(_) => None,
            State::Gone(status) => Some(status),
        })
    }

    fn tree_is_gone(&self) -> bool {
        matches!(*self.0.state.borrow(), State::Gone(_))
    }

    fn told(&self) -> Option<BoxFuture<Said>> {
        match self.0.teller {
            Teller::Started if !self.0.watched => return None,
            Teller::Started | Teller::Itself | Teller::Login => {}
            Teller::Log(_) | Teller::Connect(_) => return None,
        }
        let process = self.0.clone();
        Some(Box::pin(async move { process.tells().await }))
    }

    fn signal(&self, _signal: i32) -> Result<(), String> {
        self.0.world.may_panic(&self.0.id);
        if let Some(after) = self.0.obeys {
            let status = ExitStatus::Code(0);
            self.0.later(after, move |process| process.all_die(status));
        }
        Ok(())
    }

    fn kill(&self) -> Result<(), String> {
        self.0.world.may_panic(&self.0.id);
        let status = ExitStatus::Signal {
            number: 9,
            core_dumped: false,
        };
        let slow = self.0.world.dice(&self.0.id, |dice| dice.millis(300));
        self.0.later(slow, move |process| process.all_die(status));
        Ok(())
    }

    fn members(&self) -> Vec<os::Member> {
        Vec::new()
    }

    fn close_log(&self, _: &str, _: Duration, done: Box<dyn FnOnce(Vec<String>) + Send>) {
        self.0.world.with(&self.0.id, |place| place.open_logs -= 1);
        done(vec!["last words".to_owned()]);
    }
}

impl Herald for World {
    fn announce(&self, happening: Happening) {
        let (id, by) = match happening {
            Happening::Started { id } => (id, 1),
            Happening::Stopped { id } => {
                // Where runs end by themselves all the time nobody asks for the order, and nothing may grow.
                if self.ends == Ends::WhileIll {
                    lock(&self.ended).push(id.clone());
                }
                (id, -1)
            }
            Happening::Limit(limit) => {
                lock(&self.limits).push(*limit);
                return;
            }
            Happening::Plugin(_) | Happening::Launcher { .. } => return,
        };
        self.with(&id, |place| place.told += by);
        self.may_panic(&id);
    }
}

impl Memory for World {
    fn last_run(&self, id: &PluginId) -> Run {
        self.with(id, |place| place.kept)
    }

    fn hand(&self, id: &PluginId) -> Option<ByHand> {
        self.with(id, |place| place.hand.clone())
    }

    fn hands(&self) -> Vec<PluginId> {
        self.part_may_panic(20);
        let places = lock(&self.places);
        let set = places.iter().filter(|(_, place)| place.hand.is_some());
        set.map(|(id, _)| id.clone()).collect()
    }

    fn keep_run(&self, id: &PluginId, run: Run) {
        self.may_panic(id);
        self.with(id, |place| place.kept = run);
    }

    fn keep_hand(&self, id: &PluginId, hand: Option<ByHand>) -> BoxFuture<Result<(), String>> {
        self.with(id, |place| place.hand = hand);
        Box::pin(async { Ok(()) })
    }
}

impl Inventory for World {
    fn scan(&self) -> BoxFuture<Result<Scan, String>> {
        let there = self.ids.iter().filter(|id| self.has_binary(id));
        let plugins = there.map(|id| (id.clone(), facts(id))).collect();
        let scan = Scan {
            plugins,
            ..Scan::default()
        };
        let mut dice = Dice::new(self.seed, &format!("scan {:?}", self.began.elapsed()));
        let (slow, kind, ill) = (
            dice.millis(30),
            dice.roll(20),
            self.is_ill() && !self.is_calm,
        );
        Box::pin(async move {
            tokio::time::sleep(slow).await;
            match kind {
                0 if ill => panic!("{ON_PURPOSE}"),
                1 if ill => Err("the folder cannot be read".to_owned()),
                _ => Ok(scan),
            }
        })
    }

    fn watch(&self, changed: Box<dyn Fn() + Send + Sync>) -> Result<Box<dyn Send>, String> {
        self.part_may_panic(3);
        *lock(&self.bell) = Some(changed.into());
        Ok(Box::new(()))
    }

    fn follow(&self, _: &Plans) {}
}

impl Configuration for World {
    fn load(&self) -> BoxFuture<Result<Loaded, String>> {
        let file = self.file.borrow().clone();
        let mut dice = Dice::new(self.seed, &format!("file {:?}", self.began.elapsed()));
        let (slow, fails) = (dice.millis(30), self.is_ill() && dice.roll(20) == 0);
        Box::pin(async move {
            tokio::time::sleep(slow).await;
            assert!(!fails, "{ON_PURPOSE}");
            file
        })
    }
}

impl Meter for World {
    fn measure(&self, _: Round, runs: Vec<(PluginId, Run, Arc<dyn Child>)>) -> BoxFuture<Measured> {
        self.part_may_panic(10);
        let usage = |id: &PluginId| Usage {
            rss_bytes: match self.is_ill() {
                true => self.dice(id, |dice| dice.roll(400)),
                false => *self.memory.borrow(),
            },
            ..Usage::NOTHING
        };
        let runs = runs
            .into_iter()
            .map(|(id, run, _)| (id.clone(), run, usage(&id)))
            .collect();
        Box::pin(async { Measured { runs, own: None } })
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "world of seed {}", self.seed)
    }
}
