//! Thing descriptions as services publish them (HP 1.21).
//!
//! Invariant: fields and their order are Go's, `"forms":null` of affordances included.

use super::time::td_time;
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

/// The launcher's own description: the capability `manage` with its events (HP 1.21).
#[must_use]
pub fn launcher_td(time: SystemTime) -> ThingDescription {
    let id = ("Plugin ID", "string");
    ThingDescription::new(super::MANAGE, "service", "Launcher", time)
        .with_event("started", "Plugin started", id)
        .with_event("stopped", "Plugin stopped", id)
}
