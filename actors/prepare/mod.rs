//! The look before a start: executable, settings, copies of others, credentials (spec §5, §6, §9); and the renewal of
//! credentials while their plugin runs.
//!
//! Invariants:
//! - what blocks a start is said with file, cause and way out, and nothing on disk is worse than before;
//! - for a plugin whose credentials are in order a start costs no request, no write and no fsync: one `getProfiles` a
//!   connection serves all of them;
//! - with `createPluginCred: false` neither bus nor certs folder is looked at.

mod authority;
mod certificate;
mod changes;
mod clock;
mod config;
mod credentials;
mod directory;
mod ends;
mod envfile;
mod foreign;
mod leftovers;
mod needs;
mod ours;
mod own;
mod renew;
mod room;
mod settings;
mod stamp;
#[cfg(test)]
mod tests;

pub use authority::PlainCore;
pub use certificate::ClientCertificates;
pub use config::{Credentials, PrepareConfig};
pub use foreign::{FindForeign, Sought};
pub use leftovers::Stuck;
pub use own::OwnLogin;
pub use settings::wrong_settings;

use crate::desk::Desk;
use crate::link::Link;
use crate::ports::{
    Accounts, BoxFuture, Changed, CoreDeed, Kind, Look, Plan, Preparation, Preparer, Renewer, Whose,
};
use certificate::Certified;
use changes::Changes;
use clock::WallClock;
use credentials::{OnDisk, Shelf, Token};
use creds::UnixTime;
use directory::{Directory, Silence, Standing};
use ends::Ends;
use foreign::Patrol;
use own::Own;
use renew::{Found, Waiting};
use room::Rooms;
use settings::{InOrder, Places};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use supervision::PluginId;
use supervision::credential::Outcome;
use supervision::lifecycle::BlockReason;
use tokio::sync::watch;

/// Certificates are looked at so often for their end.
const DAILY: Duration = Duration::from_secs(24 * 3600);

/// What there is to say of a plain broker.
const NO_SERVICE: &str = "this hub has no auth service";

/// A plugin with a certificate of the CA before.
const AWAITS_RESTART: &str =
    "the CA is new, and the core is being restarted to go by it; it is tried again";

/// The real [`Preparer`] and [`Renewer`].
pub struct DiskPreparer {
    inner: Arc<Inner>,
}

struct Inner {
    places: Arc<Places>,
    shelf: Option<Arc<Shelf>>,
    /// One at a time, so that nothing is made twice.
    plain_core: Option<Arc<Mutex<PlainCore>>>,
    /// What it is to do.
    core_deed: Mutex<Option<CoreDeed>>,
    directory: Directory,
    desk: Desk,
    patrol: Patrol,
    readiness: Arc<dyn MakeReady>,
    own: Arc<Own>,
    found: Found,
    waiting: Waiting,
    changes: Arc<Changes>,
    ends: Arc<Ends>,
    clock: WallClock,
    rooms: Rooms,
    stuck: Arc<[Stuck]>,
}

/// Makes ready what a start will need and what takes the disk.
pub trait MakeReady: Send + Sync + 'static {
    /// For the next start of `id`; nothing when that is done already. Blocks. What cannot be made is no error here.
    fn make_ready(&self, id: &PluginId);
}

impl DiskPreparer {
    /// A preparer of a hub. Touches nothing yet.
    #[must_use]
    pub fn new(
        config: PrepareConfig,
        accounts: Arc<dyn Accounts>,
        finder: Arc<dyn FindForeign>,
        readiness: Arc<dyn MakeReady>,
        desk: Desk,
    ) -> Self {
        let shelf = match config.credentials {
            Credentials::AreThere => None,
            Credentials::Made {
                certs,
                renew_at,
                tokens,
                certificates,
            } => {
                let own = &config.own.login;
                Some(Arc::new(Shelf::new(
                    certs,
                    own,
                    tokens.then_some(renew_at),
                    certificates,
                )))
            }
        };
        let inner = Inner {
            places: Arc::new(Places {
                plugins: config.plugins,
                core: config.core,
                home: config.home,
            }),
            shelf,
            plain_core: config.plain_core.map(|core| Arc::new(Mutex::new(core))),
            core_deed: Mutex::default(),
            directory: Directory::new(accounts),
            stuck: config.stuck.into(),
            rooms: Rooms::new(
                config.written,
                |folder| os::room::room(folder).ok(),
                desk.clone(),
            ),
            desk,
            patrol: Patrol::new(finder),
            readiness,
            changes: Arc::new(Changes::new(config.own.certs.clone())),
            own: Arc::new(Own::new(config.own)),
            found: Found::default(),
            waiting: Waiting::default(),
            ends: Arc::default(),
            clock: WallClock::default(),
        };
        DiskPreparer {
            inner: Arc::new(inner),
        }
    }
}

impl Preparer for DiskPreparer {
    fn prepare(&self, id: PluginId, kind: Kind, plan: Plan, look: Look) -> BoxFuture<Preparation> {
        let inner = self.inner.clone();
        let seen = inner.look(&id, kind, plan, look);
        Box::pin(async move {
            inner
                .judge(&id, kind, look, seen)
                .await
                .unwrap_or_else(Preparation::Blocked)
        })
    }

    fn all_there(&self, needs: Vec<PathBuf>) -> BoxFuture<()> {
        Box::pin(needs::all_there(needs))
    }

    fn leftovers_gone(&self, id: &PluginId) -> BoxFuture<()> {
        Box::pin(leftovers::gone(self.inner.stuck.to_vec(), id.clone()))
    }

    fn short_of_room(&self) -> BoxFuture<Option<PathBuf>> {
        let rooms = self.inner.rooms.clone();
        Box::pin(async move { rooms.short().await })
    }

    fn room_again(&self) -> BoxFuture<()> {
        let rooms = self.inner.rooms.clone();
        Box::pin(async move { rooms.again().await })
    }
}

impl Renewer for DiskPreparer {
    fn renew(&self, whose: Whose) -> BoxFuture<Outcome> {
        let inner = self.inner.clone();
        Box::pin(async move {
            match whose {
                Whose::Launcher => inner.keep_own_up().await,
                Whose::Everybody => inner.warn_of_ends().await,
                Whose::Plugin(id) => inner.keep_up(&id).await,
            }
        })
    }

    fn found_in_order(&self) -> BoxFuture<Vec<(PluginId, Duration)>> {
        let inner = self.inner.clone();
        Box::pin(async move { inner.found.next().await })
    }

    fn links(&self) -> watch::Receiver<Link> {
        self.inner.directory.links()
    }

    fn watch(&self) -> Result<Box<dyn Send>, String> {
        self.inner.changes.watch()
    }

    fn changed(&self) -> BoxFuture<Changed> {
        let inner = self.inner.clone();
        Box::pin(async move {
            loop {
                let names = inner.changes.next().await;
                let (changes, shelf, own) = (
                    inner.changes.clone(),
                    inner.shelf.clone(),
                    inner.own.clone(),
                );
                let judge = move || changes.judge(names, shelf.as_deref(), &own);
                match inner.desk.ask(judge).await {
                    Ok(Some(changed)) => return changed,
                    Ok(None) => {}
                    Err(_broken) => return Changed::All,
                }
            }
        })
    }

    fn clock_was_set(&self) -> BoxFuture<()> {
        let inner = self.inner.clone();
        Box::pin(async move { inner.clock.was_set().await })
    }

    fn forget_times(&self) {
        if let Some(shelf) = &self.inner.shelf {
            shelf.forget_times();
        }
    }

    fn forget(&self, id: &PluginId) {
        self.inner.waiting.forget(id);
        if let Some(shelf) = &self.inner.shelf {
            shelf.forget(id);
        }
    }

    fn waits_for(&self, id: &PluginId) -> Vec<String> {
        self.inner.waiting.of(id)
    }

    fn core_deed(&self) -> Option<CoreDeed> {
        self.inner.take_core_deed()
    }

    fn explain_refusal(&self) -> BoxFuture<Option<String>> {
        let own = self.inner.own.clone();
        let explained = self.inner.desk.ask(move || own.explain(now()));
        Box::pin(async move { explained.await.ok().flatten() })
    }
}

/// What the disk has for a start.
struct Seen {
    files: InOrder,
    /// None where they are not looked at, or not yet.
    credentials: Option<Result<OnDisk, String>>,
}

impl Inner {
    /// Has what is on disk looked at, in one piece of work where it can be: it is on its way when this returns.
    fn look(
        &self,
        id: &PluginId,
        kind: Kind,
        plan: Plan,
        look: Look,
    ) -> impl Future<Output = Result<Seen, BlockReason>> + Send + 'static {
        let (places, readiness, id) = (self.places.clone(), self.readiness.clone(), id.clone());
        let shelf = self.shelf_for(kind);
        let plain_core = match kind {
            Kind::Core => self.plain_core.clone(),
            Kind::Plugin => None,
        };
        let stuck = self.stuck.clone();
        let seen = self.desk.ask(move || {
            leftovers::check(&stuck, &id)?;
            let files = places.look(&id, kind, &plan)?;
            if let Some(core) = plain_core {
                locked(&core)
                    .before_start(now())
                    .map_err(BlockReason::Credentials)?;
            }
            let credentials = shelf.and_then(|shelf| match look {
                Look::Again => Some(shelf.look(&id, now())),
                // Nothing is made for what somebody else may run.
                Look::Thorough => shelf.look_only(&id, now()),
            });
            readiness.make_ready(&id);
            Ok(Seen { files, credentials })
        });
        async {
            seen.await
                .unwrap_or_else(|broken| Err(BlockReason::Settings(broken.to_string())))
        }
    }

    async fn judge(
        &self,
        id: &PluginId,
        kind: Kind,
        look: Look,
        seen: impl Future<Output = Result<Seen, BlockReason>>,
    ) -> Result<Preparation, BlockReason> {
        let Seen { files, credentials } = seen.await?;
        let InOrder { file, env_file } = files;
        // The core is never foreign (spec §5).
        if (kind, look) == (Kind::Plugin, Look::Thorough) {
            let sought = Sought {
                id: id.clone(),
                path: file.path.clone(),
            };
            if let Some(pid) = self.patrol.find(sought).await {
                return Ok(Preparation::Foreign { pid });
            }
        }
        if let Some(shelf) = self.shelf_for(kind) {
            self.credentials(&shelf, id, credentials)
                .await
                .map_err(BlockReason::Credentials)?;
        }
        Ok(Preparation::Ready { file, env_file })
    }

    /// Where credentials of ours are; the core gets none (spec §7).
    fn shelf_for(&self, kind: Kind) -> Option<Arc<Shelf>> {
        match kind {
            Kind::Plugin => self.shelf.clone(),
            Kind::Core => None,
        }
    }

    /// What a plugin has on disk.
    async fn on_disk(&self, shelf: &Arc<Shelf>, id: &PluginId) -> Result<OnDisk, String> {
        let (shelf, id) = (shelf.clone(), id.clone());
        let found = self.desk.ask(move || shelf.look(&id, now())).await;
        found.map_err(|broken| broken.to_string())?
    }

    /// Sees to it that a plugin has valid credentials; the error names file, cause and way out.
    async fn credentials(
        &self,
        shelf: &Arc<Shelf>,
        id: &PluginId,
        found: Option<Result<OnDisk, String>>,
    ) -> Result<(), String> {
        let found = match found {
            Some(found) => found?,
            None => self.on_disk(shelf, id).await?,
        };
        self.waiting.certificate(id, found.certified);
        let by_certificate = match found.certified {
            certified if serves(certified) => Ok(()),
            Some(Certified::AwaitsServer) => Err(AWAITS_RESTART.to_owned()),
            Some(
                Certified::Until(_) | Certified::Ageing(_) | Certified::Without | Certified::Failed,
            )
            | None => Err(shelf.certificate_trouble()),
        };
        if !shelf.has_tokens() {
            by_certificate.map_err(|why| {
                format!("it has no client certificate, by which alone this core knows it: {why}")
            })?;
            self.starts(shelf, id, &found.key);
            return Ok(());
        }
        let standing = match self.directory.standing(id, &found.key).await {
            Ok(standing) => standing,
            Err(Silence::NoService) if by_certificate.is_ok() => {
                self.starts(shelf, id, &found.key);
                return Ok(());
            }
            // Brokers that do not say that nobody serves it let it time out, or forbid the question.
            Err(Silence::Refused(why)) if by_certificate.is_ok() && !self.has_own_core() => {
                tracing::info!(plugin = %id, "it logs in by its certificate, as no auth service answers: {why}");
                self.starts(shelf, id, &found.key);
                return Ok(());
            }
            // Nobody needs the bus to start again what it knew a moment ago.
            Err(Silence::NoBus(why))
                if found.token.serves() && self.directory.knew(id, &found.key).await =>
            {
                tracing::info!(plugin = %id, "it starts with the token it has, as the bus is away: {why}");
                self.starts(shelf, id, &found.key);
                return Ok(());
            }
            Err(silence) => return Err(without_token(shelf, id, &silence)),
        };
        match (standing, found.token) {
            (Standing::Person, _) => return Err(persons_account(id)),
            (Standing::Known, Token::Serves) => {}
            (Standing::Known, Token::Due) => {
                if let Err(why) = self.fetch(shelf, id, &found.key).await {
                    tracing::warn!(plugin = %id, "its token serves, but could not be renewed: {why}");
                }
            }
            (Standing::Known, Token::Useless(why)) => {
                tracing::info!(plugin = %id, "a new token is fetched: {why}");
                self.fetch(shelf, id, &found.key).await?;
            }
            (Standing::Stranger | Standing::OtherKey, _) => {
                self.fetch(shelf, id, &found.key).await?;
            }
        }
        self.starts(shelf, id, &found.key);
        Ok(())
    }

    /// Whether the core is ours, so that it is known what it has.
    fn has_own_core(&self) -> bool {
        self.places.core.is_some()
    }

    /// Makes the plugin known, and puts its new token in place.
    async fn fetch(&self, shelf: &Arc<Shelf>, id: &PluginId, key: &str) -> Result<(), String> {
        let added = self.directory.add(id, key).await;
        let token = added.map_err(|silence| without_token(shelf, id, &silence))?;
        let (shelf, asked) = (shelf.clone(), id.clone());
        let put = move || shelf.put(&asked, token);
        self.desk
            .ask(put)
            .await
            .map_err(|broken| broken.to_string())?
    }
}

fn locked(core: &Mutex<PlainCore>) -> MutexGuard<'_, PlainCore> {
    // It never changes.
    core.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a login can be proved by a certificate.
fn serves(certified: Option<Certified>) -> bool {
    match certified {
        Some(Certified::Until(_) | Certified::Ageing(_)) => true,
        Some(Certified::AwaitsServer | Certified::Without | Certified::Failed) | None => false,
    }
}

/// Why a plugin of that name gets no credentials (T46).
fn persons_account(id: &PluginId) -> String {
    format!(
        "a person has the account '{id}' at the hub, which a plugin must not take over; \
         give the plugin another name, or remove the account at the hub"
    )
}

fn now() -> UnixTime {
    UnixTime::from(SystemTime::now())
}

/// Why the auth service's silence blocks a start.
fn without_token(shelf: &Shelf, id: &PluginId, silence: &Silence) -> String {
    let token = shelf.token_path(id);
    let (why, then) = match silence {
        Silence::NoBus(why) => (why.as_str(), "it is tried again when the bus is there"),
        Silence::Refused(why) => (why.as_str(), "it is tried again"),
        Silence::NoService => (
            NO_SERVICE,
            "it is tried again; with a client certificate beside its key it starts without a token",
        ),
    };
    let token = token.display();
    format!("its token {token} cannot be checked or fetched: {why}; {then}")
}
