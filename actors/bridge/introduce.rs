//! Introduces the launcher: its description, and the values of its properties as they change (spec §8, HP 1.21).
//!
//! Invariants: a description goes out at connect, when the set of plugins changed, and when a directory has become ready,
//! as nothing is retained on this bus; values go out after the description that names them, only those that changed,
//! and at most once in [`PACE`]; while nothing changes nothing is done.

use super::{BridgeArgs, event_topic, sent};
use crate::hub::Hub;
use crate::ports::Kind;
use crate::view::View;
use bus::golang;
use bus::wire::{
    NR_PLUGINS, NR_RUNNING, PROPERTIES_EVENT, TD_EVENT, launcher_td, properties_payload,
    state_property,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};
use supervision::lifecycle::PhaseName;
use supervision::{PluginId, Run};

/// How often descriptions and values are sent at most.
const PACE: Duration = Duration::from_secs(1);

/// So many plugins have a property of their own at most, so that a description stays one message.
const DESCRIBED: usize = 2_000;

/// The plugin that keeps descriptions (HP 1.21).
const DIRECTORY: &str = "directory";

/// What was said last.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    ids: BTreeSet<PluginId>,
    directory: Run,
    values: BTreeMap<String, String>,
}

/// Introduces the launcher on a new connection, and keeps it introduced.
pub(super) async fn introduce(hub: &Hub, args: &BridgeArgs, created: SystemTime) {
    let mut changes = hub.roster.changes();
    let mut said: Option<Said> = None;
    loop {
        changes.mark_unchanged();
        let now = state(hub);
        if is_to_be_described(said.as_ref(), &now) {
            let ids = now.ids.iter().take(DESCRIBED).map(PluginId::as_str);
            let td = golang::encode(&launcher_td(created, SystemTime::now(), ids));
            let topic = event_topic(&hub.node.client_id, TD_EVENT);
            if !sent(&args.client, &topic, td).await {
                tracing::debug!("the launcher's description was not sent");
                tokio::time::sleep(PACE).await;
                continue;
            }
        }
        let before = said.as_ref().map(|said| &said.values);
        let changed = changed_values(before, &now.values);
        if !changed.is_empty() {
            let topic = event_topic(&hub.node.client_id, PROPERTIES_EVENT);
            if !sent(&args.client, &topic, properties_payload(&changed)).await {
                tracing::debug!("the launcher's properties were not sent");
                tokio::time::sleep(PACE).await;
                continue;
            }
        }
        said = Some(now);
        tokio::time::sleep(PACE).await;
        tokio::select! {
            () = args.news.phase_changed() => {}
            changed = changes.changed() => if changed.is_err() { return; },
        }
    }
}

/// Whether what was said is no description of what is, or nobody has kept it.
fn is_to_be_described(said: Option<&Said>, now: &Said) -> bool {
    said.is_none_or(|said| {
        said.ids != now.ids || (now.directory != Run(0) && said.directory != now.directory)
    })
}

fn changed_values(
    before: Option<&BTreeMap<String, String>>,
    now: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let is_new = |name: &str, value: &str| {
        before.is_none_or(|before| before.get(name).is_none_or(|old| old != value))
    };
    now.iter()
        .filter(|(name, value)| is_new(name, value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// How all are now.
fn state(hub: &Hub) -> Said {
    let mut said = Said::default();
    let (mut plugins, mut running) = (0_usize, 0_usize);
    for seat in hub.roster.seats() {
        match seat.kind {
            Kind::Core => continue,
            Kind::Plugin => {}
        }
        let view = seat.view();
        plugins += 1;
        running += usize::from(view.running());
        if seat.id.as_str() == DIRECTORY && view.phase == PhaseName::Running {
            said.directory = view.run;
        }
        if said.ids.len() < DESCRIBED {
            said.values
                .insert(state_property(seat.id.as_str()), phase_of(&view));
        }
        said.ids.insert(seat.id.clone());
    }
    said.values
        .insert(NR_PLUGINS.to_owned(), plugins.to_string());
    said.values
        .insert(NR_RUNNING.to_owned(), running.to_string());
    said
}

fn phase_of(view: &View) -> String {
    view.phase.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(ids: &[&str], directory: u64) -> Said {
        Said {
            ids: ids.iter().map(|id| PluginId::new(id).unwrap()).collect(),
            directory: Run(directory),
            values: BTreeMap::new(),
        }
    }

    #[test]
    fn a_description_is_repeated_when_there_is_somebody_new_to_describe_or_to_keep_it() {
        let now = said(&["a"], 0);
        assert!(is_to_be_described(None, &now));
        assert!(!is_to_be_described(Some(&said(&["a"], 0)), &now));
        assert!(!is_to_be_described(Some(&said(&["a"], 3)), &now), "it went");
        assert!(is_to_be_described(Some(&said(&["a", "b"], 0)), &now));
        assert!(is_to_be_described(Some(&now), &said(&["a"], 4)));
        assert!(is_to_be_described(Some(&said(&["a"], 3)), &said(&["a"], 4)));
    }

    #[test]
    fn only_values_that_changed_are_told() {
        let of = |values: &[(&str, &str)]| -> BTreeMap<String, String> {
            let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            values.iter().map(owned).collect()
        };
        let now = of(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(changed_values(None, &now), now);
        let before = of(&[("a", "1"), ("b", "0"), ("d", "4")]);
        assert_eq!(
            changed_values(Some(&before), &now),
            of(&[("b", "2"), ("c", "3")])
        );
    }
}
