//! The connection to the launcher over the bus.
//!
//! Invariants: a launcher is asked by its original address first; only when this login may not do that, by `read`. What
//! changes something is asked once only, and not before somebody has answered.

use super::ask::{Ask, AskAuth};
use super::cli::Cli;
use super::code::ExitCode;
use super::exit::Failure;
use crate::app::paths::Folders;
use bus::client::{self, CallError, Client, Endpoint, Incoming, Network, Options, Status};
use bus::hub;
use bus::rpc::{Reply, Request};
use bus::topics::{MessageKind, Topic};
use bus::wire::{AUTH, LAUNCHER, MANAGE, NameArgs, READ};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// As long as the original's client waits (HP 1.13).
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// What may be asked twice is asked again when there is no answer for so long, and then for twice as long: a request
/// that comes before the launcher, which begins after the core does, reaches nobody and nobody says so.
const FIRST_PATIENCE: Duration = Duration::from_millis(250);
/// To reach the hub and log in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to the hub.
pub(super) struct Session {
    client: Client,
    login: String,
    /// Whether the launcher has answered on this connection, or was given an order.
    heard: Cell<bool>,
    // The session ends when it is dropped.
    incoming: mpsc::Receiver<Incoming>,
}

impl Session {
    pub(super) async fn open(cli: &Cli, folders: &Folders) -> Result<Self, Failure> {
        Session::listening(cli, folders, Vec::new()).await
    }

    /// With filters to subscribe to.
    pub(super) async fn listening(
        cli: &Cli,
        folders: &Folders,
        filters: Vec<String>,
    ) -> Result<Self, Failure> {
        // Also proves that the login can be part of a file name.
        address(MANAGE, "list", &cli.login)?;
        let mut options = Options::new(
            &cli.login,
            Vec::new(),
            hub::credentials(&folders.certs, &cli.login),
        );
        options.subscriptions = filters;
        match cli.server.as_deref().filter(|url| !url.is_empty()) {
            Some(url) => options.endpoints = hub::only(server(url)?),
            None => {
                options.endpoints = hub::endpoints(&folders.run, None);
                options.network = Some(network(folders));
            }
        }
        let (client, incoming) = client::connect_once(options, CONNECT_TIMEOUT)
            .await
            .map_err(|error| {
                let text = format!("no Hub connection: {error}");
                Failure::new(ExitCode::NoConnection, text, error.hint())
            })?;
        if cli.loginfo {
            told_where(&client, &cli.login);
        }
        Ok(Session {
            client,
            login: cli.login.clone(),
            heard: Cell::new(false),
            incoming,
        })
    }

    /// Whether the launcher has answered, or was given an order whose answer is to be waited for.
    pub(super) fn is_heard(&self) -> bool {
        self.heard.get()
    }

    pub(super) fn login(&self) -> &str {
        &self.login
    }

    /// Asks whoever serves `topic`, once.
    pub(super) async fn ask_at(&self, topic: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        self.client.call(topic, payload, CALL_TIMEOUT).await
    }

    /// What comes next; none = the session has ended.
    pub(super) async fn next(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }

    pub(super) async fn close(self) {
        self.client.close().await;
    }

    /// Waits until the connection has ended, at most `within`; whether it has.
    pub(super) async fn is_gone_within(&self, within: Duration) -> bool {
        tokio::time::timeout(within, self.client.disconnected())
            .await
            .is_ok()
    }

    async fn call(&self, capability: &str, request: &Request) -> Result<Vec<u8>, Asked> {
        let until = Instant::now() + CALL_TIMEOUT;
        if request.method().is_part_of(READ) {
            return unheard(self.call_again(capability, request, until).await);
        }
        if !self.heard.get() {
            // Any answer will do, an error too.
            let probe = Request::GetPlugin(NameArgs::default());
            let answer = unheard(self.call_again(capability, &probe, until).await);
            if let Err(Asked::Unheard(_)) = &answer {
                return answer;
            }
        }
        // From here on it may be done, whether or not its answer comes.
        self.heard.set(true);
        self.call_once(capability, request, CALL_TIMEOUT).await
    }

    /// Asks until there is an answer or the time is over.
    async fn call_again(
        &self,
        capability: &str,
        request: &Request,
        until: Instant,
    ) -> Result<Vec<u8>, Asked> {
        let mut patience = FIRST_PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = self
                .call_once(capability, request, patience.min(left))
                .await;
            match answer {
                Err(Asked::Call(CallError::Timeout)) if patience < left => patience *= 2,
                // Said at once, so it is for us to wait.
                Err(Asked::Call(CallError::NobodyServes { .. })) if patience < left => {
                    tokio::time::sleep(patience).await;
                    patience *= 2;
                }
                other => return other,
            }
        }
    }

    async fn call_once(
        &self,
        capability: &str,
        request: &Request,
        within: Duration,
    ) -> Result<Vec<u8>, Asked> {
        let topic = address(capability, request.method().name(), &self.login)?;
        let answer = self.client.call(&topic, request.payload(), within).await;
        if matches!(answer, Ok(_) | Err(CallError::Remote(_))) {
            self.heard.set(true);
        }
        Ok(answer?)
    }
}

/// Why there is no reply.
pub(super) enum Asked {
    Call(CallError),
    /// Nobody answered, and nothing was changed.
    Unheard(CallError),
    Failure(Failure),
}

impl From<CallError> for Asked {
    fn from(error: CallError) -> Self {
        Asked::Call(error)
    }
}

impl From<Failure> for Asked {
    fn from(failure: Failure) -> Self {
        Asked::Failure(failure)
    }
}

impl From<Asked> for Failure {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Failure(failure) => failure,
            Asked::Call(error) | Asked::Unheard(error) => failure_of(&error),
        }
    }
}

/// Tells what is no answer of anybody's.
fn unheard(answer: Result<Vec<u8>, Asked>) -> Result<Vec<u8>, Asked> {
    match answer {
        Err(Asked::Call(
            error @ (CallError::Timeout
            | CallError::NobodyServes { .. }
            | CallError::NotConnected
            | CallError::Disconnected(_)),
        )) => Err(Asked::Unheard(error)),
        other => other,
    }
}

impl Session {
    /// Asks the launcher.
    pub(super) async fn ask_launcher(&self, request: &Request) -> Result<Reply, Asked> {
        let method = request.method();
        let payload = match self.call(MANAGE, request).await {
            Err(Asked::Call(CallError::NotAuthorized)) if method.is_part_of(READ) => {
                self.call(READ, request).await
            }
            other => other,
        }?;
        Reply::decode(method, &payload).map_err(|error| {
            Asked::Failure(Failure::failed(
                format!("the reply of the launcher cannot be read: {error}"),
                "are hubcli and launcher of the same version?",
            ))
        })
    }
}

impl Ask for Session {
    async fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        Ok(self.ask_launcher(request).await?)
    }
}

impl AskAuth for Session {
    fn login(&self) -> &str {
        &self.login
    }

    async fn ask(
        &self,
        capability: &str,
        method: &str,
        args: Vec<u8>,
    ) -> Result<Vec<u8>, CallError> {
        // The login was proved to be a level of a topic when the session was opened.
        let topic = format!(
            "{}/{AUTH}/{capability}/{method}/{}",
            MessageKind::Rpc,
            self.login
        );
        self.ask_at(&topic, args).await
    }
}

fn server(url: &str) -> Result<Endpoint, Failure> {
    url.parse().map_err(|error: client::EndpointError| {
        Failure::usage(
            error.to_string(),
            "for example --server mqtts://localhost:8883",
        )
    })
}

fn address(capability: &str, method: &str, login: &str) -> Result<String, Failure> {
    Topic::new(MessageKind::Rpc, LAUNCHER, capability, method, login)
        .map(|topic| topic.to_string())
        .map_err(|_| {
            Failure::usage(
                format!("'{login}' cannot be a login"),
                "give the id of a client of the hub with --login, such as admin",
            )
        })
}

pub(super) fn failure_of(error: &CallError) -> Failure {
    let (exit, hint) = match error {
        CallError::Remote(_) => (ExitCode::Failed, "hubcli ls shows how all plugins fare"),
        CallError::NotAuthorized | CallError::Refused(_) => (
            ExitCode::Failed,
            "this login may not do that; admins may: --login admin",
        ),
        CallError::Timeout | CallError::NobodyServes { .. } => (
            ExitCode::Failed,
            "the hub is there, but the launcher does not answer: does it run? see logs/launcher.log",
        ),
        CallError::NotConnected | CallError::Disconnected(_) => (
            ExitCode::NoConnection,
            "the core ended or was restarted: try again, and see logs/core.log",
        ),
        CallError::Invalid { .. } => (ExitCode::Usage, "hubcli ls shows the names"),
    };
    Failure::new(exit, error.to_string(), hint)
}

/// How the network is searched for a hub.
fn network(folders: &Folders) -> Network {
    let folders = folders.clone();
    Network {
        may_search: Arc::new(move || !has_core(&folders)),
        used: Arc::new(told_found),
    }
}

/// Whether this home has, or had, a core of its own, or names another's place. While that is down nobody is to be led to
/// another hub (T27).
fn has_core(folders: &Folders) -> bool {
    let has_left = |path: PathBuf| path.exists();
    has_left(folders.run.join(hub::SOCKET))
        || has_left(folders.run.join(hub::BUS_URL_FILE))
        || has_left(folders.stores.join("auth"))
        || names_core(&folders.config.join(format!("{LAUNCHER}.yaml")))
}

/// Whether a configuration of a launcher names a core that it runs. One that cannot be read may.
fn names_core(file: &Path) -> bool {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return error.kind() != std::io::ErrorKind::NotFound,
    };
    let Ok(content) = serde_yaml::from_str::<serde_yaml::Value>(&text) else {
        return true;
    };
    let is_given = |key: &str| {
        content
            .get(key)
            .is_some_and(|value| !value.is_null() && value.as_str() != Some(""))
    };
    is_given("corebin") || is_given("runtime")
}

#[expect(
    clippy::print_stderr,
    reason = "whose hub it is should be seen, and output is for the answer"
)]
fn told_found(place: &Endpoint) {
    eprintln!("using the hub at {place}, found on the network");
}

#[expect(clippy::print_stderr, reason = "asked for with --loginfo")]
fn told_where(client: &Client, login: &str) {
    let status = client.status();
    if let Status::Connected { endpoint, .. } = &*status.borrow() {
        eprintln!("connected to {endpoint} as {login}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_core_is_seen_before_it_ever_ran() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("launcher.yaml");
        assert!(!names_core(&file), "there is no configuration");
        for (text, expected) in [
            ("", false),
            ("# corebin: mqttcore\nautostart: []\n", false),
            ("corebin:\n", false),
            ("corebin: ''\n", false),
            ("corebin: mqttcore\n", true),
            ("runtime: mqttcore\n", true),
            ("corebin: {bin: mosquitto, auth: certificate}\n", true),
            ("corebin: [\n", true),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(names_core(&file), expected, "{text}");
        }
        assert!(names_core(temp.path()), "it cannot be read");
    }
}
