//! The keys `requires` and `needs` of a plugin: what must be ready, or there, before it is started.
//!
//! Invariant: what requires each other in a circle could never be started, so it is an error that shows the circle.

use super::reader::{At, Reader};
use crate::app::config::Config;
use crate::app::config::problem::KeyPath;
use crate::app::config::tree::{Node, Value};
use std::path::PathBuf;
use supervision::PluginId;
use supervision::order::{Requirements, cycle};

impl Reader {
    pub fn requires(&mut self, at: &At<'_>, client_id: &str, config: &Config) -> Vec<PluginId> {
        let mut ids = Vec::new();
        for (index, node) in self.items(at, "a list of plugin ids").iter().enumerate() {
            let path = at.path.item(index);
            let at = At {
                node,
                path: path.clone(),
            };
            let Some(name) = self.text(&at, "the id of a plugin") else {
                continue;
            };
            if let Some(id) = self.id(name, node.place, &path, client_id, config)
                && !ids.contains(&id)
            {
                ids.push(id);
            }
        }
        ids
    }

    pub fn needs(&mut self, at: &At<'_>) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for (index, node) in self.items(at, "a list of paths").iter().enumerate() {
            let path = at.path.item(index);
            paths.extend(self.path(&At { node, path }));
        }
        paths
    }

    /// Whether plugins require each other in circles; each is told once, where the first of it stands in the file.
    pub fn no_circles(&mut self, at: &At<'_>, config: &Config) {
        let mut requires: Requirements = config
            .plugins
            .iter()
            .map(|(id, plugin)| (id.clone(), plugin.requires.clone()))
            .collect();
        while let Some(circle) = cycle(&requires) {
            let Some(first) = circle.first() else {
                return;
            };
            self.circle(at, first, &circle);
            // Whoever is part of several is told of the others when this one is mended.
            requires.retain(|id, _| !circle.contains(id));
        }
    }

    fn circle(&mut self, at: &At<'_>, first: &PluginId, circle: &[PluginId]) {
        let names: Vec<&str> = circle.iter().chain([first]).map(PluginId::as_str).collect();
        let wrong = format!(
            "is a circle, so that none could ever start: {}",
            names.join(" -> ")
        );
        let path = KeyPath::top()
            .key("plugins")
            .key(first.as_str())
            .key("requires");
        let place = place_of(at.node, first).unwrap_or(at.node.place);
        self.problem(place, &path, wrong, "an order in which they can start");
    }
}

/// Where the `requires` of a plugin stands.
fn place_of(plugins: &Node, id: &PluginId) -> Option<super::super::problem::Place> {
    let below = |node: &Node, key: &str| match &node.value {
        Value::Map(entries) => entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| (entry.place, entry.node.clone())),
        Value::Plain(_) | Value::Quoted(_) | Value::List(_) => None,
    };
    let (_, plugin) = below(plugins, id.as_str())?;
    below(&plugin, "requires").map(|(place, _)| place)
}
