//! Thing descriptions as services publish them (HP 1.21).
//!
//! Invariant: fields and their order are Go's, `"forms":null` of affordances included.

use super::time::td_time;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// The name under which a thing description is published as an event.
pub const TD_EVENT: &str = "$td";

/// The description of a thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ThingDescription {
    #[serde(rename = "@context")]
    context: [&'static str; 1],
    #[serde(rename = "@type")]
    kind: String,
    created: String,
    modified: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    description: String,
    id: String,
    title: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    properties: BTreeMap<String, PropertyAffordance>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    actions: BTreeMap<String, ActionAffordance>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    events: BTreeMap<String, EventAffordance>,
    security: &'static str,
}

/// What an event or an input carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct DataSchema {
    title: String,
    #[serde(rename = "type")]
    kind: String,
}

/// A data schema that can be read; the forms of a property are left out where there are none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct PropertyAffordance {
    title: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "readOnly")]
    read_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct EventAffordance {
    title: String,
    forms: (),
    data: DataSchema,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ActionAffordance {
    title: String,
    forms: (),
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<DataSchema>,
}

impl ThingDescription {
    /// A thing `id` of a device type (`service`, `sensor`, …) that was made and changed at `time`.
    #[must_use]
    pub fn new(id: &str, kind: &str, title: &str, time: SystemTime) -> Self {
        ThingDescription {
            context: ["http://www.w3.org/ns/thing"],
            kind: kind.to_owned(),
            created: td_time(time),
            modified: td_time(time),
            description: String::new(),
            id: id.to_owned(),
            title: title.to_owned(),
            properties: BTreeMap::new(),
            actions: BTreeMap::new(),
            events: BTreeMap::new(),
            security: "NoSecurityScheme",
        }
    }

    /// With an event whose data is of a JSON type (`string`, `integer`, …).
    #[must_use]
    pub fn with_event(mut self, name: &str, title: &str, data: (&str, &str)) -> Self {
        let event = EventAffordance {
            title: title.to_owned(),
            forms: (),
            data: schema(data),
        };
        self.events.insert(name.to_owned(), event);
        self
    }

    /// Made at another time than it was changed.
    #[must_use]
    pub fn made_at(mut self, time: SystemTime) -> Self {
        self.created = td_time(time);
        self
    }

    /// With a property of a JSON type that can be read only.
    #[must_use]
    pub fn with_property(mut self, name: &str, title: &str, kind: &str) -> Self {
        let property = PropertyAffordance {
            title: title.to_owned(),
            kind: kind.to_owned(),
            read_only: true,
        };
        self.properties.insert(name.to_owned(), property);
        self
    }

    /// With an action; `input` is title and JSON type of what it takes.
    #[must_use]
    pub fn with_action(mut self, name: &str, title: &str, input: Option<(&str, &str)>) -> Self {
        let action = ActionAffordance {
            title: title.to_owned(),
            forms: (),
            input: input.map(schema),
        };
        self.actions.insert(name.to_owned(), action);
        self
    }
}

fn schema((title, kind): (&str, &str)) -> DataSchema {
    DataSchema {
        title: title.to_owned(),
        kind: kind.to_owned(),
    }
}

/// The property with the number of plugins, the core not among them.
pub const NR_PLUGINS: &str = "nrPlugins";
/// The property with the number of those that run.
pub const NR_RUNNING: &str = "nrRunning";

/// The property with a plugin's phase; no plugin's is named as another property, which have no dot.
#[must_use]
pub fn state_property(id: &str) -> String {
    format!("state.{id}")
}

/// The launcher's own description: the capability `manage` with its events, and with properties (HP 1.21). `plugins` are
/// the ids of those that have a state of their own in it.
#[must_use]
pub fn launcher_td<'a>(
    created: SystemTime,
    modified: SystemTime,
    plugins: impl IntoIterator<Item = &'a str>,
) -> ThingDescription {
    let id = ("Plugin ID", "string");
    let td = ThingDescription::new(super::MANAGE, "service", "Launcher", modified)
        .made_at(created)
        .with_property(NR_PLUGINS, "Number of plugins", "integer")
        .with_property(NR_RUNNING, "Number of running plugins", "integer")
        .with_event(super::STARTED_EVENT, "Plugin started", id)
        .with_event(super::STOPPED_EVENT, "Plugin stopped", id)
        .with_event(
            super::PLUGIN_EVENT,
            "Plugin in another phase",
            ("Change of phase", "object"),
        )
        .with_event(
            super::LIMIT_EVENT,
            "Limit exceeded",
            ("What was measured", "object"),
        )
        .with_event(
            super::LAUNCHER_EVENT,
            "Launcher",
            ("What became of it", "object"),
        );
    plugins.into_iter().fold(td, |td, id| {
        td.with_property(&state_property(id), &format!("State of {id}"), "string")
    })
}

/// The payload of `$properties`: a JSON object of names and values, each value in base64, as the original's services
/// read bytes there (HP 1.21).
#[must_use]
pub fn properties_payload(values: &BTreeMap<String, String>) -> Vec<u8> {
    let coded: BTreeMap<&str, String> = values
        .iter()
        .map(|(name, value)| (name.as_str(), BASE64_STANDARD.encode(value)))
        .collect();
    crate::golang::encode(&coded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_properties_are_bytes_to_the_original() {
        let values = [("nrRunning", "2"), ("state.history", "running")];
        let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let payload = properties_payload(&values.into());
        assert_eq!(
            String::from_utf8(payload).unwrap(),
            r#"{"nrRunning":"Mg==","state.history":"cnVubmluZw=="}"#
        );
    }

    #[test]
    fn the_properties_of_a_description_come_before_its_events() {
        let time = SystemTime::UNIX_EPOCH;
        let td = crate::golang::encode(&launcher_td(time, time, ["a"]));
        let td = String::from_utf8(td).unwrap();
        let expected = r#""title":"Launcher","properties":{"nrPlugins":{"title":"Number of plugins","type":"integer","readOnly":true},"nrRunning":{"title":"Number of running plugins","type":"integer","readOnly":true},"state.a":{"title":"State of a","type":"string","readOnly":true}},"events":{"#;
        assert!(td.contains(expected), "{td}");
    }
}
