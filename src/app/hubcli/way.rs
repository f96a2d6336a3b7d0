//! How the launcher is reached: over the bus, or, when that is down, over its own socket on this machine (spec §13).
//!
//! Invariants: the bus comes first, and with `--server` it is the only one; an order that was sent over the bus is not
//! given a second time; that the other way is used is said, once, on standard error.

use super::ask::Ask;
use super::cli::{ADMIN, Cli};
use super::code::ExitCode;
use super::exit::Failure;
use super::local::Local;
use super::session::{Asked, Session};
use crate::app::paths::Folders;
use bus::rpc::{Reply, Request};
use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

/// Who does not answer over the bus for so long is asked over the socket, if that is there.
const PATIENCE: Duration = Duration::from_millis(2_500);

/// The way to the launcher.
pub(super) struct Way {
    bus: Option<Session>,
    /// None where the bus is the only way.
    local: Option<Local>,
    /// Whether the socket is used, and that was said.
    fell: Cell<bool>,
    json: bool,
}

impl Way {
    /// Connects.
    pub(super) async fn open(cli: &Cli, folders: &Folders) -> Result<Way, Failure> {
        // Who asks under another login wants to be that one, which the socket cannot give.
        let local = match cli.server.as_deref() {
            Some(server) if !server.is_empty() => None,
            Some(_) | None if cli.login != ADMIN => None,
            Some(_) | None => Some(Local::of(folders)),
        };
        let mut way = Way {
            bus: None,
            local,
            fell: Cell::new(false),
            json: cli.json,
        };
        let opened = {
            let mut opening = pin!(Session::open(cli, folders));
            tokio::select! {
                opened = &mut opening => opened,
                () = way.local_is_there_after(PATIENCE) => Err(Failure::new(
                    ExitCode::NoConnection,
                    silence("the hub did not answer"),
                    "hubcli why launcher",
                )),
            }
        };
        match opened {
            Ok(session) => way.bus = Some(session),
            Err(failure) if failure.exit == ExitCode::NoConnection && way.may_fall().await => {
                way.fall(&failure.text);
            }
            Err(failure) => return Err(failure),
        }
        Ok(way)
    }

    /// The connection to the bus, while that is the way.
    pub(super) fn bus(&self) -> Option<&Session> {
        self.bus.as_ref().filter(|_| !self.fell.get())
    }

    /// The socket, when somebody answers there.
    pub(super) async fn local(&self) -> Option<&Local> {
        match &self.local {
            Some(local) if local.answers().await => Some(local),
            Some(_) | None => None,
        }
    }

    pub(super) async fn close(self) {
        if let Some(bus) = self.bus {
            bus.close().await;
        }
    }

    async fn may_fall(&self) -> bool {
        self.local().await.is_some()
    }

    /// Never completes when there is no such way.
    async fn local_is_there_after(&self, patience: Duration) {
        tokio::time::sleep(patience).await;
        if !self.may_fall().await {
            std::future::pending::<()>().await;
        }
    }

    fn fall(&self, why: &str) {
        let Some(local) = &self.local else { return };
        if !self.fell.replace(true) {
            note(
                &format!(
                    "{why}; the launcher is asked over {} instead",
                    local.path().display()
                ),
                self.json,
            );
        }
    }

    async fn ask_locally(&self, request: &Request) -> Result<Reply, Failure> {
        match &self.local {
            Some(local) => local.ask(request).await,
            None => Err(Failure::failed(
                "there is no way to the launcher",
                "does it run? see logs/launcher.log",
            )),
        }
    }
}

impl Ask for Way {
    async fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        let Some(bus) = self.bus() else {
            return self.ask_locally(request).await;
        };
        let (why, failure) = {
            let mut asking = pin!(bus.ask_launcher(request));
            let too_late = async {
                self.local_is_there_after(PATIENCE).await;
                // Heard or ordered: then the bus is where the answer comes from.
                if bus.is_heard() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                answer = &mut asking => match answer {
                    Err(Asked::Unheard(error)) => {
                        (error.to_string(), Failure::from(Asked::Unheard(error)))
                    }
                    Err(other) => return Err(other.into()),
                    Ok(reply) => return Ok(reply),
                },
                () = too_late => {
                    let why = silence("the launcher did not answer over the bus");
                    (why.clone(), Failure::failed(why, "see logs/launcher.log"))
                }
            }
        };
        if !self.may_fall().await {
            return Err(failure);
        }
        self.fall(&why);
        self.ask_locally(request).await
    }
}

fn silence(what: &str) -> String {
    format!("{what} within {} s", PATIENCE.as_secs_f64())
}

/// A line beside the answer.
#[expect(
    clippy::print_stderr,
    reason = "by which way the answer came should be seen, and output is for the answer"
)]
pub(super) fn note(text: &str, json: bool) {
    if json {
        eprintln!("{}", serde_json::json!({ "note": text }));
    } else {
        eprintln!("note:   {}", super::say::escaped(text));
    }
}
