//! From what the launcher knows to what it shows on the wire (HP 1.9, spec §18).
//!
//! Invariants: pure; no null, unknown numbers are -1; every word comes from the view, so that `list`, replies and the
//! lifecycle never tell different stories.

use crate::hub::Hub;
use crate::ports::{FileFacts, Kind, Refused, Usage};
use crate::view::View;
use bus::wire::{PluginInfo, UNKNOWN, local_time};
use serde_json::{Map, Value};
use supervision::hand::Setting;
use supervision::lifecycle::{PhaseName, Wish};
use supervision::limits::Limits;

/// A view as the wire has it.
#[must_use]
pub fn info(hub: &Hub, view: &View) -> PluginInfo {
    let node = &hub.node;
    let file = view.file.as_ref();
    let path = match file {
        Some(file) => file.path.clone(),
        None => node.plugins_folder.join(view.id.as_str()),
    };
    let running = view.running();
    // By the clock that nobody sets.
    let started = view.started.filter(|_| running);
    let uptime = started.map(|at| hub.ports.clock.now().since(at).as_secs());
    let usage = view.usage;
    let shown = usage.unwrap_or(Usage::NOTHING);
    let known = |value: u64| usage.map_or(UNKNOWN, |_| number(value));
    PluginInfo {
        cpu: number(shown.cpu_percent),
        rss: number(shown.rss_bytes),
        modified_time: file.map(modified).unwrap_or_default(),
        name: shown_name(view),
        path: path.display().to_string(),
        pid: i64::from(view.pid),
        running,
        size: file.map_or(0, |file| number(file.size)),
        status: view.status.clone(),
        start_count: number(view.start_count),
        start_time_mse: view.start_mse,
        stop_time_mse: view.stop_mse,
        uptime: number(uptime.unwrap_or(0)),
        phase: view.phase.as_str().to_owned(),
        wish: match view.wish {
            Wish::Up => "up",
            Wish::Down => "down",
        }
        .to_owned(),
        enabled: view.enabled == Setting::Enabled,
        run: number(view.run.0),
        restarts: i64::from(view.restarts),
        next_start_mse: view.next_start_mse,
        exit_code: view
            .last_exit
            .as_ref()
            .map_or(UNKNOWN, |exit| exit.status.code()),
        signal: view
            .last_exit
            .as_ref()
            .map(|exit| exit.status.signal_name())
            .unwrap_or_default(),
        cause: view.cause.clone(),
        children: known(shown.children),
        open_fds: usage
            .and_then(|usage| usage.open_fds)
            .map_or(UNKNOWN, number),
        cpu_time_ms: known(shown.cpu_time_ms),
        peak_rss: known(shown.peak_rss_bytes),
        limits: limits(&view.limits),
        tree: if running {
            view.tree
        } else {
            hub.ports.processes.tree()
        }
        .as_str()
        .to_owned(),
        node: node.client_id.clone(),
        set_by_hand: by_hand(view.hand).to_owned(),
        autostart: view.listed,
    }
}

/// What was set by hand, as the wire has it.
fn by_hand(hand: Option<Setting>) -> &'static str {
    match hand {
        Some(Setting::Enabled) => "enabled",
        Some(Setting::Disabled) => "disabled",
        None => "",
    }
}

/// A file that cannot be a plugin, as the wire has it (spec §18).
#[must_use]
pub fn refused(hub: &Hub, refused: &Refused) -> PluginInfo {
    PluginInfo {
        modified_time: modified(&refused.file),
        name: refused.file.name.clone(),
        path: refused.file.path.display().to_string(),
        size: number(refused.file.size),
        status: refused.reason.clone(),
        phase: PhaseName::Blocked.as_str().to_owned(),
        wish: "down".to_owned(),
        cause: refused.reason.clone(),
        node: hub.node.client_id.clone(),
        ..PluginInfo::default()
    }
}

/// The name by which the original shows it: the core by its file, a plugin by its id (HP 1.5).
fn shown_name(view: &View) -> String {
    match (view.kind, &view.file) {
        (Kind::Core, Some(file)) => file.name.clone(),
        (Kind::Core, None) | (Kind::Plugin, _) => view.id.to_string(),
    }
}

/// What is limited, as the configuration has it: bytes and percent as numbers; empty = nothing.
#[must_use]
pub fn limits(limits: &Limits) -> Map<String, Value> {
    let mut shown = Map::new();
    if limits.is_none() {
        return shown;
    }
    let mut put = |key: &str, value: Value| shown.insert(key.to_owned(), value);
    let measured = [("memory", limits.memory_bytes), ("cpu", limits.cpu_percent)];
    for (key, limit) in measured {
        if let Some(limit) = limit {
            put(key, limit.get().into());
        }
    }
    if measured.iter().any(|(_, limit)| limit.is_some()) {
        put("strikes", limits.strikes.into());
        put("action", limits.action.as_str().into());
        put("hard", limits.hard.into());
    }
    if let Some(pids) = limits.pids {
        put("pids", pids.get().into());
    }
    shown
}

fn modified(file: &FileFacts) -> String {
    local_time(file.modified)
}

/// As the wire has it; saturates.
#[must_use]
pub fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
