//! Stopping or restarting the core: the bus goes with it, and with the bus every answer (T41).
//!
//! Invariant: what is said was seen: that the hub is gone, or that it is back.

use super::ask::Ask;
use super::cli::Deed;
use super::code::ExitCode;
use super::exit::Failure;
use super::local::Local;
use super::say::Said;
use super::session::Session;
use super::view::View;
use super::way::Way;
use super::work;
use bus::rpc::{Reply, Request};
use bus::wire::NameArgs;
use std::time::Duration;
use tokio::time::Instant;

/// How long a core may take to go, its grace included.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to come back.
const BACK_WITHIN: Duration = Duration::from_secs(20);
/// How often it is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Stops or restarts the core, which this launcher calls `name`; `again` connects to the bus anew.
pub(super) async fn perform<Opening>(
    way: Way,
    deed: Deed,
    name: &str,
    view: &View,
    again: impl Fn() -> Opening,
) -> Result<Said, Failure>
where
    Opening: Future<Output = Result<Session, Failure>>,
{
    let request = work::request(deed, name);
    let answer = way.ask(&request).await;
    let Some(session) = way.bus() else {
        // Not cut off by the deed, so it says how it went.
        return work::answered(&way, deed, name, view, answer).await;
    };
    match answer {
        // The answer may have come before the deed, or gone with the core.
        Ok(_) => {}
        Err(lost) if lost.exit == ExitCode::NoConnection => {}
        Err(failure) => return Err(work::explained(&way, deed, name, failure, view).await),
    }
    if !session.is_gone_within(GONE_WITHIN).await {
        let sentence = format!("Service '{name}' is still there");
        return work::told(&way, &sentence, view).await;
    }
    if deed == Deed::Stop {
        return match way.local().await {
            Some(local) => {
                let answer = at_rest(local, name).await;
                work::answered(local, deed, name, view, answer).await
            }
            None => Ok(stopped(name, view)),
        };
    }
    let session = back(again).await?;
    let said = if view.json {
        work::shown_one(&session, name).await
    } else {
        work::told(&session, &format!("Service '{name}' restarted"), view).await
    };
    session.close().await;
    said
}

/// How the core is once it rests, or when it takes too long for that.
async fn at_rest(local: &Local, name: &str) -> Result<Reply, Failure> {
    let until = Instant::now() + GONE_WITHIN;
    let request = Request::GetPlugin(NameArgs {
        name: name.to_owned(),
    });
    loop {
        match local.ask(&request).await? {
            Reply::Plugin(core) if core.info.phase == "stopped" || Instant::now() >= until => {
                return Ok(Reply::Info(Box::new(core.info)));
            }
            Reply::Plugin(_) => tokio::time::sleep(LOOK_AGAIN).await,
            other @ (Reply::List(_) | Reply::Info(_) | Reply::Plan(_) | Reply::Empty) => {
                return Ok(other);
            }
        }
    }
}

fn stopped(name: &str, view: &View) -> Said {
    // Nobody is left who could tell programs more.
    Said::done(if view.json {
        "{}\n".to_owned()
    } else {
        format!(
            "Service '{name}' stopped\n\
             There is no bus now: as root or the launcher's user, hubcli start {name} brings it back.\n"
        )
    })
}

/// A new connection as soon as there can be one.
async fn back<Opening>(again: impl Fn() -> Opening) -> Result<Session, Failure>
where
    Opening: Future<Output = Result<Session, Failure>>,
{
    let until = Instant::now() + BACK_WITHIN;
    loop {
        match again().await {
            Ok(session) => return Ok(session),
            Err(failure) if Instant::now() >= until => return Err(failure),
            Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}
