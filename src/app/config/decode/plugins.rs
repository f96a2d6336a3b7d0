//! The keys `plugins` and `autostart`.
//!
//! Invariants: each id is addressable, none is the hub's own (T46), and none comes twice in `autostart`.

use super::is_file_name;
use super::keys::{OF_PLUGIN, OfPlugin};
use super::reader::{At, Reader, text_of};
use crate::app::config::problem::{KeyPath, Place, quoted};
use crate::app::config::tree::{Node, Value};
use crate::app::config::{Config, PluginConfig};
use actors::ports::OnCoreRestart;
use std::collections::BTreeMap;
use std::path::PathBuf;
use supervision::PluginId;

const GOOD_ID: &str = "an id of 1 to 64 of A-Z a-z 0-9 _ and - (a program with another file name runs \
     under such an id by instanceOf, in autostart by 'id: filename')";

const GOOD_ENTRY: &str = "the id of a plugin, or 'id: filename' for a program under another id";

const GOOD_BINARY: &str = "the file name of a program in the plugins folder";

const ON_CORE_RESTART: [(&str, OnCoreRestart); 2] = [
    ("keep", OnCoreRestart::Keep),
    ("restart", OnCoreRestart::Restart),
];

/// Variables that the launcher sets last, so that a value here would have no effect (spec §18).
const OWN_VARIABLES: [&str; 7] = [
    "HIVEOT_HOME",
    "HIVEOT_RUN",
    "HIVEOT_SERVER",
    "LOGLEVEL",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

impl Reader {
    pub fn plugins(&mut self, at: &At<'_>, client_id: &str, config: &mut Config) {
        for entry in self.entries(at, "'id:' lines with the settings of each plugin") {
            let path = at.path.key(&entry.key);
            let id = self.id(&entry.key, entry.place, &path, client_id, config);
            let node = &entry.node;
            let plugin = self.plugin(&At { node, path }, client_id, config);
            if let Some(id) = id {
                config.plugins.insert(id, plugin);
            }
        }
    }

    fn plugin(&mut self, at: &At<'_>, client_id: &str, config: &Config) -> PluginConfig {
        let mut plugin = config.default_plugin();
        let mut watchdog = None;
        for (key, at) in self.fields(at, &OF_PLUGIN) {
            match key {
                OfPlugin::Args => plugin.args = self.args(&at),
                OfPlugin::Env => plugin.env = self.env(&at),
                OfPlugin::EnvFile => plugin.env_file = self.path(&at),
                OfPlugin::Cwd => plugin.cwd = self.path(&at),
                OfPlugin::InstanceOf => plugin.instance_of = self.binary(&at),
                OfPlugin::Restart => self.restart(&at, &mut plugin.restart),
                OfPlugin::Stop => self.stop(&at, &mut plugin.stop),
                OfPlugin::Requires => plugin.requires = self.requires(&at, client_id, config),
                OfPlugin::Needs => plugin.needs = self.needs(&at),
                OfPlugin::Logs => self.logs(&at, &mut plugin.logs),
                OfPlugin::Monitor => {
                    let mut interval = config.sampling;
                    self.monitor(&at, &mut interval);
                    plugin.sampling = Some(interval).filter(|own| *own != config.sampling);
                }
                OfPlugin::OnCoreRestart => {
                    plugin.on_core_restart = self.word(&at, &ON_CORE_RESTART).unwrap_or_default();
                }
                OfPlugin::Ready => plugin.ready = self.ready(&at).unwrap_or_default(),
                OfPlugin::Start => self.plugin_start(&at, &mut plugin.start_timeout),
                OfPlugin::Watchdog => {
                    plugin.watchdog = self.watchdog(&at);
                    watchdog = Some(at);
                }
                OfPlugin::Limits => self.limits(&at, &mut plugin.limits),
            }
        }
        if let Some(at) = watchdog {
            self.watchdog_is_heard(&at, &plugin);
        }
        plugin
    }

    pub fn autostart(&mut self, at: &At<'_>, client_id: &str, config: &mut Config) {
        let mut lines: BTreeMap<PluginId, usize> = BTreeMap::new();
        for (index, node) in self.items(at, "a list of plugin ids").iter().enumerate() {
            let path = at.path.item(index);
            let Some((name, place, binary)) = self.autostart_entry(&At {
                node,
                path: path.clone(),
            }) else {
                continue;
            };
            let Some(id) = self.id(name, place, &path, client_id, config) else {
                continue;
            };
            if let Some(first) = lines.get(&id) {
                let wrong = format!("lists {} again, first in line {first}", quoted(name));
                self.problem(place, &path, wrong, "each plugin once");
                continue;
            }
            lines.insert(id.clone(), node.place.line);
            if let Some((binary, place)) = binary {
                self.instance(&id, binary, place, &path, config);
            }
            config.autostart.push(id);
        }
    }

    /// `name`, or a map of the one entry `name: binary`.
    fn autostart_entry<'n>(&mut self, at: &At<'n>) -> Option<AutostartEntry<'n>> {
        let single = match &at.node.value {
            Value::Plain(_) | Value::Quoted(_) => {
                let name = self.text(at, GOOD_ENTRY)?;
                return Some((name, at.node.place, None));
            }
            Value::List(_) => None,
            Value::Map(entries) => match entries.as_slice() {
                [entry] => Some(entry),
                [] | [_, ..] => None,
            },
        };
        let Some(entry) = single else {
            self.wrong_value(at, GOOD_ENTRY);
            return None;
        };
        let path = at.path.key(&entry.key);
        let node = &entry.node;
        self.binary(&At { node, path })?;
        let binary = text_of(node)?;
        Some((&entry.key, entry.place, Some((binary, node.place))))
    }

    /// `name: binary` of `autostart` is short for `plugins.name.instanceOf: binary`.
    fn instance(
        &mut self,
        id: &PluginId,
        binary: &str,
        place: Place,
        path: &KeyPath,
        config: &mut Config,
    ) {
        let default = config.default_plugin();
        let plugin = config.plugins.entry(id.clone()).or_insert(default);
        match &plugin.instance_of {
            Some(other) if other != binary => {
                let wrong = format!(
                    "runs {} as '{id}', but plugins.{id}.instanceOf says {}",
                    quoted(binary),
                    quoted(other)
                );
                self.problem(
                    place,
                    path,
                    wrong,
                    "the same file name in both, or in one only",
                );
            }
            Some(_) | None => plugin.instance_of = Some(binary.to_owned()),
        }
    }

    pub fn id(
        &mut self,
        name: &str,
        place: Place,
        path: &KeyPath,
        client_id: &str,
        config: &Config,
    ) -> Option<PluginId> {
        if name == client_id {
            let wrong = format!("{} is the launcher's own client id", quoted(name));
            self.problem(place, path, wrong, GOOD_ID);
            return None;
        }
        if config.core.as_ref().is_some_and(|core| core.name() == name) {
            let wrong = format!(
                "{} is the core, which is started first anyway",
                quoted(name)
            );
            self.problem(place, path, wrong, "the id of a plugin");
            return None;
        }
        match PluginId::new(name) {
            Ok(id) => Some(id),
            Err(error) => {
                self.problem(place, path, error.to_string(), GOOD_ID);
                None
            }
        }
    }

    pub fn args(&mut self, at: &At<'_>) -> Vec<String> {
        let mut args = Vec::new();
        for (index, node) in self.items(at, "a list of arguments").iter().enumerate() {
            let path = at.path.item(index);
            let arg = self.text(&At { node, path }, "text; \"\" for an empty argument");
            args.extend(arg.map(str::to_owned));
        }
        args
    }

    fn env(&mut self, at: &At<'_>) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        for entry in self.entries(at, "'NAME: value' lines") {
            let path = at.path.key(&entry.key);
            if entry.key.contains(['=', '\0']) {
                let wrong = "has a name with '=' or a zero byte";
                self.problem(entry.place, &path, wrong, "the name of a variable");
            } else if OWN_VARIABLES.contains(&entry.key.as_str()) {
                let wrong = "is a variable that the launcher itself sets";
                self.problem(entry.place, &path, wrong, "another variable");
            }
            let Node { place, value } = &entry.node;
            let missing = matches!(value, Value::Plain(text) if text.is_empty());
            // A value that is not there has no place of its own.
            let place = if missing { entry.place } else { *place };
            let node = Node {
                place,
                value: value.clone(),
            };
            let value = self.text(&At { node: &node, path }, "text; \"\" for an empty value");
            if let Some(value) = value {
                env.insert(entry.key.clone(), value.to_owned());
            }
        }
        env
    }

    pub fn path(&mut self, at: &At<'_>) -> Option<PathBuf> {
        let expected = "a path; ~ only alone or before a /";
        let text = self.text(at, expected)?;
        let others_home = text.starts_with('~') && text != "~" && !text.starts_with("~/");
        if text.is_empty() || others_home {
            self.wrong_value(at, expected);
            return None;
        }
        Some(PathBuf::from(text))
    }

    fn binary(&mut self, at: &At<'_>) -> Option<String> {
        let text = self.text(at, GOOD_BINARY)?;
        if !is_file_name(text) {
            self.wrong_value(at, GOOD_BINARY);
            return None;
        }
        Some(text.to_owned())
    }
}

/// Id, place of the id, and the binary with its place.
type AutostartEntry<'n> = (&'n str, Place, Option<(&'n str, Place)>);
