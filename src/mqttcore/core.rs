//! A core from its start to its end.
//!
//! Invariants:
//! - Order of the start (HP 1.15): folders, keys, clients on disk, doors, `launcher.*` and `admin.*`; only then it is
//!   ready and says where it is.
//! - One core a home: the folder of the client table is locked as long as the core lives.
//! - At the end every client is told, the slow ones are cut, and the files that say that it runs are gone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use bus::wire::ClientProfile;
use creds::UnixTime;
use creds::atomic::{self, AtomicError};
use mqtt5::broker::config::BrokerConfig;
use mqtt5::broker::resource_monitor::{ResourceLimits, ResourceMonitor};
use mqtt5::broker::router::MessageRouter;
use mqtt5::broker::storage::QueueLimits;
use mqtt5::broker::sys_topics::BrokerStats;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use crate::auth::{Auth, Tokens};
use crate::backlog;
use crate::config::Config;
use crate::connections::{Connections, Why};
use crate::credentials::{CredentialError, Credentials, Places};
use crate::discovery;
use crate::doors::{Ports, open_ports};
use crate::folders::{FolderError, Folders};
use crate::grants::{self, Grants};
use crate::guesses::Guesses;
use crate::hub::{Hub, Reports};
use crate::identity::Identity;
use crate::job::Job;
use crate::kept::KeepError;
use crate::limits::Limits;
use crate::listen::{self, Floor, ListenError};
use crate::numbers::Numbers;
use crate::refusals::Refusals;
use crate::store::{self, Store, StoreError};
use crate::tls;
use crate::{service, upkeep};

/// How long clients may take to read the goodbye at the end.
const GOODBYE: Duration = Duration::from_millis(50);
/// How long their tasks may take after being cut.
const CLEANUP: Duration = Duration::from_millis(20);

/// Everything a core is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where everything lies.
    pub folders: Folders,
    /// What the configuration file says.
    pub config: Config,
}

impl Settings {
    /// A core of that home.
    #[must_use]
    pub fn new(folders: Folders, config: Config) -> Self {
        Settings { folders, config }
    }

    fn socket(&self) -> PathBuf {
        self.folders.run.join("mqttcore.sock")
    }

    fn url_file(&self) -> PathBuf {
        self.folders.run.join("mqttcore.url")
    }

    fn password_file(&self) -> PathBuf {
        let folder = self.folders.stores.join("auth");
        folder.join(&self.config.password_file)
    }
}

/// Why a core does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Folders.
    #[error(transparent)]
    Folders(#[from] FolderError),
    /// Another core of this home.
    #[error("another core{} runs on {home}; stop it first", listen::pid_text(*pid))]
    Running {
        /// The home.
        home: PathBuf,
        /// Its process, where it can be asked.
        pid: Option<i32>,
    },
    /// The lock cannot be had.
    #[error("cannot lock {folder}")]
    Lock {
        /// The folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Keys, certificates or tokens.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The table of clients.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The core's own accounts cannot be kept.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// A door.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] tls::Unusable),
    /// The file that says where the core is.
    #[error("cannot say where the core is")]
    Url(#[from] AtomicError),
    /// The thread that prepares ended early.
    #[error("the start was interrupted")]
    Interrupted,
    /// The system gives no random numbers.
    #[error("no random numbers")]
    Random(#[from] rand::rand_core::OsError),
}

/// What is on disk before anything listens.
struct Prepared {
    lock: Flock<std::fs::File>,
    /// A moment by both clocks, before anything was made by them.
    clocks: (UnixTime, Instant),
    places: Places,
    credentials: Credentials,
    store: Store,
    grants: Grants,
}

/// Blocks.
fn prepare(settings: &Settings) -> Result<Prepared, StartError> {
    settings.folders.create()?;
    let passwords = settings.password_file();
    let folder = passwords.parent().unwrap_or(Path::new("/")).to_owned();
    atomic::create_folder(&folder, 0o700).map_err(StoreError::from)?;
    let lock = lock(&folder, settings)?;
    let store = store::open(&passwords)?;
    let mut places = Places {
        certs: settings.folders.certs.clone(),
        files: settings.config.files.clone(),
        host: settings.config.host.clone(),
        tokens: Vec::new(),
    };
    let clocks = (UnixTime::from(SystemTime::now()), Instant::now());
    let credentials = Credentials::prepare(&mut places, clocks.0)?;
    let grants = grants::open(&folder, &store.now());
    Ok(Prepared {
        lock,
        clocks,
        places,
        credentials,
        store,
        grants,
    })
}

fn lock(folder: &Path, settings: &Settings) -> Result<Flock<std::fs::File>, StartError> {
    let failed = |source| StartError::Lock {
        folder: folder.to_owned(),
        source,
    };
    let file = std::fs::File::open(folder).map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
        if error == nix::errno::Errno::EWOULDBLOCK {
            StartError::Running {
                home: settings.folders.home.clone(),
                pid: listen::listener(&settings.socket()),
            }
        } else {
            failed(error.into())
        }
    })
}

/// A running core. Dropped, it ends at once and without a goodbye.
pub struct Core {
    floor: Arc<Floor>,
    tasks: JoinSet<()>,
    url: String,
    ports: Ports,
    socket: PathBuf,
    files: Vec<PathBuf>,
    /// Tells the network; ends by itself when the tasks do.
    telling: Option<JoinHandle<()>>,
    _lock: Flock<std::fs::File>,
}

impl Core {
    /// Starts a core. When this returns it is ready: clients can log in, and `launcher.*` and `admin.*` are there.
    ///
    /// # Errors
    /// Why it does not start; nothing of it runs then.
    ///
    /// # Cancel safety
    /// When dropped, files may have been made; nothing runs.
    pub async fn start(settings: Settings) -> Result<Core, StartError> {
        let settings = Arc::new(settings);
        let preparing = Arc::clone(&settings);
        let Prepared {
            lock,
            clocks,
            places,
            credentials,
            store,
            grants,
        } = tokio::task::spawn_blocking(move || prepare(&preparing))
            .await
            .map_err(|_| StartError::Interrupted)??;
        let tokens = Tokens::new(credentials.hub_key(), settings.config.validity);
        let limits = settings.config.limits.clone();
        let auth = Auth::new(store, grants, tokens, Guesses::new(&limits));
        let (floor, jobs) = assemble(auth, limits)?;

        let mut tasks = JoinSet::new();
        keep_tables(&mut tasks, &floor.hub);
        tasks.spawn(service::serve(Arc::clone(&floor.hub), jobs));

        let own = credentials.profiles(&floor.hub.auth.tokens.validity);
        let identity = Arc::new(Identity::new(places, credentials.into_presence(), clocks)?);
        let names = identity.names();
        let (doors, ports) = open_ports(&settings.config, identity.front()).await?;
        let socket = settings.socket();
        let local = listen::path(&socket)?;
        let mut core = Core {
            url: discovery::url(&names.borrow().host, ports.tls),
            floor,
            tasks,
            ports,
            files: vec![socket.clone()],
            socket,
            telling: None,
            _lock: lock,
        };
        core.write_own_accounts(own, &identity).await?;
        let keeping = upkeep::keep_up(identity, Arc::clone(core.hub()));
        core.tasks.spawn(keeping);

        let floor = &core.floor;
        for (listener, entry) in doors {
            let task = listen::accept_network(Arc::clone(floor), listener, entry);
            core.tasks.spawn(task);
        }
        core.tasks
            .spawn(listen::accept_local(Arc::clone(floor), local));
        if let Some(name) = &settings.config.abstract_socket {
            core.open_abstract(name);
        }
        let Ports { web, loopback, .. } = ports;
        tracing::info!(url = core.url, web, loopback, socket = %core.socket.display(), "listening");
        let url_file = settings.url_file();
        core.files.push(url_file.clone());
        let url = core.url.clone();
        let file = url_file.clone();
        tokio::task::spawn_blocking(move || atomic::write(&file, url.as_bytes(), 0o644))
            .await
            .map_err(|_| StartError::Interrupted)??;
        let telling = discovery::tell(names, ports.tls, settings.config.announced, url_file);
        core.telling = Some(tokio::spawn(telling));
        Ok(core)
    }

    fn open_abstract(&mut self, name: &str) {
        match listen::abstract_socket(name) {
            Ok(listener) => {
                let task = listen::accept_local(Arc::clone(&self.floor), listener);
                self.tasks.spawn(task);
            }
            // Another hub of this machine has it: plugins of this home find theirs by its socket file.
            Err(error) => tracing::warn!(error = crate::chain(&error), "going on without it"),
        }
    }

    /// `auth`, `launcher` and `admin` are clients before their tokens are there for all to see.
    async fn write_own_accounts(
        &self,
        own: [ClientProfile; 3],
        identity: &Arc<Identity>,
    ) -> Result<(), StartError> {
        let auth = &self.floor.hub.auth;
        let mut written = Vec::new();
        for profile in own.iter().filter(|own| own.client_id != bus::wire::AUTH) {
            let token = auth.tokens.issue(profile).map_err(CredentialError::from)?;
            written.push((profile.client_id.clone(), token));
        }
        let change = service::register_own(auth, own);
        auth.store.kept(change).await?;
        let identity = Arc::clone(identity);
        tokio::task::spawn_blocking(move || identity.write_tokens(&written))
            .await
            .map_err(|_| StartError::Interrupted)??;
        Ok(())
    }

    /// Where clients reach it: `tcp://{host}:{port}`, as the original writes it (TLS in spite of the name).
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Port of MQTT over TLS.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports.tls
    }

    /// Port of MQTT in a secure websocket, where there is one.
    #[must_use]
    pub fn ws_port(&self) -> Option<u16> {
        self.ports.web
    }

    /// Where browsers reach it, where there is a websocket.
    #[must_use]
    pub fn ws_url(&self) -> Option<String> {
        let host = self.url.strip_prefix("tcp://")?.rsplit_once(':')?.0;
        self.ws_port().map(|port| format!("wss://{host}:{port}"))
    }

    /// Port of MQTT without TLS, for this machine, where there is one.
    #[must_use]
    pub fn loopback_port(&self) -> Option<u16> {
        self.ports.loopback
    }

    /// The socket file.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What the parts share.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.floor.hub
    }

    /// Ends: clients get a DISCONNECT 0x8B, those that do not read it are cut. Takes 90 ms at most.
    ///
    /// # Cancel safety
    /// When dropped, the rest is done without a goodbye.
    pub async fn stop(mut self) {
        // No new ones; also ends the service, whose unanswered requests are lost as with any end of a core.
        self.tasks.abort_all();
        for connection in self.hub().connections.all() {
            if connection.is_logged_in() {
                connection.ask_to_leave(Why::ShuttingDown);
            } else {
                connection.cut.cut();
            }
        }
        let _ = tokio::time::timeout(GOODBYE, self.empty()).await;
        for connection in self.hub().connections.all() {
            connection.cut.cut();
        }
        let _ = tokio::time::timeout(CLEANUP, self.empty()).await;
        if let Some(telling) = self.telling.take() {
            let _ = tokio::time::timeout(discovery::TAKEN_BACK, telling).await;
        }
    }

    async fn empty(&self) {
        loop {
            let closed = self.floor.closed.notified();
            tokio::pin!(closed);
            closed.as_mut().enable();
            if self.hub().connections.count() == 0 {
                return;
            }
            closed.await;
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Their tasks are their own; without this they would go on without a core.
        for connection in self.hub().connections.all() {
            connection.cut.cut();
        }
        if let Some(telling) = &self.telling {
            telling.abort();
        }
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Has clients and permissions written, and what others change in the file of clients take effect.
fn keep_tables(tasks: &mut JoinSet<()>, hub: &Arc<Hub>) {
    let judge = Arc::clone(hub);
    let taken_over = move |logins: Vec<String>| {
        let hub = Arc::clone(&judge);
        tokio::spawn(async move {
            for login in logins {
                hub.rejudge(&login, None).await;
            }
        });
    };
    tasks.spawn(Arc::clone(&hub.auth.store).keep(taken_over));
    tasks.spawn(Arc::clone(&hub.auth.store).watch());
    tasks.spawn(Arc::clone(&hub.auth.grants).keep(|_| {}));
}

/// Puts the parts of the library together (crates-mqtt §10).
fn assemble(auth: Auth, limits: Limits) -> Result<(Arc<Floor>, mpsc::Receiver<Job>), StartError> {
    let secret = rand::TryRngCore::try_next_u64(&mut rand::rngs::OsRng)?;
    let (jobs, waiting) = mpsc::channel(limits.waiting_requests);
    let queues = QueueLimits {
        max_messages: limits.queued_messages,
        max_bytes: limits.queued_bytes,
    };
    let router = MessageRouter::new()
        .with_fallback_queue_limits(queues)
        .with_retained_limits(limits.retained_messages, limits.retained_bytes);
    let hub = Arc::new(Hub {
        auth,
        connections: Connections::new(&limits),
        router: Arc::new(router),
        numbers: Arc::new(Numbers::new(secret, limits.packet_bytes)),
        refusals: Refusals::default(),
        jobs,
        shared: Mutex::default(),
        limits,
    });
    let limits = &hub.limits;
    let reports = Reports {
        hub: Arc::downgrade(&hub),
    };
    let broker = BrokerConfig {
        max_packet_size: limits.packet_bytes + hub.numbers.stamp.overhead(),
        topic_alias_maximum: 0,
        session_expiry_interval: Duration::ZERO,
        server_receive_maximum: Some(limits.in_flight),
        client_channel_capacity: 128,
        max_outbound_inflight: backlog::WINDOW,
        max_subscriptions_per_client: limits.subscriptions,
        sys_topics_enabled: false,
        event_handler: Some(Arc::new(reports)),
        ..BrokerConfig::default()
    };
    let login_limit = limits.login;
    let resources = ResourceLimits {
        max_connections: usize::MAX,
        max_connections_per_ip: usize::MAX,
        max_message_rate_per_client: 0,
        max_bandwidth_per_client: 0,
        max_connection_rate: u32::MAX,
        rate_limit_window: Duration::from_secs(1),
    };
    let floor = Floor {
        hub,
        broker: Arc::new(broker),
        stats: Arc::new(BrokerStats::new()),
        monitor: Arc::new(ResourceMonitor::new(resources)),
        login_limit,
        closed: Notify::new(),
        endings: AtomicU64::new(0),
    };
    Ok((Arc::new(floor), waiting))
}

#[cfg(test)]
mod tests;
