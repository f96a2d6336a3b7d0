//! Actions that are requested of things, and what things tell (HP 1.21, 1.22).
//!
//! Invariants: an action is requested once only; events are written as they come, and a reader that is slow loses some
//! rather than the connection.

use super::cli::{Act, Listen};
use super::code::ExitCode;
use super::exit::Failure;
use super::say::{Said, escaped};
use super::session::{Session, failure_of};
use super::table::{Style, padded};
use super::view::View;
use bus::client::{CallError, Incoming};
use bus::topics::{self, MessageKind, Topic};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::io;
use tokio::io::AsyncWriteExt;

/// When an event came.
const CLOCK: &str = "%H:%M:%S.%3f";
/// When a description was changed.
const UPDATED: &str = "%Y-%m-%d %H:%M:%S.%3f %z";
/// The most characters of a value in a line.
const MOST_VALUE: usize = 30;

/// Requests an action and shows its answer.
pub(super) async fn act(session: &Session, wish: &Act, view: &View) -> Result<Said, Failure> {
    let Act {
        agent,
        thing,
        action,
        value,
    } = wish;
    let topic = Topic::new(MessageKind::Action, agent, thing, action, session.login())
        .map_err(|error| unfit(&error))?;
    let answer = session
        .ask_at(&topic.to_string(), value.clone().into_bytes())
        .await
        .map_err(|error| {
            let mut failure = failure_of(&error);
            match error {
                CallError::Timeout | CallError::NobodyServes { .. } => {
                    failure.hint = format!("nobody answers for agent '{agent}': does it run, and has it such a thing? see hubcli ls");
                }
                CallError::Remote(_) => {
                    failure.hint = "hubcli subtd shows what things can do when they describe themselves".to_owned();
                }
                CallError::NotAuthorized
                | CallError::Refused(_)
                | CallError::NotConnected
                | CallError::Disconnected(_)
                | CallError::Invalid { .. } => {}
            }
            failure
        })?;
    let answer = String::from_utf8_lossy(&answer);
    if view.json {
        let told = json!({"agentID": agent, "thingID": thing, "name": action, "reply": answer});
        return Ok(Said::done(format!("{told}\n")));
    }
    let mut out = format!(
        "Successfully published action '{}' to thing '{}'\n",
        escaped(action),
        escaped(thing)
    );
    if !answer.is_empty() {
        out += &format!("{}\n", escaped(&answer));
    }
    Ok(Said::done(out))
}

/// The filter for what is to be shown.
///
/// # Errors
/// A part that cannot be one of a topic.
pub(super) fn filter(wish: &Listen) -> Result<String, Failure> {
    let part = |word: &'_ str| (!word.is_empty()).then(|| word.to_owned());
    let parts = [&wish.agent, &wish.thing, &wish.name].map(|word| part(word));
    let or_x = |part: &Option<String>| part.clone().unwrap_or_else(|| "x".to_owned());
    let [agent, thing, name] = &parts;
    Topic::new(
        MessageKind::Event,
        &or_x(agent),
        &or_x(thing),
        &or_x(name),
        "x",
    )
    .map_err(|error| unfit(&error))?;
    Ok(topics::filter(
        MessageKind::Event,
        agent.as_deref(),
        thing.as_deref(),
        name.as_deref(),
    ))
}

fn unfit(error: &topics::TopicError) -> Failure {
    let hint = "agents, things and names hold no '/', '+' or '#'; hubcli sub shows those that tell something";
    Failure::usage(error.to_string(), hint)
}

/// Shows events until there were enough or the connection ends.
pub(super) async fn listen(
    mut session: Session,
    wish: &Listen,
    view: &View,
) -> Result<Said, Failure> {
    let mut out = tokio::io::stdout();
    if !view.json && write(&mut out, &header(wish)).await.is_break() {
        return Ok(Said::done(String::new()));
    }
    let mut left = wish.count;
    while left != Some(0) {
        match session.next().await {
            Some(Incoming::Message { topic, payload }) => {
                let now = Timestamp::now().as_millisecond();
                let Some(line) = shown(&topic, &payload, now, wish, view) else {
                    continue;
                };
                if write(&mut out, &line).await.is_break() {
                    break;
                }
                left = left.map(|left| left - 1);
            }
            Some(Incoming::Connected { .. } | Incoming::Request(_)) => {}
            Some(Incoming::Disconnected { reason }) => return Err(lost(&reason)),
            None => return Err(lost("it was closed")),
        }
    }
    session.close().await;
    Ok(Said::done(String::new()))
}

pub(super) fn lost(reason: &str) -> Failure {
    Failure::new(
        ExitCode::NoConnection,
        format!("connection to the hub lost: {reason}"),
        "the core ended or was restarted: try again, and see logs/core.log",
    )
}

/// Writes without keeping the connection from living; breaks when nobody reads any more.
pub(super) async fn write(
    out: &mut tokio::io::Stdout,
    text: &str,
) -> std::ops::ControlFlow<io::Error> {
    let written = async {
        out.write_all(text.as_bytes()).await?;
        out.flush().await
    };
    match written.await {
        Ok(()) => std::ops::ControlFlow::Continue(()),
        Err(error) => std::ops::ControlFlow::Break(error),
    }
}

/// The original's words and headers.
fn header(wish: &Listen) -> String {
    if wish.things {
        return "\
Agent ID             Thing ID                  Title                          Type                 Updated           
-------------------  ------------------------  -----------------------------  -------------------  --------------------
"
        .to_owned();
    }
    format!(
        "\
Subscribing to agentID: '{}', thingID: '{}', name: '{}'

Time             Agent ID             Thing ID                  Event Name                     Value
---------------  -------------------  ------------------------  -----------------------------  ---------
",
        escaped(&wish.agent),
        escaped(&wish.thing),
        escaped(&wish.name)
    )
}

/// The line of an event; none for what is no event, or no description where those are shown.
fn shown(topic: &str, payload: &[u8], now_ms: i64, wish: &Listen, view: &View) -> Option<String> {
    let topic = Topic::parse(topic).ok()?;
    if view.json {
        let told = json!({
            "timeMSE": now_ms,
            "agentID": topic.agent,
            "thingID": topic.thing,
            "name": topic.name,
            "value": String::from_utf8_lossy(payload),
        });
        return Some(format!("{told}\n"));
    }
    let style = &view.table;
    if wish.things {
        let td: Value = serde_json::from_slice(payload).ok()?;
        return Some(row(&[
            (&topic.agent, 20),
            (&topic.thing, 25),
            (text(&td, "title"), 30),
            (text(&td, "@type"), 20),
            (&updated(&td, style), 0),
        ]));
    }
    Some(row(&[
        (&style.time(now_ms, CLOCK), 16),
        (&topic.agent, 20),
        (&topic.thing, 25),
        (&topic.name, 30),
        (&value(&topic.name, payload), 0),
    ]))
}

fn row(cells: &[(&str, usize)]) -> String {
    let cells: Vec<String> = cells
        .iter()
        .map(|(text, width)| padded(&escaped(text), *width))
        .collect();
    cells.join(" ").trim_end().to_owned() + "\n"
}

/// A value in few words (HP 1.21).
fn value(name: &str, payload: &[u8]) -> String {
    let object = || serde_json::from_slice::<Value>(payload).unwrap_or_default();
    match name {
        "$properties" => format!(
            "{} properties",
            object().as_object().map_or(0, |it| it.len())
        ),
        "$td" => {
            let td = object();
            let count = |key: &str| td[key].as_object().map_or(0, |it| it.len());
            format!(
                "{{title:{}, type:{}, nrProps={}, nrEvents={}, nrActions={}}}",
                text(&td, "title"),
                text(&td, "@type"),
                count("properties"),
                count("events"),
                count("actions")
            )
        }
        _ => String::from_utf8_lossy(payload)
            .chars()
            .take(MOST_VALUE)
            .collect(),
    }
}

fn text<'a>(td: &'a Value, key: &str) -> &'a str {
    td[key].as_str().unwrap_or_default()
}

/// When a description was changed, in the local zone; as it is where that cannot be read.
fn updated(td: &Value, style: &Style) -> String {
    let modified = text(td, "modified");
    let forms = ["%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%dT%H:%M:%S%.f%:z"];
    let time = forms
        .iter()
        .find_map(|form| Timestamp::strptime(form, modified).ok());
    time.map_or_else(
        || modified.to_owned(),
        |time| style.time(time.as_millisecond(), UPDATED),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(topic: &str, payload: &str, things: bool, json: bool) -> Option<String> {
        let wish = Listen {
            things,
            ..Listen::default()
        };
        shown(
            topic,
            payload.as_bytes(),
            1_698_434_814_123,
            &wish,
            &View::for_tests(json),
        )
    }

    const TD: &str = r#"{"title":"Counter","@type":"sensor","modified":"2023-10-27T12:26:50.456-0700","events":{"count":{}}}"#;

    #[test]
    fn events_are_shown_as_the_original_does() {
        let event = |topic: &str, payload: &str| line(topic, payload, false, false).unwrap();
        assert_eq!(
            event("event/counter/counter/count/counter", "42"),
            "19:26:54.123     counter              counter                   count                          42\n"
        );
        assert!(
            event("event/a/t/$td/a", TD)
                .ends_with(" $td                            {title:Counter, type:sensor, nrProps=0, nrEvents=1, nrActions=0}\n")
        );
        assert!(
            event("event/a/t/$properties/a", r#"{"x":"1","y":"2"}"#).ends_with(" 2 properties\n")
        );
        assert!(
            event("event/a/t/$td/a", "no json")
                .ends_with(" {title:, type:, nrProps=0, nrEvents=0, nrActions=0}\n")
        );
        let long = event("event/a/t/n/a", &format!("\u{1b}[2J{}", "x".repeat(100)));
        assert!(
            long.contains(r"\u{1b}[2Jxxx") && !long.contains('\u{1b}'),
            "{long}"
        );
        assert!(long.matches('x').count() < 30);
        assert_eq!(line("no/topic", "", false, false), None);
    }

    #[test]
    fn descriptions_are_shown_as_the_original_does() {
        assert_eq!(
            line("event/a/t/$td/a", TD, true, false).unwrap(),
            "a                    t                         Counter                        sensor               2023-10-27 19:26:50.456 +0000\n"
        );
        assert_eq!(line("event/a/t/$td/a", "no json", true, false), None);
    }

    #[test]
    fn programs_get_a_line_of_json_for_each() {
        let json = line("event/a/t/n/a", "\"x\"", false, true).unwrap();
        let told: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            told,
            json!({"timeMSE": 1_698_434_814_123_i64, "agentID": "a", "thingID": "t", "name": "n", "value": "\"x\""})
        );
    }

    #[test]
    fn filters_leave_open_what_is_not_said() {
        let of = |agent: &str, thing: &str, name: &str| {
            filter(&Listen {
                agent: agent.to_owned(),
                thing: thing.to_owned(),
                name: name.to_owned(),
                ..Listen::default()
            })
        };
        assert_eq!(of("", "", "").unwrap(), "event/+/+/+/#");
        assert_eq!(of("a", "", "$td").unwrap(), "event/a/+/$td/#");
        assert_eq!(of("a/b", "", "").unwrap_err().exit, ExitCode::Usage);
    }
}
