//! What all actors of a launcher share: ports, plans, roster, and the stage the launcher is in.
//!
//! Invariant: nothing in here is changed but the roster's entries, the stage, the plans and the trouble, each in one
//! place. Plans are replaced as a whole; who reads them twice in one decision takes a snapshot ([`Hub::plans`]) first.

use crate::link::Link;
use crate::ports::{
    Configuration, FileFacts, Inventory, Kind, Meter, Plans, Ports, Renewer, Teller, Usage,
};
use crate::seat::{Enabling, Roster, Seat};
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;
use supervision::PluginId;
use supervision::lifecycle::{Event, Lifecycle};
use tokio::sync::{Notify, watch};

/// How far the launcher itself is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The folders have not been looked at yet.
    Beginning,
    /// Starts what is to run when the launcher begins.
    Starting,
    /// Everything that starts with the launcher has been told to.
    Up,
    /// Stops everything; orders are no longer taken.
    Ending,
}

/// What is wrong with the launcher, one line for people; none when nothing is.
pub type Trouble = Option<Arc<str>>;

/// What all actors share.
pub struct Hub {
    /// All seats.
    pub roster: Roster,
    /// What plugins' actors act through.
    pub ports: Ports,
    /// Reads the configuration again.
    pub configuration: Arc<dyn Configuration>,
    /// Finds executables.
    pub inventory: Arc<dyn Inventory>,
    /// Measures.
    pub meter: Arc<dyn Meter>,
    /// Keeps credentials up.
    pub renewer: Arc<dyn Renewer>,
    /// Whether this launcher runs a core of its own.
    pub core: CoreSetup,
    /// Rung when a run began, so that it is measured soon.
    pub run_began: Arc<Notify>,
    /// What it is called and where its plugins lie.
    pub node: Node,
    /// What the configuration says.
    plans: watch::Sender<Arc<Plans>>,
    /// What is wrong with the launcher; changed in [`crate::health`].
    pub(crate) trouble: watch::Sender<Trouble>,
    /// When it was made, for showing.
    pub began: SystemTime,
    stage: watch::Sender<Stage>,
    own_usage: Mutex<Option<Usage>>,
    /// Held by the reload that is under way.
    pub(crate) reloading: tokio::sync::Mutex<()>,
    /// Rung when somebody may be wanted who has no seat; the catalog sees to it at once.
    pub(crate) seat_missing: Notify,
    /// The plans by which the catalog has seated last; none before the first time.
    seated: watch::Sender<Option<Arc<Plans>>>,
    /// The plans by which the bridge listens to the bus; none before the first time.
    listening: watch::Sender<Option<Arc<Plans>>>,
    /// Tells the jitter of one launcher from that of another.
    seed: u64,
}

/// A launcher among others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its login on the bus, by which it is addressed.
    pub client_id: String,
    /// The folder of its plugins.
    pub plugins_folder: PathBuf,
}

/// Where the bus comes from (spec §7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoreSetup {
    /// A core that this launcher runs: its file, as it was at start.
    Own(FileFacts),
    /// Somebody else's, or none.
    Elsewhere,
}

/// What a hub is made of.
pub struct HubParts {
    /// See [`Hub::ports`].
    pub ports: Ports,
    /// See [`Hub::plans`]; as they are at first.
    pub plans: Plans,
    /// See [`Hub::configuration`].
    pub configuration: Arc<dyn Configuration>,
    /// See [`Hub::inventory`].
    pub inventory: Arc<dyn Inventory>,
    /// See [`Hub::meter`].
    pub meter: Arc<dyn Meter>,
    /// See [`Hub::renewer`].
    pub renewer: Arc<dyn Renewer>,
    /// See [`Hub::core`].
    pub core: CoreSetup,
    /// See [`Hub::run_began`].
    pub run_began: Arc<Notify>,
    /// See [`Hub::node`].
    pub node: Node,
}

impl Hub {
    /// A hub in which nothing is seated yet.
    #[must_use]
    pub fn new(parts: HubParts) -> Arc<Self> {
        // The standard library's hasher is seeded by the system at random, once a process.
        Hub::seeded(parts, RandomState::new().hash_one(()))
    }

    /// As [`Hub::new`], but with chance that repeats itself.
    #[must_use]
    pub fn seeded(parts: HubParts, seed: u64) -> Arc<Self> {
        Arc::new(Hub {
            roster: Roster::default(),
            ports: parts.ports,
            configuration: parts.configuration,
            plans: watch::Sender::new(Arc::new(parts.plans)),
            trouble: watch::Sender::new(None),
            inventory: parts.inventory,
            meter: parts.meter,
            renewer: parts.renewer,
            core: parts.core,
            run_began: parts.run_began,
            node: parts.node,
            began: SystemTime::now(),
            stage: watch::Sender::new(Stage::Beginning),
            own_usage: Mutex::new(None),
            reloading: tokio::sync::Mutex::default(),
            seat_missing: Notify::new(),
            seated: watch::Sender::default(),
            listening: watch::Sender::default(),
            seed,
        })
    }

    /// What the configuration says now. A snapshot: a reload replaces them as a whole.
    #[must_use]
    pub fn plans(&self) -> Arc<Plans> {
        self.plans.borrow().clone()
    }

    /// The plans to come.
    #[must_use]
    pub fn plans_to_come(&self) -> watch::Receiver<Arc<Plans>> {
        self.plans.subscribe()
    }

    /// Other plans are in force from now on, told only to those who wait for [`Hub::plans_to_come`].
    pub fn replace_plans(&self, plans: Plans) -> Arc<Plans> {
        let plans = Arc::new(plans);
        self.plans.send_replace(plans.clone());
        plans
    }

    /// Whoever is to start by these plans has a seat.
    pub(crate) fn has_seated(&self, plans: &Arc<Plans>) {
        self.seated.send_replace(Some(plans.clone()));
    }

    /// Waits for that.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn seated(&self, plans: &Arc<Plans>) {
        come_to(&self.seated, plans).await;
    }

    /// Whoever is ready by the bus by these plans is listened to there, as far as it can be.
    pub(crate) fn listens_by(&self, plans: &Arc<Plans>) {
        self.listening.send_replace(Some(plans.clone()));
    }

    /// Waits for that.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn listening(&self, plans: &Arc<Plans>) {
        come_to(&self.listening, plans).await;
    }

    /// How far the launcher is.
    #[must_use]
    pub fn stage(&self) -> Stage {
        *self.stage.borrow()
    }

    /// The stages to come.
    #[must_use]
    pub fn stages(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    /// Goes on to a later stage; never back.
    pub(crate) fn advance(&self, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let later = to > *stage;
            if later {
                *stage = to;
            }
            later
        });
    }

    /// What the launcher itself uses, as last sampled; none = not measured yet, or never.
    #[must_use]
    pub fn own_usage(&self) -> Option<Usage> {
        *self
            .own_usage
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What was measured of the launcher itself.
    pub(crate) fn note_own_usage(&self, usage: Usage) {
        let mut own = self
            .own_usage
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let peak = own.map_or(0, |before| before.peak_rss_bytes);
        *own = Some(Usage {
            peak_rss_bytes: usage.peak_rss_bytes.max(usage.rss_bytes).max(peak),
            ..usage
        });
    }

    /// Chance for somebody, by name.
    pub(crate) fn chance(&self, whose: &str) -> u64 {
        let mut chance = DefaultHasher::new();
        (self.seed, whose).hash(&mut chance);
        chance.finish()
    }

    /// A new seat for a plugin or the core; whether it is enabled comes from the hand, then the file (spec §9).
    #[must_use]
    pub fn new_seat(&self, id: PluginId, kind: Kind, file: Option<FileFacts>) -> Arc<Seat> {
        let plans = self.plans();
        let plan = plans.of(&id, kind).clone();
        let memory = &self.ports.memory;
        let enabling = Enabling {
            hand: memory.hand(&id),
            listed: plans.autostart.contains(&id),
        };
        // Seats differ, so that those that fail together do not come back together.
        let chance = self.chance(id.as_str());
        let life = Lifecycle::new(plan.rules.clone(), memory.last_run(&id), chance);
        let now = self.ports.clock.wall_mse();
        let seat = Seat::new(id, kind, life, plan, file, enabling, now);
        seat.recall(memory);
        self.have_told_of_bus(&seat);
        seat
    }

    /// Has a plugin that is ready by the bus told whether there is one, from now on.
    pub(crate) fn have_told_of_bus(&self, seat: &Arc<Seat>) {
        if seat.kind == Kind::Plugin && seat.state().plan.teller == Teller::Login {
            tokio::spawn(tell_of_bus(Arc::downgrade(seat), self.renewer.links()));
        }
    }
}

/// Waits until somebody has come to these plans.
async fn come_to(whom: &watch::Sender<Option<Arc<Plans>>>, plans: &Arc<Plans>) {
    let by_these =
        |last: &Option<Arc<Plans>>| last.as_ref().is_some_and(|last| Arc::ptr_eq(last, plans));
    // The sender is ours.
    let _ = whom.subscribe().wait_for(by_these).await;
}

/// Tells a seat whether there is a bus to tell of it, as long as there is the seat, and it is ready by the bus.
async fn tell_of_bus(seat: Weak<Seat>, mut links: watch::Receiver<Link>) {
    loop {
        let up = links.borrow_and_update().is_up();
        let Some(seat) = seat.upgrade() else {
            return;
        };
        if seat.state().plan.teller != Teller::Login {
            return;
        }
        seat.post(if up { Event::BusBack } else { Event::BusLost });
        drop(seat);
        if links.changed().await.is_err() {
            return;
        }
    }
}
