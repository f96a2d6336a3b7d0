//! `list` over the bus against a request that a client answers with as many bytes on the same broker; and `hubcli ls`.

use crate::clock;
use crate::home::Hub;
use crate::report::{Goal, Pairs, Report, Row, quantile, say};
use crate::stamps;
use anyhow::{Context, Result, bail};
use bus::client::{Client, Incoming, Options, connect_once};
use bus::rpc::{Method, Reply, Request};
use bus::topics::{MessageKind, Topic, rpc_filter};
use bus::wire::{LAUNCHER, ListArgs, MANAGE};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};

const PATIENCE: Duration = Duration::from_secs(10);
/// Who asks.
const ADMIN: &str = "admin";
/// What the client that answers calls its capability.
const CAPABILITY: &str = "bench";
/// Requests before the first that counts.
const WARM_UP: usize = 20;

/// `list` and the bare request, by turns.
pub fn requests(hub: &Hub<'_>, rounds: usize, report: &mut Report) -> Result<()> {
    let runtime = runtime()?;
    let pairs = runtime.block_on(async {
        let (admin, _incoming) = connect(hub, options(hub, ADMIN)).await?;
        let list = ask(&admin, LAUNCHER, MANAGE).await?.1;
        check(hub, &list)?;
        let agent = hub.home.ids().first().context("nobody can answer")?;
        let answering = Answering::begin(hub, agent, list).await?;
        let mut pairs = Pairs::default();
        for round in 0..rounds + WARM_UP {
            clock::rest(Duration::ZERO)?;
            let bare = ask(&admin, agent, CAPABILITY).await?.0;
            let ours = ask(&admin, LAUNCHER, MANAGE).await?.0;
            if round >= WARM_UP {
                pairs.bare.push(bare);
                pairs.ours.push(ours);
            }
        }
        answering.end();
        admin.close().await;
        anyhow::Ok(pairs)
    })?;
    for (name, part, goal) in [("p50", 0.5, Goal::None), ("p99", 0.99, Goal::Times(3.0))] {
        report.add(Row {
            measure: format!("list of {}, {name}", hub.home.size()),
            unit: "ms",
            ours: quantile(&pairs.ours, part),
            bare: Some(quantile(&pairs.bare, part)),
            goal,
        });
    }
    Ok(())
}

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn options(hub: &Hub<'_>, login: &str) -> Options {
    let credentials = bus::hub::credentials(&hub.home.path("certs"), login);
    let socket = hub.home.path("run").join(bus::hub::SOCKET);
    Options::new(
        login,
        vec![bus::client::Endpoint::Unix(socket)],
        credentials,
    )
}

async fn connect(hub: &Hub<'_>, options: Options) -> Result<(Client, mpsc::Receiver<Incoming>)> {
    let login = options.login.clone();
    let connected = connect_once(options, PATIENCE).await;
    connected.with_context(|| format!("'{login}' cannot log in at {}", hub.home.path("").display()))
}

/// Asks an agent for its list; milliseconds, and what it said.
async fn ask(client: &Client, agent: &str, capability: &str) -> Result<(f64, Vec<u8>)> {
    let request = Request::List(ListArgs::default());
    let method = request.method().name();
    let topic = Topic::new(MessageKind::Rpc, agent, capability, method, ADMIN)?.to_string();
    let begun = clock::now()?;
    let reply = client.call(&topic, request.payload(), PATIENCE).await;
    let took = clock::ms(begun, clock::now()?);
    Ok((
        took,
        reply.with_context(|| format!("no answer to {topic}"))?,
    ))
}

/// That what is measured is what is meant: all plugins, and all run.
fn check(hub: &Hub<'_>, list: &[u8]) -> Result<()> {
    let Reply::List(reply) = Reply::decode(Method::List, list)? else {
        bail!("the answer to list is none");
    };
    let running = reply.info.iter().filter(|info| info.running).count();
    // The core is one of them.
    if running != hub.home.size() + 1 {
        bail!("{running} run, not {} and the core", hub.home.size());
    }
    Ok(())
}

/// How `list` fared over a time.
#[derive(Default)]
pub struct Asked {
    /// Milliseconds until each answer.
    pub took: Vec<f64>,
    /// How many had none, or an error.
    pub unanswered: f64,
}

impl Asked {
    /// Both.
    pub fn add(&mut self, other: Asked) {
        self.took.extend(other.took);
        self.unanswered += other.unanswered;
    }
}

/// Asks for the list, again and again.
pub fn ask_for(hub: &Hub<'_>, time: Duration, pause: Duration) -> Result<Asked> {
    runtime()?.block_on(async {
        let (admin, _incoming) = connect(hub, options(hub, ADMIN)).await?;
        let mut asked = Asked::default();
        let until = Instant::now() + time;
        while Instant::now() < until {
            clock::rest(pause)?;
            match ask(&admin, LAUNCHER, MANAGE).await {
                Ok((took, _)) => asked.took.push(took),
                Err(error) => {
                    say(&format!("list: {error:#}"));
                    asked.unanswered += 1.0;
                }
            }
        }
        admin.close().await;
        Ok(asked)
    })
}

/// How the launcher knows the processes of a plugin: `cgroup` or `group`.
pub fn tree(hub: &Hub<'_>) -> Result<String> {
    runtime()?.block_on(async {
        let (admin, _incoming) = connect(hub, options(hub, ADMIN)).await?;
        let list = ask(&admin, LAUNCHER, MANAGE).await?.1;
        admin.close().await;
        let Reply::List(reply) = Reply::decode(Method::List, &list)? else {
            bail!("the answer to list is none");
        };
        let mut trees = reply.info.into_iter().map(|info| info.tree);
        trees
            .find(|tree| !tree.is_empty())
            .context("nobody has a tree")
    })
}

/// A client in a thread of its own that answers every request with the same bytes.
struct Answering {
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Answering {
    async fn begin(hub: &Hub<'_>, login: &str, answer: Vec<u8>) -> Result<Answering> {
        let options = options(hub, login).subscribe(rpc_filter(login, CAPABILITY));
        let runtime = runtime()?;
        let (stop, stopped) = oneshot::channel();
        let (up, is_up) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = answer_all(options, answer, up) => {}
                    _ = stopped => {}
                }
            });
        });
        is_up.await.context("the client that answers ended")??;
        Ok(Answering { stop, thread })
    }

    fn end(self) {
        // One that has ended already needs not be told.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

async fn answer_all(options: Options, answer: Vec<u8>, up: oneshot::Sender<Result<()>>) {
    let (client, mut incoming) = match connect_once(options, PATIENCE).await {
        Ok(connected) => connected,
        Err(error) => {
            // Nobody waits when the bench has failed already.
            let _ = up.send(Err(error.into()));
            return;
        }
    };
    let _ = up.send(Ok(()));
    while let Some(message) = incoming.recv().await {
        if let Incoming::Request(request) = message
            && client.reply(&request, Ok(answer.clone())).await.is_err()
        {
            return;
        }
    }
}

/// `hubcli --json ls` as a whole command, against a program that ends at once.
pub fn commands(hub: &Hub<'_>, rounds: usize, report: &mut Report) -> Result<()> {
    let hubcli = hub.home.path("bin/hubcli");
    let nothing = hub.home.path("plugin");
    let output = Command::new(&hubcli).args(["--json", "ls"]).output()?;
    let shown: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("hubcli ls: {}", String::from_utf8_lossy(&output.stderr)))?;
    if shown.len() != hub.home.size() + 1 {
        bail!("hubcli shows {} plugins", shown.len());
    }
    let mut pairs = Pairs::default();
    for _ in 0..rounds {
        clock::rest(Duration::ZERO)?;
        let mut bare = Command::new(&nothing);
        pairs
            .bare
            .push(whole(bare.arg("end").env_remove(stamps::VARIABLE))?);
        pairs
            .ours
            .push(whole(Command::new(&hubcli).args(["--json", "ls"]))?);
    }
    for (name, part, goal) in [("p50", 0.5, Goal::Most(5.0)), ("p99", 0.99, Goal::None)] {
        report.add(Row {
            measure: format!("hubcli --json ls of {}, {name}", hub.home.size()),
            unit: "ms",
            ours: quantile(&pairs.ours, part),
            bare: Some(quantile(&pairs.bare, part)),
            goal,
        });
    }
    Ok(())
}

/// Milliseconds from spawn to the end.
fn whole(command: &mut Command) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let begun = clock::now()?;
    let status = command.status()?;
    let took = clock::ms(begun, clock::now()?);
    if !status.success() {
        bail!("{} ended with {status}", command.get_program().display());
    }
    Ok(took)
}
