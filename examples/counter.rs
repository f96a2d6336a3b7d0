//! A whole plugin of a HiveOT hub: it counts, tells so, and can be reset. Copy it to begin your own.
//!
//! What makes a program a plugin: its file name is its id; the launcher has put its key, token and certificate into `{home}/certs`,
//! says by `HIVEOT_HOME` and `HIVEOT_SERVER` where things are, writes what it prints to `{home}/logs/{id}.log`, starts it
//! again when it ends, and stops it by SIGTERM. Exit codes: 0 stopped, 1 failed, with the reason on stderr.
//!
//! `counter [SECONDS]`: how often it counts, 5 by default. Invariant: the count lives in this process only.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what a plugin prints is its log"
)]

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use std::{env, mem};

use anyhow::{Context, bail};
use bus::client::{Incoming, Options, connect_forever};
use bus::wire::ThingDescription;
use creds::token::{TokenOwner, TokenState, judge_token};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    // Whatever the plugin is at, the signal ends it.
    let Err(error) = tokio::select! {
        ended = run() => ended,
        _ = terminate.recv() => std::process::exit(0),
    };
    eprintln!("{error:#}");
    std::process::exit(1)
}

async fn run() -> anyhow::Result<Infallible> {
    // The name it was started by, not the file's: one program may be several plugins (`instanceOf`).
    let path = PathBuf::from(env::args_os().next().context("started without a name")?);
    let id = path
        .file_name()
        .and_then(|name| name.to_str())
        .context("the name is no id")?;
    let seconds = env::args()
        .nth(1)
        .map_or(Ok(5), |text| text.parse())
        .context("usage: counter [SECONDS]")?;
    // It connects in the background, and again whenever the connection is lost.
    let (hub, mut incoming) = connect_forever(options(id)?);
    let mut ticks =
        tokio::time::interval(Duration::from_secs(seconds).max(Duration::from_millis(100)));
    let mut count: u64 = 0;
    loop {
        let sent = tokio::select! {
            _ = ticks.tick() => {
                count += 1;
                hub.publish(&format!("event/{id}/counter/count/{id}"), count.to_string()).await
            }
            received = incoming.recv() => match received.context("the client has ended")? {
                Incoming::Connected { endpoint, .. } => {
                    println!("connected to {endpoint}");
                    // Nothing is kept on this bus, so it describes itself at every connection.
                    let td = ThingDescription::new("counter", "sensor", "Counter", SystemTime::now())
                        .with_event("count", "Count", ("Count", "integer"))
                        .with_action("reset", "Begin at 0 again; answers the count until now", None);
                    hub.publish(&format!("event/{id}/counter/$td/{id}"), serde_json::to_string(&td)?).await
                }
                Incoming::Request(request) => {
                    println!("asked for {}", request.topic);
                    let answer = match request.topic.split('/').nth(3) {
                        Some("reset") => Ok(mem::take(&mut count).to_string().into_bytes()),
                        _ => Err("counter has one action: reset".to_owned()),
                    };
                    hub.reply(&request, answer).await
                }
                Incoming::Disconnected { reason } => {
                    println!("not connected: {reason}");
                    Ok(())
                }
                Incoming::Message { .. } => Ok(()),
            },
        };
        // A count that is lost is no reason to end: the next one comes soon.
        if let (Err(error), true) = (sent, hub.is_connected()) {
            println!("not sent: {error}");
        }
    }
}

/// Where the hub is, and by what this plugin is known there.
fn options(id: &str) -> anyhow::Result<Options> {
    let home = match env::var_os("HIVEOT_HOME") {
        Some(home) => PathBuf::from(home),
        None => env::current_exe()?
            .ancestors()
            .nth(2)
            .context("set HIVEOT_HOME")?
            .to_owned(),
    };
    let certs = home.join("certs");
    // Rather a clear text now than being refused by the hub again and again.
    let paths = creds::CredentialPaths::new(&certs, id)?;
    let public_text = &creds::keys::load(&paths.key)?.public_text();
    // Some cores give no tokens, and know this plugin by its certificate.
    if !paths.cert.exists() {
        let token = creds::files::read_token(&paths.token)?;
        let owner = TokenOwner {
            client_id: id,
            public_text,
            hub_public_text: None,
        };
        if let TokenState::Invalid(why) =
            judge_token(token.expose(), owner, SystemTime::now().into(), 1.0)
        {
            bail!("{} does not serve: {why}", paths.token.display());
        }
    }
    let mut options = Options::new(id, vec![], bus::hub::credentials(&certs, id));
    options
        .subscriptions
        .push(format!("action/{id}/counter/+/#"));
    options.endpoints = match env::var("HIVEOT_SERVER") {
        Ok(server) => bus::hub::only(server.parse()?),
        Err(_) => bus::hub::endpoints(&home.join("run"), None),
    };
    Ok(options)
}
