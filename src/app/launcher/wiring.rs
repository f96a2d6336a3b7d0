//! Puts the launcher together: ports, hub, bridge.
//!
//! Invariant: what a killed predecessor left is ended before anything of ours can start (never two copies, spec §12).

use super::bus_url::BusUrl;
use super::local::LocalSocket;
use super::reload::FileAgain;
use super::systemd::{tell_reload, tell_systemd};
use super::{LogLevel, Settings};
use crate::app::config::{Config, CoreAuth};
use crate::app::paths::Folders;
use actors::bridge::{BridgeArgs, BusAccounts, ready_filters};
use actors::control::{ControlArgs, Signals};
use actors::desk::Desk;
use actors::host::{
    Attached, ForeignFinder, HostProcesses, OutputPlan, ServerUrl, SpawnConfig, TreeMeter,
    end_leftovers,
};
use actors::hub::{CoreSetup, Hub, HubParts, Node, Stage};
use actors::inventory;
use actors::link::Link;
use actors::local::LocalArgs;
use actors::memory::{DiskMemory, LiveRuns};
use actors::news::News;
use actors::ports::{Clock, FileFacts, Memory, Ports, Teller};
use actors::prepare::{
    ClientCertificates, Credentials, DiskPreparer, OwnLogin, PlainCore, PrepareConfig, Stuck,
};
use anyhow::{Context, anyhow};
use bus::client::{Client, Endpoint, Network, Options, connect_forever};
use bus::topics::rpc_filter;
use bus::wire::{MANAGE, READ};
use creds::ca::ClientLife;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// The login of the operator (HP 1.20).
const ADMIN: &str = "admin";

/// The unit of `creds.certDays`.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long the last records may take to be written when everything else has ended.
const DISK_PATIENCE: Duration = Duration::from_secs(2);

/// How much of that may be spent on what ended runs left behind.
const DESK_PATIENCE: Duration = Duration::from_secs(1);

/// Everything, put together.
pub(super) struct Wired {
    pub(super) hub: Arc<Hub>,
    pub(super) bridge: BridgeArgs,
    pub(super) control: ControlArgs,
    pub(super) local: Option<LocalArgs>,
    pub(super) after: After,
}

/// What is left to do when all actors have ended.
pub(super) struct After {
    memory: Arc<DiskMemory>,
    live: Arc<LiveRuns>,
    processes: Arc<HostProcesses>,
    client: Client,
    _left: BusUrl,
    _socket: LocalSocket,
}

impl After {
    /// Has the disk take what there is to keep while everything is being stopped: then little is left for
    /// [`After::finish`] to wait for.
    pub(super) fn write_when_ending(&self, hub: &Hub) {
        let (memory, mut stages) = (self.memory.clone(), hub.stages());
        tokio::spawn(async move {
            if stages
                .wait_for(|stage| *stage == Stage::Ending)
                .await
                .is_ok()
            {
                // What fails now is tried again, and told, at the end.
                let _ = memory.flush().await;
            }
        });
    }

    /// Writes what is not written yet and says goodbye to the bus.
    pub(super) async fn finish(self) {
        self.client.close().await;
        // A disk that hangs must not hold up the end, nor a look at a plugin's files what is to be kept.
        let until = tokio::time::Instant::now() + DISK_PATIENCE;
        let kept = tokio::time::timeout_at(until, self.memory.flush());
        let live = async {
            // Before their records are: the ends of runs come from there. FIFOs that stay are removed by the next launcher.
            let _ = tokio::time::timeout(DESK_PATIENCE, self.processes.tidied()).await;
            tokio::time::timeout_at(until, self.live.flush()).await
        };
        let (kept, live) = tokio::join!(kept, live);
        for written in [kept, live] {
            let written =
                written.unwrap_or_else(|_elapsed| Err("the disk does not answer".to_owned()));
            if let Err(text) = written {
                tracing::error!("not everything is kept for the next start: {text}");
            }
        }
    }
}

/// Puts everything together and ends what a predecessor left.
///
/// # Errors
/// The first thing that cannot be had, with the way out.
pub(super) async fn wire(
    settings: &Settings,
    folders: &Folders,
    config: &Config,
    level: &LogLevel,
    plane: &logs::Plane,
    signals: Signals,
) -> anyhow::Result<Wired> {
    let core = find_core(folders, config)?;
    let (memory, live, stuck) = take_over(folders, config).await?;
    let home = folders.home.clone();
    let host = start_host(folders, config)?;
    let places = Places::of(settings, config)?;
    let (bridge, run_began) = bridge(folders, &places, config);
    let desk = Desk::default();
    let finder = Arc::new(ForeignFinder { home });
    let processes = Arc::new(HostProcesses::new(
        Arc::new(host),
        plane.clone(),
        live.clone(),
        desk.clone(),
        spawn_config(folders, config, level, &places),
    ));
    let plans = config.plans(folders)?;
    let core_path = core.as_ref().map(|file| file.path.clone());
    let preparer = Arc::new(DiskPreparer::new(
        prepare_config(folders, config, core_path.clone(), stuck),
        Arc::new(accounts(folders, &bridge)),
        finder,
        processes.readiness(),
        desk,
    ));
    let inventory = inventory::Folders::new(folders.plugins.clone(), core_path, &plans);
    let file = Arc::new(FileAgain::new(folders, config));
    let (socket, local) = LocalSocket::open(folders);
    let hub = Hub::new(HubParts {
        ports: Ports {
            processes: processes.clone(),
            preparer: preparer.clone(),
            herald: bridge.news.clone(),
            memory: memory.clone(),
            clock: Clock::default(),
        },
        plans,
        configuration: file.clone(),
        inventory: Arc::new(inventory),
        meter: Arc::new(TreeMeter::default()),
        renewer: preparer,
        core: core.map_or(CoreSetup::Elsewhere, CoreSetup::Own),
        run_began,
        node: node(folders),
    });
    file.follow(&hub);
    let after = After {
        memory,
        live,
        processes: processes.clone(),
        client: bridge.client.clone(),
        _left: BusUrl::leave(folders, places.named())?,
        _socket: socket,
    };
    Ok(Wired {
        hub,
        bridge,
        control: control(signals),
        local,
        after,
    })
}

fn node(folders: &Folders) -> Node {
    Node {
        client_id: folders.client_id.clone(),
        plugins_folder: folders.plugins.clone(),
    }
}

/// Starts what starts processes, and says how it knows them.
fn start_host(folders: &Folders, config: &Config) -> anyhow::Result<os::Host> {
    let host = os::Host::start(os::HostConfig {
        home: folders.home.clone(),
        cgroups: config.cgroups,
    })?;
    tracing::info!("{}", host.tree_mode());
    Ok(host)
}

fn control(signals: Signals) -> ControlArgs {
    ControlArgs {
        tell_systemd: Arc::new(tell_systemd),
        tell_reload: Arc::new(tell_reload),
        signals,
    }
}

/// The way to the bus, tried from now on; it comes with the bell that rings for each run.
fn bridge(folders: &Folders, places: &Places, config: &Config) -> (BridgeArgs, Arc<Notify>) {
    let by_bus = config
        .plugins
        .iter()
        .filter(|(_, plugin)| plugin.ready == Teller::Login);
    let mut options = options(folders, places);
    options
        .subscriptions
        .extend(ready_filters(by_bus.map(|(id, _)| id)));
    let (client, incoming) = connect_forever(options);
    let run_began = Arc::new(Notify::new());
    let bridge = BridgeArgs {
        client,
        incoming: Arc::new(tokio::sync::Mutex::new(incoming)),
        news: News::with_room(config.events_spool, run_began.clone()),
        link: Arc::new(watch::Sender::new(Link::default())),
    };
    (bridge, run_began)
}

/// The accounts of the bus, which our own login may see.
fn accounts(folders: &Folders, bridge: &BridgeArgs) -> BusAccounts {
    BusAccounts {
        client: bridge.client.clone(),
        login: folders.client_id.clone(),
        link: bridge.link.clone(),
    }
}

/// Opens what is kept over restarts and ends what a predecessor left running.
async fn take_over(
    folders: &Folders,
    config: &Config,
) -> anyhow::Result<(Arc<DiskMemory>, Arc<LiveRuns>, Vec<Stuck>)> {
    let (store, was_open) = folders.own_store()?;
    if was_open {
        tracing::warn!(
            "others could write in {}: it is closed to them now; look with hubcli ls whether what is enabled is what you want",
            store.display()
        );
    }
    let (memory, notices) = DiskMemory::open(&store)?;
    let (live, more) = LiveRuns::open(&folders.run_private())?;
    for notice in notices.iter().chain(&more) {
        tracing::error!("{notice}");
    }
    let live = Arc::new(live);
    // Run numbers are written a moment later than records, and those a moment after the start; a launcher that was killed
    // in between must not repeat one.
    for run in live.all() {
        memory.keep_run(&run.id, run.run);
    }
    let left = end_leftovers(
        &folders.home,
        &folders.run_private(),
        &live,
        config.stop.signal,
        config.stop.grace,
    )
    .await
    .map_err(|text| anyhow!("{text}; nothing is started beside it"))?;
    for mark in &left.marks {
        memory.keep_run(mark.id(), mark.run());
    }
    Ok((Arc::new(memory), live, left.stuck))
}

/// The core's file; its absence ends the start with the original's words (HP 1.5).
fn find_core(folders: &Folders, config: &Config) -> anyhow::Result<Option<FileFacts>> {
    let Some(core) = &config.core else {
        return Ok(None);
    };
    let path = core
        .find(folders)
        .map_err(|missing| anyhow!("{missing}\nhint: {}", missing.way_out(folders)))?;
    let file = inventory::facts_of(&path, core.name())
        .map_err(|unfit| anyhow!("the core {} cannot be run: {unfit}", path.display()))?;
    Ok(Some(file))
}

/// Where the bus is.
enum Places {
    /// Where a core of a hub's own folders is.
    Usual,
    /// There, or where the network says that there is a hub: we run no core, and nobody named one (HP 1.11).
    Anywhere(Arc<FoundHub>),
    /// There and nowhere else.
    Only(Endpoint),
    /// There, at a core that we run and that knows logins by their certificates only.
    Plain(Endpoint),
}

impl Places {
    /// The one that was named to us.
    fn named(&self) -> Option<&Endpoint> {
        match self {
            Places::Plain(url) | Places::Only(url) => Some(url),
            Places::Usual | Places::Anywhere(_) => None,
        }
    }

    /// What the command line says goes before the file.
    fn of(settings: &Settings, config: &Config) -> anyhow::Result<Places> {
        let given = settings.server.as_deref().map(str::parse::<Endpoint>);
        if let Some(given) = given.transpose().context("--server cannot be used")? {
            return Ok(Places::Only(given));
        }
        let core = config.core.as_ref();
        let url = core.and_then(|core| core.url.clone());
        Ok(match (core.map(|core| core.auth), url) {
            (Some(CoreAuth::Certificate), Some(url)) => Places::Plain(url),
            (Some(CoreAuth::Token) | None, Some(url)) => Places::Only(url),
            (Some(CoreAuth::Certificate | CoreAuth::Token), None) => Places::Usual,
            (None, None) => Places::Anywhere(Arc::default()),
        })
    }
}

/// The hub that was found on the network and let us log in last.
#[derive(Debug, Default)]
struct FoundHub(Mutex<Option<Endpoint>>);

impl FoundHub {
    fn get(&self) -> Option<Endpoint> {
        self.lock().clone()
    }

    fn set(&self, place: &Endpoint) {
        let before = self.lock().replace(place.clone());
        if before.as_ref() != Some(place) {
            tracing::info!("using the hub at {place}, found on the network");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Endpoint>> {
        // Replaced in one step, so whole even when a holder panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bus that hangs, or is at the other end of a dead line, is noticed within two of these. The original's 60 s (HP 1.12)
/// would leave an operator without the reason for two minutes.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

fn options(folders: &Folders, places: &Places) -> Options {
    let me = &folders.client_id;
    let credentials = match places {
        Places::Usual | Places::Anywhere(_) | Places::Only(_) => {
            bus::hub::credentials(&folders.certs, me)
        }
        Places::Plain(_) => bus::hub::certificate_only(&folders.certs, me),
    };
    let mut options = Options::new(me, Vec::new(), credentials)
        .subscribe(rpc_filter(me, MANAGE))
        .subscribe(rpc_filter(me, READ));
    options.keep_alive = KEEP_ALIVE;
    options.endpoints = match places {
        Places::Only(server) | Places::Plain(server) => bus::hub::only(server.clone()),
        Places::Usual => bus::hub::endpoints(&folders.run, None),
        Places::Anywhere(found) => {
            let found = Arc::clone(found);
            options.network = Some(Network {
                may_search: Arc::new(|| true),
                used: Arc::new(move |place| found.set(place)),
            });
            bus::hub::endpoints(&folders.run, None)
        }
    };
    options
}

fn prepare_config(
    folders: &Folders,
    config: &Config,
    core: Option<PathBuf>,
    stuck: Vec<Stuck>,
) -> PrepareConfig {
    let after_server = core.is_some();
    let plain_core = plain_core(folders, config);
    PrepareConfig {
        plugins: folders.plugins.clone(),
        core,
        home: folders.home.clone(),
        credentials: if config.create_plugin_cred {
            Credentials::Made {
                certs: folders.certs.clone(),
                renew_at: config.creds.renew_at,
                tokens: plain_core.is_none(),
                certificates: config.creds.client_cert.then_some(ClientCertificates {
                    life: DAY * config.creds.cert_days,
                    renew_at: config.creds.renew_at,
                    after_server,
                }),
            }
        } else {
            Credentials::AreThere
        },
        plain_core,
        own: OwnLogin {
            certs: folders.certs.clone(),
            login: folders.client_id.clone(),
            renew_at: config.creds.renew_at,
        },
        written: [
            &folders.home,
            &folders.certs,
            &folders.logs,
            &folders.stores,
            &folders.run,
        ]
        .map(Clone::clone)
        .to_vec(),
        stuck,
    }
}

/// What a core needs that has no auth service and makes no certificates.
fn plain_core(folders: &Folders, config: &Config) -> Option<PlainCore> {
    let url = config.core.as_ref()?.plain_url()?;
    let host = match url {
        Endpoint::Tls { host, .. } => host.clone(),
        Endpoint::Unix(_) | Endpoint::Abstract(_) => return None,
    };
    let hostname = nix::unistd::gethostname().ok();
    Some(PlainCore {
        certs: folders.certs.clone(),
        hostname: hostname
            .and_then(|name| name.into_string().ok())
            .unwrap_or_default(),
        host,
        logins: vec![
            (folders.client_id.clone(), "service"),
            (ADMIN.to_owned(), ADMIN),
        ],
        life: ClientLife {
            life: DAY * config.creds.cert_days,
            renew_at: config.creds.renew_at,
        },
    })
}

fn spawn_config(
    folders: &Folders,
    config: &Config,
    level: &LogLevel,
    places: &Places,
) -> SpawnConfig {
    let own = Endpoint::Unix(folders.run.join(bus::hub::SOCKET));
    let server: ServerUrl = match places {
        Places::Only(place) | Places::Plain(place) => url_of(place.clone()),
        Places::Usual => url_of(own),
        Places::Anywhere(found) => {
            let found = Arc::clone(found);
            let socket = folders.run.join(bus::hub::SOCKET);
            // Who is started while there is none has to look for itself.
            Arc::new(move || {
                let own = || socket.exists().then(|| own.to_string());
                found.get().map(|place| place.to_string()).or_else(own)
            })
        }
    };
    SpawnConfig {
        home: folders.home.clone(),
        plugins: folders.plugins.clone(),
        private: folders.run_private(),
        notify: folders.run.join("notify"),
        logs: folders.logs.clone(),
        log_level: level.to_string(),
        server,
        parallel: config.start.parallel,
        output: OutputPlan {
            to_file: config.log_plugins,
            stdout: attached(config.attach_stdout, std::io::stdout().is_terminal()),
            stderr: attached(config.attach_stderr, std::io::stderr().is_terminal()),
        },
    }
}

fn url_of(place: Endpoint) -> ServerUrl {
    Arc::new(move || Some(place.to_string()))
}

fn attached(wanted: bool, terminal: bool) -> Attached {
    match (wanted, terminal) {
        (false, _) => Attached::No,
        (true, true) => Attached::ToTerminal,
        (true, false) => Attached::Elsewhere,
    }
}
