//! What each command does, apart from how the launcher is reached.
//!
//! Invariants: a command asks, and then says what the launcher answered, never what it hopes; a start that failed is
//! explained by how the plugin ended.

use super::ask::Ask;
use super::cli::{Command, Deed};
use super::code::ExitCode;
use super::exit::Failure;
use super::reload;
use super::say::{Said, escaped};
use super::table;
use super::view::{View, line, listed, log_of, nearest, unexpected};
use super::why;
use bus::golang::encode;
use bus::rpc::{Reply, Request, not_found};
use bus::wire::{
    GetPluginReply, ListReply, NameArgs, PluginInfo, SettingArgs, StartArgs, StopAllArgs, UNKNOWN,
};
use std::time::Duration;

/// A plugin that failed without last lines is asked about once more after this time.
const TAIL_DELAY: Duration = Duration::from_millis(250);

/// Does what was asked for.
pub(super) async fn perform(
    launcher: &impl Ask,
    command: &Command,
    view: &View,
) -> Result<Said, Failure> {
    match command {
        Command::List => {
            let list = listed(launcher).await?;
            Ok(Said::done(shown(&list, view)))
        }
        Command::One(deed, name) => one(launcher, *deed, name, view).await,
        Command::Why(Some(name)) => why::one(launcher, name, view).await,
        Command::Why(None) => why::all(launcher, view).await,
        Command::StartAll => {
            launcher.ask(&Request::StartAllPlugins).await?;
            told(launcher, "All services started", view).await
        }
        Command::StopAll => {
            let request = Request::StopAllPlugins(StopAllArgs::default());
            launcher.ask(&request).await.map_err(|mut failure| {
                failure.more.out = format!("Stop all failed: {}\n", escaped(&failure.text));
                failure
            })?;
            told(launcher, "All services stopped", view).await
        }
        Command::Reload { dry_run } => reload::perform(launcher, *dry_run, view).await,
        Command::People(_)
        | Command::Act(_)
        | Command::Listen(_)
        | Command::Watch(_)
        | Command::Certs(_) => Err(unexpected()),
    }
}

/// The request for something to be done with one plugin.
pub(super) fn request(deed: Deed, name: &str) -> Request {
    let name = name.to_owned();
    let set = |name, default| SettingArgs { name, default };
    match deed {
        Deed::Start => Request::StartPlugin(StartArgs { name, once: false }),
        Deed::StartOnce => Request::StartPlugin(StartArgs { name, once: true }),
        Deed::Stop => Request::StopPlugin(NameArgs { name }),
        Deed::Restart => Request::RestartPlugin(NameArgs { name }),
        Deed::Enable => Request::EnablePlugin(set(name, false)),
        Deed::Disable => Request::DisablePlugin(set(name, false)),
        Deed::Forget => Request::EnablePlugin(set(name, true)),
    }
}

async fn one(launcher: &impl Ask, deed: Deed, name: &str, view: &View) -> Result<Said, Failure> {
    let answer = launcher.ask(&request(deed, name)).await;
    answered(launcher, deed, name, view, answer).await
}

/// What is said of the answer to [`request`].
pub(super) async fn answered(
    launcher: &impl Ask,
    deed: Deed,
    name: &str,
    view: &View,
    answer: Result<Reply, Failure>,
) -> Result<Said, Failure> {
    match answer {
        Ok(Reply::Info(info)) if view.json => Ok(Said::done(line(&encode(&*info)))),
        Ok(Reply::Info(info)) => told(launcher, &outcome(deed, &info), view).await,
        Ok(Reply::List(_) | Reply::Plugin(_) | Reply::Plan(_) | Reply::Empty) => Err(unexpected()),
        Err(failure) => Err(explained(launcher, deed, name, failure, view).await),
    }
}

/// How one is, for programs.
pub(super) async fn shown_one(launcher: &impl Ask, name: &str) -> Result<Said, Failure> {
    let args = NameArgs {
        name: name.to_owned(),
    };
    match launcher.ask(&Request::GetPlugin(args)).await? {
        Reply::Plugin(plugin) => Ok(Said::done(line(&encode(&plugin.info)))),
        Reply::List(_) | Reply::Info(_) | Reply::Plan(_) | Reply::Empty => Err(unexpected()),
    }
}

/// What has become of a plugin, in the original's words when it is what was asked for.
fn outcome(deed: Deed, info: &PluginInfo) -> String {
    let is = |phase: &str| info.phase == phase;
    let (done, word) = match deed {
        // A launcher that tells no phases has no other success.
        Deed::Start | Deed::StartOnce => (is("") || is("running"), "started"),
        Deed::Restart => (is("") || is("running"), "restarted"),
        Deed::Stop => (is("") || is("stopped"), "stopped"),
        Deed::Enable => (true, "enabled"),
        Deed::Disable => (true, "disabled"),
        Deed::Forget if info.enabled => (true, "enabled, as launcher.yaml says"),
        Deed::Forget => (true, "disabled, as launcher.yaml says"),
    };
    let name = escaped(&info.name);
    if done {
        format!("Service '{name}' {word}")
    } else if info.cause.is_empty() {
        format!("Service '{name}' is {}", escaped(&info.phase))
    } else {
        format!(
            "Service '{name}' is {}: {}",
            escaped(&info.phase),
            escaped(&info.cause)
        )
    }
}

/// A sentence, then how all are; for programs only the latter.
pub(super) async fn told(
    launcher: &impl Ask,
    sentence: &str,
    view: &View,
) -> Result<Said, Failure> {
    let list = shown(&listed(launcher).await?, view);
    Ok(Said::done(if view.json {
        list
    } else {
        format!("{sentence}\n{list}")
    }))
}

fn shown(list: &ListReply, view: &View) -> String {
    if view.json {
        return line(&encode(&list.info));
    }
    let mut text = table::list(&list.info, &view.table);
    text.push_str(&table::footer(&list.launcher, &view.table));
    text
}

/// A failure with more about its cause.
pub(super) async fn explained(
    launcher: &impl Ask,
    deed: Deed,
    name: &str,
    mut failure: Failure,
    view: &View,
) -> Failure {
    if deed == Deed::Stop {
        failure.more.out = format!(
            "Stop {} failed: {}\n",
            escaped(name),
            escaped(&failure.text)
        );
    }
    if failure.exit != ExitCode::Failed {
        return failure;
    }
    if failure.text == not_found(name) {
        failure.hint = nearest(launcher, name, view).await;
        return failure;
    }
    match deed {
        Deed::Start | Deed::StartOnce | Deed::Restart => {
            // A launcher that cannot explain leaves the bare error.
            if let Some(plugin) = account(launcher, name).await {
                explain(&mut failure, &plugin, view);
            }
        }
        Deed::Stop | Deed::Enable | Deed::Disable | Deed::Forget => {}
    }
    failure
}

/// The launcher's account of a plugin that failed.
async fn account(launcher: &impl Ask, name: &str) -> Option<Box<GetPluginReply>> {
    let request = Request::GetPlugin(NameArgs {
        name: name.to_owned(),
    });
    let mut found = None;
    for again in [false, true] {
        if again {
            // It is being tried again at this moment, and has no last lines until that has ended too.
            tokio::time::sleep(TAIL_DELAY).await;
        }
        let Ok(Reply::Plugin(plugin)) = launcher.ask(&request).await else {
            return found;
        };
        let is_told = !plugin.why.tail.is_empty() || plugin.info.phase == "blocked";
        found = Some(plugin);
        if is_told {
            break;
        }
    }
    found
}

/// How the plugin ended, its last lines, and what comes next.
fn explain(failure: &mut Failure, plugin: &GetPluginReply, view: &View) {
    let (info, why) = (&plugin.info, &plugin.why);
    // What blocks a start is no end of a run, and an older end no reason for it.
    let ended = info.phase != "blocked" && why.last_exit.run > 0;
    if ended && !why.last_exit.text.is_empty() {
        let run = why.last_exit.run;
        failure
            .more
            .details
            .push(format!("{} run {run}: {}", info.name, why.last_exit.text));
    } else if !why.text.is_empty() && !is_told(&failure.text, &info.cause) {
        failure.more.details.push(why.text.clone());
    }
    if info.restarts != UNKNOWN && why.next_start_mse > 0 {
        let next = table::in_words(why.next_start_mse.saturating_sub(view.table.now_ms));
        failure
            .more
            .details
            .push(format!("it is tried again {next}"));
    }
    failure.more.tail.clone_from(&why.tail);
    if let Some(log) = log_of(info, view) {
        let log = format!("its log is {}", log.display());
        failure.hint = if why.hint.is_empty() {
            log
        } else {
            format!("{}; {log}", why.hint)
        };
    } else if !why.hint.is_empty() {
        failure.hint.clone_from(&why.hint);
    }
}

/// Whether an error says a cause already, apart from how it begins.
fn is_told(error: &str, cause: &str) -> bool {
    let what = cause
        .strip_prefix("could not be started: ")
        .unwrap_or(cause);
    !what.is_empty() && error.contains(what)
}

#[cfg(test)]
mod tests;
