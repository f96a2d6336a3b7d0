//! Why a plugin is as it is, in one piece; and all that is not as it should be (spec §13).
//!
//! Invariants: every word comes from the launcher; what it does not say is left out, never guessed.

use super::ask::Ask;
use super::exit::Failure;
use super::say::{Said, escaped};
use super::table::{Style, in_words};
use super::view::{View, line, list, log_of, not_known, unexpected};
use bus::golang::encode;
use bus::rpc::{Reply, Request};
use bus::wire::{ClassPolicy, GetPluginReply, LAUNCHER, NameArgs, PluginInfo, UNKNOWN};

/// How a point in time is shown.
const TIME: &str = "%b %e %H:%M:%S";

/// Explains one.
pub(super) async fn one(launcher: &impl Ask, name: &str, view: &View) -> Result<Said, Failure> {
    let plugin = match account(launcher, name).await {
        Ok(plugin) => plugin,
        Err(failure) => return Err(not_known(launcher, name, view, failure).await),
    };
    if view.json {
        return Ok(Said::done(line(&encode(&*plugin))));
    }
    let mut text = piece(&plugin, &view.table);
    for line in policies(&plugin.why.policy) {
        text.push_str(&row("policy", &line));
    }
    if let Some(log) = log_of(&plugin.info, view).filter(|log| log.exists()) {
        text.push_str(&row("log", &log.display().to_string()));
    }
    Ok(Said::done(text))
}

/// Explains all that are not as they are wished, the launcher first.
pub(super) async fn all(launcher: &impl Ask, view: &View) -> Result<Said, Failure> {
    let plugins = list(launcher).await?;
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
        return Ok(Said::done(line(&encode(&found))));
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
    // It may run, but nobody looks after it any more.
    if info.status.starts_with("degraded: ") {
        return false;
    }
    match info.phase.as_str() {
        // Its process lives, but nobody looks after it.
        "running" if info.status.starts_with("degraded") => false,
        "running" => info.wish != "down",
        // A file that cannot be a plugin; nobody wishes it up.
        "blocked" => info.wish == "down",
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
        Reply::List(_) | Reply::Info(_) | Reply::Plan(_) | Reply::Empty => Err(unexpected()),
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
            out.push_str(&row(title, text));
        }
    };
    line("why", text);
    line("says", &why.says);
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
    line("uses", &usage(info));
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

fn row(title: &str, text: &str) -> String {
    format!("  {title:<11} {}\n", escaped(text))
}

/// What it uses; empty when it does not run, or that is not measured.
fn usage(info: &PluginInfo) -> String {
    if !info.running || info.cpu_time_ms == UNKNOWN {
        return String::new();
    }
    let mib = |bytes: i64| bytes / (1024 * 1024);
    let mut parts = vec![
        format!("{}% CPU", info.cpu),
        format!("{} MB, {} MB at most", mib(info.rss), mib(info.peak_rss)),
    ];
    for (count, one, many) in [
        (info.open_fds, "descriptor", "descriptors"),
        (info.children, "child", "children"),
    ] {
        match count {
            UNKNOWN => {}
            1 => parts.push(format!("1 {one}")),
            more => parts.push(format!("{more} {many}")),
        }
    }
    parts.push(format!("for {}", span(info.uptime.saturating_mul(1000))));
    parts.join(", ")
}

/// The class of failure that need not end a run.
const DEPENDENCY_LOST: &str = "dependencyLost";

/// What follows a failure, a line for each group of classes that are answered alike.
fn policies(all: &[ClassPolicy]) -> Vec<String> {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for one in all {
        let answer = answer(one);
        match groups.iter_mut().find(|(known, _)| *known == answer) {
            Some((_, classes)) => classes.push(&one.class),
            None => groups.push((answer, vec![&one.class])),
        }
    }
    groups
        .into_iter()
        .map(|(answer, classes)| format!("{}: {answer}", classes.join(", ")))
        .collect()
}

fn answer(policy: &ClassPolicy) -> String {
    if policy.policy == "never" {
        // There is nothing to start: who loses another is not ended by that.
        let goes_on = policy.class == DEPENDENCY_LOST;
        return if goes_on {
            "it goes on without the other"
        } else {
            "never started again"
        }
        .to_owned();
    }
    let first = match policy.first_delay_ms {
        0 => "at once".to_owned(),
        ms => format!("after {}", span(ms)),
    };
    let factor = policy.factor_percent / 100;
    let tenth = policy.factor_percent % 100 / 10;
    let factor = match tenth {
        0 => factor.to_string(),
        tenth => format!("{factor}.{tenth}"),
    };
    format!(
        "{}, {first}, then {} and {factor} times longer each, up to {}",
        policy.policy,
        span(policy.delay_ms),
        span(policy.max_delay_ms)
    )
}

/// A time, short: `250ms`, `5s`, `12m`, `3h`, `2d`.
fn span(ms: i64) -> String {
    match ms {
        i64::MIN..=0 => "0s".to_owned(),
        1..=999 => format!("{ms}ms"),
        1_000..=119_999 => format!("{}s", ms / 1_000),
        120_000..=3_599_999 => format!("{}m", ms / 60_000),
        3_600_000..=172_799_999 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
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
    use super::super::view::View;
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
                says: "polling 3 meters".to_owned(),
                ..Why::default()
            },
        };
        assert_eq!(
            piece(&plugin, &View::for_tests(false).table),
            "meter: backoff\n  \
               why         it failed twice\n  \
               says        polling 3 meters\n  \
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
    fn what_it_uses_is_told_while_it_runs() {
        let mut info = PluginInfo {
            running: true,
            cpu: 12,
            rss: 30 << 20,
            peak_rss: 41 << 20,
            cpu_time_ms: 7,
            open_fds: 9,
            children: 1,
            uptime: 7_300,
            ..PluginInfo::default()
        };
        assert_eq!(
            usage(&info),
            "12% CPU, 30 MB, 41 MB at most, 9 descriptors, 1 child, for 2h"
        );
        info.open_fds = UNKNOWN;
        assert_eq!(
            usage(&info),
            "12% CPU, 30 MB, 41 MB at most, 1 child, for 2h"
        );
        info.cpu_time_ms = UNKNOWN;
        assert_eq!(usage(&info), "");
        info.running = false;
        assert_eq!(usage(&info), "");
    }

    #[test]
    fn classes_that_are_answered_alike_share_a_line() {
        let policy = |class: &str, policy: &str, first_delay_ms, factor_percent| ClassPolicy {
            class: class.to_owned(),
            policy: policy.to_owned(),
            first_delay_ms,
            delay_ms: 1_000,
            factor_percent,
            max_delay_ms: 3_600_000,
        };
        let all = [
            policy("couldNotStart", "always", 1_000, 200),
            policy("crash", "always", 0, 150),
            policy("watchdog", "always", 0, 150),
            policy("dependencyLost", "never", 0, 200),
        ];
        assert_eq!(
            policies(&all),
            [
                "couldNotStart: always, after 1s, then 1s and 2 times longer each, up to 1h",
                "crash, watchdog: always, at once, then 1s and 1.5 times longer each, up to 1h",
                "dependencyLost: it goes on without the other",
            ]
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
            // A file that cannot be a plugin.
            ("blocked", "down", true),
            ("foreign", "down", false),
        ] {
            assert_eq!(is_as_wished(&info(phase, wish)), expected, "{phase}");
        }
        let alone = PluginInfo {
            status: "degraded: its supervision crashed too often".to_owned(),
            ..info("running", "up")
        };
        assert!(!is_as_wished(&alone));
    }
}
