//! What the launcher tells of its plugins and of itself (spec §8, §13): how all are, then what happens.
//!
//! Invariants: nothing is shown twice, even when the launcher sends it twice; what did not arrive is said; no event is
//! kept by the hub, so what is shown first is how things are now.

use super::ask::Ask;
use super::code::ExitCode;
use super::exit::Failure;
use super::messages::{lost, write};
use super::say::{Said, escaped};
use super::session::Session;
use super::table::{Style, padded};
use super::view::{View, list};
use super::watch::Watch;
use super::way::note;
use bus::client::Incoming;
use bus::golang::decode;
use bus::topics::{self, MessageKind, Topic};
use bus::wire::{
    LAUNCHER, LAUNCHER_EVENT, LIMIT_EVENT, LauncherEvent, LimitEvent, MANAGE, PLUGIN_EVENT,
    PluginEvent, PluginInfo, UNKNOWN,
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// When something happened.
const TIME: &str = "%Y-%m-%d %H:%M:%S.%3f";

/// Between two tries to connect again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A core that is started again is there within this time.
const PATIENCE: Duration = Duration::from_secs(3);

/// The filter for all that the launcher tells.
pub(super) fn filter() -> String {
    topics::filter(MessageKind::Event, Some(LAUNCHER), Some(MANAGE), None)
}

/// Shows how all are.
pub(super) async fn show(launcher: &impl Ask, wish: &Watch, view: &View) -> Result<Said, Failure> {
    let plugins = list(launcher).await?;
    let shown: Vec<String> = states(&plugins, wish, view).collect();
    if shown.is_empty()
        && let Some(name) = &wish.name
        && !is_launcher(name)
    {
        return Err(Failure::failed(
            bus::rpc::not_found(name),
            "hubcli ls shows all names",
        ));
    }
    Ok(Said::done(shown.concat()))
}

/// Shows how all are, then what happens, until Ctrl-C or until there was enough. A connection that is lost is made `again`,
/// as often as need be, and how all are is shown then, too: what happened meanwhile may have been told to nobody.
pub(super) async fn follow(
    session: Session,
    again: impl AsyncFn() -> Result<Session, Failure>,
    wish: &Watch,
    view: &View,
) -> Result<Said, Failure> {
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Ok(Said::done(String::new())),
        said = watch(session, again, wish, view) => said,
    }
}

async fn watch(
    mut session: Session,
    again: impl AsyncFn() -> Result<Session, Failure>,
    wish: &Watch,
    view: &View,
) -> Result<Said, Failure> {
    let mut shown = Shown {
        out: tokio::io::stdout(),
        seen: Seen::default(),
        left: wish.count,
    };
    while let Err(failure) = shown.all_of(&mut session, wish, view).await {
        if failure.exit != ExitCode::NoConnection {
            return Err(failure);
        }
        note(
            &format!("{}; waiting for it, Ctrl-C ends", failure.text),
            view.json,
        );
        session = connected(&again, &failure.text, view).await;
    }
    session.close().await;
    Ok(Said::done(String::new()))
}

/// Connects again, for as long as it takes; why it fails is told when that lasts, each new reason once.
async fn connected(
    again: &impl AsyncFn() -> Result<Session, Failure>,
    lost: &str,
    view: &View,
) -> Session {
    let mut told = lost.to_owned();
    let begun = Instant::now();
    loop {
        match again().await {
            Ok(session) => {
                note("connected to the hub again", view.json);
                return session;
            }
            Err(failure) => {
                if told != failure.text && begun.elapsed() > PATIENCE {
                    note(&failure.text, view.json);
                    told = failure.text;
                }
            }
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// What was shown, and what is still to be.
struct Shown {
    out: tokio::io::Stdout,
    seen: Seen,
    left: Option<u64>,
}

impl Shown {
    /// Until there was enough, or nobody reads any more.
    ///
    /// # Errors
    /// With [`ExitCode::NoConnection`] the connection was lost.
    async fn all_of(
        &mut self,
        session: &mut Session,
        wish: &Watch,
        view: &View,
    ) -> Result<(), Failure> {
        match show(session, wish, view).await {
            Ok(said) => {
                if write(&mut self.out, &said.out).await.is_break() {
                    return Ok(());
                }
            }
            // What happens is worth knowing all the more when the launcher does not answer yet.
            Err(failure) if failure.exit == ExitCode::Failed && wish.name.is_none() => {}
            Err(failure) => return Err(failure),
        }
        while self.left != Some(0) {
            match session.next().await {
                Some(Incoming::Message { topic, payload }) => {
                    let Some(text) = told(&topic, &payload, &mut self.seen, wish, view) else {
                        continue;
                    };
                    if write(&mut self.out, &text).await.is_break() {
                        return Ok(());
                    }
                    self.left = self.left.map(|left| left - 1);
                }
                Some(Incoming::Connected { .. } | Incoming::Request(_)) => {}
                Some(Incoming::Disconnected { reason }) => return Err(lost(&reason)),
                None => return Err(lost("it was closed")),
            }
        }
        Ok(())
    }
}

fn is_launcher(name: &str) -> bool {
    name == LAUNCHER
}

/// The newest number of which start of the launcher was shown.
#[derive(Debug, Default)]
struct Seen {
    boot: String,
    seq: i64,
}

/// What a number says of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It comes a second time.
    Again,
    /// It is the next, or the first that is seen.
    Next,
    /// So many before it did not arrive.
    After(i64),
}

impl Seen {
    fn place(&mut self, boot: &str, seq: i64) -> Place {
        let before = if self.boot == boot {
            self.seq
        } else {
            boot.clone_into(&mut self.boot);
            seq - 1
        };
        if seq <= before {
            return Place::Again;
        }
        self.seq = seq;
        match seq - before - 1 {
            0 => Place::Next,
            missing => Place::After(missing),
        }
    }
}

/// A line for each plugin that is wanted.
fn states<'a>(
    plugins: &'a [PluginInfo],
    wish: &'a Watch,
    view: &'a View,
) -> impl Iterator<Item = String> + 'a {
    let wanted = |info: &&PluginInfo| wish.name.as_ref().is_none_or(|name| *name == info.name);
    plugins.iter().filter(wanted).map(|info| {
        if view.json {
            return format!("{}\n", json!({"event": "state", "value": info}));
        }
        let since = if info.running {
            info.start_time_mse
        } else {
            info.stop_time_mse
        };
        let next = info.next_start_mse.saturating_sub(view.table.now_ms);
        let next = if info.next_start_mse > 0 {
            next
        } else {
            UNKNOWN
        };
        line(
            since,
            &info.name,
            &format!("is {}", escaped(&info.phase)),
            &details(info.run, &info.cause, next),
            &view.table,
        )
    })
}

/// What is printed of an event; none when it is no such event, not wanted, or was printed.
fn told(topic: &str, payload: &[u8], seen: &mut Seen, wish: &Watch, view: &View) -> Option<String> {
    let topic = Topic::parse(topic).ok()?;
    let (id, boot, seq, text) = match topic.name.as_str() {
        PLUGIN_EVENT => {
            let event: PluginEvent = decode(payload).ok()?;
            let text = plugin_lines(&event, &view.table);
            (event.id, event.boot, event.seq, text)
        }
        LIMIT_EVENT => {
            let event: LimitEvent = decode(payload).ok()?;
            let text = limit_line(&event, &view.table);
            (event.id, event.boot, event.seq, text)
        }
        LAUNCHER_EVENT => {
            let event: LauncherEvent = decode(payload).ok()?;
            let text = launcher_line(&event, &view.table);
            (LAUNCHER.to_owned(), event.boot, event.seq, text)
        }
        _ => return None,
    };
    let place = seen.place(&boot, seq);
    if place == Place::Again || wish.name.as_ref().is_some_and(|name| *name != id) {
        return None;
    }
    if view.json {
        let value: Value = serde_json::from_slice(payload).ok()?;
        return Some(format!(
            "{}\n",
            json!({"event": topic.name, "value": value})
        ));
    }
    Some(match place {
        Place::After(missing) if wish.name.is_none() => {
            format!("({missing} events before this one did not arrive)\n{text}")
        }
        Place::Again | Place::Next | Place::After(_) => text,
    })
}

fn plugin_lines(event: &PluginEvent, style: &Style) -> String {
    let change = format!("{} -> {}", escaped(&event.from), escaped(&event.to));
    let details = details(event.run, &event.cause, event.restart_in_ms);
    let mut lines = line(event.time_mse, &event.id, &change, &details, style);
    for last in &event.tail {
        lines.push_str(&format!("{:<25}| {}\n", "", escaped(last)));
    }
    lines
}

fn limit_line(event: &LimitEvent, style: &Style) -> String {
    let unit = match event.what.as_str() {
        "memory" => " bytes",
        "cpu" => "%",
        _ => "",
    };
    let mut details = format!(
        "{}{unit} of {}{unit} allowed, {} times in a row",
        event.measured, event.limit, event.strikes
    );
    if event.action == "restart" {
        details += "; it is restarted";
    }
    if !event.evidence.is_empty() {
        details += &format!("; see {}", event.evidence);
    }
    let what = format!("{} limit", escaped(&event.what));
    line(event.time_mse, &event.id, &what, &details, style)
}

fn launcher_line(event: &LauncherEvent, style: &Style) -> String {
    line(
        event.time_mse,
        LAUNCHER,
        &escaped(&event.what),
        &event.text,
        style,
    )
}

/// Why, which run, and when it is tried next.
fn details(run: i64, cause: &str, next_ms: i64) -> String {
    let mut parts = Vec::new();
    if !cause.is_empty() {
        parts.push(cause.to_owned());
    }
    match next_ms {
        i64::MIN..=-1 => {}
        0 => parts.push("tried again at once".to_owned()),
        ms => parts.push(format!("tried again {}", super::table::in_words(ms))),
    }
    if run > 0 {
        parts.push(format!("run {run}"));
    }
    parts.join("; ")
}

fn line(time_ms: i64, id: &str, what: &str, details: &str, style: &Style) -> String {
    let line = format!(
        "{} {} {} {}",
        padded(&style.time(time_ms, TIME), 24),
        padded(&escaped(id), 20),
        padded(what, 24),
        escaped(details)
    );
    line.trim_end().to_owned() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(name: Option<&str>) -> Watch {
        Watch {
            name: name.map(str::to_owned),
            follow: true,
            count: None,
        }
    }

    fn shown(
        name: &str,
        payload: &str,
        seen: &mut Seen,
        wanted: &Watch,
        json: bool,
    ) -> Option<String> {
        let topic = format!("event/launcher/manage/{name}/launcher");
        told(
            &topic,
            payload.as_bytes(),
            seen,
            wanted,
            &View::for_tests(json),
        )
    }

    const CRASH: &str = r#"{"seq":7,"boot":"b","timeMSE":1698434814123,"id":"history","run":3,"pid":47,"from":"running","to":"backoff","cause":"exited with code 3 after 61.0 s","exitCode":3,"signal":"","restartInMS":1000,"tail":["out of \u001b[31mluck"]}"#;

    #[test]
    fn events_are_readable_lines() {
        let seen = &mut Seen::default();
        let all = &wish(None);
        assert_eq!(
            shown("plugin", CRASH, seen, all, false).unwrap(),
            "2023-10-27 19:26:54.123  history              running -> backoff       exited with code 3 after 61.0 s; tried again in 1s; run 3\n\
             \u{20}                        | out of \\u{1b}[31mluck\n"
        );
        assert_eq!(shown("plugin", CRASH, seen, all, false), None, "twice");
        let limit = r#"{"seq":8,"boot":"b","timeMSE":1698434814123,"id":"history","run":3,"what":"memory","measured":70,"limit":64,"strikes":3,"action":"restart","evidence":"/l/x.txt"}"#;
        assert!(
            shown("limit", limit, seen, all, false).unwrap().ends_with(
                "history              memory limit             70 bytes of 64 bytes allowed, 3 times in a row; it is restarted; see /l/x.txt\n"
            )
        );
        let dropped = r#"{"seq":12,"boot":"b","timeMSE":1698434814123,"what":"dropped","text":"4 events were dropped"}"#;
        let line = shown("launcher", dropped, seen, all, false).unwrap();
        assert!(
            line.starts_with("(3 events before this one did not arrive)\n"),
            "{line}"
        );
        assert!(
            line.ends_with("launcher             dropped                  4 events were dropped\n"),
            "{line}"
        );
        assert_eq!(shown("started", "\"history\"", seen, all, false), None);
        assert_eq!(shown("plugin", "no json", seen, all, false), None);
    }

    #[test]
    fn one_plugin_alone_may_be_watched_and_programs_get_a_line_for_each() {
        let seen = &mut Seen::default();
        assert_eq!(
            shown("plugin", CRASH, seen, &wish(Some("other")), true),
            None
        );
        let again = CRASH.replace("\"seq\":7", "\"seq\":9");
        let line = shown("plugin", &again, seen, &wish(Some("history")), true).unwrap();
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["event"], "plugin");
        assert_eq!(value["value"]["restartInMS"], 1000);
        assert!(line.ends_with('\n') && line.trim_end().lines().count() == 1);
    }

    #[test]
    fn a_launcher_that_began_anew_counts_anew() {
        let mut seen = Seen::default();
        assert_eq!(seen.place("a", 40), Place::Next);
        assert_eq!(seen.place("a", 40), Place::Again);
        assert_eq!(seen.place("a", 43), Place::After(2));
        assert_eq!(seen.place("b", 1), Place::Next);
    }

    #[test]
    fn how_all_are_is_shown_first() {
        let info = PluginInfo {
            name: "history".to_owned(),
            phase: "blocked".to_owned(),
            cause: "no such\u{7} file".to_owned(),
            ..PluginInfo::default()
        };
        let (all, view) = (wish(None), View::for_tests(false));
        let plugins = [info];
        let lines: Vec<String> = states(&plugins, &all, &view).collect();
        assert_eq!(lines.len(), 1);
        assert!(
            lines[0].contains("history              is blocked               no such\\u{7} file\n"),
            "{lines:?}"
        );
        assert_eq!(states(&plugins, &wish(Some("x")), &view).count(), 0);
    }
}
