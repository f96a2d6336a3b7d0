//! The look before a start: executable, settings, copies of others, credentials (spec §5, §6, §9).
//!
//! Invariants:
//! - what blocks a start is said with file, cause and way out, and nothing on disk is worse than before;
//! - for a plugin whose credentials are in order a start costs no request, no write and no fsync: one `getProfiles` a
//!   connection serves all of them;
//! - with `createPluginCred: false` neither bus nor certs folder is looked at.

mod certificate;
mod credentials;
mod directory;
mod envfile;
mod foreign;
mod settings;
mod stamp;
#[cfg(test)]
mod tests;

pub use certificate::ClientCertificates;
pub use foreign::{FindForeign, Sought};
pub use settings::wrong_settings;

use crate::desk::Desk;
use crate::ports::{Accounts, BoxFuture, Kind, Look, Plan, Preparation, Preparer};
use credentials::{OnDisk, Shelf, Token};
use creds::UnixTime;
use directory::{Directory, Silence, Standing};
use foreign::Patrol;
use settings::{InOrder, Places};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use supervision::PluginId;
use supervision::lifecycle::BlockReason;

/// What the preparer needs to know of the hub.
#[derive(Debug, Clone)]
pub struct PrepareConfig {
    /// The plugins folder.
    pub plugins: PathBuf,
    /// Where the core's executable should be, when there is to be one.
    pub core: Option<PathBuf>,
    /// The home; relative paths of plans start there.
    pub home: PathBuf,
    /// Whether plugins get credentials (`createPluginCred`), and how.
    pub credentials: Credentials,
}

/// Whether plugins get credentials.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// They are there, or not needed; nothing is looked at.
    AreThere,
    /// They are made in this folder.
    Made {
        /// The certs folder.
        certs: PathBuf,
        /// From which share of its life on a token is renewed; 0 to 1.
        renew_at: f64,
        /// How client certificates are made beside; none = not.
        certificates: Option<ClientCertificates>,
    },
}

/// The real [`Preparer`].
pub struct DiskPreparer {
    inner: Arc<Inner>,
}

struct Inner {
    places: Arc<Places>,
    shelf: Option<Arc<Shelf>>,
    directory: Directory,
    desk: Desk,
    patrol: Patrol,
    readiness: Arc<dyn MakeReady>,
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
                certificates,
            } => Some(Arc::new(Shelf::new(certs, renew_at, certificates))),
        };
        let inner = Inner {
            places: Arc::new(Places {
                plugins: config.plugins,
                core: config.core,
                home: config.home,
            }),
            shelf,
            directory: Directory::new(accounts),
            desk,
            patrol: Patrol::new(finder),
            readiness,
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
        let seen = self.desk.ask(move || {
            let files = places.look(&id, kind, &plan)?;
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
        let standing = self.directory.standing(id, &found.key).await;
        let standing = standing.map_err(|silence| without_token(shelf, id, &silence))?;
        match (standing, found.token) {
            (Standing::Person, _) => Err(format!(
                "a person has the account '{id}' at the hub, which a plugin must not take over; \
                 give the plugin another name, or remove the account at the hub"
            )),
            (Standing::Known, Token::Serves) => Ok(()),
            (Standing::Known, Token::Due) => {
                if let Err(why) = self.fetch(shelf, id, &found.key).await {
                    tracing::warn!(plugin = %id, "its token serves, but could not be renewed: {why}");
                }
                Ok(())
            }
            (Standing::Known, Token::Useless(why)) => {
                tracing::info!(plugin = %id, "a new token is fetched: {why}");
                self.fetch(shelf, id, &found.key).await
            }
            (Standing::Stranger | Standing::OtherKey, _) => self.fetch(shelf, id, &found.key).await,
        }
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

fn now() -> UnixTime {
    UnixTime::from(SystemTime::now())
}

/// Why the auth service's silence blocks a start.
fn without_token(shelf: &Shelf, id: &PluginId, silence: &Silence) -> String {
    let token = shelf.token_path(id);
    let (why, then) = match silence {
        Silence::NoBus(why) => (why, "it is tried again when the bus is there"),
        Silence::Refused(why) => (why, "it is tried again"),
    };
    let token = token.display();
    format!("its token {token} cannot be checked or fetched: {why}; {then}")
}
