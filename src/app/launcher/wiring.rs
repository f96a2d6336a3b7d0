//! Puts the launcher together: ports, hub, bridge.
//!
//! Invariant: what a killed predecessor left is ended before anything of ours can start (never two copies, spec §12).

use super::{LogLevel, Settings};
use crate::app::config::Config;
use crate::app::paths::Folders;
use actors::bridge::{BridgeArgs, BusAccounts};
use actors::control::{ControlArgs, Signals};
use actors::desk::Desk;
use actors::host::{
    Attached, ForeignFinder, HostProcesses, OutputPlan, SpawnConfig, TreeMeter, end_leftovers,
};
use actors::hub::{CoreSetup, Hub, HubParts, Node, Stage};
use actors::inventory;
use actors::link::Link;
use actors::memory::{DiskMemory, LiveRuns};
use actors::news::News;
use actors::ports::{Clock, FileFacts, Memory, Ports};
use actors::prepare::{ClientCertificates, Credentials, DiskPreparer, OwnLogin, PrepareConfig};
use anyhow::{Context, anyhow};
use bus::client::{Client, Endpoint, Options, connect_forever};
use bus::topics::rpc_filter;
use bus::wire::{MANAGE, READ};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};

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
    pub(super) after: After,
}

/// What is left to do when all actors have ended.
pub(super) struct After {
    memory: Arc<DiskMemory>,
    live: Arc<LiveRuns>,
    processes: Arc<HostProcesses>,
    client: Client,
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
    let (memory, live) = take_over(folders, config).await?;
    let host = os::Host::start(os::HostConfig {
        home: folders.home.clone(),
    })?;
    let server = server(settings)?;
    let run_began = Arc::new(Notify::new());
    let bridge = bridge(folders, server.as_ref(), &run_began);
    let desk = Desk::default();
    let processes = Arc::new(HostProcesses::new(
        Arc::new(host),
        plane.clone(),
        live.clone(),
        desk.clone(),
        spawn_config(folders, config, level, server.as_ref()),
    ));
    let plans = config.plans(folders)?;
    let core_path = core.as_ref().map(|file| file.path.clone());
    let preparer = Arc::new(DiskPreparer::new(
        prepare_config(folders, config, core_path.clone()),
        Arc::new(accounts(folders, &bridge)),
        Arc::new(ForeignFinder {
            home: folders.home.clone(),
        }),
        processes.readiness(),
        desk,
    ));
    let inventory = inventory::Folders::new(folders.plugins.clone(), core_path, &plans);
    let hub = Hub::new(HubParts {
        ports: Ports {
            processes: processes.clone(),
            preparer: preparer.clone(),
            herald: bridge.news.clone(),
            memory: memory.clone(),
            clock: Clock::default(),
        },
        plans,
        inventory: Arc::new(inventory),
        meter: Arc::new(TreeMeter::default()),
        renewer: preparer,
        core: core.map_or(CoreSetup::Elsewhere, CoreSetup::Own),
        run_began,
        node: Node {
            client_id: folders.client_id.clone(),
            plugins_folder: folders.plugins.clone(),
        },
    });
    let after = After {
        memory,
        live,
        processes: processes.clone(),
        client: bridge.client.clone(),
    };
    Ok(Wired {
        hub,
        bridge,
        control: control(signals),
        after,
    })
}

fn control(signals: Signals) -> ControlArgs {
    ControlArgs {
        tell_systemd: Arc::new(tell_systemd),
        signals,
    }
}

/// The way to the bus; tried from now on.
fn bridge(folders: &Folders, server: Option<&Endpoint>, run_began: &Arc<Notify>) -> BridgeArgs {
    let (client, incoming) = connect_forever(options(folders, server));
    BridgeArgs {
        client,
        incoming: Arc::new(tokio::sync::Mutex::new(incoming)),
        news: News::new(run_began.clone()),
        link: Arc::new(watch::Sender::new(Link::default())),
    }
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
) -> anyhow::Result<(Arc<DiskMemory>, Arc<LiveRuns>)> {
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
    let marks = end_leftovers(
        &folders.home,
        &folders.run_private(),
        &live,
        config.stop.signal,
        config.stop.grace,
    )
    .await
    .map_err(|text| anyhow!("{text}; nothing is started beside it"))?;
    for mark in &marks {
        memory.keep_run(mark.id(), mark.run());
    }
    Ok((Arc::new(memory), live))
}

/// The core's file; its absence ends the start with the original's words (HP 1.5).
fn find_core(folders: &Folders, config: &Config) -> anyhow::Result<Option<FileFacts>> {
    let Some(name) = &config.core_bin else {
        return Ok(None);
    };
    let path = folders
        .find_core(name)
        .map_err(|missing| anyhow!("{missing}\nhint: {}", missing.way_out(folders)))?;
    let file = inventory::facts_of(&path, name)
        .map_err(|unfit| anyhow!("the core {} cannot be run: {unfit}", path.display()))?;
    Ok(Some(file))
}

fn server(settings: &Settings) -> anyhow::Result<Option<Endpoint>> {
    let server = settings.server.as_deref().map(str::parse::<Endpoint>);
    server.transpose().context("--server cannot be used")
}

fn options(folders: &Folders, server: Option<&Endpoint>) -> Options {
    let me = &folders.client_id;
    let credentials = bus::hub::credentials(&folders.certs, me);
    let mut options = Options::new(me, Vec::new(), credentials)
        .subscribe(rpc_filter(me, MANAGE))
        .subscribe(rpc_filter(me, READ));
    options.endpoints = match server {
        Some(server) => bus::hub::only(server.clone()),
        None => bus::hub::endpoints(&folders.run, None),
    };
    options
}

fn prepare_config(folders: &Folders, config: &Config, core: Option<PathBuf>) -> PrepareConfig {
    let after_server = core.is_some();
    PrepareConfig {
        plugins: folders.plugins.clone(),
        core,
        home: folders.home.clone(),
        credentials: if config.create_plugin_cred {
            Credentials::Made {
                certs: folders.certs.clone(),
                renew_at: config.creds.renew_at,
                certificates: config.creds.client_cert.then_some(ClientCertificates {
                    life: DAY * config.creds.cert_days,
                    renew_at: config.creds.renew_at,
                    after_server,
                }),
            }
        } else {
            Credentials::AreThere
        },
        own: OwnLogin {
            certs: folders.certs.clone(),
            login: folders.client_id.clone(),
            renew_at: config.creds.renew_at,
        },
    }
}

fn spawn_config(
    folders: &Folders,
    config: &Config,
    level: &LogLevel,
    server: Option<&Endpoint>,
) -> SpawnConfig {
    let core = Endpoint::Unix(folders.run.join(bus::hub::SOCKET));
    let url = server.unwrap_or(&core).to_string();
    SpawnConfig {
        home: folders.home.clone(),
        plugins: folders.plugins.clone(),
        private: folders.run_private(),
        log_level: level.to_string(),
        server: Arc::new(move || Some(url.clone())),
        parallel: config.start.parallel,
        output: OutputPlan {
            to_file: config.log_plugins,
            stdout: attached(config.attach_stdout, std::io::stdout().is_terminal()),
            stderr: attached(config.attach_stderr, std::io::stderr().is_terminal()),
        },
    }
}

fn attached(wanted: bool, terminal: bool) -> Attached {
    match (wanted, terminal) {
        (false, _) => Attached::No,
        (true, true) => Attached::ToTerminal,
        (true, false) => Attached::Elsewhere,
    }
}

/// Tells systemd; without it nothing happens.
fn tell_systemd(stage: Stage) {
    let told = match stage {
        Stage::Beginning => Ok(()),
        Stage::Starting => os::notify::status("starting the core and the plugins"),
        Stage::Up => os::notify::ready().and_then(|()| os::notify::status("up")),
        Stage::Ending => os::notify::stopping(),
    };
    if let Err(error) = told {
        tracing::warn!("systemd could not be told: {error}");
    }
}
