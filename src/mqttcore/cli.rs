//! The program: command line, log, signals, exit code (HP 1.3, spec §3).
//!
//! Invariant: standard output carries the line of readiness, then where the websocket is, and nothing else.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::config::{Config, ConfigError};
use crate::core::{Core, Settings, StartError};
use crate::folders::{Folders, Whereabouts};

/// Bad configuration, as sysexits(3) has it.
const EX_CONFIG: u8 = 78;
const EX_USAGE: u8 = 2;

/// The embedded core of a HiveOT hub: MQTT 5 broker and auth service.
#[derive(Debug, Parser)]
#[command(name = "mqttcore", version)]
struct Arguments {
    /// The hub's home; default: the folder above that of this program
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,
    /// Folder of configuration files; default: {home}/config
    #[arg(long, value_name = "DIR")]
    config: Option<PathBuf>,
    /// Configuration file; default: {config}/{clientID}.yaml
    #[arg(long = "configFile", value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// Name under which it runs; default: the name it was called by
    #[arg(long = "clientID", value_name = "ID")]
    client_id: Option<String>,
    /// debug, info, warning or error; default: $LOGLEVEL, the configuration's, warning
    #[arg(long, value_name = "LEVEL")]
    loglevel: Option<String>,
    /// Accepted as the original accepts it, without effect
    #[arg(long, value_name = "URL", hide = true)]
    server: Option<String>,
    /// Refused with exit code 1, as the original does
    #[arg(hide = true)]
    positional: Vec<OsString>,
}

/// Why the program ends before it is ready.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("unexpected argument '{0}'; see mqttcore --help")]
    Positional(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0} does not exist; a configuration file given by hand must")]
    NoConfig(PathBuf),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("cannot {0}")]
    System(&'static str, #[source] std::io::Error),
}

impl Failure {
    fn code(&self) -> ExitCode {
        match self {
            Failure::Config(_) | Failure::NoConfig(_) => ExitCode::from(EX_CONFIG),
            Failure::Positional(_) | Failure::Start(_) | Failure::System(..) => ExitCode::FAILURE,
        }
    }
}

/// Runs the program with these arguments, the first of which is its name, until SIGTERM or SIGINT.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().map(double_dash).collect();
    let parsed = match Arguments::try_parse_from(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(EX_USAGE)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let name = arguments.first().map(Path::new).and_then(Path::file_name);
    let name = name.map_or_else(|| "mqttcore".into(), |name| name.to_string_lossy());
    match settle_and_run(parsed, &name) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // A line of a wrong configuration begins with its place, so that it can be jumped to.
            let text = if let Failure::Config(ConfigError::Content { lines }) = &failure {
                lines.join("\n")
            } else {
                format!("mqttcore: {}", crate::chain(&failure))
            };
            let _ = writeln!(std::io::stderr(), "{text}");
            failure.code()
        }
    }
}

/// The original takes its flags with one dash or two.
fn double_dash(argument: OsString) -> OsString {
    match argument.to_str() {
        Some(text) if text.len() > 2 && text.starts_with('-') && !text.starts_with("--") => {
            format!("-{text}").into()
        }
        Some(_) | None => argument,
    }
}

fn settle_and_run(arguments: Arguments, name: &str) -> Result<(), Failure> {
    if let Some(extra) = arguments.positional.first() {
        let extra = extra.to_string_lossy().chars().take(64).collect();
        return Err(Failure::Positional(extra));
    }
    let executable =
        std::env::current_exe().map_err(|error| Failure::System("find this program", error))?;
    let current = std::env::current_dir()
        .map_err(|error| Failure::System("find the current folder", error))?;
    let user_home = std::env::home_dir();
    let folders = Folders::find(&Whereabouts {
        executable: &executable,
        current: &current,
        user_home: user_home.as_deref(),
        home: arguments.home.as_deref(),
        config: arguments.config.as_deref(),
    });
    let file = match &arguments.config_file {
        Some(given) => folders.config.join(given),
        None => {
            let id = arguments.client_id.as_deref().unwrap_or(name);
            folders.config.join(format!("{id}.yaml"))
        }
    };
    let config = match Config::load(&file)? {
        Some(config) => config,
        None if arguments.config_file.is_some() => return Err(Failure::NoConfig(file)),
        None => Config::default(),
    };
    let level = arguments
        .loglevel
        .or_else(|| {
            std::env::var("LOGLEVEL")
                .ok()
                .filter(|level| !level.is_empty())
        })
        .or_else(|| config.log_level.clone());
    start_log(level.as_deref().unwrap_or("warning"));
    for (key, why) in &config.without_effect {
        tracing::warn!("{}: {key} has no effect: {why}", file.display());
    }
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::System("start", error))?;
    let result = runtime.block_on(serve(Settings::new(folders, config)));
    // Passwords being hashed are not waited for.
    runtime.shutdown_background();
    result
}

/// The words of HP 1.3. What the library warns of is said in our own words already.
fn start_log(level: &str) {
    let level = match level {
        "debug" => "debug",
        "error" => "error",
        level if level.starts_with("warn") => "warn",
        _ => "info",
    };
    let library = if level == "debug" { "warn" } else { "error" };
    let filter = EnvFilter::new(format!("{level},mqtt5={library},mqtt5_protocol={library}"));
    // Fails when a log is there already, as in tests.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
}

/// Each client takes a descriptor, and the usual soft limit is 1024.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::debug!(%error, "descriptor limit not raised");
    }
}

async fn serve(settings: Settings) -> Result<(), Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::System("listen to signals", error));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    // Its terminal may close before it does.
    let mut hangup = listen(SignalKind::hangup())?;
    let core = tokio::select! {
        core = Core::start(settings) => core?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    // The Go core's words: who starts it waits for them (HP 1.6).
    let mut line = format!("MQTT Hub core started. serverURL={}\n", core.url());
    if let Some(url) = core.ws_url() {
        line.push_str(&format!("Websocket started. serverURL={url}\n"));
    }
    let mut output = std::io::stdout();
    let _ = output
        .write_all(line.as_bytes())
        .and_then(|()| output.flush());
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => tracing::info!("hangup ignored"),
        }
    }
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    core.stop().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Arguments {
        let arguments = line.split(' ').map(OsString::from).map(double_dash);
        Arguments::try_parse_from(arguments).unwrap()
    }

    #[test]
    fn one_dash_or_two() {
        for line in [
            "mqttcore -home /h -config=c -configFile f.yaml -clientID x -loglevel=debug",
            "mqttcore --home /h --config=c --configFile f.yaml --clientID x --loglevel=debug",
        ] {
            let parsed = parse(line);
            assert_eq!(parsed.home.as_deref(), Some(Path::new("/h")));
            assert_eq!(parsed.config.as_deref(), Some(Path::new("c")));
            assert_eq!(parsed.config_file.as_deref(), Some(Path::new("f.yaml")));
            assert_eq!(parsed.client_id.as_deref(), Some("x"));
            assert_eq!(parsed.loglevel.as_deref(), Some("debug"));
        }
        assert_eq!(parse("mqttcore -home /h start").positional, ["start"]);
    }
}
