//! Reads `launcher.yaml` again while the launcher runs (spec §4).
//!
//! Invariants: what takes effect only when the launcher is started anew is told, and left as it is until then: in the plans
//! that are given out the core is the one that was started; the thread of the actors never waits for the disk.

use crate::app::config::{self, Config, CredsConfig, last_good};
use crate::app::paths::Folders;
use actors::hub::Hub;
use actors::ports::{BoxFuture, Configuration, Loaded};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use supervision::policy::StartPolicy;

/// The configuration file of this launcher.
pub(super) struct FileAgain {
    folders: Arc<Folders>,
    /// What the launcher was started with.
    started_with: Arc<Config>,
    /// The content of the file that loaded last.
    content: Arc<Mutex<Option<Vec<u8>>>>,
}

impl FileAgain {
    pub(super) fn new(folders: &Folders, started_with: &Config) -> Self {
        FileAgain {
            folders: Arc::new(folders.clone()),
            started_with: Arc::new(started_with.clone()),
            content: Arc::default(),
        }
    }

    /// From now on what comes into force is kept as the last good configuration, and a launcher that ran on that one
    /// runs as its file says again.
    pub(super) fn follow(&self, hub: &Arc<Hub>) {
        let mut plans = hub.plans_to_come();
        let (hub, folders, content) = (hub.clone(), self.folders.clone(), self.content.clone());
        tokio::spawn(async move {
            while plans.changed().await.is_ok() {
                hub.recover(&format!("{} is in force", folders.config_file.display()));
                let loaded = lock(&content).clone();
                if loaded.is_some() {
                    keep_as_good(&folders, loaded);
                }
            }
        });
    }
}

impl Configuration for FileAgain {
    fn load(&self) -> BoxFuture<Result<Loaded, String>> {
        let (folders, started_with) = (self.folders.clone(), self.started_with.clone());
        let content = self.content.clone();
        Box::pin(async move {
            let read = move || {
                let whole = config::load_again(&folders).map_err(|wrong| wrong.to_string())?;
                let loaded = loaded(&folders, &started_with, whole.config)?;
                *lock(&content) = whole.content;
                Ok(loaded)
            };
            tokio::task::spawn_blocking(read)
                .await
                .unwrap_or_else(|gone| Err(format!("reading the configuration failed: {gone}")))
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Replaced in one step, so whole even when a holder panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps what is in force, in its own time.
pub(super) fn keep_as_good(folders: &Folders, content: Option<Vec<u8>>) {
    let folders = folders.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = last_good::keep(&folders, content.as_deref()) {
            let error = anyhow::Error::from(error);
            tracing::warn!("the configuration is not kept as the last good one: {error:#}");
        }
    });
}

fn loaded(folders: &Folders, started_with: &Config, mut now: Config) -> Result<Loaded, String> {
    let at_restart = at_restart(started_with, &now);
    // The core that runs is told nothing that was meant for another one.
    now.core.clone_from(&started_with.core);
    let plans = now.plans(folders).map_err(|wrong| {
        let file = folders.config_file.display();
        format!("{file}: {wrong}")
    })?;
    Ok(Loaded { plans, at_restart })
}

/// The keys whose new value waits for a new launcher, sorted.
fn at_restart(before: &Config, now: &Config) -> Vec<String> {
    // Taken apart, so that no key can be added without a word on when it takes effect.
    let Config {
        log_level,
        log_to_file,
        core,
        log_plugins,
        attach_stderr,
        attach_stdout,
        cgroups,
        create_plugin_cred,
        creds,
        autostart: _,
        restart: _,
        stop: _,
        start,
        logs,
        sampling: _,
        limits: _,
        events_spool,
        plugins: _,
    } = before;
    let CredsConfig {
        client_cert,
        cert_days,
        renew_at,
    } = creds;
    let StartPolicy {
        timeout: _,
        parallel,
    } = start;
    let renews_alike = (renew_at - now.creds.renew_at).abs() < f64::EPSILON;
    let keys = [
        ("attachstderr", *attach_stderr != now.attach_stderr),
        ("attachstdout", *attach_stdout != now.attach_stdout),
        ("cgroups", *cgroups != now.cgroups),
        ("corebin", *core != now.core),
        (
            "createPluginCred",
            *create_plugin_cred != now.create_plugin_cred,
        ),
        ("creds.certDays", *cert_days != now.creds.cert_days),
        ("creds.clientCert", *client_cert != now.creds.client_cert),
        ("creds.renewAt", !renews_alike),
        ("events.spool", *events_spool != now.events_spool),
        ("logLevel", *log_level != now.log_level),
        ("logplugins", *log_plugins != now.log_plugins),
        ("logs (of launcher.log)", *logs != now.logs),
        ("logtofile", *log_to_file != now.log_to_file),
        ("start.parallel", *parallel != now.start.parallel),
    ];
    let changed = keys.into_iter().filter(|(_, changed)| *changed);
    changed.map(|(key, _)| key.to_owned()).collect()
}
