//! The launcher's life: from its command line to its exit code.
//!
//! Invariants: nothing is started before what a killed predecessor left is ended; whatever fails is said on stderr or in
//! the log with a way out; the exit code tells how it ended (spec §3).

use super::check;
use super::in_force::{self, Unusable};
use super::logging;
use super::reload::keep_as_good;
use super::wiring::{self, Wired};
use super::{ExitCode, Settings};
use crate::app::config::{self, Config, sample};
use crate::app::paths::{Folders, PathError, Surroundings};
use actors::control::Signals;
use actors::hub::Stage;
use actors::message::Ending;
use actors::root::{Root, RootArgs};
use anyhow::Context;
use os::lock::Lock;
use std::ffi::OsString;
use std::time::{Duration, SystemTime};
use tokio::sync::{oneshot, watch};

/// How long the logs may take to be written when everything else has ended.
const LOGS_PATIENCE: Duration = Duration::from_secs(2);

/// A file that was written for so long was left behind by a writer that is gone.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

/// Pauses after everything was told to start: after the first most of it has, after the others so have a thousand.
const AFTER_START: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(9),
    Duration::from_secs(50),
];

/// Runs the launcher with these arguments (`argv[0]` included) and this environment.
///
/// To be called from `main` while there is one thread only.
pub fn run(
    argv: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<OsString>,
) -> ExitCode {
    let settings = match Settings::read(argv, env) {
        Ok(settings) => settings,
        Err(usage) => {
            // A closed stream is no reason to end otherwise.
            let _ = usage.print();
            return if usage.exit_code() == 0 {
                ExitCode::Clean
            } else {
                ExitCode::Usage
            };
        }
    };
    match resolve(&settings) {
        Ok(folders) if settings.check => check(&folders, &settings),
        Ok(folders) => start(&settings, &folders),
        Err(error) => {
            say(&format!("launcher: {error:#}"));
            ExitCode::Config
        }
    }
}

/// Says everything that is wrong.
fn check(folders: &Folders, settings: &Settings) -> ExitCode {
    let findings = check::check(folders, settings);
    // Whoever closed the streams still gets the exit code.
    let _ = findings.print(folders, &mut std::io::stdout(), &mut std::io::stderr());
    findings.exit_code()
}

fn resolve(settings: &Settings) -> anyhow::Result<Folders> {
    let around = Surroundings::of_this_process()?;
    Ok(Folders::resolve(&around, &settings.overrides)?)
}

/// What only the terminal or systemd's journal hears: before there is a log, or when it is not enough.
#[expect(
    clippy::print_stderr,
    reason = "the launcher's own word before its log is open"
)]
pub(super) fn say(text: &str) {
    eprintln!("{text}");
}

/// Why the launcher did not come up.
enum Failure {
    /// The configuration is wrong.
    Config(Unusable),
    /// The home is not one, or the folder of the configuration.
    Folders(PathError),
    /// Anything else.
    Start(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Start(error.into())
    }
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Config(_) | Failure::Folders(_) => ExitCode::Config,
            Failure::Start(_) => ExitCode::StartFailed,
        }
    }

    fn text(&self) -> String {
        match self {
            Failure::Config(Unusable { problems, note }) => match note {
                Some(note) => format!("{problems}\n{note}"),
                None => problems.to_string(),
            },
            Failure::Folders(error) => format!("launcher: {error}"),
            Failure::Start(error) => format!("launcher: {error:#}"),
        }
    }
}

fn start(settings: &Settings, folders: &Folders) -> ExitCode {
    match try_start(settings, folders) {
        Ok(code) => code,
        Err(failure) => {
            say(&failure.text());
            failure.exit_code()
        }
    }
}

/// What is done before there is anything to supervise, and after. Beside empty folders nothing is made in this home but by
/// the holder of its lock.
fn try_start(settings: &Settings, folders: &Folders) -> Result<ExitCode, Failure> {
    os::settle()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_start(os::keep_signals_away)
        .build()
        .context("cannot start the runtime")?;
    // First of all, so that whoever asks for the end while all is being put together is not overheard.
    let signals = {
        let _inside = runtime.enter();
        Signals::catch().context("cannot catch signals")?
    };
    folders.accept_home().map_err(Failure::Folders)?;
    folders.accept_config().map_err(Failure::Folders)?;
    folders.create()?;
    let lock = Lock::take(&folders.run_private().join("lock"))?;
    sweep_certs(folders);
    let plane = os::without_signals(|| {
        logs::Plane::start(logs::PlaneConfig {
            folder: folders.logs.clone(),
        })
    })?;
    let code = supervise(settings, folders, &plane, &runtime, signals);
    // The process ends. Taking a thousand actors apart would take longer than stopping their plugins, and blocking work
    // that hangs (a file of a dead server) would hold up the end.
    std::mem::forget(runtime);
    if let Err(failure) = &code {
        logging::only_in_the_file(&failure.text());
    }
    if !plane.shutdown(LOGS_PATIENCE) {
        say("launcher: the last lines of the logs could not be written");
    }
    drop(lock);
    code
}

/// Removes what writers that were killed left among the credentials. The core and its clients may be writing there right
/// now, so nothing young is touched.
fn sweep_certs(folders: &Folders) {
    creds::atomic::sweep(&folders.certs, SystemTime::now(), LEFT_BEHIND);
}

/// Runs everything on this thread until the launcher has ended.
fn supervise(
    settings: &Settings,
    folders: &Folders,
    plane: &logs::Plane,
    runtime: &tokio::runtime::Runtime,
    signals: Signals,
) -> Result<ExitCode, Failure> {
    let loaded = sample::first_start(folders)
        .with_context(|| format!("cannot write {}", folders.config_file.display()))
        .map_err(Failure::Start)
        .and_then(|_written| in_force::choose(folders).map_err(Failure::Config));
    // What is wrong with the configuration is to be found in the log, too, wherever that should have gone.
    let level = match &loaded {
        Ok(chosen) => settings.level_with(chosen.config.log_level.as_ref()),
        Err(_) => settings.level_with(None),
    };
    let fallback = Config::default();
    let for_log = loaded.as_ref().map_or(&fallback, |chosen| &chosen.config);
    logging::start(plane, for_log, &folders.client_id, &level);
    let chosen = loaded?;
    for word in &settings.ignored {
        tracing::warn!("'{word}' is no option and is ignored");
    }
    if let Err(error) = folders.accept_run() {
        // What needs no socket works all the same.
        tracing::error!("{error}");
    }
    match &chosen.trouble {
        Some(trouble) => tracing::error!("the configuration does not load:\n{}", trouble.problems),
        None => {
            if let Some(text) = config::without_file(folders) {
                tracing::warn!("{text}");
            }
        }
    }
    let code = runtime.block_on(async {
        let config = &chosen.config;
        let wired = wiring::wire(settings, folders, config, &level, plane, signals).await?;
        match chosen.trouble {
            Some(trouble) => wired.hub.degrade(&trouble.text),
            None => keep_as_good(folders, chosen.content),
        }
        live(wired).await
    });
    Ok(code?)
}

/// Gives back what was needed to come up, once that is over: two thirds of what was read of the program.
async fn let_go_of_start(mut stages: watch::Receiver<Stage>) {
    let up = stages.wait_for(|stage| match stage {
        Stage::Beginning | Stage::Starting => false,
        Stage::Up | Stage::Ending => true,
    });
    if up.await.is_err() {
        return;
    }
    for pause in AFTER_START {
        tokio::time::sleep(pause).await;
        let done = tokio::task::spawn_blocking(os::memory::let_go_of_start).await;
        if let Ok(Err(error)) = done {
            tracing::debug!("what the start needed stays in memory: {error}");
        }
    }
}

async fn live(wired: Wired) -> anyhow::Result<ExitCode> {
    let (ended, ending) = oneshot::channel();
    let args = RootArgs {
        hub: wired.hub,
        bridge: wired.bridge,
        control: wired.control,
        local: wired.local,
        ended,
    };
    wired.after.write_when_ending(&args.hub);
    tokio::spawn(let_go_of_start(args.hub.stages()));
    let _root = ractor::Actor::spawn(None, Root, args)
        .await
        .context("cannot start the root of the actors")?;
    let code = match ending.await {
        Ok(Ending::Clean) => ExitCode::Clean,
        Ok(Ending::LeftRunning(ids)) => {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            tracing::error!(
                "these could not be ended, not even by SIGKILL: {}",
                ids.join(", ")
            );
            ExitCode::LeftRunning
        }
        Ok(Ending::GaveUp(part)) => {
            tracing::error!(%part, "the launcher ends; what runs is left to the next launcher");
            ExitCode::StartFailed
        }
        Err(_dropped) => {
            tracing::error!(
                "the root of the actors failed; what runs is left to the next launcher"
            );
            ExitCode::StartFailed
        }
    };
    wired.after.finish().await;
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::paths::testing::home;

    #[test]
    fn what_a_killed_writer_left_among_the_credentials_is_removed() {
        let (_temp, folders) = home();
        let old = folders.certs.join(".a.key.x1y2z3.new");
        let young = folders.certs.join(".b.key.x1y2z3.new");
        let key = folders.certs.join("a.key");
        for path in [&old, &young, &key] {
            let file = std::fs::File::create(path).expect("made");
            if path != &young {
                let before = SystemTime::now() - 2 * LEFT_BEHIND;
                file.set_modified(before).expect("set");
            }
        }
        sweep_certs(&folders);
        assert!(!old.exists() && young.exists() && key.exists());
    }
}
