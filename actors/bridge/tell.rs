//! Sends what the bus is to be told (spec §8, §18).
//!
//! Invariants: in order, many at once; what was not acknowledged is sent again, with the same number and time; nothing is
//! made into JSON before there is a bus.

use super::{BridgeArgs, SEND_WITHIN, event_topic};
use crate::hub::Hub;
use crate::link::Link;
use crate::news::Told;
use crate::ports::{Happening, LimitExceeded, PhaseChange};
use bus::client::{CallError, Message};
use bus::golang;
use bus::wire::{
    LAUNCHER_EVENT, LIMIT_EVENT, LauncherEvent, LimitEvent, PLUGIN_EVENT, PluginEvent,
    STARTED_EVENT, STOPPED_EVENT, UNKNOWN,
};
use std::sync::Arc;
use supervision::ExitStatus;

/// Sends what is in the spool, in order, while there is a bus.
pub(super) async fn tell(hub: Arc<Hub>, args: BridgeArgs) {
    let mut links = args.link.subscribe();
    loop {
        if links.wait_for(Link::is_up).await.is_err() {
            return;
        }
        // What is dropped unsent, with this task too, is put back.
        let mut outgoing = args.news.next().await;
        if !args.link.borrow().is_up() {
            continue;
        }
        let events = outgoing.events();
        let messages: Vec<Message> = events
            .iter()
            .map(|told| message(&hub.node.client_id, args.news.boot(), told))
            .collect();
        let results = args.client.publish_all(&messages, SEND_WITHIN).await;
        let done: Vec<bool> = results.iter().map(is_done).collect();
        outgoing.done(&done);
        drop(outgoing);
        if done.iter().all(|done| *done) {
            continue;
        }
        tracing::debug!("events were not sent yet");
        // The connection is breaking, or slow: wait until it says so, or a moment, then try again.
        let _ = tokio::time::timeout(SEND_WITHIN, links.changed()).await;
    }
}

/// Whether an event is done with.
fn is_done(result: &Result<(), CallError>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) if error.is_final() => {
            // Tried for ever it would hold up all that come after it.
            tracing::warn!("an event is dropped, the bus does not take it: {error}");
            true
        }
        Err(_) => false,
    }
}

fn message(client_id: &str, boot: &str, told: &Told) -> Message {
    let (name, payload) = payload(boot, told);
    Message {
        topic: event_topic(client_id, name),
        payload: payload.into(),
    }
}

/// The event's name and what it carries.
fn payload(boot: &str, told: &Told) -> (&'static str, Vec<u8>) {
    match &told.what {
        // A JSON string (HP 1.21); an id needs no escapes.
        Happening::Started { id } => (STARTED_EVENT, format!("\"{id}\"").into_bytes()),
        Happening::Stopped { id } => (STOPPED_EVENT, format!("\"{id}\"").into_bytes()),
        Happening::Plugin(change) => {
            let event = plugin_event(boot, told, change);
            (PLUGIN_EVENT, golang::encode(&event))
        }
        Happening::Limit(limit) => {
            let event = limit_event(boot, told, limit);
            (LIMIT_EVENT, golang::encode(&event))
        }
        Happening::Launcher { what, text } => {
            let event = LauncherEvent {
                seq: number(told.seq),
                boot: boot.to_owned(),
                time_mse: told.time_mse,
                what: what.as_str().to_owned(),
                text: text.clone(),
            };
            (LAUNCHER_EVENT, golang::encode(&event))
        }
    }
}

fn plugin_event(boot: &str, told: &Told, change: &PhaseChange) -> PluginEvent {
    PluginEvent {
        seq: number(told.seq),
        boot: boot.to_owned(),
        time_mse: change.time_mse,
        id: change.id.to_string(),
        run: number(change.run.0),
        pid: i64::from(change.pid),
        from: change.from.to_string(),
        to: change.to.to_string(),
        cause: change.cause.clone(),
        exit_code: change.status.map_or(UNKNOWN, ExitStatus::code),
        signal: change
            .status
            .map(ExitStatus::signal_name)
            .unwrap_or_default(),
        restart_in_ms: change.restart_in.map_or(UNKNOWN, |delay| {
            i64::try_from(delay.as_millis()).unwrap_or(i64::MAX)
        }),
        tail: change.tail.clone(),
    }
}

fn limit_event(boot: &str, told: &Told, limit: &LimitExceeded) -> LimitEvent {
    let evidence = limit.evidence.as_deref();
    LimitEvent {
        seq: number(told.seq),
        boot: boot.to_owned(),
        time_mse: told.time_mse,
        id: limit.id.to_string(),
        run: number(limit.run.0),
        what: limit.what.as_str().to_owned(),
        measured: number(limit.measured),
        limit: number(limit.limit),
        strikes: i64::from(limit.strikes),
        action: limit.action.as_str().to_owned(),
        evidence: evidence.map_or_else(String::new, |file| file.display().to_string()),
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::{LauncherNews, LimitAction, LimitKind};
    use std::path::PathBuf;
    use std::time::Duration;
    use supervision::lifecycle::PhaseName;
    use supervision::{PluginId, Run};

    fn json(what: Happening) -> String {
        let told = Told {
            seq: 12,
            time_mse: 1_698_434_814_123,
            what,
        };
        let (name, payload) = payload("b007", &told);
        format!("{name} {}", String::from_utf8(payload).unwrap())
    }

    #[test]
    fn events_are_written_as_specified() {
        let id = PluginId::new("certs").unwrap();
        assert_eq!(
            json(Happening::Started { id: id.clone() }),
            "started \"certs\""
        );
        let change = PhaseChange {
            time_mse: 1_698_434_814_000,
            id: id.clone(),
            run: Run(2),
            pid: 77,
            from: PhaseName::Running,
            to: PhaseName::Backoff,
            cause: "exited with code 3 after 61.0 s".to_owned(),
            status: Some(ExitStatus::Code(3)),
            restart_in: Some(Duration::from_millis(1_050)),
            tail: vec!["bye".to_owned()],
        };
        assert_eq!(
            json(Happening::Plugin(Box::new(change.clone()))),
            r#"plugin {"seq":12,"boot":"b007","timeMSE":1698434814000,"id":"certs","run":2,"pid":77,"from":"running","to":"backoff","cause":"exited with code 3 after 61.0 s","exitCode":3,"signal":"","restartInMS":1050,"tail":["bye"]}"#
        );
        let plain = PhaseChange {
            status: None,
            restart_in: None,
            tail: Vec::new(),
            ..change
        };
        let plain = json(Happening::Plugin(Box::new(plain)));
        assert!(
            plain.ends_with(r#""exitCode":-1,"signal":"","restartInMS":-1,"tail":[]}"#),
            "{plain}"
        );
        let limit = LimitExceeded {
            id,
            run: Run(2),
            what: LimitKind::Memory,
            measured: 70,
            limit: 64,
            strikes: 3,
            action: LimitAction::Restart,
            evidence: Some(PathBuf::from("/hub/logs/certs.limit-2.txt")),
        };
        assert_eq!(
            json(Happening::Limit(Box::new(limit))),
            r#"limit {"seq":12,"boot":"b007","timeMSE":1698434814123,"id":"certs","run":2,"what":"memory","measured":70,"limit":64,"strikes":3,"action":"restart","evidence":"/hub/logs/certs.limit-2.txt"}"#
        );
        let launcher = Happening::Launcher {
            what: LauncherNews::Reloaded,
            text: "a < b".to_owned(),
        };
        assert_eq!(
            json(launcher),
            r#"launcher {"seq":12,"boot":"b007","timeMSE":1698434814123,"what":"reloaded","text":"a \u003c b"}"#
        );
    }
}
