//! Why a plugin is as it is, in one piece; and all that is not as it should be (spec §13).
//!
//! Invariants: every word comes from the launcher; what it does not say is left out, never guessed.

use super::ask::Ask;
use super::exit::Failure;
use super::say::{Said, escaped};
use super::table::{Style, in_words};
use super::work::{self, View};
use bus::golang::encode;
use bus::rpc::{Reply, Request};
use bus::wire::{GetPluginReply, LAUNCHER, NameArgs, PluginInfo, UNKNOWN};

/// How a point in time is shown.
const TIME: &str = "%b %e %H:%M:%S";

/// Explains one.
pub(super) async fn one(launcher: &impl Ask, name: &str, view: &View) -> Result<Said, Failure> {
    let plugin = match account(launcher, name).await {
        Ok(plugin) => plugin,
        Err(failure) => return Err(work::not_known(launcher, name, view, failure).await),
    };
    Ok(Said::done(if view.json {
        work::line(&encode(&*plugin))
    } else {
        piece(&plugin, &view.table)
    }))
}

/// Explains all that are not as they are wished, the launcher first.
pub(super) async fn all(launcher: &impl Ask, view: &View) -> Result<Said, Failure> {
    let plugins = work::list(launcher).await?;
    let mut found = Vec::new();
    if let Ok(own) = account(launcher, LAUNCHER).await
        && !own.info.cause.is_empty()
    {
        found.push(own);
    }
    for info in plugins.iter().filter(|info| !is_as_wished(info)) {
        match account(launcher, &info.name).await {
            Ok(plugin) => found.push(plugin),
            // A file that is refused has no more to it; one that is gone meanwhile nothing at all.
            Err(_) => found.push(Box::new(GetPluginReply {
                info: info.clone(),
                ..GetPluginReply::default()
            })),
        }
    }
    if view.json {
        return Ok(Said::done(work::line(&encode(&found))));
    }
    if found.is_empty() {
        let up = plugins.iter().filter(|info| info.running).count();
        return Ok(Said::done(format!(
            "All is as it should be: {up} run, {} do not and need not.\n",
            plugins.len() - up
        )));
    }
    let pieces: Vec<String> = found.iter().map(|one| piece(one, &view.table)).collect();
    Ok(Said::done(pieces.join("\n")))
}

/// Whether there is nothing to explain.
fn is_as_wished(info: &PluginInfo) -> bool {
    match info.phase.as_str() {
        "running" => info.wish != "down",
        "stopped" => info.wish != "up",
        // An older launcher tells no phases.
        "" => true,
        _ => false,
    }
}

async fn account(launcher: &impl Ask, name: &str) -> Result<Box<GetPluginReply>, Failure> {
    let request = Request::GetPlugin(NameArgs {
        name: name.to_owned(),
    });
    match launcher.ask(&request).await? {
        Reply::Plugin(plugin) => Ok(plugin),
        Reply::List(_) | Reply::Info(_) | Reply::Plan(_) | Reply::Empty => Err(work::unexpected()),
    }
}

/// One plugin in words.
fn piece(plugin: &GetPluginReply, style: &Style) -> String {
    let (info, why) = (&plugin.info, &plugin.why);
    let text = if why.text.is_empty() {
        &info.cause
    } else {
        &why.text
    };
    let mut out = format!("{}: {}\n", escaped(&info.name), escaped(&info.phase));
    let mut line = |title: &str, text: &str| {
        if !text.is_empty() {
            out.push_str(&format!("  {title:<11} {}\n", escaped(text)));
        }
    };
    line("why", text);
    line("since", &style.time(why.phase_since_mse, TIME));
    line("wish", &wish(plugin, style));
    for what in &why.waits_for {
        line("waits for", what);
    }
    if why.last_exit.run > 0 {
        let exit = &why.last_exit;
        let when = style.time(exit.time_mse, TIME);
        line(
            "last exit",
            &format!("run {}, {when}: {}", exit.run, exit.text),
        );
    }
    if info.run > 0 {
        let restarts = match info.restarts {
            UNKNOWN | 0 => String::new(),
            some => format!(", {some} restarts nobody asked for"),
        };
        line("runs", &format!("{}{restarts}", info.run));
    }
    if why.next_start_mse > 0 {
        let left = why.next_start_mse.saturating_sub(style.now_ms);
        line(
            "next try",
            &format!(
                "{}, {}, the {}. in a row",
                in_words(left),
                style.time(why.next_start_mse, TIME),
                why.attempt
            ),
        );
    }
    for (at, last) in why.tail.iter().enumerate() {
        line(
            if at == 0 { "last lines" } else { "" },
            &format!("| {last}"),
        );
    }
    line("to do", &why.hint);
    out
}

fn wish(plugin: &GetPluginReply, style: &Style) -> String {
    let (info, why) = (&plugin.info, &plugin.why);
    if info.wish.is_empty() {
        return String::new();
    }
    let enabled = if info.enabled { "enabled" } else { "disabled" };
    let by = if why.wish_by.is_empty() {
        String::new()
    } else {
        let when = style.time(why.wish_since_mse, TIME);
        format!("; by {} {when}", why.wish_by)
    };
    format!("{}, {enabled}{}", info.wish, by.trim_end())
}

#[cfg(test)]
mod tests {
    use super::super::work::View;
    use super::*;
    use bus::wire::{LastExit, Why};

    #[test]
    fn one_piece_has_everything_an_operator_needs() {
        let plugin = GetPluginReply {
            info: PluginInfo {
                name: "meter".to_owned(),
                phase: "backoff".to_owned(),
                wish: "up".to_owned(),
                enabled: true,
                run: 7,
                restarts: 6,
                ..PluginInfo::default()
            },
            why: Why {
                text: "it failed twice".to_owned(),
                wish_by: "joe".to_owned(),
                wish_since_mse: 86_400_000,
                phase_since_mse: 86_401_000,
                waits_for: vec!["the time of its next try".to_owned()],
                last_exit: LastExit {
                    run: 7,
                    text: "exited with code 1".to_owned(),
                    time_mse: 86_401_000,
                    ..LastExit::default()
                },
                tail: vec!["first".to_owned(), "last\u{1b}".to_owned()],
                attempt: 2,
                next_start_mse: 6_000,
                hint: "to try at once: hubcli start meter".to_owned(),
            },
        };
        assert_eq!(
            piece(&plugin, &View::for_tests(false).table),
            "meter: backoff\n  \
               why         it failed twice\n  \
               since       Jan  2 00:00:01\n  \
               wish        up, enabled; by joe Jan  2 00:00:00\n  \
               waits for   the time of its next try\n  \
               last exit   run 7, Jan  2 00:00:01: exited with code 1\n  \
               runs        7, 6 restarts nobody asked for\n  \
               next try    in 5s, Jan  1 00:00:06, the 2. in a row\n  \
               last lines  | first\n              \
                           | last\\u{1b}\n  \
               to do       to try at once: hubcli start meter\n"
        );
    }

    #[test]
    fn what_is_as_it_should_be_is_not_explained() {
        let info = |phase: &str, wish: &str| PluginInfo {
            phase: phase.to_owned(),
            wish: wish.to_owned(),
            ..PluginInfo::default()
        };
        for (phase, wish, expected) in [
            ("running", "up", true),
            ("stopped", "down", true),
            ("stopped", "up", false),
            ("backoff", "up", false),
            ("blocked", "up", false),
            ("foreign", "down", false),
        ] {
            assert_eq!(is_as_wished(&info(phase, wish)), expected, "{phase}");
        }
    }
}
